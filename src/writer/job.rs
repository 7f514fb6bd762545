//! One write: what is done for it, what it came to, and who is told.
//!
//! A job is run, perhaps more than once, and then settled, once. Running it gives a result that is provisional: it stands
//! only if the transaction that it ran in is committed. What failed by itself has failed whatever becomes of the rest, but
//! its caller is told no sooner: it may have failed for what a neighbour wrote that is not committed either.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use turso::params::Params;

use super::claim::Claim;
use super::outcome::{Ack, CommitToken, NotDone};
use super::queue::Priority;
use crate::catch::{catch, contain, drop_contained};
use crate::error::{Error, Result, WriteStage};
use crate::pool::inside::{self, Inside};
use crate::pool::{PooledConnection, Transaction, clock};

/// How a job answers: what it came to, or the panic that ended it.
pub(super) type Answer<R, E> = std::result::Result<Result<Ack<R>, E>, Box<dyn Any + Send>>;

/// What became of the transaction that a job ran in.
#[derive(Clone)]
pub(super) enum End {
    /// With which commit, and at which position in it.
    Committed(CommitToken, u32),
    /// The job failed by itself, and its own error is what its caller is told.
    Failed,
    RolledBack(Arc<Error>),
    Unknown(Arc<Error>),
}

/// What a job came to, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Committed,
    RolledBack,
    Unknown,
}

/// Of a job that ended in a way that it cannot have.
const UNTOLD: &str = "a job that is committed was run, and one that failed has an error";

/// What is said of a statement that began a transaction, by a savepoint for example.
const NOT_ALONE: &str = "execute runs one statement by itself; use write for a transaction: it was undone";

/// A write of some kind.
pub(super) trait Work: Send {
    /// Runs it in an open transaction. Whether it wants to be committed.
    fn run<'a>(&'a mut self, transaction: &'a mut Transaction<'_>) -> Pin<Box<dyn Future<Output = bool> + 'a>>;

    /// It was dropped half-way, for this.
    fn fails(&mut self, error: Error);

    /// Whether it failed by itself when it was run last.
    fn failed(&self) -> bool;

    /// What it came to does not count.
    fn forget(&mut self);

    /// Answers its caller.
    fn settle(self: Box<Self>, end: End);
}

/// A closure over a transaction.
pub(super) struct Closure<F, R, E> {
    work: F,
    /// What it came to when it was run last.
    came_to: Option<std::result::Result<Result<R, E>, Box<dyn Any + Send>>>,
    reply: oneshot::Sender<Answer<R, E>>,
}

impl<F, R, E> Closure<F, R, E> {
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Answer<R, E>>) {
        let (reply, answer) = oneshot::channel();
        (Self { work, came_to: None, reply }, answer)
    }
}

impl<F, R, E> Work for Closure<F, R, E>
where
    F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send,
    R: Send,
    E: From<Error> + Send,
{
    fn run<'a>(&'a mut self, transaction: &'a mut Transaction<'_>) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
        // What an earlier run came to.
        drop_contained(self.came_to.take());
        Box::pin(async move {
            // The call is inside, too: it may panic before there is a future.
            let came_to = catch(async { (self.work)(transaction).await }).await;
            let wants_commit = matches!(came_to, Ok(Ok(_)));
            self.came_to = Some(came_to);
            wants_commit
        })
    }

    fn fails(&mut self, error: Error) {
        drop_contained(self.came_to.take());
        // Made by somebody else's code, too.
        self.came_to = Some(catch_unwind(AssertUnwindSafe(|| Err(error.into()))));
    }

    fn failed(&self) -> bool {
        matches!(self.came_to, Some(Ok(Err(_)) | Err(_)))
    }

    fn forget(&mut self) {
        drop_contained(self.came_to.take());
    }

    fn settle(self: Box<Self>, end: End) {
        let Self { work, came_to, reply } = *self;
        // It may have a handle to its writer: whoever is told of it, and drops their own, is not held up by that.
        drop_contained(work);
        let answer = match (came_to, end) {
            (Some(Ok(Err(error))), _) => Ok(Err(error)),
            (Some(Err(panic)), _) => Err(panic),
            (Some(Ok(Ok(value))), End::Committed(token, position)) => Ok(Ok(Ack { value, token, position })),
            (_, End::Unknown(cause)) => Ok(Err(Error::unknown(cause).into())),
            (_, End::RolledBack(cause)) => Ok(Err(Error::rolled_back(cause).into())),
            (None, End::Committed(..)) | (_, End::Failed) => unreachable!("{UNTOLD}"),
        };
        // Fails only if the caller left meanwhile.
        let _ = reply.send(answer);
    }
}

