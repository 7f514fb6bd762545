//! The pooled writer: writes through one lane that shares commits, reads side by side from the pool.
//!
//! The rooms, from the bottom up: `queue` (who waits), `bounded` (and for room), `outcome` (what callers are told), `config`,
//! `status`, `executor` (where the lane and the reads run, `readers`), `files` (whether the files are where they were), `claim` (one
//! writer for one file), `wal` (checkpoints, and repair after a failed commit), `job` (one write), `door` (the way in),
//! `retry` (tries for a lock that is taken), `company` (who is likely to come next), `pace` (what would keep others for
//! long), `batch` (writes that share a commit), `lane` (the task that does the batches), `mvcc` (the other way, side by side),
//! `write`, `read`, `prepared`, `watched` (its numbers, for a simulated world), and this face.

mod batch;
mod bounded;
#[cfg(feature = "cache")]
mod cache;
mod claim;
mod company;
mod config;
mod door;
mod executor;
mod failing;
mod files;
mod job;
mod lane;
mod mvcc;
mod outcome;
mod pace;
mod prepared;
mod queue;
mod read;
mod readers;
mod retry;
mod status;
mod wal;
#[cfg(feature = "harness")]
mod watched;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "cache")]
pub use self::cache::{CacheStatus, CachedRows, Weigh};
use self::claim::Claim;
pub use self::config::{Mode, WriterConfig};
use self::door::{Manner, Shared};
use self::executor::Threads;
#[cfg(all(feature = "harness", feature = "cache"))]
pub(crate) use self::executor::Wait;
#[cfg(feature = "harness")]
pub(crate) use self::executor::{Executor, FileStatus, Task};
use self::lane::Lane;
use self::mvcc::{MVCC, SideBySide};
pub use self::outcome::{Ack, CloseReport, CommitToken, NotDone};
pub use self::prepared::Prepared;
pub use self::queue::Priority;
pub use self::status::WriterStatus;
use self::wal::Wal;
pub use self::wal::WalStatus;
#[cfg(feature = "harness")]
pub(crate) use self::watched::Watched;
use crate::error::{Error, Result};
use crate::pool::inside::is_inside_a_write;
use crate::pool::{ConnectionPool, clock};

/// Writes and reads of one database: all writes go through one lane, so none of them ever finds the database locked by
/// another, and those that wait at the same time share a commit and its fsync; reads run side by side on the pool's other
/// connections and never wait for a write, nor do writes wait for them.
///
/// # Outcomes
/// `Ok` means committed, and synced to disk under `synchronous = FULL`. An error is [`Error::RolledBack`]: certainly nothing was
/// written, and the call can be made again; or [`Error::Unknown`]: the disk failed in a commit, and only a look at the data
/// tells. The writer itself never makes a write again that may have been committed. A closure's own error is returned as it
/// is, and means that nothing was written.
///
/// # Order
/// First come, first served within a [priority](PooledDatabaseWriter::priority); at most 32 writes of normal priority overtake
/// the oldest background one. The queue is [bounded](WriterConfig::queue): callers beyond it wait for room, in order.
///
/// # Threads
/// The engine does its I/O inside `poll`, up to 134 ms for one commit. The lane has a thread of its own, and so has each read that
/// runs, as writes have in MVCC mode: no commit, no checkpoint and no query holds up a worker of the
/// runtime. What is done where it is awaited is opening: the database, when the writer is made, and a connection whenever the
/// pool has no idle one for a read, a write in MVCC mode, or [`prepare`](PooledDatabaseWriter::prepare), which also reads the
/// schema there.
///
/// A guard of [`pool`](PooledDatabaseWriter::pool) that writes itself competes with the lane, which then tries again, with
/// pauses, for [`retry_timeout`](WriterConfig::retry_timeout). Let the writer write.
///
/// A clone is another handle to the same writer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bank.db");
/// use poolproof::{Error, PooledDatabaseWriter};
///
/// let db = PooledDatabaseWriter::open(&path).await?;
/// db.execute("CREATE TABLE accounts (name TEXT, balance INTEGER)", ()).await?;
/// db.execute("INSERT INTO accounts VALUES ('ada', 10), ('bob', 0)", ()).await?;
///
/// // One transaction: committed if the closure returns Ok, rolled back if it returns Err or panics.
/// db.write(async |tx| {
///     tx.execute("UPDATE accounts SET balance = balance - 3 WHERE name = 'ada'", ()).await?;
///     tx.execute("UPDATE accounts SET balance = balance + 3 WHERE name = 'bob'", ()).await
/// })
/// .await?;
///
/// // One snapshot: both rows are of the same moment.
/// let total = db
///     .read(async |snapshot| {
///         let mut rows = snapshot.query("SELECT SUM(balance) FROM accounts", ()).await?;
///         let row = rows.next().await?.expect("a sum");
///         Ok::<i64, Error>(row.get(0)?)
///     })
///     .await?;
/// assert_eq!(total, 10);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PooledDatabaseWriter {
    pool: ConnectionPool,
    way: Arc<Way>,
    manner: Manner,
    #[cfg(feature = "cache")]
    cache: Option<Arc<cache::ReadCache>>,
}

