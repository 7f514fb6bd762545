//! What a get and a drop cost, beside deadpool, bb8 and a bare semaphore, in one run.
//!
//! `uncontended`: one task on a warm pool. `64 on 10`: 64 tasks on two threads share 10 connections, each yielding once
//! while it holds one, so that most of them wait; the time is for one get and drop.

use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use poolproof::Pool;
use poolproof_benches::{Bare, Nothing, Peer};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

fn every_peer(criterion: &mut Criterion, name: &str, measure: impl Measure) {
    let mut group = criterion.benchmark_group(name);
    measure.peer::<Pool<Nothing>>(&mut group);
    measure.peer::<deadpool::managed::Pool<Nothing>>(&mut group);
    measure.peer::<bb8::Pool<Nothing>>(&mut group);
    measure.peer::<Bare>(&mut group);
    group.finish();
}

trait Measure {
    fn peer<P: Peer>(&self, group: &mut BenchmarkGroup<'_, WallTime>);
}

struct Uncontended;

impl Measure for Uncontended {
    fn peer<P: Peer>(&self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = runtime();
        let pool = runtime.block_on(P::open());
        group.bench_function(P::NAME, |bencher| {
            bencher.to_async(&runtime).iter(|| async { drop(pool.get().await) });
        });
    }
}

struct Contended {
    tasks: u64,
}

impl Measure for Contended {
    fn peer<P: Peer>(&self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = runtime();
        let pool = runtime.block_on(P::open());
        group.bench_function(P::NAME, |bencher| {
            bencher.to_async(&runtime).iter_custom(|iterations| {
                let pool = pool.clone();
                async move { contend(&pool, self.tasks, iterations).await }
            });
        });
    }
}

/// The time that `iterations` gets and drops of all tasks together took.
async fn contend<P: Peer>(pool: &P, tasks: u64, iterations: u64) -> Duration {
    let began = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let pool = pool.clone();
            let share = iterations / tasks + u64::from(task < iterations % tasks);
            tokio::spawn(async move {
                for _ in 0..share {
                    let guard = pool.get().await;
                    tokio::task::yield_now().await;
                    drop(guard);
                }
            })
        })
        .collect();
    for task in running {
        task.await.expect("nothing panics");
    }
    began.elapsed()
}

fn benches(criterion: &mut Criterion) {
    every_peer(criterion, "pool: get + drop, uncontended", Uncontended);
    every_peer(criterion, "pool: get + drop, 64 tasks on 10", Contended { tasks: 64 });
}

criterion_group!(pool, benches);
criterion_main!(pool);