/// One statement.
pub(super) struct Statement {
    sql: Arc<str>,
    params: Params,
    came_to: Option<Result<u64>>,
    reply: oneshot::Sender<Answer<u64, Error>>,
}

impl Statement {
    pub(super) fn new(sql: Arc<str>, params: Params) -> (Self, oneshot::Receiver<Answer<u64, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self { sql, params, came_to: None, reply }, answer)
    }

    pub(super) fn sql(&self) -> &Arc<str> {
        &self.sql
    }

    /// Runs it, in whatever transaction is open. Whether it did; if not, a part of it may be left in the transaction.
    pub(super) async fn run(&mut self, connection: &mut PooledConnection) -> bool {
        // Kept, for it may have to run again.
        let outcome = connection.execute_in_one(&self.sql, self.params.clone()).await;
        self.came(outcome)
    }

    /// The same in a savepoint: if it fails, nothing of it is left.
    pub(super) async fn run_in_savepoint(&mut self, connection: &mut PooledConnection) -> bool {
        let outcome = connection.execute(&self.sql, self.params.clone()).await;
        self.came(outcome)
    }

    fn came(&mut self, outcome: Result<u64>) -> bool {
        let ran = outcome.is_ok();
        self.came_to = Some(outcome);
        ran
    }

    /// Runs it where its commit is part of it.
    ///
    /// # Errors
    /// What it failed with. It has come to nothing yet then, and may run again.
    pub(super) async fn run_by_itself(&mut self, connection: &mut PooledConnection) -> Result<()> {
        self.run(connection).await;
        match self.came_to.take() {
            Some(Err(error)) => Err(error),
            _ if !connection.is_autocommit() => Err(Error::misuse(NOT_ALONE)),
            came_to => {
                self.came_to = came_to;
                Ok(())
            }
        }
    }

    fn settle(self, end: End) {
        let answer = match (self.came_to, end) {
            (Some(Ok(value)), End::Committed(token, position)) => Ok(Ack { value, token, position }),
            (Some(Err(error)), _) => Err(Error::rolled_back(error)),
            (_, End::Unknown(cause)) => Err(Error::unknown(cause)),
            (_, End::RolledBack(cause)) => Err(Error::rolled_back(cause)),
            (None, End::Committed(..)) | (_, End::Failed) => unreachable!("{UNTOLD}"),
        };
        let _ = self.reply.send(Ok(answer));
    }
}

/// What a job does. A statement is a kind of its own since there are many of them: it needs no savepoint and no box.
pub(super) enum Kind {
    Statement(Statement),
    /// A statement that cannot run inside a transaction, or leaves something behind on its connection.
    Solitary(Statement),
    Work(Box<dyn Work>),
}

/// Whether what is due then may not wait at all.
pub(super) fn is_at_once(due: Option<(Instant, Duration)>) -> bool {
    due.is_some_and(|(_, limit)| limit.is_zero())
}

/// A write in the queue.
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) priority: Priority,
    pub(super) site: &'static Location<'static>,
    /// When it came.
    pub(super) came: Instant,
    /// When it has to be started, and the time that it had for that.
    pub(super) due: Option<(Instant, Duration)>,
    /// Until it is answered.
    pub(super) counted: Option<Counted>,
    /// The same, of one that no lane answers for: it holds the file.
    pub(super) claim: Option<Arc<Claim>>,
}

/// How many writes a lane has accepted and not answered.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Arc<AtomicUsize>);

