//! What keeps the runs: the pooled writer, or whatever the harness puts in its place to show what that is for.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use turso::IntoParams;

use crate::error::{Error, Result};
use crate::pool::{Snapshot, Transaction};
use crate::writer::{CloseReport, PooledDatabaseWriter, Weigh, WriterStatus};

/// A database as the runs use it. For a service of your own, this is [`PooledDatabaseWriter`].
///
/// A clone is another handle to the same.
pub trait Store: Clone + Send + Sync + 'static {
    /// Runs a statement in a transaction of its own; how many rows it changed.
    ///
    /// # Errors
    /// As of [`PooledDatabaseWriter::execute`].
    fn execute(&self, sql: &'static str, params: impl IntoParams + Send) -> impl Future<Output = Result<u64>> + Send;

    /// Runs a closure in a transaction: committed if it returns `Ok`.
    ///
    /// # Errors
    /// As of [`PooledDatabaseWriter::write`].
    fn write<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>> + Send
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static;

    /// Runs a closure on a snapshot.
    ///
    /// # Errors
    /// As of [`PooledDatabaseWriter::read`].
    fn read<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>> + Send
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static;

    /// What a closure makes of this and a snapshot, kept until a table that it read is written; or made anew each time.
    ///
    /// # Errors
    /// As of [`PooledDatabaseWriter::read_cached`].
    fn read_cached<K, F, T, E>(&self, given: K, work: F) -> impl Future<Output = Result<Arc<T>, E>> + Send
    where
        K: Hash + Eq + Weigh + Send + Sync + 'static,
        F: AsyncFnOnce(&mut Snapshot<'_>, &K) -> Result<T, E> + Send + 'static,
        T: Weigh + Send + Sync + 'static,
        E: From<Error> + Send + 'static;

    /// It at this moment; all zero where nothing is counted.
    fn status(&self) -> WriterStatus;

    /// Ends it after what was accepted, or after `limit`.
    fn close(&self, limit: Duration) -> impl Future<Output = CloseReport> + Send;
}

impl Store for PooledDatabaseWriter {
    async fn execute(&self, sql: &'static str, params: impl IntoParams + Send) -> Result<u64> {
        Ok(self.execute(sql, params).await?.value)
    }

    async fn write<F, R, E>(&self, work: F) -> Result<R, E>
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        Ok(self.write(work).await?.value)
    }

    fn read<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>> + Send
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.read(work)
    }

    fn read_cached<K, F, T, E>(&self, given: K, work: F) -> impl Future<Output = Result<Arc<T>, E>> + Send
    where
        K: Hash + Eq + Weigh + Send + Sync + 'static,
        F: AsyncFnOnce(&mut Snapshot<'_>, &K) -> Result<T, E> + Send + 'static,
        T: Weigh + Send + Sync + 'static,
        E: From<Error> + Send + 'static,
    {
        self.read_cached(given, work)
    }

    fn status(&self) -> WriterStatus {
        self.status()
    }

    fn close(&self, limit: Duration) -> impl Future<Output = CloseReport> + Send {
        self.close_within(limit)
    }
}
