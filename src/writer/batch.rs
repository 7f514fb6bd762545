//! Group commit: writes that were queued while the last commit was being synced share the next one.
//!
//! A batch is one transaction. It takes what is queued when it begins and what comes while it runs, up to a number and a
//! time, and commits when nobody waits and nobody is likely to come at once ([`company`](super::company)): a lone write is
//! committed at once. What would keep the others for long goes after their commit ([`pace`](super::pace)). A statement is atomic
//! by itself; a closure runs in a savepoint. Whichever fails is undone alone, and its neighbours commit. All are answered after
//! the commit, even those that failed: what they failed for may have been a neighbour's write. If the commit fails, so did
//! their reason.
//!
//! (A statement that fails half-way may leave its first rows in the transaction: the engine undoes it only where it expects that
//! it can fail. So one that fails counts as having broken the transaction, and from then on its like runs in a savepoint of its
//! own, [`Failing`].)
//!
//! A job can break the transaction of all: a conflict that rolls it back (`OR ROLLBACK`), a statement dropped half-way, a
//! pragma. Then the connection is discarded, which undoes everything, and the jobs of the batch run again, in their order: those
//! before it together, and then it alone, so that it harms nobody else. Where nobody can tell who broke it, for the commit was
//! refused, half of them run together, or half of that, and twice as many after a success: a batch of 1,024 costs some twenty
//! commits then, not 1,024.
//!
//! ```text
//! A             B             lane
//! execute                     BEGIN IMMEDIATE; A
//!               execute       B
//!                             nobody waits: COMMIT, fsync
//! Ok            Ok            (a crash before this: neither; after it: both)
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::company::Company;
use super::door::Shared;
use super::failing::Failing;
use super::files::Files;
use super::job::{self, End, Job, Kind, Statement, Work};
use super::lane::discard;
use super::pace::Pace;
use super::queue::Next;
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

/// The batches of one lane. Every job that was taken out of the queue is in one of its two places until it is answered, or
/// among those to run again, so that none is forgotten whatever panics.
pub(super) struct Batch<'l> {
    shared: &'l Shared,
    /// Jobs that ran in the open transaction, in their order.
    #[expect(clippy::vec_box, reason = "they come in boxes, and may go back in them")]
    ran: Vec<Box<Job>>,
    /// The one that runs.
    running: Option<Box<Job>>,
    /// How many of those that are to run again do so together.
    together: usize,
    /// Whether the next one would have kept the last batch, or has to be alone, and was left in the queue.
    put_off: bool,
    /// Who is likely to come.
    company: Company,
    /// How long they take.
    pace: Pace,
    /// What has failed, and may again.
    failing: Failing,
    files: Files,
}

