//! One engine connection as the pool keeps it, and what borrows it: rows and transactions.
//!
//! The engine's `Connection` is `Clone`, its `Rows` are `'static`, and a transaction that is dropped rolls back only at
//! some later statement. So nothing here lets the raw connection out, rows and transactions borrow, and the connection
//! remembers what it is in the middle of: a future that is dropped half-way, rows that are leaked, a transaction that is
//! neither committed nor rolled back. [`Managed::is_reusable`] is asked when it comes back.

use std::fmt;

use turso::{IntoParams, Row};

use super::statement;
use crate::error::{Error, Result};

/// An engine connection and what it is in the middle of.
pub struct Managed {
    raw: turso::Connection,
    /// A statement was started and its future has not ended: it may have been dropped at any of its awaits.
    in_flight: bool,
    /// That happened to an earlier statement.
    cut: bool,
    /// A statement changed the connection rather than the database.
    altered: bool,
    /// Rows were handed out and not dropped.
    rows_open: bool,
    /// A transaction was dropped without commit or rollback: the next statement rolls back first.
    rollback_due: bool,
    /// `PRAGMA query_only` is on.
    query_only: bool,
}

impl Managed {
    pub(crate) fn new(raw: turso::Connection) -> Self {
        Self {
            raw,
            in_flight: false,
            cut: false,
            altered: false,
            rows_open: false,
            rollback_due: false,
            query_only: false,
        }
    }

    /// Whether the next user would find it as new. Synchronous, asks the engine for no I/O.
    pub(crate) fn is_reusable(&self) -> bool {
        let idle = !self.is_cut() && !self.altered && !self.rows_open && !self.rollback_due && !self.query_only;
        idle && self.raw.is_autocommit().unwrap_or(false)
    }

    /// A statement begins. If the one before it never ended, its future was dropped half-way.
    fn take_off(&mut self) {
        self.cut |= self.in_flight;
        self.in_flight = true;
    }

    /// Whether a statement was dropped half-way since the connection was new.
    fn is_cut(&self) -> bool {
        self.cut || self.in_flight
    }

    /// What a dropped transaction left behind is rolled back before anything else runs.
    async fn settle(&mut self) -> Result<()> {
        if self.rollback_due && !self.is_autocommit() {
            self.take_off();
            let outcome = self.raw.execute("ROLLBACK", ()).await;
            self.in_flight = false;
            outcome?;
        }
        self.rollback_due = false;
        Ok(())
    }

    pub(crate) async fn execute(&mut self, sql: &str, params: impl IntoParams) -> Result<u64> {
        let params = params.into_params()?;
        self.settle().await?;
        self.altered |= statement::changes_the_session(sql);
        self.take_off();
        let changed = self.raw.execute(sql, params).await;
        self.in_flight = false;
        Ok(changed?)
    }

    pub(crate) async fn execute_batch(&mut self, sql: &str) -> Result<()> {
        self.settle().await?;
        self.altered |= statement::may_change_the_session(sql);
        self.take_off();
        let outcome = self.raw.execute_batch(sql).await;
        self.in_flight = false;
        Ok(outcome?)
    }

    pub(crate) async fn query(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        self.altered |= statement::changes_the_session(sql);
        self.query_as_is(sql, params).await
    }

    /// A query that is the pool's own, or known to change nothing but the database.
    async fn query_as_is(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        let params = params.into_params()?;
        self.settle().await?;
        self.take_off();
        let rows = self.raw.query(sql, params).await;
        self.in_flight = false;
        let rows = rows?;
        self.rows_open = true;
        Ok(Rows { rows, connection: self })
    }

    /// Runs a statement of the pool's own, whose rows, if any, do not matter.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        let mut rows = self.query_as_is(sql, ()).await?;
        while rows.next().await?.is_some() {}
        Ok(())
    }

    pub(crate) fn is_autocommit(&self) -> bool {
        self.raw.is_autocommit().unwrap_or(false)
    }

    pub(crate) fn last_insert_rowid(&self) -> i64 {
        self.raw.last_insert_rowid()
    }

    pub(crate) async fn begin(&mut self, behavior: Behavior) -> Result<Transaction<'_>> {
        self.execute(behavior.sql(), ()).await?;
        Ok(self.opened())
    }

    /// The transaction that is open already.
    pub(crate) fn opened(&mut self) -> Transaction<'_> {
        Transaction { connection: Some(self) }
    }

    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.execute("COMMIT", ()).await.map(drop)
    }

    /// Rolls back what is open, if anything is.
    pub(crate) async fn roll_back(&mut self) -> Result<()> {
        self.rollback_due = true;
        self.settle().await
    }

    pub(crate) async fn set_query_only(&mut self, on: bool) -> Result<()> {
        // Marked before it is switched on and unmarked after it is off: a connection in doubt is not reused.
        self.query_only = true;
        self.run(if on { "PRAGMA query_only = 1" } else { "PRAGMA query_only = 0" }).await?;
        self.query_only = on;
        Ok(())
    }
}

impl fmt::Debug for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("autocommit", &self.is_autocommit()).finish_non_exhaustive()
    }
}

