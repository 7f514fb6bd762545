//! What the user of a pool wants done to its connections.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Why a hook turned a connection down.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;
/// What a hook returns: `Box::pin(async move { ... })`.
pub type HookFuture<'c> = Pin<Box<dyn Future<Output = Result<(), HookError>> + Send + 'c>>;

type Hook<C> = Box<dyn for<'c> Fn(&'c mut C) -> HookFuture<'c> + Send + Sync>;

/// Hooks of a pool of `C`s. Each may take [`PoolConfig::hook_timeout`](crate::PoolConfig::hook_timeout); one that fails,
/// panics or takes longer costs the connection, never the slot.
///
/// ```
/// use poolproof::{Connection, ConnectionPool, Hooks};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
///     Box::pin(async move { Ok(connection.run("PRAGMA cache_size = -8000").await?) })
/// });
/// let pool = ConnectionPool::builder(&path).hooks(hooks).build().await?;
/// # pool.get().await?;
/// # Ok(())
/// # }
/// ```
///
/// A closure learns from where it stands that it has to take a connection for any lifetime. One that is kept in a variable
/// does not, and is refused: "implementation of `Fn` is not general enough", or "lifetime may not live long enough". What is
/// to be kept is a function, or is made by one:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use poolproof::{Connection, HookFuture, Hooks};
///
/// fn small_cache(connection: &mut Connection) -> HookFuture<'_> {
///     Box::pin(async move { Ok(connection.run("PRAGMA cache_size = -8000").await?) })
/// }
///
/// fn counting(count: Arc<AtomicU64>) -> impl for<'c> Fn(&'c mut Connection) -> HookFuture<'c> + Send + Sync {
///     move |_| {
///         count.fetch_add(1, Ordering::Relaxed);
///         Box::pin(async { Ok(()) })
///     }
/// }
///
/// let lent = Arc::new(AtomicU64::new(0));
/// let (first, each_time) = (small_cache, counting(Arc::clone(&lent)));
/// let hooks = Hooks::new().after_connect(first).before_acquire(each_time);
/// # let _ = hooks;
/// ```
pub struct Hooks<C> {
    pub(super) after_connect: Option<Hook<C>>,
    pub(super) before_acquire: Option<Hook<C>>,
    pub(super) after_release: Option<Hook<C>>,
}

impl<C> Hooks<C> {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self { after_connect: None, before_acquire: None, after_release: None }
    }

    /// Runs on each new connection. If it fails, the acquire that opened the connection fails.
    #[must_use]
    pub fn after_connect(mut self, hook: impl for<'c> Fn(&'c mut C) -> HookFuture<'c> + Send + Sync + 'static) -> Self {
        self.after_connect = Some(Box::new(hook));
        self
    }

    /// Runs on each connection before it is lent. If it fails on a connection that was idle, the connection is replaced; on
    /// a new one, the acquire fails.
    #[must_use]
    pub fn before_acquire(
        mut self,
        hook: impl for<'c> Fn(&'c mut C) -> HookFuture<'c> + Send + Sync + 'static,
    ) -> Self {
        self.before_acquire = Some(Box::new(hook));
        self
    }

    /// Runs on each connection after it came back. Giving back is synchronous and spawns nothing, so this runs in the next
    /// acquire of the same connection, before anything else does. If it fails, the connection is replaced.
    #[must_use]
    pub fn after_release(mut self, hook: impl for<'c> Fn(&'c mut C) -> HookFuture<'c> + Send + Sync + 'static) -> Self {
        self.after_release = Some(Box::new(hook));
        self
    }
}

impl<C: Send + 'static> Hooks<C> {
    /// The same hooks, each followed by `after` if it succeeds.
    pub(super) fn then(self, after: fn(&mut C)) -> Self {
        let wrap = |hook: Hook<C>| -> Hook<C> {
            let hook = std::sync::Arc::new(hook);
            Box::new(move |connection| {
                let hook = std::sync::Arc::clone(&hook);
                Box::pin(async move {
                    hook(connection).await?;
                    after(connection);
                    Ok(())
                })
            })
        };
        Self {
            after_connect: self.after_connect.map(wrap),
            before_acquire: self.before_acquire.map(wrap),
            after_release: self.after_release.map(wrap),
        }
    }
}

impl<C> Default for Hooks<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> fmt::Debug for Hooks<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("after_connect", &self.after_connect.is_some())
            .field("before_acquire", &self.before_acquire.is_some())
            .field("after_release", &self.after_release.is_some())
            .finish()
    }
}
