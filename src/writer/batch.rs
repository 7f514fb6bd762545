//! Group commit: writes that were queued while the last commit was being synced share the next one.
//!
//! A batch is one transaction. It takes what is queued when it begins and what comes while it runs, up to a number and a
//! time, and commits when nobody waits: a lone write is committed at once. A statement is atomic by itself; a closure runs
//! in a savepoint. Whichever fails is undone alone, and its neighbours commit. All are answered after the commit, even those
//! that failed: what they failed for may have been a neighbour's write. If the commit fails, so did their reason.
//!
//! (A statement is not atomic where a conflict says `FAIL`: the rows before it stay. The engine does not tell that apart
//! from other errors, so whatever is no plain constraint counts as having broken the transaction.)
//!
//! A job can break the transaction of all: a conflict that rolls it back (`OR ROLLBACK`), a statement dropped half-way, a
//! pragma. Then the connection is discarded, which undoes everything, and each job of the batch runs again, alone, in its
//! order: whoever broke it harms nobody else.
//!
//! ```text
//! A             B             lane
//! execute                     BEGIN IMMEDIATE; A
//!               execute       B
//!                             nobody waits: COMMIT, fsync
//! Ok            Ok            (a crash before this: neither; after it: both)
//! ```

use std::sync::Arc;

use super::door::Shared;
use super::files::Files;
use super::job::{self, End, Job, Kind, Statement};
use super::lane::discard;
use super::retry::Tries;
use super::wal;
use crate::catch::catch;
use crate::error::{Error, Result};
use crate::pool::control::Control;
use crate::pool::{PooledConnection, clock};

/// How often the lane looks for another job before it commits fewer than it did the last time: those who were answered
/// then are likely to be on their way back, and without that they split into two halves that take turns. Each look costs
/// about 0.1 us, a commit some hundred; a lone writer is never waited for.
const LOOKS: u32 = 400;

/// What is said of a statement that began a transaction, by a savepoint for example.
pub(super) const NOT_ALONE: &str = "execute runs one statement by itself; use write for a transaction: it was undone";

/// What becomes of a transaction that is open.
enum Whole {
    /// It can be committed.
    Yes,
    /// A job broke it.
    Broken,
}

/// The batches of one lane.
pub(super) struct Batch<'l> {
    shared: &'l Shared,
    /// Jobs that ran in the open transaction, in their order.
    ran: Vec<Job>,
    /// How many the last one had.
    last: usize,
    files: Files,
}

impl<'l> Batch<'l> {
    pub(super) fn new(shared: &'l Shared, files: Files) -> Self {
        Self { shared, ran: Vec::new(), last: 0, files }
    }

    /// Runs one batch, and outlives whatever panics in it beside closures and statements, which are caught by themselves.
    pub(super) async fn run_caught(&mut self, connection: &mut PooledConnection) {
        let Err(payload) = catch(self.run(connection)).await else { return };
        let cause = Arc::new(Error::of_panic(payload));
        for job in std::mem::take(&mut self.ran) {
            self.shared.settle(job, End::Unknown(Arc::clone(&cause)));
        }
        wal::doubt(self.shared);
        discard(connection);
    }

    /// Runs one batch of what is queued, and answers.
    pub(super) async fn run(&mut self, connection: &mut PooledConnection) {
        let end = self.shared.queue.end();
        if let Err(error) = self.is_safe(connection).await {
            return self.refuse_before(end, error);
        }
        if self.last <= 1 && self.shared.queue.len() == 1 {
            // Probably a lone writer: its closure needs no savepoint.
            if let Some(job) = self.shared.next() {
                // It has to wait for the lock no longer than for its turn.
                let mut tries = Tries::of(self.shared, job.due);
                self.alone(connection, job, &mut tries).await;
            }
            return;
        }
        if let Err(error) = Tries::new(self.shared).begin(connection).await {
            return self.refuse_before(end, error);
        }
        let (whole, solitary) = self.fill(connection).await;
        self.last = self.ran.len();
        match whole {
            Whole::Yes => self.commit(connection).await,
            Whole::Broken => self.run_again(connection).await,
        }
        if let Some(job) = solitary {
            self.next_alone(connection, job).await;
        }
    }

