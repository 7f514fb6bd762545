//! Snapshots: one moment, read-only, and their connection goes back as it was.

use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Result};
use tokio::sync::oneshot;

use crate::world::{count, rows, writer};

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

#[tokio::test]
async fn a_snapshot_refuses_whatever_would_end_or_change_it() {
    let (db, _folder) = writer().await;
    for sql in [
        "COMMIT",
        "PRAGMA query_only = 0",
        "EXPLAIN PRAGMA query_only = 0",
        "INSERT INTO t VALUES (1)",
        "ATTACH 'x.db' AS x",
    ] {
        let outcome: Result<()> = db.read(async move |snapshot| snapshot.query(sql, ()).await.map(drop)).await;
        assert!(matches!(outcome, Err(Error::Misuse(_))), "{sql}: {outcome:?}");
    }
    assert_eq!(rows(&db).await, 0);
}

/// One connection beside the lane's reads, writes and reads again: a snapshot never writes, and what follows it may.
#[tokio::test]
async fn a_connection_that_read_may_be_written_by_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(2).build().await.unwrap();
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    for round in 1..=3 {
        for _ in 0..2 {
            let refused = db.read(async |snapshot| {
                let sql = "WITH n AS (SELECT 1) INSERT INTO t SELECT * FROM n";
                let mut rows = snapshot.query(sql, ()).await?;
                rows.next().await.map(|_| ())
            });
            let refused: poolproof::Error = refused.await.unwrap_err();
            assert!(matches!(refused, Error::Misuse(_)), "{refused}");
        }
        db.pool().get().await.unwrap().execute("INSERT INTO t VALUES (?1)", (round,)).await.unwrap();
        let count: i64 = db
            .read(async |snapshot| {
                let mut rows = snapshot.query("SELECT COUNT(*) FROM t", ()).await?;
                rows.next().await?.expect("a count is a row").get(0)
            })
            .await
            .unwrap();
        assert_eq!(count, round);
    }
}
