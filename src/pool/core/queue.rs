//! Who waits, from the oldest to the newest.
//!
//! Waiters live in a slab, the queued ones linked both ways: joining, leaving from anywhere and taking the oldest are
//! O(1), and a pool that has seen its peak allocates nothing more.

use std::task::Waker;

use slab::Slab;

use super::{Grant, Parts};

/// A waiter: queued until it is handed a grant, then out of the queue until it takes that grant or leaves.
pub(super) struct Waiter<P: Parts> {
    pub waker: Option<Waker>,
    /// Set once, by whoever takes the waiter out of the queue.
    pub grant: Option<Grant<P::Connection>>,
    /// Who it will be on record as, once it holds something.
    pub holder: Option<P::Holder>,
    stamp: P::Stamp,
    older: Option<usize>,
    newer: Option<usize>,
}

/// The waiters of one core.
pub(super) struct Queue<P: Parts> {
    waiters: Slab<Waiter<P>>,
    oldest: Option<usize>,
    newest: Option<usize>,
    queued: usize,
}

impl<P: Parts> Queue<P> {
    pub fn new() -> Self {
        Self { waiters: Slab::new(), oldest: None, newest: None, queued: 0 }
    }

    /// Whether nobody waits to be handed something.
    pub fn is_empty(&self) -> bool {
        self.oldest.is_none()
    }

    /// Waiters that were handed nothing yet.
    pub fn len(&self) -> usize {
        self.queued
    }

    pub fn join(&mut self, waker: Waker, holder: P::Holder, stamp: P::Stamp) -> usize {
        let waiter =
            Waiter { waker: Some(waker), grant: None, holder: Some(holder), stamp, older: self.newest, newer: None };
        let key = self.waiters.insert(waiter);
        match self.newest {
            Some(newest) => self.waiters[newest].newer = Some(key),
            None => self.oldest = Some(key),
        }
        self.newest = Some(key);
        self.queued += 1;
        key
    }

    pub fn get_mut(&mut self, key: usize) -> &mut Waiter<P> {
        &mut self.waiters[key]
    }

    /// Takes the oldest waiter out of the queue; the caller hands it something.
    pub fn next(&mut self) -> Option<&mut Waiter<P>> {
        let key = self.oldest?;
        self.unlink(key);
        Some(&mut self.waiters[key])
    }

    /// Forgets a waiter, wherever it is; what it had been handed is the caller's to pass on.
    pub fn remove(&mut self, key: usize) -> Waiter<P> {
        if self.waiters[key].grant.is_none() {
            self.unlink(key);
        }
        self.waiters.remove(key)
    }

    /// Forgets a waiter whose grant was taken.
    pub fn remove_granted(&mut self, key: usize) {
        // What is left of it is empty: its waker was taken when it was handed the grant.
        self.waiters.remove(key);
    }

    /// When the oldest came that is queued.
    pub fn earliest(&self) -> Option<P::Stamp> {
        Some(self.waiters[self.oldest?].stamp)
    }

    /// When the newest came that is queued.
    pub fn latest(&self) -> Option<P::Stamp> {
        Some(self.waiters[self.newest?].stamp)
    }

    /// Everybody's waker: whoever wakes them makes them look again, and leave another.
    pub fn take_wakers(&mut self) -> Vec<Waker> {
        self.waiters.iter_mut().filter_map(|(_, waiter)| waiter.waker.take()).collect()
    }

    fn unlink(&mut self, key: usize) {
        let (older, newer) = (self.waiters[key].older, self.waiters[key].newer);
        match older {
            Some(older) => self.waiters[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.waiters[newer].older = older,
            None => self.newest = older,
        }
        self.queued -= 1;
    }
}
