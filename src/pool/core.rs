//! Slots, permits and waiters: the pool's core as a state machine without I/O, clock or runtime.
//!
//! A *slot* is a place for one connection; `open` counts the slots in use, each holding a connection or the right to open
//! one. Whoever is granted a slot gets a [`Lease`], and a lease is given back by being dropped: with its connection, or
//! without (the connection was discarded, or opening it failed). It cannot be cloned, so nothing can be given back twice.
//!
//! Every change happens under one lock, taken once to acquire and once to release; wakers run, and connections are
//! dropped, after it is let go. What holds whenever the lock is free:
//!
//! 1. `open <= max`, and `open` = idle connections + leases + slots granted to waiters that have not been polled yet.
//! 2. An idle connection and a queued waiter never coexist: a release goes straight to the oldest waiter (*hand-off*),
//!    and a newcomer takes nothing while somebody is queued. So nobody is ever overtaken.
//! 3. A waiter that is cancelled after it was handed something passes it on:
//!
//! ```text
//! waiter 1                holder                 waiter 2
//! queued                                         queued
//!                         drops its lease:
//!                         granted to waiter 1
//! dropped, never polled
//! passes the grant on  ------------------------> granted, woken
//! ```
//!
//! 4. Once closed, nothing becomes idle, and [`Close`] resolves when `open` is 0.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::sync::{Arc, Mutex};

/// The pool is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A consistent count of everything, taken under the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub max: usize,
    /// Slots in use: idle, leased or granted.
    pub open: usize,
    /// The most `open` has ever been.
    pub most_open: usize,
    pub idle: usize,
    /// Waiters in the queue.
    pub waiting: usize,
    /// Waiters that were handed a slot and have not taken it yet.
    pub granted: usize,
    pub closed: bool,
}

impl Census {
    /// Slots that a lease holds.
    pub fn leased(&self) -> usize {
        self.open - self.idle - self.granted
    }
}

/// What a waiter is handed.
pub(crate) enum Grant<T> {
    /// A slot with its connection.
    Connection(T),
    /// A slot to open a connection in.
    Slot,
    /// Nothing, ever: the pool was closed.
    Closed,
}

struct Waiter<T> {
    waker: Option<Waker>,
    /// Set once, by whoever takes the waiter out of the queue.
    grant: Option<Grant<T>>,
    older: Option<usize>,
    newer: Option<usize>,
}

/// Waiters by key, the queued ones also linked from the oldest to the newest. Joining, leaving from anywhere and taking
/// the oldest are O(1).
struct Queue<T> {
    waiters: Slab<Waiter<T>>,
    oldest: Option<usize>,
    newest: Option<usize>,
    queued: usize,
}

impl<T> Queue<T> {
    fn join(&mut self, waker: Waker) -> usize {
        let waiter = Waiter { waker: Some(waker), grant: None, older: self.newest, newer: None };
        let key = self.waiters.insert(waiter);
        match self.newest {
            Some(newest) => self.waiters[newest].newer = Some(key),
            None => self.oldest = Some(key),
        }
        self.newest = Some(key);
        self.queued += 1;
        key
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

    /// Hands `grant` to the oldest waiter, or gives it back if nobody is queued.
    fn hand(&mut self, grant: Grant<T>) -> Result<Option<Waker>, Grant<T>> {
        let Some(key) = self.oldest else { return Err(grant) };
        self.unlink(key);
        let waiter = &mut self.waiters[key];
        waiter.grant = Some(grant);
        Ok(waiter.waker.take())
    }

    /// Forgets a waiter; what it had been handed is the caller's to pass on.
    fn remove(&mut self, key: usize) -> Waiter<T> {
        if self.waiters[key].grant.is_none() {
            self.unlink(key);
        }
        self.waiters.remove(key)
    }
}

struct State<T> {
    max: usize,
    open: usize,
    most_open: usize,
    /// The connection used last is taken first: its caches are warm.
    idle: Vec<T>,
    queue: Queue<T>,
    closed: bool,
    /// Who waits for `open` to reach 0 after closing.
    closers: Slab<Waker>,
}

impl<T> State<T> {
    /// What a newcomer gets at once, if anything.
    fn take(&mut self) -> Option<Grant<T>> {
        if self.closed {
            return Some(Grant::Closed);
        }
        if self.queue.oldest.is_some() {
            return None;
        }
        if let Some(connection) = self.idle.pop() {
            return Some(Grant::Connection(connection));
        }
        if self.open < self.max {
            self.open += 1;
            self.most_open = self.most_open.max(self.open);
            return Some(Grant::Slot);
        }
        None
    }

