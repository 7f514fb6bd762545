//! Slots, permits and waiters: the pool's core as a state machine without I/O, clock or runtime.
//!
//! A *slot* is a place for one connection; a slot exists while it holds a connection or somebody has the right to open one
//! in it, and there are never more than `max`. Whoever is granted a slot gets a [`Lease`], and a lease is given back by
//! being dropped: with its connection, or without (the connection was discarded, or opening it failed). It cannot be
//! cloned, so nothing can be given back twice.
//!
//! Every change happens under one lock. It is taken once to acquire an idle connection, once to release, once to queue
//! behind others and once to take what was handed over; who is the first to find nothing looks again when it queues.
//! Wakers run, and connections are dropped, after it is let go. What holds whenever the lock is free:
//!
//! 1. There are at most `max` slots; after `max` was lowered, at most as many as before, and every release makes it fewer.
//!    Each slot is idle, leased, or granted to a waiter that has not been polled yet.
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
//! 4. Once closed, nothing becomes idle, and [`Close`] resolves when there is no slot.
//!
//! The core knows no time, but it lets waiters share an alarm: all of a pool have the same patience, so they run out of it
//! in the order of the queue. A waiter brings a stamp (when it came) and a clock (whose alarm can call it). While anybody
//! waits, each clock among them is *watched*: its alarm is set, or somebody's [`Acquire`] has been told to set it. When it
//! goes off, [`Core::ring`] refuses those whose stamp is too old, and says for whom to set it next.
//!
//! To read the time costs a tenth of a wait, so who comes to a *busy* queue brings no stamp: its clock's alarm *ticks*, and
//! each tick stamps whoever has none. An alarm that has nobody to tick for leaves its bell here, and rests until the oldest
//! waiter's time is up; the next newcomer without a stamp takes the bell and rings it:
//!
//! ```text
//! alarm                    newcomer
//! nobody came since the
//! last tick: leaves its bell
//!                          queues without a stamp, takes the bell
//!                          rings it
//! stamps the newcomer, ticks
//! ```
//!
//! So while somebody without a stamp is queued, its clock's alarm ticks, has been rung, or is about to be set.

mod close;
mod lease;
mod queue;
mod state;

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use crate::sync::{Arc, Mutex};

pub(crate) use self::close::Close;
use self::lease::Retired;
pub(crate) use self::lease::{Acquire, Lease, Seen};
pub(crate) use self::state::{Grant, Next};
use self::state::{Put, State, wake_all};

/// Why a waiter gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The pool is closed.
    Closed,
    /// It waited for too long.
    Expired,
}

/// What a core is made of; to it, all of these are opaque.
pub(crate) trait Parts {
    /// What a slot holds.
    type Connection;
    /// What is on record of whoever holds a slot.
    type Holder: Copy;
    /// When a waiter came.
    type Stamp: Copy;
    /// Whose alarm tells a waiter that it has waited for too long.
    type Clock: Copy + PartialEq;
    /// So many have to wait for a newcomer to bring no stamp.
    const BUSY: usize;
    /// What is on record of a slot's connection, whoever holds it.
    type Note;
    /// What the layers above keep beside the core, so that a lease needs one reference only.
    type Context;
}

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
    /// Times a slot was handed straight to a waiter.
    pub handed_over: u64,
    /// Times that it held a connection.
    pub served: u64,
    pub closed: bool,
}

/// A newcomer will probably not have to wait.
const NO_CROWD: u8 = 0;
/// It will have to, and needs a stamp.
const CROWD: u8 = 1;
/// It will have to, and needs none: the queue is busy.
const BUSY_CROWD: u8 = 2;

/// The core of one pool.
pub(crate) struct Core<P: Parts> {
    state: Mutex<State<P>>,
    /// A hint, nothing depends on it: what a newcomer will probably meet. It prepares for that at once and takes the lock
    /// once, not twice.
    crowd: AtomicU8,
    context: P::Context,
}

impl<P: Parts> Core<P> {
    /// A core with `max` slots.
    pub(crate) fn new(max: usize, context: P::Context) -> Self {
        Self { state: Mutex::new(State::new(max)), crowd: AtomicU8::new(NO_CROWD), context }
    }

    pub(crate) fn context(&self) -> &P::Context {
        &self.context
    }

