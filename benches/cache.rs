//! What the read cache gives, and what it takes: a row by its key from the cache, from a guard and from a snapshot of the
//! writer; and a statement of a guard with nobody to tell of it, and with a cache that must hear of it.

use std::sync::atomic::{AtomicI64, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use poolproof::{Behavior, ConnectionPool, PooledDatabaseWriter, WriterConfig};
use poolproof_benches::{brief_samples, runtime};

/// As many answers stay in the cache.
const ROWS: i64 = 1_000;
const QUERY: &str = "SELECT value FROM entries WHERE id = ?1";
const WRITE: &str = "UPDATE entries SET value = ?1 WHERE id = ?1";

async fn open(file: &std::path::Path, cache: usize) -> poolproof::Result<PooledDatabaseWriter> {
    let config = WriterConfig { cache, ..WriterConfig::default() };
    let db = PooledDatabaseWriter::with_config(ConnectionPool::open(file).await?, config).await?;
    db.execute("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)", ()).await?;
    db.write(async |tx| {
        for id in 0..ROWS {
            tx.execute("INSERT OR REPLACE INTO entries VALUES (?1, ?1)", (id,)).await?;
        }
        Ok::<_, poolproof::Error>(())
    })
    .await?;
    Ok(db)
}

async fn hit(db: &PooledDatabaseWriter, id: i64) -> poolproof::Result<i64> {
    db.query_cached(QUERY, (id,)).await?.rows()[0].get(0)
}

async fn guard(db: &PooledDatabaseWriter, id: i64) -> poolproof::Result<i64> {
    let mut guard = db.pool().get().await?;
    let mut rows = guard.query(QUERY, (id,)).await?;
    rows.next().await?.expect("the row is there").get(0)
}

async fn snapshot(db: &PooledDatabaseWriter, id: i64) -> poolproof::Result<i64> {
    db.read(async move |snapshot| {
        let mut rows = snapshot.query(QUERY, (id,)).await?;
        rows.next().await?.expect("the row is there").get(0)
    })
    .await
}

fn benches(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = runtime.block_on(open(&folder.path().join("plain.db"), 0)).expect("the file can be filled");
    let cached = runtime.block_on(open(&folder.path().join("cached.db"), 8 << 20)).expect("the file can be filled");

    let next = AtomicI64::new(0);
    let next = || next.fetch_add(7, Ordering::Relaxed) % ROWS;
    let mut group = criterion.benchmark_group("cache: a row by its key");
    brief_samples(&mut group);
    group.bench_function("from the cache", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let id = next();
            assert_eq!(hit(&cached, id).await.expect("the cache answers"), id);
        });
    });
    for (name, db) in [("without", &plain), ("with", &cached)] {
        group.bench_function(format!("by a guard, {name} a cache beside it"), |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let id = next();
                assert_eq!(guard(db, id).await.expect("the pool answers"), id);
            });
        });
        group.bench_function(format!("by a read, {name} a cache beside it"), |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let id = next();
                assert_eq!(snapshot(db, id).await.expect("the writer answers"), id);
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("cache: a statement of a transaction");
    brief_samples(&mut group);
    for (name, db) in [("nobody listens", &plain), ("a cache listens", &cached)] {
        let mut guard = runtime.block_on(db.pool().get()).expect("a connection is free");
        let mut transaction = runtime.block_on(guard.begin(Behavior::Immediate)).expect("nobody else writes");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime.block_on(transaction.execute(WRITE, (next(),))).expect("the row can be written");
            });
        });
    }
    group.finish();
}

criterion_group!(cache, benches);
criterion_main!(cache);
