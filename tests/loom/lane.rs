//! The writer's queue: whatever is accepted is started or leaves, never both and never neither, and the lane that waits for
//! it is woken.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;
use crate::world::{Sometimes, block_on, explore, failure};
use crate::writer::queue::{Place, Priority, Queue};

/// A queue of a lane: the one that ships, or one that is broken on purpose.
trait Line: Send + Sync + 'static {
    type Place: Copy + Send;

    fn push(&self, job: u32) -> Result<Self::Place, u32>;
    fn remove(&self, place: Self::Place) -> Option<u32>;
    fn pop(&self) -> Option<u32>;
    fn poll_job(&self, context: &Context<'_>) -> Poll<bool>;
    fn close(&self);
}

impl Line for Queue<u32> {
    type Place = Place;

    fn push(&self, job: u32) -> Result<Place, u32> {
        let priority = if job.is_multiple_of(2) { Priority::Normal } else { Priority::Background };
        Queue::push(self, priority, job)
    }

    fn remove(&self, place: Place) -> Option<u32> {
        Queue::remove(self, place)
    }

    fn pop(&self) -> Option<u32> {
        Queue::pop(self)
    }

    fn poll_job(&self, context: &Context<'_>) -> Poll<bool> {
        Queue::poll_job(self, context)
    }

    fn close(&self) {
        Queue::close(self);
    }
}

/// What is wrong with a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It looks for a job, and says in a second step that the lane waits.
    LooksBeforeItWaits,
    /// It asks whether it is closed, and takes the job in a second step.
    AcceptsTooLate,
    /// It reads the job, and takes it out in a second step.
    TakesInTwoSteps,
    /// A lane that waits is not told of the end.
    ClosesSilently,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<u32>,
    closed: bool,
    lane: Option<Waker>,
}

/// A mutant that the models must catch.
struct Faulty {
    fault: Fault,
    state: Mutex<State>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { fault, state: Mutex::new(State::default()) }
    }

    fn take(&self, find: impl Fn(&VecDeque<u32>) -> Option<u32>) -> Option<u32> {
        let out = |state: &mut State, job: u32| state.jobs.retain(|other| *other != job);
        if self.fault == Fault::TakesInTwoSteps {
            let job = self.state.with(|state| find(&state.jobs))?;
            self.state.with(|state| out(state, job));
            return Some(job);
        }
        self.state.with(|state| {
            let job = find(&state.jobs)?;
            out(state, job);
            Some(job)
        })
    }
}

impl Line for Faulty {
    type Place = u32;

    fn push(&self, job: u32) -> Result<u32, u32> {
        if self.fault == Fault::AcceptsTooLate && self.state.with(|state| state.closed) {
            return Err(job);
        }
        let lane = self.state.with(|state| {
            if self.fault != Fault::AcceptsTooLate && state.closed {
                return Err(job);
            }
            state.jobs.push_back(job);
            Ok(state.lane.take())
        })?;
        lane.into_iter().for_each(Waker::wake);
        Ok(job)
    }

    fn remove(&self, place: u32) -> Option<u32> {
        self.take(|jobs| jobs.iter().find(|job| **job == place).copied())
    }

    fn pop(&self) -> Option<u32> {
        self.take(|jobs| jobs.front().copied())
    }

    fn poll_job(&self, context: &Context<'_>) -> Poll<bool> {
        let look = |state: &State| match (state.jobs.is_empty(), state.closed) {
            (false, _) => Poll::Ready(true),
            (true, closed) => {
                if closed {
                    Poll::Ready(false)
                } else {
                    Poll::Pending
                }
            }
        };
        if self.fault == Fault::LooksBeforeItWaits {
            let seen = self.state.with(|state| look(state));
            if seen.is_pending() {
                self.state.with(|state| state.lane = Some(context.waker().clone()));
            }
            return seen;
        }
        self.state.with(|state| {
            let seen = look(state);
            if seen.is_pending() {
                state.lane = Some(context.waker().clone());
            }
            seen
        })
    }

