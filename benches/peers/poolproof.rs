//! Ours.

use std::convert::Infallible;

use poolproof::{Manage, Pool, PoolConfig, Pooled};

use crate::{Nothing, PATIENCE, Peer, SIZE};

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
        let config = PoolConfig { max_connections: SIZE, acquire_timeout: PATIENCE, ..PoolConfig::default() };
        Pool::new(Nothing, config).expect("a valid configuration")
    }

    async fn get(&self) -> Self::Guard {
        Pool::get(self).await.expect("nothing can fail")
    }
}
