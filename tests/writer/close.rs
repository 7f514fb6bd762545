//! The end of a writer: what is queued is done or refused, and nothing stays open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poolproof::{Ack, Error, PooledDatabaseWriter, Priority, Result, Transaction};
use tokio::sync::watch;
use tokio_test::task;

use crate::world::{by_sqlite, column, count, hold, insert, lock, queue, queue_row, rows, unlock, until, writer};

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

/// In a read, or the pool's own in either: the closure holds a connection.
#[tokio::test]
async fn closing_inside_a_closure_does_not_wait_for_itself() {
    const LONG: Duration = Duration::from_secs(30);
    for closes_the_pool in [false, true] {
        let (db, _folder) = writer().await;
        let inner = db.clone();
        let read = db.read(async move |snapshot| {
            match closes_the_pool {
                false => inner.close().await,
                true => inner.pool().close().await,
            }
            count(snapshot).await
        });
        assert_eq!(tokio::time::timeout(LONG, read).await.expect("it waits for itself").unwrap(), 0);
        assert!(matches!(db.pool().get().await.unwrap_err(), Error::Closed));
        tokio::time::timeout(LONG, db.close()).await.expect("the read has given its connection back");
    }
    let (db, _folder) = writer().await;
    let inner = db.clone();
    let write = db.write(async move |tx| {
        inner.pool().close().await;
        tx.execute("INSERT INTO t VALUES (1)", ()).await
    });
    assert_eq!(tokio::time::timeout(LONG, write).await.expect("it waits for itself").unwrap().value, 1);
    tokio::time::timeout(LONG, db.close()).await.expect("nothing is left");
}

/// The same with a limit, which is not waited for either.
#[tokio::test]
async fn closing_within_a_limit_inside_a_closure_does_not_wait_for_itself() {
    const LONG: Duration = Duration::from_secs(30);
    for closes_the_pool in [false, true] {
        let (db, _folder) = writer().await;
        let inner = db.clone();
        let read = db.read(async move |snapshot| {
            let is_still_open = match closes_the_pool {
                false => !inner.close_within(Duration::MAX).await.holders.is_empty(),
                true => inner.pool().close_within(Duration::MAX).await.is_err(),
            };
            assert!(is_still_open, "this read has a connection");
            count(snapshot).await
        });
        assert_eq!(tokio::time::timeout(LONG, read).await.expect("it waits for itself").unwrap(), 0);
        tokio::time::timeout(LONG, db.close()).await.expect("the read has given its connection back");
    }
    let (db, _folder) = writer().await;
    let inner = db.clone();
    let write = db.write(async move |tx| {
        assert!(inner.pool().close_within(Duration::MAX).await.is_err());
        tx.execute("INSERT INTO t VALUES (1)", ()).await
    });
    assert_eq!(tokio::time::timeout(LONG, write).await.expect("it waits for itself").unwrap().value, 1);
}

/// What a closure has captured is dropped where it ran: what that asks of the writer waits for nothing there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_closure_captured_may_use_the_writer_as_it_is_dropped() {
    struct Audit(PooledDatabaseWriter, bool);
    impl Drop for Audit {
        fn drop(&mut self) {
            let Self(db, closes) = self;
            let asks = async {
                match closes {
                    true => db.close().await,
                    false => drop(db.execute("INSERT INTO t VALUES (2)", ()).await),
                }
            };
            // By hand: this may be no place for a runtime.
            let mut asks = std::pin::pin!(asks);
            let asked = asks.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(asked.is_ready(), "it waits for itself");
        }
    }
    const LONG: Duration = Duration::from_secs(30);
    for closes in [false, true] {
        let (db, _folder) = writer().await;
        let audit = Audit(db.clone(), closes);
        let write = db.write(async move |tx| {
            let _audit = &audit;
            tx.execute("INSERT INTO t VALUES (1)", ()).await
        });
        write.await.unwrap();
        tokio::time::timeout(LONG, db.stop()).await.expect("the lane waits for itself");
        assert_eq!(column(&db, "t").await, [1]);
        let audit = Audit(db.clone(), closes);
        let read = db.read(async move |snapshot| {
            let _audit = audit;
            count(snapshot).await
        });
        assert_eq!(read.await.unwrap(), 1);
        tokio::time::timeout(LONG, db.close()).await.expect("a read waits for itself");
    }
}

