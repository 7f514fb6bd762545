//! What the simulation found in the engine, shown on the engine alone: see FINDINGS.md. If one of these goes red, the engine has
//! mended it, and what the pool or the writer does about it may go.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poolproof::harness::sim::{FailureKind, Faults, Replayed, Sim, Workload, World};
use poolproof::{Error, Mode, WriterConfig};

use crate::sim::mutants::shared_connection::shared;

/// What a schedule that is kept comes to.
fn replayed<E: Display>(name: &str, check: impl AsyncFn(World) -> Result<(), E>) -> Replayed {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schedules/findings").join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let replayed = Sim::replay(&text, check).unwrap();
    println!("{}", replayed.interleaving);
    replayed
}

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

#[test]
fn one_connection_of_several_tasks_panics_inside_the_engine() {
    let failure = replayed("shared-connection.sched", shared).failure.expect("it panics");
    assert_eq!(failure.kind, FailureKind::Panic);
    assert!(failure.message.contains("end_write_tx called while write lock not held"), "{failure}");
}

/// The engine alone, on a file of this world.
async fn connect(world: &World) -> turso::Result<turso::Connection> {
    turso::Builder::new_local(&world.path("t.db")).with_io_impl(world.io()).build().await?.connect()
}

/// A write whose sync fails, and what whoever opens the file next finds of it.
async fn after_a_failed_sync(world: World) -> Result<(), String> {
    let client = world.clone();
    let writes = async move {
        let creates = async { connect(&client).await?.execute("CREATE TABLE t (x INTEGER)", ()).await };
        client.calmly(creates).await?;
        let outcome = connect(&client).await?.execute("INSERT INTO t VALUES (1)", ()).await;
        client.note(if outcome.is_ok() { "writes" } else { "fails to write" });
        let found = async {
            let connection = connect(&client).await?;
            let mut rows = connection.query("SELECT COUNT(*) FROM t", ()).await?;
            rows.next().await?.expect("a row").get::<i64>(0)
        };
        let found = client.calmly(found).await?;
        client.note(format!("finds {found}"));
        if outcome.is_err() && found == 1 {
            client.sometimes("what failed and is there");
        }
        Ok::<_, turso::Error>(())
    };
    let written = world.spawn("client-1", writes).await.expect("it does not panic");
    written.map_err(|error| error.to_string())
}

#[test]
fn a_write_whose_sync_failed_is_there_for_whoever_opens_the_file_next() {
    let report = Sim::new().seeds(0..50).faults(Faults { sync: 300_000, ..Faults::NONE }).run(after_a_failed_sync);
    for found in &report.found {
        println!("{found}");
    }
    assert!(report.found.is_empty());
    assert!(report.seen.contains_key("what failed and is there"), "{:?}", report.seen);
    assert_eq!(replayed("failed-sync.sched", after_a_failed_sync).failure, None);
}