/// The rows of a query. They borrow the connection: nothing else can run on it until they are dropped.
#[must_use = "a query runs as its rows are fetched"]
pub struct Rows<'c> {
    rows: turso::Rows,
    connection: &'c mut Managed,
}

impl Rows<'_> {
    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// The engine's error.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when its guard comes back.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        self.connection.take_off();
        let row = self.rows.next().await;
        self.connection.in_flight = false;
        Ok(row?)
    }

    /// How many columns each row has.
    #[must_use]
    pub fn column_count(&self) -> usize {
        self.rows.column_count()
    }

    /// The names of the columns.
    #[must_use]
    pub fn column_names(&self) -> Vec<String> {
        self.rows.column_names()
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // The engine's rows are a field and dropped after this; nothing can run in between.
        self.connection.rows_open = false;
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("columns", &self.column_names()).finish_non_exhaustive()
    }
}

/// When a transaction takes its locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behavior {
    /// At its first statement, for what that statement needs. A read that later writes can fail with `BusySnapshot`.
    #[default]
    Deferred,
    /// The write lock at once.
    Immediate,
}

impl Behavior {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Behavior::Deferred => "BEGIN",
            Behavior::Immediate => "BEGIN IMMEDIATE",
        }
    }
}

/// An open transaction. It borrows its connection; dropped without [`commit`](Transaction::commit), it has no effect:
/// the rollback runs before the connection's next statement, or the connection is discarded, whichever comes first.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'c> {
    /// `None` once it is over.
    connection: Option<&'c mut Managed>,
}

impl Transaction<'_> {
    fn connection(&mut self) -> Result<&mut Managed> {
        self.connection.as_deref_mut().ok_or(Error::Closed)
    }

    /// Runs a statement that gives no rows; returns how many rows it changed.
    ///
    /// # Errors
    /// The engine's error. The transaction stays open: what it did before is rolled back only if the caller says so.
    ///
    /// # Cancel safety
    /// Dropped half-way, the statement may or may not have run inside the transaction, which can only be rolled back.
    pub async fn execute(&mut self, sql: &str, params: impl IntoParams) -> Result<u64> {
        self.connection()?.execute(sql, params).await
    }

    /// Runs a query; its rows borrow the transaction.
    ///
    /// # Errors
    /// The engine's error.
    ///
    /// # Cancel safety
    /// As for [`Transaction::execute`].
    pub async fn query(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        self.connection()?.query(sql, params).await
    }

    /// The rowid of the last row inserted.
    #[must_use]
    pub fn last_insert_rowid(&self) -> i64 {
        self.connection.as_deref().map_or(0, Managed::last_insert_rowid)
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// The engine's error while the transaction is still open (it is rolled back), [`Error::OutcomeUnknown`], or
    /// [`Error::Misuse`] if one of its statements was cancelled half-way (it is rolled back).
    ///
    /// # Cancel safety
    /// Dropped half-way, the outcome is unknown; the connection is discarded when its guard comes back.
    pub async fn commit(mut self) -> Result<()> {
        let connection = self.connection()?;
        if connection.is_cut() {
            return Err(Error::Misuse("a statement of this transaction was cancelled half-way: it is rolled back"));
        }
        let outcome = connection.commit().await;
        let open = !connection.is_autocommit();
        match outcome {
            Ok(()) => {
                self.connection = None;
                Ok(())
            }
            // Still open: nothing is committed, and dropping it rolls back.
            Err(error) if open => Err(error),
            Err(Error::Engine(error)) => Err(Error::OutcomeUnknown(error)),
            Err(error) => Err(error),
        }
    }

    /// Undoes it.
    ///
    /// # Errors
    /// The engine's error. The connection is then discarded when its guard comes back.
    ///
    /// # Cancel safety
    /// Dropped half-way, it is rolled back before the connection's next statement.
    pub async fn rollback(mut self) -> Result<()> {
        let connection = self.connection()?;
        connection.roll_back().await?;
        self.connection = None;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.rollback_due = true;
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// A read transaction on a connection that refuses to write: everything it reads is of one moment.
pub struct Snapshot<'c> {
    connection: &'c mut Managed,
}

impl<'c> Snapshot<'c> {
    /// Takes the snapshot now, not at the first query.
    pub(crate) async fn take(connection: &'c mut Managed) -> Result<Self> {
        connection.set_query_only(true).await?;
        connection.execute("BEGIN", ()).await?;
        connection.run("SELECT 1 FROM sqlite_schema LIMIT 1").await?;
        Ok(Self { connection })
    }

    /// Ends it and makes the connection writable again.
    pub(crate) async fn end(self) -> Result<()> {
        self.connection.roll_back().await?;
        self.connection.set_query_only(false).await
    }

    /// Runs a query; its rows borrow the snapshot.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a statement that is no query, the engine's error for one that writes all the same, and any
    /// other error of the engine's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when the snapshot ends.
    pub async fn query(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        if !statement::is_query(sql) {
            return Err(Error::Misuse("a snapshot only reads: SELECT, VALUES, WITH or EXPLAIN"));
        }
        self.connection.query_as_is(sql, params).await
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
