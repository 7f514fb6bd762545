//! A pool of any kind of connection: the core, a manager that knows how to connect, time limits and hooks.
//!
//! [`ConnectionPool`](super::ConnectionPool) is its face for Turso. Another driver is pooled by implementing [`Manage`].

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::clock::{self, Stopwatch};
use super::config::{PoolConfig, validate_max};
use super::core::{Acquire, Core, Lease, Refused, Seen};
use super::failure::{AcquireError, StillOpen};
use super::forensics::{AcquireTimeout, Holder, HolderReport, Stage};
use super::guard::Pooled;
use super::hooks::Hooks;
use super::maintenance::Maintenance;
use super::manage::Manage;
use super::observe::{Reason, Wait};
use super::status::Status;
use super::upkeep::{self, Context, Kind, open_in};
use crate::error::Result;
use crate::sync::Arc;

/// A pool of `M`'s connections. A clone is another handle to the same pool.
///
/// A waiter is overtaken by nobody: connections are handed from user to user in the order in which the users came, and
/// while somebody waits, a newcomer takes nothing.
///
/// # What it tells
/// A get that finds an idle connection costs one counter and no event.
///
/// | `tracing`, target `poolproof` | level | fields beside `pool` |
/// | --- | --- | --- |
/// | span `wait`: somebody is in the queue | debug | `ahead` |
/// | span `connect`: a connection is opened, its hooks included | debug | |
/// | event `opened a connection` | debug | `seconds` |
/// | event `closed a connection` | debug | `reason` |
/// | event `resized`, event `closed the pool` | debug | `max` |
/// | event `turned an idle connection down` | warn | `by`, `error` |
/// | event `could not keep connections idle` | warn | `error` |
/// | event `no connection in time` | warn | `verdict`, `report` |
///
/// | `metrics` (feature `metrics`), label `pool` | kind |
/// | --- | --- |
/// | `poolproof_acquires_total`: connections lent | counter |
/// | `poolproof_acquire_wait_seconds`: time in the queue of those who had to wait and were served | histogram |
/// | `poolproof_acquire_timeouts_total`, by `verdict` | counter |
/// | `poolproof_connect_seconds`: time to open a connection, its hooks included | histogram |
/// | `poolproof_connections_opened_total` | counter |
/// | `poolproof_connections_closed_total`, by `reason` | counter |
///
/// The recorder of `metrics` has to be installed before the pool is made.
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
        let context = Context::new(manager, config, hooks);
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
    ///
    /// # Order
    /// Nobody who came later is served before: the number of times that a waiter can be overtaken is 0.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<Pooled<M>, AcquireError<M::Error>>> + Send + '_ {
        self.get_from(Location::caller())
    }

    /// [`Pool::get`] on behalf of a caller at `site`.
    pub(crate) async fn get_from(&self, site: &'static Location<'static>) -> Result<Pooled<M>, AcquireError<M::Error>> {
        let context = self.core.context();
        let (holder, limit) = (Holder::at(site), context.config.acquire_timeout);
        // Where nothing has to be waited for, a loop of these would keep the runtime from its other tasks.
        consume_budget().await;
        if let Some(lease) = self.core.take_idle_now(holder) {
            return match context.is_plain() {
                true => Ok(self.lend(lease)),
                false => self.fill(lease, Stopwatch::new(None, limit)).await,
            };
        }
        let (lease, came) = {
            let acquire = self.core.acquire(holder, clock::runtime());
            let mut waiting = Waiting { pool: self, acquire, wait: Wait::default() };
            let lease = (&mut waiting).await?;
            match lease.get() {
                Some(_) if context.is_plain() => return Ok(self.lend(lease)),
                _ => (lease, waiting.acquire.stamp()),
            }
        };
        self.fill(lease, Stopwatch::new(came, limit)).await
    }

    /// An idle connection, if there is one, nobody waits, and nothing has to be done to it before.
    #[cfg(feature = "cache")]
    pub(crate) fn get_idle(&self, site: &'static Location<'static>) -> Option<Pooled<M>> {
        let is_plain = self.core.context().is_plain();
        let lease = is_plain.then(|| self.core.take_idle_now(Holder::at(site))).flatten()?;
        Some(self.lend(lease))
    }

    /// A connection if there is one to have without waiting for another user: an idle one, or a new one while fewer than
    /// the maximum are open. `None` if all are in use or others wait already; it does not queue.
    ///
    /// What it may wait for is the connection itself: that it is opened, its test and its hooks, with the time limits of
    /// [`get`](Pool::get).
    ///
    /// # Errors
    /// [`AcquireError::Closed`], [`AcquireError::Connect`] with the manager's error, [`AcquireError::Hook`], or
    /// [`AcquireError::Timeout`] if the connection took too long to open.
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// Dropped at any await, it frees the slot in which it was connecting.
    #[track_caller]
    pub fn try_get(&self) -> impl Future<Output = Result<Option<Pooled<M>>, AcquireError<M::Error>>> + Send + '_ {
        self.try_get_from(Location::caller())
    }

    /// [`Pool::try_get`] on behalf of a caller at `site`.
    pub(crate) async fn try_get_from(
        &self,
        site: &'static Location<'static>,
    ) -> Result<Option<Pooled<M>>, AcquireError<M::Error>> {
        consume_budget().await;
        let context = self.core.context();
        let lease = match self.core.take_now(Holder::at(site)) {
            Some(Ok(lease)) => lease,
            // Nobody who does not wait waits for too long.
            Some(Err(Refused::Closed | Refused::Expired)) => return Err(AcquireError::Closed),
            None => return Ok(None),
        };
        if lease.get().is_some() && context.is_plain() {
            return Ok(Some(self.lend(lease)));
        }
        self.fill(lease, Stopwatch::new(None, context.config.acquire_timeout)).await.map(Some)
    }

    fn lend(&self, lease: Lease<Kind<M>>) -> Pooled<M> {
        self.core.context().observer().lent();
        Pooled::new(lease)
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
                None => return Err(self.out_of_time(watch.began(), Stage::Connecting, Seen::default())),
            }
        }
        Ok(self.lend(lease))
    }

    fn out_of_time(&self, began: Option<Instant>, stage: Stage, seen: Seen) -> AcquireError<M::Error> {
        let now = clock::now();
        let holders = self.holders();
        let census = self.core.census();
        let others_were_served = census.served > seen.served;
        let timeout = Box::new(AcquireTimeout {
            waited: began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began)),
            stage,
            place: seen.ahead,
            status: census.into(),
            verdict: AcquireTimeout::judge(stage, others_were_served, &holders),
            holders,
        });
        self.core.context().observer().timed_out(&timeout);
        AcquireError::Timeout(timeout)
    }

    /// Who holds a connection at this moment.
    #[must_use]
    pub fn holders(&self) -> Vec<HolderReport> {
        upkeep::holders(&self.core)
    }

    /// The pool at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.census().into()
    }

    /// Its numbers, and how many are on record as holders of a connection, for as long as it lives; does not keep it alive.
    #[cfg(feature = "harness")]
    pub(crate) fn watched(&self) -> impl Fn() -> Option<(Status, usize)> + Send + 'static + use<M> {
        let core = Arc::downgrade(&self.core);
        move || {
            let core = core.upgrade()?;
            Some((core.census().into(), core.holders(|_, _, _| ()).len()))
        }
    }

    /// An idle connection that nobody is on record for, as long as what is returned lives: a watch has to see that.
    #[cfg(all(test, feature = "harness"))]
    pub(crate) fn loses_one(&self) -> impl Send + use<M> {
        self.core.take_due(|_, _| true)
    }

    /// Changes how many connections there may be. Surplus idle ones are closed now, surplus ones in use when they come
    /// back; who waits is admitted as far as there is new room.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a number that cannot work.
    pub fn resize(&self, max_connections: usize) -> Result<()> {
        validate_max(max_connections)?;
        self.core.resize(max_connections);
        self.core.context().observer().resized(max_connections);
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
                entry.ends(Reason::NotRetained);
                closed += 1;
            }
        }
        closed
    }

    /// Refuses everybody who waits or comes later, drops what is idle, and resolves when no connection is alive:
    /// guards that are out keep working, and their connections are dropped when they come back. A [`get`](Pool::get) that was
    /// handed a connection counts as a guard until it is polled or dropped, and so does a connection that is being opened
    /// for `min_idle`, until its runtime goes on.
    ///
    /// # Cancel safety
    /// The pool is closed from the first poll on, whether or not this is awaited to its end; it may be called again.
    pub async fn close(&self) {
        self.core.close();
        self.maintenance.stop();
        self.core.context().alarms().stop();
        self.core.context().observer().pool_closed();
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
        let closed = clock::within(limit, self.close()).await;
        closed.ok_or_else(|| StillOpen { holders: self.holders() })
    }
}

