//! What a check does in a world: open databases, start tasks, lose power, ask for numbers.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;

use super::decisions::{About, Actor, below};
use super::faults::Faults;
use super::io::Machine;
use super::scheduler::Injected;
use super::state::{Shared, Spawn};
use super::trace::What;
use crate::catch::catch;
use crate::error::Result;
use crate::pool::{ConnectionPool, ConnectionPoolBuilder};
#[cfg(feature = "cache")]
use crate::writer::Wait;
use crate::writer::{Executor, FileStatus, PooledDatabaseWriter, Task, WriterConfig};

/// One simulated world: a machine with a disk, a clock and a process whose tasks run one at a time. A clone is another
/// handle to the same world.
#[derive(Clone)]
pub struct World {
    pub(super) shared: Arc<Shared>,
    seed: u64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now", &self.now()).finish_non_exhaustive()
    }
}

/// The power failed: everything that ran is gone, and of the disk what survived is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the power failed")]
pub struct Crashed;

/// A task that ended before it was done: it panicked as it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task is gone")]
pub struct Gone;

impl World {
    pub(super) fn new(shared: Arc<Shared>, seed: u64) -> Self {
        Self { shared, seed }
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The world's time since it began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    /// A pool on a database of this world's disk.
    pub fn pool(&self, name: &str) -> ConnectionPoolBuilder {
        ConnectionPool::builder(self.path(name)).io(self.io())
    }

    /// A writer, and its pool, on a database of this world's disk.
    ///
    /// # Errors
    /// As for [`PooledDatabaseWriter::open`].
    ///
    /// # Cancel safety
    /// As for [`PooledDatabaseWriter::open`].
    pub async fn open(&self, name: &str) -> Result<PooledDatabaseWriter> {
        self.writer(self.pool(name).build().await?, WriterConfig::default()).await
    }

    /// The production writer on a pool of this world. Its lane and its reads are tasks here instead of threads.
    ///
    /// # Errors
    /// As for [`PooledDatabaseWriter::with_config`].
    ///
    /// # Cancel safety
    /// As for [`PooledDatabaseWriter::with_config`].
    pub async fn writer(&self, pool: ConnectionPool, config: WriterConfig) -> Result<PooledDatabaseWriter> {
        self.watch(&pool);
        let executor = Tasks { shared: Arc::clone(&self.shared) };
        let db = PooledDatabaseWriter::with_executor(pool, config, Arc::new(executor)).await?;
        self.watch_writer(&db);
        Ok(db)
    }

    /// The disk, the clock and the random numbers of this life, for an engine that is opened without the pool. After a
    /// power failure it is of no use any more.
    #[must_use]
    pub fn io(&self) -> Arc<dyn turso::core::IO> {
        let life = self.shared.state().life;
        Machine::new(&self.shared, life)
    }

    /// Where a database is on this world's disk.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        format!("/sim/{name}")
    }

