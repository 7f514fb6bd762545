//! Writes side by side: the engine's experimental MVCC mode (opt-in, [`Mode::Mvcc`](super::Mode)).
//!
//! No lane: each write takes a connection of the pool, begins with `BEGIN CONCURRENT`, and is made again, whole, when it
//! conflicts with another, after a pause that grows, until [`retry_timeout`](super::WriterConfig::retry_timeout) or its deadline
//! is over. Outcomes are those of the lane, and so is the bound on how many may wait.
//!
//! What the engine does in this mode (0.8.3): a conflict rolls the transaction back by itself, at a statement or at COMMIT;
//! two that insert the same unique value learn it at COMMIT; what changes the schema needs a transaction of its own, which
//! this finds out and gives it. Each commit syncs by itself, so the lane, whose commits are shared, is faster wherever many
//! write a little (see the README's table). And the mode is not safe on a disk that fails: a commit whose sync failed
//! returns [`Error::Unknown`], its rows stay visible, and later commits can be lost with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::door::Shared;
use super::job::{self, Answer, End, Job, Kind};
use super::outcome::CommitToken;
use super::queue::Priority;
use super::retry::Backoff;
use crate::error::{Error, Result};
use crate::pool::control::Control;
use crate::pool::{ConnectionPool, Hindrance, LaneClaim, PooledConnection, clock};

/// The way of those who write side by side.
#[derive(Debug)]
pub(super) struct SideBySide {
    shared: Arc<Shared>,
    pool: ConnectionPool,
    _claim: LaneClaim,
}

/// A write that was started, or waits for its connection. It takes room until it is settled.
struct Running(Arc<Shared>, Priority);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.leaves_room(self.1);
    }
}

impl SideBySide {
    /// Switches the database to MVCC mode, for good: it is written into the file.
    ///
    /// # Errors
    /// What [`ConnectionPool::get`] returns, or the engine's error.
    pub(super) async fn start(pool: &ConnectionPool, shared: Arc<Shared>, claim: LaneClaim) -> Result<Self> {
        pool.get().await?.run_as_is("PRAGMA journal_mode = 'mvcc'").await?;
        Ok(Self { shared, pool: pool.clone(), _claim: claim })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs a job for which there is room on a connection of the pool, and waits for its answer.
    ///
    /// # Cancel safety
    /// Dropped before it has its connection, the job is not run; after that it runs to its end, unobserved.
    pub(super) async fn run<R, E: From<Error>>(
        &self,
        mut job: Job,
        answer: oneshot::Receiver<Answer<R, E>>,
    ) -> Answer<R, E> {
        let running = Running(Arc::clone(&self.shared), job.priority);
        let connection = self.pool.get_from(job.site);
        let connection = match job.due {
            Some((due, limit)) => {
                let rest = due.saturating_duration_since(clock::now());
                match clock::within(rest, connection).await {
                    Some(connection) => connection,
                    None => return Ok(Err(Shared::late(limit).into())),
                }
            }
            None => connection.await,
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(Error::rolled_back(error).into())),
        };
        let shared = Arc::clone(&self.shared);
        self.shared.executor.read(Box::new(move || {
            Box::pin(async move {
                connection.moves_here(job.site);
                let end = write(&shared, &mut connection, &mut job).await;
                // Back in the pool, and counted, before the caller knows that it is over.
                drop(connection);
                shared.settle(job, end);
                drop(running);
            })
        }));
        // No answer: the runtime is shutting down, in the middle of this.
        answer.await.unwrap_or_else(|_| Ok(Err(Error::unknown(Error::Closed).into())))
    }
}

/// Makes a write until it does not conflict.
async fn write(shared: &Shared, connection: &mut PooledConnection, job: &mut Job) -> End {
    static WRITES: AtomicU64 = AtomicU64::new(0);

    let mut backoff = Backoff::new(WRITES.fetch_add(1, Ordering::Relaxed));
    let began = clock::now();
    let mut begins = Control::BeginConcurrent;
    // Of whoever had it before.
    let _ = connection.take_hindrance();
    loop {
        if let Err(error) = connection.renew().await {
            return End::RolledBack(Arc::new(error));
        }
        let outcome = attempt(shared, connection, &mut job.kind, begins).await;
        let hindrance = connection.take_hindrance();
        if !connection.is_reusable() {
            connection.discard();
        }
        let now = clock::now();
        let is_late = now.saturating_duration_since(began) >= shared.config.retry_timeout
            || job.due.is_some_and(|(due, _)| due <= now);
        match (outcome, hindrance) {
            (Ok(Some(token)), _) => return End::Committed(token),
            (Err(Error::Unknown { cause }), _) => return End::Unknown(cause),
            (_, Some(Hindrance::NeedsToBeAlone)) if begins == Control::BeginConcurrent => {
                begins = Control::BeginImmediate;
            }
            (_, Some(Hindrance::Conflict)) if !is_late => {
                shared.counts.retried();
                clock::sleep(backoff.pause()).await;
            }
            (Ok(None), _) => return End::Failed,
            (Err(error), _) => return End::RolledBack(Arc::new(error)),
        }
    }
}

/// Makes it once. `None` if it failed by itself.
async fn attempt(
    shared: &Shared,
    connection: &mut PooledConnection,
    kind: &mut Kind,
    begins: Control,
) -> Result<Option<CommitToken>> {
    if let Kind::Solitary(statement) = kind {
        return match statement.run_by_itself(connection).await {
            Ok(()) => Ok(Some(shared.committed())),
            // Nothing tells whether the disk failed in the statement or in its commit.
            Err(error) if error.is_io() || error.may_have_committed() => Err(Error::unknown(error)),
            Err(error) => Err(error),
        };
    }
    connection.control(begins).await?;
    match job::run_and_end(kind, connection, shared.config.write_timeout).await {
        Ok(true) => Ok(Some(shared.committed())),
        Ok(false) => Ok(None),
        // In this mode the rows of a commit that the disk refused can stay.
        Err(error) if error.is_io() => Err(Error::unknown(error)),
        Err(error) => Err(error),
    }
}
