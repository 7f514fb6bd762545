//! A disk, or a setting, in which a commit is not durable: the real writer can do nothing about either, and it shows.

use poolproof::harness::sim::{Ledger, World};
use poolproof::{Connection, Error, Hooks, WriterConfig};

use crate::sim::clients::{NOTE, NOTES, agrees, each, prepares};
use crate::sim::hunt::Hunt;

/// Clients write through the real writer until the power fails; each connection first runs `pragma`, if there is one.
async fn writes(world: World, pragma: Option<&'static str>) -> Result<(), String> {
    prepares(&world).await?;
    let ledger = Ledger::default();
    // Whether it fails or not, what counts is what is there after it.
    let _ = world.until_crash(lives(&world, &ledger, pragma)).await;
    agrees(&world, &ledger).await
}

async fn lives(world: &World, ledger: &Ledger, pragma: Option<&'static str>) -> Result<(), Error> {
    let hooks = Hooks::new().after_connect(move |connection: &mut Connection| {
        Box::pin(async move {
            if let Some(pragma) = pragma {
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
            let told = db.execute(NOTE, (number as i64,)).await;
            ledger.told(&world, number, Some(&told));
            Ok::<_, Error>(())
        }
    })
    .await?;
    db.close().await;
    Ok(())
}

const LOST: &str = "was acknowledged and is lost";

async fn synced(world: World) -> Result<(), String> {
    writes(world, None).await
}

#[test]
fn a_disk_that_lies_is_found() {
    Hunt::new("the lying disk", &[LOST, "cannot be read any more"]).faults("crash=50000,lying-sync").finds(synced);
}

#[test]
fn commits_that_are_not_synced_are_found() {
    Hunt::new("synchronous OFF", &[LOST])
        .faults("crash=50000")
        .finds(async |world| writes(world, Some("PRAGMA synchronous = OFF")).await)
        .but_not(synced);
}

#[test]
fn commits_that_are_synced_by_the_checkpoint_are_found() {
    Hunt::new("synchronous NORMAL", &[LOST])
        .faults("crash=50000")
        .finds(async |world| writes(world, Some("PRAGMA synchronous = NORMAL")).await)
        .but_not(synced);
}