    /// Starts a task. Its name is what a report calls it: `client-1`.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        name: impl Into<String>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Joined<T> {
        let (reply, answer) = oneshot::channel();
        let make = Box::new(move || {
            Box::pin(async move {
                // Fails only if nobody waits for it.
                let _ = reply.send(work.await);
            }) as Pin<Box<dyn Future<Output = ()>>>
        });
        self.shared.spawn(Spawn { name: name.into(), of: None, site: Some(Location::caller()), make });
        Joined(answer)
    }

    /// Waits, in the world's time. For an hour at most at once: if nobody else can go on for longer, that is a
    /// [deadlock](crate::harness::sim::FailureKind::Deadlock).
    ///
    /// # Cancel safety
    /// It may be dropped.
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// A number below `bound`, by the seed. A failure is told with numbers as small as it takes.
    ///
    /// # Panics
    /// Unless `bound` is from 1 to 2^32 - 1.
    #[must_use]
    pub fn random(&self, bound: u64) -> u64 {
        assert!(bound > 0 && bound < 1 << 32, "a number below {bound} cannot be drawn");
        let mut state = self.shared.state();
        let whose = Actor::task(state.current.unwrap_or_default());
        let number = state.decider.number(About::Number, whose, |rng| below(rng, bound));
        // An answer of a plan may be of another question by now.
        let number = number % bound;
        state.trace.drew(number);
        number
    }

    /// From 1 to `most`, by the seed: how many clients there are, how many operations each makes.
    ///
    /// # Panics
    /// If `most` is 0.
    #[must_use]
    pub fn up_to(&self, most: u64) -> u64 {
        1 + self.random(most)
    }

    /// From now on a panic that the pool, the writer or the harness catches is no failure: the check provokes some. Otherwise
    /// it is one, whatever became of it.
    pub fn lets_panics_be_caught(&self) {
        self.shared.state().lets_panics_be_caught = true;
    }

    /// Panics: in a closure, whose panic production code has to outlive and to hand on. No failure of the run.
    pub fn panics(&self) -> ! {
        self.sometimes("a closure that panics");
        resume_unwind(Box::new(Injected))
    }

    /// Runs `work`; `None` if a panic that a closure was [told](World::panics) to have came out of it. Any other goes on.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn catches<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match catch(work).await {
            Ok(output) => Some(output),
            Err(payload) if payload.is::<Injected>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }

    /// From now on nothing that `these` have a rate for happens by chance. A schedule that says so makes it happen all the
    /// same.
    pub fn leaves_out(&self, these: Faults) {
        let mut state = self.shared.state();
        state.faults = state.faults.without(these);
    }

    /// How often a call of the disk failed so far, or the power did.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.state().disk.failures
    }

    /// Whether the power failed in this very poll: whatever a caller is told in what is left of it may be about that.
    pub(crate) fn power_failed(&self) -> bool {
        self.shared.state().crashed
    }

    /// Says what the task just did, for whoever reads a failure: a semantic step, such as "read 3". What a task saw should
    /// be noted: it tells schedules apart.
    #[track_caller]
    pub fn note(&self, text: impl Into<String>) {
        let (now, text, site) = (self.shared.now(), text.into(), Location::caller());
        self.shared.watched().notes(&text, site);
        self.shared.state().notes(text, site, now);
    }

    /// This was seen. A campaign counts it.
    pub fn sometimes(&self, what: &'static str) {
        self.shared.state().sees(what);
    }

    /// Runs `work` until it is done or, if crashes are among the faults, the power fails. Then all tasks are gone, and the
    /// databases have to be opened again from what the disk has left.
    ///
    /// # Errors
    /// [`Crashed`].
    ///
    /// # Cancel safety
    /// Dropped half-way, so is `work`, and the power does not fail any more.
    pub async fn until_crash<T>(&self, work: impl Future<Output = T>) -> std::result::Result<T, Crashed> {
        let _prepared = Prepared::new(&self.shared);
        let mut work = Some(Box::pin(work));
        poll_fn(|context| {
            let mut polled = Poll::Pending;
            // The power may fail inside this very poll, where the engine waits on the spot.
            if !self.shared.state().crashed
                && let Some(work) = &mut work
            {
                match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
                    Ok(output) => polled = output.map(Ok),
                    // What the engine makes of a disk that is gone concerns nobody any more.
                    Err(payload) if self.shared.state().crashed => std::mem::forget(payload),
                    Err(payload) => resume_unwind(payload),
                }
            }
            if std::mem::take(&mut self.shared.state().crashed) {
                work = None;
                return Poll::Ready(Err(Crashed));
            }
            polled
        })
        .await
    }

    /// Runs `work`, and nothing fails meanwhile: for preparing, and for looking at what is there.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn calmly<T>(&self, work: impl Future<Output = T>) -> T {
        let _calm = Calm::new(&self.shared);
        work.await
    }

    /// Runs `work`, which is dropped at one of its polls if cancelled futures are among the faults. `None` if it was.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn cancellable<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = Some(Box::pin(work));
        poll_fn(|context| {
            if self.strikes(About::Cancel) {
                work = None;
                return Poll::Ready(None);
            }
            work.as_mut().expect("polled until it is ready").as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Runs `work`; the task panics at one of its polls, with `work` in its hands, if panicking tasks are among the faults.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn may_panic<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = Some(Box::pin(work));
        poll_fn(|context| {
            if self.strikes(About::Panic) {
                // Dropped while the stack is unwound, as the locals of a task are.
                let _dropped = work.take();
                std::panic::resume_unwind(Box::new(Injected));
            }
            work.as_mut().expect("polled until it is ready").as_mut().poll(context)
        })
        .await
    }

    fn strikes(&self, about: About) -> bool {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let actor = Actor::task(state.current.unwrap_or_default());
        let (rate, seen) = match about {
            About::Cancel => (state.faults().cancel, "a future that is dropped"),
            _ => (state.faults().panic, "a task that panics"),
        };
        let strikes = state.decider.happens(about, actor, rate);
        if strikes {
            state.sees(seen);
            if about == About::Cancel {
                state.event(actor, What::IsCancelled, &[], now);
            }
        }
        strikes
    }
}

