//! COMMIT says that it failed, and did not: the engine copies a long log into the database behind the commit, and tells of
//! what went wrong there as if it were the commit's. Whoever takes that for "nothing was written" writes twice.
//!
//! ```text
//! client-1              disk
//! COMMIT
//!                       fsync log: committed
//!                       fsync of the checkpoint: EIO
//! COMMIT: an error
//! INSERT 1, once more
//! ```

use std::sync::Arc;

use poolproof::harness::sim::{Ledger, World};
use poolproof::{Error, Transaction};

use crate::sim::clients::{NOTE, NOTES, agrees};
use crate::sim::hunt::Hunt;

/// With small pages: what begins a checkpoint is their number, and the simulated disk has less to do.
const PREPARES: [&str; 3] =
    ["PRAGMA page_size = 512", "CREATE TABLE notes (number INTEGER)", "CREATE TABLE filler (x BLOB)"];

/// More pages than the engine leaves in the log.
const FILLS: &str = "INSERT INTO filler VALUES (zeroblob(600000))";

async fn connect(world: &World) -> turso::Result<turso::Connection> {
    turso::Builder::new_local(&world.path(NOTES)).with_io_impl(world.io()).build().await?.connect()
}

async fn prepares(world: &World) -> turso::Result<()> {
    let connection = connect(world).await?;
    for sql in PREPARES {
        let mut rows = connection.query(sql, ()).await?;
        while rows.next().await?.is_some() {}
    }
    Ok(())
}

/// Takes every error of COMMIT for a rollback.
async fn blindly(world: &World, number: i64) -> Result<(), Error> {
    let connection = connect(world).await?;
    connection.execute("BEGIN IMMEDIATE", ()).await?;
    connection.execute(FILLS, ()).await?;
    connection.execute(NOTE, (number,)).await?;
    if connection.execute("COMMIT", ()).await.is_err() {
        world.note("COMMIT fails");
        let again = connection.execute(NOTE, (number,)).await;
        // Of the first nobody knows: so much it does say.
        again.map_err(|error| Error::Unknown { cause: Arc::new(error.into()) })?;
    }
    Ok(())
}

/// Tries again what certainly had no effect, and nothing else.
async fn knowingly(world: &World, number: i64) -> Result<(), Error> {
    let db = world.open(NOTES).await?;
    let writes = async move |tx: &mut Transaction<'_>| {
        tx.execute(FILLS, ()).await?;
        tx.execute(NOTE, (number,)).await
    };
    let told = match db.write(writes).await {
        Err(Error::RolledBack { .. }) => db.execute(NOTE, (number,)).await.map(drop),
        told => told.map(drop),
    };
    db.close().await;
    told
}

async fn one_writes(world: World, is_blind: bool) -> Result<(), String> {
    world.calmly(prepares(&world)).await.map_err(|error| format!("preparing: {error}"))?;
    let ledger = Ledger::default();
    let number = ledger.issue();
    let writes = {
        let world = world.clone();
        async move {
            match is_blind {
                true => blindly(&world, number as i64).await,
                false => knowingly(&world, number as i64).await,
            }
        }
    };
    let told = world.spawn("client-1", writes).await.expect("it does not panic");
    ledger.told(&world, number, Some(&told));
    agrees(&world, &ledger).await
}

#[test]
fn a_retry_of_a_commit_that_failed_behind_itself_is_found() {
    Hunt::new("the blind retry of a commit", &["is there more than once"])
        .faults("sync=200000")
        .finds(async |world| one_writes(world, true).await)
        .but_not(async |world| one_writes(world, false).await);
}