/// One of them.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Unanswered {
    /// There is one more.
    pub(super) fn one_more(&self) -> Counted {
        self.0.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(&self.0))
    }

    /// The same, if it is the only one.
    pub(super) fn only_one(&self) -> Option<Counted> {
        let none_before = self.0.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok();
        none_before.then(|| Counted(Arc::clone(&self.0)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a job is, for a report.
pub(super) struct Label {
    site: &'static Location<'static>,
    came: Instant,
    sql: Option<Arc<str>>,
}

/// Of a statement, as much as a line of a report can bear, in letters.
const SHOWN: usize = 120;

impl Label {
    pub(super) fn not_done(&self) -> NotDone {
        let sql = self.sql.as_ref().map(|sql| sql.chars().take(SHOWN).collect());
        NotDone { site: self.site, waited: clock::now().saturating_duration_since(self.came), sql }
    }
}

impl Job {
    /// Whether it cannot share a transaction.
    pub(super) fn is_solitary(&self) -> bool {
        matches!(self.kind, Kind::Solitary(_))
    }

    /// Whether it may not wait at all.
    pub(super) fn is_at_once(&self) -> bool {
        is_at_once(self.due)
    }

    /// Whether it failed by itself when it was run last.
    pub(super) fn failed(&self) -> bool {
        match &self.kind {
            Kind::Statement(statement) | Kind::Solitary(statement) => matches!(statement.came_to, Some(Err(_))),
            Kind::Work(work) => work.failed(),
        }
    }

    /// What it came to does not count: what it ran in was undone.
    pub(super) fn forget(&mut self) {
        match &mut self.kind {
            Kind::Statement(statement) | Kind::Solitary(statement) => statement.came_to = None,
            Kind::Work(work) => work.forget(),
        }
    }

    /// What it comes to if its transaction ends so.
    pub(super) fn ended(&self, end: &End) -> Ended {
        match end {
            _ if self.failed() => Ended::RolledBack,
            End::Committed(..) => Ended::Committed,
            End::Failed | End::RolledBack(_) => Ended::RolledBack,
            End::Unknown(_) => Ended::Unknown,
        }
    }

    /// Answers its caller. Nothing of the job's own may end the lane by a panic: not the drop of what it captured, and not
    /// that of an answer that nobody waits for.
    pub(super) fn settle(self, end: End) {
        // What is dropped with it is inside the lane, as the closure was.
        contain(|| {
            inside::within(Inside::WRITE, || match self.kind {
                Kind::Statement(statement) | Kind::Solitary(statement) => statement.settle(end),
                Kind::Work(work) => work.settle(end),
            });
        });
    }

    /// What it is, for a report.
    pub(super) fn label(&self) -> Label {
        let sql = match &self.kind {
            Kind::Statement(statement) | Kind::Solitary(statement) => Some(Arc::clone(&statement.sql)),
            Kind::Work(_) => None,
        };
        Label { site: self.site, came: self.came, sql }
    }
}

/// Runs a job in the transaction that is open on `connection`, for `limit` at most if it is a closure, and ends that: commits
/// it, synced, or rolls it back if the job failed by itself. Whether it is committed.
///
/// # Errors
/// The commit's.
pub(super) async fn run_and_end(kind: &mut Kind, connection: &mut PooledConnection, limit: Duration) -> Result<bool> {
    let wants_commit = match kind {
        Kind::Statement(statement) | Kind::Solitary(statement) => statement.run(connection).await,
        Kind::Work(work) => {
            let mut transaction = connection.opened();
            let wants_commit = run(&mut **work, &mut transaction, limit).await;
            transaction.stays_open();
            wants_commit
        }
    };
    if wants_commit {
        connection.opened().commit_synced().await?;
    } else if !connection.is_autocommit() {
        // If even that fails, the connection is discarded, and the engine rolls back with its last handle.
        let _ = connection.opened().rollback().await;
    }
    Ok(wants_commit)
}

/// Runs `work` in the transaction that is open on `connection`, for `limit` at most. Whether it wants to be committed.
pub(super) async fn run(work: &mut dyn Work, transaction: &mut Transaction<'_>, limit: Duration) -> bool {
    let began = clock::now();
    transaction.set_deadline(began.checked_add(limit));
    let wants_commit = {
        let mut running = work.run(transaction);
        let wants_commit = {
            let mut limited = pin!(clock::within_from(began, limit, running.as_mut()));
            poll_fn(|context| inside::within(Inside::WRITE, || limited.as_mut().poll(context))).await
        };
        inside::within(Inside::WRITE, || drop_contained(running));
        wants_commit
    };
    transaction.set_deadline(None);
    wants_commit.unwrap_or_else(|| {
        work.fails(Error::rolled_back(Error::Deadline { stage: WriteStage::Running, limit }));
        false
    })
}
