//! Having a slot, and waiting for one.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::queue::Place;
use super::state::{Alarm, State};
use super::{BUSY_CROWD, CROWD, Core, Grant, NO_CROWD, Parts, Refused};
use crate::sync::Arc;

/// A slot in use. Dropping it gives the slot back, with the connection if it holds one.
pub(crate) struct Lease<P: Parts> {
    key: usize,
    connection: Option<P::Connection>,
    core: Arc<Core<P>>,
}

impl<P: Parts> Lease<P> {
    pub(super) fn new(core: &Arc<Core<P>>, key: usize, connection: Option<P::Connection>) -> Self {
        Self { key, connection, core: Arc::clone(core) }
    }

    /// The slot's connection, to look at.
    pub(crate) fn get(&self) -> Option<&P::Connection> {
        self.connection.as_ref()
    }

    /// The slot's connection; `None` if it is yet to be opened or was discarded.
    pub(crate) fn connection(&mut self) -> &mut Option<P::Connection> {
        &mut self.connection
    }

    /// Puts a note of its connection on the slot's record.
    pub(crate) fn set_note(&self, note: Option<P::Note>) {
        let _old = self.core.state.with(|state| std::mem::replace(&mut state.slots[self.key].note, note));
    }

    /// From now on somebody else is on record as who has the slot.
    pub(crate) fn set_holder(&self, holder: P::Holder) {
        self.core.state.with(|state| state.slots[self.key].holder = Some(holder));
    }

    pub(crate) fn core(&self) -> &Arc<Core<P>> {
        &self.core
    }
}

impl<P: Parts> Drop for Lease<P> {
    fn drop(&mut self) {
        self.core.give_back(self.key, self.connection.take());
    }
}

/// A connection on its way out: dropped first, then its slot is freed, even if the first panics. Fields are dropped in
/// the order in which they stand.
pub(super) struct Retired<'a, P: Parts, T> {
    _connection: T,
    _slot: Freed<'a, P>,
}

impl<'a, P: Parts, T> Retired<'a, P, T> {
    pub(super) fn new(core: &'a Core<P>, key: usize, connection: T) -> Self {
        Self { _connection: connection, _slot: Freed { core, key } }
    }
}

/// Frees its slot when dropped.
struct Freed<'a, P: Parts> {
    core: &'a Core<P>,
    key: usize,
}

impl<P: Parts> Drop for Freed<'_, P> {
    fn drop(&mut self) {
        self.core.free(self.key);
    }
}

/// Polled, it comes to a lease. Dropped before that, it leaves the queue, and passes on what it had been handed.
#[must_use = "it does nothing unless polled"]
pub(crate) struct Acquire<'a, P: Parts> {
    core: &'a Arc<Core<P>>,
    holder: P::Holder,
    /// When it came, as far as that is known: what it brought, or was given in the queue.
    stamp: Option<P::Stamp>,
    clock: P::Clock,
    /// What it saw when it queued; nothing yet if it never did.
    seen: Seen,
    step: Step,
    /// Nobody has set the clock's alarm yet: whoever polls this has to.
    unwatched: bool,
}

/// How far an acquire has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    New,
    /// Queued, or granted something that it has not looked at.
    Waits(Place),
    Done,
}

/// What a waiter sees when it queues.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// How many waited before it.
    pub ahead: usize,
    /// How many had been handed a connection.
    pub served: u64,
}

/// How a newcomer fares.
enum Begun<T> {
    Granted(Grant<T>),
    Queued(Alarm),
    /// The queue is not busy: it needs a stamp.
    NeedsStamp,
}

// Nothing in it is ever pinned.
impl<P: Parts> Unpin for Acquire<'_, P> {}

impl<'a, P: Parts> Acquire<'a, P> {
    pub(super) fn new(core: &'a Arc<Core<P>>, holder: P::Holder, clock: P::Clock) -> Self {
        Self { core, holder, stamp: None, clock, seen: Seen::default(), step: Step::New, unwatched: false }
    }

