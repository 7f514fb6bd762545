//! The pool's face for Turso: lending the connections of one database.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::builder::{ConnectionPoolBuilder, Handle, Turso};
use super::connection::Connection;
use super::failure::{AcquireError, StillOpen};
use super::file::{Identity, Logs};
use super::forensics::HolderReport;
use super::generic::Pool;
use super::guard::Pooled;
use super::inside::inside;
use super::status::Status;
use super::transaction::Snapshot;
use crate::catch::catch;
#[cfg(feature = "cache")]
use crate::changes::Changes;
use crate::error::{Error, Result};
use crate::sync::Mutex;

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
    pub(super) pool: Pool<Turso>,
    pub(super) path: PathBuf,
    /// Whether the operating system's files are where it is, and not a disk of the caller's own.
    pub(super) is_of_a_file: bool,
    pub(super) is_read_only: bool,
    /// Which of them it was when it was opened.
    pub(super) identity: Option<Identity>,
    pub(super) logs: Logs,
    /// Shared with the pool's manager.
    pub(super) handle: Arc<Mutex<Option<Handle>>>,
    /// Whether a writer's lane writes through it.
    pub(super) has_lane: Arc<AtomicBool>,
    #[cfg(feature = "cache")]
    pub(super) changes: Arc<Changes>,
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
        ConnectionPoolBuilder::new(path.as_ref())
    }

    /// Waits for a connection, first come, first served.
    ///
    /// # Errors
    /// [`Error::AcquireTimeout`] with who holds what, [`Error::Closed`], [`Error::Hook`], or the engine's error if a
    /// connection could not be opened.
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// Dropped at any await, it costs the pool nothing: its place in the queue, or the connection it was handed, goes to
    /// the next waiter.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<PooledConnection>> + Send + '_ {
        self.get_from(Location::caller())
    }

    /// [`ConnectionPool::get`] on behalf of a caller at `site`.
    pub(crate) async fn get_from(&self, site: &'static Location<'static>) -> Result<PooledConnection> {
        Ok(PooledConnection { guard: self.pool.get_from(site).await? })
    }

    /// An idle connection, if there is one, nobody waits, and nothing has to be done to it before.
    #[cfg(feature = "cache")]
    pub(crate) fn get_idle(&self, site: &'static Location<'static>) -> Option<PooledConnection> {
        Some(PooledConnection { guard: self.pool.get_idle(site)? })
    }

    /// A connection if there is one to have without waiting for another user: an idle one, or a new one while fewer than
    /// [`max_connections`](ConnectionPoolBuilder::max_connections) are open. `None` if all are in use or others wait already.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// use poolproof::ConnectionPool;
    ///
    /// let pool = ConnectionPool::builder(&path).max_connections(1).build().await?;
    /// let connection = pool.try_get().await?.expect("nobody has it");
    /// assert!(pool.try_get().await?.is_none());
    /// drop(connection);
    /// assert!(pool.try_get().await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Hook`], [`Error::AcquireTimeout`] if a connection took too long to open, or the engine's
    /// error if it could not be opened.
    ///
    /// # Panics
    /// If a hook or a test has to be waited for, and it is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// Dropped at any await, it costs the pool nothing.
    #[track_caller]
    pub fn try_get(&self) -> impl Future<Output = Result<Option<PooledConnection>>> + Send + '_ {
        let site = Location::caller();
        async move { Ok(self.pool.try_get_from(site).await?.map(|guard| PooledConnection { guard })) }
    }

    /// The pool at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    /// Who holds a connection at this moment.
    #[must_use]
    pub fn holders(&self) -> Vec<HolderReport> {
        self.pool.holders()
    }

    /// Changes how many connections there may be. Surplus idle ones are closed now, surplus ones in use when they come
    /// back; who waits is admitted as far as there is new room.
    ///
    /// # Errors
    /// [`Error::Config`] for a number that cannot work: a writer's lane needs one connection beside the one that it keeps.
    pub fn resize(&self, max_connections: usize) -> Result<()> {
        if max_connections == 1 && self.has_lane.load(Ordering::Acquire) {
            let problem = "is 1, which the writer's lane keeps for itself; leave at least 2".to_owned();
            return Err(Error::Config { field: "max_connections", problem });
        }
        self.pool.resize(max_connections)
    }

    /// Closes the idle connections for which `keep` says false; returns how many. Those in use are not asked.
    pub fn retain(&self, keep: impl FnMut(&mut Connection) -> bool) -> usize {
        self.pool.retain(keep)
    }

    /// Marks the pool as having a lane; `None` if it has one already.
    pub(crate) fn claim_lane(&self) -> Option<LaneClaim> {
        let claimed = self.has_lane.swap(true, Ordering::AcqRel);
        (!claimed).then(|| LaneClaim { has_lane: Arc::clone(&self.has_lane) })
    }

    /// Its numbers and its holders', for as long as it lives; does not keep it alive.
    #[cfg(feature = "harness")]
    pub(crate) fn watched(&self) -> impl Fn() -> Option<(Status, usize)> + Send + 'static {
        self.pool.watched()
    }

    /// A connection that nobody is on record for, as long as what is returned lives.
    #[cfg(all(test, feature = "harness"))]
    pub(crate) fn loses_one(&self) -> impl Send + use<> {
        self.pool.loses_one()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Whether others could open what is at its path.
    pub(crate) fn is_of_a_file(&self) -> bool {
        self.is_of_a_file
    }

    /// Its logs, as they were then.
    pub(crate) fn logs(&self) -> Logs {
        self.logs
    }

    /// Which file it was when it was opened, as far as that can be told.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Tells it from every other pool that is alive.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.has_lane).addr()
    }

    /// What its connections report of their writes.
    #[cfg(feature = "cache")]
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses everybody who waits or comes later, drops what is idle, and resolves when no connection is alive. Inside the closure
    /// of a read or a write it does not wait, for that has a connection itself.
    ///
    /// # Cancel safety
    /// The pool is closed from the first poll on, whether or not this is awaited to its end; it may be called again.
    pub async fn close(&self) {
        self.lets_go();
        let mut closing = pin!(self.pool.close());
        poll_fn(|context| {
            let closed = closing.as_mut().poll(context);
            if inside().is_some() { Poll::Ready(()) } else { closed }
        })
        .await;
    }

    /// The pool is about to be closed: its file is free when the last connection is gone, whoever still has a handle to the pool.
    fn lets_go(&self) {
        let handle = self.handle.with(Option::take);
        drop(handle);
    }

    /// [Closes](ConnectionPool::close) the pool, and waits at most `limit` for what is in use.
    ///
    /// # Errors
    /// [`StillOpen`] says who still holds what. The pool is closed all the same. Inside the closure of a read or a write, which has a
    /// connection itself, it does not wait, and says so.
    ///
    /// # Panics
    /// If it has to wait and is polled outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// As for [`ConnectionPool::close`].
    pub async fn close_within(&self, limit: Duration) -> Result<(), StillOpen> {
        if inside().is_some() {
            self.close().await;
            let holders = self.holders();
            return if holders.is_empty() { Ok(()) } else { Err(StillOpen { holders }) };
        }
        self.lets_go();
        self.pool.close_within(limit).await
    }
}

