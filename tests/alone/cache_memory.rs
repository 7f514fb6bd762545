//! The bound of the read cache, and that what it counts is what it takes.

use poolproof::{CacheStatus, ConnectionPool, PooledDatabaseWriter, WriterConfig};

use crate::allocator::bytes;
use crate::alone;

const LIMIT: usize = 1 << 20;

async fn open() -> (PooledDatabaseWriter, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
    let config = WriterConfig { cache: LIMIT, ..WriterConfig::default() };
    let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
    db.execute_batch("CREATE TABLE t (x TEXT); INSERT INTO t VALUES ('0123456789')").await.unwrap();
    (db, folder)
}

fn cache(db: &PooledDatabaseWriter) -> CacheStatus {
    db.status().cache.expect("the cache is on")
}

/// Small answers, and answers of many values: for each, how much the heap grows while the cache is filled more than once.
#[tokio::test]
async fn the_heap_grows_by_no_more_than_the_limit() {
    let _alone = alone().await;
    let rows =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT x, i, ?1 FROM t, n";
    for (sql, count) in [("SELECT x, ?1 FROM t", 6_000), (rows, 400)] {
        let (db, _folder) = open().await;
        // What the engine and the pool keep for themselves is there by now.
        for _ in 0..20 {
            db.query_cached("SELECT random()", ()).await.unwrap();
        }
        db.query_cached(sql, (-1,)).await.unwrap();
        let before = bytes();
        for number in 0..count {
            db.query_cached(sql, (number,)).await.unwrap();
            assert!(cache(&db).bytes <= LIMIT as u64);
        }
        let (status, grown) = (cache(&db), bytes() - before);
        println!("{grown} bytes for {status:?}");
        assert!(status.misses > 2 * status.entries, "it was not filled twice: {status:?}");
        assert!(status.bytes > LIMIT as u64 / 2, "there is room for more: {status:?}");
        assert!(grown < LIMIT as isize * 5 / 4, "{grown} bytes for {status:?}");
    }
}

#[tokio::test]
async fn an_answer_larger_than_its_part_is_given_and_not_kept() {
    let _alone = alone().await;
    let (db, _folder) = open().await;
    db.execute("UPDATE t SET x = zeroblob(?1)", (LIMIT as i64,)).await.unwrap();
    for _ in 0..3 {
        let found = db.query_cached("SELECT x FROM t", ()).await.unwrap();
        assert_eq!(found.rows()[0].get::<Vec<u8>>(0).unwrap().len(), LIMIT);
        assert!(cache(&db).bytes < LIMIT as u64 / 8);
    }
    assert_eq!(cache(&db).hits, 0);
}
