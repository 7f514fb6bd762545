//! A reader who forgets to end its transaction, and takes the next read for a new one: it does not see what it wrote itself.
//!
//! ```text
//! client-1
//! BEGIN; SELECT: 0 rows
//! INSERT 1, by the writer: committed
//! SELECT: 0 rows
//! ```

use poolproof::harness::sim::World;
use poolproof::{PooledConnection, PooledDatabaseWriter, Result};

use crate::sim::clients::{NOTE, NOTES, ROWS, each, prepares};
use crate::sim::hunt::Hunt;

const COUNT: &str = "SELECT COUNT(*) FROM notes WHERE number = ?1";

async fn count(guard: &mut PooledConnection, client: i64) -> Result<i64> {
    let mut rows = guard.query(COUNT, (client,)).await?;
    rows.next().await?.expect("a count").get(0)
}

/// What a client sees of what it wrote.
async fn writes_and_looks(db: &PooledDatabaseWriter, client: i64, is_broken: bool) -> Result<i64> {
    let mut guard = db.pool().get().await?;
    if is_broken {
        guard.run("BEGIN").await?;
        count(&mut guard, client).await?;
    }
    let token = db.execute(NOTE, (client,)).await?.token;
    if is_broken {
        return count(&mut guard, client).await;
    }
    let read = db.read_after(token, async move |snapshot| {
        let mut rows = snapshot.query(COUNT, (client,)).await?;
        rows.next().await?.expect("a count").get(0)
    });
    read.await
}

async fn two_look(world: World, is_broken: bool) -> std::result::Result<(), String> {
    prepares(&world).await?;
    let db = world.open(NOTES).await.map_err(|error| error.to_string())?;
    each(&world, 2, |client| {
        let db = db.clone();
        async move {
            match writes_and_looks(&db, client, is_broken).await.map_err(|error| error.to_string())? {
                rows if rows == ROWS as i64 => Ok(()),
                rows => Err(format!("a read after a commit sees {rows} of its rows")),
            }
        }
    })
    .await
}

#[test]
fn a_read_on_an_old_snapshot_is_found() {
    Hunt::new("the old snapshot", &["a read after a commit sees 0 of its rows"])
        .finds(async |world| two_look(world, true).await)
        .but_not(async |world| two_look(world, false).await);
}
