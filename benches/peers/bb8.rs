//! bb8.

use std::convert::Infallible;

use bb8::{ManageConnection, Pool, PooledConnection};

use crate::{Nothing, PATIENCE, Peer, SIZE};

impl ManageConnection for Nothing {
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

impl Peer for Pool<Nothing> {
    const NAME: &'static str = "bb8";
    type Guard = PooledConnection<'static, Nothing>;

    async fn open() -> Self {
        let builder = Self::builder().max_size(SIZE as u32).connection_timeout(PATIENCE);
        builder.build(Nothing).await.expect("nothing can fail")
    }

    async fn get(&self) -> Self::Guard {
        self.get_owned().await.expect("nothing can fail")
    }
}
