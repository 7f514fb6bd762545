//! Callers that leave: before its turn a write is not run, after that it runs to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use poolproof::{Error, PooledDatabaseWriter};
use tokio::sync::oneshot;

use crate::world::{leave, rows, writer};

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
    let release = leave(&db, async |tx| tx.execute("INSERT INTO t VALUES (2)", ()).await).await;
    release.notify_one();
    // The lane is in order: this one ends after that.
    db.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 3);
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