    /// Waits for a slot, first come, first served, until `clock`'s alarm finds its stamp too old. `holder` will be on record
    /// as who has it.
    pub(crate) fn acquire(self: &Arc<Self>, holder: P::Holder, clock: P::Clock) -> Acquire<'_, P> {
        Acquire::new(self, holder, clock)
    }

    /// Stamps whoever has no stamp with the `present`, and refuses those whose stamp `is_old` by then. The present is read
    /// under the lock, so that all it stamps came before.
    pub(crate) fn expire(&self, present: impl Fn() -> P::Stamp, is_old: impl Fn(P::Stamp, P::Stamp) -> bool) {
        let mut wakers = Vec::new();
        self.state.with(|state| state.expire(present(), is_old, &mut wakers));
        wake_all(wakers);
    }

    /// The clock's alarm went off: the same, and says when it has to go off next. Unless it ticks, it leaves its `bell` and
    /// rests until then. One that rested for nobody ends, and the clock is not watched any more.
    pub(crate) fn ring(
        &self,
        clock: P::Clock,
        bell: Waker,
        present: impl Fn() -> P::Stamp,
        is_old: impl Fn(P::Stamp, P::Stamp) -> bool,
    ) -> Option<Next<P::Stamp>> {
        let mut wakers = Vec::new();
        // What is left of the alarm is dropped once the lock is let go.
        let (next, _gone) = self.state.with(|state| {
            let now = present();
            state.expire(now, is_old, &mut wakers);
            let oldest = state.queue.oldest().and_then(|oldest| oldest.stamp);
            match state.watched.iter_mut().find(|watched| watched.clock == clock) {
                Some(watched) if oldest.is_some() || watched.bell.is_none() => {
                    let ticks = std::mem::take(&mut watched.ticks);
                    let (left, unused) = if ticks { (None, Some(bell)) } else { (Some(bell), None) };
                    let old = std::mem::replace(&mut watched.bell, left);
                    // If nobody waits now, as if somebody had just come: the next who does needs no other alarm.
                    (Some(Next { oldest: oldest.unwrap_or(now), ticks }), (None, unused.or(old)))
                }
                _ => (None, (state.unwatch(clock), Some(bell))),
            }
        });
        wake_all(wakers);
        next
    }

    /// The clock is not watched any more, and nobody needs to know: no time is ever up.
    pub(crate) fn forget(&self, clock: P::Clock, present: impl Fn() -> P::Stamp) {
        let _gone = self.state.with(|state| {
            state.queue.stamp(present());
            state.unwatch(clock)
        });
    }

    /// The clock's alarm is lost: another has to be set. All waiters are woken, and the first to look is told so.
    pub(crate) fn unwatch(&self, clock: P::Clock) {
        let (wakers, _gone) = self.state.with(|state| (state.queue.take_wakers(), state.unwatch(clock)));
        wake_all(wakers);
    }

    /// An idle connection, if there is one and nobody waits. The same as the first poll of [`Core::acquire`] would take, for
    /// callers who want no future for it.
    pub(crate) fn take_idle_now(self: &Arc<Self>, holder: P::Holder) -> Option<Lease<P>> {
        if self.crowd.load(Ordering::Relaxed) != NO_CROWD {
            return None;
        }
        let (key, connection) = self.state.with(|state| {
            if state.closed || !state.queue.is_empty() {
                return None;
            }
            let key = state.idle.pop()?;
            let slot = &mut state.slots[key];
            slot.holder = Some(holder);
            Some((key, slot.idle.take()))
        })?;
        Some(Lease::new(self, key, connection))
    }

    /// What there is to have without waiting: an idle connection, or a slot to open one in, as the first poll of
    /// [`Core::acquire`] would find it. `None` if there is nothing.
    pub(crate) fn take_now(self: &Arc<Self>, holder: P::Holder) -> Option<Result<Lease<P>, Refused>> {
        Some(match self.state.with(|state| state.take(holder))? {
            Grant::Slot { key, connection } => Ok(Lease::new(self, key, connection)),
            Grant::Refused(why) => Err(why),
        })
    }

    /// A slot to open a connection in that nobody asked for, if there is room and nobody waits.
    pub(crate) fn reserve(self: &Arc<Self>, holder: P::Holder) -> Option<Lease<P>> {
        let key = self.state.with(|state| {
            if state.closed || !state.queue.is_empty() {
                return None;
            }
            let key = state.open_slot()?;
            state.slots[key].holder = Some(holder);
            Some(key)
        })?;
        Some(Lease::new(self, key, None))
    }

    /// Takes out the first idle connection that `is_due`, from the one idle longest on; `is_due` is told how many are idle.
    pub(crate) fn take_due(self: &Arc<Self>, is_due: impl Fn(&P::Connection, usize) -> bool) -> Option<Lease<P>> {
        let (key, connection) = self.state.with(|state| {
            let count = state.idle.len();
            let due = |key: &usize| state.slots[*key].idle.as_ref().is_some_and(|idle| is_due(idle, count));
            let place = state.idle.iter().position(due)?;
            let key = state.idle.remove(place);
            Some((key, state.take_out(key)))
        })?;
        Some(Lease::new(self, key, connection))
    }

    /// Takes out all idle connections. Dropping a lease puts its connection back.
    pub(crate) fn take_idle(self: &Arc<Self>) -> Vec<Lease<P>> {
        let taken: Vec<_> = self.state.with(|state| {
            let keys = std::mem::take(&mut state.idle);
            keys.into_iter().map(|key| (key, state.take_out(key))).collect()
        });
        taken.into_iter().map(|(key, connection)| Lease::new(self, key, connection)).collect()
    }

    /// Changes how many slots there may be. What is idle beyond that goes at once, what is leased when it comes back; who
    /// waits is admitted as far as there is new room.
    pub(crate) fn resize(&self, max: usize) {
        let mut wakers = Vec::new();
        let surplus: Vec<_> = self.state.with(|state| {
            state.max = max;
            if !state.closed {
                state.admit(&mut wakers);
            }
            let surplus = state.slots.len().saturating_sub(max).min(state.idle.len());
            let keys: Vec<_> = state.idle.drain(..surplus).collect();
            keys.into_iter().map(|key| (key, state.take_out(key))).collect()
        });
        let _retired = self.retire(surplus);
        wake_all(wakers);
    }

    /// Refuses all waiters and newcomers, and drops what is idle.
    pub(crate) fn close(&self) {
        let mut wakers = Vec::new();
        let idle: Vec<_> = self.state.with(|state| {
            state.closed = true;
            state.refuse(Refused::Closed, |_| true, &mut wakers);
            if state.slots.is_empty() {
                // No release will come to tell those who wait for the end.
                wakers.extend(state.closers.drain());
            }
            let keys = std::mem::take(&mut state.idle);
            keys.into_iter().map(|key| (key, state.take_out(key))).collect()
        });
        // All of them own their slots before anybody else's code runs: a panic there costs no slot.
        let _retired = self.retire(idle);
        wake_all(wakers);
    }

    /// Waits until a closed core has no slot.
    pub(crate) fn closed(&self) -> Close<'_, P> {
        Close::new(self)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.with(|state| state.closed)
    }

    pub(crate) fn census(&self) -> Census {
        self.state.with(|state| Census {
            max: state.max,
            open: state.slots.len(),
            most_open: state.most_open,
            idle: state.idle.len(),
            waiting: state.queue.len(),
            handed_over: state.handed_over,
            served: state.served,
            closed: state.closed,
        })
    }

    /// Looks at everybody who holds a slot, under the lock: `look` must be short and of our own making.
    pub(crate) fn holders<R>(
        &self,
        mut look: impl FnMut(P::Holder, Option<P::Stamp>, Option<&P::Note>) -> R,
    ) -> Vec<R> {
        self.state.with(|state| {
            let slots = state.slots.iter();
            slots.filter_map(|(_, slot)| Some(look(slot.holder?, slot.waited_for, slot.note.as_ref()))).collect()
        })
    }

    /// Gives back a slot with what it holds: to the oldest waiter, to the idle ones, or to nobody.
    fn give_back(&self, key: usize, connection: Option<P::Connection>) {
        let Some(connection) = connection else { return self.free(key) };
        match self.state.with(|state| state.put(key, connection)) {
            Put::Idle => self.crowd.store(NO_CROWD, Ordering::Relaxed),
            Put::Handed(waker) => waker.into_iter().for_each(Waker::wake),
            Put::Refused(connection) => drop(Retired::new(self, key, connection)),
        }
    }

    fn free(&self, key: usize) {
        self.crowd.store(NO_CROWD, Ordering::Relaxed);
        let (wakers, _note) = self.state.with(|state| state.free(key));
        wakers.wake();
    }

    /// What drops connections, each before its slot is freed. All of them own their slots before the first is dropped, so
    /// that one that panics costs no other its slot.
    fn retire(&self, connections: Vec<(usize, Option<P::Connection>)>) -> Vec<Retired<'_, P, Option<P::Connection>>> {
        connections.into_iter().map(|(key, connection)| Retired::new(self, key, connection)).collect()
    }
}