    /// A slot comes back with its connection. On a closed pool the connection is refused: it must be dropped before its
    /// slot is given up, or `close` would resolve while it is alive.
    fn put(&mut self, connection: T) -> Result<Option<Waker>, T> {
        if self.closed {
            return Err(connection);
        }
        match self.queue.hand(Grant::Connection(connection)) {
            Ok(waker) => Ok(waker),
            Err(Grant::Connection(connection)) => {
                self.idle.push(connection);
                Ok(None)
            }
            Err(Grant::Slot | Grant::Closed) => unreachable!("the queue gives back what it was given"),
        }
    }

    /// A slot comes back empty.
    fn free(&mut self) -> Wakers {
        if !self.closed
            && let Ok(waker) = self.queue.hand(Grant::Slot)
        {
            return Wakers::One(waker);
        }
        self.open -= 1;
        if self.closed && self.open == 0 { Wakers::Many(self.closers.drain().collect()) } else { Wakers::One(None) }
    }
}

/// Who is to be woken once the lock is let go.
enum Wakers {
    One(Option<Waker>),
    Many(Vec<Waker>),
}

impl Wakers {
    fn wake(self) {
        match self {
            Wakers::One(waker) => waker.into_iter().for_each(Waker::wake),
            Wakers::Many(wakers) => wakers.into_iter().for_each(Waker::wake),
        }
    }
}

/// The core of one pool of `T`s. `context` is what the layers above keep beside it, so that a lease needs one reference
/// only.
pub(crate) struct Core<T, C> {
    state: Mutex<State<T>>,
    context: C,
}

impl<T, C> Core<T, C> {
    /// A core with `max` slots.
    pub(crate) fn new(max: usize, context: C) -> Self {
        let queue = Queue { waiters: Slab::new(), oldest: None, newest: None, queued: 0 };
        let state = State {
            max,
            open: 0,
            most_open: 0,
            idle: Vec::with_capacity(max),
            queue,
            closed: false,
            closers: Slab::new(),
        };
        Self { state: Mutex::new(state), context }
    }

    pub(crate) fn context(&self) -> &C {
        &self.context
    }

    /// Waits for a slot, first come, first served.
    pub(crate) fn acquire(self: &Arc<Self>) -> Acquire<'_, T, C> {
        Acquire { core: self, key: None, done: false }
    }

    pub(crate) fn census(&self) -> Census {
        self.state.with(|state| Census {
            max: state.max,
            open: state.open,
            most_open: state.most_open,
            idle: state.idle.len(),
            waiting: state.queue.queued,
            // Once closed, some were handed nothing but the news; until then whoever is not queued was handed a slot.
            granted: match state.closed {
                true => state.queue.waiters.iter().filter(|(_, waiter)| holds_slot(waiter.grant.as_ref())).count(),
                false => state.queue.waiters.len() - state.queue.queued,
            },
            closed: state.closed,
        })
    }

    /// Refuses all waiters and newcomers, and drops what is idle.
    pub(crate) fn close(&self) {
        let (idle, wakers) = self.state.with(|state| {
            state.closed = true;
            let mut wakers = Vec::with_capacity(state.queue.queued);
            if state.open == 0 {
                // No release will come to tell those who wait for the end.
                wakers.extend(state.closers.drain());
            }
            while let Ok(waker) = state.queue.hand(Grant::Closed) {
                wakers.extend(waker);
            }
            (std::mem::take(&mut state.idle), wakers)
        });
        // All of them own their slots before the first is dropped, and before anybody else's code runs, so that a panic
        // there costs no other its slot.
        let _retired: Vec<_> = idle.into_iter().map(|connection| Retired::new(self, connection)).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until a closed core has no slot in use.
    pub(crate) fn closed(&self) -> Close<'_, T, C> {
        Close { core: self, key: None }
    }

    /// Gives back a slot with what it holds: to the oldest waiter, to the idle ones, or to nobody on a closed pool.
    fn pass_on(&self, grant: Grant<T>) {
        match grant {
            Grant::Connection(connection) => match self.state.with(|state| state.put(connection)) {
                Ok(waker) => waker.into_iter().for_each(Waker::wake),
                Err(connection) => drop(Retired::new(self, connection)),
            },
            Grant::Slot => self.free(),
            Grant::Closed => {}
        }
    }

    fn free(&self) {
        self.state.with(State::free).wake();
    }
}

fn holds_slot<T>(grant: Option<&Grant<T>>) -> bool {
    matches!(grant, Some(Grant::Connection(_) | Grant::Slot))
}

/// A connection on its way out: dropped first, then its slot is freed, even if the first panics. Fields are dropped in
/// the order in which they stand.
struct Retired<'a, T, C> {
    _connection: T,
    _slot: Freed<'a, T, C>,
}

impl<'a, T, C> Retired<'a, T, C> {
    fn new(core: &'a Core<T, C>, connection: T) -> Self {
        Self { _connection: connection, _slot: Freed { core } }
    }
}

