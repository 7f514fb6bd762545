//! Group commit: writes that were queued while the last commit was being synced share the next one.
//!
//! A batch is one transaction. It takes what is queued when it begins and what comes while it runs, up to a number and a
//! time, and commits when nobody waits and nobody is likely to come at once ([`company`](super::company)): a lone write is
//! committed at once. What would keep the others for long goes after their commit ([`pace`](super::pace)). A statement is atomic
//! by itself; a closure runs in a savepoint. Whichever fails is undone alone, and its neighbours commit. All are answered after
//! the commit, even those that failed: what they failed for may have been a neighbour's write. If the commit fails, so did
//! their reason.
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

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::company::Company;
use super::door::Shared;
use super::files::Files;
use super::job::{self, End, Job, Kind, Statement, Work};
use super::lane::discard;
use super::pace::Pace;
use super::retry::Tries;
use super::wal;
use crate::catch::catch;
use crate::error::{Error, Result};
use crate::pool::control::Control;
use crate::pool::{PooledConnection, clock};

/// What becomes of a transaction that is open.
enum Whole {
    /// It can be committed.
    Yes,
    /// A job broke it.
    Broken,
}

/// The batches of one lane. Every job that was taken out of the queue is in one of its three places until it is answered, so
/// that none is forgotten whatever panics.
pub(super) struct Batch<'l> {
    shared: &'l Shared,
    /// Jobs that ran in the open transaction, in their order.
    ran: Vec<Box<Job>>,
    /// The one that runs.
    running: Option<Box<Job>>,
    /// Those that are to run by themselves, in their order. Nothing of them is in the database.
    rest: VecDeque<Box<Job>>,
    /// Who is likely to come.
    company: Company,
    /// How long they take.
    pace: Pace,
    files: Files,
}

impl<'l> Batch<'l> {
    pub(super) fn new(shared: &'l Shared, files: Files) -> Self {
        let (company, pace) = (Company::default(), Pace::default());
        Self { shared, ran: Vec::new(), running: None, rest: VecDeque::new(), company, pace, files }
    }

    /// Runs one batch, and outlives whatever panics in it beside closures, statements and hooks, which are caught by themselves:
    /// an executor, for example.
    pub(super) async fn run_caught(&mut self, connection: &mut PooledConnection) {
        let Err(payload) = catch(self.run(connection)).await else { return };
        let cause = Arc::new(Error::of_panic(payload));
        // Whoever is told of it finds the write lock free.
        discard(connection);
        self.ran.extend(self.running.take());
        if !self.ran.is_empty() {
            // It may have been in the middle of their commit.
            wal::doubt(self.shared);
            self.answer(&End::Unknown(Arc::clone(&cause)));
        } else if self.rest.is_empty() {
            // One that waits learns of it, and the next one tries again.
            self.rest.extend(self.next());
        }
        for job in std::mem::take(&mut self.rest) {
            self.undone(job, &cause);
        }
    }

    /// Runs one batch of what is queued, and answers.
    async fn run(&mut self, connection: &mut PooledConnection) {
        if let Err(error) = connection.renew().await {
            // One job learns of it; the next one tries again.
            if let Some(job) = self.next() {
                self.undone(job, &Arc::new(error));
            }
            return;
        }
        let end = self.shared.queue.end();
        if let Err(error) = self.is_safe(connection).await {
            return self.refuse_before(end, error);
        }
        if self.company.is_single() && self.shared.queue.len() == 1 {
            // Probably a lone writer: its closure needs no savepoint.
            if let Some(job) = self.next() {
                // It has to wait for the lock no longer than for its turn.
                let mut tries = Tries::of(self.shared, job.due);
                self.alone(connection, job, &mut tries).await;
            }
            return;
        }
        if let Err(error) = Tries::new(self.shared).begin(connection).await {
            return self.refuse_before(end, error);
        }
        let whole = self.fill(connection).await;
        match whole {
            Whole::Yes => self.commit(connection).await,
            Whole::Broken => self.undo(connection),
        }
        self.run_rest(connection).await;
    }

