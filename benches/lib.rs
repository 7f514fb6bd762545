//! What the benches share: pools of a connection that is nothing, so that only the pools themselves are measured.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use poolproof::{Manage, Pool, PoolConfig, Pooled};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of every pool.
pub const SIZE: usize = 10;

/// A pool under measurement.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Its name in reports.
    const NAME: &'static str;
    /// What it lends.
    type Guard: Send;

    /// A pool of [`SIZE`] connections, none of them open yet.
    fn open() -> impl Future<Output = Self>;
    /// Waits for a connection.
    fn get(&self) -> impl Future<Output = Self::Guard> + Send;
}

/// The manager of nothing, for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Manage for Nothing {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn is_reusable(&self, _connection: &mut u64) -> bool {
        true
    }
}

impl Peer for Pool<Nothing> {
    const NAME: &'static str = "poolproof";
    type Guard = Pooled<Nothing>;

    async fn open() -> Self {
        let config = PoolConfig { max_connections: SIZE, ..PoolConfig::default() };
        Pool::new(Nothing, config).expect("a valid configuration")
    }

    async fn get(&self) -> Self::Guard {
        Pool::get(self).await.expect("nothing can fail")
    }
}

impl deadpool::managed::Manager for Nothing {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn recycle(
        &self,
        _connection: &mut u64,
        _metrics: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl Peer for deadpool::managed::Pool<Nothing> {
    const NAME: &'static str = "deadpool";
    type Guard = deadpool::managed::Object<Nothing>;

    async fn open() -> Self {
        Self::builder(Nothing).max_size(SIZE).build().expect("a valid configuration")
    }

    async fn get(&self) -> Self::Guard {
        Self::get(self).await.expect("nothing can fail")
    }
}

impl bb8::ManageConnection for Nothing {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn is_valid(&self, _connection: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _connection: &mut u64) -> bool {
        false
    }
}

impl Peer for bb8::Pool<Nothing> {
    const NAME: &'static str = "bb8";
    type Guard = bb8::PooledConnection<'static, Nothing>;

    async fn open() -> Self {
        Self::builder().max_size(SIZE as u32).build(Nothing).await.expect("nothing can fail")
    }

    async fn get(&self) -> Self::Guard {
        self.get_owned().await.expect("nothing can fail")
    }
}

/// The least that a pool can be: a semaphore and a list behind a mutex. No time-out, no hand-off, no check of what comes
/// back.
#[derive(Clone)]
pub struct Bare {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<VecDeque<u64>>>,
}

/// What [`Bare`] lends.
pub struct BareGuard {
    connection: Option<u64>,
    idle: Arc<Mutex<VecDeque<u64>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for BareGuard {
    fn drop(&mut self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
    }
}

impl Peer for Bare {
    const NAME: &'static str = "bare semaphore";
    type Guard = BareGuard;

    async fn open() -> Self {
        Self { permits: Arc::new(Semaphore::new(SIZE)), idle: Arc::default() }
    }

    async fn get(&self) -> BareGuard {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("never closed");
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
        BareGuard { connection: Some(idle.unwrap_or(0)), idle: Arc::clone(&self.idle), _permit: permit }
    }
}
