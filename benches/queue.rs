//! What waiting costs when many wait already: joining the queue, leaving it from the middle, and being handed a connection
//! and woken, with 100, 1,000 and 10,000 others in the queue. The futures are polled by hand, so that no runtime's cost
//! is in it; one connection is handed from each to the next.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use poolproof::{Pool, PoolConfig, Pooled};
use poolproof_benches::{Nothing, brief_samples, runtime};

/// So many steps are timed at once: reading the clock costs as much as one of them.
const STEPS: u64 = 50;

type Getting<'p> = Pin<Box<dyn Future<Output = Pooled<Nothing>> + Send + 'p>>;

/// Counts how often somebody was woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pool whose one connection is held, and who waits for it, the oldest first.
struct Line<'p> {
    pool: &'p Pool<Nothing>,
    held: Option<Pooled<Nothing>>,
    waiting: VecDeque<Getting<'p>>,
    woken: Arc<Woken>,
    waker: Waker,
}

impl<'p> Line<'p> {
    fn new(pool: &'p Pool<Nothing>, length: usize) -> Self {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut line = Self { pool, held: None, waiting: VecDeque::new(), woken, waker };
        line.held = match poll(&line.waker, &mut line.newcomer()) {
            Poll::Ready(guard) => Some(guard),
            Poll::Pending => unreachable!("nothing is held yet, and connecting is immediate"),
        };
        line.lengthen(length);
        line
    }

    fn newcomer(&self) -> Getting<'p> {
        let pool = self.pool;
        Box::pin(async { pool.get().await.expect("nothing can fail") })
    }

    /// Newcomers join until `length` wait.
    fn lengthen(&mut self, length: usize) {
        while self.waiting.len() < length {
            let mut newcomer = self.newcomer();
            assert!(poll(&self.waker, &mut newcomer).is_pending());
            self.waiting.push_back(newcomer);
        }
        assert_eq!(self.pool.status().waiting, length);
    }

    /// `steps` newcomers join, and leave once the time was taken.
    fn join(&mut self, steps: u64) -> Duration {
        let mut newcomers: Vec<_> = (0..steps).map(|_| self.newcomer()).collect();
        let began = Instant::now();
        for newcomer in &mut newcomers {
            assert!(poll(&self.waker, newcomer).is_pending());
        }
        began.elapsed()
    }

    /// `steps` leave from the middle. As many join at the end once the time was taken.
    fn leave(&mut self, steps: u64) -> Duration {
        let length = self.waiting.len();
        let first = (length - steps as usize) / 2;
        let leaving: Vec<_> = self.waiting.drain(first..first + steps as usize).collect();
        let began = Instant::now();
        drop(leaving);
        let time = began.elapsed();
        self.lengthen(length);
        time
    }

    /// The oldest is handed the connection, is woken and takes it, `steps` times. As many join at the end once the time
    /// was taken.
    fn hand_over(&mut self, steps: u64) -> Duration {
        let length = self.waiting.len();
        let mut oldest: Vec<_> = self.waiting.drain(..steps as usize).collect();
        let woken_before = self.woken.0.load(Ordering::Relaxed);
        let began = Instant::now();
        for waiter in &mut oldest {
            drop(self.held.take());
            match poll(&self.waker, waiter) {
                Poll::Ready(guard) => self.held = Some(guard),
                Poll::Pending => unreachable!("the oldest was handed the connection"),
            }
        }
        let time = began.elapsed();
        assert_eq!(self.woken.0.load(Ordering::Relaxed) - woken_before, steps, "one is woken by each hand-over");
        self.lengthen(length);
        time
    }
}

fn poll(waker: &Waker, getting: &mut Getting<'_>) -> Poll<Pooled<Nothing>> {
    getting.as_mut().poll(&mut Context::from_waker(waker))
}

/// The time of `iterations` steps, however many are timed at once.
fn in_portions(mut iterations: u64, mut steps: impl FnMut(u64) -> Duration) -> Duration {
    let mut time = Duration::ZERO;
    while iterations > 0 {
        let portion = iterations.min(STEPS);
        time += steps(portion);
        iterations -= portion;
    }
    time
}

type Step = fn(&mut Line<'_>, u64) -> Duration;

fn benches(criterion: &mut Criterion) {
    let runtime = runtime();
    // Whoever waits first sets the alarm for all, in this runtime. Nobody is to run out of time while others are measured.
    let _entered = runtime.enter();
    let config = PoolConfig { max_connections: 1, acquire_timeout: Duration::from_secs(3600), ..PoolConfig::default() };
    let steps: [(&str, Step); 3] = [
        ("join", |line, steps| line.join(steps)),
        ("leave", |line, steps| line.leave(steps)),
        ("hand over", |line, steps| line.hand_over(steps)),
    ];
    for (name, step) in steps {
        for length in [100, 1_000, 10_000] {
            let pool = Pool::new(Nothing, config.clone()).expect("a valid configuration");
            let mut line = Line::new(&pool, length);
            let mut group = criterion.benchmark_group(format!("queue: {name}, {length} waiting"));
            brief_samples(&mut group);
            group.bench_function("poolproof", |bencher| {
                bencher.iter_custom(|iterations| in_portions(iterations, |portion| step(&mut line, portion)));
            });
            group.finish();
        }
    }
}

criterion_group!(queue, benches);
criterion_main!(queue);
