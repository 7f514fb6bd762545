//! Callers that do the same thing again and again, each as soon as its last call resolved or after a rest, until they are told
//! to stop.
//!
//! Their pace is the time from one completion to another while all of them go on, by the operations between the two.
//! Starting them, and waiting for the last of them, is not in it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinSet;

/// No operation takes so long.
const LONGEST: Duration = Duration::from_secs(60);

/// Of times in nanoseconds.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("sensible bounds")
}

/// The rest of that number, of 0 to 10 ms, evenly spread: multiples of the golden ratio modulo 1.
fn rest(draw: u64) -> Duration {
    let part = draw.wrapping_mul(0x9E37_79B9_7F4A_7C15) as f64 / u64::MAX as f64;
    Duration::from_millis(10).mul_f64(part)
}

/// What callers do. Each has a clone of it for as long as it lives.
pub trait Operation: Clone + Send + Sync + 'static {
    /// Once, by the caller of this number.
    fn run(&self, caller: u64) -> impl Future<Output = ()> + Send;
}

impl<F, R> Operation for F
where
    F: Fn(u64) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    fn run(&self, caller: u64) -> impl Future<Output = ()> + Send {
        self(caller)
    }
}

/// Tasks that do the same thing. Dropped, they are aborted, and gone.
#[derive(Debug)]
pub struct Crowd {
    runtime: Handle,
    tasks: JoinSet<Option<Histogram<u64>>>,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    stop: AtomicBool,
    completed: AtomicU64,
    /// Whether somebody waits for a completion; the lock says who.
    watched: AtomicBool,
    watcher: Mutex<Option<mpsc::Sender<Moment>>>,
}

/// When an operation was completed, and which.
type Moment = (Instant, u64);

impl Progress {
    fn completed(&self) {
        let count = self.completed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.watched.load(Ordering::Acquire)
            && let Some(watcher) = self.watcher().take()
        {
            self.watched.store(false, Ordering::Relaxed);
            // Nobody listens only if the bench has panicked.
            let _ = watcher.send((Instant::now(), count));
        }
    }

    fn watcher(&self) -> MutexGuard<'_, Option<mpsc::Sender<Moment>>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crowd {
    /// So many callers on `runtime`, each repeating `operation`.
    pub fn start(runtime: &Runtime, callers: u64, operation: impl Operation) -> Self {
        Self::spawn(runtime, callers, operation, || None, |_| None)
    }

    /// The same, and each takes the time of every operation for [`Crowd::stop`].
    pub fn start_timed(runtime: &Runtime, callers: u64, operation: impl Operation) -> Self {
        Self::spawn(runtime, callers, operation, || Some(histogram()), |_| None)
    }

    /// The same, and each rests before every operation, which is not in its time: 5 ms on average, for they have other things
    /// to do. No two rests are alike, or all callers would march in step.
    pub fn start_resting(runtime: &Runtime, callers: u64, operation: impl Operation) -> Self {
        Self::spawn(runtime, callers, operation, || Some(histogram()), |draw| Some(rest(draw)))
    }

    fn spawn(
        runtime: &Runtime,
        callers: u64,
        operation: impl Operation,
        times: fn() -> Option<Histogram<u64>>,
        rest: fn(u64) -> Option<Duration>,
    ) -> Self {
        let progress = Arc::<Progress>::default();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (progress, operation) = (Arc::clone(&progress), operation.clone());
            let repeat = async move {
                let (mut times, mut draw) = (times(), caller);
                while !progress.stop.load(Ordering::Relaxed) {
                    if let Some(rest) = rest(draw) {
                        draw += callers;
                        tokio::time::sleep(rest).await;
                    }
                    match &mut times {
                        None => operation.run(caller).await,
                        Some(times) => {
                            let began = Instant::now();
                            operation.run(caller).await;
                            times.saturating_record(began.elapsed().as_nanos() as u64);
                        }
                    }
                    progress.completed();
                }
                times
            };
            tasks.spawn_on(repeat, runtime.handle());
        }
        Self { runtime: runtime.handle().clone(), tasks, progress }
    }

    /// Waits for the next completion.
    fn next(&self) -> Moment {
        let (watcher, moment) = mpsc::channel();
        *self.progress.watcher() = Some(watcher);
        self.progress.watched.store(true, Ordering::Release);
        moment.recv_timeout(LONGEST).expect("the callers go on")
    }

    /// The time of an operation in nanoseconds, all callers together, over `long` from now.
    ///
    /// # Panics
    /// If no operation completes for a minute.
    #[must_use]
    pub fn pace(&self, long: Duration) -> f64 {
        self.until(|_| sleep(long))
    }

    /// The same over so many operations, or a few more.
    ///
    /// # Panics
    /// If no operation completes for a minute.
    #[must_use]
    pub fn pace_of(&self, operations: u64) -> f64 {
        self.until(|first| {
            while self.progress.completed.load(Ordering::Relaxed) < first + operations {
                sleep(Duration::from_millis(1));
            }
        })
    }

    fn until(&self, wait: impl FnOnce(u64)) -> f64 {
        let (began, first) = self.next();
        wait(first);
        let (ended, last) = self.next();
        (ended - began).as_nanos() as f64 / (last - first) as f64
    }

    /// Lets each caller end its operation; the times that they took, if it was started so.
    pub fn stop(mut self) -> Histogram<u64> {
        self.progress.stop.store(true, Ordering::Relaxed);
        let mut all = histogram();
        self.runtime.block_on(async {
            while let Some(times) = self.tasks.join_next().await {
                if let Some(times) = times.expect("nothing panics") {
                    all.add(times).expect("the same bounds");
                }
            }
        });
        all
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // A task whose operations never wait for anything cannot be aborted.
        self.progress.stop.store(true, Ordering::Relaxed);
        self.runtime.block_on(self.tasks.shutdown());
    }
}