/// Waits in the queue, and sees to it that an alarm ends that.
struct Waiting<'a, M: Manage> {
    pool: &'a Pool<M>,
    acquire: Acquire<'a, Kind<M>>,
    /// What is told of its time in the queue.
    wait: Wait,
}

impl<M: Manage> Future for Waiting<'_, M> {
    type Output = Result<Lease<Kind<M>>, AcquireError<M::Error>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Self { pool, acquire, wait } = &mut *self;
        let context = pool.core.context();
        let first = !acquire.waits();
        match acquire.poll(task, clock::now) {
            Poll::Ready(Ok(lease)) => {
                if !first {
                    context.observer().served(wait);
                }
                Poll::Ready(Ok(lease))
            }
            Poll::Ready(Err(Refused::Closed)) => Poll::Ready(Err(AcquireError::Closed)),
            Poll::Ready(Err(Refused::Expired)) => {
                let _span = wait.enter();
                Poll::Ready(Err(pool.out_of_time(acquire.stamp(), Stage::Waiting, acquire.seen())))
            }
            Poll::Pending => {
                if !first {
                    acquire.moves_to(clock::runtime());
                } else {
                    *wait = context.observer().waits(acquire.seen().ahead, acquire.stamp());
                }
                if acquire.unwatched() {
                    context.alarms().watch(acquire);
                }
                Poll::Pending
            }
        }
    }
}
