//! Room in the writer's queue: whoever waits for it gets it or is told of the end, and all of it is back then, not more.
//!
//! What waits in here is the stand-ins' (`stand_ins`), the code around it is what ships.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::{Notify, Semaphore, oneshot};
use crate::world::{Sometimes, block_on, explore, failure};
use crate::writer::bounded::{Bounded, Lined, NoRoom};
use crate::writer::queue::{Priority, Queue};

/// Polls a future once, as somebody who does not wait.
pub(crate) fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn spawn<D: Send + Sync + 'static, R: 'static>(
    door: &Arc<D>,
    f: impl FnOnce(&D) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let door = Arc::clone(door);
    loom::thread::spawn(move || f(&door))
}

/// Room in a queue: the one that ships, or one that is broken on purpose. Everybody is of one line.
trait Room: Send + Sync + 'static {
    /// Whether it got room.
    fn enter(&self) -> impl Future<Output = bool>;
    /// Whether it was queued. If not, its room is back.
    fn queue(&self, job: u32) -> bool;
    fn leaves_room(&self);
    fn poll_job(&self, context: &Context<'_>) -> Poll<bool>;
    fn next(&self) -> Option<u32>;
    fn close(&self);
    fn everybody_left(&self) -> impl Future<Output = ()>;
    /// Whether all room is back, and not more.
    fn is_whole(&self) -> bool;
}

pub(crate) const LINE: Priority = Priority::Normal;

impl Lined for u32 {
    fn line(&self) -> Priority {
        LINE
    }
}

impl Room for Bounded<u32> {
    async fn enter(&self) -> bool {
        Bounded::enter(self, LINE).await.is_ok()
    }

    fn queue(&self, job: u32) -> bool {
        let (_nobody, answer) = oneshot::channel::<()>();
        // Its caller does not leave: what becomes of its ticket is of no interest here.
        self.push(job, answer).map(std::mem::forget).is_ok()
    }

    fn leaves_room(&self) {
        Bounded::leaves_room(self, LINE);
    }

    fn poll_job(&self, context: &Context<'_>) -> Poll<bool> {
        Bounded::poll_job(self, context)
    }

    fn next(&self) -> Option<u32> {
        self.pop()
    }

    fn close(&self) {
        Bounded::close(self);
    }

    async fn everybody_left(&self) {
        Bounded::everybody_left(self).await;
    }

    fn is_whole(&self) -> bool {
        self.has_nobody()
    }
}

/// What is wrong with a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Whoever waits for room is not told of the end.
    ClosesOnlyTheQueue,
    /// A job that is refused keeps its room.
    RefusedKeepsRoom,
    /// Room that is given back twice: by the refusal, and by who was refused.
    ComesBackTwice,
    /// Nobody is told of room that was given to somebody who is gone.
    LeavesSilently,
    /// It looks for the close first, and gives its room back in a second step.
    LooksBeforeItLeaves,
    /// It looks whether somebody is left, and listens in a second step.
    LooksBeforeItListens,
}

/// A mutant that the models must catch, with room for one.
struct Faulty {
    fault: Fault,
    queue: Queue<u32>,
    room: Semaphore,
    left: Notify,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { fault, queue: Queue::new(), room: Semaphore::new(1), left: Notify::new() }
    }
}

/// Says that somebody left, when it is dropped.
struct Says<'a>(Option<&'a Notify>);

impl Drop for Says<'_> {
    fn drop(&mut self) {
        self.0.into_iter().for_each(Notify::notify_waiters);
    }
}

impl Room for Faulty {
    async fn enter(&self) -> bool {
        let _says = Says((self.fault != Fault::LeavesSilently).then_some(&self.left));
        self.room.acquire().await.map(|permit| permit.forget()).is_ok()
    }

    fn queue(&self, job: u32) -> bool {
        let queued = self.queue.push(LINE, job).is_ok();
        let times = match self.fault {
            _ if queued => 0,
            Fault::RefusedKeepsRoom => 0,
            Fault::ComesBackTwice => 2,
            _ => 1,
        };
        (0..times).for_each(|_| self.leaves_room());
        queued
    }

    fn leaves_room(&self) {
        let was_closed = self.room.is_closed();
        self.room.add_permits(1);
        if self.fault != Fault::LooksBeforeItLeaves || was_closed {
            self.left.notify_waiters();
        }
    }

    fn poll_job(&self, context: &Context<'_>) -> Poll<bool> {
        self.queue.poll_job(context)
    }

    fn next(&self) -> Option<u32> {
        let job = self.queue.pop();
        job.iter().for_each(|_| self.leaves_room());
        job
    }

    fn close(&self) {
        self.queue.close();
        if self.fault != Fault::ClosesOnlyTheQueue {
            self.room.close();
        }
    }

