//! A hook that panics in the middle of a batch: everybody is answered, and counted, and the lane goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use poolproof::{Connection, ConnectionPool, Error, Hooks, PooledDatabaseWriter, Result};
use tempfile::TempDir;

use crate::world::{column, hold, insert, patient, queue, queue_row, rows};

/// A writer whose connections, as many of the next ones as this says, cannot be opened: the hook panics.
async fn writer() -> (PooledDatabaseWriter, Arc<AtomicUsize>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let panics = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&panics);
    let hooks = Hooks::new().after_connect(move |_: &mut Connection| {
        let panics = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move {
            assert!(!panics, "the hook panics");
            Ok(())
        })
    });
    let pool =
        ConnectionPool::builder(folder.path().join("t.db")).max_connections(4).hooks(hooks).build().await.unwrap();
    let db = PooledDatabaseWriter::with_config(pool, patient()).await.unwrap();
    db.execute_batch("CREATE TABLE t (x INTEGER); CREATE TABLE u (x INTEGER PRIMARY KEY); INSERT INTO u VALUES (1)")
        .await
        .unwrap();
    (db, panics, folder)
}

/// Told that nothing was written, for what the hook said, and that it was a hook.
fn is_rolled_back<T>(outcome: &Result<T>) -> bool {
    let said = "a hook turned a new connection down: it panicked: the hook panics; nothing was written";
    let Err(error @ Error::RolledBack { .. }) = outcome else { return false };
    matches!(error.cause(), Error::Hook(_)) && error.to_string() == said
}

#[tokio::test]
async fn a_hook_that_panics_before_a_batch_costs_one_write_and_not_the_lane() {
    let (db, panics, _folder) = writer().await;
    // After a pragma, whatever it is, the lane needs another connection.
    db.execute("PRAGMA user_version = 7", ()).await.unwrap();
    let before = db.status();
    panics.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        let outcome = insert(db.clone(), 1).await;
        assert!(is_rolled_back(&outcome), "{outcome:?}");
    }
    insert(db.clone(), 2).await.unwrap();
    let after = db.status();
    assert_eq!((after.rolled_back - before.rolled_back, after.committed - before.committed), (2, 1), "{after:?}");
    assert!(!after.wal.in_doubt && after.unknown == 0, "{after:?}");
    assert_eq!(column(&db, "t").await, [2]);
}

/// ```text
/// lane                                   hook
/// runs first, breaks
/// undoes the batch: each is to run alone
/// needs another connection               panics
/// tells first that it is undone
/// needs another connection
/// goes on: breaks, last, alone
/// ```
#[tokio::test]
async fn a_hook_that_panics_while_a_batch_runs_again_leaves_nobody_unanswered() {
    let (db, panics, _folder) = writer().await;
    let (before, held) = (db.status(), hold(&db).await);
    let first = queue_row(&db, 1).await;
    let breaks = queue(&db, |db| async move { db.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await }).await;
    let last = queue_row(&db, 2).await;
    let alone = queue(&db, |db| async move { db.execute("CREATE TABLE later (x)", ()).await }).await;
    panics.store(1, Ordering::SeqCst);
    held.let_go().await;
    let outcome = first.await.unwrap();
    assert!(is_rolled_back(&outcome), "{outcome:?}");
    assert!(breaks.await.unwrap().unwrap_err().constraint().is_some(), "it is told why it would fail without the hook");
    for write in [last, alone] {
        write.await.unwrap().unwrap();
    }
    let after = db.status();
    // With the one that held the lane.
    assert_eq!((after.rolled_back - before.rolled_back, after.committed - before.committed), (2, 3), "{after:?}");
    assert_eq!((after.unknown, after.wal.in_doubt, rows(&db).await), (0, false, 1));
}

/// The commit of the second is refused, so that whoever comes behind it needs another connection.
#[tokio::test]
async fn a_hook_that_panics_after_a_commit_that_was_refused_leaves_nobody_unanswered() {
    let (db, panics, _folder) = writer().await;
    db.execute("CREATE TABLE c (x INTEGER REFERENCES u (x) DEFERRABLE INITIALLY DEFERRED)", ()).await.unwrap();
    insert(db.clone(), 0).await.unwrap();
    let (before, held) = (db.status(), hold(&db).await);
    let first = queue_row(&db, 1).await;
    let orphan = queue(&db, |db| async move { db.execute("INSERT INTO c VALUES (99)", ()).await }).await;
    let alone = queue(&db, |db| async move { db.execute("CREATE TABLE later (x)", ()).await }).await;
    panics.store(1, Ordering::SeqCst);
    held.let_go().await;
    first.await.unwrap().unwrap();
    assert!(orphan.await.unwrap().unwrap_err().constraint().is_some(), "it is told why it would fail without the hook");
    let alone = alone.await.unwrap();
    assert!(is_rolled_back(&alone), "{alone:?}");
    insert(db.clone(), 2).await.unwrap();
    let after = db.status();
    // With the one that held the lane.
    assert_eq!((after.rolled_back - before.rolled_back, after.committed - before.committed), (2, 3), "{after:?}");
    assert_eq!((after.unknown, after.wal.in_doubt, column(&db, "t").await), (0, false, vec![0, 1, 2]));
}