impl<'l> Batch<'l> {
    pub(super) fn new(shared: &'l Shared, files: Files) -> Self {
        let (company, pace, failing) = (Company::default(), Pace::default(), Failing::default());
        Self { shared, ran: Vec::new(), running: None, together: 1, put_off: false, company, pace, failing, files }
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
        } else if self.shared.again() == 0 {
            // One that waits learns of it, and the next one tries again.
            if let Next::Job(job) = self.next_if(|_| true) {
                self.undone(job, &cause);
            }
        }
        while let Some(job) = self.shared.next_again() {
            self.undone(job, &cause);
        }
    }

    /// Runs one batch of what is queued, and answers.
    async fn run(&mut self, connection: &mut PooledConnection) {
        if let Err(error) = connection.renew().await {
            // One job learns of it; the next one tries again.
            if let Next::Job(job) = self.next_if(|_| true) {
                self.undone(job, &Arc::new(error));
            }
            return;
        }
        let (end, put_off) = (self.shared.queue.end(), std::mem::take(&mut self.put_off));
        if let Err(error) = self.is_safe(connection).await {
            return self.refuse_before(end, error);
        }
        // Until there is the lock nothing is taken out: whoever waits for it can leave.
        if let Err(error) = Tries::for_those_who_wait(self.shared).begin(connection).await {
            return self.refuse_before(end, error);
        }
        if let Next::Job(job) = self.next_if(Job::is_solitary) {
            // It has a transaction of its own. Nobody had the lock just now.
            let _ = connection.opened().rollback().await;
            let_go(connection);
            return match connection.renew().await {
                Ok(()) => self.alone(connection, job).await,
                Err(error) => self.undone(job, &Arc::new(error)),
            };
        }
        // Probably a lone writer, whose closure needs no savepoint; or a closure that would keep others.
        let is_lone = self.company.is_single() && self.shared.queue.len() == 1;
        if (is_lone || put_off)
            && let Next::Job(job) =
                self.next_if(|job| matches!(job.kind, Kind::Work(_)) || is_lone && !job.is_solitary())
        {
            return self.alone(connection, job).await;
        }
        match self.fill(connection).await {
            Whole::Yes => self.commit(connection).await,
            Whole::Broken => self.undo_of_the_last(connection),
        }
        self.run_again(connection).await;
    }

    /// Takes the next job out to start it, if this holds of it. One whose time is over is told so instead: its caller may not
    /// have looked.
    fn next_if(&self, holds: impl Fn(&Job) -> bool) -> Next<Box<Job>> {
        loop {
            match self.shared.queue.pop_if(|job| holds(job)) {
                Next::Job(job) => match job.due {
                    // However soon the lane woke up: what may not wait at all has waited for nobody.
                    Some((due, limit)) if !limit.is_zero() && due <= clock::now() => {
                        self.undone(job, &Arc::new(Shared::too_late(limit)));
                    }
                    _ => return Next::Job(job),
                },
                none => return none,
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
        match self.files.look_after_commit() {
            Ok(()) => {
                self.shared.counts.batch_of(jobs);
                End::Committed(self.shared.committed(), 0)
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

    /// Runs what is queued, and what comes meanwhile, in the open transaction. A job that has to be alone ends it, and waits for
    /// its turn where it is.
    async fn fill(&mut self, connection: &mut PooledConnection) -> Whole {
        let began = clock::now();
        let mut last = began;
        self.company.gather();
        self.pace.begins();
        while self.ran.len() < self.most_together(connection) {
            let job = match self.next_if(|job| !job.is_solitary() && !self.pace.keeps_others(&job.kind)) {
                Next::Job(job) => job,
                Next::Other => {
                    self.put_off = true;
                    break;
                }
                Next::Nothing => match self.company.wait(self.ran.len(), || !self.shared.queue.is_empty()).await {
                    true => {
                        last = clock::now();
                        continue;
                    }
                    false => break,
                },
            };
            if let Whole::Broken = self.run_beside_others(job, connection).await {
                return Whole::Broken;
            }
            let now = clock::now();
            self.pace.ran(&self.ran[self.ran.len() - 1].kind, now.saturating_duration_since(last));
            if now.saturating_duration_since(began) >= self.shared.config.batch_time {
                break;
            }
            last = now;
        }
        Whole::Yes
    }

    /// How many may share a commit. The engine counts the violations of deferred foreign keys of a whole transaction together, and
    /// not well: what one job repairs another has broken, and a cascade takes one off too many.
    fn most_together(&self, connection: &PooledConnection) -> usize {
        if connection.has_deferred_keys() { 1 } else { self.shared.config.batch_jobs }
    }

    /// Runs a job in the transaction that others share.
    async fn run_beside_others(&mut self, job: Box<Job>, connection: &mut PooledConnection) -> Whole {
        self.shared.runs(&job);
        let kind = &mut self.running.insert(job).kind;
        let is_whole = run_beside_others(kind, connection, self.shared, &mut self.failing).await;
        self.ran.extend(self.running.take());
        if is_whole { Whole::Yes } else { Whole::Broken }
    }

    /// Commits the open transaction and answers those who ran in it, or lets them run again.
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
                Err(_) if self.ran.len() > 1 => return self.undo(connection, self.ran.len() / 2),
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
        self.together = self.together.saturating_mul(2);
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
        self.shared.rests();
        let alone = self.ran.len() == 1;
        for (position, job) in (0..).zip(std::mem::take(&mut self.ran)) {
            match end {
                End::Committed(token, _) => self.shared.settle(job, End::Committed(*token, position)),
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

    /// The one that ran last broke the transaction of all: those before it are to run again together, and then it alone.
    fn undo_of_the_last(&mut self, connection: &mut PooledConnection) {
        self.undo(connection, self.ran.len() - 1);
    }

    /// One of them broke the transaction of all. Undoes everything; so many of them are to run again together.
    fn undo(&mut self, connection: &mut PooledConnection, together: usize) {
        discard(connection);
        self.shared.rests();
        self.shared.counts.broke();
        self.together = together.max(1);
        // What they came to is undone, too.
        self.ran.iter_mut().for_each(|job| job.forget());
        self.shared.run_again(self.ran.drain(..));
    }

    /// Runs those of a broken batch again. If the lock is taken, all of them together try for it as long as one would.
    async fn run_again(&mut self, connection: &mut PooledConnection) {
        let mut tries = Tries::for_those_who_wait(self.shared);
        loop {
            let together = match self.shared.again() {
                0 => return,
                left => self.together.min(left),
            };
            if let Err(error) = self.begin_again(connection, &mut tries).await {
                if let Some(job) = self.shared.next_again() {
                    self.undone(job, &Arc::new(error));
                }
                continue;
            }
            match together {
                1 => match self.shared.next_again() {
                    Some(job) => self.alone(connection, job).await,
                    // The writer was closed meanwhile, and would wait no longer.
                    None => return drop(connection.opened().rollback().await),
                },
                _ => match self.fill_again(together, connection).await {
                    Whole::Yes => self.commit(connection).await,
                    Whole::Broken => self.undo_of_the_last(connection),
                },
            }
        }
    }

    /// Begins a transaction, after whatever became of the one before it.
    async fn begin_again(&self, connection: &mut PooledConnection, tries: &mut Tries<'_>) -> Result<()> {
        let_go(connection);
        match wal::is_in_doubt(self.shared) {
            true => wal::repair(self.shared, connection).await?,
            false => connection.renew().await?,
        }
        tries.begin(connection).await
    }

    /// Runs so many of them in the open transaction.
    async fn fill_again(&mut self, together: usize, connection: &mut PooledConnection) -> Whole {
        let began = clock::now();
        while self.ran.len() < together.min(self.most_together(connection))
            && clock::now().saturating_duration_since(began) < self.shared.config.batch_time
            && let Some(job) = self.shared.next_again()
        {
            if let Whole::Broken = self.run_beside_others(job, connection).await {
                return Whole::Broken;
            }
        }
        Whole::Yes
    }

    /// Runs a job by itself, in the open transaction or, if that cannot be, without one.
    async fn alone(&mut self, connection: &mut PooledConnection, job: Box<Job>) {
        self.shared.runs(&job);
        let began = clock::now();
        let (limit, due) = (self.shared.config.write_timeout, job.due);
        let ran = match &mut self.running.insert(job).kind {
            Kind::Solitary(statement) => {
                let mut tries = Tries::of(self.shared, due);
                run_solitary(statement, connection, &mut tries).await.map(|()| true)
            }
            kind => job::run_and_end(kind, connection, limit).await,
        };
        if let (Ok(false), Some(Kind::Statement(statement))) = (&ran, self.running.as_ref().map(|job| &job.kind))
            && connection.has_begun()
        {
            self.failing.add(statement.sql());
        }
        let outcome = match ran {
            Ok(true) => Ok(self.committed(1)),
            Ok(false) => Ok(End::Failed),
            Err(error) => self.after(connection, error).await,
        };
        let_go(connection);
        let took = self.leave(1, began);
        if let Some(job) = self.running.take() {
            self.pace.ran_alone(&job.kind, took);
            self.shared.rests();
            self.shared.settle(job, outcome.unwrap_or_else(|error| End::RolledBack(Arc::new(error))));
        }
    }
}

/// Runs a job in the transaction that others share, so that it can be undone alone. Whether the transaction is whole.
async fn run_beside_others(
    kind: &mut Kind,
    connection: &mut PooledConnection,
    shared: &Shared,
    failing: &mut Failing,
) -> bool {
    match kind {
        Kind::Statement(statement) | Kind::Solitary(statement) if failing.has(statement.sql()) => {
            statement.run_in_savepoint(connection).await;
            connection.is_in_transaction()
        }
        Kind::Statement(statement) | Kind::Solitary(statement) => {
            let ran = statement.run(connection).await;
            let left_nothing = ran || !connection.has_begun();
            if !left_nothing {
                failing.add(statement.sql());
            }
            connection.is_in_transaction() && left_nothing
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
