//! The connection pool.
//!
//! [`ConnectionPool`] opens connections of one [`turso::Database`] and lends each to one user at a time, as a
//! [`PooledConnection`]. The rooms, from the bottom up: `core` (slots and waiters), `generic` (any kind of connection),
//! `connection` (the engine's, and what borrows it), and this file, the face.

mod config;
mod connection;
pub(crate) mod core;
mod generic;
mod statement;
mod status;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use turso::IntoParams;

pub use self::config::PoolConfig;
pub use self::connection::{Behavior, Rows, Snapshot, Transaction};
pub use self::generic::{AcquireError, Manage, Pool, Pooled};
pub use self::status::Status;

use self::connection::Managed;
use crate::error::{Error, Result};

/// What every connection runs first, and why.
pub(crate) const PRAGMAS: [&str; 3] = [
    // A commit is durable when it returns; NORMAL and OFF can lose acknowledged commits in a crash.
    "PRAGMA synchronous = FULL",
    // Without it every BEGIN IMMEDIATE creates a temporary database on disk: two writes and two fsyncs.
    "PRAGMA temp_store = MEMORY",
    "PRAGMA foreign_keys = ON",
    // No busy_timeout: the engine's never sleeps, it polls (500 ms of it took 360 ms of CPU). Writers queue instead.
];

/// A pool of connections to one Turso database. A clone is another handle to the same pool.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// use poolproof::ConnectionPool;
///
/// let pool = ConnectionPool::builder(&path).max_connections(4).build().await?;
/// let mut connection = pool.get().await?;
/// connection.execute("CREATE TABLE t (x INTEGER)", ()).await?;
/// connection.execute("INSERT INTO t VALUES (?1)", (42,)).await?;
/// let mut rows = connection.query("SELECT x FROM t", ()).await?;
/// let row = rows.next().await?.expect("one row");
/// assert_eq!(row.get::<i64>(0)?, 42);
/// # Ok(())
/// # }
/// ```
///
/// Writes from several guards compete for the one write lock of the database, and those that lose fail with `Busy`: let
/// [`PooledDatabaseWriter`](crate::PooledDatabaseWriter) write instead.
#[derive(Clone)]
pub struct ConnectionPool {
    pool: Pool<Turso>,
    path: PathBuf,
    /// Whether a writer's lane writes through it.
    has_lane: Arc<AtomicBool>,
}

impl ConnectionPool {
    /// Opens `path` with the default settings; see [`ConnectionPoolBuilder::build`].
    ///
    /// # Errors
    /// As for [`ConnectionPoolBuilder::build`].
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing stays open.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).build().await
    }

    /// Settings for a pool on the database at `path`.
    pub fn builder(path: impl AsRef<Path>) -> ConnectionPoolBuilder {
        ConnectionPoolBuilder { path: path.as_ref().to_owned(), config: PoolConfig::default() }
    }

    /// Waits for a connection, first come, first served.
    ///
    /// # Errors
    /// [`Error::AcquireTimeout`], [`Error::Closed`], or the engine's error if a connection could not be opened.
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// Dropped at any await, it costs the pool nothing: its place in the queue, or the connection it was handed, goes to
    /// the next waiter.
    pub async fn get(&self) -> Result<PooledConnection> {
        Ok(PooledConnection { guard: self.pool.get().await? })
    }

    /// The pool at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    /// Marks the pool as having a lane; `None` if it has one already.
    pub(crate) fn claim_lane(&self) -> Option<LaneClaim> {
        let claimed = self.has_lane.swap(true, Ordering::AcqRel);
        (!claimed).then(|| LaneClaim { has_lane: Arc::clone(&self.has_lane) })
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses everybody who waits or comes later, drops what is idle, and resolves when no connection is alive.
    ///
    /// # Cancel safety
    /// The pool is closed from the first poll on, whether or not this is awaited to its end; it may be called again.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The right to be the one lane of a pool, given back when dropped.
pub(crate) struct LaneClaim {
    has_lane: Arc<AtomicBool>,
}

impl Drop for LaneClaim {
    fn drop(&mut self) {
        self.has_lane.store(false, Ordering::Release);
    }
}

impl From<AcquireError<Error>> for Error {
    fn from(error: AcquireError<Error>) -> Self {
        match error {
            AcquireError::Timeout { waited, status } => Error::AcquireTimeout { waited, status },
            AcquireError::Closed => Error::Closed,
            AcquireError::Connect(error) => error,
        }
    }
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        f.debug_struct("ConnectionPool").field("path", &self.path).field("status", &status).finish_non_exhaustive()
    }
}

/// Settings of a [`ConnectionPool`].
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until build is called"]
pub struct ConnectionPoolBuilder {
    path: PathBuf,
    config: PoolConfig,
}