/// How writes reach the database.
#[derive(Debug)]
enum Way {
    Lane(Lane),
    SideBySide(SideBySide),
}

impl Way {
    fn shared(&self) -> &Arc<Shared> {
        match self {
            Way::Lane(lane) => lane.shared(),
            Way::SideBySide(side_by_side) => side_by_side.shared(),
        }
    }

    /// Whoever comes later is refused.
    fn close(&self) {
        self.shared().close();
        if let Way::SideBySide(side_by_side) = self {
            side_by_side.gives_the_pool_back();
        }
    }
}

impl PooledDatabaseWriter {
    /// Opens the database at `path` with a pool and a writer of the default settings.
    ///
    /// # Errors
    /// As for [`ConnectionPoolBuilder::build`](crate::ConnectionPoolBuilder::build) and
    /// [`with_config`](PooledDatabaseWriter::with_config).
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing stays open.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(ConnectionPool::open(path).await?).await
    }

    /// A writer of the default settings on a pool of the caller's own. Its lane takes one connection for as long as it
    /// lives, the readers have the rest.
    ///
    /// # Errors
    /// As for [`with_config`](PooledDatabaseWriter::with_config).
    ///
    /// # Cancel safety
    /// Dropped half-way, the pool is as it was.
    pub async fn new(pool: ConnectionPool) -> Result<Self> {
        Self::with_config(pool, WriterConfig::default()).await
    }

    /// A writer of the caller's own settings, on a pool of the caller's own.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot work, a pool of fewer than 2 connections, a file that has a writer in this
    /// process already, on whatever pool (one that was closed or dropped, and still writes what was queued, is waited for),
    /// or a database in MVCC mode if the mode is another. What [`ConnectionPool::get`] returns.
    ///
    /// # Panics
    /// With [`Mode::Mvcc`] outside a tokio runtime, on a disk of the caller's own that takes its time.
    ///
    /// # Cancel safety
    /// Dropped half-way, the pool is as it was. With [`Mode::Mvcc`] the file may be in that mode already; if it is being switched,
    /// that goes on to its end, unobserved, and whoever opens the next writer on this pool waits for it.
    pub async fn with_config(pool: ConnectionPool, config: WriterConfig) -> Result<Self> {
        #[cfg(feature = "harness")]
        if crate::simulated::is_simulated() {
            let problem =
                "would be real, in a simulated world: open the writer by World::open or World::writer".to_owned();
            return Err(Error::Config { field: "the writer's threads", problem });
        }
        Self::with_executor(pool, config, Arc::new(Threads::default())).await
    }

    /// The same, with its lane and its reads where `executor` runs them.
    pub(crate) async fn with_executor(
        pool: ConnectionPool,
        config: WriterConfig,
        executor: Arc<dyn executor::Executor>,
    ) -> Result<Self> {
        config.validate()?;
        enough(&pool)?;
        if pool.is_read_only() {
            let problem = "is set, and a writer writes: read on the pool's guards, or open it without".to_owned();
            return Err(Error::Config { field: "read_only", problem });
        }
        let claim = Claim::of(&pool, &*executor).await?;
        let mode = config.mode;
        #[cfg(feature = "cache")]
        let cache = cache::ReadCache::of(&pool, config.cache);
        let mut connection = pool.get().await?;
        if mode == Mode::Wal && connection.journal_mode().await? == MVCC {
            let problem = "is Wal, and the database is in MVCC mode: choose Mvcc, or switch it back by a connection of turso's \
                           own (PRAGMA journal_mode = 'wal'), with nothing else open";
            return Err(Error::Config { field: "mode", problem: problem.to_owned() });
        }
        let wal = Wal::new(pool.path(), connection.page_size().await?);
        drop(connection);
        // It may have been resized meanwhile.
        enough(&pool)?;
        let shared = Arc::new(Shared::new(config, wal, executor));
        let way = Arc::new(match mode {
            Mode::Wal => Way::Lane(Lane::start(&pool, shared, claim).await?),
            Mode::Mvcc => Way::SideBySide(SideBySide::start(&pool, shared, claim).await?),
        });
        Ok(Self {
            pool,
            way,
            manner: Manner::default(),
            #[cfg(feature = "cache")]
            cache,
        })
    }

    /// A handle whose writes have to be started within `limit` of the call: waiting for room and for the turn together. One
    /// that is not is [rolled back](Error::RolledBack) with [`Error::Deadline`], at that time and not later. One that was
    /// started is waited for to its end, which [`batch_time`](WriterConfig::batch_time),
    /// [`write_timeout`](WriterConfig::write_timeout) and the disk bound.
    ///
    /// A limit of zero is "at once, or not at all": the write is run if every write before it is answered and nobody holds the
    /// write lock (in MVCC mode: if a connection is free), though the lane's thread may first have to wake up, or to end a
    /// checkpoint. Otherwise it is refused at once.
    ///
    /// In a test with tokio's `start_paused`, time does not wait for other threads: as soon as the runtime has nothing to do but
    /// wait for the lane, it moves on to the next timer. There every limit but zero is over at once, [`close_within`]'s too.
    ///
    /// Writes with a limit need a tokio runtime with its time enabled, as those in MVCC mode do; they panic without.
    ///
    /// [`close_within`]: PooledDatabaseWriter::close_within
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { manner: Manner { limit: Some(limit), ..self.manner }, ..self.clone() }
    }

    /// A handle whose writes have this priority.
    #[must_use]
    pub fn priority(&self, priority: Priority) -> Self {
        Self { manner: Manner { priority, ..self.manner }, ..self.clone() }
    }

    /// The pool that reads run on. Close it through the writer: while the lane lives, it holds one of its connections.
    #[must_use]
    pub fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    /// The writer at this moment.
    #[must_use]
    pub fn status(&self) -> WriterStatus {
        let shared = self.way.shared();
        WriterStatus {
            pool: self.pool.status(),
            queued: shared.queue.len(),
            skipped: shared.queue.skipped(),
            commits: shared.last_commit().number(),
            wal: shared.wal.status(),
            #[cfg(feature = "cache")]
            cache: self.cache.as_ref().map(|cache| cache.status()),
            ..shared.counts.status()
        }
    }

    /// Runs the writes that are queued, refuses those that come later, and gives the lane's connection back. The pool
    /// stays open.
    ///
    /// # Cancel safety
    /// The lane is told at the first poll, whether or not this is awaited to its end; it may be called again. Inside a write
    /// it tells the lane and resolves at once, for the lane cannot wait for its own end.
    pub async fn stop(&self) {
        self.way.close();
        if !is_inside_a_write() {
            match &*self.way {
                Way::Lane(lane) => lane.ended().await,
                Way::SideBySide(_) => self.way.shared().queue.everybody_left().await,
            }
        }
    }

    /// [Stops](PooledDatabaseWriter::stop) the lane and closes the pool; resolves when no connection is alive.
    ///
    /// # Cancel safety
    /// As for [`stop`](PooledDatabaseWriter::stop). Inside a write it only stops the lane; inside a read it also closes the pool, and
    /// resolves without waiting for the connections in use, of which that read has one.
    pub async fn close(&self) {
        self.stop().await;
        if !is_inside_a_write() {
            self.pool.close().await;
        }
        self.way.shared().executor.rest();
    }

    /// The same, within `limit`. What is still queued then is not done: its callers are told that
    /// [nothing was written](Error::RolledBack), and the report lists it.
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// As for [`close`](PooledDatabaseWriter::close).
    pub async fn close_within(&self, limit: Duration) -> CloseReport {
        let began = clock::now();
        let mut report = CloseReport::default();
        if clock::within(limit, self.stop()).await.is_none() {
            report.not_done = self.way.shared().refuse_the_rest();
        }
        report.is_running = match &*self.way {
            Way::Lane(lane) => !lane.has_ended(),
            Way::SideBySide(_) => !self.way.shared().queue.has_nobody(),
        };
        report.running = self.way.shared().running().filter(|_| report.is_running);
        if !is_inside_a_write() {
            let rest = limit.saturating_sub(clock::now().saturating_duration_since(began));
            if let Err(still_open) = self.pool.close_within(rest).await {
                report.holders = still_open.holders;
            }
        }
        self.way.shared().executor.rest();
        report
    }
}

/// # Errors
/// [`Error::Config`] for a pool of fewer than 2 connections.
fn enough(pool: &ConnectionPool) -> Result<()> {
    let max = pool.status().max;
    if max < 2 {
        let problem = format!("is {max}: a writer needs at least 2, one for the lane and one for readers");
        return Err(Error::Config { field: "max_connections", problem });
    }
    Ok(())
}
