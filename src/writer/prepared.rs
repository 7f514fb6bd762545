//! A statement that is written again and again, with parameters of one type.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use turso::IntoParams;
use turso::params::Params;

use super::PooledDatabaseWriter;
use super::door::given_time;
use super::job::{Kind, Statement};
use super::outcome::Ack;
use super::queue::Priority;
use super::write::leaves_something;
use crate::error::{Error, Result};
use crate::sql::{self, Text};

/// A statement of a writer, made by [`prepare`](PooledDatabaseWriter::prepare). It is checked once, its text is shared by all
/// its runs, and the lane's connection keeps what the engine prepared of it. A clone is another handle. It has the limit and
/// the priority of the handle that it was prepared by, until it is given others.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// use poolproof::PooledDatabaseWriter;
///
/// let db = PooledDatabaseWriter::open(folder.path().join("log.db")).await?;
/// db.execute("CREATE TABLE log (level INTEGER, line TEXT)", ()).await?;
/// let log = db.prepare::<(i64, &str)>("INSERT INTO log VALUES (?1, ?2)").await?;
/// log.execute((3, "it begins")).await?;
/// assert_eq!(log.execute((1, "it ends")).await?.value, 1);
/// # Ok(())
/// # }
/// ```
pub struct Prepared<P> {
    db: PooledDatabaseWriter,
    sql: Arc<str>,
    params: PhantomData<fn() -> P>,
}

impl PooledDatabaseWriter {
    /// Checks a statement that is going to run often. Whether `P` is as many parameters as it has is seen when it runs.
    ///
    /// # Errors
    /// What the engine says of its text, or [`Error::Misuse`] for one that is no `INSERT`, `UPDATE`, `DELETE` or `REPLACE`,
    /// that gives rows, or for more than one.
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing happened.
    pub async fn prepare<P: IntoParams>(&self, sql: impl Into<Arc<str>>) -> Result<Prepared<P>> {
        let sql = sql.into();
        let text = Text::of(&sql);
        given_time(Error::check_depth(&text).and_then(|()| leaves_something(&text))).await?;
        let writes_rows = text.kind() == sql::Kind::Rows;
        // What cannot be read the engine has something to say of.
        if writes_rows || text.is_refused() {
            self.pool.get().await?.check(&sql).await?;
        }
        if !writes_rows {
            return given_time(Err(Error::misuse("only INSERT, UPDATE, DELETE and REPLACE are prepared"))).await;
        }
        Ok(Prepared { db: self.clone(), sql, params: PhantomData })
    }
}

impl<P: IntoParams> Prepared<P> {
    /// Runs it; its value is how many rows it changed.
    ///
    /// # Errors
    /// As for [`PooledDatabaseWriter::execute`].
    ///
    /// # Cancel safety
    /// Dropped before its turn, it is not run; after that it runs to its end, unobserved.
    #[track_caller]
    pub fn execute(&self, params: P) -> impl Future<Output = Result<Ack<u64>>> + Send + '_ {
        self.run(Location::caller(), params.into_params(), true)
    }

    /// The same, if there is room in the queue.
    ///
    /// # Errors
    /// As for [`PooledDatabaseWriter::try_execute`].
    ///
    /// # Cancel safety
    /// As for [`execute`](Prepared::execute).
    #[track_caller]
    pub fn try_execute(&self, params: P) -> impl Future<Output = Result<Ack<u64>>> + Send + '_ {
        self.run(Location::caller(), params.into_params(), false)
    }

    async fn run(
        &self,
        site: &'static Location<'static>,
        params: turso::Result<Params>,
        waits: bool,
    ) -> Result<Ack<u64>> {
        let params = params.map_err(|error| Error::rolled_back(Error::from(error)))?;
        let (statement, answer) = Statement::new(Arc::clone(&self.sql), params);
        self.db.queue(site, Kind::Statement(statement), answer, waits).await
    }
}

impl<P> Prepared<P> {
    /// The statement with a limit, as [`PooledDatabaseWriter::within`] sets it.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { db: self.db.within(limit), ..self.clone() }
    }

    /// The statement with this priority.
    #[must_use]
    pub fn priority(&self, priority: Priority) -> Self {
        Self { db: self.db.priority(priority), ..self.clone() }
    }
}

impl<P> Clone for Prepared<P> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), sql: Arc::clone(&self.sql), params: PhantomData }
    }
}

impl<P> fmt::Debug for Prepared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("sql", &self.sql).finish_non_exhaustive()
    }
}
