//! Who waits for the lane: two lines, one for each priority, as a state machine without I/O, clock or runtime.
//!
//! First come, first served within a line. The normal line goes first, but it may overtake the oldest of the background
//! line at most [`AGE`] times in a row: then that one is served. So with `b` ahead of it in its own line, a background job
//! sees at most `(b + 1) * AGE` normal ones started before it, however many come; and a normal job with `n` ahead of it sees
//! at most `n / AGE + 1` background ones.
//!
//! A job is in the queue until somebody takes it out, under one lock: the lane, which starts it; or its caller, who leaves.
//! Whoever gets it owns it, so it is started, or it is not, and both sides know:
//!
//! ```text
//! lane                     caller
//! takes the job out
//!                          is dropped; looks for its job: gone
//! runs it to its end       (counted, nobody is told)
//! ```
//!
//! Wakers run, and jobs are dropped, after the lock is let go.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

/// How many normal jobs may overtake the oldest background one.
pub(crate) const AGE: u32 = 32;

/// What goes first when both wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Normal,
    /// It can wait: at most 32 normal writes overtake the oldest of these, then it has its turn. However many of them wait, for
    /// their turn or for room, they take no room from normal ones.
    Background,
}

/// Where a job stands: its line, and its number in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    line: Priority,
    number: u64,
}

/// One line: jobs by their number. Who leaves leaves a gap, which goes when those before it have gone, or when there are more
/// gaps than jobs: so whatever is done here takes amortised constant time, or a binary search, and no memory for each job.
struct Line<J> {
    /// The first is no gap.
    jobs: VecDeque<(u64, Option<J>)>,
    gaps: usize,
}

impl<J> Line<J> {
    const fn new() -> Self {
        Self { jobs: VecDeque::new(), gaps: 0 }
    }

    fn len(&self) -> usize {
        self.jobs.len() - self.gaps
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The oldest, and its number.
    fn first(&self) -> Option<(u64, &J)> {
        self.jobs.front().and_then(|(number, job)| Some((*number, job.as_ref()?)))
    }

    fn pop_first(&mut self) -> Option<J> {
        let (_, job) = self.jobs.pop_front()?;
        self.close_gaps();
        job
    }

    /// Takes out the job of this number.
    fn remove(&mut self, number: u64) -> Option<J> {
        let place = self.jobs.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let job = self.jobs[place].1.take()?;
        self.gaps += 1;
        self.close_gaps();
        Some(job)
    }

    fn close_gaps(&mut self) {
        while let Some((_, None)) = self.jobs.front() {
            self.jobs.pop_front();
            self.gaps -= 1;
        }
        if self.gaps > self.len() {
            self.jobs.retain(|(_, job)| job.is_some());
            self.gaps = 0;
        }
    }
}

struct State<J> {
    /// Normal jobs and background ones.
    lines: [Line<J>; 2],
    /// The number of the next to come.
    next: u64,
    /// How many normal jobs have overtaken the oldest background one.
    overtaken: u32,
    closed: bool,
    /// The lane, while it waits for something to do.
    lane: Option<Waker>,
}

impl<J> State<J> {
    fn is_empty(&self) -> bool {
        self.lines.iter().all(Line::is_empty)
    }

    /// Whether somebody of the line waits whose number is below `end`.
    fn waits(&self, line: Priority, end: u64) -> bool {
        self.lines[line as usize].first().is_some_and(|(number, _)| number < end)
    }

    /// Whose turn it is, of those whose numbers are below `end`: the oldest of this line.
    fn turn(&self, end: u64) -> Option<Priority> {
        match [Priority::Normal, Priority::Background].map(|line| self.waits(line, end)) {
            [true, true] if self.overtaken >= AGE => Some(Priority::Background),
            [true, _] => Some(Priority::Normal),
            [false, true] => Some(Priority::Background),
            [false, false] => None,
        }
    }