#[tokio::test]
async fn a_close_waits_for_what_is_queued_however_it_ends() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let writes = [queue_row(&db, 1).await, queue(&db, |db| insert(db.priority(Priority::Background), 2)).await];
    let refused = queue(&db, |db| async move { db.execute("INSERT INTO missing VALUES (1)", ()).await }).await;
    let leaves = queue_row(&db, 3).await;
    let mut close = task::spawn(db.close());
    assert!(close.poll().is_pending());
    assert!(matches!(insert(db.clone(), 4).await.unwrap_err().cause(), Error::Closed));
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    assert!(!close.is_woken());
    let path = db.pool().path().to_owned();
    held.let_go().await;
    close.await;
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert!(matches!(refused.await.unwrap().unwrap_err().cause(), Error::Engine(_)));
    let status = db.status();
    assert_eq!((status.queued, status.skipped, status.pool.open), (0, 1, 0));
    assert_eq!(by_sqlite(&path), [1, 2]);
    db.close().await;
    assert!(db.close_within(Duration::ZERO).await.is_clean());
}

#[tokio::test]
async fn a_close_that_gives_up_says_only_what_is_left() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let report = db.close_within(Duration::from_millis(5)).await;
    assert!(
        report.to_string().starts_with("nothing is left in the queue, one is still running\n  running: "),
        "{report}"
    );
    held.let_go().await;
    db.close().await;

    let (db, _folder) = writer().await;
    let guard = db.pool().get().await.unwrap();
    // Time enough for the last checkpoint.
    let report = db.close_within(Duration::from_secs(2)).await;
    let here = format!("every write was done\n  still open: {}", file!());
    assert!(report.to_string().starts_with(&here) && report.running.is_none(), "{report}");
    drop(guard);
}

#[tokio::test]
async fn a_close_that_gives_up_says_of_each_job_what_it_was_and_tells_its_caller() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let secret = "do not show";
    let statement = queue(&db, |db| async move { db.execute("INSERT INTO t VALUES (?1)", (secret,)).await }).await;
    let closure = queue(&db, |db| async move { db.write(async |_| Ok::<_, Error>(())).await }).await;
    let long = format!("INSERT INTO t VALUES ({})", "1 + ".repeat(100) + "1");
    let batch = queue(&db, |db| async move { db.execute(long, ()).await }).await;
    let guard = db.pool().get().await.unwrap();
    let report = db.close_within(Duration::from_millis(20)).await;
    println!("{report}");
    assert!(!report.is_clean() && report.is_running, "{report}");
    let [first, second, third] = &report.not_done[..] else { panic!("three were queued: {report}") };
    assert_eq!(first.sql.as_deref(), Some("INSERT INTO t VALUES (?1)"));
    assert_eq!((second.sql.as_deref(), third.sql.as_ref().map(String::len)), (None, Some(120)));
    for job in [first, second, third] {
        assert!(job.site.file().ends_with("close.rs") && job.waited >= Duration::from_millis(20), "{job}");
    }
    assert!(first.site.line() < second.site.line() && second.site.line() < third.site.line());
    assert_eq!(report.holders.len(), 2, "the lane's and the guard's");
    let running = report.running.as_ref().expect("it is held");
    assert!(running.site.file().ends_with("world.rs") && running.sql.is_none(), "{running}");
    let text = report.to_string();
    assert!(text.starts_with("3 writes were not done, one is still running") && !text.contains(secret), "{text}");
    assert!(text.contains(&format!("\n  running: {}, for ", running.site)), "{text}");
    let errors =
        [statement.await.unwrap().unwrap_err(), closure.await.unwrap().unwrap_err(), batch.await.unwrap().unwrap_err()];
    for error in errors {
        assert!(matches!(error, Error::RolledBack { .. }) && matches!(error.cause(), Error::Closed), "{error:?}");
    }
    // The one that was running is done all the same.
    let path = db.pool().path().to_owned();
    held.let_go().await;
    drop(guard);
    assert!(db.close_within(Duration::from_secs(60)).await.is_clean());
    assert_eq!((by_sqlite(&path).len(), db.status().rolled_back, db.status().queued), (0, 3, 0));
}

#[tokio::test]
async fn a_lane_that_waits_for_the_lock_is_still_running() {
    let (db, _folder) = writer().await;
    let (guard, retries) = (lock(&db).await, db.status().retries);
    let waiting = tokio::spawn(insert(db.clone(), 1));
    until(|| db.status().retries > retries).await;
    let report = db.close_within(Duration::from_millis(5)).await;
    assert!(report.is_running && report.not_done.len() == 1, "{report}");
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }) && matches!(error.cause(), Error::Closed), "{error:?}");
    unlock(guard).await;
    db.close().await;
}

#[tokio::test]
async fn a_close_inside_a_write_is_told_and_does_not_wait_for_itself() {
    let (db, _folder) = writer().await;
    let inner = db.clone();
    let write = db.write(async move |tx| {
        let report = inner.close_within(Duration::from_secs(60)).await;
        assert!(report.is_running && report.not_done.is_empty());
        tx.execute("INSERT INTO t VALUES (1)", ()).await
    });
    write.await.unwrap();
    assert!(matches!(insert(db.clone(), 2).await.unwrap_err().cause(), Error::Closed));
    db.stop().await;
    assert_eq!(rows(&db).await, 1);
}

