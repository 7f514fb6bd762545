//! The way in: room, a place in the queue, and the answer.
//!
//! The queue is bounded: permits of a semaphore for each line, which is fair, so those who wait for room are served in order
//! too, and no crowd in the background keeps anybody else outside. A job
//! whose caller is gone before it starts is taken out of the queue; once started it runs to its end, whether or not anybody
//! still waits for it: nothing is ever half applied.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use super::config::WriterConfig;
use super::executor::Executor;
use super::job::{Answer, End, Ended, Job, Label, Unanswered, is_at_once};
use super::outcome::{CommitToken, NotDone};
use super::queue::{Place, Priority, Queue};
use super::status::Counts;
use super::wal::Wal;
use crate::catch::contain;
use crate::error::{Error, Result, WriteStage};
use crate::pool::clock;
use crate::sync::Mutex;

/// What the lane and those who write share.
pub(super) struct Shared {
    pub(super) queue: Queue<Job>,
    /// Room in each line of the queue. Whoever takes a job out of the queue gives its room back.
    room: [Semaphore; 2],
    /// Somebody gave room back.
    left: Notify,
    unanswered: Unanswered,
    /// What the lane started last, while it is at work.
    started: Mutex<Option<Label>>,
    pub(super) config: WriterConfig,
    pub(super) counts: Counts,
    pub(super) wal: Wal,
    pub(super) executor: Arc<dyn Executor>,
    /// Which writer of this process it is.
    id: u64,
    /// The number of the last commit.
    commits: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: WriterConfig, wal: Wal, executor: Arc<dyn Executor>) -> Self {
        /// Tells one writer of this process from another.
        static WRITERS: AtomicU64 = AtomicU64::new(0);

        Self {
            queue: Queue::new(),
            room: [Semaphore::new(config.queue), Semaphore::new(config.queue)],
            left: Notify::new(),
            unanswered: Unanswered::default(),
            started: Mutex::new(None),
            config,
            counts: Counts::default(),
            wal,
            executor,
            id: WRITERS.fetch_add(1, Ordering::Relaxed),
            commits: AtomicU64::new(0),
        }
    }

    /// Takes the next job out.
    pub(super) fn next(&self) -> Option<Job> {
        self.taken(self.queue.pop())
    }

    /// The lane begins to run this job.
    pub(super) fn runs(&self, job: &Job) {
        let before = self.started.with(|started| started.replace(job.label()));
        drop(before);
    }

    /// Takes the next job out that came before `end`, to refuse it.
    pub(super) fn next_before(&self, end: u64) -> Option<Job> {
        self.taken(self.queue.pop_before(end))
    }

    /// What the lane is at: the write that it started last, which it runs or commits. `None` if it is at rest.
    pub(super) fn running(&self) -> Option<NotDone> {
        self.started.with(|started| started.as_ref().map(Label::not_done))
    }

    /// What the lane had started is done.
    pub(super) fn rests(&self) {
        drop(self.started.with(Option::take));
    }

    fn taken(&self, job: Option<Job>) -> Option<Job> {
        if let Some(job) = &job {
            self.leaves_room(job.priority);
        }
        job
    }

    /// Takes a job out whose caller leaves. False if it was started.
    fn leaves(&self, place: Place) -> bool {
        self.taken(self.queue.remove(place)).is_some()
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
            true => self.room(manner).await,
            false => self.try_room(manner.priority),
        };
        entered.inspect_err(|_| self.counts.refused())
    }

    /// Waits for room, for as long as the call may wait. What is left of that time afterwards is for its turn.
    async fn room(&self, manner: Manner) -> Result<()> {
        // Room that was given to this and not taken, for it was dropped meanwhile, goes back without a word: said here.
        let _left = TellsThatItLeft(&self.left);
        let room = self.room[manner.priority as usize].acquire();
        let permit = match manner.limit {
            None => room.await,
            Some(limit) => match clock::within(limit, room).await {
                Some(permit) => permit,
                None => return Err(Self::late(limit)),
            },
        };
        // The queue is closed before it refuses; a permit that was forgotten comes back when the job is taken out.
        permit.map_err(|_| Error::rolled_back(Error::Closed))?.forget();
        Ok(())
    }

    /// Takes room if there is some.
    fn try_room(&self, priority: Priority) -> Result<()> {
        use tokio::sync::TryAcquireError::{Closed, NoPermits};
        match self.room[priority as usize].try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(NoPermits) => Err(Error::rolled_back(Error::Full(self.config.queue))),
            Err(Closed) => Err(Error::rolled_back(Error::Closed)),
        }
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
            self.leaves_room(job.priority);
            self.counts.refused();
            return Err(Self::late(Duration::ZERO));
        }
        Ok(())
    }

    /// Queues a job for which there is room.
    ///
    /// # Errors
    /// [`Error::Closed`]; the room is given back.
    pub(super) fn queue<R, E>(&self, job: Job, answer: oneshot::Receiver<Answer<R, E>>) -> Result<Queued<'_, R, E>> {
        let (due, priority) = (job.due, job.priority);
        match self.queue.push(priority, job) {
            Ok(place) => Ok(Queued { shared: self, place, due, answer: Some(answer) }),
            Err(_refused) => {
                self.leaves_room(priority);
                self.counts.refused();
                Err(Error::rolled_back(Error::Closed))
            }
        }
    }

    /// The write lock is taken: whoever cannot wait for it is told so. There is one of those at most, for nobody is before it.
    pub(super) fn refuse_at_once(&self) {
        if let Some(job) = self.taken(self.queue.remove_first(Job::is_at_once)) {
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

    /// Who took room gives it back.
    pub(super) fn leaves_room(&self, priority: Priority) {
        // Wakers are somebody else's: one that panics must not end the lane.
        contain(|| self.room[priority as usize].add_permits(1));
        contain(|| self.left.notify_waiters());
    }

    /// Whoever comes later, or waits for room, is refused.
    pub(super) fn close(&self) {
        self.queue.close();
        self.room.iter().for_each(Semaphore::close);
    }

    /// Whether whoever comes is refused.
    pub(super) fn is_closed(&self) -> bool {
        self.room.iter().all(Semaphore::is_closed)
    }

    /// How much room is left in each line.
    pub(super) fn room_left(&self) -> [usize; 2] {
        self.room.each_ref().map(Semaphore::available_permits)
    }

    /// Whether nobody takes room.
    pub(super) fn is_empty(&self) -> bool {
        self.room_left() == [self.config.queue; 2]
    }

    /// Resolves when nobody does.
    pub(super) async fn everybody_left(&self) {
        loop {
            let left = self.left.notified();
            if self.is_empty() {
                return;
            }
            left.await;
        }
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
    pub(super) fn settle(&self, mut job: Job, end: End) {
        self.counts.ended(job.ended(&end));
        drop((job.counted.take(), job.claim.take()));
        job.settle(end);
    }

    /// Takes out whatever is still queued, and tells their callers that nothing was written.
    pub(super) fn refuse_the_rest(&self) -> Vec<NotDone> {
        let refuse = |job: Job| {
            let not_done = job.label().not_done();
            self.settle(job, End::RolledBack(Arc::new(Error::Closed)));
            not_done
        };
        std::iter::from_fn(|| self.taken(self.queue.pop())).map(refuse).collect()
    }
}

/// Dropped last, when the room is back.
struct TellsThatItLeft<'a>(&'a Notify);

impl Drop for TellsThatItLeft<'_> {
    fn drop(&mut self) {
        self.0.notify_waiters();
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
    place: Place,
    /// When it has to be started, and the time that it had for that.
    due: Option<(Instant, Duration)>,
    /// `None` once it was answered.
    answer: Option<oneshot::Receiver<Answer<R, E>>>,
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
        self.leaves().then(|| {
            self.shared.counts.ended(Ended::RolledBack);
            Ok(Err(Shared::late(limit).into()))
        })
    }

    /// Takes the job out to start it, and its room with it. `None` if somebody else has taken it out.
    pub(super) fn starts(&self) -> Option<Job> {
        self.shared.queue.remove(self.place)
    }
}

impl<R, E> Queued<'_, R, E> {
    /// Takes the job out of the queue. False if it was started, or answered.
    fn leaves(&mut self) -> bool {
        let left = self.answer.is_some() && self.shared.leaves(self.place);
        if left {
            self.answer = None;
        }
        left
    }
}

impl<R, E: From<Error>> Future for Queued<'_, R, E> {
    type Output = Answer<R, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.answer.as_mut().expect("not polled after it was ready");
        let answer = ready!(Pin::new(answer).poll(context));
        self.answer = None;
        // No answer: the lane is gone, in the middle of this.
        Poll::Ready(answer.unwrap_or_else(|_| Ok(Err(Error::unknown(Error::Closed).into()))))
    }
}

impl<R, E> Drop for Queued<'_, R, E> {
    fn drop(&mut self) {
        if self.leaves() {
            self.shared.counts.skipped();
        }
    }
}
