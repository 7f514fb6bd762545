//! Writes side by side: the engine's experimental MVCC mode (opt-in, [`Mode::Mvcc`](super::Mode)).
//!
//! No lane: each write takes a connection of the pool, begins with `BEGIN CONCURRENT`, and is made again, whole, when it
//! conflicts with another, after a pause that grows, until [`retry_timeout`](super::WriterConfig::retry_timeout) or its deadline
//! is over. Outcomes are those of the lane, and so is the bound on how many may wait; here those that run take room, too.
//!
//! What the engine does in this mode (0.8.3): a conflict rolls the transaction back by itself, at a statement or at COMMIT;
//! two that insert the same unique value learn it at COMMIT; what changes the schema needs a transaction of its own, which
//! this finds out and gives it. Each commit syncs by itself, so the lane, whose commits are shared, is faster wherever many
//! write a little (see the README's table). And the mode is not safe on a disk that fails: a commit whose sync failed
//! returns [`Error::Unknown`], its rows stay visible, and later commits can be lost with it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::claim::Claim;
use super::config::Mode;
use super::door::Shared;
use super::files::Files;
use super::job::{self, Answer, End, Job, Kind};
use super::lane::discard;
use super::queue::Priority;
use super::retry::Backoff;
use crate::catch::catch;
use crate::error::{Error, Result};
use crate::pool::control::Control;
use crate::pool::file::{give_back_logical_log, logical_log_of, reserve_logical_log};
use crate::pool::{ConnectionPool, Hindrance, PooledConnection, clock};
use crate::sync::Mutex;

/// What the engine calls the mode.
pub(super) const MVCC: &str = "mvcc";

/// The way of those who write side by side.
#[derive(Debug)]
pub(super) struct SideBySide {
    side: Arc<Side>,
    pool: ConnectionPool,
    /// Gone once it is closed; each write that was accepted before has its own, until it is answered.
    claim: Mutex<Option<Arc<Claim>>>,
}

/// What the writes share.
#[derive(Debug)]
struct Side {
    shared: Arc<Shared>,
    files: Mutex<Files>,
    /// How many were started: where each begins to spread its pauses.
    writes: AtomicU64,
}

/// A write that was started. It takes room until it is over.
struct Running {
    side: Arc<Side>,
    priority: Priority,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.side.shared.queue.leaves_room(self.priority);
    }
}

/// The log's name is this database's, if it is switched to MVCC mode.
struct Reserved<'p> {
    pool: &'p ConnectionPool,
    is_kept: bool,
}

impl<'p> Reserved<'p> {
    /// # Errors
    /// [`Error::Open`] if another database has that log, or if something lies there that is none of this one's: the engine would
    /// switch, and not open the database any more. [`ConnectionPool::get`]'s, and the engine's.
    async fn new(pool: &'p ConnectionPool) -> Result<Self> {
        let log = logical_log_of(pool.path());
        let is_there = std::fs::metadata(&log).is_ok_and(|file| file.len() > 0);
        if is_there && pool.get().await?.journal_mode().await? != MVCC {
            let problem = format!("{} lies beside it, which is no log of it: move that away", log.display());
            return Err(Error::Open { path: pool.path().to_owned(), problem });
        }
        reserve_logical_log(pool.path())?;
        Ok(Self { pool, is_kept: false })
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            give_back_logical_log(self.pool.path());
        }
    }
}

impl SideBySide {
    /// Switches the database to MVCC mode, for good: it is written into the file.
    ///
    /// # Errors
    /// What [`ConnectionPool::get`] returns, the engine's error, or [`Error::Config`] if the engine does not switch.
    pub(super) async fn start(pool: &ConnectionPool, shared: Arc<Shared>, claim: Claim) -> Result<Self> {
        // From now on whoever opens the file waits for this one to end, whatever becomes of it.
        claim.is_for(&shared);
        let reserved = match pool.is_of_a_file() {
            true => Some(Reserved::new(pool).await?),
            false => None,
        };
        let (claim, mode) = switch(pool, &shared, claim).await?;
        if mode != MVCC {
            let problem = format!("is Mvcc, and the database stays in mode {mode}: close whatever else has it open");
            return Err(Error::Config { field: "mode", problem });
        }
        let files = Mutex::new(Files::of(pool, Mode::Mvcc, &shared.executor)?);
        reserved.into_iter().for_each(Reserved::keep);
        let side = Arc::new(Side { shared, files, writes: AtomicU64::new(0) });
        Ok(Self { side, pool: pool.clone(), claim: Mutex::new(Some(Arc::new(claim))) })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.side.shared
    }

