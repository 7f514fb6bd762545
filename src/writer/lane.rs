//! The lane: one task, one connection, batches of writes.
//!
//! A WAL database has one write lock. Whoever wants to write queues here instead of fighting for it, so none of
//! them sees `database is locked`, and those who queue share a commit and its fsync ([`batch`](super::batch)). The lane runs where
//! its polls hold up nobody ([`executor`](super::executor)).

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::watch;

use super::batch::{self, Batch};
use super::claim::Claim;
use super::config::Mode;
use super::door::Shared;
use super::files::Files;
use super::wal::{self, Checkpoints};
use crate::catch::{contain, outlive};
use crate::error::{Error, Result};
use crate::pool::{ConnectionPool, PooledConnection, clock};

/// The way into a lane. When the last one is dropped, the lane ends after what is queued.
#[derive(Debug)]
pub(super) struct Lane {
    shared: Arc<Shared>,
    /// Its sender is dropped when the lane has let go of its connection.
    ended: watch::Receiver<()>,
}

impl Lane {
    /// Starts the lane of `pool`, which writes through a connection of its own for as long as it lives.
    ///
    /// # Errors
    /// [`Error::Config`] if the operating system gives no thread; what
    /// [`ConnectionPool::get`] returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, a lane that was started ends by itself.
    pub(super) async fn start(pool: &ConnectionPool, shared: Arc<Shared>, claim: Claim) -> Result<Self> {
        let connection = pool.get().await?;
        connection.is_the_lanes();
        claim.is_for(&shared);
        shared.wal.look(&*shared.executor);
        let (alive, ended) = watch::channel(());
        let files = Files::of(pool, Mode::Wal, &shared.executor)?;
        let works = Works { queue: Refuses(Arc::clone(&shared)), connection, _claim: claim, _alive: alive };
        let task = Box::new(move || Box::pin(work(works, files)) as _);
        shared.executor.lane(task).map_err(|error| Error::Config {
            field: "the writer's thread",
            problem: format!("cannot be started: {error}; allow this process more threads"),
        })?;
        Ok(Self { shared, ended })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Resolves when the lane's connection is back in the pool.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Whether the lane has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What the lane has. However it ends, even by a panic, it lets go of it in this order: what is queued is refused, the
/// connection goes back, the pool may have another lane, whoever waits for the end knows.
struct Works {
    queue: Refuses,
    connection: PooledConnection,
    _claim: Claim,
    /// Whoever waits for the end has the other half.
    _alive: watch::Sender<()>,
}

/// Dropped, it closes the queue, and nobody waits for the lane any more.
struct Refuses(Arc<Shared>);

impl Drop for Refuses {
    fn drop(&mut self) {
        self.0.close();
        self.0.refuse_the_rest();
    }
}

async fn work(mut works: Works, files: Files) {
    let Works { queue: Refuses(shared), connection, .. } = &mut works;
    let mut checkpoints = Checkpoints::default();
    let mut batches = Batch::new(shared, files);
    loop {
        batches.linger().await;
        let job = poll_fn(|context| shared.queue.poll_job(context));
        let there_is_one = match checkpoints.is_due() {
            true => clock::within(shared.config.checkpoint_idle, job).await,
            false => Some(job.await),
        };
        match there_is_one {
            Some(true) => {}
            // It ends. What is not copied is in the log, safe, for whoever opens the database next.
            Some(false) => break,
            None => {
                outlive(checkpoints.run(shared, connection)).await;
                batch::let_go(connection);
                continue;
            }
        }
        let before = shared.last_commit();
        batches.run_caught(connection).await;
        batch::let_go(connection);
        shared.rests();
        if shared.last_commit() != before && checkpoints.committed(shared) {
            outlive(checkpoints.run(shared, connection)).await;
            batch::let_go(connection);
        }
    }
    if wal::is_in_doubt(shared) {
        // A last time: whoever opens the file next could not know.
        outlive(wal::repair(shared, connection)).await;
    }
    // Guards may have written, too, and whoever was there before.
    if checkpoints.is_due() || shared.wal.has_something(&*shared.executor) {
        outlive(checkpoints.run(shared, connection)).await;
    }
}

/// Drops the engine's connection; it is damaged if that panics, but so is nothing else.
pub(super) fn discard(connection: &mut PooledConnection) {
    contain(|| connection.discard());
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::panic::Location;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tempfile::TempDir;
    use tokio::sync::Notify;

    use super::super::config::WriterConfig;
    use super::super::door::Manner;
    #[cfg(feature = "cache")]
    use super::super::executor::Wait;
    use super::super::executor::{Executor, FileStatus, Task, Threads};
    use super::super::job::{Closure, Job, Kind};
    use super::super::wal::Wal;
    use super::*;
    use crate::catch::message;
    use crate::pool::Transaction;

    /// Real threads, on which a look at a file panics when it is told to.
    #[derive(Debug, Default)]
    struct Panics(AtomicBool);

    impl Executor for Panics {
        fn lane(&self, lane: Task) -> io::Result<()> {
            Threads::default().lane(lane)
        }

        fn read(&self, read: Task) {
            Threads::default().read(read);
        }

        #[cfg(feature = "cache")]
        fn wait(&self, wait: Wait) {
            Threads::default().wait(wait);
        }

        fn file(&self, path: &Path) -> Option<FileStatus> {
            assert!(!self.0.swap(false, Ordering::SeqCst), "the look panics");
            Threads::default().file(path)
        }
    }

    /// A thread that ends when it is told to, whatever the lane is at.
    #[derive(Debug, Default)]
    struct Dies(Arc<Notify>);

    impl Executor for Dies {
        fn lane(&self, lane: Task) -> io::Result<()> {
            let dies = Arc::clone(&self.0);
            std::thread::Builder::new().spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        () = lane() => {}
                        () = dies.notified() => {}
                    }
                });
            })?;
            Ok(())
        }

        fn read(&self, read: Task) {
            Threads::default().read(read);
        }

        #[cfg(feature = "cache")]
        fn wait(&self, wait: Wait) {
            Threads::default().wait(wait);
        }

        fn file(&self, path: &Path) -> Option<FileStatus> {
            Threads::default().file(path)
        }
    }

    /// A database with a table `t`.
    async fn database() -> (ConnectionPool, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
        pool.get().await.unwrap().execute("CREATE TABLE t (x)", ()).await.unwrap();
        (pool, folder)
    }

    /// A lane that runs on `executor`.
    async fn lane(pool: &ConnectionPool, executor: Arc<dyn Executor>) -> Lane {
        let wal = Wal::new(pool.path(), 4096);
        let claim = Claim::of(pool, &*executor).await.unwrap();
        let shared = Arc::new(Shared::new(WriterConfig::default(), wal, executor));
        Lane::start(pool, shared, claim).await.unwrap()
    }

    /// Writes by a closure.
    async fn write<F>(lane: &Lane, work: F) -> Result<u64>
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<u64> + Send + 'static,
    {
        let (closure, answer) = Closure::new(work);
        let (kind, manner) = (Kind::Work(Box::new(closure)), Manner::default());
        let job = Box::new(Job {
            kind,
            priority: manner.priority,
            site: Location::caller(),
            came: clock::now(),
            due: None,
            counted: None,
            claim: None,
        });
        lane.shared().enter(manner, false).await?;
        let answer = lane.shared().queue(job, answer)?.answer().await;
        answer.unwrap_or_else(|panic| panic!("{}", message(&*panic))).map(|ack| ack.value)
    }

    const INSERT: &str = "INSERT INTO t VALUES (1)";

    #[tokio::test]
    async fn whoever_a_panic_meets_in_its_commit_is_told_that_nobody_knows_and_counted() {
        let (pool, _folder) = database().await;
        let executor = Arc::new(Panics::default());
        let lane = lane(&pool, Arc::clone(&executor) as _).await;
        let shared = lane.shared();
        // The first look at a file after it panics: the one between its commit and its answer.
        let outcome = write(&lane, async move |tx| {
            let rows = tx.execute(INSERT, ()).await;
            executor.0.store(true, Ordering::SeqCst);
            rows
        });
        let outcome = outcome.await;
        assert!(matches!(&outcome, Err(Error::Unknown { cause }) if cause.to_string().contains("the look panics")));
        assert!(shared.wal.status().in_doubt, "nobody knows what the disk has of it");
        assert_eq!(write(&lane, async |tx| tx.execute(INSERT, ()).await).await.unwrap(), 1);
        let status = shared.counts.status();
        assert_eq!((status.unknown, status.committed, shared.wal.status().in_doubt), (1, 1, false));
        shared.close();
        lane.ended().await;
    }

    #[tokio::test]
    async fn whoever_runs_when_the_lane_dies_is_told_that_nobody_knows_and_whoever_waits_that_nothing_was_written() {
        let (pool, _folder) = database().await;
        let executor = Dies::default();
        let dies = Arc::clone(&executor.0);
        let dying = lane(&pool, Arc::new(executor)).await;
        let running = write(&dying, async move |tx| {
            tx.execute(INSERT, ()).await?;
            dies.notify_one();
            std::future::pending().await
        });
        let waiting = async {
            while dying.shared().running().is_none() {
                tokio::task::yield_now().await;
            }
            write(&dying, async |tx| tx.execute(INSERT, ()).await).await
        };
        let (ran, waited) = tokio::join!(running, waiting);
        assert!(matches!(&ran, Err(Error::Unknown { cause }) if matches!(**cause, Error::Closed)), "{ran:?}");
        assert!(matches!(&waited, Err(Error::RolledBack { cause }) if matches!(**cause, Error::Closed)), "{waited:?}");
        dying.ended().await;

        // It let go of the lock and of the file.
        let next = lane(&pool, Arc::new(Threads::default())).await;
        let rows = write(&next, async |tx| {
            let mut rows = tx.query("SELECT COUNT(*) FROM t", ()).await?;
            rows.next().await?.expect("COUNT gives a row").get(0)
        });
        assert_eq!(rows.await.unwrap(), 0);
    }
}