/// Frees its slot when dropped.
struct Freed<'a, T, C> {
    core: &'a Core<T, C>,
}

impl<T, C> Drop for Freed<'_, T, C> {
    fn drop(&mut self) {
        self.core.free();
    }
}

/// A slot in use. Dropping it gives the slot back, with the connection if it holds one.
pub(crate) struct Lease<T, C> {
    connection: Option<T>,
    core: Arc<Core<T, C>>,
}

impl<T, C> Lease<T, C> {
    /// The slot's connection, to look at.
    pub(crate) fn get(&self) -> Option<&T> {
        self.connection.as_ref()
    }

    /// The slot's connection; `None` if it is yet to be opened or was discarded.
    pub(crate) fn connection(&mut self) -> &mut Option<T> {
        &mut self.connection
    }

    pub(crate) fn core(&self) -> &Arc<Core<T, C>> {
        &self.core
    }
}

impl<T, C> Drop for Lease<T, C> {
    fn drop(&mut self) {
        self.core.pass_on(match self.connection.take() {
            Some(connection) => Grant::Connection(connection),
            None => Grant::Slot,
        });
    }
}

/// Resolves to a lease. Dropped before that, it leaves the queue, and passes on what it had been handed.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Acquire<'a, T, C> {
    core: &'a Arc<Core<T, C>>,
    key: Option<usize>,
    done: bool,
}

impl<T, C> Acquire<'_, T, C> {
    /// Leaves the queue; what it had been handed by then is the caller's to pass on.
    pub(crate) fn leave(&mut self) -> Option<Grant<T>> {
        let key = self.key.take()?;
        // The waker is dropped here, outside the lock: it is somebody else's code.
        self.core.state.with(|state| state.queue.remove(key)).grant
    }
}

impl<T, C> Future for Acquire<'_, T, C> {
    type Output = Result<Lease<T, C>, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.done, "polled after it was ready");
        let core = self.core;
        let grant = match self.key {
            None => match core.state.with(|state| state.take()) {
                Some(grant) => grant,
                None => {
                    // Cloned outside the lock; the second look under the lock closes the gap between the two:
                    //
                    //   newcomer              holder
                    //   finds nothing
                    //                         releases: nobody is queued, so it becomes idle
                    //   looks again: takes it
                    let waker = context.waker().clone();
                    let looked = core.state.with(|state| match state.take() {
                        Some(grant) => Ok((grant, waker)),
                        None => Err(state.queue.join(waker)),
                    });
                    match looked {
                        Ok((grant, _unused)) => grant,
                        Err(key) => {
                            self.key = Some(key);
                            return Poll::Pending;
                        }
                    }
                }
            },
            Some(key) => match core.look(key, context.waker()) {
                Some(grant) => {
                    self.key = None;
                    grant
                }
                None => return Poll::Pending,
            },
        };
        self.done = true;
        Poll::Ready(match grant {
            Grant::Connection(connection) => Ok(Lease { connection: Some(connection), core: Arc::clone(core) }),
            Grant::Slot => Ok(Lease { connection: None, core: Arc::clone(core) }),
            Grant::Closed => Err(Closed),
        })
    }
}

impl<T, C> Core<T, C> {
    /// What the waiter was handed; if nothing yet, remembers the latest waker.
    fn look(&self, key: usize, waker: &Waker) -> Option<Grant<T>> {
        let fresh = waker.clone();
        let (grant, _unused) = self.state.with(|state| {
            let waiter = &mut state.queue.waiters[key];
            match waiter.grant.take() {
                Some(grant) => {
                    state.queue.waiters.remove(key);
                    (Some(grant), Some(fresh))
                }
                None => (None, waiter.waker.replace(fresh)),
            }
        });
        grant
    }
}

impl<T, C> Drop for Acquire<'_, T, C> {
    fn drop(&mut self) {
        if let Some(grant) = self.leave() {
            self.core.pass_on(grant);
        }
    }
}

/// Resolves when a closed core has no slot in use.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Close<'a, T, C> {
    core: &'a Core<T, C>,
    key: Option<usize>,
}

impl<T, C> Future for Close<'_, T, C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let known = self.key;
        let (key, _unused) = self.core.state.with(|state| {
            if state.closed && state.open == 0 {
                // The last release has drained the closers, this one among them.
                return (None, Some(waker));
            }
            match known {
                Some(key) => (Some(key), Some(std::mem::replace(&mut state.closers[key], waker))),
                None => (Some(state.closers.insert(waker)), None),
            }
        });
        self.key = key;
        if key.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T, C> Drop for Close<'_, T, C> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let _waker = self.core.state.with(|state| state.closers.try_remove(key));
        }
    }
}
