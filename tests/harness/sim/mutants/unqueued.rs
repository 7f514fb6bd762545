//! Writers that fight for the write lock instead of waiting for their turn: who comes second is told that the database is
//! locked, though nothing failed.
//!
//! ```text
//! client-1     client-2
//! INSERT 1
//!              INSERT 2: database is locked
//! (fsync)
//! ```

use poolproof::harness::sim::World;

use crate::sim::clients::{NOTE, NOTES, each, prepares};
use crate::sim::hunt::Hunt;

async fn two_write(world: World, queues: bool) -> Result<(), String> {
    prepares(&world).await?;
    let db = world.open(NOTES).await.map_err(|error| error.to_string())?;
    let judge = world.judge();
    each(&world, 2, |client| {
        let (db, judge) = (db.clone(), judge.clone());
        async move {
            let writes = async {
                match queues {
                    true => db.execute(NOTE, (client,)).await.map(|ack| ack.value),
                    false => db.pool().get().await?.execute(NOTE, (client,)).await,
                }
            };
            judge.hears("a write", &[], writes).await.map(drop)
        }
    })
    .await
}

#[test]
fn an_error_without_a_fault_is_found() {
    Hunt::new("the writers who do not queue", &["a write failed and nothing else did"])
        .finds(async |world| two_write(world, false).await)
        .but_not(async |world| two_write(world, true).await);
}