/// Somebody is prepared for a power failure as long as it lives.
struct Prepared<'a>(&'a Shared);

impl<'a> Prepared<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.state().may_crash = true;
        Self(shared)
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        self.0.state().may_crash = false;
    }
}

/// Nothing fails as long as it lives.
struct Calm<'a>(&'a Shared);

impl<'a> Calm<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.state().calm += 1;
        Self(shared)
    }
}

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.state().calm -= 1;
    }
}

/// The end of a task.
#[derive(Debug)]
#[must_use = "a task runs whether or not it is waited for, but the check may end before it"]
pub struct Joined<T>(oneshot::Receiver<T>);

impl<T> Future for Joined<T> {
    type Output = std::result::Result<T, Gone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(pin!(&mut self.0).poll(context));
        Poll::Ready(answer.map_err(|_| Gone))
    }
}

/// The seam of the writer: lanes and reads as tasks of the world.
struct Tasks {
    shared: Arc<Shared>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}

impl Executor for Tasks {
    fn lane(&self, lane: Task) -> io::Result<()> {
        self.shared.spawn(Spawn { name: "lane".to_owned(), of: None, site: None, make: lane });
        Ok(())
    }

    fn read(&self, read: Task) {
        let of = self.shared.state().current;
        self.shared.spawn(Spawn { name: "read".to_owned(), of, site: None, make: read });
    }

    #[cfg(feature = "cache")]
    fn wait(&self, wait: Wait) {
        let of = self.shared.state().current;
        self.shared.spawn(Spawn { name: "miss".to_owned(), of, site: None, make: Box::new(move || wait) });
    }

    fn file(&self, path: &Path) -> Option<FileStatus> {
        let state = self.shared.state();
        let file = state.disk.find(path.to_str()?)?;
        Some(FileStatus { len: state.disk.len(file), identity: (0, file as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::sim::{Report, Sim};

    /// One run in which every write fails that may.
    fn writes_fail(check: impl AsyncFn(World) -> std::result::Result<(), String> + Sync) -> Report {
        Sim::new().seeds(0..1).faults(Faults { write: 1_000_000, ..Faults::NONE }).run(check)
    }

    #[test]
    fn what_is_left_out_does_not_happen_and_the_rest_is_counted() {
        let opens = |leaves_out: Faults, works: bool| {
            let report = writes_fail(async move |world| {
                world.leaves_out(leaves_out);
                let opens = async { world.open("t.db").await?.execute("CREATE TABLE t (x)", ()).await };
                match (opens.await.is_ok(), world.failures() == 0) {
                    (opened, calm) if opened == works && calm == works => Ok(()),
                    outcome => Err(format!("{outcome:?}")),
                }
            });
            assert!(report.found.is_empty(), "{}", report.found[0]);
        };
        opens(Faults::crashes(), false);
        opens(Faults::all(), true);
    }

    #[test]
    fn a_panic_on_purpose_is_caught_and_no_other() {
        let report = writes_fail(async |world| match world.catches(async { world.panics() }).await {
            None => Ok(()),
            Some(never) => never,
        });
        assert!(report.found.is_empty(), "{}", report.found[0]);
        let report = writes_fail(async |world| world.catches(async { panic!("dropped it") }).await.unwrap_or(Ok(())));
        assert!(report.found[0].failure.starts_with("a panic: dropped it at "), "{}", report.found[0]);
    }
}