    pub(crate) fn core(&self) -> &'a Arc<Core<P>> {
        self.core
    }

    /// When it came, as far as that is known: one that came to a busy queue may have come a tick before, or not know at all
    /// if it was served so soon.
    pub(crate) fn stamp(&self) -> Option<P::Stamp> {
        self.stamp
    }

    pub(crate) fn clock(&self) -> P::Clock {
        self.clock
    }

    /// What it saw when it queued.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// Whether it is in the queue, or was handed something that it has not looked at.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.step, Step::Waits(_))
    }

    /// It is polled where another clock goes: from now on it hangs on that.
    pub(crate) fn moves_to(&mut self, clock: P::Clock) {
        if let Step::Waits(place) = self.step
            && clock != self.clock
        {
            self.clock = clock;
            let alarm = self.core.state.with(|state| {
                let tick = state.queue.get_mut(place).stamp.is_none();
                state.watch(clock, tick)
            });
            self.hear(alarm);
        }
    }

    /// Whether whoever polled this has to set its clock's alarm, and then to [say so](Acquire::is_watched).
    pub(crate) fn unwatched(&self) -> bool {
        self.unwatched
    }

    /// The alarm is set.
    pub(crate) fn is_watched(&mut self) {
        self.unwatched = false;
    }

    /// Leaves the queue; what it had been handed by then is the caller's to pass on.
    pub(crate) fn leave(&mut self) -> Option<Grant<P::Connection>> {
        let Step::Waits(place) = std::mem::replace(&mut self.step, Step::Done) else { return None };
        // The waker is dropped here, outside the lock: it is somebody else's code.
        let (_waker, grant) = self.core.state.with(|state| {
            let (waker, granted) = state.queue.remove(place);
            (waker, granted.map(|granted| state.collect(granted)))
        });
        grant
    }

    /// Takes what there is or was handed, or waits. `present` gives the stamp of a newcomer that needs one.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        context: &Context<'_>,
        present: impl Fn() -> P::Stamp,
    ) -> Poll<Result<Lease<P>, Refused>> {
        let grant = match self.step {
            Step::New => self.begin(context, present),
            Step::Waits(place) => self.look(place, context),
            Step::Done => panic!("polled after it was ready"),
        };
        let Some(grant) = grant else { return Poll::Pending };
        self.step = Step::Done;
        Poll::Ready(match grant {
            Grant::Slot { key, connection } => Ok(Lease::new(self.core, key, connection)),
            Grant::Refused(why) => Err(why),
        })
    }

    /// Its first poll: takes something at once, or queues.
    fn begin(&mut self, context: &Context<'_>, present: impl Fn() -> P::Stamp) -> Option<Grant<P::Connection>> {
        let Self { core, holder, .. } = *self;
        let crowd = core.crowd.load(Ordering::Relaxed);
        if crowd == NO_CROWD
            && let Some(grant) = core.state.with(|state| state.take(holder))
        {
            return Some(grant);
        }
        // Cloned outside the lock; the look under the lock closes the gap between the two:
        //
        //   newcomer              holder
        //   finds nothing
        //                         releases: nobody is queued, so it becomes idle
        //   looks again: takes it
        let mut waker = Some(context.waker().clone());
        if crowd != BUSY_CROWD {
            self.stamp = Some(present());
        }
        loop {
            let newcomer = &mut *self;
            match core.state.with(|state| newcomer.join(state, &mut waker)) {
                Begun::Granted(grant) => return Some(grant),
                Begun::Queued(alarm) => {
                    self.hear(alarm);
                    return None;
                }
                Begun::NeedsStamp => self.stamp = Some(present()),
            }
        }
    }

    /// Takes something after all, or queues.
    #[inline]
    fn join(&mut self, state: &mut State<P>, waker: &mut Option<Waker>) -> Begun<P::Connection> {
        if let Some(grant) = state.take(self.holder) {
            return Begun::Granted(grant);
        }
        let is_busy = state.queue.is_busy();
        if !is_busy && self.stamp.is_none() {
            return Begun::NeedsStamp;
        }
        self.core.crowd.store(if is_busy { BUSY_CROWD } else { CROWD }, Ordering::Relaxed);
        self.seen = Seen { ahead: state.queue.len(), served: state.served };
        let stamp = if is_busy { None } else { self.stamp };
        self.step = Step::Waits(state.join(waker.take(), self.holder, stamp));
        Begun::Queued(state.watch(self.clock, is_busy))
    }

    /// Heeds how its alarm stands.
    fn hear(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::IsSet => {}
            Alarm::IsNone => self.unwatched = true,
            Alarm::Rests(bell) => bell.wake(),
        }
    }

    /// A later poll: takes what it was handed; if nothing yet, remembers the latest waker.
    fn look(&mut self, place: Place, context: &Context<'_>) -> Option<Grant<P::Connection>> {
        let Self { core, clock, .. } = *self;
        let known = core.state.with(|state| {
            let waiter = state.queue.get_mut(place);
            match waiter.granted {
                Some(granted) => {
                    self.stamp = self.stamp.or(waiter.stamp);
                    // What else there was of it went when it was granted that.
                    let _nothing = state.queue.remove(place);
                    Ok((state.collect(granted), state.closed))
                }
                None => Err(waiter.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))),
            }
        });
        let known = match known {
            Ok((grant, closed)) => {
                self.step = Step::Done;
                return Some(match grant {
                    // Handed over before the pool was closed, looked at after: nobody gets anything from a closed pool.
                    Grant::Slot { key, connection } if closed => {
                        core.give_back(key, connection);
                        Grant::Refused(Refused::Closed)
                    }
                    grant => grant,
                });
            }
            Err(known) => known,
        };
        if !known {
            let fresh = context.waker().clone();
            let (alarm, _stale) = core.state.with(|state| {
                let waiter = state.queue.get_mut(place);
                // Handed something between the two looks: whoever did that took the old waker and woke it, so there will
                // be another poll, but this one can as well take it.
                if waiter.granted.is_some() {
                    return (None, Some(fresh));
                }
                let (tick, stale) = (waiter.stamp.is_none(), waiter.waker.replace(fresh));
                (Some(state.watch(clock, tick)), stale)
            });
            match alarm {
                Some(alarm) => self.hear(alarm),
                None => return self.look(place, context),
            }
        }
        None
    }
}

impl<P: Parts> Drop for Acquire<'_, P> {
    fn drop(&mut self) {
        if self.unwatched {
            // It was told to set the alarm for others, too, and did not come to it.
            self.core.unwatch(self.clock);
        }
        if let Some(Grant::Slot { key, connection }) = self.leave() {
            self.core.give_back(key, connection);
        }
    }
}
