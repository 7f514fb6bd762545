//! The lane's queue with its bound: whoever wants in takes room first, or waits for it; whoever takes a job out gives its
//! room back.
//!
//! Room is the permits of a semaphore for each line, which is fair: those who wait for it are served in order, and no crowd
//! in the background keeps anybody else outside. Whatever becomes of a job, its room comes back once:
//!
//! ```text
//! has room                    closes                      waits for room
//!                             the queue
//! queues its job: refused,
//! gives its room back --------------------------------->  handed it
//!                             the room
//!                                                         looks: closed; gives it back
//! ```
//!
//! A caller has a [`Ticket`] for its job. It is answered, or it takes the job out of the queue itself, and both sides know
//! which: a job is taken out once. This knows no time and no engine; `tests/loom/main.rs` compiles the very same source.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use super::queue::{Next, Place, Priority, Queue};
use crate::catch::contain;
use crate::sync::{Notify, Semaphore, TryAcquireError, oneshot};

/// What stands in a line of the queue.
pub(crate) trait Lined {
    /// Which.
    fn line(&self) -> Priority;
}

/// Why somebody got no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    Closed,
    /// There is none now.
    Full,
}

/// A queue with room for so many in each of its lines.
pub(crate) struct Bounded<J> {
    queue: Queue<J>,
    room: [Semaphore; 2],
    size: usize,
    /// Somebody gave room back.
    left: Notify,
    /// Jobs whose caller was gone before they were taken out.
    skipped: AtomicU64,
}

impl<J> Bounded<J> {
    pub(crate) fn new(size: usize) -> Self {
        let room = [Semaphore::new(size), Semaphore::new(size)];
        Self { queue: Queue::new(), room, size, left: Notify::new(), skipped: AtomicU64::new(0) }
    }

    /// Takes room, or waits for it.
    ///
    /// # Errors
    /// [`NoRoom::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, nothing is taken.
    pub(crate) async fn enter(&self, line: Priority) -> Result<(), NoRoom> {
        // Room that was given to this and not taken, for it was dropped meanwhile, goes back without a word: said here.
        let _left = TellsThatItLeft(self, line);
        let room = self.room[line as usize].acquire().await;
        // The queue is closed before it refuses; a permit that was forgotten comes back when the job is taken out.
        room.map_err(|_| NoRoom::Closed)?.forget();
        Ok(())
    }

    /// Takes room if there is some.
    ///
    /// # Errors
    /// [`NoRoom`], whichever it is.
    pub(crate) fn try_enter(&self, line: Priority) -> Result<(), NoRoom> {
        let room = self.room[line as usize].try_acquire();
        let refused = |why| match why {
            TryAcquireError::NoPermits => NoRoom::Full,
            TryAcquireError::Closed => NoRoom::Closed,
        };
        room.map_err(refused)?.forget();
        Ok(())
    }

    /// Who took room gives it back.
    pub(crate) fn leaves_room(&self, line: Priority) {
        // Wakers are somebody else's: one that panics must not end the lane.
        contain(|| self.room[line as usize].add_permits(1));
        self.tell_that_one_left(line);
    }

    /// Nobody listens before the close. Room and close are one atomic number, so whoever does not see the close here gave room
    /// back before it, and who listens sees that.
    fn tell_that_one_left(&self, line: Priority) {
        if self.room[line as usize].is_closed() {
            contain(|| self.left.notify_waiters());
        }
    }

    /// Whoever comes later, or waits for room, is refused. What is queued stays.
    pub(crate) fn close(&self) {
        self.queue.close();
        self.room.iter().for_each(Semaphore::close);
    }

