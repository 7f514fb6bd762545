//! Reads by the cache. Without the feature `cache` they are reads like any other.

use crate::error::Result;
use crate::writer::{PooledDatabaseWriter, WriterConfig, WriterStatus};

/// A writer's settings, with room for answers.
#[cfg(feature = "cache")]
pub(super) fn with_room(config: WriterConfig) -> WriterConfig {
    WriterConfig { cache: 1 << 14, ..config }
}

#[cfg(not(feature = "cache"))]
pub(super) fn with_room(config: WriterConfig) -> WriterConfig {
    config
}

/// The one number of a query, which may have been read before.
#[cfg(feature = "cache")]
pub(super) async fn number(db: &PooledDatabaseWriter, sql: &'static str) -> Result<i64> {
    let found = db.query_cached(sql, ()).await?;
    found.first().map_or(Ok(-1), |row| row.get(0))
}

#[cfg(not(feature = "cache"))]
pub(super) async fn number(db: &PooledDatabaseWriter, sql: &'static str) -> Result<i64> {
    db.read(async move |snapshot| super::tables::number(snapshot, sql, ()).await).await
}

/// Whether one had been.
#[cfg(feature = "cache")]
pub(super) fn was_found(status: &WriterStatus) -> bool {
    status.cache.is_some_and(|cache| cache.hits > 0)
}

#[cfg(not(feature = "cache"))]
pub(super) fn was_found(_status: &WriterStatus) -> bool {
    false
}
