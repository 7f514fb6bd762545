//! The doors to the read cache: for the rows of a query, and for whatever a closure makes of a snapshot.

use std::any::Any;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::coop::consume_budget;
use turso::IntoParams;

use super::key::{GivenTo, Key, Work};
use super::{CachedRows, Filling, Found, Kept, Weigh, read_schema};
use crate::error::{Error, Result};
use crate::pool::inside::{Inside, inside};
use crate::pool::{PooledConnection, Snapshot};
use crate::sql::Text;
use crate::sync::Mutex;
use crate::writer::PooledDatabaseWriter;
use crate::writer::read::{not_read, read_on, until};

impl PooledDatabaseWriter {
    /// All rows of a query, from the cache if nothing that they come from was written since they were read. Without a cache
    /// it reads each time.
    ///
    /// It is never older than any write that was acknowledged, or seen by anybody, before the call, whichever
    /// writer or guard of this process wrote; only a connection of the engine's own, made past this crate, is not heard of.
    /// Inside a [`write`](PooledDatabaseWriter::write) it does not see what that one has written so far.
    ///
    /// Not kept are answers to queries that ask for the time, for chance or for what a connection did last, that read virtual
    /// tables or other databases, and those larger than an eighth of the cache. A miss is one [`read`]. Calls that miss the same
    /// query share it if they came before its snapshot; those that came later wait for it to end, and share the next. A change of
    /// the schema empties the cache.
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
    /// # Cancel safety
    /// Dropped half-way, the read goes on for the others who wait for the same answer; without any, it ends and nothing is kept. One
    /// that is not polled holds up nobody.
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
        let (key, query) = (Key::query(sql, &params), sql.to_owned());
        let is_hopeless = || Text::of(sql).reads().is_none();
        let work = async move |snapshot: &mut Snapshot<'_>| CachedRows::read(snapshot, &query, params).await;
        self.read_cached_from(site, &key, is_hopeless, work).await
    }

    /// What `work` makes of `given` and a snapshot, from the cache if no table that it read was written since. Without a cache
    /// it runs each time.
    ///
    /// The tables are those of the queries that `work` asked in the snapshot: nobody needs to name them. So it must make its
    /// answer of the snapshot and of what it is `given`, and of nothing else, and it cannot capture anything: that is refused
    /// when it is compiled. Whatever [`query_cached`](PooledDatabaseWriter::query_cached) says of age, of what is not kept, and
    /// of calls that miss at the same time holds here as well; an answer that took more than 64 different statements is not
    /// kept.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Snapshot, WriterConfig};
    ///
    /// let config = WriterConfig { cache: 1 << 20, ..WriterConfig::default() };
    /// let db = PooledDatabaseWriter::with_config(ConnectionPool::open(&path).await?, config).await?;
    /// db.execute_batch("CREATE TABLE items (owner INTEGER, price REAL); INSERT INTO items VALUES (7, 2.5), (7, 4.0)").await?;
    ///
    /// async fn total(db: &PooledDatabaseWriter, owner: i64) -> poolproof::Result<f64> {
    ///     let total = db
    ///         .read_cached(owner, async |snapshot: &mut Snapshot<'_>, owner: &i64| {
    ///             let mut rows = snapshot.query("SELECT price FROM items WHERE owner = ?1", (*owner,)).await?;
    ///             let mut total = 0.0;
    ///             while let Some(row) = rows.next().await? {
    ///                 total += row.get::<f64>(0)?;
    ///             }
    ///             Ok::<_, Error>(total)
    ///         })
    ///         .await?;
    ///     Ok(*total)
    /// }
    ///
    /// assert_eq!((total(&db, 7).await?, total(&db, 7).await?), (6.5, 6.5));
    /// db.execute("DELETE FROM items WHERE price > 3", ()).await?;
    /// assert_eq!(total(&db, 7).await?, 2.5);
    ///
    /// let cache = db.status().cache.expect("it is on");
    /// assert_eq!((cache.hits, cache.misses), (1, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// That a cache finds out by itself what a closure read is GRDB's way (its `ValueObservation`).
    ///
    /// # Errors
    /// What `work` returns, and what a [`read`](PooledDatabaseWriter::read) does. An error is not kept.
    ///
    /// # Panics
    /// If `work` panics, or the answer's [`Weigh::heap_bytes`], with the same payload.
    ///
    /// # Cancel safety
    /// As of [`query_cached`](PooledDatabaseWriter::query_cached).
    #[track_caller]
    pub fn read_cached<K, F, T, E>(&self, given: K, work: F) -> impl Future<Output = Result<Arc<T>, E>> + Send + '_
    where
        K: Hash + Eq + Weigh + Send + Sync + 'static,
        F: AsyncFnOnce(&mut Snapshot<'_>, &K) -> Result<T, E> + Send + 'static,
        T: Weigh + Send + Sync + 'static,
        E: From<Error> + Send + 'static,
    {
        const { assert!(size_of::<F>() == 0, "the closure captures something: give it that instead") };
        let site = Location::caller();
        async move {
            let given = GivenTo::<F, K>::new(given);
            let key = Key::Work(Work::of(&given));
            let work = async move |snapshot: &mut Snapshot<'_>| work(snapshot, &given.given).await;
            self.read_cached_from(site, &key, || false, work).await
        }
    }

    async fn read_cached_from<F, T, E>(
        &self,
        site: &'static Location<'static>,
        key: &Key,
        is_hopeless: impl FnOnce() -> bool,
        work: F,
    ) -> Result<Arc<T>, E>
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<T, E> + Send + 'static,
        T: Weigh + Send + Sync + 'static,
        E: From<Error> + Send + 'static,
    {
        // Whoever finds what it asks for in a loop would keep the runtime from its other tasks.
        consume_budget().await;
        // A cached read that waited for another would wait for ever if that were its own, or one that waits for it.
        let is_inside_another = inside().is_some_and(|inside| inside.cached);
        let kept_or_read = self.cache.as_ref().map(|cache| (cache, cache.find(key, is_hopeless)));
        let cache = match kept_or_read {
            Some((_, Some(Found::Kept(kept)))) => return kept.value(),
            Some((cache, None)) if !is_inside_another => cache,
            None | Some((_, Some(Found::Read) | None)) => return self.read_alone(site, work).await,
        };
        // Whoever reads takes it: the coalesced read, if this call's is the one that starts it, or this call, if that failed.
        let work = Arc::new(Mutex::new(Some(work)));
        let (fails, failure) = oneshot::channel();
        let read = {
            let (db, work) = (self.clone(), Arc::clone(&work));
            let inside = inside().unwrap_or_default().and_a_cached_read();
            move |filling| {
                if let Some(work) = work.with(Option::take) {
                    db.fill(inside, site, filling, work, fails);
                }
            }
        };
        if let Found::Kept(kept) = cache.wait(key, read).await {
            return kept.value();
        }
        match work.with(Option::take) {
            Some(work) => self.read_alone(site, work).await,
            None => match failure.await {
                Ok(Failure::Error(error)) => Err(error),
                Ok(Failure::Panic(panic)) => resume_unwind(panic),
                Err(_) => Err(not_read().into()),
            },
        }
    }

    async fn read_alone<F, T, E>(&self, site: &'static Location<'static>, work: F) -> Result<Arc<T>, E>
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<T, E> + Send + 'static,
        T: Send + Sync + 'static,
        E: From<Error> + Send + 'static,
    {
        self.read_from(site, async move |snapshot| work(snapshot).await.map(Arc::new)).await
    }

    /// Reads for those who wait: as soon as there is a connection, and for as long as anybody waits for it.
    fn fill<F, T, E>(
        self,
        inside: Inside,
        site: &'static Location<'static>,
        filling: Filling,
        work: F,
        fails: oneshot::Sender<Failure<E>>,
    ) where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<T, E> + Send + 'static,
        T: Weigh + Send + Sync + 'static,
        E: From<Error> + Send + 'static,
    {
        let Self { pool, way, .. } = self;
        let shared = Arc::clone(way.shared());
        let (executor, limit) = (Arc::clone(&shared.executor), shared.config.read_timeout);
        let reads = {
            let executor = Arc::clone(&executor);
            move |got: Result<PooledConnection>, filling: Filling| match got {
                Ok(connection) => executor
                    .read(Box::new(move || Box::pin(fill_on(inside, site, connection, limit, filling, work, fails)))),
                // Fails only if its caller left.
                Err(error) => drop(fails.send(Failure::Error(error.into()))),
            }
        };
        match pool.get_idle(site) {
            Some(connection) => reads(Ok(connection), filling),
            // Where it depends on nobody: this may be a runtime that nobody runs any more, or none.
            None => executor.wait(Box::pin(async move {
                if let Some(got) = until(filling.abandoned(), pool.get_from(site)).await {
                    reads(got, filling);
                }
            })),
        }
    }
}

