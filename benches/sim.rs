//! What a schedule costs in the simulated world: a fresh database, 4 tasks of 10 statements each, and the checks after them.
//!
//! Beside it the engine alone: the same connections and statements one after the other, on the engine's own disk in memory,
//! with no scheduler, no pool and no writer. What lies between the two is mostly the engine's, too: a pool's connections,
//! each with settings of its own and a catalogue that it builds anew.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use poolproof::harness::sim::{Sim, World};
use poolproof::{Error, Result};

const TASKS: i64 = 4;
const STATEMENTS: i64 = 10;
const SCHEMA: &str = "CREATE TABLE counts (task INTEGER PRIMARY KEY, n INTEGER)";
const ROW: &str = "INSERT INTO counts VALUES (?1, 0)";
const COUNT: &str = "UPDATE counts SET n = n + 1 WHERE task = ?1";
const SUM: &str = "SELECT SUM(n) FROM counts";
const CHECK: &str = "PRAGMA integrity_check";

async fn schedule(world: World) -> Result<()> {
    let db = world.open("t.db").await?;
    db.execute(SCHEMA, ()).await?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let db = db.clone();
            world.spawn(format!("client-{task}"), async move {
                db.execute(ROW, (task,)).await?;
                for _ in 1..STATEMENTS {
                    db.execute(COUNT, (task,)).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("nothing panics")?;
    }
    let mut connection = db.pool().get().await?;
    let sum: i64 = {
        let mut rows = connection.query(SUM, ()).await?;
        rows.next().await?.expect("a sum").get(0)?
    };
    let check: String = {
        let mut rows = connection.query(CHECK, ()).await?;
        rows.next().await?.expect("a verdict").get(0)?
    };
    assert_eq!((sum, check.as_str()), (TASKS * (STATEMENTS - 1), "ok"));
    Ok(())
}

/// The same on the engine alone.
async fn engine_alone() -> turso::Result<()> {
    let io: Arc<dyn turso::core::IO> = Arc::new(turso::core::MemoryIO::new());
    let database = turso::Builder::new_local("t.db").with_io_impl(io).build().await?;
    let writer = database.connect()?;
    writer.execute("PRAGMA synchronous = FULL", ()).await?;
    writer.execute("PRAGMA temp_store = MEMORY", ()).await?;
    writer.execute(SCHEMA, ()).await?;
    for task in 0..TASKS {
        writer.execute(ROW, (task,)).await?;
        for _ in 1..STATEMENTS {
            writer.execute(COUNT, (task,)).await?;
        }
    }
    let reader = database.connect()?;
    for sql in [SUM, CHECK] {
        let mut rows = reader.query(sql, ()).await?;
        rows.next().await?.expect("a row");
    }
    Ok(())
}

/// So many schedules for each that is measured, when two jobs share them.
const SHARED: u64 = 16;

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sim: a schedule of 4 tasks x 10 statements");
    let mut seed = 0;
    group.bench_function("poolproof", |bencher| {
        bencher.iter(|| {
            seed += 1;
            Sim::new().seeds(seed..seed + 1).check(schedule);
        });
    });
    group.bench_function("poolproof, 2 jobs", |bencher| {
        bencher.iter_custom(|schedules| {
            // One is nothing to share.
            let began = std::time::Instant::now();
            let report = Sim::new().seeds(0..schedules * SHARED).jobs(2).run(schedule);
            assert!(report.found.is_empty());
            began.elapsed() / SHARED as u32
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    group.bench_function("the engine alone", |bencher| {
        bencher.iter(|| runtime.block_on(engine_alone()).expect("nothing fails in memory"));
    });
}

criterion_group! { name = all; config = Criterion::default(); targets = benches }
criterion_main!(all);