impl ConnectionPoolBuilder {
    /// Connections alive or being opened at once, at most. 10 unless set.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.config.max_connections = max;
        self
    }

    /// How long [`ConnectionPool::get`] may take, waiting and connecting together. 30 s unless set.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.config.acquire_timeout = timeout;
        self
    }

    /// Opens the database, creating the file if there is none, and reads it once, so that a wrong path or a file that is
    /// no database is an error here and not in the first user's hands. The pool itself has opened no connection yet.
    ///
    /// The engine opens files with blocking calls, for some tens of microseconds.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot work, [`Error::Open`] if the file cannot be opened.
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing stays open.
    pub async fn build(self) -> Result<ConnectionPool> {
        self.config.validate()?;
        let Some(name) = self.path.to_str() else {
            let problem = "its name is not UTF-8, which the engine needs; rename it".to_owned();
            return Err(Error::Open { path: self.path, problem });
        };
        let failed = |error: &turso::Error| Error::open(&self.path, error);
        let database = turso::Builder::new_local(name).build().await.map_err(|error| failed(&error))?;
        let turso = Turso { database };
        match turso.connect().await {
            Ok(mut connection) => match connection.run("SELECT COUNT(*) FROM sqlite_schema").await {
                Ok(()) => {}
                Err(Error::Engine(error)) => return Err(failed(&error)),
                Err(error) => return Err(error),
            },
            Err(Error::Engine(error)) => return Err(failed(&error)),
            Err(error) => return Err(error),
        }
        let pool = Pool::new(turso, &self.config)?;
        Ok(ConnectionPool { pool, path: self.path, has_lane: Arc::default() })
    }
}

/// The manager of the engine's connections.
struct Turso {
    database: turso::Database,
}

impl Manage for Turso {
    type Connection = Managed;
    type Error = Error;

    async fn connect(&self) -> Result<Managed> {
        let mut connection = Managed::new(self.database.connect()?);
        for pragma in PRAGMAS {
            connection.run(pragma).await?;
        }
        Ok(connection)
    }

    fn is_reusable(&self, connection: &mut Managed) -> bool {
        connection.is_reusable()
    }
}

/// A connection on loan from a [`ConnectionPool`]. Dropping it gives it back, at once and without a runtime.
///
/// It is not `Clone` and gives no way to the engine's connection, so nobody else can use it meanwhile; rows and
/// transactions borrow it, so a second use while they live does not compile.
///
/// A connection that comes back inside a transaction, from a statement whose future was dropped half-way, from a panic, or
/// altered (a pragma, an attached database, a temporary table) is discarded: dropping the engine's last handle rolls back
/// and frees the write lock at once. The pool opens another when it needs one.
///
/// The engine does its I/O inside `poll`, on the thread that polls: some milliseconds for a commit. Writes through
/// [`PooledDatabaseWriter`](crate::PooledDatabaseWriter), and its reads, happen on threads of their own.
pub struct PooledConnection {
    guard: Pooled<Turso>,
}

impl PooledConnection {
    /// Runs a statement that gives no rows; returns how many rows it changed.
    ///
    /// # Errors
    /// The engine's error; `Busy` if another connection is writing.
    ///
    /// # Cancel safety
    /// Dropped half-way, the statement may or may not have taken effect, wholly or not at all; the connection is
    /// discarded when the guard comes back.
    pub async fn execute(&mut self, sql: &str, params: impl IntoParams) -> Result<u64> {
        self.guard.execute(sql, params).await
    }

    /// Runs several statements, separated by semicolons.
    ///
    /// # Errors
    /// The engine's error at the first statement that fails; those before it have taken effect.
    ///
    /// # Cancel safety
    /// Dropped half-way, some statements may have taken effect; the connection is discarded when the guard comes back.
    pub async fn execute_batch(&mut self, sql: &str) -> Result<()> {
        self.guard.execute_batch(sql).await
    }

    /// Runs a query; its rows borrow this guard.
    ///
    /// # Errors
    /// The engine's error.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when the guard comes back.
    pub async fn query(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        self.guard.query(sql, params).await
    }

    /// Begins a transaction; it borrows this guard.
    ///
    /// # Errors
    /// The engine's error; `Busy` for [`Behavior::Immediate`] if another connection is writing.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when the guard comes back.
    pub async fn begin(&mut self, behavior: Behavior) -> Result<Transaction<'_>> {
        self.guard.begin(behavior).await
    }

    /// Begins a transaction that [`PooledConnection::opened`] then gives, in two steps so that the first can be tried
    /// again.
    pub(crate) async fn lock_for_writing(&mut self) -> Result<()> {
        self.guard.execute(Behavior::Immediate.sql(), ()).await.map(drop)
    }

    /// The transaction that [`PooledConnection::lock_for_writing`] began.
    pub(crate) fn opened(&mut self) -> Transaction<'_> {
        self.guard.opened()
    }

    /// Takes a snapshot; it borrows this guard.
    pub(crate) async fn snapshot(&mut self) -> Result<Snapshot<'_>> {
        Snapshot::take(&mut self.guard).await
    }

    /// The rowid of the last row inserted.
    #[must_use]
    pub fn last_insert_rowid(&self) -> i64 {
        self.guard.last_insert_rowid()
    }

    /// Whether no transaction is open.
    #[must_use]
    pub fn is_autocommit(&self) -> bool {
        self.guard.is_autocommit()
    }

    /// Drops the engine's connection now, which rolls back and frees the write lock; the guard keeps its slot, and must be
    /// [renewed](PooledConnection::renew) before it is used again.
    pub(crate) fn discard(&mut self) {
        self.guard.discard();
    }

    /// Whether it was not discarded.
    pub(crate) fn is_open(&self) -> bool {
        self.guard.is_open()
    }

    /// Opens another connection if this one was discarded.
    pub(crate) async fn renew(&mut self) -> Result<()> {
        Ok(self.guard.renew().await?)
    }

    /// Whether the pool would take it back as it is.
    pub(crate) fn is_reusable(&self) -> bool {
        self.guard.is_reusable()
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").field("connection", &*self.guard).finish()
    }
}
