//! The least that a pool can be: a semaphore and a list behind a mutex. No limit to waiting, no record of who holds what,
//! no judgement of what comes back.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::{Peer, SIZE};

/// A handle to the pool.
#[derive(Clone)]
pub struct Bare(Arc<Shared>);

struct Shared {
    permits: Semaphore,
    idle: Mutex<Vec<u64>>,
}

/// What [`Bare`] lends.
pub struct Guard {
    connection: u64,
    shared: Arc<Shared>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
        self.shared.permits.add_permits(1);
    }
}

impl Peer for Bare {
    const NAME: &'static str = "bare semaphore";
    type Guard = Guard;

    async fn open() -> Self {
        Self(Arc::new(Shared { permits: Semaphore::new(SIZE), idle: Mutex::default() }))
    }

    async fn get(&self) -> Guard {
        self.0.permits.acquire().await.expect("never closed").forget();
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Guard { connection: idle.unwrap_or(0), shared: Arc::clone(&self.0) }
    }
}