    /// The pool may have another writer when those that were accepted have ended.
    pub(super) fn gives_the_pool_back(&self) {
        drop(self.claim.with(Option::take));
    }

    /// Runs a job for which there is room on a connection of the pool, and waits for its answer. Until it has one it is in
    /// the queue, where a close finds it.
    ///
    /// # Cancel safety
    /// Dropped before it has its connection, the job is not run; after that it runs to its end, unobserved.
    pub(super) async fn run<R, E: From<Error>>(
        &self,
        mut job: Box<Job>,
        answer: oneshot::Receiver<Answer<R, E>>,
    ) -> Answer<R, E> {
        let site = job.site;
        job.claim = self.claim.with(|claim| claim.clone());
        let mut queued = match self.side.shared.queue(job, answer) {
            Ok(queued) => queued,
            Err(error) => return Ok(Err(error.into())),
        };
        let rest = queued.rest();
        let connection = {
            let mut getting = pin!(self.pool.get_from(site));
            let first = poll_fn(|context| match Pin::new(&mut queued).poll(context) {
                Poll::Ready(answer) => Poll::Ready(Err(answer)),
                Poll::Pending => getting.as_mut().poll(context).map(Ok),
            });
            match rest {
                Some(rest) => clock::within(rest, first).await,
                None => Some(first.await),
            }
        };
        match connection {
            Some(Ok(Ok(connection))) => {
                if let Some(job) = queued.starts() {
                    let (side, priority) = (Arc::clone(&self.side), job.priority);
                    Running { side, priority }.starts(job, connection);
                }
            }
            Some(Ok(Err(error))) => {
                if let Some(job) = queued.starts() {
                    self.side.shared.queue.leaves_room(job.priority);
                    self.side.shared.settle(job, End::RolledBack(Arc::new(error)));
                }
            }
            // It was refused.
            Some(Err(answer)) => return answer,
            None => {
                if let Some(late) = queued.is_late() {
                    return late;
                }
            }
        }
        queued.await
    }
}

/// Switches the database to MVCC mode, and nobody cuts that short: it is several commits, and after the first of them the
/// engine (0.8.3) does not open the file any more. On files it is done at the first poll. A disk of the caller's own may take
/// its time, and then it goes on where the reads do. What the engine calls the mode that it is in then.
///
/// # Cancel safety
/// Dropped half-way, it goes on all the same, and the claim is given back after that.
async fn switch(pool: &ConnectionPool, shared: &Shared, claim: Claim) -> Result<(Claim, String)> {
    let mut connection = pool.get().await?;
    let mut switching = Box::pin(async move {
        let mode = catch(connection.switch_to_mvcc()).await.unwrap_or_else(|payload| {
            discard(&mut connection);
            Err(Error::of_panic(payload))
        });
        drop(connection);
        (claim, mode)
    });
    let (claim, mode) = match poll_fn(|context| Poll::Ready(switching.as_mut().poll(context))).await {
        Poll::Ready(switched) => switched,
        Poll::Pending => {
            let (reply, answer) = oneshot::channel();
            shared.executor.read(Box::new(move || {
                Box::pin(async move {
                    // Fails only if the caller left meanwhile.
                    let _ = reply.send(switching.await);
                })
            }));
            // No answer: the runtime is shutting down.
            answer.await.map_err(|_| Error::Closed)?
        }
    };
    Ok((claim, mode?))
}

impl Drop for SideBySide {
    fn drop(&mut self) {
        // Whoever opens the next one waits for what still runs.
        self.side.shared.close();
    }
}

