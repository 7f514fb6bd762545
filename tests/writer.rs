//! The writer's promises: one write after the other, all or nothing, whoever leaves, panics or closes meanwhile.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use poolproof::{Ack, Behavior, ConnectionPool, Error, PooledDatabaseWriter, Result, Snapshot};
use tempfile::TempDir;
use tokio::sync::{Barrier, Notify, oneshot};

/// A database with an empty table `t (x INTEGER)`.
async fn writer() -> (PooledDatabaseWriter, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(4).build().await.unwrap();
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    (db, folder)
}

async fn count(snapshot: &mut Snapshot<'_>) -> Result<i64> {
    let mut rows = snapshot.query("SELECT COUNT(*) FROM t", ()).await?;
    let row = rows.next().await?.expect("COUNT gives a row");
    row.get(0)
}

async fn rows(db: &PooledDatabaseWriter) -> i64 {
    db.read(async |snapshot| count(snapshot).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_once_never_see_a_locked_database() {
    let (db, _folder) = writer().await;
    let start = Arc::new(Barrier::new(50));
    let tasks: Vec<_> = (0..50)
        .map(|x| {
            let (db, start) = (db.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                if x % 2 == 0 {
                    db.execute("INSERT INTO t VALUES (?1)", (x,)).await
                } else {
                    db.write(async move |tx| tx.execute("INSERT INTO t VALUES (?1)", (x,)).await).await
                }
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().value, 1);
    }
    assert_eq!(rows(&db).await, 50);
    let status = db.status();
    assert_eq!((status.committed, status.rolled_back, status.queued), (51, 0, 0));
}

#[tokio::test]
async fn writes_run_in_the_order_in_which_they_were_queued() {
    let (db, _folder) = writer().await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    // On this single-threaded runtime tasks queue their writes in the order in which they were spawned.
    let tasks: Vec<_> = (0..20)
        .map(|index| {
            let (db, order) = (db.clone(), Arc::clone(&order));
            tokio::spawn(async move {
                db.write(async move |_| {
                    order.lock().unwrap().push(index);
                    Ok::<(), Error>(())
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_write_that_fails_has_no_effect_and_its_neighbours_have_theirs() {
    let (db, _folder) = writer().await;
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let failed: Result<Ack<()>> = db
        .write(async |tx| {
            tx.execute("INSERT INTO t VALUES (2)", ()).await?;
            tx.execute("INSERT INTO missing VALUES (3)", ()).await.map(drop)
        })
        .await;
    assert!(matches!(failed, Err(Error::Engine(_))), "{failed:?}");
    db.execute("INSERT INTO t VALUES (4)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 2);
    assert_eq!(db.status().rolled_back, 1);
}

#[tokio::test]
async fn a_write_that_panics_has_no_effect_and_panics_in_its_caller() {
    let (db, _folder) = writer().await;
    let panicking = db.clone();
    let caller = tokio::spawn(async move {
        panicking
            .write(async |tx| -> Result<()> {
                tx.execute("INSERT INTO t VALUES (1)", ()).await?;
                panic!("the closure's own panic");
            })
            .await
    });
    let panic = caller.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the closure's own panic"));
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 1);
}

#[tokio::test]
async fn a_write_whose_caller_leaves_before_its_turn_is_not_run() {
    let (db, _folder) = writer().await;
    let (release, mut held) = oneshot::channel::<()>();
    let first = tokio::spawn({
        let db = db.clone();
        async move { db.write(async move |_| Ok::<_, Error>((&mut held).await.is_ok())).await }
    });
    let ran = Arc::new(AtomicUsize::new(0));
    let second = tokio::spawn({
        let (db, ran) = (db.clone(), Arc::clone(&ran));
        async move {
            db.write(async move |_| {
                ran.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Error>(())
            })
            .await
        }
    });
    // Both are queued once they have been polled; this test's runtime has one thread, so two yields see to that.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    release.send(()).unwrap();
    assert!(first.await.unwrap().unwrap().value);
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!((ran.load(Ordering::SeqCst), db.status().skipped), (0, 1));
}

#[tokio::test]
async fn a_write_whose_caller_leaves_after_it_started_is_committed() {
    let (db, _folder) = writer().await;
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, held) = (Arc::clone(&started), Arc::clone(&release));
    let caller = tokio::spawn({
        let db = db.clone();
        async move {
            db.write(async move |tx| {
                tx.execute("INSERT INTO t VALUES (1)", ()).await?;
                started.notify_one();
                held.notified().await;
                tx.execute("INSERT INTO t VALUES (2)", ()).await
            })
            .await
        }
    });
    begun.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    release.notify_one();
    // The lane is in order: this one ends after that.
    db.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_sees_one_moment_while_writes_commit() {
    let (db, _folder) = writer().await;
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let writing = db.clone();
    let (before, after) = db
        .read(async move |snapshot| {
            let before = count(snapshot).await?;
            writing.execute("INSERT INTO t VALUES (2)", ()).await?;
            Ok::<_, Error>((before, count(snapshot).await?))
        })
        .await
        .unwrap();
    assert_eq!((before, after), (1, 1));
    assert_eq!(rows(&db).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_taken_when_the_read_begins_not_at_its_first_query() {
    let (db, _folder) = writer().await;
    let writing = db.clone();
    let seen = db
        .read(async move |snapshot| {
            writing.execute("INSERT INTO t VALUES (1)", ()).await?;
            count(snapshot).await
        })
        .await
        .unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn a_read_cannot_write_and_leaves_its_connection_able_to() {
    let (db, _folder) = writer().await;
    let refused: Result<()> = db
        .read(async |snapshot| {
            let mut rows = snapshot.query("INSERT INTO t VALUES (1) RETURNING x", ()).await?;
            rows.next().await.map(drop)
        })
        .await;
    assert!(refused.is_err());
    assert_eq!(rows(&db).await, 0);
    // Every connection of the pool, the one that was read on among them, can write.
    for x in 0..3 {
        db.pool().get().await.unwrap().execute("INSERT INTO t VALUES (?1)", (x,)).await.unwrap();
    }
    assert_eq!(rows(&db).await, 3);
}

#[tokio::test]
async fn a_read_that_is_cancelled_gives_its_connection_back() {
    let (db, _folder) = writer().await;
    let (started, begun) = oneshot::channel::<()>();
    let reading = tokio::spawn({
        let db = db.clone();
        async move {
            db.read(async move |_| {
                started.send(()).expect("the test waits for it");
                std::future::pending::<Result<()>>().await
            })
            .await
        }
    });
    begun.await.unwrap();
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    // Only the lane's connection is left in use once the closure was dropped: all others can be had at once.
    let mut guards = Vec::new();
    for _ in 0..3 {
        guards.push(db.pool().get().await.unwrap());
    }
    assert_eq!(db.status().pool.in_use, 4);
}

#[tokio::test]
async fn a_read_that_panics_panics_in_its_caller_and_costs_one_connection_only() {
    let (db, _folder) = writer().await;
    let panicking = db.clone();
    let caller = tokio::spawn(async move { panicking.read(async |_| -> Result<()> { panic!("in a read") }).await });
    assert!(caller.await.unwrap_err().is_panic());
    assert_eq!(rows(&db).await, 0);
    assert_eq!(db.status().pool.in_use, 1, "the lane's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_a_lock_that_a_guard_holds() {
    let (db, _folder) = writer().await;
    let mut guard = db.pool().get().await.unwrap();
    let transaction = guard.begin(Behavior::Immediate).await.unwrap();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { db.execute("INSERT INTO t VALUES (1)", ()).await }
    });
    // However long it tries, it cannot have been done while the lock is held.
    while db.status().queued > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    transaction.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().value, 1);
}

#[tokio::test]
async fn stop_runs_what_is_queued_and_refuses_what_comes_later() {
    let (db, _folder) = writer().await;
    let queued: Vec<_> = (0..10)
        .map(|x| {
            let db = db.clone();
            tokio::spawn(async move { db.execute("INSERT INTO t VALUES (?1)", (x,)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    db.stop().await;
    for task in queued {
        assert_eq!(task.await.unwrap().unwrap().value, 1);
    }
    assert!(matches!(db.execute("INSERT INTO t VALUES (99)", ()).await.unwrap_err().cause(), Error::Closed));
    assert_eq!(rows(&db).await, 10, "reads go on");
    assert_eq!(db.status().pool.in_use, 0, "the lane's connection is back");
    db.stop().await;
}

#[tokio::test]
async fn close_leaves_no_connection_alive() {
    let (db, _folder) = writer().await;
    db.close().await;
    let status = db.status().pool;
    assert_eq!((status.open, status.closed), (0, true));
    assert!(matches!(db.read(async |snapshot| count(snapshot).await).await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_writer_of_one_connection_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(1).build().await.unwrap();
    let error = PooledDatabaseWriter::new(pool.clone()).await.unwrap_err();
    assert!(error.to_string().contains("at least 2"), "{error}");
    assert_eq!(pool.status().in_use, 0);
}

#[test]
fn dropping_the_last_handle_ends_the_lane_and_frees_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let pool = runtime.block_on(async {
        let db = PooledDatabaseWriter::open(&path).await.unwrap();
        db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
        db.pool().clone()
    });
    // The lane's thread ends by itself; its connection comes back, and then close has nothing to wait for.
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), pool.close()).await }).unwrap();
    assert_eq!(pool.status().open, 0);
}

#[test]
fn a_write_outlives_the_runtime_that_asked_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let first = runtime();
    let db = first.block_on(PooledDatabaseWriter::open(&path)).unwrap();
    first.block_on(db.execute("CREATE TABLE t (x INTEGER)", ())).unwrap();
    let (started, begun) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    first.spawn({
        let db = db.clone();
        async move {
            db.write(async move |tx| {
                started.send(()).expect("the test waits for it");
                held.recv().expect("the test releases it");
                tx.execute("INSERT INTO t VALUES (1)", ()).await
            })
            .await
        }
    });
    begun.recv().unwrap();
    std::panic::catch_unwind(AssertUnwindSafe(|| drop(first))).unwrap();
    release.send(()).unwrap();
    let second = runtime();
    assert_eq!(second.block_on(rows_after_queue(&db)), 1);
}

/// The rows once everything queued before is done.
async fn rows_after_queue(db: &PooledDatabaseWriter) -> i64 {
    db.write(async |_| Ok::<_, Error>(())).await.unwrap();
    rows(db).await
}

#[tokio::test]
async fn a_pool_has_one_writer_at_a_time() {
    let (db, _folder) = writer().await;
    let pool = db.pool().clone();
    let error = PooledDatabaseWriter::new(pool.clone()).await.unwrap_err();
    assert!(error.to_string().contains("has a writer already"), "{error}");
    db.stop().await;
    let next = PooledDatabaseWriter::new(pool).await.unwrap();
    next.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
}

#[tokio::test]
async fn a_write_inside_a_write_is_refused_instead_of_waiting_for_itself() {
    let (db, _folder) = writer().await;
    let inner = db.clone();
    let outcome: Result<Ack<Ack<u64>>> =
        db.write(async move |_| inner.execute("INSERT INTO t VALUES (1)", ()).await).await;
    assert!(matches!(outcome.as_ref().unwrap_err().cause(), Error::Misuse(_)), "{outcome:?}");
    assert_eq!(rows(&db).await, 0);
}

#[tokio::test]
async fn a_transaction_in_pieces_is_refused_and_leaves_nothing_open() {
    let (db, _folder) = writer().await;
    let outcome = db.execute("BEGIN", ()).await;
    assert!(matches!(outcome.as_ref().unwrap_err().cause(), Error::Misuse(_)), "{outcome:?}");
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!((rows(&db).await, db.status().pool.in_use), (1, 1));
}

/// ```text
/// lane                         reader 1            reader 2
/// a write panics:
/// its connection is discarded
///                              holds the other     waits
/// opens another in its own
/// slot, waits for nobody
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_lost_its_connection_does_not_queue_behind_readers() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(2).build().await.unwrap();
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    let reader = db.pool().get().await.unwrap();
    let waiting = tokio::spawn({
        let pool = db.pool().clone();
        async move { pool.get().await.map(drop) }
    });
    while db.status().pool.waiting == 0 {
        tokio::task::yield_now().await;
    }
    let panicking = db.clone();
    let caller = tokio::spawn(async move { panicking.write(async |_| -> Result<()> { panic!("in a write") }).await });
    assert!(caller.await.unwrap_err().is_panic());
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!((db.status().pool.waiting, db.status().pool.in_use), (1, 2), "the reader still waits its turn");
    drop(reader);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_that_sees_a_write_panic_finds_the_lock_free() {
    let (db, _folder) = writer().await;
    let panicking = db.clone();
    let caller = tokio::spawn(async move {
        panicking
            .write(async |tx| -> Result<()> {
                tx.execute("INSERT INTO t VALUES (1)", ()).await?;
                panic!("in a write");
            })
            .await
    });
    assert!(caller.await.unwrap_err().is_panic());
    // Not through the lane: were its transaction still open, this would be Busy.
    db.pool().get().await.unwrap().execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 1);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a destructor");
        }
    }
}

#[tokio::test]
async fn a_destructor_that_panics_does_not_end_the_lane() {
    let (db, _folder) = writer().await;
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, held) = (Arc::clone(&started), Arc::clone(&release));
    // Its answer is a value whose drop panics, and nobody waits for it.
    let caller = tokio::spawn({
        let db = db.clone();
        async move {
            db.write(async move |_| {
                started.notify_one();
                held.notified().await;
                Ok::<_, Error>(PanicsWhenDropped)
            })
            .await
            .map(std::mem::forget)
        }
    });
    begun.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    release.notify_one();
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 1);
}

#[tokio::test]
async fn a_snapshot_refuses_whatever_would_end_or_change_it() {
    let (db, _folder) = writer().await;
    for sql in ["COMMIT", "PRAGMA query_only = 0", "INSERT INTO t VALUES (1)", "ATTACH 'x.db' AS x"] {
        let outcome: Result<()> = db.read(async move |snapshot| snapshot.query(sql, ()).await.map(drop)).await;
        assert!(matches!(outcome, Err(Error::Misuse(_))), "{sql}: {outcome:?}");
    }
    assert_eq!(rows(&db).await, 0);
}

#[tokio::test]
async fn a_pragma_does_not_reach_the_next_user() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(1).build().await.unwrap();
    let synchronous = async || {
        let mut guard = pool.get().await.unwrap();
        let mut rows = guard.query("PRAGMA synchronous", ()).await.unwrap();
        rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap()
    };
    assert_eq!(synchronous().await, 2, "FULL");
    let mut guard = pool.get().await.unwrap();
    let mut rows = guard.query("PRAGMA synchronous = OFF", ()).await.unwrap();
    while rows.next().await.unwrap().is_some() {}
    drop(rows);
    drop(guard);
    assert_eq!(synchronous().await, 2, "FULL again");
}

#[tokio::test]
async fn a_second_statement_is_refused_not_dropped() {
    let (db, _folder) = writer().await;
    let two = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)";
    assert!(matches!(db.execute(two, ()).await.unwrap_err().cause(), Error::Misuse(_)));
    let in_transaction: Result<Ack<u64>> = db.write(async move |tx| tx.execute(two, ()).await).await;
    assert!(matches!(in_transaction.unwrap_err().cause(), Error::Misuse(_)));
    let mut guard = db.pool().get().await.unwrap();
    assert!(matches!(guard.execute(two, ()).await, Err(Error::Misuse(_))));
    assert!(matches!(guard.query("SELECT 1; SELECT 2", ()).await.map(drop), Err(Error::Misuse(_))));
    drop(guard);
    assert_eq!(rows(&db).await, 0);
    db.execute_batch(two).await.unwrap();
    assert_eq!(rows(&db).await, 2);
}

#[tokio::test]
async fn a_batch_takes_effect_wholly_or_not_at_all() {
    let (db, _folder) = writer().await;
    assert!(db.execute_batch("INSERT INTO t VALUES (1); INSERT INTO missing VALUES (2)").await.is_err());
    assert_eq!(rows(&db).await, 0);
}

/// The engine ends the transaction by itself; whatever came after would commit by itself, under a write that fails.
#[tokio::test]
async fn nothing_runs_after_a_conflict_has_rolled_the_transaction_back() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE u (x INTEGER PRIMARY KEY); INSERT INTO u VALUES (5)").await.unwrap();
    let outcome: Result<Ack<u64>> = db
        .write(async |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            let conflict = tx.execute("INSERT OR ROLLBACK INTO u VALUES (5)", ()).await;
            assert!(conflict.is_err());
            tx.execute("INSERT INTO t VALUES (99)", ()).await
        })
        .await;
    assert!(matches!(outcome.as_ref().unwrap_err().cause(), Error::Misuse(_)), "{outcome:?}");
    assert_eq!(rows(&db).await, 0);
}

#[tokio::test]
async fn a_transaction_is_not_ended_by_a_statement() {
    let (db, _folder) = writer().await;
    for sql in ["COMMIT", "ROLLBACK", " end;", "BEGIN", "/* so */ commit"] {
        let outcome: Result<Ack<u64>> = db
            .write(async move |tx| {
                tx.execute("INSERT INTO t VALUES (1)", ()).await?;
                tx.execute(sql, ()).await
            })
            .await;
        assert!(matches!(outcome, Err(Error::Misuse(_))), "{sql}: {outcome:?}");
    }
    assert_eq!(rows(&db).await, 0);
    db.write(async |tx| {
        tx.execute("SAVEPOINT s", ()).await?;
        tx.execute("INSERT INTO t VALUES (1)", ()).await?;
        tx.execute("ROLLBACK TO s", ()).await?;
        tx.execute("INSERT INTO t VALUES (2)", ()).await
    })
    .await
    .unwrap();
    assert_eq!(rows(&db).await, 1);
}

/// The engine would write the rows and then fail on the first one it gives: an error for a write that took effect.
#[tokio::test]
async fn a_statement_that_gives_rows_is_refused_before_it_writes_any() {
    let (db, _folder) = writer().await;
    let insert = "INSERT INTO t VALUES (1), (2) RETURNING x";
    for _ in 0..2 {
        assert!(matches!(db.execute(insert, ()).await.unwrap_err().cause(), Error::Misuse(_)));
        assert!(matches!(db.pool().get().await.unwrap().execute(insert, ()).await, Err(Error::Misuse(_))));
        let refused = db.write(async move |tx| Ok::<_, Error>(tx.execute(insert, ()).await.is_err())).await;
        assert!(refused.unwrap().value);
        assert_eq!(rows(&db).await, 0);
    }
}

#[tokio::test]
async fn stopping_inside_a_write_does_not_wait_for_itself() {
    for closes in [false, true] {
        let (db, _folder) = writer().await;
        let inner = db.clone();
        db.write(async move |tx| {
            if closes {
                inner.close().await
            } else {
                inner.stop().await
            }
            tx.execute("INSERT INTO t VALUES (1)", ()).await
        })
        .await
        .unwrap();
        db.stop().await;
        assert!(matches!(db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap_err().cause(), Error::Closed));
        assert_eq!(rows(&db).await, 1, "the write that asked for it is whole");
    }
}

#[tokio::test]
async fn a_pool_is_not_made_too_small_for_its_writer() {
    let (db, _folder) = writer().await;
    let error = db.pool().resize(1).unwrap_err();
    assert!(error.to_string().starts_with("max_connections is 1"), "{error}");
    db.pool().resize(2).unwrap();
    assert_eq!(rows(&db).await, 0);
}

#[tokio::test]
async fn a_trigger_whose_body_has_a_case_is_one_statement() {
    let (db, _folder) = writer().await;
    let trigger = "CREATE TRIGGER a AFTER INSERT ON t BEGIN UPDATE t SET x = CASE WHEN x = 1 THEN 7 ELSE x END; END";
    db.execute(trigger, ()).await.unwrap();
    db.execute_batch(trigger.replace(" a ", " b ") + "; INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(rows(&db).await, 1);
    let two = format!("{}; DELETE FROM t", trigger.replace(" a ", " c "));
    assert!(matches!(db.execute(two, ()).await.unwrap_err().cause(), Error::Misuse(_)), "what comes after it is seen");
}