    fn close(&self) {
        let lane = self.state.with(|state| {
            state.closed = true;
            state.lane.take()
        });
        if self.fault != Fault::ClosesSilently {
            lane.into_iter().for_each(Waker::wake);
        }
    }
}

/// Starts jobs, as the lane does, until there will be none any more.
fn work(queue: &impl Line) -> Vec<u32> {
    let mut started = Vec::new();
    while block_on(poll_fn(|context| queue.poll_job(context))) {
        started.extend(queue.pop());
    }
    started
}

fn spawn<L: Line, R: 'static>(queue: &Arc<L>, f: impl FnOnce(&L) -> R + 'static) -> loom::thread::JoinHandle<R> {
    let queue = Arc::clone(queue);
    loom::thread::spawn(move || f(&queue))
}

/// ```text
/// lane                       caller                closer
/// finds no job
///                            queues one
/// waits: for nothing?
///                                                  closes
///                            queues one: refused
/// ```
fn enqueue_versus_close<L: Line>(queue: fn() -> L) -> (Sometimes, Sometimes) {
    let (accepted, refused) = (Sometimes::default(), Sometimes::default());
    let (saw_accepted, saw_refused) = (accepted.clone(), refused.clone());
    explore("two that queue versus a close versus the lane", move || {
        let queue = Arc::new(queue());
        let lane = spawn(&queue, work);
        let closer = spawn(&queue, |queue| queue.close());
        let mut owed: Vec<u32> = (0..2).filter(|job| queue.push(*job).is_ok()).collect();
        saw_accepted.seen_if(owed.len() == 2);
        saw_refused.seen_if(owed.len() < 2);
        closer.join().unwrap();
        let mut started = lane.join().unwrap();
        // In the order of their priorities if both waited, in that of their coming if not: 0 is normal, and came first.
        assert!(started.is_sorted(), "{started:?}");
        owed.sort();
        started.sort();
        assert_eq!(started, owed, "what was accepted is started, once, and nothing else is");
    });
    (accepted, refused)
}

#[test]
fn what_is_accepted_is_started_and_the_lane_ends_after_it() {
    let (accepted, refused) = enqueue_versus_close(Queue::new);
    accepted.assert("both were queued before the close");
    refused.assert("one came after the close");
}

/// The lane waits, and the only thing that happens is one job.
fn push_versus_wait<L: Line>(queue: fn() -> L) -> Sometimes {
    let waited = Sometimes::default();
    let saw = waited.clone();
    explore("the lane waits versus one that queues", move || {
        let queue = Arc::new(queue());
        let caller = spawn(&queue, |queue| queue.push(7).map(|_| ()).unwrap());
        let mut looks = 0;
        let there_is_one = block_on(poll_fn(|context| {
            looks += 1;
            queue.poll_job(context)
        }));
        saw.seen_if(looks > 1);
        assert!(there_is_one);
        assert_eq!(queue.pop(), Some(7));
        caller.join().unwrap();
    });
    waited
}

#[test]
fn a_lane_that_waits_is_woken_by_a_job() {
    push_versus_wait(Queue::new).assert("the lane waited");
}

fn close_versus_wait<L: Line>(queue: fn() -> L) -> Sometimes {
    let waited = Sometimes::default();
    let saw = waited.clone();
    explore("the lane waits versus a close", move || {
        let queue = Arc::new(queue());
        let closer = spawn(&queue, |queue| queue.close());
        let mut looks = 0;
        let there_is_one = block_on(poll_fn(|context| {
            looks += 1;
            queue.poll_job(context)
        }));
        saw.seen_if(looks > 1);
        assert!(!there_is_one);
        closer.join().unwrap();
    });
    waited
}