impl Running {
    fn starts(self, mut job: Box<Job>, mut connection: PooledConnection) {
        let executor = Arc::clone(&self.side.shared.executor);
        executor.read(Box::new(move || {
            Box::pin(async move {
                connection.moves_here(job.site);
                let end = match catch(self.side.write(&mut connection, &mut job)).await {
                    Ok(end) => end,
                    Err(payload) => {
                        discard(&mut connection);
                        End::Unknown(Arc::new(Error::of_panic(payload)))
                    }
                };
                // Back in the pool, counted, and its room free, before the caller knows that it is over.
                drop(connection);
                self.side.shared.counts.ended(job.ended(&end));
                // First: whoever hears that nobody is left may open another writer.
                drop(job.claim.take());
                drop(self);
                job.settle(end);
            })
        }));
    }
}

impl Side {
    /// Makes a write until it does not conflict.
    async fn write(&self, connection: &mut PooledConnection, job: &mut Job) -> End {
        let shared = &*self.shared;
        let mut backoff = Backoff::new(self.writes.fetch_add(1, Ordering::Relaxed));
        let began = clock::now();
        let mut begins = Control::BeginConcurrent;
        // Of whoever had it before.
        let _ = connection.take_hindrance();
        loop {
            let ready = match self.files.with(Files::look) {
                Ok(()) => connection.renew().await,
                Err(error) => Err(error),
            };
            if let Err(error) = ready {
                // What it came to in the last try is not what ended it; and so below.
                job.forget();
                return End::RolledBack(Arc::new(error));
            }
            let outcome = attempt(shared, connection, &mut job.kind, begins).await;
            let hindrance = connection.take_hindrance();
            if !connection.is_reusable() {
                connection.discard();
            }
            let now = clock::now();
            let is_late = now.saturating_duration_since(began) >= shared.config.retry_timeout;
            let left = job.due.map_or(Duration::MAX, |(due, _)| due.saturating_duration_since(now));
            match (outcome, hindrance) {
                (Ok(true), _) => return self.committed(),
                (Err(Error::Unknown { cause }), _) => return End::Unknown(cause),
                (_, Some(Hindrance::NeedsToBeAlone)) if begins == Control::BeginConcurrent => {
                    begins = Control::BeginImmediate;
                }
                (_, Some(Hindrance::Conflict)) if left.is_zero() => {
                    let limit = job.due.map_or(Duration::ZERO, |(_, limit)| limit);
                    job.forget();
                    return End::RolledBack(Arc::new(Shared::too_late(limit)));
                }
                (_, Some(Hindrance::Conflict)) if !is_late => {
                    shared.counts.retried();
                    clock::sleep(backoff.pause().min(left)).await;
                }
                (Ok(false), _) => return End::Failed,
                (Err(error), _) => {
                    job.forget();
                    return End::RolledBack(Arc::new(error));
                }
            }
        }
    }

    /// What was committed is, if it is where others will find it.
    fn committed(&self) -> End {
        match self.files.with(Files::look_after_commit) {
            Ok(()) => End::Committed(self.shared.committed(), 0),
            Err(error) => End::Unknown(Arc::new(error)),
        }
    }
}

/// Makes it once. Whether it is committed: if not, it failed by itself.
async fn attempt(shared: &Shared, connection: &mut PooledConnection, kind: &mut Kind, begins: Control) -> Result<bool> {
    let is_alone = matches!(kind, Kind::Solitary(_));
    let outcome = match kind {
        Kind::Solitary(statement) => statement.run_by_itself(connection).await.map(|()| true),
        kind => {
            // Whatever the disk does here, nothing is written yet.
            connection.control(begins).await?;
            job::run_and_end(kind, connection, shared.config.write_timeout).await
        }
    };
    // Of a solitary one nothing tells whether the disk failed in it or in its commit; and in this mode the rows of a commit
    // that the disk refused can stay.
    outcome.map_err(|error| match error.is_io() || is_alone && error.may_have_committed() {
        true => Error::unknown(error),
        false => error,
    })
}
