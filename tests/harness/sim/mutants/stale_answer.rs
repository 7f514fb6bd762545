//! A cache that forgets an answer when a write begins, and not when it is committed: who reads in between keeps the old one.
//!
//! ```text
//! client-1            client-2
//! forgets the answer
//!                     reads 0, and keeps it
//! COMMIT, "ok"
//!                     asks again: 0
//! ```

use std::sync::Arc;

use parking_lot::Mutex;
use poolproof::harness::sim::{Ledger, World};
use poolproof::{PooledDatabaseWriter, Result, WriterConfig};

use crate::sim::clients::{NOTE, NOTES, ROWS, each, number, prepares};
use crate::sim::hunt::Hunt;

const COUNT: &str = "SELECT COUNT(*) FROM notes";

/// The one answer that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<i64>>>);

impl Kept {
    async fn count(&self, db: &PooledDatabaseWriter) -> Result<i64> {
        let kept = *self.0.lock();
        match kept {
            Some(count) => Ok(count),
            None => {
                let count = number(db, COUNT).await?;
                Ok(*self.0.lock().insert(count))
            }
        }
    }
}

async fn opens(world: &World) -> Result<PooledDatabaseWriter> {
    let pool = world.pool(NOTES).build().await?;
    world.writer(pool, WriterConfig { cache: 1 << 20, ..WriterConfig::default() }).await
}

async fn writes_and_reads(world: World, is_broken: bool) -> std::result::Result<(), String> {
    prepares(&world).await?;
    let db = opens(&world).await.map_err(|error| error.to_string())?;
    let (ledger, kept) = (Ledger::default(), Kept::default());
    each(&world, 2, |client| {
        let (world, db, ledger, kept) = (world.clone(), db.clone(), ledger.clone(), kept.clone());
        async move {
            for _ in 0..2 {
                if client == 1 {
                    let write = ledger.issue();
                    kept.0.lock().take();
                    let told = db.execute(NOTE, (write as i64,)).await;
                    ledger.told(&world, write, Some(&told));
                    continue;
                }
                let known = ledger.acknowledged();
                let count = match is_broken {
                    true => kept.count(&db).await,
                    false => asks(&db).await,
                };
                let count = count.map_err(|error| error.to_string())?;
                if count < (known * ROWS) as i64 {
                    return Err(format!("an answer is too old: {count} rows of {known} writes"));
                }
            }
            Ok(())
        }
    })
    .await
}

/// The writer's own cache.
async fn asks(db: &PooledDatabaseWriter) -> Result<i64> {
    let found = db.query_cached(COUNT, ()).await?;
    found.first().expect("a count").get(0)
}

#[test]
fn an_answer_that_is_older_than_an_acknowledgement_is_found() {
    Hunt::new("the stale answer", &["an answer is too old"])
        .finds(async |world| writes_and_reads(world, true).await)
        .but_not(async |world| writes_and_reads(world, false).await);
}