    /// Takes out whose turn it is.
    fn take(&mut self, end: u64) -> Option<J> {
        let line = self.turn(end)?;
        let overtakes = line == Priority::Normal && self.waits(Priority::Background, end);
        self.overtaken = if overtakes { self.overtaken + 1 } else { 0 };
        self.lines[line as usize].pop_first()
    }
}

/// What there is to take out.
#[derive(Debug)]
pub(crate) enum Next<J> {
    Job(J),
    /// It is another's turn.
    Other,
    Nothing,
}

/// The queue of one lane.
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
}

impl<J> Queue<J> {
    pub(crate) fn new() -> Self {
        let lines = [Line::new(), Line::new()];
        Self { state: Mutex::new(State { lines, next: 0, overtaken: 0, closed: false, lane: None }) }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// The job, if the queue is closed.
    pub(crate) fn push(&self, line: Priority, job: J) -> Result<Place, J> {
        let (place, lane) = self.state.with(|state| {
            if state.closed {
                return Err(job);
            }
            let number = state.next;
            state.next += 1;
            state.lines[line as usize].jobs.push_back((number, Some(job)));
            Ok((Place { line, number }, state.lane.take()))
        })?;
        lane.into_iter().for_each(Waker::wake);
        Ok(place)
    }

    /// Takes a job out again whose caller does not wait any more; `None` if it was started.
    pub(crate) fn remove(&self, place: Place) -> Option<J> {
        self.state.with(|state| state.lines[place.line as usize].remove(place.number))
    }

    /// Takes the first job out of which this holds.
    pub(crate) fn remove_first(&self, holds: impl Fn(&J) -> bool) -> Option<J> {
        self.state.with(|state| {
            state.lines.iter_mut().find_map(|line| {
                let (number, _) = *line.jobs.iter().find(|(_, job)| job.as_ref().is_some_and(&holds))?;
                line.remove(number)
            })
        })
    }

    /// The next job to start.
    pub(crate) fn pop(&self) -> Option<J> {
        self.state.with(|state| state.take(u64::MAX))
    }

    /// The next job to start if this holds of it. If it does not, it stays where it is.
    pub(crate) fn pop_if(&self, holds: impl Fn(&J) -> bool) -> Next<J> {
        self.state.with(|state| {
            let Some(line) = state.turn(u64::MAX) else { return Next::Nothing };
            match state.lines[line as usize].first() {
                Some((_, job)) if holds(job) => state.take(u64::MAX).map_or(Next::Nothing, Next::Job),
                _ => Next::Other,
            }
        })
    }

    /// The next job to start of those that came before `end`.
    pub(crate) fn pop_before(&self, end: u64) -> Option<J> {
        self.state.with(|state| state.take(end))
    }

    /// The number of the next to come.
    pub(crate) fn end(&self) -> u64 {
        self.state.with(|state| state.next)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.with(|state| state.is_empty())
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.state.with(|state| state.lines.iter().map(Line::len).sum())
    }

    /// Resolves to true when there is a job, to false when there is none and will be none. One lane waits at a time.
    pub(crate) fn poll_job(&self, context: &Context<'_>) -> Poll<bool> {
        let mut fresh = Some(context.waker().clone());
        // The one it replaces is somebody else's code: dropped after the lock is let go.
        let (ready, _stale) = self.state.with(|state| match (state.is_empty(), state.closed) {
            (false, _) => (Poll::Ready(true), None),
            (true, true) => (Poll::Ready(false), None),
            (true, false) => (Poll::Pending, std::mem::replace(&mut state.lane, fresh.take())),
        });
        ready
    }

    /// Refuses whoever comes later. What is queued stays.
    pub(crate) fn close(&self) {
        let lane = self.state.with(|state| {
            state.closed = true;
            state.lane.take()
        });
        lane.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything out.
    fn order(queue: &Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_line_is_first_come_first_served() {
        let queue = Queue::new();
        for job in 0..100 {
            queue.push(Priority::Normal, job).unwrap();
        }
        assert_eq!(order(&queue), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_background_job_is_overtaken_by_32_and_no_more() {
        let queue = Queue::new();
        for job in [1000, 1001] {
            queue.push(Priority::Background, job).unwrap();
        }
        for job in 0..100 {
            queue.push(Priority::Normal, job).unwrap();
        }
        let order = order(&queue);
        let place = |job| order.iter().position(|other| *other == job).unwrap();
        assert_eq!((place(1000), place(1001)), (32, 65));
        assert!(order.iter().filter(|job| **job < 1000).is_sorted());
    }

    #[test]
    fn a_background_job_is_served_at_once_if_nobody_else_waits() {
        let queue = Queue::new();
        queue.push(Priority::Background, 1).unwrap();
        assert_eq!(queue.pop(), Some(1));
        // What it was overtaken before does not count against the next one.
        queue.push(Priority::Background, 2).unwrap();
        queue.push(Priority::Normal, 3).unwrap();
        assert_eq!(order(&queue), [3, 2]);
    }

    #[test]
    fn who_leaves_is_gone_and_who_was_taken_cannot_leave() {
        let queue = Queue::new();
        let places: Vec<_> = (0..3).map(|job| queue.push(Priority::Normal, job).unwrap()).collect();
        assert_eq!(queue.remove(places[1]), Some(1));
        assert_eq!(queue.remove(places[1]), None);
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(queue.remove(places[0]), None);
        assert_eq!((order(&queue), queue.len()), (vec![2], 0));
    }

    #[test]
    fn gaps_take_no_more_room_than_jobs() {
        let queue = Queue::new();
        queue.push(Priority::Normal, 0).unwrap();
        let mut places = VecDeque::new();
        for job in 1..10_000 {
            places.push_back(queue.push(Priority::Normal, job).unwrap());
            // The first stays, and so do the last three.
            if places.len() > 3 {
                let (place, left) = (places.pop_front().unwrap(), job - 3);
                assert_eq!(queue.remove(place), Some(left));
            }
            let held = queue.state.with(|state| state.lines[0].jobs.len());
            assert!(held <= 9, "{held} places for {} jobs", queue.len());
        }
        assert_eq!(queue.len(), 4);
        assert_eq!(order(&queue), [0, 9997, 9998, 9999]);
        assert!(queue.state.with(|state| state.lines[0].jobs.is_empty() && state.lines[0].gaps == 0));
    }

    #[test]
    fn whose_turn_it_is_stays_if_it_is_not_what_is_looked_for() {
        let queue = Queue::new();
        assert!(matches!(queue.pop_if(|_: &u32| true), Next::Nothing));
        queue.push(Priority::Background, 9).unwrap();
        for job in [1, 2] {
            queue.push(Priority::Normal, job).unwrap();
        }
        assert!(matches!(queue.pop_if(|job| *job == 2), Next::Other), "it is not its turn");
        assert!(matches!(queue.pop_if(|job| *job == 1), Next::Job(1)));
        assert_eq!(order(&queue), [2, 9]);
    }

    #[test]
    fn only_those_before_the_mark_are_taken() {
        let queue = Queue::new();
        queue.push(Priority::Normal, 0).unwrap();
        queue.push(Priority::Background, 1).unwrap();
        let end = queue.end();
        queue.push(Priority::Normal, 2).unwrap();
        let before: Vec<_> = std::iter::from_fn(|| queue.pop_before(end)).collect();
        assert_eq!((before, queue.len()), (vec![0, 1], 1));
    }

    #[test]
    fn a_closed_queue_refuses_and_keeps_what_it_has() {
        let queue = Queue::new();
        queue.push(Priority::Normal, 1).unwrap();
        queue.close();
        assert_eq!(queue.push(Priority::Normal, 2), Err(2));
        let context = Context::from_waker(Waker::noop());
        assert_eq!(queue.poll_job(&context), Poll::Ready(true));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.poll_job(&context), Poll::Ready(false));
    }
}
