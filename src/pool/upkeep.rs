//! What is done to a connection between two users: it is opened, looked at, and judged.
//!
//! One that is to be tested, or that a hook works on, is taken out of its lease meanwhile: should the test or the hook fail,
//! panic, be cancelled or take too long, the connection is gone and the slot is whole.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::alarm::Alarms;
use super::clock::{self, Runtime, Stopwatch};
use super::config::PoolConfig;
use super::core::{Core, Lease, Parts};
use super::failure::AcquireError;
use super::forensics::{Holder, HolderReport, Note};
use super::hooks::Hooks;
use super::manage::Manage;
use super::observe::{Life, Observer, Reason};
use crate::sync::Arc;

/// A connection as the pool keeps it. Times are kept only where a setting needs them.
pub(super) struct Entry<C> {
    pub(super) connection: C,
    /// When its lifetime is over.
    expires: Option<Instant>,
    /// When it came back last.
    used: Option<Instant>,
    /// It came back, and the hook for that has not run yet.
    released: bool,
    /// Last, so that it is told when the connection is gone.
    life: Life,
}

impl<C> Entry<C> {
    /// Why it is about to be dropped.
    pub(super) fn ends(&mut self, reason: Reason) {
        self.life.ends(reason);
    }
}

/// What beside the core every lease can reach.
pub(super) struct Context<M: Manage> {
    manager: M,
    pub(super) config: PoolConfig,
    hooks: Hooks<M::Connection>,
    /// Connections opened so far.
    opened: AtomicU64,
    /// Nothing is asked of a connection between two users: no hook, no test, no limit to its time.
    is_plain: bool,
    alarms: Alarms,
    observer: Arc<Observer>,
}

/// Who holds a connection at this moment.
pub(super) fn holders<M: Manage>(core: &Core<Kind<M>>) -> Vec<HolderReport> {
    let now = clock::now();
    // The record is copied under the lock; what the connections say of themselves is asked after it.
    let held = core.holders(|holder, since, note| (holder, since, note.cloned()));
    let report = |(holder, since, note): (Holder, Option<Instant>, Option<Note>)| {
        holder.report(since.map(|since| now.saturating_duration_since(since)), note.as_ref())
    };
    held.into_iter().map(report).collect()
}

/// A core for `M`'s connections.
pub(super) struct Kind<M>(PhantomData<fn() -> M>);

impl<M: Manage> Parts for Kind<M> {
    /// Boxed once when it is opened: what moves at each get and drop is a pointer.
    type Connection = Box<Entry<M::Connection>>;
    type Holder = Holder;
    type Stamp = Instant;
    type Clock = Runtime;
    /// Most queues stay below this, and their limits exact. In longer ones the look at the clock is worth saving.
    const BUSY: usize = 32;
    type Note = Note;
    type Context = Context<M>;
}

impl<M: Manage> Context<M> {
    pub(super) fn new(manager: M, config: PoolConfig, hooks: Hooks<M::Connection>) -> Self {
        let is_plain = config.min_idle == 0
            && [config.idle_timeout, config.max_lifetime, config.test_after].iter().all(Option::is_none)
            && hooks.before_acquire.is_none()
            && hooks.after_release.is_none();
        let observer = Arc::new(Observer::new(config.name.clone().unwrap_or_else(|| "pool".to_owned())));
        Self { manager, config, hooks, opened: AtomicU64::new(0), is_plain, alarms: Alarms::default(), observer }
    }

    /// Whether an idle connection is lent as it is.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    pub(super) fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }

    pub(super) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Opens a connection and runs the hooks for it: with `lend`, also the one before it is lent.
    async fn open(&self, lend: bool) -> Result<Entry<M::Connection>, AcquireError<M::Error>> {
        let began = clock::now();
        let mut connection = self.manager.connect().await.map_err(AcquireError::Connect)?;
        let before_acquire = self.hooks.before_acquire.as_ref().filter(|_| lend);
        for hook in self.hooks.after_connect.iter().chain(before_acquire) {
            let limit = self.config.hook_timeout;
            match Stopwatch::new(None, limit).run(limit, hook(&mut connection)).await {
                Some(outcome) => outcome.map_err(AcquireError::Hook)?,
                None => return Err(AcquireError::Hook(format!("it took longer than {limit:?}").into())),
            }
        }
        let now = clock::now();
        self.observer.opened(now.saturating_duration_since(began));
        let count = self.opened.fetch_add(1, Ordering::Relaxed);
        let lifetime = self.config.max_lifetime.map(|limit| shortened(limit, self.config.lifetime_jitter, count));
        let expires = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        let life = Life::new(&self.observer);
        Ok(Entry { connection, expires, used: self.keeps_time().then_some(now), released: false, life })
    }

    /// Whether a setting needs to know when a connection was used.
    fn keeps_time(&self) -> bool {
        self.config.idle_timeout.is_some() || self.config.test_after.is_some()
    }

    /// Whether a connection may be idle for too long, or get too old.
    pub(super) fn keeps_limits(&self) -> bool {
        self.config.idle_timeout.is_some() || self.config.max_lifetime.is_some()
    }

    /// Whether an idle connection has to be looked at before it is lent.
    pub(super) fn needs_work(&self, entry: &Entry<M::Connection>) -> bool {
        entry.expires.is_some() || self.keeps_time() || entry.released || self.hooks.before_acquire.is_some()
    }