    /// Takes the next job out to start it. One whose time is over is told so instead: its caller may not have looked.
    fn next(&self) -> Option<Box<Job>> {
        loop {
            let job = self.shared.queue.pop()?;
            match job.due {
                // However soon the lane woke up: what may not wait at all has waited for nobody.
                Some((due, limit)) if !limit.is_zero() && due <= clock::now() => {
                    self.undone(job, &Arc::new(Shared::too_late(limit)));
                }
                _ => return Some(job),
            }
        }
    }

    /// Whether what is written now would be there later.
    async fn is_safe(&mut self, connection: &mut PooledConnection) -> Result<()> {
        self.files.look()?;
        wal::make_safe(self.shared, connection).await
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
        while let Some(job) = self.shared.queue.pop_before(end) {
            self.undone(job, &cause);
        }
    }

    /// Nothing of a job is in the database. If it ran, what it came to was undone.
    fn undone(&self, mut job: Box<Job>, cause: &Arc<Error>) {
        job.forget();
        self.shared.settle(job, End::RolledBack(Arc::clone(cause)));
    }

    /// Runs what is queued, and what comes meanwhile, in the open transaction. A job that has to be alone ends it.
    async fn fill(&mut self, connection: &mut PooledConnection) -> Whole {
        let began = clock::now();
        let mut last = began;
        self.company.gather();
        self.pace.begins();
        while self.ran.len() < self.shared.config.batch_jobs {
            let Some(job) = self.next() else {
                if self.company.wait(self.ran.len(), || !self.shared.queue.is_empty()).await {
                    last = clock::now();
                    continue;
                }
                break;
            };
            if matches!(job.kind, Kind::Solitary(_)) || self.pace.keeps_others(&job.kind) {
                self.rest.push_back(job);
                break;
            }
            self.shared.runs(&job);
            let kind = &mut self.running.insert(job).kind;
            let is_whole = run_beside_others(kind, connection, self.shared).await;
            let now = clock::now();
            self.pace.ran(kind, now.saturating_duration_since(last));
            self.ran.extend(self.running.take());
            if !is_whole {
                return Whole::Broken;
            }
            if now.saturating_duration_since(began) >= self.shared.config.batch_time {
                break;
            }
            last = now;
        }
        Whole::Yes
    }

    /// Commits the open transaction and answers those who ran in it, or leaves them to be run by themselves.
    async fn commit(&mut self, connection: &mut PooledConnection) {
        if self.ran.is_empty() {
            // Whoever it was for has left.
            let _ = connection.opened().rollback().await;
            return;
        }
        let began = clock::now();
        let end = match connection.opened().commit_synced().await {
            Ok(()) => self.committed(self.ran.len()),
            Err(error) => match self.after(connection, error).await {
                Ok(end) => end,
                // For one of them: a foreign key that is checked at the end, for example.
                Err(_) if self.ran.len() > 1 => return self.undo(connection),
                Err(error) => End::RolledBack(Arc::new(error)),
            },
        };
        let_go(connection);
        let took = self.leave(self.ran.len(), began);
        self.pace.committed(took);
        self.answer(&end);
    }

    /// So many are about to be answered, after a commit that began then. How long that took.
    fn leave(&mut self, answered: usize, commit: Instant) -> Duration {
        let took = clock::now().saturating_duration_since(commit);
        self.company.leave(answered, self.shared.queue.len(), took);
        took
    }

    /// Stays awake a moment for somebody who is likely to come.
    pub(super) async fn linger(&mut self) {
        self.company.linger(|| !self.shared.queue.is_empty()).await;
    }