/// One writes and lets the log be copied, twice, beside one that reads.
async fn a_reader_beside_a_checkpoint(world: World) -> Result<(), String> {
    let opens = async {
        let one = connect(&world).await?;
        one.execute("CREATE TABLE t (x INTEGER)", ()).await?;
        Ok::<_, turso::Error>((one, connect(&world).await?))
    };
    let (one, other) = world.calmly(opens).await.map_err(|error| error.to_string())?;
    let (is_done, ends) = tokio::sync::oneshot::channel::<()>();
    let (writer, reader) = (world.clone(), world.clone());
    let writes = async move {
        for _ in 0..2 {
            one.execute("INSERT INTO t VALUES (1)", ()).await?;
            writer.note("writes");
            let mut is_null = false;
            let mut rows = one.query("PRAGMA wal_checkpoint(PASSIVE)", ()).await?;
            while let Some(row) = rows.next().await? {
                is_null = row.get_value(1)?.is_null();
            }
            writer.note(if is_null { "copies NULL" } else { "copies" });
        }
        drop(is_done);
        Ok::<_, turso::Error>(())
    };
    let reads = async move {
        other.execute("BEGIN", ()).await?;
        let mut rows = other.query("SELECT COUNT(*) FROM t", ()).await?;
        let count: i64 = rows.next().await?.expect("a row").get(0)?;
        drop(rows);
        reader.note(format!("reads {count}"));
        // An error: nothing is ever sent.
        let _ = ends.await;
        other.execute("COMMIT", ()).await.map(drop)
    };
    for task in [world.spawn("client-1", writes), world.spawn("client-2", reads)] {
        task.await.expect("it does not panic").map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Seldom by chance, so by its schedule alone.
#[test]
fn a_checkpoint_answers_null_beside_whoever_began_to_read_when_all_was_copied() {
    assert_eq!(replayed("null-checkpoint.sched", a_reader_beside_a_checkpoint).failure, None);
}

/// One commits while another copies the log, again and again; and what is there of it after a power failure.
async fn a_commit_beside_a_checkpoint(world: World) -> Result<(), String> {
    let opens = async {
        let io = world.io();
        let database = turso::Builder::new_local(&world.path("t.db")).with_io_impl(io).build().await?;
        let (one, other) = (database.connect()?, database.connect()?);
        one.execute("CREATE TABLE t (x INTEGER)", ()).await?;
        Ok::<_, turso::Error>((one, other))
    };
    let (one, other) = world.calmly(opens).await.map_err(|error| error.to_string())?;
    let (told, tells) = (Arc::new(AtomicBool::new(false)), world.clone());
    let is_told = Arc::clone(&told);
    let writes = async move {
        if one.execute("INSERT INTO t VALUES (1)", ()).await.is_ok() {
            is_told.store(true, Ordering::Relaxed);
            tells.note("is told that it wrote");
        }
    };
    let copies = async move {
        for _ in 0..3 {
            // Whatever it answers: that the disk fails, or the row of a checkpoint.
            if let Ok(mut rows) = other.query("PRAGMA wal_checkpoint(PASSIVE)", ()).await {
                while let Ok(Some(_)) = rows.next().await {}
            }
        }
    };
    let tasks = [world.spawn("client-1", writes), world.spawn("client-2", copies)];
    let both = async {
        for task in tasks {
            task.await.expect("it does not panic");
        }
    };
    if world.until_crash(both).await.is_err() && told.load(Ordering::Relaxed) {
        let looks = async {
            let mut rows = connect(&world).await?.query("SELECT COUNT(*) FROM t", ()).await?;
            rows.next().await?.expect("a row").get::<i64>(0)
        };
        let found = world.calmly(looks).await.map_err(|error| error.to_string())?;
        world.note(format!("after a power failure there are {found}"));
        world.sometimes(if found == 0 { "told and lost" } else { "told and kept" });
    }
    Ok(())
}

#[test]
fn a_commit_beside_a_checkpoint_whose_sync_fails_can_be_told_and_lost() {
    let crash = Faults { crash: 100_000, ..Faults::NONE };
    let report = Sim::new().seeds(0..1000).faults(Faults { sync: 200_000, ..crash }).run(a_commit_beside_a_checkpoint);
    for found in &report.found {
        println!("{found}");
    }
    println!("{:?}", report.seen);
    assert!(report.found.is_empty());
    assert!(
        report.seen.contains_key("told and kept") && report.seen.contains_key("told and lost"),
        "{:?}",
        report.seen
    );
    // The control: where no sync fails, what is told is kept.
    let report = Sim::new().seeds(0..1000).faults(crash).run(a_commit_beside_a_checkpoint);
    assert!(report.found.is_empty());
    assert!(
        report.seen.contains_key("told and kept") && !report.seen.contains_key("told and lost"),
        "{:?}",
        report.seen
    );
}

/// A database of which the power fails while it is made, and whether what is left can be opened.
async fn while_it_is_made(world: World) -> Result<(), String> {
    let client = world.clone();
    let makes = async move { connect(&client).await?.execute("CREATE TABLE t (x INTEGER)", ()).await };
    if world.until_crash(world.spawn("client-1", makes)).await.is_err() {
        let opens = async {
            let connection = connect(&world).await?;
            let mut rows = connection.query("SELECT COUNT(*) FROM sqlite_schema", ()).await?;
            rows.next().await.map(drop)
        };
        let outcome = match world.calmly(opens).await {
            Ok(()) => "one that can be opened",
            Err(turso::Error::NotAdb(_)) => "one that is no database",
            Err(error) if error.to_string().contains("short read") => "one that is cut off",
            Err(error) => return Err(error.to_string()),
        };
        world.sometimes(outcome);
        world.note(outcome);
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
    assert_eq!(replayed("while-it-is-made.sched", while_it_is_made).failure, None);
}

/// A database that is switched to MVCC mode, which is cut short, and what it is to whoever opens it next.
async fn while_it_is_switched(world: World) -> Result<(), String> {
    let opens = async || {
        let database = turso::Builder::new_local(&world.path("t.db")).with_io_impl(world.io()).build().await?;
        Ok::<_, turso::Error>((database.connect()?, database))
    };
    let prepares = async { opens().await?.0.execute("CREATE TABLE t (x INTEGER)", ()).await };
    world.calmly(prepares).await.map_err(|error| error.to_string())?;
    let switches = async {
        let (connection, _database) = opens().await?;
        mode(&connection, "PRAGMA journal_mode = 'mvcc'").await
    };
    match world.until_crash(world.cancellable(switches)).await {
        Ok(Some(_)) => return Ok(()),
        Ok(None) => world.note("is dropped"),
        Err(_) => world.note("is cut off"),
    }
    let looks = async {
        let (connection, _database) = opens().await?;
        let mode = mode(&connection, "PRAGMA journal_mode").await?;
        let begins = connection.execute("BEGIN CONCURRENT", ()).await;
        Ok::<_, turso::Error>((mode, begins.is_ok()))
    };
    match world.calmly(looks).await {
        Ok((mode, begins)) if begins == (mode == "mvcc") => world.sometimes("one of the one mode or the other"),
        Ok(_) => world.sometimes("one that says a mode and has the other"),
        Err(turso::Error::Corrupt(why)) if why.contains("Missing MVCC metadata row") => {
            world.sometimes("one that cannot be opened");
        }
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

/// What a pragma says.
async fn mode(connection: &turso::Connection, sql: &str) -> turso::Result<String> {
    let mut rows = connection.query(sql, ()).await?;
    let mut mode = String::new();
    while let Some(row) = rows.next().await? {
        mode = row.get(0)?;
    }
    Ok(mode)
}

#[test]
fn a_switch_to_mvcc_mode_that_is_cut_short_can_leave_a_file_that_cannot_be_opened() {
    let whole = "one of the one mode or the other";
    let (neither, closed) = ("one that says a mode and has the other", "one that cannot be opened");
    let by_the_power = (Faults { crash: 30_000, ..Faults::NONE }, &[whole, neither, closed][..]);
    let by_its_caller = (Faults { cancel: 30_000, ..Faults::NONE }, &[whole, closed][..]);
    for (faults, wanted) in [by_the_power, by_its_caller] {
        let report = Sim::new().seeds(0..150).faults(faults).run(while_it_is_switched);
        for found in &report.found {
            println!("{found}");
        }
        assert!(report.found.is_empty());
        assert_eq!(report.never_seen(wanted), [""; 0], "{faults}: {:?}", report.seen);
    }
}

/// A writer whose opening switches the file and is dropped, and the next one.
async fn while_a_writer_switches_it(world: World) -> Result<(), Error> {
    let config = || WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
    let opens = async || world.writer(world.pool("t.db").build().await?, config()).await;
    world.open("t.db").await?.close().await;
    if world.cancellable(opens()).await.transpose()?.is_none() {
        world.sometimes("one that is dropped");
    }
    // On another pool, and a world's files have no identity by which it would know that the first writer is still at it.
    world.sleep(Duration::from_secs(1)).await;
    opens().await?.execute("CREATE TABLE t (x INTEGER)", ()).await.map(drop)
}

#[test]
fn a_writer_that_switches_to_mvcc_mode_is_not_cut_short() {
    let cancel = Faults { cancel: 30_000, ..Faults::NONE };
    let report = Sim::new().seeds(0..100).faults(cancel).run(while_a_writer_switches_it);
    for found in &report.found {
        println!("{found}");
    }
    assert!(report.found.is_empty());
    assert!(report.seen.contains_key("one that is dropped"), "{:?}", report.seen);
}

/// The schedule is of the writer, in whose MVCC mode there is nothing between a caller and the engine's own commit.
#[test]
fn in_mvcc_mode_a_sync_that_fails_can_cost_what_is_acknowledged_later() {
    let schedule = include_str!("../../../fixtures/schedules/findings/mvcc-sync-fails.sched");
    let replayed = Sim::replay(schedule, async |world| Workload::Mvcc.run(world).await).unwrap();
    let failure = replayed.failure.expect("the engine loses it");
    assert_eq!(failure.message, "write 2 was acknowledged and is lost", "{}", replayed.interleaving);
}

/// Somebody opens a connection, and drops it at once, if it could be opened; then the log is copied, on a disk that works.
async fn a_checkpoint_after_a_failed_connect(world: World) -> Result<(), String> {
    let opens = async {
        let io = world.io();
        let database = turso::Builder::new_local(&world.path("t.db")).with_io_impl(io).build().await?;
        let connection = database.connect()?;
        connection.execute("CREATE TABLE t (x INTEGER)", ()).await?;
        checkpoint(&connection).await?;
        Ok::<_, turso::Error>((database, connection))
    };
    let (database, connection) = world.calmly(opens).await.map_err(|error| error.to_string())?;
    let connected = database.connect().map(drop);
    let (mut copies, told) = (0, world.clone());
    for _ in 0..10 {
        let copy = async {
            connection.execute("INSERT INTO t VALUES (1)", ()).await?;
            checkpoint(&connection).await
        };
        copies += u32::from(world.calmly(copy).await.map_err(|error| error.to_string())?);
    }
    match (connected, copies) {
        (Ok(()), 10) => told.sometimes("a connection that was opened"),
        // It fails before it has its lock, or with it.
        (Err(turso::Error::IoError(..)), 10) => {}
        (Err(turso::Error::IoError(..)), 0) => told.sometimes("one that was not, and no checkpoint after it"),
        (connected, _) => return Err(format!("{connected:?}, and then {copies} of 10 copies")),
    }
    Ok(())
}

/// Copies the log. Whether that could run.
async fn checkpoint(connection: &turso::Connection) -> turso::Result<bool> {
    let mut rows = connection.query("PRAGMA wal_checkpoint(PASSIVE)", ()).await?;
    let mut is_copied = false;
    while let Some(row) = rows.next().await? {
        is_copied = !row.get_value(1)?.is_null();
    }
    Ok(is_copied)
}

#[test]
fn a_connection_that_cannot_be_opened_keeps_checkpoints_from_running_for_good() {
    let sim = Sim::new().seeds(0..50).faults(Faults { read: 300_000, ..Faults::NONE });
    let report = sim.run(a_checkpoint_after_a_failed_connect);
    for found in &report.found {
        println!("{found}");
    }
    assert!(report.found.is_empty());
    for seen in ["a connection that was opened", "one that was not, and no checkpoint after it"] {
        assert!(report.seen.contains_key(seen), "{:?}", report.seen);
    }
}

/// A writer that finds a log, beside a connection that cannot be opened.
async fn a_write_after_a_failed_connect(world: World) -> Result<(), String> {
    let opens = async {
        let db = world.open("t.db").await?;
        db.execute("CREATE TABLE t (x INTEGER)", ()).await?;
        db.close().await;
        world.open("t.db").await
    };
    let db = world.calmly(opens).await.map_err(|error| error.to_string())?;
    let connected = db.pool().get().await.map(drop);
    let writes = async {
        for x in 0..3 {
            db.execute("INSERT INTO t VALUES (?1)", (x,)).await?;
        }
        Ok::<_, Error>(())
    };
    world.calmly(writes).await.map_err(|error| format!("{connected:?}, and then {error}"))?;
    if connected.is_err() {
        world.sometimes("writes after it");
    }
    Ok(())
}

/// What the lane does about it: it writes on, as beside a reader.
#[test]
fn a_writer_that_finds_a_log_writes_though_a_connection_could_not_be_opened() {
    let sim = Sim::new().seeds(0..50).faults(Faults { read: 300_000, ..Faults::NONE });
    let report = sim.run(a_write_after_a_failed_connect);
    for found in &report.found {
        println!("{found}");
    }
    assert!(report.found.is_empty());
    assert!(report.seen.contains_key("writes after it"), "{:?}", report.seen);
}
