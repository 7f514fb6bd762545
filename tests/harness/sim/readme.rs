//! The example of the README is told as the README says.

use std::fs;
use std::path::Path;

use poolproof::harness::sim::{Sim, World};
use poolproof::{Error, PooledDatabaseWriter};

async fn number(db: &PooledDatabaseWriter) -> Result<i64, Error> {
    let read = db.read(async |snapshot| {
        let mut rows = snapshot.query("SELECT n FROM counter", ()).await?;
        rows.next().await?.expect("a row").get(0)
    });
    read.await
}

/// What is tested: reads, computes, writes. Naive.
async fn count(world: &World, db: &PooledDatabaseWriter) -> Result<(), Error> {
    let n = number(db).await?;
    world.note(format!("read {n}")); // optional: what a report shows
    db.execute("UPDATE counter SET n = ?1", (n + 1,)).await?;
    Ok(())
}

async fn two_clients_count(world: World) -> Result<(), Error> {
    let db = world.open("counter.db").await?;
    db.execute("CREATE TABLE counter (n INTEGER)", ()).await?;
    db.execute("INSERT INTO counter VALUES (0)", ()).await?;
    let clients = [1, 2].map(|client| {
        let (world, db) = (world.clone(), db.clone());
        world.clone().spawn(format!("client-{client}"), async move { count(&world, &db).await })
    });
    for client in clients {
        client.await.expect("no task panics")?;
    }
    assert_eq!(number(&db).await?, 2);
    Ok(())
}

#[test]
fn the_example_is_told_as_the_readme_says() {
    let report = Sim::new().seeds(0..200).run(two_clients_count);
    let found = report.found.first().expect("it loses an update").to_string();
    println!("{found}");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    // Its place is that of the example, and its name is given by `check`.
    let from = found.find("decisions").map_or(0, |place| found[..place].rfind('\n').unwrap_or_default());
    let upto = found.find("What is between").unwrap_or(found.len());
    for line in found[from..upto].lines().filter(|line| !line.is_empty()) {
        assert!(readme.contains(line), "the README has no line {line:?}");
    }
}