    /// Answers those who ran in a transaction that ended so.
    fn answer(&mut self, end: &End) {
        let alone = self.ran.len() == 1;
        for job in std::mem::take(&mut self.ran) {
            match end {
                // It may have failed for what a neighbour wrote that is not there.
                End::RolledBack(cause) | End::Unknown(cause) if !alone && job.failed() => self.undone(job, cause),
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

    /// One of them broke the transaction of all. Undoes everything; each is to run by itself.
    fn undo(&mut self, connection: &mut PooledConnection) {
        discard(connection);
        self.shared.counts.broke();
        for job in self.ran.drain(..).rev() {
            self.rest.push_front(job);
        }
    }

    /// Runs the rest, each by itself. If the lock is taken, all of them together try for it as long as one would.
    async fn run_rest(&mut self, connection: &mut PooledConnection) {
        let mut tries = Tries::new(self.shared);
        while !self.rest.is_empty() {
            // After whatever became of the one before it.
            let ready = match wal::is_in_doubt(self.shared) {
                true => wal::repair(self.shared, connection).await,
                false => connection.renew().await,
            };
            let Some(job) = self.rest.pop_front() else { return };
            match ready {
                Ok(()) => self.alone(connection, job, &mut tries).await,
                Err(error) => self.undone(job, &Arc::new(error)),
            }
        }
    }

    /// Runs a job in a transaction of its own.
    async fn alone(&mut self, connection: &mut PooledConnection, job: Box<Job>, tries: &mut Tries<'_>) {
        self.shared.runs(&job);
        let began = clock::now();
        let limit = self.shared.config.write_timeout;
        let outcome = match run_alone(&mut self.running.insert(job).kind, connection, tries, limit).await {
            Ok(true) => Ok(self.committed(1)),
            Ok(false) => Ok(End::Failed),
            Err(error) => self.after(connection, error).await,
        };
        let_go(connection);
        let took = self.leave(1, began);
        if let Some(job) = self.running.take() {
            self.pace.ran_alone(&job.kind, took);
            self.shared.settle(job, outcome.unwrap_or_else(|error| End::RolledBack(Arc::new(error))));
        }
    }
}

/// Runs a job in the transaction that others share, so that it can be undone alone. Whether the transaction is whole.
async fn run_beside_others(kind: &mut Kind, connection: &mut PooledConnection, shared: &Shared) -> bool {
    match kind {
        Kind::Statement(statement) | Kind::Solitary(statement) => {
            let ran = statement.run(connection).await;
            connection.is_in_transaction() && (ran || statement.left_nothing(connection))
        }
        Kind::Work(work) => run_in_savepoint(&mut **work, connection, shared.config.write_timeout).await.is_ok(),
    }
}

async fn run_in_savepoint(work: &mut dyn Work, connection: &mut PooledConnection, limit: Duration) -> Result<()> {
    connection.control(Control::Savepoint).await?;
    let mut transaction = connection.opened();
    let wants_commit = job::run(work, &mut transaction, limit).await;
    transaction.stays_open();
    if !connection.is_in_transaction() {
        return Err(Error::misuse("the transaction is over, or a statement in it was cut short"));
    }
    if !wants_commit {
        connection.control(Control::Undo).await?;
    }
    connection.control(Control::Release).await
}

/// Runs a job in a transaction of its own, so that nothing of it stays if it fails. Whether it is committed.
async fn run_alone(
    kind: &mut Kind,
    connection: &mut PooledConnection,
    tries: &mut Tries<'_>,
    limit: Duration,
) -> Result<bool> {
    match kind {
        Kind::Solitary(statement) => run_solitary(statement, connection, tries).await.map(|()| true),
        kind => {
            tries.begin(connection).await?;
            job::run_and_end(kind, connection, limit).await
        }
    }
}

/// A statement that cannot run inside a transaction: its commit is part of it.
async fn run_solitary(
    statement: &mut Statement,
    connection: &mut PooledConnection,
    tries: &mut Tries<'_>,
) -> Result<()> {
    loop {
        match statement.run_by_itself(connection).await {
            Err(error) if error.is_contention() => tries.again(connection).await?,
            // Nothing tells whether the disk failed in the statement or in its commit.
            Err(error) if error.may_have_committed() => return Err(Error::unknown(error)),
            outcome => return outcome,
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
