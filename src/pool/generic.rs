//! A pool of any kind of connection: the core, a manager that knows how to connect, and one deadline.
//!
//! [`ConnectionPool`](super::ConnectionPool) is its face for Turso. Another driver is pooled by implementing [`Manage`].

use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::config::PoolConfig;
use super::core::{Closed, Core, Lease};
use super::status::Status;
use crate::error::Result;
use crate::sync::Arc;

/// Opens the connections of a pool and judges them when they come back.
///
/// ```
/// use std::convert::Infallible;
/// use poolproof::{Manage, Pool, PoolConfig};
///
/// struct Numbers;
///
/// impl Manage for Numbers {
///     type Connection = u32;
///     type Error = Infallible;
///
///     async fn connect(&self) -> Result<u32, Infallible> {
///         Ok(7)
///     }
///
///     fn is_reusable(&self, connection: &mut u32) -> bool {
///         *connection == 7
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::new(Numbers, &PoolConfig::default())?;
/// assert_eq!(*pool.get().await?, 7);
/// assert_eq!(pool.status().idle, 1);
/// # Ok(())
/// # }
/// ```
pub trait Manage: Send + Sync + 'static {
    /// What is pooled. Dropping it must end it at once, with whatever it was in the middle of.
    type Connection: Send + 'static;
    /// Why connecting failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Opens a connection. May be cancelled at any await.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Whether a connection that comes back may be handed to somebody else. Must neither block nor panic.
    fn is_reusable(&self, connection: &mut Self::Connection) -> bool;
}

/// Why [`Pool::get`] gave no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// No connection became free, or could be opened, in time.
    #[error("no connection within {waited:?}: {} of {} are in use, others waiting: {}", .status.in_use, .status.max, .status.waiting)]
    Timeout {
        /// How long the call waited.
        waited: Duration,
        /// The pool when it gave up.
        status: Status,
    },
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
    /// Opening a connection failed.
    #[error("connecting failed: {0}")]
    Connect(#[source] E),
}

struct Context<M> {
    manager: M,
    acquire_timeout: Duration,
}

type SharedCore<M> = Arc<Core<<M as Manage>::Connection, Context<M>>>;

/// A pool of `M`'s connections. A clone is another handle to the same pool.
pub struct Pool<M: Manage> {
    core: SharedCore<M>,
}

impl<M: Manage> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
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
    pub fn new(manager: M, config: &PoolConfig) -> Result<Self> {
        config.validate()?;
        let context = Context { manager, acquire_timeout: config.acquire_timeout };
        Ok(Self { core: Arc::new(Core::new(config.max_connections, context)) })
    }

    /// Waits for a connection: an idle one, a new one while fewer than the maximum are open, or the one that the oldest
    /// waiter is handed. First come, first served.
    ///
    /// # Errors
    /// [`AcquireError::Timeout`], [`AcquireError::Closed`], or [`AcquireError::Connect`] with the manager's error.
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// Dropped at any await, it leaves the queue, passes on what it had been handed, and frees the slot in which it was
    /// connecting.
    pub async fn get(&self) -> Result<Pooled<M>, AcquireError<M::Error>> {
        let context = self.core.context();
        let mut clock = Clock { began: None, timeout: context.acquire_timeout };
        let timed_out = |waited| AcquireError::Timeout { waited, status: self.status() };
        let mut lease = match clock.run(self.core.acquire()).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(Closed)) => return Err(AcquireError::Closed),
            Err(waited) => return Err(timed_out(waited)),
        };
        if lease.connection().is_none() {
            let connection = match clock.run(context.manager.connect()).await {
                Ok(connected) => connected.map_err(AcquireError::Connect)?,
                Err(waited) => return Err(timed_out(waited)),
            };
            *lease.connection() = Some(connection);
            if self.core.census().closed {
                return Err(AcquireError::Closed);
            }
        }
        Ok(Pooled { lease, panicking: thread::panicking() })
    }

    /// The pool at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.census().into()
    }

    /// Refuses everybody who waits or comes later, drops what is idle, and resolves when no connection is alive:
    /// guards that are out keep working, and their connections are dropped when they come back.
    ///
    /// # Cancel safety
    /// The pool is closed from the first poll on, whether or not this is awaited to its end; it may be called again.
    pub async fn close(&self) {
        self.core.close();
        self.core.closed().await;
    }
}

/// One deadline for all the steps of an acquire, read from the clock only once something has to be waited for.
struct Clock {
    began: Option<Instant>,
    timeout: Duration,
}

impl Clock {
    /// The future's output, or how long was waited in vain.
    async fn run<F: Future>(&mut self, future: F) -> Result<F::Output, Duration> {
        let mut future = pin!(future);
        if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
            return Ok(output);
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        // A time-out too long for the clock is none.
        match began.checked_add(self.timeout) {
            Some(deadline) => Self::until(deadline, future).await.map_err(|()| began.elapsed()),
            None => Ok(future.await),
        }
    }

    async fn until<F: Future>(deadline: Instant, future: Pin<&mut F>) -> Result<F::Output, ()> {
        timeout_at(deadline, future).await.map_err(drop)
    }
}

/// A connection on loan. Dropping it gives it back, at once and without a runtime.
///
/// It is discarded instead, and its slot freed, if the manager does not want it back or the thread is unwinding from a
/// panic that began while it was held.
pub struct Pooled<M: Manage> {
    lease: Lease<M::Connection, Context<M>>,
    /// Whether the thread was unwinding when this was acquired: then a panic says nothing about its use.
    panicking: bool,
}

impl<M: Manage> Pooled<M> {
    /// Drops the connection now, and keeps the slot. Until it is [renewed](Pooled::renew), the guard must not be used.
    pub(crate) fn discard(&mut self) {
        drop(self.lease.connection().take());
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lease.get().is_some()
    }

    /// Opens another connection in the slot of one that was discarded.
    ///
    /// # Errors
    /// [`AcquireError::Closed`] if the pool was closed, or [`AcquireError::Connect`] with the manager's error.
    pub(crate) async fn renew(&mut self) -> Result<(), AcquireError<M::Error>> {
        if self.lease.connection().is_none() {
            let core = Arc::clone(self.lease.core());
            if core.census().closed {
                return Err(AcquireError::Closed);
            }
            let connection = core.context().manager.connect().await.map_err(AcquireError::Connect)?;
            *self.lease.connection() = Some(connection);
        }
        Ok(())
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
        self.lease.get().expect("a guard's slot holds its connection until the guard is dropped")
    }
}

impl<M: Manage> DerefMut for Pooled<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        self.lease.connection().as_mut().expect("a guard's slot holds its connection until the guard is dropped")
    }
}

impl<M: Manage> Drop for Pooled<M> {
    fn drop(&mut self) {
        // Taken out first: should the judgement panic, the connection is dropped and only the slot goes back.
        let Some(mut connection) = self.lease.connection().take() else { return };
        let panicked = thread::panicking() && !self.panicking;
        if !panicked && self.lease.core().context().manager.is_reusable(&mut connection) {
            *self.lease.connection() = Some(connection);
        }
    }
}
