//! The statement cache: what is prepared once gives the right results every time.

use poolproof::{Connection, ConnectionPool};

async fn pool(cache: usize) -> (ConnectionPool, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).statement_cache(cache).build().await.unwrap();
    pool.get().await.unwrap().execute_batch("CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1), (2)").await.unwrap();
    (pool, folder)
}

async fn sum(connection: &mut Connection, least: i64) -> i64 {
    let mut rows = connection.query("SELECT SUM(x) FROM t WHERE x >= ?1", (least,)).await.unwrap();
    rows.next().await.unwrap().expect("one row").get(0).unwrap()
}

#[tokio::test]
async fn the_same_statement_is_prepared_once_and_right_with_other_parameters() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    let before = user.cached_statements();
    assert_eq!((sum(&mut user, 1).await, sum(&mut user, 2).await, sum(&mut user, 0).await), (3, 2, 3));
    assert_eq!(user.cached_statements(), before + 1);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    for cache in [0, 2] {
        let (pool, _folder) = pool(cache).await;
        let mut user = pool.get().await.unwrap();
        for number in 0..10 {
            user.run(&format!("SELECT {number}")).await.unwrap();
            assert!(user.cached_statements() <= cache);
        }
    }
}

#[tokio::test]
async fn a_statement_is_right_after_another_connection_changed_the_schema() {
    let (pool, _folder) = pool(8).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!(sum(&mut user, 0).await, 3);
    for (change, then) in [
        ("ALTER TABLE t ADD COLUMN y INTEGER", 3),
        ("CREATE INDEX i ON t (x)", 3),
        ("DROP TABLE t; CREATE TABLE t (y INTEGER, x INTEGER); INSERT INTO t VALUES (9, 7)", 7),
    ] {
        other.execute_batch(change).await.unwrap();
        assert_eq!(sum(&mut user, 0).await, then, "{change}");
    }
}
