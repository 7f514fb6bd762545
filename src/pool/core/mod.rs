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

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use slab::Slab;

use crate::sync::{Arc, Mutex};

pub(crate) use self::close::Close;
use self::lease::Retired;
pub(crate) use self::lease::{Acquire, Lease, Seen};
use self::queue::{Place, Queue};

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

/// What becomes of a waiter. Its connection, if there is one, waits for it in the slot.
#[derive(Clone, Copy)]
enum Granted {
    Slot(u32),
    Refused(Refused),
}

/// What it takes with it.
pub(crate) enum Grant<T> {
    /// A slot, with its connection or to open one in.
    Slot { key: usize, connection: Option<T> },
    /// Nothing, ever.
    Refused(Refused),
}

struct Slot<P: Parts> {
    /// The connection, while nobody holds the slot or who was granted it has not taken it.
    idle: Option<P::Connection>,
    holder: Option<P::Holder>,
    /// When somebody came whom the holder holds up. If it got the slot before, that was the first who came; if others
    /// waited already when it was handed the slot, the last of them.
    waited_for: Option<P::Stamp>,
    note: Option<P::Note>,
}

struct State<P: Parts> {
    max: usize,
    most_open: usize,
    handed_over: u64,
    /// How often that came with a connection.
    served: u64,
    slots: Slab<Slot<P>>,
    /// Slots whose connection is idle; the one used last is taken first, since its caches are warm.
    idle: Vec<usize>,
    queue: Queue<P>,
    /// The clocks whose alarm is set for somebody in the queue.
    watched: Vec<Watched<P>>,
    closed: bool,
    /// Who waits for the last slot to go after closing.
    closers: Slab<Waker>,
}

/// A clock whose alarm is set, or will be by an [`Acquire`] that has been told so.
struct Watched<P: Parts> {
    clock: P::Clock,
    /// Somebody without a stamp has come to rely on it since it went off last.
    ticks: bool,
    /// Lets it go off, while it rests.
    bell: Option<Waker>,
}

/// How the alarm of somebody who waits stands.
enum Alarm {
    /// It is set, or somebody else sets it.
    IsSet,
    /// There is none: it has to be set.
    IsNone,
    /// It rests, and has to tick: the bell has to be rung.
    Rests(Waker),
}

/// When an alarm has to go off next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next<S> {
    /// When the time of somebody is up who came then.
    pub oldest: S,
    /// And at the next tick.
    pub ticks: bool,
}

impl<P: Parts> State<P> {
    /// What a newcomer gets at once, if anything.
    fn take(&mut self, holder: P::Holder) -> Option<Grant<P::Connection>> {
        if self.closed {
            return Some(Grant::Refused(Refused::Closed));
        }
        if !self.queue.is_empty() {
            return None;
        }
        // An idle connection and a waiter never coexist, so nobody is passed over.
        let key = self.idle.pop().or_else(|| self.open_slot())?;
        let slot = &mut self.slots[key];
        slot.holder = Some(holder);
        Some(Grant::Slot { key, connection: slot.idle.take() })
    }

    /// A new slot, unless there are as many as there may be.
    fn open_slot(&mut self) -> Option<usize> {
        if self.slots.len() >= self.max {
            return None;
        }
        let key = self.slots.insert(Slot { idle: None, holder: None, waited_for: None, note: None });
        self.most_open = self.most_open.max(self.slots.len());
        Some(key)
    }

    /// Queues a newcomer. If it is the first to wait, those it waits for learn of it.
    fn join(&mut self, waker: Option<Waker>, holder: P::Holder, stamp: Option<P::Stamp>) -> Place {
        if self.queue.is_empty()
            && let Some(stamp) = stamp
        {
            for (_, slot) in &mut self.slots {
                slot.waited_for.get_or_insert(stamp);
            }
        }
        self.queue.join(waker, holder, stamp)
    }

    /// Somebody waits by that clock, and needs it to `tick` if it has no stamp. The clock is watched from now on.
    fn watch(&mut self, clock: P::Clock, tick: bool) -> Alarm {
        match self.watched.iter_mut().find(|watched| watched.clock == clock) {
            Some(watched) if tick => {
                watched.ticks = true;
                watched.bell.take().map_or(Alarm::IsSet, Alarm::Rests)
            }
            Some(_) => Alarm::IsSet,
            None => {
                self.watched.push(Watched { clock, ticks: tick, bell: None });
                Alarm::IsNone
            }
        }
    }

    /// The clock is not watched any more. What is left of its alarm is the caller's to drop, once the lock is let go.
    fn unwatch(&mut self, clock: P::Clock) -> Option<Watched<P>> {
        let place = self.watched.iter().position(|watched| watched.clock == clock)?;
        Some(self.watched.swap_remove(place))
    }

