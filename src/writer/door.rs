//! The way in: room, a place in the queue, and the answer, each in the time that its caller has.
//!
//! Who gets room and who takes a job out is said by [`bounded`](super::bounded). A job whose caller is gone before it starts
//! is taken out of the queue; once started it runs to its end, whether or not anybody still waits for it: nothing is ever
//! half applied.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::bounded::{Bounded, Lined, NoRoom, Ticket};
use super::config::WriterConfig;
use super::executor::Executor;
use super::job::{Answer, End, Ended, Job, Label, Unanswered, is_at_once};
use super::outcome::{CommitToken, NotDone};
use super::queue::Priority;
use super::status::Counts;
use super::wal::Wal;
use crate::error::{Error, Result, WriteStage};
use crate::pool::clock;
use crate::sql::Texts;
use crate::sync::Mutex;

/// What the lane and those who write share.
pub(super) struct Shared {
    pub(super) queue: Bounded<Box<Job>>,
    unanswered: Unanswered,
    /// Those whose batch broke, in their order: they are to run again, and nothing of them is in the database.
    again: Mutex<VecDeque<Box<Job>>>,
    /// What the lane started last, while it is at work.
    started: Mutex<Option<Label>>,
    pub(super) config: WriterConfig,
    pub(super) counts: Counts,
    pub(super) wal: Wal,
    pub(super) executor: Arc<dyn Executor>,
    /// Those of the statements that it was asked for.
    pub(super) texts: Texts,
    /// Which writer of this process it is.
    id: u64,
    /// The number of the last commit.
    commits: AtomicU64,
}

/// What is refused is refused at once: a loop of that would keep the runtime from its other tasks, and, in a closure, from the end of
/// its time.
pub(super) async fn given_time<T, E>(outcome: Result<T, E>) -> Result<T, E> {
    if outcome.is_err() {
        consume_budget().await;
    }
    outcome
}

impl Shared {
    pub(super) fn new(config: WriterConfig, wal: Wal, executor: Arc<dyn Executor>) -> Self {
        /// Tells one writer of this process from another.
        static WRITERS: AtomicU64 = AtomicU64::new(0);

        Self {
            queue: Bounded::new(config.queue),
            unanswered: Unanswered::default(),
            again: Mutex::default(),
            started: Mutex::new(None),
            config,
            counts: Counts::default(),
            wal,
            executor,
            texts: Texts::default(),
            id: WRITERS.fetch_add(1, Ordering::Relaxed),
            commits: AtomicU64::new(0),
        }
    }

    /// The lane begins to run this job.
    pub(super) fn runs(&self, job: &Job) {
        let before = self.started.with(|started| started.replace(job.label()));
        drop(before);
    }

    /// They are to run again, before others that are.
    pub(super) fn run_again(&self, jobs: impl DoubleEndedIterator<Item = Box<Job>>) {
        self.again.with(|again| jobs.rev().for_each(|job| again.push_front(job)));
    }

    /// The next of those that are to run again.
    pub(super) fn next_again(&self) -> Option<Box<Job>> {
        self.again.with(VecDeque::pop_front)
    }

    /// How many are to run again.
    pub(super) fn again(&self) -> usize {
        self.again.with(|again| again.len())
    }

    /// What the lane is at: the write that it started last, which it runs or commits. `None` if it is at rest.
    pub(super) fn running(&self) -> Option<NotDone> {
        self.started.with(|started| started.as_ref().map(Label::not_done))
    }

    /// What the lane had started is done.
    pub(super) fn rests(&self) {
        drop(self.started.with(Option::take));
    }

    /// Takes room, or waits for it if `waits`.
    ///
    /// # Errors
    /// [`Error::RolledBack`]: for [`Error::Full`] if it does not wait, for [`Error::Deadline`], or for [`Error::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, nothing is taken.
    pub(super) async fn enter(&self, manner: Manner, waits: bool) -> Result<()> {
        let entered = match waits {
            true => self.wait_for_room(manner).await,
            false => self.queue.try_enter(manner.priority).map_err(|why| self.no_room(why)),
        };
        if entered.is_err() {
            self.counts.refused();
        }
        given_time(entered).await
    }

    /// Waits for room, for as long as the call may wait. What is left of that time afterwards is for its turn.
    async fn wait_for_room(&self, manner: Manner) -> Result<()> {
        let room = self.queue.enter(manner.priority);
        let entered = match manner.limit {
            None => room.await,
            Some(limit) => match clock::within(limit, room).await {
                Some(entered) => entered,
                None => return Err(Self::late(limit)),
            },
        };
        entered.map_err(|why| self.no_room(why))
    }

    fn no_room(&self, why: NoRoom) -> Error {
        Error::rolled_back(match why {
            NoRoom::Closed => Error::Closed,
            NoRoom::Full => Error::Full(self.config.queue),
        })
    }

    /// Counts a job for which there is room until it is answered. One that may not wait at all has to be the only one.
    ///
    /// # Errors
    /// [`Error::Deadline`]; the room is given back.
    pub(super) fn count(&self, job: &mut Job) -> Result<()> {
        if !job.is_at_once() {
            job.counted = Some(self.unanswered.one_more());
            return Ok(());
        }
        job.counted = self.unanswered.only_one();
        if job.counted.is_none() {
            self.queue.leaves_room(job.priority);
            self.counts.refused();
            return Err(Self::late(Duration::ZERO));
        }
        Ok(())
    }

