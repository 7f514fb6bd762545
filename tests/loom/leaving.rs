//! A write that is queued, and its caller, who may leave at any moment: the job is counted once, as one that ended or one that
//! was skipped, who is told was answered once, and its room is back.
//!
//! What waits in here is the stand-ins' (`stand_ins`), the code around it is what ships.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use crate::room::{LINE, poll_once, spawn};
use crate::sync::oneshot;
use crate::world::{Sometimes, block_on, explore, failure};
use crate::writer::bounded::{Bounded, Lined, Ticket};
use crate::writer::queue::Priority;

/// A job whose caller waits for an answer.
struct Job {
    reply: oneshot::Sender<Told>,
}

impl Lined for Job {
    fn line(&self) -> Priority {
        LINE
    }
}

/// What a caller hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Refused,
}

/// A door, and how many jobs ended, as the lane counts them.
struct Counted {
    door: Bounded<Job>,
    ended: AtomicUsize,
}

impl Counted {
    fn new() -> Self {
        Self { door: Bounded::new(1), ended: AtomicUsize::new(0) }
    }

    /// Queues a job for which there is room.
    fn queue(&self) -> Ticket<'_, Job, Told> {
        assert!(block_on(self.door.enter(LINE)).is_ok());
        let (reply, answer) = oneshot::channel();
        self.door.push(Job { reply }, answer).map_err(|_| "it is open").unwrap()
    }

    /// Counts a job, and answers it.
    fn settle(&self, job: Job, told: Told) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        let _ = job.reply.send(told);
    }

    fn work(&self) {
        while block_on(poll_fn(|context| self.door.poll_job(context))) {
            if let Some(job) = self.door.pop() {
                self.settle(job, Told::Done);
            }
        }
    }

    fn close(&self, gives_up: bool) {
        self.door.close();
        while gives_up && let Some(job) = self.door.pop() {
            self.settle(job, Told::Refused);
        }
    }

    /// What holds of one job when everybody is gone.
    fn assert_counted_once(&self) {
        assert!(self.door.has_nobody(), "all room is back, and not more");
        let (ended, skipped) = (self.ended.load(Ordering::Relaxed) as u64, self.door.skipped());
        assert_eq!(ended + skipped, 1, "{ended} ended and {skipped} skipped: it is counted once");
    }
}

/// How a caller goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    /// As it does when its future is dropped.
    Away,
    /// Its job is out of the queue, and its room is not back: broken on purpose.
    WithItsRoom,
    /// It counts its job as one that ended, whoever has it: broken on purpose.
    CountingIt,
}

/// ```text
/// lane                     caller
/// takes the job out
///                          dropped; looks for its job: gone
/// counts and answers it;
/// nobody hears
/// ```
fn answer_versus_leaving(goes: Goes) -> [Sometimes; 3] {
    let seen: [Sometimes; 3] = Default::default();
    let [told, unheard, skipped] = seen.clone();
    explore("the lane that answers versus a caller that leaves", move || {
        let counted = Arc::new(Counted::new());
        let mut ticket = counted.queue();
        let lane = spawn(&counted, Counted::work);
        let answer = poll_once(&mut ticket);
        match goes {
            Goes::Away => {}
            Goes::WithItsRoom => drop(ticket.start()),
            Goes::CountingIt => drop(counted.ended.fetch_add(answer.is_pending().into(), Ordering::Relaxed)),
        }
        drop(ticket);
        counted.close(false);
        lane.join().unwrap();
        counted.assert_counted_once();
        assert!(answer.is_pending() || answer == Poll::Ready(Some(Told::Done)), "{answer:?}");
        told.seen_if(answer.is_ready());
        skipped.seen_if(counted.door.skipped() == 1);
        unheard.seen_if(answer.is_pending() && counted.door.skipped() == 0);
    });
    seen
}

#[test]
fn a_caller_that_leaves_was_answered_or_skipped_and_is_counted_once() {
    let [told, unheard, skipped] = answer_versus_leaving(Goes::Away);
    told.assert("it was told");
    unheard.assert("it was answered, and nobody heard");
    skipped.assert("it left before its turn");
}

#[test]
fn the_model_notices_a_caller_that_leaves_with_its_room() {
    let lost = failure(|| drop(answer_versus_leaving(Goes::WithItsRoom)));
    assert!(lost.contains("all room is back"), "{lost}");
}

#[test]
fn the_model_notices_a_job_that_both_sides_count() {
    let twice = failure(|| drop(answer_versus_leaving(Goes::CountingIt)));
    assert!(twice.contains("it is counted once"), "{twice}");
}

/// What a caller does whose time is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    /// Takes its job out; waits for the answer if somebody else has.
    Looks,
    /// Says that it was late, whoever has its job: broken on purpose.
    SaysSo,
}

/// ```text
/// lane                     caller                   closer
/// takes the job out
///                          its time is over: gone,
///                          so it waits
/// answers it
///                                                   closes, and refuses what is left
/// ```
fn late_versus_start(late: Late) -> [Sometimes; 3] {
    let seen: [Sometimes; 3] = Default::default();
    let [done, refused, was_late] = seen.clone();
    explore("a caller whose time is over versus the lane versus a close that gives up", move || {
        let counted = Arc::new(Counted::new());
        let mut ticket = counted.queue();
        let (lane, closer) = (spawn(&counted, Counted::work), spawn(&counted, |counted| counted.close(true)));
        let left = ticket.leave().is_some();
        let told = if left || late == Late::SaysSo {
            // As the door does: who was late in its turn has ended.
            counted.ended.fetch_add(1, Ordering::Relaxed);
            drop(ticket);
            None
        } else {
            Some(block_on(ticket).expect("nobody takes a job out and does not answer it"))
        };
        closer.join().unwrap();
        lane.join().unwrap();
        counted.assert_counted_once();
        assert_eq!(counted.door.skipped(), 0, "its caller waited");
        done.seen_if(told == Some(Told::Done));
        refused.seen_if(told == Some(Told::Refused));
        was_late.seen_if(told.is_none());
    });
    seen
}

#[test]
fn a_caller_whose_time_is_over_hears_what_became_of_its_job_once() {
    let [done, refused, was_late] = late_versus_start(Late::Looks);
    done.assert("it was done");
    refused.assert("it was refused by the close");
    was_late.assert("it was late");
}

#[test]
fn the_model_notices_a_caller_that_is_told_late_whoever_has_its_job() {
    let twice = failure(|| drop(late_versus_start(Late::SaysSo)));
    assert!(twice.contains("it is counted once"), "{twice}");
}
