//! The pooled writer: writes one at a time through a lane, reads side by side from the pool.

mod lane;
mod transact;

use std::any::Any;
use std::future::poll_fn;
use std::panic::{Location, resume_unwind};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use turso::IntoParams;

use self::lane::{Job, Lane, Reply};
use self::transact::{Counts, Ended, execute, transact};
use crate::catch::catch;
use crate::error::{Error, Result};
use crate::pool::{ConnectionPool, PooledConnection, Snapshot, Status, Transaction};

/// How a job answers: what it returned, or the panic that ended it.
type Answer<R, E> = std::result::Result<Result<R, E>, Box<dyn Any + Send>>;

/// Writes and reads of one database: all writes go through one lane, so none of them ever finds the database locked by
/// another; reads run side by side on the pool's other connections and never wait for a write.
///
/// A guard of [`pool`](PooledDatabaseWriter::pool) that writes itself competes with the lane: the lane tries again for 10 s,
/// then its write fails with `Busy`. Let the writer write.
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
    lane: Lane,
    counts: Arc<Counts>,
}

/// A writer at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStatus {
    /// The pool below; the lane holds one of its connections.
    pub pool: Status,
    /// Writes in the lane's queue, of at most 1,024; callers beyond that wait for room in it.
    pub queued: usize,
    /// Writes that were committed.
    pub committed: u64,
    /// Writes that returned an error or panicked, and had no effect.
    pub rolled_back: u64,
    /// Writes of which cannot be told whether they were committed.
    pub unknown: u64,
    /// Writes whose caller was gone before they started.
    pub skipped: u64,
}

