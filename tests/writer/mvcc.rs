//! The engine's experimental MVCC mode behind the writer's own doors: side by side, again when writes conflict, and with
//! the outcomes of the lane.

use std::sync::Arc;
use std::time::Duration;

use poolproof::{
    Behavior, ConnectionPool, ConstraintKind, Error, Mode, PooledConnection, PooledDatabaseWriter, Result, Transaction,
    WriteStage, WriterConfig,
};
use tempfile::TempDir;
use tokio::sync::Barrier;

/// A writer in MVCC mode, with a table of two counters at 0.
async fn writer(config: WriterConfig) -> (PooledDatabaseWriter, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(8).build().await.unwrap();
    let db = PooledDatabaseWriter::with_config(pool, WriterConfig { mode: Mode::Mvcc, ..config }).await.unwrap();
    db.execute("CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)", ()).await.unwrap();
    db.execute("INSERT INTO counters VALUES (1, 0), (2, 0)", ()).await.unwrap();
    (db, folder)
}

async fn counter(db: &PooledDatabaseWriter, id: i64) -> i64 {
    let read = db.read(async move |snapshot| {
        let mut rows = snapshot.query("SELECT n FROM counters WHERE id = ?1", (id,)).await?;
        rows.next().await?.expect("the counter is there").get(0)
    });
    read.await.unwrap()
}

