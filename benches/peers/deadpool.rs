//! deadpool, as it comes: it waits for ever. And with a limit to that, which is what the others promise.

use std::convert::Infallible;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolBuilder, RecycleResult};

use crate::{Nothing, PATIENCE, Peer, SIZE};

impl Manager for Nothing {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn recycle(&self, _connection: &mut u64, _metrics: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

fn builder() -> PoolBuilder<Nothing> {
    Pool::builder(Nothing).max_size(SIZE)
}

/// With no limit to waiting.
#[derive(Clone)]
pub struct Unlimited(Pool<Nothing>);

impl Peer for Unlimited {
    const NAME: &'static str = "deadpool";
    type Guard = Object<Nothing>;

    async fn open() -> Self {
        Self(builder().build().expect("a valid configuration"))
    }

    async fn get(&self) -> Self::Guard {
        self.0.get().await.expect("nothing can fail")
    }
}

/// Waits as long as the others.
#[derive(Clone)]
pub struct Limited(Pool<Nothing>);

impl Peer for Limited {
    const NAME: &'static str = "deadpool, 30 s limit";
    type Guard = Object<Nothing>;

    async fn open() -> Self {
        let builder = builder().wait_timeout(Some(PATIENCE)).runtime(Runtime::Tokio1);
        Self(builder.build().expect("a valid configuration"))
    }

    async fn get(&self) -> Self::Guard {
        self.0.get().await.expect("nothing can fail")
    }
}
