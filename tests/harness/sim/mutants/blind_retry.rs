//! A client that was told nothing, for the power failed, writes again without looking: once more of what was committed.
//!
//! ```text
//! client-1         disk
//! INSERT 1
//!                  fsync
//! (power failure before client-1 hears of it)
//! INSERT 1
//! ```

use std::sync::Arc;

use parking_lot::Mutex;
use poolproof::harness::sim::{Ledger, World};
use poolproof::{Error, Result};

use crate::sim::clients::{NOTE, NOTES, agrees, each, prepares};
use crate::sim::hunt::Hunt;

/// Each client makes one write; `open` are those of which nothing is known.
async fn life(world: &World, ledger: &Ledger, open: &Arc<Mutex<Vec<u64>>>) -> Result<()> {
    let db = world.open(NOTES).await?;
    each(world, 2, |_| {
        let (world, ledger, open, db) = (world.clone(), ledger.clone(), Arc::clone(open), db.clone());
        async move {
            let number = ledger.issue();
            open.lock().push(number);
            let told = db.execute(NOTE, (number as i64,)).await;
            open.lock().retain(|other| *other != number);
            ledger.told(&world, number, Some(&told));
            Ok::<_, Error>(())
        }
    })
    .await?;
    db.close().await;
    Ok(())
}

/// The next life writes what the first one is not known to have written.
async fn retries(world: &World, ledger: &Ledger, open: &Mutex<Vec<u64>>, looks_first: bool) -> Result<()> {
    let db = world.open(NOTES).await?;
    let numbers = open.lock().clone();
    for number in numbers {
        let is_there = db.read(async move |snapshot| {
            let mut rows = snapshot.query("SELECT 1 FROM notes WHERE number = ?1", (number as i64,)).await?;
            Ok::<_, Error>(rows.next().await?.is_some())
        });
        if !looks_first || !is_there.await? {
            let told = db.execute(NOTE, (number as i64,)).await;
            ledger.told(world, number, Some(&told));
        }
    }
    db.close().await;
    Ok(())
}

async fn two_lives(world: World, looks_first: bool) -> std::result::Result<(), String> {
    prepares(&world).await?;
    let (ledger, open) = (Ledger::default(), Arc::default());
    if world.until_crash(life(&world, &ledger, &open)).await.is_err() {
        retries(&world, &ledger, &open, looks_first).await.map_err(|error| error.to_string())?;
    }
    agrees(&world, &ledger).await
}

#[test]
fn a_blind_retry_is_found() {
    Hunt::new("the blind retry", &["is there more than once"])
        .faults("crash=20000")
        .finds(async |world| two_lives(world, false).await)
        .but_not(async |world| two_lives(world, true).await);
}