/// Why a coalesced read has no answer: told to the caller whose closure it was.
enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

/// Reads on a connection for those who wait, and keeps what it finds.
async fn fill_on<F, T, E>(
    inside: Inside,
    site: &'static Location<'static>,
    connection: PooledConnection,
    limit: Option<Duration>,
    filling: Filling,
    work: F,
    fails: oneshot::Sender<Failure<E>>,
) where
    F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<T, E>,
    T: Weigh + Send + Sync + 'static,
    E: From<Error>,
{
    let known = filling.schema();
    let work = async move |snapshot: &mut Snapshot<'_>| {
        let schema = match known {
            Some(schema) => schema,
            None => Arc::new(read_schema(snapshot).await?),
        };
        snapshot.notes_queries();
        let value = work(snapshot).await?;
        Ok::<_, E>((Arc::new(value), schema, snapshot.noted()))
    };
    // Fails only if its caller left, and so below.
    let failed = |failure| drop(fails.send(failure));
    match read_on(inside, site, connection, limit, filling.abandoned(), work).await {
        // How much it weighs is somebody else's code, and so is what makes room for it.
        Some(Ok(Ok((value, schema, asked)))) => {
            let kept = catch_unwind(AssertUnwindSafe(|| Kept::of(&value)));
            match kept {
                Ok(kept) => filling.keep(asked.as_deref(), kept, schema),
                Err(panic) => failed(Failure::Panic(panic)),
            }
        }
        Some(Ok(Err(error))) => failed(Failure::Error(error)),
        Some(Err(panic)) => failed(Failure::Panic(panic)),
        None => {}
    }
}