    /// Whether what is written now would be there later.
    async fn is_safe(&mut self, connection: &mut PooledConnection) -> Result<()> {
        self.files.look()?;
        match wal::is_in_doubt(self.shared) {
            true => wal::repair(self.shared, connection).await,
            false => Ok(()),
        }
    }

    /// What was committed is, if it is where others will find it.
    fn committed(&mut self, jobs: usize) -> End {
        match self.files.look() {
            Ok(()) => {
                self.shared.counts.batch_of(jobs);
                End::Committed(self.shared.committed())
            }
            Err(error) => End::Unknown(Arc::new(error)),
        }
    }

    /// Those who waited for what failed learn why; whoever came later, from number `end` on, may have more luck.
    fn refuse_before(&self, end: u64, error: Error) {
        let cause = Arc::new(error);
        while let Some(job) = self.shared.next_before(end) {
            self.shared.settle(job, End::RolledBack(Arc::clone(&cause)));
        }
    }

    /// Runs what is queued, and what comes meanwhile, in the open transaction. A job that has to be alone ends it.
    async fn fill(&mut self, connection: &mut PooledConnection) -> (Whole, Option<Job>) {
        let began = clock::now();
        let mut looks = 0;
        while self.ran.len() < self.shared.config.batch_jobs {
            let Some(mut job) = self.shared.next() else {
                if self.ran.len() >= self.last || looks >= LOOKS {
                    break;
                }
                looks += 1;
                tokio::task::yield_now().await;
                continue;
            };
            let is_whole = match &mut job.kind {
                Kind::Solitary(_) => return (Whole::Yes, Some(job)),
                Kind::Statement(statement) => {
                    let ran = statement.run(connection).await;
                    connection.is_in_transaction() && (ran || statement.left_nothing(connection))
                }
                Kind::Work(work) => self.run_in_savepoint(connection, &mut **work).await.is_ok(),
            };
            self.ran.push(job);
            if !is_whole {
                return (Whole::Broken, None);
            }
            if clock::now().saturating_duration_since(began) >= self.shared.config.batch_time {
                break;
            }
        }
        (Whole::Yes, None)
    }

    /// Runs a closure so that it can be undone alone.
    async fn run_in_savepoint(&self, connection: &mut PooledConnection, work: &mut dyn job::Work) -> Result<()> {
        connection.control(Control::Savepoint).await?;
        let mut transaction = connection.opened();
        let wants_commit = job::run(work, &mut transaction, self.shared.config.write_timeout).await;
        transaction.stays_open();
        if !connection.is_in_transaction() {
            return Err(Error::Misuse("the transaction is over, or a statement in it was cut short"));
        }
        if !wants_commit {
            connection.control(Control::Undo).await?;
        }
        connection.control(Control::Release).await
    }

    /// Commits the open transaction and answers those who ran in it.
    async fn commit(&mut self, connection: &mut PooledConnection) {
        if self.ran.is_empty() {
            // Whoever it was for has left.
            let _ = connection.opened().rollback().await;
            return;
        }
        let end = match connection.opened().commit_synced().await {
            Ok(()) => self.committed(self.ran.len()),
            Err(error) => match self.after(connection, error).await {
                Ok(end) => end,
                // For one of them: a foreign key that is checked at the end, for example.
                Err(_) if self.ran.len() > 1 => return self.run_again(connection).await,
                Err(error) => End::RolledBack(Arc::new(error)),
            },
        };
        let_go(connection);
        let alone = self.ran.len() == 1;
        for mut job in self.ran.drain(..) {
            match &end {
                // It may have failed for what a neighbour wrote that is not there.
                End::RolledBack(cause) | End::Unknown(cause) if !alone && job.failed() => {
                    job.forget();
                    self.shared.settle(job, End::RolledBack(Arc::clone(cause)));
                }
                end => self.shared.settle(job, end.clone()),
            }
        }
    }