/// The right to be the one lane of a pool, given back when dropped.
#[derive(Debug)]
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
            AcquireError::Timeout(timeout) => Error::AcquireTimeout(timeout),
            AcquireError::Closed => Error::Closed,
            AcquireError::Connect(error) => error,
            AcquireError::Hook(error) => Error::Hook(error),
        }
    }
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        f.debug_struct("ConnectionPool").field("path", &self.path).field("status", &status).finish_non_exhaustive()
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
    /// Takes the connection out of the pool for good; its slot is free at once. The pool does not count it any more, and
    /// [`ConnectionPool::close`] does not wait for it.
    #[must_use]
    pub fn detach(self) -> Connection {
        self.guard.detach()
    }

    /// The task that calls this is on record as who holds it from now on.
    pub(crate) fn moves_here(&self, site: &'static Location<'static>) {
        self.guard.moves_here(site);
    }

    /// A writer's lane is on record as who holds it from now on.
    pub(crate) fn is_the_lanes(&self) {
        self.guard.is_the_lanes();
    }

    /// Who beside a lane has a transaction open on a connection of its pool.
    pub(crate) fn others_in_transactions(&self) -> Vec<HolderReport> {
        let holders = self.guard.holders().into_iter();
        holders.filter(|holder| holder.in_transaction && !holder.is_the_pool).collect()
    }

    /// Those of its pool who read, in a transaction or between two rows, beside a lane.
    pub(crate) fn others_who_read(&self) -> Vec<HolderReport> {
        let holders = self.guard.holders().into_iter();
        holders.filter(|holder| holder.is_reading && !holder.is_the_pool).collect()
    }

    /// Whether any other connection of this process to the same database reads, or the engine may take one for that.
    pub(crate) fn others_read(&self) -> bool {
        self.guard.do_others_read()
    }

    /// Takes a snapshot; it borrows this guard. It is used until `deadline`, when whoever takes it cuts off what goes on.
    pub(crate) async fn snapshot(&mut self, deadline: Option<Instant>) -> Result<Snapshot<'_>> {
        Snapshot::take(&mut self.guard, deadline).await
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

    /// Makes it ready for a write: opens another connection if this one was discarded, and takes back what a hook may have set
    /// of syncing. A hook that panics in that turns it down.
    pub(crate) async fn renew(&mut self) -> Result<()> {
        if !self.is_open() {
            // The engine's own panics are errors already: what panics here is a hook.
            catch(self.guard.renew()).await.map_err(Error::of_a_hooks_panic)??;
        }
        self.guard.restore_durability().await
    }
}

impl Deref for PooledConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.guard
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.guard
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").field("connection", &**self).finish()
    }
}
