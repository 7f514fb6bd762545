//! What a writer needs of its pool.

use poolproof::{ConnectionPool, PooledDatabaseWriter};

use crate::world::{rows, writer};

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