    /// Queues a job for which there is room.
    ///
    /// # Errors
    /// [`Error::Closed`]; the room is given back.
    pub(super) fn queue<R, E>(
        &self,
        job: Box<Job>,
        answer: oneshot::Receiver<Answer<R, E>>,
    ) -> Result<Queued<'_, R, E>> {
        let due = job.due;
        match self.queue.push(job, answer) {
            Ok(ticket) => Ok(Queued { shared: self, ticket, due }),
            Err(_refused) => {
                self.counts.refused();
                Err(Error::rolled_back(Error::Closed))
            }
        }
    }

    /// The write lock is taken: whoever cannot wait for it is told so. There is one of those at most, for nobody is before it.
    pub(super) fn refuse_at_once(&self) {
        if let Some(job) = self.queue.remove_first(|job| job.is_at_once()) {
            self.settle(job, End::RolledBack(Arc::new(Self::too_late(Duration::ZERO))));
        }
    }

    /// It had to be started within that time, and was not.
    pub(super) fn late(limit: Duration) -> Error {
        Error::rolled_back(Self::too_late(limit))
    }

    /// The reason of that.
    pub(super) fn too_late(limit: Duration) -> Error {
        Error::Deadline { stage: WriteStage::Waiting, limit }
    }

    /// Whoever comes later, or waits for room, is refused.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// A commit was made.
    pub(super) fn committed(&self) -> CommitToken {
        // Readers see the number after what it stands for.
        CommitToken { writer: self.id, number: self.commits.fetch_add(1, Ordering::Release) + 1 }
    }

    pub(super) fn last_commit(&self) -> CommitToken {
        CommitToken { writer: self.id, number: self.commits.load(Ordering::Acquire) }
    }

    /// Counts how a job ended, and answers it: whoever is told finds it counted.
    pub(super) fn settle(&self, mut job: Box<Job>, end: End) {
        self.counts.ended(job.ended(&end));
        drop((job.counted.take(), job.claim.take()));
        job.settle(end);
    }

    /// Takes out whatever is still queued or to run again, and tells their callers that nothing was written.
    pub(super) fn refuse_the_rest(&self) -> Vec<NotDone> {
        let refuse = |job: Box<Job>| {
            let not_done = job.label().not_done();
            self.settle(job, End::RolledBack(Arc::new(Error::Closed)));
            not_done
        };
        std::iter::from_fn(|| self.next_again().or_else(|| self.queue.pop())).map(refuse).collect()
    }
}

impl Lined for Box<Job> {
    fn line(&self) -> Priority {
        self.priority
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("queued", &self.queue.len()).field("last_commit", &self.last_commit()).finish()
    }
}

/// How one call goes about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) priority: Priority,
    /// How long it may wait until it is started.
    pub(super) limit: Option<Duration>,
}

/// A job in the queue, or started. Dropped before it is answered, it leaves the queue.
pub(super) struct Queued<'a, R, E> {
    shared: &'a Shared,
    ticket: Ticket<'a, Box<Job>, Answer<R, E>>,
    /// When it has to be started, and the time that it had for that.
    due: Option<(Instant, Duration)>,
}

impl<R, E: From<Error>> Queued<'_, R, E> {
    /// Waits for the answer of a lane, until the job is due if it has not started by then. One that has to be started at once
    /// does not look at how soon the lane wakes up: that starts it, or refuses it.
    ///
    /// # Cancel safety
    /// Dropped before the job starts, it leaves the queue; after that it runs to its end, unobserved.
    pub(super) async fn answer(mut self) -> Answer<R, E> {
        if let Some(rest) = self.rest().filter(|_| !is_at_once(self.due)) {
            match clock::within(rest, &mut self).await {
                Some(answer) => return answer,
                None => {
                    if let Some(late) = self.is_late() {
                        return late;
                    }
                }
            }
        }
        self.await
    }

    /// How long the job may still wait to be started.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.due.map(|(due, _)| due.saturating_duration_since(clock::now()))
    }

    /// Its time is over: what its caller is told, unless the job was started in time.
    pub(super) fn is_late(&mut self) -> Option<Answer<R, E>> {
        let (_, limit) = self.due?;
        let left = self.ticket.leave()?;
        self.shared.counts.ended(Ended::RolledBack);
        drop(left);
        Some(Ok(Err(Shared::late(limit).into())))
    }

    /// Takes the job out to start it, and its room with it. `None` if somebody else has taken it out.
    pub(super) fn starts(&self) -> Option<Box<Job>> {
        self.ticket.start()
    }
}

impl<R, E: From<Error>> Future for Queued<'_, R, E> {
    type Output = Answer<R, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.ticket).poll(context));
        // No answer: the lane is gone, in the middle of this.
        Poll::Ready(answer.unwrap_or_else(|| Ok(Err(Error::unknown(Error::Closed).into()))))
    }
}