    async fn everybody_left(&self) {
        loop {
            let early = (self.fault != Fault::LooksBeforeItListens).then(|| self.left.notified());
            if self.is_whole() {
                return;
            }
            match early {
                Some(left) => left.await,
                None => self.left.notified().await,
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.room.available_permits() == 1
    }
}

/// Starts jobs, as the lane does, until there will be none any more.
fn work(door: &impl Room) -> Vec<u32> {
    let mut started = Vec::new();
    while block_on(poll_fn(|context| door.poll_job(context))) {
        started.extend(door.next());
    }
    started
}

/// ```text
/// lane, and who closes     waits for room
/// takes the only job out,
/// gives its room back
///                          is given it
/// the queue is closed
///                          queues: refused?
/// the room is closed
///                          or looks: closed?
/// ```
fn room_versus_close<R: Room>(room: fn() -> R) -> [Sometimes; 3] {
    let seen: [Sometimes; 3] = Default::default();
    let [queued, refused, closed] = seen.clone();
    explore("one that waits for room versus the lane and a close", move || {
        let door = Arc::new(room());
        assert!(block_on(door.enter()) && door.queue(0));
        let caller = spawn(&door, |door| {
            let entered = block_on(door.enter());
            (entered, entered && door.queue(1))
        });
        let mut started = Vec::from_iter(door.next());
        door.close();
        started.extend(work(&*door));
        let (entered, accepted) = caller.join().unwrap();
        queued.seen_if(accepted);
        refused.seen_if(entered && !accepted);
        closed.seen_if(!entered);
        block_on(door.everybody_left());
        assert!(door.is_whole(), "all room is back, and not more");
        assert_eq!(started, if accepted { vec![0, 1] } else { vec![0] }, "what was accepted is started");
    });
    seen
}

#[test]
fn whoever_waits_for_room_gets_it_or_is_told_of_the_end() {
    let [queued, refused, closed] = room_versus_close(|| Bounded::new(1));
    queued.assert("it got room, and was queued");
    refused.assert("it got room, and was refused");
    closed.assert("it was told of the end");
}

/// Whoever has room keeps it for longer than the other waits: only the close can tell that one.
fn waiting_versus_close<R: Room>(room: fn() -> R) {
    explore("one that waits for room that does not come versus a close", move || {
        let door = Arc::new(room());
        assert!(block_on(door.enter()));
        let caller = spawn(&door, |door| block_on(door.enter()));
        door.close();
        assert!(!caller.join().unwrap(), "there was no room");
        door.leaves_room();
        block_on(door.everybody_left());
        assert!(door.is_whole(), "all room is back, and not more");
    });
}

#[test]
fn whoever_waits_for_room_that_does_not_come_is_told_of_the_end() {
    waiting_versus_close(|| Bounded::new(1));
}

/// One waits until everybody left, and nobody else comes who would say so.
///
/// ```text
/// waits for room           has room, and waits for the end
///                          gives it back: to the waiter
///                          closes
///                          looks: somebody has room
/// dropped, never polled:
/// the room is back
///                          must hear of that
/// ```
fn leaving_versus_the_end<R: Room>(room: fn() -> R) {
    explore("the last to leave versus who waits for that", move || {
        let door = Arc::new(room());
        assert!(block_on(door.enter()));
        let leaver = spawn(&door, |door| {
            if poll_once(door.enter()) == Poll::Ready(true) {
                door.leaves_room();
            }
        });
        door.leaves_room();
        door.close();
        block_on(door.everybody_left());
        leaver.join().unwrap();
        assert!(door.is_whole(), "all room is back, and not more");
    });
}

#[test]
fn who_waits_until_everybody_left_hears_of_the_last() {
    leaving_versus_the_end(|| Bounded::new(1));
}

/// Without waiting: two callers and room for one.
#[test]
fn try_enter_takes_room_once_and_says_why_not() {
    explore("two that do not wait for the only room", || {
        let queue = Arc::new(Bounded::<u32>::new(1));
        let other = spawn(&queue, |queue: &Bounded<u32>| queue.try_enter(LINE));
        let both = [queue.try_enter(LINE), other.join().unwrap()];
        assert!(matches!(both, [Ok(()), Err(NoRoom::Full)] | [Err(NoRoom::Full), Ok(())]), "{both:?}");
        queue.leaves_room(LINE);
        assert_eq!(queue.try_enter(LINE), Ok(()));
        queue.close();
        assert_eq!(queue.try_enter(LINE), Err(NoRoom::Closed));
    });
}

#[test]
fn the_model_notices_a_close_that_does_not_tell_those_who_wait_for_room() {
    let deadlock = failure(|| waiting_versus_close(|| Faulty::new(Fault::ClosesOnlyTheQueue)));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
}

#[test]
fn the_model_notices_room_that_a_refused_job_keeps_or_gives_back_twice() {
    let deadlock = failure(|| drop(room_versus_close(|| Faulty::new(Fault::RefusedKeepsRoom))));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
    let deadlock = failure(|| drop(room_versus_close(|| Faulty::new(Fault::ComesBackTwice))));
    assert!(deadlock.contains("deadlock"), "nobody has left a door with more room than it has: {deadlock}");
}

#[test]
fn the_model_notices_a_waiter_that_leaves_without_a_word() {
    let deadlock = failure(|| leaving_versus_the_end(|| Faulty::new(Fault::LeavesSilently)));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
}

/// ```text
/// has room                 waits for the end
/// gives it back: is it     closes
/// closed? says so          looks: somebody has room
/// ```
fn last_versus_close<R: Room>(room: fn() -> R) {
    explore("the last to give room back versus the close", move || {
        let door = Arc::new(room());
        assert!(block_on(door.enter()));
        let last = spawn(&door, |door| door.leaves_room());
        door.close();
        block_on(door.everybody_left());
        last.join().unwrap();
        assert!(door.is_whole(), "all room is back, and not more");
    });
}

#[test]
fn who_closes_hears_of_the_last_to_give_room_back() {
    last_versus_close(|| Bounded::new(1));
}

#[test]
fn the_model_notices_one_who_looks_for_the_close_before_it_leaves() {
    let deadlock = failure(|| last_versus_close(|| Faulty::new(Fault::LooksBeforeItLeaves)));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
}

#[test]
fn the_model_notices_one_who_looks_before_it_listens() {
    let deadlock = failure(|| leaving_versus_the_end(|| Faulty::new(Fault::LooksBeforeItListens)));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
}