    /// Whether whoever comes is refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.room.iter().all(Semaphore::is_closed)
    }

    /// How much room is left in each line.
    pub(crate) fn room_left(&self) -> [usize; 2] {
        self.room.each_ref().map(Semaphore::available_permits)
    }

    /// Whether nobody takes room.
    pub(crate) fn has_nobody(&self) -> bool {
        self.room_left() == [self.size; 2]
    }

    /// Resolves when nobody does, once it is closed.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub(crate) async fn everybody_left(&self) {
        loop {
            // Listens before it looks, or it would miss whoever leaves between the two.
            let left = self.left.notified();
            if self.has_nobody() {
                return;
            }
            left.await;
        }
    }

    /// Jobs whose caller was gone before they were taken out.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// The number of the next to come.
    pub(crate) fn end(&self) -> u64 {
        self.queue.end()
    }

    /// How many are queued.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// As [`Queue::poll_job`].
    pub(crate) fn poll_job(&self, context: &Context<'_>) -> Poll<bool> {
        self.queue.poll_job(context)
    }
}

impl<J: Lined> Bounded<J> {
    /// Queues a job for which there is room. It is answered by `answer`.
    ///
    /// # Errors
    /// The job, if the queue is closed; the room is given back.
    pub(crate) fn push<A>(&self, job: J, answer: oneshot::Receiver<A>) -> Result<Ticket<'_, J, A>, J> {
        match self.queue.push(job.line(), job) {
            Ok(place) => Ok(Ticket { queue: self, place, answer: Some(answer) }),
            Err(job) => {
                self.leaves_room(job.line());
                Err(job)
            }
        }
    }

    /// Takes the next job out.
    pub(crate) fn pop(&self) -> Option<J> {
        self.taken(self.queue.pop())
    }

    /// Takes the next job out if this holds of it.
    pub(crate) fn pop_if(&self, holds: impl Fn(&J) -> bool) -> Next<J> {
        match self.queue.pop_if(holds) {
            Next::Job(job) => {
                self.leaves_room(job.line());
                Next::Job(job)
            }
            other => other,
        }
    }

    /// Takes the next job out of those that came before `end`.
    pub(crate) fn pop_before(&self, end: u64) -> Option<J> {
        self.taken(self.queue.pop_before(end))
    }

    /// Takes the first job out of which this holds.
    pub(crate) fn remove_first(&self, holds: impl Fn(&J) -> bool) -> Option<J> {
        self.taken(self.queue.remove_first(holds))
    }

    fn taken(&self, job: Option<J>) -> Option<J> {
        if let Some(job) = &job {
            self.leaves_room(job.line());
        }
        job
    }
}

/// Dropped last, when the room is back.
struct TellsThatItLeft<'a, J>(&'a Bounded<J>, Priority);

impl<J> Drop for TellsThatItLeft<'_, J> {
    fn drop(&mut self) {
        self.0.tell_that_one_left(self.1);
    }
}

/// A job in the queue, or one that was taken out and is not answered. Dropped before that, it takes the job out, and counts
/// it as skipped.
pub(crate) struct Ticket<'a, J: Lined, A> {
    queue: &'a Bounded<J>,
    place: Place,
    /// `None` once it was answered.
    answer: Option<oneshot::Receiver<A>>,
}

impl<J: Lined, A> Ticket<'_, J, A> {
    /// Takes the job out, for its caller waits no more. `None` if somebody else has.
    pub(crate) fn leave(&mut self) -> Option<J> {
        self.answer.as_ref()?;
        let job = self.queue.taken(self.queue.queue.remove(self.place))?;
        self.answer = None;
        Some(job)
    }

    /// Takes the job out to start it, and its room with it. `None` if somebody else has.
    pub(crate) fn start(&self) -> Option<J> {
        self.queue.queue.remove(self.place)
    }
}

/// The answer; `None` if the job was dropped without one.
impl<J: Lined, A> Future for Ticket<'_, J, A> {
    type Output = Option<A>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.answer.as_mut().expect("not polled after it was ready");
        let answer = ready!(Pin::new(answer).poll(context));
        self.answer = None;
        Poll::Ready(answer.ok())
    }
}

impl<J: Lined, A> Drop for Ticket<'_, J, A> {
    fn drop(&mut self) {
        if let Some(job) = self.leave() {
            // Before the job is dropped, which is somebody else's code.
            self.queue.skipped.fetch_add(1, Ordering::Relaxed);
            drop(job);
        }
    }
}
