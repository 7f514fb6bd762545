//! Who waits, from the oldest to the newest.
//!
//! Waiters live in a list of places, the queued ones linked both ways: joining, leaving from anywhere and taking the
//! oldest are O(1), and a pool that has seen its peak allocates nothing more.

use std::task::Waker;

use super::Parts;
use super::state::Granted;

/// A waiter's place in the list. Half a pointer is enough: more waiters than that do not fit into memory.
pub(super) type Place = u32;

/// What stands where there is no neighbour.
const NOBODY: Place = Place::MAX;

/// A waiter: queued until it is granted something, then out of the queue until it takes that or leaves. An empty place
/// is one of nobody's.
pub(super) struct Waiter<P: Parts> {
    pub waker: Option<Waker>,
    /// Set once, by whoever takes the waiter out of the queue.
    pub granted: Option<Granted>,
    /// Who it will be on record as, once it holds something.
    pub holder: P::Holder,
    /// When it came, or later; nothing until the next alarm, if it came to a busy queue. Then all behind it have none either.
    pub stamp: Option<P::Stamp>,
    older: Place,
    /// For an empty place: the next empty one.
    newer: Place,
}

/// The waiters of one core.
pub(super) struct Queue<P: Parts> {
    places: Vec<Waiter<P>>,
    oldest: Place,
    newest: Place,
    /// The first empty place.
    empty: Place,
    queued: u32,
    /// The last stamp that anybody got.
    latest: Option<P::Stamp>,
}

impl<P: Parts> Queue<P> {
    pub fn new() -> Self {
        Self { places: Vec::new(), oldest: NOBODY, newest: NOBODY, empty: NOBODY, queued: 0, latest: None }
    }

    /// Whether nobody waits to be handed something.
    pub fn is_empty(&self) -> bool {
        self.oldest == NOBODY
    }

    /// Waiters that were handed nothing yet.
    pub fn len(&self) -> usize {
        self.queued as usize
    }

    /// Whether a newcomer joins without a stamp: many wait, or the newest has none.
    pub fn is_busy(&self) -> bool {
        self.len() >= P::BUSY || self.places.get(self.newest as usize).is_some_and(|newest| newest.stamp.is_none())
    }

    pub fn join(&mut self, waker: Option<Waker>, holder: P::Holder, stamp: Option<P::Stamp>) -> Place {
        if stamp.is_some() {
            self.latest = stamp;
        }
        let older = self.newest;
        let waiter = Waiter { waker, granted: None, holder, stamp, older, newer: NOBODY };
        let place = match self.places.get_mut(self.empty as usize) {
            Some(empty) => {
                let place = std::mem::replace(&mut self.empty, empty.newer);
                *empty = waiter;
                place
            }
            None => {
                self.places.push(waiter);
                (self.places.len() - 1) as Place
            }
        };
        match self.places.get_mut(older as usize) {
            Some(older) => older.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
        self.queued += 1;
        place
    }

    pub fn get_mut(&mut self, place: Place) -> &mut Waiter<P> {
        &mut self.places[place as usize]
    }

    /// Takes the oldest waiter out of the queue; the caller grants it something.
    pub fn next(&mut self) -> Option<&mut Waiter<P>> {
        let place = self.oldest;
        if place == NOBODY {
            return None;
        }
        self.unlink(place);
        Some(self.get_mut(place))
    }

    /// Forgets a waiter, wherever it is; its waker and what it had been granted are the caller's.
    pub fn remove(&mut self, place: Place) -> (Option<Waker>, Option<Granted>) {
        if self.get_mut(place).granted.is_none() {
            self.unlink(place);
        }
        let empty = std::mem::replace(&mut self.empty, place);
        let waiter = self.get_mut(place);
        waiter.newer = empty;
        (waiter.waker.take(), waiter.granted.take())
    }

    /// Whoever waits and has no stamp gets this one. It is later than they came, so nobody is refused early.
    pub fn stamp(&mut self, now: P::Stamp) {
        let mut place = self.newest;
        while let Some(waiter) = self.places.get_mut(place as usize)
            && waiter.stamp.is_none()
        {
            waiter.stamp = Some(now);
            self.latest = Some(now);
            place = waiter.older;
        }
    }

    pub fn oldest(&self) -> Option<&Waiter<P>> {
        self.places.get(self.oldest as usize)
    }

    /// If somebody is queued: when somebody came last, as far as that is known.
    pub fn latest(&self) -> Option<P::Stamp> {
        self.latest.filter(|_| !self.is_empty())
    }

    /// Everybody's waker: whoever wakes them makes them look again, and leave another.
    pub fn take_wakers(&mut self) -> Vec<Waker> {
        self.places.iter_mut().filter_map(|waiter| waiter.waker.take()).collect()
    }

    fn unlink(&mut self, place: Place) {
        let (older, newer) = (self.get_mut(place).older, self.get_mut(place).newer);
        match self.places.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.queued -= 1;
    }
}
