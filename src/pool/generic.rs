//! A pool of any kind of connection: the core, a manager that knows how to connect, time limits and hooks.
//!
//! [`ConnectionPool`](super::ConnectionPool) is its face for Turso. Another driver is pooled by implementing [`Manage`].
//!
//! A connection that is to be tested, or that a hook works on, is taken out of its lease meanwhile: should the test or the
//! hook fail, panic, be cancelled or take too long, the connection is gone and the slot is whole.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarms;
use super::clock::{self, Runtime, Stopwatch};
use super::config::{PoolConfig, validate_max};
use super::core::{Acquire, Core, Lease, Parts, Refused, Seen};
use super::forensics::{AcquireTimeout, Holder, HolderReport, Stage};
use super::hooks::{HookError, Hooks};
use super::maintenance::Maintenance;
use super::manage::{Activity, Manage};
use super::status::Status;
use crate::error::Result;
use crate::sync::Arc;

/// Why [`Pool::get`] gave no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// No connection became free, or could be opened, in time.
    #[error("{0}")]
    Timeout(Box<AcquireTimeout>),
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
    /// Opening a connection failed.
    #[error("connecting failed: {0}")]
    Connect(#[source] E),
    /// A hook turned a new connection down.
    #[error("a hook turned a new connection down: {0}")]
    Hook(#[source] HookError),
}

/// Connections are still in use, although the pool is closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StillOpen {
    /// Who holds them.
    pub holders: Vec<HolderReport>,
}

impl fmt::Display for StillOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pool is closed, but {} connections are still in use", self.holders.len())?;
        self.holders.iter().try_for_each(|holder| write!(f, "; held at {holder}"))
    }
}

impl std::error::Error for StillOpen {}

/// A connection as the pool keeps it. Times are kept only where a setting needs them.
pub(super) struct Entry<C> {
    pub(super) connection: C,
    /// When its lifetime is over.
    expires: Option<Instant>,
    /// When it came back last.
    used: Option<Instant>,
    /// It came back, and the hook for that has not run yet.
    released: bool,
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
}

/// A core for `M`'s connections.
pub(super) struct Kind<M>(PhantomData<fn() -> M>);

impl<M: Manage> Parts for Kind<M> {
    /// Boxed once when it is opened: what moves at each get and drop is a pointer.
    type Connection = Box<Entry<M::Connection>>;
    type Holder = Holder;
    type Stamp = Instant;
    type Clock = Runtime;
    type Note = Arc<dyn Activity>;
    type Context = Context<M>;
}

/// A pool of `M`'s connections. A clone is another handle to the same pool.
///
/// A waiter is overtaken by nobody: connections are handed from user to user in the order in which the users came, and
/// while somebody waits, a newcomer takes nothing.
pub struct Pool<M: Manage> {
    core: Arc<Core<Kind<M>>>,
    /// Ends with the last handle.
    maintenance: Arc<Maintenance>,
}

impl<M: Manage> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), maintenance: Arc::clone(&self.maintenance) }
    }
}

impl<M: Manage> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl<M: Manage> Pool<M> {
    /// A pool that has opened nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that cannot work.
    pub fn new(manager: M, config: PoolConfig) -> Result<Self> {
        Self::with_hooks(manager, config, Hooks::new())
    }

    /// A pool with hooks that has opened nothing yet. With `min_idle` it begins to, if a runtime is there.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that cannot work.
    pub fn with_hooks(manager: M, config: PoolConfig, hooks: Hooks<M::Connection>) -> Result<Self> {
        config.validate()?;
        let max = config.max_connections;
        let is_plain = config.min_idle == 0
            && [config.idle_timeout, config.max_lifetime, config.test_after].iter().all(Option::is_none)
            && hooks.before_acquire.is_none()
            && hooks.after_release.is_none();
        let context =
            Context { manager, config, hooks, opened: AtomicU64::new(0), is_plain, alarms: Alarms::default() };
        let pool = Self { core: Arc::new(Core::new(max, context)), maintenance: Arc::default() };
        pool.maintenance.start(&pool.core);
        Ok(pool)
    }