#[test]
fn a_lane_that_waits_is_told_of_the_end() {
    close_versus_wait(Queue::new).assert("the lane waited");
}

/// ```text
/// lane                     caller
/// takes the job out
///                          leaves; looks for its job: gone
/// ```
fn leave_versus_start<L: Line>(queue: fn() -> L) -> (Sometimes, Sometimes) {
    let (left, started) = (Sometimes::default(), Sometimes::default());
    let (saw_left, saw_started) = (left.clone(), started.clone());
    explore("one that leaves versus its start", move || {
        let queue = Arc::new(queue());
        let place = queue.push(7).map_err(|_| "it is open").unwrap();
        queue.push(8).map_err(|_| "it is open").unwrap();
        let caller = spawn(&queue, move |queue| queue.remove(place));
        // The one behind it is started whatever becomes of it.
        let taken = [queue.pop(), queue.pop()];
        let removed = caller.join().unwrap();
        let rest = queue.pop();
        let owners = |job| taken.iter().chain([&removed, &rest]).filter(|owner| **owner == Some(job)).count();
        assert_eq!((owners(7), owners(8)), (1, 1), "each job has one owner: {taken:?}, {removed:?}, {rest:?}");
        saw_left.seen_if(removed.is_some());
        saw_started.seen_if(removed.is_none());
    });
    (left, started)
}

#[test]
fn a_job_is_started_or_leaves_and_has_one_owner() {
    let (left, started) = leave_versus_start(Queue::new);
    left.assert("it left");
    started.assert("it was started");
}

/// What a close gives up in time is the lane's or the closer's, and one of them answers it.
fn give_up_versus_lane<L: Line>(queue: fn() -> L) -> Sometimes {
    let given_up = Sometimes::default();
    let saw = given_up.clone();
    explore("a close that gives up versus the lane", move || {
        let queue = Arc::new(queue());
        for job in [2, 4] {
            queue.push(job).map_err(|_| "it is open").unwrap();
        }
        let lane = spawn(&queue, work);
        queue.close();
        let refused: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
        saw.seen_if(!refused.is_empty());
        let mut answers = BTreeMap::new();
        for job in lane.join().unwrap().into_iter().chain(refused) {
            *answers.entry(job).or_insert(0) += 1;
        }
        assert_eq!(answers, BTreeMap::from([(2, 1), (4, 1)]), "each is answered once");
    });
    given_up
}

#[test]
fn what_a_close_gives_up_is_answered_once() {
    give_up_versus_lane(Queue::new).assert("something was given up");
}

#[test]
fn the_model_notices_a_lane_that_looks_before_it_says_that_it_waits() {
    let deadlock = failure(|| drop(push_versus_wait(|| Faulty::new(Fault::LooksBeforeItWaits))));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
    let deadlock = failure(|| drop(close_versus_wait(|| Faulty::new(Fault::LooksBeforeItWaits))));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
}

#[test]
fn the_model_notices_a_queue_that_accepts_after_its_end() {
    let failure = failure(|| drop(enqueue_versus_close(|| Faulty::new(Fault::AcceptsTooLate))));
    assert!(failure.contains("what was accepted is started"), "{failure}");
}

#[test]
fn the_model_notices_a_job_that_is_taken_in_two_steps() {
    let two_owners = failure(|| drop(leave_versus_start(|| Faulty::new(Fault::TakesInTwoSteps))));
    assert!(two_owners.contains("each job has one owner"), "{two_owners}");
    let two_answers = failure(|| drop(give_up_versus_lane(|| Faulty::new(Fault::TakesInTwoSteps))));
    assert!(two_answers.contains("each is answered once"), "{two_answers}");
}

#[test]
fn the_model_notices_a_close_that_does_not_tell_the_lane() {
    let deadlock = failure(|| drop(close_versus_wait(|| Faulty::new(Fault::ClosesSilently))));
    assert!(deadlock.contains("deadlock"), "{deadlock}");
}
