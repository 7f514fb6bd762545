//! What a get and a drop cost, beside other pools and a bare semaphore, in one run.
//!
//! `uncontended`: one task on a warm pool. `64 tasks on 10` and the like: so many tasks on two threads share 10
//! connections, each yielding once while it holds one, so that most of them wait; the time is for one get and drop.

use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main, measurement::WallTime};
use poolproof::Pool;
use poolproof_benches::peers::{bare::Bare, deadpool};
use poolproof_benches::{Nothing, Peer, brief_samples, runtime};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

trait Measure {
    fn peer<P: Peer>(&self, group: &mut Group<'_>);

    /// r2d2, which knows no tasks.
    #[cfg(feature = "peers")]
    fn threads(&self, group: &mut Group<'_>);

    /// The two that are compared from row to row stand side by side, so that both meet the machine in the same mood.
    fn ours_and_deadpool(&self, group: &mut Group<'_>) {
        self.peer::<Pool<Nothing>>(group);
        self.peer::<deadpool::Limited>(group);
    }

    fn everybody(&self, group: &mut Group<'_>) {
        self.ours_and_deadpool(group);
        self.peer::<bb8::Pool<Nothing>>(group);
        self.peer::<deadpool::Unlimited>(group);
        self.peer::<Bare>(group);
        #[cfg(feature = "peers")]
        {
            self.peer::<mobc::Pool<Nothing>>(group);
            self.threads(group);
        }
    }
}

struct Uncontended;

impl Measure for Uncontended {
    fn peer<P: Peer>(&self, group: &mut Group<'_>) {
        let runtime = runtime();
        let pool = runtime.block_on(P::open());
        group.bench_function(P::NAME, |bencher| {
            bencher.to_async(&runtime).iter(|| async { drop(pool.get().await) });
        });
    }

    #[cfg(feature = "peers")]
    fn threads(&self, group: &mut Group<'_>) {
        use poolproof_benches::peers::r2d2;
        let pool = r2d2::open();
        group.bench_function(r2d2::NAME, |bencher| bencher.iter(|| r2d2::lend(&pool)));
    }
}

struct Contended {
    tasks: u64,
}

impl Measure for Contended {
    fn peer<P: Peer>(&self, group: &mut Group<'_>) {
        let runtime = runtime();
        let pool = runtime.block_on(P::open());
        group.bench_function(P::NAME, |bencher| {
            bencher.to_async(&runtime).iter_custom(|iterations| contend(&pool, self.tasks, iterations));
        });
    }

    #[cfg(feature = "peers")]
    fn threads(&self, group: &mut Group<'_>) {
        use poolproof_benches::peers::r2d2;
        let pool = r2d2::open();
        group.bench_function(r2d2::NAME, |bencher| {
            bencher.iter_custom(|iterations| r2d2::contend(&pool, self.tasks, iterations));
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
    let mut group = criterion.benchmark_group("pool: get + drop, uncontended");
    brief_samples(&mut group);
    Uncontended.everybody(&mut group);
    group.finish();

    // From 1 who waits to 502.
    for tasks in [11, 26, 64, 128, 512] {
        let mut group = criterion.benchmark_group(format!("pool: get + drop, {tasks} tasks on 10"));
        // Few samples, all as long: in each, every task comes many times, and starting the tasks does not count.
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        match tasks {
            64 | 512 => Contended { tasks }.everybody(&mut group),
            _ => Contended { tasks }.ours_and_deadpool(&mut group),
        }
        group.finish();
    }
}

criterion_group!(pool, benches);
criterion_main!(pool);