    /// Waits for a connection: an idle one, a new one while fewer than the maximum are open, or the one that the oldest
    /// waiter is handed. First come, first served.
    ///
    /// # Errors
    /// [`AcquireError::Timeout`] with who holds what, [`AcquireError::Closed`], [`AcquireError::Connect`] with the manager's
    /// error, or [`AcquireError::Hook`].
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// Dropped at any await, it leaves the queue, passes on what it had been handed, and frees the slot in which it was
    /// connecting.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<Pooled<M>, AcquireError<M::Error>>> + Send + '_ {
        self.get_from(Location::caller())
    }

    /// [`Pool::get`] on behalf of a caller at `site`.
    pub(crate) async fn get_from(&self, site: &'static Location<'static>) -> Result<Pooled<M>, AcquireError<M::Error>> {
        let holder = Holder::at(site);
        let (lease, came) = match self.core.take_idle_now(holder) {
            Some(lease) => (lease, None),
            None => {
                let came = clock::now();
                (Waiting { pool: self, acquire: self.core.acquire(holder, came, clock::runtime()) }.await?, Some(came))
            }
        };
        if self.core.context().is_plain && lease.get().is_some() {
            // The common case: it is lent as it is.
            return Ok(Pooled::new(lease));
        }
        self.fill(lease, Stopwatch::new(came, self.core.context().config.acquire_timeout)).await
    }

    /// Makes a connection of a slot: the idle one in it if that still serves, else a new one.
    async fn fill(&self, mut lease: Lease<Kind<M>>, mut watch: Stopwatch) -> Result<Pooled<M>, AcquireError<M::Error>> {
        let context = self.core.context();
        self.maintenance.start(&self.core);
        if lease.get().is_some_and(|entry| context.needs_work(entry))
            && let Some(entry) = lease.connection().take()
        {
            *lease.connection() = context.refresh(entry, &mut watch).await;
            if self.core.is_closed() {
                return Err(AcquireError::Closed);
            }
        }
        if lease.get().is_none() {
            match watch.run(context.config.connect_timeout, open_in(&mut lease, true)).await {
                Some(opened) => opened?,
                None => return Err(self.out_of_time(watch.began(), Stage::Connecting, None)),
            }
        }
        Ok(Pooled::new(lease))
    }

    fn out_of_time(&self, began: Option<Instant>, stage: Stage, seen: Option<Seen>) -> AcquireError<M::Error> {
        let now = clock::now();
        let holders = self.holders();
        let status = self.status();
        let others_were_served = seen.is_some_and(|seen| status.handed_over > seen.handed_over);
        AcquireError::Timeout(Box::new(AcquireTimeout {
            waited: began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began)),
            stage,
            place: seen.map_or(0, |seen| seen.ahead),
            status,
            verdict: AcquireTimeout::judge(stage, others_were_served, &holders),
            holders,
        }))
    }

    /// Who holds a connection at this moment.
    #[must_use]
    pub fn holders(&self) -> Vec<HolderReport> {
        let now = clock::now();
        // The record is copied under the lock; what the connections say of themselves is asked after it.
        let held = self.core.holders(|holder, activity| (*holder, activity.cloned()));
        held.into_iter().map(|(holder, activity)| holder.report(activity.as_ref(), now)).collect()
    }

    /// The pool at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.census().into()
    }

    /// Changes how many connections there may be. Surplus idle ones are closed now, surplus ones in use when they come
    /// back; who waits is admitted as far as there is new room.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a number that cannot work.
    pub fn resize(&self, max_connections: usize) -> Result<()> {
        validate_max(max_connections)?;
        self.core.resize(max_connections);
        Ok(())
    }

    /// Closes the idle connections for which `keep` says false; returns how many. Those in use are not asked.
    pub fn retain(&self, mut keep: impl FnMut(&mut M::Connection) -> bool) -> usize {
        let mut closed = 0;
        for mut lease in self.core.take_idle() {
            let Some(mut entry) = lease.connection().take() else { continue };
            if keep(&mut entry.connection) {
                *lease.connection() = Some(entry);
            } else {
                closed += 1;
            }
        }
        closed
    }

    /// Refuses everybody who waits or comes later, drops what is idle, and resolves when no connection is alive:
    /// guards that are out keep working, and their connections are dropped when they come back.
    ///
    /// # Cancel safety
    /// The pool is closed from the first poll on, whether or not this is awaited to its end; it may be called again.
    pub async fn close(&self) {
        self.core.close();
        self.maintenance.stop();
        self.core.closed().await;
    }

    /// [Closes](Pool::close) the pool, and waits at most `limit` for what is in use.
    ///
    /// # Errors
    /// [`StillOpen`] says who still holds what. The pool is closed all the same.
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// As for [`Pool::close`].
    pub async fn close_within(&self, limit: Duration) -> Result<(), StillOpen> {
        let closed = Stopwatch::new(None, limit).run(limit, self.close()).await;
        closed.ok_or_else(|| StillOpen { holders: self.holders() })
    }
}