#[tokio::test]
async fn handles_that_are_dropped_while_writes_are_queued_take_nothing_with_them() {
    let (db, _folder) = writer().await;
    let pool = db.pool().clone();
    let held = hold(&db).await;
    // Each has a handle of its own, and is dropped with it once it is done.
    let writes = [queue_row(&db, 1).await, queue_row(&db, 2).await];
    drop(db);
    held.let_go().await;
    for write in writes {
        write.await.unwrap().unwrap();
    }
    // The lane ends: the next one may begin.
    let next = loop {
        match PooledDatabaseWriter::new(pool.clone()).await {
            Ok(next) => break next,
            Err(error) => assert!(error.to_string().contains("has a writer already"), "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(column(&next, "t").await, [1, 2]);
}

/// Whatever came first: each caller gets an answer, each that was told `Ok` is in the file, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_close_among_many_writes_leaves_exactly_what_was_acknowledged() {
    for round in 0..10 {
        let (db, _folder) = writer().await;
        let path = db.pool().path().to_owned();
        let go = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (db, go) = (db.clone(), Arc::clone(&go));
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    for x in (task * 1000).. {
                        let outcome: Result<Ack<u64>> = match x % 3 {
                            0 => insert(db.clone(), x).await,
                            1 => db.try_execute("INSERT INTO t VALUES (?1)", (x,)).await,
                            _ => db.write(async move |tx| tx.execute("INSERT INTO t VALUES (?1)", (x,)).await).await,
                        };
                        match outcome {
                            Ok(_) => acknowledged.push(x),
                            Err(error) => {
                                assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
                                assert!(matches!(error.cause(), Error::Closed), "{error:?}");
                                break;
                            }
                        }
                        go.fetch_or(acknowledged.len() > round, Ordering::Relaxed);
                    }
                    acknowledged
                })
            })
            .collect();
        until(|| go.load(Ordering::Relaxed)).await;
        match round % 3 {
            0 => db.close().await,
            1 => drop(db.close_within(Duration::ZERO).await),
            _ => {
                let other = db.clone();
                let close = tokio::spawn(async move { other.close().await });
                db.close().await;
                close.await.unwrap();
            }
        }
        let mut acknowledged = Vec::new();
        for task in tasks {
            acknowledged.extend(task.await.unwrap());
        }
        db.close().await;
        assert_eq!(db.status().pool.open, 0);
        let mut found = by_sqlite(&path);
        found.sort();
        acknowledged.sort();
        assert_eq!(found, acknowledged, "round {round}");
    }
}

/// It waits for nothing but a job: what ends the wait is the close.
#[tokio::test]
async fn a_lane_that_has_nothing_to_do_is_told_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    for closes in [true, false] {
        let db = PooledDatabaseWriter::open(folder.path().join("t.db")).await.unwrap();
        let pool = db.pool().clone();
        if closes {
            let report = db.close_within(Duration::from_secs(60)).await;
            assert!(report.is_clean(), "{report}");
        } else {
            drop(db);
            pool.close_within(Duration::from_secs(60)).await.unwrap();
        }
        assert_eq!(pool.status().open, 0);
    }
}

/// Three share a batch, which the last one breaks. They run again, and the first one takes its time.
#[tokio::test]
async fn a_close_that_gives_up_names_the_write_that_runs_and_those_that_would_have_run_again() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE u (x INTEGER PRIMARY KEY); INSERT INTO u VALUES (1)").await.unwrap();
    let held = hold(&db).await;
    let (runs_again, mut begun) = watch::channel(false);
    let (release, released) = watch::channel(false);
    let slow = queue(&db, |db| async move {
        let mut runs = 0;
        let work = async move |_: &mut Transaction<'_>| {
            runs += 1;
            if runs > 1 {
                runs_again.send_replace(true);
                let _ = released.clone().wait_for(|released| *released).await;
            }
            Ok::<_, Error>(())
        };
        db.write(work).await
    });
    let slow = slow.await;
    let row = queue_row(&db, 1).await;
    let breaks = queue(&db, |db| async move { db.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await }).await;
    held.let_go().await;
    begun.wait_for(|begun| *begun).await.unwrap();
    let report = db.close_within(Duration::from_millis(5)).await;
    let running = report.running.as_ref().expect("it is held");
    assert!(running.sql.is_none() && running.site.file().ends_with("close.rs"), "{report}");
    let not_done: Vec<_> = report.not_done.iter().map(|write| write.sql.as_deref().unwrap()).collect();
    assert!(matches!(not_done[..], ["INSERT INTO t VALUES (?1)", "INSERT OR ROLLBACK INTO u VALUES (1)"]), "{report}");
    release.send_replace(true);
    slow.await.unwrap().unwrap();
    for refused in [row, breaks] {
        let error = refused.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::RolledBack { .. }) && matches!(error.cause(), Error::Closed), "{error:?}");
    }
    db.close().await;
}
