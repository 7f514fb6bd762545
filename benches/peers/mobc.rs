//! mobc, without the test of a connection before it is lent: the others make none by default, or one that is nothing.

use std::convert::Infallible;

use mobc::{Connection, Manager, Pool, async_trait};

use crate::{Nothing, PATIENCE, Peer, SIZE};

#[async_trait]
impl Manager for Nothing {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn check(&self, connection: u64) -> Result<u64, Infallible> {
        Ok(connection)
    }
}

impl Peer for Pool<Nothing> {
    const NAME: &'static str = "mobc";
    type Guard = Connection<Nothing>;

    async fn open() -> Self {
        let size = SIZE as u64;
        let builder = Self::builder().max_open(size).max_idle(size).test_on_check_out(false);
        builder.get_timeout(Some(PATIENCE)).build(Nothing)
    }

    async fn get(&self) -> Self::Guard {
        Self::get(self).await.expect("nothing can fail")
    }
}
