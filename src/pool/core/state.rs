//! What the core's lock guards: every slot, who waits, and each change of them, made in one step.
//!
//! Nothing here runs code of anybody else: wakers and what is to be dropped are given to the caller, for when the lock is
//! let go.

use std::task::Waker;

use slab::Slab;

use super::queue::{Place, Queue};
use super::{Parts, Refused};

/// What becomes of a waiter. Its connection, if there is one, waits for it in the slot.
#[derive(Clone, Copy)]
pub(super) enum Granted {
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

pub(super) struct Slot<P: Parts> {
    /// The connection, while nobody holds the slot or who was granted it has not taken it.
    pub idle: Option<P::Connection>,
    pub holder: Option<P::Holder>,
    /// When somebody came whom the holder holds up. If it got the slot before, that was the first who came; if others
    /// waited already when it was handed the slot, the last of them.
    pub waited_for: Option<P::Stamp>,
    pub note: Option<P::Note>,
}

pub(super) struct State<P: Parts> {
    pub max: usize,
    pub most_open: usize,
    pub handed_over: u64,
    /// How often that came with a connection.
    pub served: u64,
    pub slots: Slab<Slot<P>>,
    /// Slots whose connection is idle; the one used last is taken first, since its caches are warm.
    pub idle: Vec<usize>,
    pub queue: Queue<P>,
    /// The clocks whose alarm is set for somebody in the queue.
    pub watched: Vec<Watched<P>>,
    pub closed: bool,
    /// Who waits for the last slot to go after closing.
    pub closers: Slab<Waker>,
}

/// A clock whose alarm is set, or will be by an [`Acquire`](super::Acquire) that has been told so.
pub(super) struct Watched<P: Parts> {
    pub clock: P::Clock,
    /// Somebody without a stamp has come to rely on it since it went off last.
    pub ticks: bool,
    /// Lets it go off, while it rests.
    pub bell: Option<Waker>,
}

/// How the alarm of somebody who waits stands.
pub(super) enum Alarm {
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
    pub fn new(max: usize) -> Self {
        Self {
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
        }
    }

    /// What a newcomer gets at once, if anything.
    pub fn take(&mut self, holder: P::Holder) -> Option<Grant<P::Connection>> {
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
    pub fn open_slot(&mut self) -> Option<usize> {
        if self.slots.len() >= self.max {
            return None;
        }
        let key = self.slots.insert(Slot { idle: None, holder: None, waited_for: None, note: None });
        self.most_open = self.most_open.max(self.slots.len());
        Some(key)
    }

    /// Queues a newcomer. If it is the first to wait, those it waits for learn of it.
    pub fn join(&mut self, waker: Option<Waker>, holder: P::Holder, stamp: Option<P::Stamp>) -> Place {
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
    pub fn watch(&mut self, clock: P::Clock, tick: bool) -> Alarm {
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
    pub fn unwatch(&mut self, clock: P::Clock) -> Option<Watched<P>> {
        let place = self.watched.iter().position(|watched| watched.clock == clock)?;
        Some(self.watched.swap_remove(place))
    }

    /// Stamps who has no stamp, and refuses those whose stamp `is_old` by now.
    pub fn expire(&mut self, now: P::Stamp, is_old: impl Fn(P::Stamp, P::Stamp) -> bool, wakers: &mut Vec<Waker>) {
        self.queue.stamp(now);
        self.refuse(Refused::Expired, |came| came.is_some_and(|came| is_old(came, now)), wakers);
    }

    /// Whether a slot that comes back must go: the pool is closed, or has more than it may have by now.
    fn is_surplus(&self) -> bool {
        self.closed || self.slots.len() > self.max
    }

    /// A slot comes back with its connection. If the slot must go, the connection is refused: it has to be dropped before
    /// its slot is given up, or `close` would resolve while it is alive.
    pub fn put(&mut self, key: usize, connection: P::Connection) -> Put<P::Connection> {
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
    pub fn free(&mut self, key: usize) -> (Wakers, Option<P::Note>) {
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
    pub fn admit(&mut self, wakers: &mut Vec<Waker>) {
        while !self.queue.is_empty()
            && let Some(key) = self.open_slot()
            && let Some(waker) = self.hand(key, None)
        {
            wakers.extend(waker);
        }
    }

    /// Refuses waiters from the oldest on, as long as their stamp `is_due`.
    pub fn refuse(&mut self, why: Refused, is_due: impl Fn(Option<P::Stamp>) -> bool, wakers: &mut Vec<Waker>) {
        while self.queue.oldest().is_some_and(|oldest| is_due(oldest.stamp))
            && let Some(waiter) = self.queue.next()
        {
            waiter.granted = Some(Granted::Refused(why));
            wakers.extend(waiter.waker.take());
        }
    }

    /// What a waiter that was granted something takes with it.
    pub fn collect(&mut self, granted: Granted) -> Grant<P::Connection> {
        match granted {
            Granted::Slot(key) => Grant::Slot { key: key as usize, connection: self.take_out(key as usize) },
            Granted::Refused(why) => Grant::Refused(why),
        }
    }

    /// Takes an idle connection out; its slot stays in use.
    pub fn take_out(&mut self, key: usize) -> Option<P::Connection> {
        self.slots[key].idle.take()
    }
}

/// What became of a connection that was given back.
pub(super) enum Put<T> {
    Idle,
    Handed(Option<Waker>),
    Refused(T),
}

/// Who is to be woken once the lock is let go.
pub(super) enum Wakers {
    One(Option<Waker>),
    Many(Vec<Waker>),
}

impl Wakers {
    pub fn wake(self) {
        match self {
            Wakers::One(waker) => waker.into_iter().for_each(Waker::wake),
            Wakers::Many(wakers) => wake_all(wakers),
        }
    }
}

/// Wakes all of them, even if one panics: each was handed something, and nobody else will tell it.
pub(super) fn wake_all(wakers: Vec<Waker>) {
    struct Rest(std::vec::IntoIter<Waker>);

    impl Drop for Rest {
        fn drop(&mut self) {
            self.0.by_ref().for_each(Waker::wake);
        }
    }

    let mut rest = Rest(wakers.into_iter());
    rest.0.by_ref().for_each(Waker::wake);
}