    /// An idle connection as the next user gets it; `None` if it does not serve any more.
    pub(super) async fn refresh(
        &self,
        mut entry: Box<Entry<M::Connection>>,
        watch: &mut Stopwatch,
    ) -> Option<Box<Entry<M::Connection>>> {
        let now = clock::now();
        if self.is_expired(&entry, now) {
            entry.ends(Reason::Expired);
            return None;
        }
        // One that is kept open for `min_idle` is idle on purpose.
        if self.config.min_idle == 0 && self.is_stale(&entry, now) {
            entry.ends(Reason::Idle);
            return None;
        }
        // Whatever ends it from here on.
        entry.ends(Reason::TurnedDown);
        let limit = self.config.hook_timeout;
        if entry.released
            && let Some(hook) = &self.hooks.after_release
        {
            self.passes("after_release", watch.run(limit, hook(&mut entry.connection)).await)?;
            entry.released = false;
        }
        let idle_for = entry.used.map(|used| now.saturating_duration_since(used));
        if self.config.test_after.is_some_and(|grace| idle_for.is_none_or(|idle_for| idle_for > grace)) {
            // Boxed, like connecting: what is rare must not make every get's future large.
            let test = Box::pin(self.manager.test(&mut entry.connection));
            self.passes("test", watch.run(limit, test).await)?;
        }
        if let Some(hook) = &self.hooks.before_acquire {
            self.passes("before_acquire", watch.run(limit, hook(&mut entry.connection)).await)?;
        }
        entry.ends(Reason::Surplus);
        Some(entry)
    }

    /// Whether a test or hook that ended so leaves the connection fit to be lent.
    fn passes<E: fmt::Display>(&self, by: &str, outcome: Option<Result<(), E>>) -> Option<()> {
        match outcome {
            Some(Ok(())) => Some(()),
            Some(Err(error)) => {
                self.observer.turned_down(by, &error);
                None
            }
            None => {
                self.observer.turned_down(by, &"it took too long");
                None
            }
        }
    }

    /// A connection that comes back, as it becomes idle; `None` if it must not be used again.
    pub(super) fn take_back(&self, mut entry: Box<Entry<M::Connection>>) -> Option<Box<Entry<M::Connection>>> {
        if !self.manager.is_reusable(&mut entry.connection) {
            entry.ends(Reason::Unusable);
            return None;
        }
        if !self.is_plain {
            let now = clock::now();
            if self.is_expired(&entry, now) {
                entry.ends(Reason::Expired);
                return None;
            }
            entry.used = self.keeps_time().then_some(now);
            entry.released = self.hooks.after_release.is_some();
        }
        Some(entry)
    }

    /// Whether its lifetime is over, or it has been idle for too long.
    fn is_stale(&self, entry: &Entry<M::Connection>, now: Instant) -> bool {
        self.is_expired(entry, now)
            || entry
                .used
                .zip(self.config.idle_timeout)
                .is_some_and(|(used, limit)| now.saturating_duration_since(used) > limit)
    }

    fn is_expired(&self, entry: &Entry<M::Connection>, now: Instant) -> bool {
        entry.expires.is_some_and(|expires| now >= expires)
    }
}

/// Opens a connection in a slot, and puts it on record; with `lend`, for somebody who waits for it.
pub(super) async fn open_in<M: Manage>(lease: &mut Lease<Kind<M>>, lend: bool) -> Result<(), AcquireError<M::Error>> {
    let core = Arc::clone(lease.core());
    if core.is_closed() {
        return Err(AcquireError::Closed);
    }
    lease.set_note(Some(Note::Opening));
    let context = core.context();
    let entry = Box::pin(context.open(lend)).instrument(context.observer.connects()).await?;
    lease.set_note(context.manager.activity(&entry.connection).map(Note::Open));
    *lease.connection() = Some(Box::new(entry));
    // Whoever closes the pool meanwhile waits for this slot: it must not be lent any more.
    if core.is_closed() { Err(AcquireError::Closed) } else { Ok(()) }
}

/// The `count`-th connection's share of `lifetime`. Multiples of the golden ratio, modulo 1, are spread evenly however many
/// there are (Knuth, The Art of Computer Programming 3, 6.4), so that this needs no randomness.
fn shortened(lifetime: Duration, jitter: f64, count: u64) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let spread = (count as f64 * GOLDEN).fract();
    // A lifetime that is too long for this is as good as none.
    Duration::try_from_secs_f64(lifetime.as_secs_f64() * (1.0 - jitter * spread)).unwrap_or(lifetime)
}

/// Closes one connection that has been idle for too long or is too old, if there is one.
pub(super) fn reap_one<M: Manage>(core: &Arc<Core<Kind<M>>>, now: Instant) -> bool {
    let context = core.context();
    let due = core.take_due(|entry, idle| {
        context.is_expired(entry, now) || (idle > context.config.min_idle && context.is_stale(entry, now))
    });
    match due {
        Some(mut lease) => {
            if let Some(mut entry) = lease.connection().take() {
                entry.ends(if context.is_expired(&entry, now) { Reason::Expired } else { Reason::Idle });
            }
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_spread_evenly_over_their_jitter() {
        let limit = Duration::from_secs(100);
        let mut lifetimes: Vec<_> = (0..16).map(|count| shortened(limit, 0.5, count)).collect();
        lifetimes.sort();
        let widest = lifetimes.windows(2).map(|pair| pair[1] - pair[0]).max();
        let closest = lifetimes.windows(2).map(|pair| pair[1] - pair[0]).min();
        assert!(lifetimes[0] >= limit / 2 && lifetimes[15] <= limit, "{lifetimes:?}");
        assert!(closest > Some(Duration::from_secs(1)) && widest < Some(Duration::from_secs(6)), "{lifetimes:?}");
        assert_eq!(shortened(limit, 0.0, 7), limit);
    }
}
