//! A disk, or a setting, in which a commit is not durable: the real writer can do nothing about either, and it shows.

use std::sync::Arc;

use poolproof::harness::sim::{Ledger, Sim, World};
use poolproof::{Connection, Error, Hooks, PooledDatabaseWriter, WriterConfig};

use crate::sim::clients::{NOTE, NOTES, agrees, each, prepares};
use crate::sim::hunt::Hunt;

/// Clients write until the power fails.
async fn writes(world: World, who: Who) -> Result<(), String> {
    prepares(&world).await?;
    let ledger = Ledger::default();
    // Whether it fails or not, what counts is what is there after it.
    let _ = world.until_crash(lives(&world, &ledger, who)).await;
    agrees(&world, &ledger).await
}

/// Who runs a pragma, if anybody.
#[derive(Clone, Copy)]
enum Who {
    Nobody,
    /// A hook, on each connection that the real writer writes through.
    Hook(&'static str),
    /// Whoever writes, on a guard of its own.
    Guard(&'static str),
}

async fn lives(world: &World, ledger: &Ledger, who: Who) -> Result<(), Error> {
    let hooks = Hooks::new().after_connect(move |connection: &mut Connection| {
        Box::pin(async move {
            if let Who::Hook(pragma) = who {
                connection.run(pragma).await?;
            }
            Ok(())
        })
    });
    let pool = world.pool(NOTES).max_connections(2).hooks(hooks).build().await?;
    let db = world.writer(pool, WriterConfig::default()).await?;
    each(world, 3, |_| {
        let (world, ledger, db) = (world.clone(), ledger.clone(), db.clone());
        async move {
            let number = ledger.issue();
            let told = match who {
                Who::Guard(pragma) => by_guard(&db, pragma, number).await,
                Who::Nobody | Who::Hook(_) => db.execute(NOTE, (number as i64,)).await.map(|ack| ack.value),
            };
            ledger.told(&world, number, Some(&told));
            Ok::<_, Error>(())
        }
    })
    .await?;
    db.close().await;
    Ok(())
}

async fn by_guard(db: &PooledDatabaseWriter, pragma: &str, number: u64) -> Result<u64, Error> {
    let mut guard = db.pool().get().await?;
    guard.run(pragma).await?;
    // Whatever goes wrong may have come after the commit.
    guard.execute(NOTE, (number as i64,)).await.map_err(|error| Error::Unknown { cause: Arc::new(error) })
}

const LOST: &str = "was acknowledged and is lost";

async fn synced(world: World) -> Result<(), String> {
    writes(world, Who::Nobody).await
}

#[test]
fn a_disk_that_lies_is_found() {
    Hunt::new("the lying disk", &[LOST, "cannot be read any more"]).faults("crash=50000,lying-sync").finds(synced);
}

#[test]
fn commits_that_are_not_synced_are_found() {
    Hunt::new("synchronous OFF", &[LOST])
        .faults("crash=50000")
        .finds(async |world| writes(world, Who::Guard("PRAGMA synchronous = OFF")).await)
        .but_not(synced);
}

#[test]
fn commits_that_are_synced_by_the_checkpoint_are_found() {
    Hunt::new("synchronous NORMAL", &[LOST])
        .faults("crash=50000")
        .finds(async |world| writes(world, Who::Guard("PRAGMA synchronous = NORMAL")).await)
        .but_not(synced);
}

/// The real writer takes back what a hook sets of syncing.
#[test]
fn a_hook_does_not_take_the_sync_from_the_writers_commits() {
    for pragma in ["PRAGMA synchronous = OFF", "PRAGMA synchronous = NORMAL"] {
        let sim = Sim::new().seeds(0..200).faults("crash=50000".parse().unwrap());
        let report = sim.run(async move |world| writes(world, Who::Hook(pragma)).await);
        assert_eq!((report.found.len(), report.seeds), (0, 200), "{:?}", report.found);
    }
}