/// Reads, and writes what it read plus one: an update is lost if two read the same.
async fn increment(db: &PooledDatabaseWriter, id: i64) -> Result<()> {
    let ack = db.write(async move |tx| {
        let mut rows = tx.query("SELECT n FROM counters WHERE id = ?1", (id,)).await?;
        let n: i64 = rows.next().await?.expect("the counter is there").get(0)?;
        drop(rows);
        tx.execute("UPDATE counters SET n = ?2 WHERE id = ?1", (id, n + 1)).await
    });
    ack.await.map(|_ack: poolproof::Ack<u64>| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_that_conflict_are_made_again_until_none_is_lost() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    let start = Arc::new(Barrier::new(8));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (db, start) = (db.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                for _ in 0..25 {
                    increment(&db, 1 + task % 2).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((counter(&db, 1).await, counter(&db, 2).await), (100, 100));
    let status = db.status();
    assert_eq!((status.committed, status.rolled_back, status.unknown), (202, 0, 0));
    assert_eq!(status.pool.in_use, 0);
}

/// ```text
/// first                         second
/// reads 0
///                               reads 0, writes 1, commits
/// writes 1: a conflict
/// again: reads 1, writes 2
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closure_that_conflicts_runs_again_as_a_whole() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    let other = db.clone();
    let mut runs = 0;
    let ack = db
        .write(async move |tx| {
            runs += 1;
            let mut rows = tx.query("SELECT n FROM counters WHERE id = 1", ()).await?;
            let n: i64 = rows.next().await?.expect("the counter is there").get(0)?;
            drop(rows);
            if runs == 1 {
                // Not by the writer: a write inside a write is refused.
                let mut guard = other.pool().get().await?;
                guard.run("BEGIN CONCURRENT").await?;
                guard.execute("UPDATE counters SET n = n + 1 WHERE id = 1", ()).await?;
                guard.run("COMMIT").await?;
            }
            tx.execute("UPDATE counters SET n = ?1 WHERE id = 1", (n + 1,)).await?;
            Ok::<_, Error>(runs)
        })
        .await
        .unwrap();
    assert_eq!((ack.value, counter(&db, 1).await, db.status().retries), (2, 2, 1));
}

#[tokio::test]
async fn a_constraint_and_an_error_of_the_closures_own_are_told_once_and_leave_nothing() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    let error = db.execute("INSERT INTO counters VALUES (1, 5)", ()).await.unwrap_err();
    assert_eq!(error.constraint().map(|constraint| constraint.kind), Some(ConstraintKind::Unique), "{error}");
    assert!(matches!(error, Error::RolledBack { .. }));
    let own: Result<poolproof::Ack<()>> = db
        .write(async |tx| {
            tx.execute("UPDATE counters SET n = 7", ()).await?;
            Err(Error::Misuse("the closure's own".into()))
        })
        .await;
    assert!(matches!(&own, Err(Error::Misuse(why)) if why == "the closure's own"), "{own:?}");
    assert_eq!((counter(&db, 1).await, db.status().rolled_back, db.status().retries), (0, 2, 0));
}

#[tokio::test]
async fn what_changes_the_schema_gets_a_transaction_of_its_own() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    db.write(async |tx| {
        tx.execute("CREATE TABLE later (x INTEGER)", ()).await?;
        tx.execute("INSERT INTO later VALUES (1)", ()).await
    })
    .await
    .unwrap();
    db.execute_batch("CREATE TABLE last (x); INSERT INTO last SELECT x FROM later").await.unwrap();
    assert_eq!(db.execute("DELETE FROM last", ()).await.unwrap().value, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_conflicts_for_too_long_is_rolled_back_with_the_conflict() {
    let config = WriterConfig { retry_timeout: Duration::from_millis(50), ..WriterConfig::default() };
    let (db, _folder) = writer(config).await;
    let mut guard = db.pool().get().await.unwrap();
    let holds = guard.begin(Behavior::Immediate).await.unwrap();
    let error = db.execute("UPDATE counters SET n = 1", ()).await.unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
    assert!(db.status().retries > 0);
    holds.rollback().await.unwrap();
    drop(guard);
    db.execute("UPDATE counters SET n = 2", ()).await.unwrap();
    assert_eq!(counter(&db, 1).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_waits_for_the_writes_that_run() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    let (running, release) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let write = tokio::spawn({
        let (db, running, release) = (db.clone(), Arc::clone(&running), Arc::clone(&release));
        async move {
            db.write(async move |tx| {
                running.notify_one();
                release.notified().await;
                tx.execute("UPDATE counters SET n = 3", ()).await
            })
            .await
        }
    });
    running.notified().await;
    let report = db.close_within(Duration::from_millis(10)).await;
    assert!(report.is_running && !report.is_clean(), "{report}");
    assert!(matches!(db.execute("UPDATE counters SET n = 4", ()).await.unwrap_err().cause(), Error::Closed));
    release.notify_one();
    assert_eq!(write.await.unwrap().unwrap().value, 2);
    let report = db.close_within(Duration::from_secs(60)).await;
    assert!(report.is_clean(), "{report}");
}

/// ```text
/// running (takes the only room)   waits for room             close
/// done: the room is given to it
///                                                            nobody has left yet
///                                 dropped, never polled:
///                                 the room is back
///                                                            everybody has left
/// ```
#[tokio::test]
async fn close_hears_of_one_who_was_given_room_and_left() {
    let (db, _folder) = writer(WriterConfig { queue: 1, ..WriterConfig::default() }).await;
    let release = Arc::new(tokio::sync::Notify::new());
    let held = Arc::clone(&release);
    let mut running = tokio_test::task::spawn(db.write(async move |_| {
        held.notified().await;
        Ok::<_, Error>(())
    }));
    assert!(running.poll().is_pending());
    let mut waiting = tokio_test::task::spawn(db.execute("UPDATE counters SET n = 1", ()));
    assert!(waiting.poll().is_pending());
    release.notify_one();
    running.await.unwrap();
    while !waiting.is_woken() {
        tokio::task::yield_now().await;
    }
    let mut close = tokio_test::task::spawn(db.stop());
    assert!(close.poll().is_pending());
    drop(waiting);
    assert!(close.is_woken() && close.poll().is_ready());
}

/// All connections of the pool.
async fn lend_all(db: &PooledDatabaseWriter) -> Vec<PooledConnection> {
    let mut guards = Vec::new();
    for _ in 0..db.pool().status().max {
        guards.push(db.pool().get().await.unwrap());
    }
    guards
}

const INCREMENT: &str = "UPDATE counters SET n = n + 1 WHERE id = 1";

#[tokio::test]
async fn a_close_that_gives_up_lists_who_waits_for_a_connection_and_who_holds_one() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    let mut guards = lend_all(&db).await;
    guards.pop();
    let release = Arc::new(tokio::sync::Notify::new());
    let held = Arc::clone(&release);
    let mut running = tokio_test::task::spawn(db.write(async move |tx| {
        tx.execute(INCREMENT, ()).await?;
        held.notified().await;
        Ok::<_, Error>(())
    }));
    assert!(running.poll().is_pending());
    while !db.pool().holders().iter().any(|holder| holder.last_sql.as_deref() == Some(INCREMENT)) {
        tokio::task::yield_now().await;
    }
    let mut waits = tokio_test::task::spawn(db.execute("UPDATE counters SET n = n + 10 WHERE id = 1", ()));
    let mut closure = tokio_test::task::spawn(db.write(async |tx| tx.execute("DELETE FROM counters", ()).await));
    assert!(waits.poll().is_pending() && closure.poll().is_pending());
    assert_eq!(db.status().queued, 2);
    let report = db.close_within(Duration::from_millis(20)).await;
    let [first, second] = &report.not_done[..] else { panic!("two wait: {report}") };
    assert_eq!(first.sql.as_deref(), Some("UPDATE counters SET n = n + 10 WHERE id = 1"));
    assert!(second.sql.is_none() && first.site.file().ends_with("mvcc.rs") && first.site.line() < second.site.line());
    assert!(report.is_running && report.holders.len() == 8, "{report}");
    let running_one = report.holders.iter().find(|holder| holder.last_sql.as_deref() == Some(INCREMENT));
    assert!(running_one.is_some_and(|holder| holder.site.file().ends_with("mvcc.rs")), "{report}");
    // Whoever is on the list is not run, though there are connections now.
    drop(guards);
    for error in [waits.await.unwrap_err(), closure.await.unwrap_err()] {
        assert!(matches!(error, Error::RolledBack { .. }) && matches!(error.cause(), Error::Closed), "{error:?}");
    }
    release.notify_one();
    running.await.unwrap();
    let report = db.close_within(Duration::from_secs(60)).await;
    assert!(report.is_clean(), "{report}");
    let status = db.status();
    assert_eq!((status.committed, status.rolled_back, status.unknown, status.queued), (3, 2, 0, 0));
}

#[tokio::test]
async fn a_file_in_mvcc_mode_is_not_opened_as_another() {
    let (db, folder) = writer(WriterConfig::default()).await;
    db.close().await;
    drop(db);
    let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
    let error = PooledDatabaseWriter::new(pool.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Config { field: "mode", .. }), "{error:?}");
    assert!(error.to_string().contains("choose Mvcc"), "{error}");
    let config = WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
    let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
    assert_eq!(db.execute(INCREMENT, ()).await.unwrap().value, 1);
}

#[tokio::test]
async fn a_pool_whose_writer_was_stopped_may_have_another() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    let config = WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
    let another = async || PooledDatabaseWriter::with_config(db.pool().clone(), config.clone()).await;
    assert!(matches!(another().await.unwrap_err(), Error::Config { field: "the database", .. }));
    let release = Arc::new(tokio::sync::Notify::new());
    let held = Arc::clone(&release);
    let mut running = tokio_test::task::spawn(db.write(async move |_| {
        held.notified().await;
        Ok::<_, Error>(())
    }));
    assert!(running.poll().is_pending());
    let mut stop = tokio_test::task::spawn(db.stop());
    assert!(stop.poll().is_pending());
    let mut second = tokio_test::task::spawn(Box::pin(another()));
    assert!(second.poll().is_pending(), "one of its writes still runs");
    release.notify_one();
    stop.await;
    // The first handle is still there.
    let second = second.into_inner().await.unwrap();
    assert_eq!(second.execute(INCREMENT, ()).await.unwrap().value, 1);
    running.await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_removed_or_replaced_is_noticed_before_an_acknowledgement() {
    for name in ["t.db", "t.db-log"] {
        let (db, folder) = writer(WriterConfig::default()).await;
        let path = folder.path().join(name);
        let gone = path.clone();
        let error = db
            .write(async move |tx| {
                std::fs::remove_file(&gone).expect("it is there");
                tx.execute(INCREMENT, ()).await
            })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{name}: {error:?}");
        assert!(matches!(error.cause(), Error::Open { path: told, .. } if *told == path), "{name}: {error:?}");
        std::fs::write(&path, "another").unwrap();
        for error in
            [db.execute(INCREMENT, ()).await.unwrap_err(), db.execute("DROP TABLE counters", ()).await.unwrap_err()]
        {
            assert!(matches!(error, Error::RolledBack { .. }), "{name}: {error:?}");
            assert!(matches!(error.cause(), Error::Open { .. }), "{name}: {error:?}");
        }
        let status = db.status();
        assert_eq!((status.committed, status.rolled_back, status.unknown), (2, 2, 1), "{name}");
    }
}

#[tokio::test]
async fn a_deadline_is_for_room_and_for_a_connection_together() {
    let (db, _folder) = writer(WriterConfig { queue: 1, ..WriterConfig::default() }).await;
    let guards = lend_all(&db).await;
    let limit = Duration::from_millis(20);
    let late = |outcome: Result<poolproof::Ack<u64>>| match outcome {
        Err(error @ Error::RolledBack { .. }) => {
            matches!(error.cause(), Error::Deadline { stage: WriteStage::Waiting, limit: told } if *told == limit)
        }
        _ => false,
    };
    let began = std::time::Instant::now();
    assert!(late(db.within(limit).execute(INCREMENT, ()).await), "for a connection");
    let mut waits = tokio_test::task::spawn(db.execute(INCREMENT, ()));
    assert!(waits.poll().is_pending());
    assert!(late(db.within(limit).execute(INCREMENT, ()).await), "for room");
    assert!(began.elapsed() >= 2 * limit && began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let full = db.try_execute(INCREMENT, ()).await.unwrap_err();
    assert!(matches!(full.cause(), Error::Full(1)), "{full:?}");
    drop(guards);
    waits.await.unwrap();
    let status = db.status();
    assert_eq!((counter(&db, 1).await, status.refused, status.rolled_back, status.queued), (1, 2, 1, 0));
}

/// ```text
/// a                              b, with a deadline
/// increments, and waits
///                                increments: conflict, again and again, until its time is over
/// commits
/// ```
#[tokio::test]
async fn a_deadline_ends_the_tries_of_whoever_conflicts() {
    let (db, _folder) = writer(WriterConfig::default()).await;
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let (holder, mut held) = (db.clone(), Some(held));
    let (wrote, writes) = tokio::sync::oneshot::channel::<()>();
    let mut wrote = Some(wrote);
    let holds = tokio::spawn(async move {
        let work = async move |tx: &mut Transaction<'_>| {
            tx.execute(INCREMENT, ()).await?;
            if let (Some(wrote), Some(held)) = (wrote.take(), held.take()) {
                wrote.send(()).unwrap();
                held.await.unwrap();
            }
            Ok::<_, Error>(())
        };
        holder.write(work).await
    });
    writes.await.unwrap();
    let limit = Duration::from_millis(30);
    let late = db.within(limit).execute(INCREMENT, ()).await.unwrap_err();
    assert!(matches!(late, Error::RolledBack { .. }), "{late:?}");
    assert!(matches!(late.cause(), Error::Deadline { limit: told, .. } if *told == limit), "{late:?}");
    assert!(db.status().retries > 0, "{:?}", db.status());
    release.send(()).unwrap();
    holds.await.unwrap().unwrap();
    assert_eq!(counter(&db, 1).await, 1);
}

#[tokio::test]
async fn whoever_leaves_before_there_is_a_connection_is_not_run_and_gives_its_room_back() {
    let (db, _folder) = writer(WriterConfig { queue: 1, ..WriterConfig::default() }).await;
    let guards = lend_all(&db).await;
    for _ in 0..3 {
        let mut leaves = tokio_test::task::spawn(db.try_execute(INCREMENT, ()));
        assert!(leaves.poll().is_pending());
    }
    drop(guards);
    db.execute("UPDATE counters SET n = n + 10 WHERE id = 1", ()).await.unwrap();
    assert_eq!((counter(&db, 1).await, db.status().skipped, db.status().queued), (10, 3, 0));
}

/// The caller of a write that runs is gone, and so is every handle.
#[tokio::test]
async fn whoever_opens_the_file_of_a_writer_that_was_dropped_waits_for_what_still_runs() {
    let (db, folder) = writer(WriterConfig::default()).await;
    let (running, release) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (begun, held) = (Arc::clone(&running), Arc::clone(&release));
    let caller = tokio::spawn(async move {
        let write = db.write(async move |tx| {
            begun.notify_one();
            held.notified().await;
            tx.execute(INCREMENT, ()).await
        });
        write.await.map(drop)
    });
    running.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let mut next = tokio_test::task::spawn(Box::pin(another_of(&folder)));
    assert!(next.poll().is_pending());
    release.notify_one();
    let next = next.into_inner().await.unwrap();
    assert_eq!(counter(&next, 1).await, 1);
}

/// They have an answer, whether or not they look at it.
#[tokio::test]
async fn whoever_was_refused_by_a_close_keeps_nobody_from_opening_the_file() {
    let (db, folder) = writer(WriterConfig::default()).await;
    let guards = lend_all(&db).await;
    let mut refused = tokio_test::task::spawn(db.execute(INCREMENT, ()));
    assert!(refused.poll().is_pending());
    let report = db.close_within(Duration::from_millis(5)).await;
    assert_eq!(report.not_done.len(), 1, "{report}");
    drop(guards);
    let next = tokio::time::timeout(Duration::from_secs(60), another_of(&folder)).await.expect("nothing runs").unwrap();
    next.execute(INCREMENT, ()).await.unwrap();
    assert!(matches!(refused.await.unwrap_err().cause(), Error::Closed));
    assert_eq!(counter(&next, 1).await, 1);
}

/// Another writer of the same file, on a pool of its own.
async fn another_of(folder: &TempDir) -> Result<PooledDatabaseWriter> {
    let pool = ConnectionPool::open(folder.path().join("t.db")).await?;
    PooledDatabaseWriter::with_config(pool, WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() }).await
}
