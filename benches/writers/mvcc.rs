//! Ours in the engine's MVCC mode: writes side by side.

use std::path::Path;
use std::time::Duration;

use poolproof::{ConnectionPool, Mode, PooledDatabaseWriter, WriterConfig};

use super::poolproof::insert_slowly;
use super::{Transact, Writer};
use crate::database::INSERT;

/// A handle to the writer.
#[derive(Clone, Debug)]
pub struct Mvcc(PooledDatabaseWriter);

impl Writer for Mvcc {
    const NAME: &'static str = "poolproof, MVCC";

    async fn open(path: &Path) -> Self {
        let pool = ConnectionPool::builder(path).max_connections(32).build().await.expect("the file opens");
        let config = WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
        Self(PooledDatabaseWriter::with_config(pool, config).await.expect("the file can be switched"))
    }

    async fn insert(&self, value: i64) {
        self.0.execute(INSERT, (value,)).await.expect("it is committed");
    }
}

impl Transact for Mvcc {
    async fn insert_slowly(&self, value: i64, pause: Duration) {
        insert_slowly(&self.0, value, pause).await;
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
