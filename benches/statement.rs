//! What a row by its key costs through the pool (get, query, drop) and its cache of statements, beside the engine alone:
//! one connection, with one statement prepared once, and prepared anew each time. One file, a table of 10,000 rows.

use std::cell::{Cell, RefCell};
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use poolproof::ConnectionPool;
use poolproof_benches::brief_samples;
use tokio::runtime::Builder;

const ROWS: i64 = 10_000;
const QUERY: &str = "SELECT value FROM entries WHERE id = ?1";

async fn fill(file: &Path) -> poolproof::Result<()> {
    let pool = ConnectionPool::open(file).await?;
    let mut connection = pool.get().await?;
    connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)", ()).await?;
    connection.execute_batch("BEGIN").await?;
    for id in 0..ROWS {
        connection.execute("INSERT INTO entries VALUES (?1, ?2)", (id, id + 1)).await?;
    }
    connection.execute_batch("COMMIT").await?;
    drop(connection);
    pool.close().await;
    Ok(())
}

async fn pooled(pool: &ConnectionPool, id: i64) -> poolproof::Result<i64> {
    let mut connection = pool.get().await?;
    let mut rows = connection.query(QUERY, (id,)).await?;
    rows.next().await?.expect("the row is there").get(0)
}

async fn raw(statement: &mut turso::Statement, id: i64) -> turso::Result<i64> {
    let mut rows = statement.query((id,)).await?;
    let value = rows.next().await?.expect("the row is there").get(0);
    drop(rows);
    // As the pool does: otherwise the statement's read transaction stays open.
    statement.reset()?;
    value
}

/// Keys far from each other, all of them in the end.
struct Keys(Cell<i64>);

impl Keys {
    fn next(&self) -> i64 {
        self.0.set((self.0.get() + 7919) % ROWS);
        self.0.get()
    }
}

fn check(id: i64, value: i64) {
    assert_eq!(value, id + 1, "another row's value");
}

#[expect(clippy::await_holding_refcell_ref, reason = "one task runs one statement after the other")]
fn benches(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("bench.db");
    let name = file.to_str().expect("a name in UTF-8");
    runtime.block_on(fill(&file)).expect("the file can be filled");

    let keys = Keys(Cell::new(0));
    let mut group = criterion.benchmark_group("statement: a row by its key");
    brief_samples(&mut group);
    let caching = runtime.block_on(ConnectionPool::open(&file)).expect("the file opens");
    group.bench_function("poolproof", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let id = keys.next();
            check(id, pooled(&caching, id).await.expect("the pool answers"));
        });
    });

    let connection = runtime.block_on(async { turso::Builder::new_local(name).build().await?.connect() });
    let connection = connection.expect("the file opens");
    let prepared = RefCell::new(runtime.block_on(connection.prepare(QUERY)).expect("the query is one"));
    group.bench_function("engine, prepared once", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let id = keys.next();
            check(id, raw(&mut prepared.borrow_mut(), id).await.expect("the engine answers"));
        });
    });
    group.bench_function("engine, prepared each time", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let id = keys.next();
            let mut statement = connection.prepare(QUERY).await.expect("the query is one");
            check(id, raw(&mut statement, id).await.expect("the engine answers"));
        });
    });

    let uncached = runtime.block_on(ConnectionPool::builder(&file).statement_cache(0).build()).expect("the file opens");
    group.bench_function("poolproof, no cache", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let id = keys.next();
            check(id, pooled(&uncached, id).await.expect("the pool answers"));
        });
    });
    group.finish();
}

criterion_group!(statement, benches);
criterion_main!(statement);
