//! The door to the read cache.

use std::panic::Location;
use std::sync::Arc;

use turso::IntoParams;
use turso::params::Params;

use super::{CachedRows, Found, read_schema};
use crate::error::Result;
use crate::writer::PooledDatabaseWriter;

impl PooledDatabaseWriter {
    /// All rows of a query, from the cache if nothing that they come from was written since they were read. Without a cache
    /// it reads each time.
    ///
    /// It is never older than any write that was acknowledged, or seen by anybody, before the call, whichever
    /// writer or guard of this process wrote; only a connection of the engine's own, made past this crate, is not heard of.
    /// Inside a [`write`](PooledDatabaseWriter::write) it does not see what that one has written so far.
    ///
    /// Not kept are answers to queries that ask for the time, for chance or for what a connection did last, that read virtual
    /// tables or other databases, and those larger than an eighth of the cache. A miss is one [`read`], and calls that miss the
    /// same query at the same time share it. A change of the schema empties the cache.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// use poolproof::{ConnectionPool, PooledDatabaseWriter, WriterConfig};
    ///
    /// let config = WriterConfig { cache: 1 << 20, ..WriterConfig::default() };
    /// let db = PooledDatabaseWriter::with_config(ConnectionPool::open(&path).await?, config).await?;
    /// db.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT)", ()).await?;
    /// db.execute("INSERT INTO settings VALUES ('colour', 'red')", ()).await?;
    ///
    /// let sql = "SELECT value FROM settings WHERE name = ?1";
    /// for _ in 0..3 {
    ///     let found = db.query_cached(sql, ("colour",)).await?;
    ///     assert_eq!(found.rows()[0].get::<String>(0)?, "red");
    /// }
    /// db.execute("UPDATE settings SET value = 'blue'", ()).await?;
    /// let found = db.query_cached(sql, ("colour",)).await?;
    /// assert_eq!(found.rows()[0].get::<String>(0)?, "blue");
    ///
    /// let cache = db.status().cache.expect("it is on");
    /// assert_eq!((cache.hits, cache.misses), (2, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for a query in a [`read`]; [`Error::Misuse`](crate::Error::Misuse) for a statement that is no query. An error is not
    /// kept.
    ///
    /// # Panics
    /// If it has to read and is polled outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing is kept, and whoever waits for the same answer reads for itself.
    ///
    /// [`read`]: PooledDatabaseWriter::read
    #[track_caller]
    pub fn query_cached<'q>(
        &'q self,
        sql: &'q str,
        params: impl IntoParams + 'q,
    ) -> impl Future<Output = Result<Arc<CachedRows>>> + 'q {
        self.query_cached_from(Location::caller(), sql, params)
    }

    async fn query_cached_from(
        &self,
        site: &'static Location<'static>,
        sql: &str,
        params: impl IntoParams,
    ) -> Result<Arc<CachedRows>> {
        let params = params.into_params()?;
        let Some(cache) = &self.cache else { return self.query_uncached(site, sql, params).await };
        let filling = match cache.find(sql, &params).await {
            Found::Rows(rows) => return Ok(rows),
            Found::Read => return self.query_uncached(site, sql, params).await,
            Found::Missing(filling) => filling,
        };
        let known = filling.schema();
        let query = sql.to_owned();
        let (rows, schema) = self
            .read_from(site, async move |snapshot| {
                let schema = match known {
                    Some(schema) => schema,
                    None => Arc::new(read_schema(snapshot).await?),
                };
                Ok::<_, crate::Error>((Arc::new(CachedRows::read(snapshot, &query, params).await?), schema))
            })
            .await?;
        filling.keep(sql, &rows, schema);
        Ok(rows)
    }

    async fn query_uncached(
        &self,
        site: &'static Location<'static>,
        sql: &str,
        params: Params,
    ) -> Result<Arc<CachedRows>> {
        let query = sql.to_owned();
        self.read_from(site, async move |snapshot| Ok(Arc::new(CachedRows::read(snapshot, &query, params).await?)))
            .await
    }
}