impl PooledDatabaseWriter {
    /// Opens the database at `path` with a pool of the default settings.
    ///
    /// # Errors
    /// As for [`ConnectionPoolBuilder::build`](crate::ConnectionPoolBuilder::build).
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing stays open.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(ConnectionPool::open(path).await?).await
    }

    /// A writer on a pool of the caller's own settings. Its lane takes one connection for as long as it lives, the
    /// readers have the rest.
    ///
    /// # Errors
    /// [`Error::Config`] for a pool of fewer than 2 connections or one that has a writer already, or what
    /// [`ConnectionPool::get`] returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, the pool is as it was.
    pub async fn new(pool: ConnectionPool) -> Result<Self> {
        let max = pool.status().max;
        if max < 2 {
            let problem = format!("is {max}: a writer needs at least 2, one for the lane and one for readers");
            return Err(Error::Config { field: "max_connections", problem });
        }
        let lane = Lane::start(&pool).await?;
        Ok(Self { pool, lane, counts: Arc::default() })
    }

    /// Runs one statement by itself; returns how many rows it changed. `Ok` means committed and synced to disk.
    ///
    /// # Errors
    /// The engine's error: the statement had no effect. [`Error::OutcomeUnknown`] if the disk failed, perhaps in the
    /// commit. [`Error::Misuse`] for a `BEGIN`, and inside a [`write`](PooledDatabaseWriter::write) of the same or another
    /// writer. [`Error::Closed`] if the writer is closed. In these two cases nothing happened.
    ///
    /// # Cancel safety
    /// Dropped before its turn, it is not run; after that it runs to its end, unobserved.
    pub async fn execute(&self, sql: impl Into<String>, params: impl IntoParams) -> Result<u64> {
        let (sql, params) = (sql.into(), params.into_params()?);
        self.job(async move |connection: Result<&mut PooledConnection>, counts: &Counts| {
            execute(connection?, &sql, params, counts).await
        })
        .await
    }

    /// Runs several statements, separated by semicolons, as one transaction: all of them take effect, or none.
    ///
    /// # Errors
    /// As for [`write`](PooledDatabaseWriter::write).
    ///
    /// # Cancel safety
    /// Dropped before its turn, it is not run; after that it runs to its end, unobserved.
    pub async fn execute_batch(&self, sql: impl Into<String>) -> Result<()> {
        let sql = sql.into();
        self.write(async move |tx| tx.execute_batch(&sql).await).await
    }

    /// Runs `work` as one transaction. It is committed if `work` returns `Ok`, and rolled back if it returns `Err` or
    /// panics; `Ok` means committed and synced to disk.
    ///
    /// `work` moves to the lane's thread and is polled only there (so its future need not be `Send`). While it runs no
    /// other write does: keep it short, and wait in it for nothing but the database. A write inside it would wait for
    /// itself, and is refused.
    ///
    /// The closure is `async move`, so that it owns what it uses, and its error is any type that is made from [`Error`]. Where
    /// nothing else says which, end it with `Ok::<_, Error>(...)`; for a boxed error take `Box<dyn Error + Send + Sync>`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("bank.db");
    /// use poolproof::{Error, PooledDatabaseWriter};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// enum BankError {
    ///     #[error("{0} has not enough")]
    ///     NotEnough(String),
    ///     #[error(transparent)]
    ///     Database(#[from] Error),
    /// }
    ///
    /// let db = PooledDatabaseWriter::open(&path).await?;
    /// db.execute_batch("CREATE TABLE accounts (name TEXT, balance INTEGER); INSERT INTO accounts VALUES ('ada', 10)").await?;
    /// let (name, amount) = ("ada".to_owned(), 30);
    /// let outcome = db
    ///     .write(async move |tx| {
    ///         let sql = "UPDATE accounts SET balance = balance - ?2 WHERE name = ?1 AND balance >= ?2";
    ///         match tx.execute(sql, (name.as_str(), amount)).await? {
    ///             0 => Err(BankError::NotEnough(name)),
    ///             _ => Ok(()),
    ///         }
    ///     })
    ///     .await;
    /// assert!(matches!(outcome, Err(BankError::NotEnough(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `work` returns, or the engine's error: nothing was applied. [`Error::OutcomeUnknown`] if COMMIT failed in a
    /// way that cannot tell. [`Error::Misuse`] inside another write. [`Error::Closed`] if the writer is closed.
    ///
    /// # Panics
    /// If `work` panics, with the same payload, after the rollback.
    ///
    /// # Cancel safety
    /// Dropped before its turn, `work` is not run; after that it runs to its end, unobserved.
    pub async fn write<F, R, E>(&self, work: F) -> Result<R, E>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.job(async move |connection: Result<&mut PooledConnection>, counts: &Counts| {
            transact(connection?, work, counts).await
        })
        .await
    }

    /// Runs `work` on one snapshot: everything it reads is of one moment, however many writes commit meanwhile. A
    /// statement that writes is refused.
    ///
    /// `work` moves to a thread of the runtime's blocking pool and is polled only there, since a long query does not
    /// yield. At most as many run at once as the pool has connections beside the lane's; a read inside a read takes a
    /// second one.
    ///
    /// # Errors
    /// What `work` returns, the engine's error, or what [`ConnectionPool::get`] returns.
    ///
    /// # Panics
    /// If `work` panics, with the same payload. If polled outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropped half-way, `work` is dropped at its next await, and its connection is discarded.
    #[track_caller]
    pub fn read<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>>
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.read_from(Location::caller(), work)
    }

    async fn read_from<F, R, E>(&self, site: &'static Location<'static>, work: F) -> Result<R, E>
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let mut guard = self.pool.get_from(site).await?;
        let runtime = Handle::current();
        let (mut reply, answer) = oneshot::channel::<Answer<R, E>>();
        let handle = runtime.clone();
        // Detached on purpose: it ends with `work`, or when nobody waits for its answer any more.
        runtime.spawn_blocking(move || {
            handle.block_on(async move {
                guard.moves_here(site);
                let outcome = {
                    let mut reading = pin!(catch(read_snapshot(&mut guard, work)));
                    poll_fn(|context| match reply.poll_closed(context) {
                        Poll::Ready(()) => Poll::Ready(None),
                        Poll::Pending => reading.as_mut().poll(context).map(Some),
                    })
                    .await
                };
                // Back in the pool before the caller knows that it is over.
                drop(guard);
                if let Some(outcome) = outcome {
                    // Fails only if the caller left just now.
                    let _ = reply.send(outcome);
                }
            });
        });
        finish(answer.await)
    }

    /// The pool that reads run on. Close it through the writer: while the lane lives, it holds one of its connections.
    #[must_use]
    pub fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    /// The writer at this moment.
    #[must_use]
    pub fn status(&self) -> WriterStatus {
        let count = |ended| self.counts.get(ended);
        WriterStatus {
            pool: self.pool.status(),
            queued: self.lane.queued(),
            committed: count(Ended::Committed),
            rolled_back: count(Ended::RolledBack),
            unknown: count(Ended::Unknown),
            skipped: count(Ended::Skipped),
        }
    }

    /// Runs the writes that are queued, refuses those that come later, and gives the lane's connection back. The pool
    /// stays open.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the lane may or may not have been told; it may be called again. Inside a write it
    /// tells the lane and resolves at once, for the lane cannot wait for its own end.
    pub async fn stop(&self) {
        self.lane.stop().await;
    }

    /// [Stops](PooledDatabaseWriter::stop) the lane and closes the pool; resolves when no connection is alive.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, it may be called again. Inside a write it only stops the lane, as
    /// [`stop`](PooledDatabaseWriter::stop) does there.
    pub async fn close(&self) {
        self.lane.stop().await;
        if !lane::is_here() {
            self.pool.close().await;
        }
    }

    /// Queues `work` for the lane and waits for its answer.
    async fn job<F, R, E>(&self, work: F) -> Result<R, E>
    where
        F: AsyncFnOnce(Result<&mut PooledConnection>, &Counts) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        if lane::is_here() {
            return Err(
                Error::Misuse("a write inside a write would wait for itself: use the transaction it has").into()
            );
        }
        let (reply, answer) = oneshot::channel::<Answer<R, E>>();
        let counts = Arc::clone(&self.counts);
        let job: Job = Box::new(move |connection| {
            Box::pin(async move {
                if reply.is_closed() {
                    counts.add(Ended::Skipped);
                    return Box::new(|| {}) as Reply;
                }
                let outcome = catch(work(connection, &counts)).await;
                if outcome.is_err() {
                    counts.add(Ended::RolledBack);
                }
                // Fails only if the caller left meanwhile; the write stands.
                Box::new(move || drop(reply.send(outcome)))
            })
        });
        self.lane.queue(job).await?;
        finish(answer.await)
    }
}

async fn read_snapshot<F, R, E>(guard: &mut PooledConnection, work: F) -> Result<R, E>
where
    F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E>,
    E: From<Error>,
{
    let mut snapshot = guard.snapshot().await?;
    let outcome = work(&mut snapshot).await;
    // What was read is right whatever happens now; a connection that cannot leave the snapshot is discarded.
    let _ = snapshot.end().await;
    outcome
}

/// What a job answered; a panic goes on in the caller. No answer: the job was dropped unstarted.
fn finish<R, E: From<Error>>(answer: std::result::Result<Answer<R, E>, oneshot::error::RecvError>) -> Result<R, E> {
    match answer {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(Error::Closed.into()),
    }
}
