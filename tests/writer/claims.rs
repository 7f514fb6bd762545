//! What a writer needs of its pool.

use std::time::Duration;

use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Result};

use crate::world::{column, hold, queue_row, rows, writer};

#[tokio::test]
async fn a_writer_of_one_connection_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(1).build().await.unwrap();
    let error = PooledDatabaseWriter::new(pool.clone()).await.unwrap_err();
    assert!(error.to_string().contains("at least 2"), "{error}");
    assert_eq!(pool.status().in_use, 0);
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
async fn a_pool_is_not_made_too_small_for_its_writer() {
    let (db, _folder) = writer().await;
    let error = db.pool().resize(1).unwrap_err();
    assert!(error.to_string().starts_with("max_connections is 1"), "{error}");
    db.pool().resize(2).unwrap();
    assert_eq!(rows(&db).await, 0);
}

fn is_refused(outcome: Result<PooledDatabaseWriter>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("has a writer already in this process: use a clone"), "{text}");
}

/// By whatever name, and on whatever pool; readers may have as many pools as they like.
#[tokio::test]
async fn a_file_has_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let db = PooledDatabaseWriter::open(&path).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    let mut names = vec![path.clone(), folder.path().join(".").join("t.db")];
    #[cfg(unix)]
    {
        let name = folder.path().join("soft.db");
        std::os::unix::fs::symlink(&path, &name).unwrap();
        names.push(name);
    }
    for name in names {
        is_refused(PooledDatabaseWriter::open(&name).await);
        let pool = ConnectionPool::open(&name).await.unwrap();
        is_refused(PooledDatabaseWriter::new(pool.clone()).await);
        assert_eq!(pool.status().in_use, 0);
    }
    db.clone().execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    // Another file is another matter.
    PooledDatabaseWriter::open(folder.path().join("u.db")).await.unwrap();
    assert_eq!(rows(&db).await, 1);
}

/// Whether its writer was closed, stopped or only dropped, with writes that were queued and are not done.
#[tokio::test]
async fn whoever_opens_the_file_of_a_writer_that_ends_waits_for_that() {
    for way in 0..4 {
        let (db, folder) = writer().await;
        let path = folder.path().join("t.db");
        let held = hold(&db).await;
        let queued = queue_row(&db, 1).await;
        let closing = match way {
            0 => Some(tokio::spawn(async move { db.close().await })),
            1 => Some(tokio::spawn(async move { db.stop().await })),
            2 => Some(tokio::spawn(async move { drop(db.close_within(Duration::MAX).await) })),
            // The tasks that write have the last handles.
            _ => {
                drop(db);
                None
            }
        };
        if closing.is_some() {
            tokio::task::yield_now().await;
        }
        let mut next = tokio_test::task::spawn(Box::pin(PooledDatabaseWriter::open(&path)));
        if closing.is_some() {
            // Another one who waits, and leaves, claims nothing.
            let mut leaves = tokio_test::task::spawn(PooledDatabaseWriter::open(&path));
            tokio_test::assert_pending!(leaves.poll());
            tokio_test::assert_pending!(next.poll());
        }
        held.let_go().await;
        queued.await.unwrap().unwrap();
        let next = next.into_inner().await.unwrap();
        next.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
        assert_eq!(column(&next, "t").await, [1, 2], "{way}");
        if let Some(closing) = closing {
            closing.await.unwrap();
        }
    }
}

/// A closure that has a handle of its own gives it back before its caller is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_drops_the_last_handle_after_a_write_can_open_the_next_writer() {
    let (db, folder) = writer().await;
    let path = folder.path().join("t.db");
    let mut db = Some(db);
    for _ in 0..100 {
        let writer = match db.take() {
            Some(db) => db,
            None => PooledDatabaseWriter::open(&path).await.unwrap(),
        };
        let inner = writer.clone();
        let write = writer.write(async move |tx| {
            let _ = inner.status();
            tx.execute("INSERT INTO t VALUES (1)", ()).await
        });
        write.await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_that_could_not_be_opened_claims_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let closed = ConnectionPool::open(&path).await.unwrap();
    closed.close().await;
    assert!(matches!(PooledDatabaseWriter::new(closed).await, Err(Error::Closed)));
    PooledDatabaseWriter::open(&path).await.unwrap();
}
