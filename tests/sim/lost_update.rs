//! Naive code that reads, computes and writes loses updates; one statement does not.

use poolproof::harness::sim::{Sim, World};
use poolproof::{Error, PooledDatabaseWriter, Result};

use crate::clients::{counter, number};

async fn naive(world: World) -> Result<()> {
    let db = counter(&world).await?;
    let count = async |db: PooledDatabaseWriter, world: World| {
        let n = number(&db, "SELECT n FROM counter").await?;
        world.note(format!("read {n}"));
        db.execute("UPDATE counter SET n = ?1", (n + 1,)).await?;
        Ok::<_, Error>(())
    };
    let clients = [1, 2].map(|client| {
        let (db, in_task) = (db.clone(), world.clone());
        world.spawn(format!("client-{client}"), async move {
            let n = number(&db, "SELECT n FROM counter").await?;
            in_task.note(format!("read {n}"));
            db.execute("UPDATE counter SET n = ?1", (n + 1,)).await
        })
    });
    let _ = count;
    for client in clients {
        client.await.expect("nothing panics")?;
    }
    match number(&db, "SELECT n FROM counter").await? {
        2 => Ok(()),
        n => Err(Error::Engine(turso::Error::Misuse(format!("two counted to {n}")))),
    }
}

#[test]
fn read_modify_write_loses_an_update() {
    let t = std::time::Instant::now();
    let report = Sim::new().seeds(0..1000).run(naive);
    println!("{:?}", t.elapsed());
    let found = &report.found[0];
    println!("{found}");
    let again = Sim::replay(&found.schedule, naive).unwrap();
    println!("{again:?}");
}