    /// Stamps who has no stamp, and refuses those whose stamp `is_old` by now.
    fn expire(&mut self, now: P::Stamp, is_old: impl Fn(P::Stamp, P::Stamp) -> bool, wakers: &mut Vec<Waker>) {
        self.queue.stamp(now);
        self.refuse(Refused::Expired, |came| came.is_some_and(|came| is_old(came, now)), wakers);
    }

    /// Whether a slot that comes back must go: the pool is closed, or has more than it may have by now.
    fn is_surplus(&self) -> bool {
        self.closed || self.slots.len() > self.max
    }

    /// A slot comes back with its connection. If the slot must go, the connection is refused: it has to be dropped before
    /// its slot is given up, or `close` would resolve while it is alive.
    fn put(&mut self, key: usize, connection: P::Connection) -> Put<P::Connection> {
        if self.is_surplus() {
            return Put::Refused(connection);
        }
        if self.queue.is_empty() {
            let slot = &mut self.slots[key];
            slot.holder = None;
            slot.waited_for = None;
            slot.idle = Some(connection);
            self.idle.push(key);
            return Put::Idle;
        }
        Put::Handed(self.hand(key, Some(connection)).flatten())
    }

    /// Hands a slot to the oldest waiter, if there is one; gives its waker.
    fn hand(&mut self, key: usize, connection: Option<P::Connection>) -> Option<Option<Waker>> {
        let waiter = self.queue.next()?;
        waiter.granted = Some(Granted::Slot(key as u32));
        self.handed_over += 1;
        self.served += u64::from(connection.is_some());
        let (waker, holder) = (waiter.waker.take(), waiter.holder);
        let slot = &mut self.slots[key];
        slot.idle = connection;
        slot.holder = Some(holder);
        slot.waited_for = self.queue.latest();
        Some(waker)
    }

    /// A slot comes back empty. Its note is the caller's to drop, once the lock is let go: it is somebody else's code.
    fn free(&mut self, key: usize) -> (Wakers, Option<P::Note>) {
        let note = self.slots[key].note.take();
        if !self.is_surplus()
            && let Some(waker) = self.hand(key, None)
        {
            return (Wakers::One(waker), note);
        }
        self.slots.remove(key);
        if self.closed && self.slots.is_empty() {
            return (Wakers::Many(self.closers.drain().collect()), note);
        }
        (Wakers::One(None), note)
    }

    /// Opens slots for those who wait, as far as there is room.
    fn admit(&mut self, wakers: &mut Vec<Waker>) {
        while !self.queue.is_empty()
            && let Some(key) = self.open_slot()
            && let Some(waker) = self.hand(key, None)
        {
            wakers.extend(waker);
        }
    }

    /// Refuses waiters from the oldest on, as long as their stamp `is_due`.
    fn refuse(&mut self, why: Refused, is_due: impl Fn(Option<P::Stamp>) -> bool, wakers: &mut Vec<Waker>) {
        while self.queue.oldest().is_some_and(|oldest| is_due(oldest.stamp))
            && let Some(waiter) = self.queue.next()
        {
            waiter.granted = Some(Granted::Refused(why));
            wakers.extend(waiter.waker.take());
        }
    }

    /// What a waiter that was granted something takes with it.
    fn collect(&mut self, granted: Granted) -> Grant<P::Connection> {
        match granted {
            Granted::Slot(key) => Grant::Slot { key: key as usize, connection: self.take_out(key as usize) },
            Granted::Refused(why) => Grant::Refused(why),
        }
    }

    /// Takes an idle connection out; its slot stays in use.
    fn take_out(&mut self, key: usize) -> Option<P::Connection> {
        self.slots[key].idle.take()
    }
}

/// What became of a connection that was given back.
enum Put<T> {
    Idle,
    Handed(Option<Waker>),
    Refused(T),
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
            Wakers::Many(wakers) => wake_all(wakers),
        }
    }
}

/// Wakes all of them, even if one panics: each was handed something, and nobody else will tell it.
fn wake_all(wakers: Vec<Waker>) {
    struct Rest(std::vec::IntoIter<Waker>);

    impl Drop for Rest {
        fn drop(&mut self) {
            self.0.by_ref().for_each(Waker::wake);
        }
    }

    let mut rest = Rest(wakers.into_iter());
    rest.0.by_ref().for_each(Waker::wake);
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
        let state = State {
            max,
            most_open: 0,
            handed_over: 0,
            served: 0,
            slots: Slab::with_capacity(max),
            idle: Vec::with_capacity(max),
            queue: Queue::new(),
            watched: Vec::new(),
            closed: false,
            closers: Slab::new(),
        };
        Self { state: Mutex::new(state), crowd: AtomicU8::new(NO_CROWD), context }
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