/// Waits in the queue, and sees to it that an alarm ends that.
struct Waiting<'a, M: Manage> {
    pool: &'a Pool<M>,
    acquire: Acquire<'a, Kind<M>>,
}

impl<M: Manage> Future for Waiting<'_, M> {
    type Output = Result<Lease<Kind<M>>, AcquireError<M::Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Self { pool, acquire } = &mut *self;
        match Pin::new(&mut *acquire).poll(context) {
            Poll::Ready(Ok(lease)) => Poll::Ready(Ok(lease)),
            Poll::Ready(Err(Refused::Closed)) => Poll::Ready(Err(AcquireError::Closed)),
            Poll::Ready(Err(Refused::Expired)) => {
                Poll::Ready(Err(pool.out_of_time(Some(acquire.stamp()), Stage::Waiting, acquire.seen())))
            }
            Poll::Pending => {
                pool.core.context().alarms.watch(acquire);
                Poll::Pending
            }
        }
    }
}

impl<M: Manage> Context<M> {
    /// Opens a connection and runs the hooks for it: with `lend`, also the one before it is lent.
    async fn open(&self, lend: bool) -> Result<Entry<M::Connection>, AcquireError<M::Error>> {
        let mut connection = self.manager.connect().await.map_err(AcquireError::Connect)?;
        let before_acquire = self.hooks.before_acquire.as_ref().filter(|_| lend);
        for hook in self.hooks.after_connect.iter().chain(before_acquire) {
            let limit = self.config.hook_timeout;
            match Stopwatch::new(None, limit).run(limit, hook(&mut connection)).await {
                Some(outcome) => outcome.map_err(AcquireError::Hook)?,
                None => return Err(AcquireError::Hook(format!("it took longer than {limit:?}").into())),
            }
        }
        let count = self.opened.fetch_add(1, Ordering::Relaxed);
        let expires = self
            .config
            .max_lifetime
            .and_then(|lifetime| clock::now().checked_add(shortened(lifetime, self.config.lifetime_jitter, count)));
        let used = self.keeps_time().then(clock::now);
        Ok(Entry { connection, expires, used, released: false })
    }

    /// Whether a setting needs to know when a connection was used.
    fn keeps_time(&self) -> bool {
        self.config.idle_timeout.is_some() || self.config.test_after.is_some()
    }

    /// Whether an idle connection has to be looked at before it is lent.
    fn needs_work(&self, entry: &Entry<M::Connection>) -> bool {
        entry.expires.is_some() || self.keeps_time() || entry.released || self.hooks.before_acquire.is_some()
    }