    /// A commit failed. Nothing is known of it, unless the disk refused it and it can be overwritten.
    ///
    /// # Errors
    /// Certainly nothing was committed: why.
    async fn after(&self, connection: &mut PooledConnection, error: Error) -> Result<End> {
        let may_be_committed = self.shared.wal.may_be_checkpointed_inside(&*self.shared.executor);
        let cause = match error {
            Error::Unknown { cause } => cause,
            // The page for which there was no room may have been one of the database.
            error if error.is_full() && may_be_committed => Arc::new(error),
            error => return Err(error),
        };
        match wal::repair(self.shared, connection).await {
            Ok(()) if cause.is_io() && !may_be_committed => Ok(End::RolledBack(cause)),
            _ => Ok(End::Unknown(cause)),
        }
    }

    /// One of them broke the transaction of all. Undoes everything, and runs each by itself.
    async fn run_again(&mut self, connection: &mut PooledConnection) {
        discard(connection);
        self.shared.counts.broke();
        for job in std::mem::take(&mut self.ran) {
            self.next_alone(connection, job).await;
        }
    }

    /// Runs a job by itself, after whatever became of the one before it.
    async fn next_alone(&mut self, connection: &mut PooledConnection, mut job: Job) {
        let ready = match wal::is_in_doubt(self.shared) {
            true => wal::repair(self.shared, connection).await,
            false => connection.renew().await,
        };
        match ready {
            Ok(()) => self.alone(connection, job, &mut Tries::new(self.shared)).await,
            Err(error) => {
                // What it came to was undone.
                job.forget();
                self.shared.settle(job, End::RolledBack(Arc::new(error)));
            }
        }
    }

    /// Runs a job in a transaction of its own.
    async fn alone(&mut self, connection: &mut PooledConnection, mut job: Job, tries: &mut Tries<'_>) {
        self.last = 1;
        let end = match &mut job.kind {
            Kind::Solitary(statement) => self.solitary(connection, statement, tries).await,
            kind => self.transaction(connection, kind, tries).await,
        };
        let end = match end {
            Ok(end) => end,
            Err(error) => self.after(connection, error).await.unwrap_or_else(|cause| End::RolledBack(Arc::new(cause))),
        };
        let_go(connection);
        self.shared.settle(job, end);
    }

    /// A job in a transaction around it, so that nothing of it stays if it fails.
    async fn transaction(
        &mut self,
        connection: &mut PooledConnection,
        kind: &mut Kind,
        tries: &mut Tries<'_>,
    ) -> Result<End> {
        tries.begin(connection).await?;
        match job::run_and_end(kind, connection, self.shared.config.write_timeout).await? {
            true => Ok(self.committed(1)),
            false => Ok(End::Failed),
        }
    }

    /// A statement that cannot run inside a transaction: its commit is part of it.
    async fn solitary(
        &mut self,
        connection: &mut PooledConnection,
        statement: &mut Statement,
        tries: &mut Tries<'_>,
    ) -> Result<End> {
        loop {
            if statement.run(connection).await {
                if !connection.is_autocommit() {
                    return Err(Error::Misuse(NOT_ALONE));
                }
                return Ok(self.committed(1));
            }
            let Some(error) = statement.failed() else { continue };
            if error.is_contention() {
                tries.again(error).await?;
                continue;
            }
            // Nothing tells whether the disk failed in the statement or in its commit.
            return Err(if error.may_have_committed() { Error::unknown(error) } else { error });
        }
    }
}

/// Whoever is told of its outcome finds the write lock free: what is left in the middle of something is rolled back and
/// unlocked by this, and replaced before it is used again.
pub(super) fn let_go(connection: &mut PooledConnection) {
    if connection.is_open() && !connection.is_reusable() {
        discard(connection);
    }
}
