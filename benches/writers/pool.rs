//! A pool of connections that each commit for themselves, and try again when another has the write lock.

use std::path::Path;
use std::time::Duration;

use poolproof::{ConnectionPool, Error};
use tokio::time::sleep;

use super::Writer;
use crate::database::INSERT;

/// As short as tokio's timer can be.
const PAUSE: Duration = Duration::from_millis(1);

/// A handle to the pool.
#[derive(Clone, Debug)]
pub struct Pooled(ConnectionPool);

impl Writer for Pooled {
    const NAME: &'static str = "pool, each commits";

    async fn open(path: &Path) -> Self {
        Self(ConnectionPool::builder(path).max_connections(crate::SIZE).build().await.expect("the file opens"))
    }

    async fn insert(&self, value: i64) {
        let mut connection = self.0.get().await.expect("a connection");
        loop {
            match connection.execute(INSERT, (value,)).await {
                Err(Error::Engine(turso::Error::Busy(_) | turso::Error::BusySnapshot(_))) => sleep(PAUSE).await,
                outcome => return drop(outcome.expect("it is committed")),
            }
        }
    }
}
