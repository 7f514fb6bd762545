//! What the simulation found in the engine, shown on the engine alone: see FINDINGS.md. If one of these goes red, the engine has
//! mended it, and what the pool or the writer does about it may go.

use poolproof::harness::sim::{Faults, Sim, World};

/// Prepared statements that fail for the disk, and what they come to when it works again.
async fn after_a_failed_read(world: World) -> Result<(), String> {
    let prepares = async {
        let io = world.io();
        let database = turso::Builder::new_local(&world.path("t.db")).with_io_impl(io).build().await?;
        let connection = database.connect()?;
        connection.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, body BLOB)", ()).await?;
        connection.execute("INSERT INTO t SELECT value, zeroblob(3000) FROM generate_series(1, 60)", ()).await?;
        // The next one to look has nothing in its cache.
        let connection = database.connect()?;
        connection.execute("PRAGMA cache_size = 10", ()).await?;
        Ok::<_, turso::Error>((database, connection))
    };
    let (_database, connection) = world.calmly(prepares).await.map_err(|error| error.to_string())?;
    let is_of_the_disk = |outcome: &turso::Result<u64>| matches!(outcome, Err(turso::Error::IoError(..)));
    let mut statements = Vec::new();
    for sql in ["BEGIN IMMEDIATE", "UPDATE t SET body = zeroblob(2000) WHERE x % 7 = 0", "ROLLBACK"] {
        statements.push(world.calmly(connection.prepare(sql)).await.map_err(|error| error.to_string())?);
    }
    for _ in 0..4 {
        for statement in &mut statements {
            if is_of_the_disk(&statement.execute(()).await) {
                world.sometimes("a statement that fails for the disk");
            }
        }
    }
    for statement in &mut statements {
        if is_of_the_disk(&world.calmly(statement.execute(())).await) {
            world.sometimes("one that does on a disk that works");
        }
    }
    Ok(())
}

#[test]
fn a_statement_whose_read_failed_can_fail_once_more_on_a_disk_that_works() {
    let report = Sim::new().seeds(0..100).faults(Faults { read: 50_000, ..Faults::NONE }).run(after_a_failed_read);
    for found in &report.found {
        println!("{found}");
    }
    assert!(report.found.is_empty());
    assert!(report.seen.contains_key("a statement that fails for the disk"), "{:?}", report.seen);
    assert!(report.seen.contains_key("one that does on a disk that works"), "{:?}", report.seen);
}

/// A database of which the power fails while it is made, and whether what is left can be opened.
async fn while_it_is_made(world: World) -> Result<(), String> {
    let makes = async {
        let database = turso::Builder::new_local(&world.path("t.db")).with_io_impl(world.io()).build().await?;
        database.connect()?.execute("CREATE TABLE t (x INTEGER)", ()).await
    };
    if world.until_crash(makes).await.is_err() {
        let opens = async {
            let database = turso::Builder::new_local(&world.path("t.db")).with_io_impl(world.io()).build().await?;
            let connection = database.connect()?;
            let mut rows = connection.query("SELECT COUNT(*) FROM sqlite_schema", ()).await?;
            rows.next().await.map(drop)
        };
        match world.calmly(opens).await {
            Ok(()) => world.sometimes("one that can be opened"),
            Err(turso::Error::NotAdb(_)) => world.sometimes("one that is no database"),
            Err(error) if error.to_string().contains("short read") => world.sometimes("one that is cut off"),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

#[test]
fn a_power_failure_while_a_database_is_made_can_leave_a_file_that_is_none() {
    let report = Sim::new().seeds(0..300).faults(Faults { crash: 200_000, ..Faults::NONE }).run(while_it_is_made);
    for found in &report.found {
        println!("{found}");
    }
    assert!(report.found.is_empty());
    assert!(report.seen.contains_key("one that can be opened"), "{:?}", report.seen);
    assert!(report.seen.contains_key("one that is no database"), "{:?}", report.seen);
}