    /// An idle connection as the next user gets it; `None` if it does not serve any more.
    async fn refresh(
        &self,
        mut entry: Box<Entry<M::Connection>>,
        watch: &mut Stopwatch,
    ) -> Option<Box<Entry<M::Connection>>> {
        let now = clock::now();
        // One that is kept open for `min_idle` is idle on purpose.
        if self.is_expired(&entry, now) || (self.config.min_idle == 0 && self.is_stale(&entry, now)) {
            return None;
        }
        let limit = self.config.hook_timeout;
        if entry.released
            && let Some(hook) = &self.hooks.after_release
        {
            watch.run(limit, hook(&mut entry.connection)).await?.ok()?;
            entry.released = false;
        }
        let idle_for = entry.used.map(|used| now.saturating_duration_since(used));
        if self.config.test_after.is_some_and(|grace| idle_for.is_none_or(|idle_for| idle_for > grace)) {
            watch.run(limit, self.manager.test(&mut entry.connection)).await?.ok()?;
        }
        if let Some(hook) = &self.hooks.before_acquire {
            watch.run(limit, hook(&mut entry.connection)).await?.ok()?;
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
    // A note of the connection that was here before would be wrong by now.
    lease.set_note(None);
    let entry = core.context().open(lend).await?;
    lease.set_note(core.context().manager.activity(&entry.connection));
    *lease.connection() = Some(Box::new(entry));
    // Whoever closes the pool meanwhile waits for this slot: it must not be lent any more.
    if core.is_closed() { Err(AcquireError::Closed) } else { Ok(()) }
}

/// The `count`-th connection's share of `lifetime`. Multiples of the golden ratio, modulo 1, are spread evenly however many
/// there are (Knuth, The Art of Computer Programming 3, 6.4), so that this needs no randomness.
fn shortened(lifetime: Duration, jitter: f64, count: u64) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let spread = (count as f64 * GOLDEN).fract();
    lifetime.mul_f64(1.0 - jitter * spread)
}

/// Closes one connection that has been idle for too long or is too old, if there is one.
pub(super) fn reap_one<M: Manage>(core: &Arc<Core<Kind<M>>>, now: Instant) -> bool {
    let context = core.context();
    let due = core.take_due(|entry, idle| {
        context.is_expired(entry, now) || (idle > context.config.min_idle && context.is_stale(entry, now))
    });
    match due {
        Some(mut lease) => {
            drop(lease.connection().take());
            true
        }
        None => false,
    }
}

/// A connection on loan. Dropping it gives it back, at once and without a runtime.
///
/// It is discarded instead, and its slot freed, if the manager does not want it back, its lifetime is over, or the thread
/// is unwinding from a panic that began while it was held.
pub struct Pooled<M: Manage> {
    lease: Lease<Kind<M>>,
    /// Whether the thread was unwinding when this was acquired: then a panic says nothing about its use.
    panicking: bool,
}

impl<M: Manage> Pooled<M> {
    fn new(lease: Lease<Kind<M>>) -> Self {
        Self { lease, panicking: thread::panicking() }
    }

    /// Drops the connection now, and keeps the slot. Until it is [renewed](Pooled::renew), the guard must not be used.
    pub(crate) fn discard(&mut self) {
        drop(self.lease.connection().take());
    }

    /// Whether it was not discarded.
    pub(crate) fn is_open(&self) -> bool {
        self.lease.get().is_some()
    }

    /// Opens another connection in the slot of one that was discarded.
    ///
    /// # Errors
    /// [`AcquireError::Closed`] if the pool was closed, otherwise as for opening any connection.
    pub(crate) async fn renew(&mut self) -> Result<(), AcquireError<M::Error>> {
        if self.lease.connection().is_none() {
            open_in(&mut self.lease, true).await?;
        }
        Ok(())
    }

    /// Takes the connection out of the pool for good. Its slot is free at once.
    #[must_use]
    pub fn detach(mut self) -> M::Connection {
        let entry = self.lease.connection().take();
        entry.expect("a guard's slot holds its connection until the guard is dropped").connection
    }
}

impl<M: Manage> fmt::Debug for Pooled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}

impl<M: Manage> Deref for Pooled<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.lease.get().expect("a guard's slot holds its connection until the guard is dropped").connection
    }
}

impl<M: Manage> DerefMut for Pooled<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        let entry = self.lease.connection().as_mut();
        &mut entry.expect("a guard's slot holds its connection until the guard is dropped").connection
    }
}

impl<M: Manage> Drop for Pooled<M> {
    fn drop(&mut self) {
        // Taken out first: should the judgement panic, the connection is dropped and only the slot goes back.
        let Some(mut entry) = self.lease.connection().take() else { return };
        let context = self.lease.core().context();
        let panicked = thread::panicking() && !self.panicking;
        if panicked || !context.manager.is_reusable(&mut entry.connection) {
            return;
        }
        if !context.is_plain && (context.keeps_time() || entry.expires.is_some()) {
            let now = clock::now();
            if context.is_expired(&entry, now) {
                return;
            }
            entry.used = context.keeps_time().then_some(now);
            reap_one(self.lease.core(), now);
        }
        entry.released = context.hooks.after_release.is_some();
        *self.lease.connection() = Some(entry);
    }
}
