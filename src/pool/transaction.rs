//! Transactions and snapshots: what borrows a connection for more than one statement.

use std::fmt;

use tokio::time::Instant;
use turso::IntoParams;

use super::connection::{Connection, Rows};
use super::control::Control;
use crate::error::{Error, Result};
use crate::sql::Text;

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
    pub(super) fn control(self) -> Control {
        match self {
            Behavior::Deferred => Control::Begin,
            Behavior::Immediate => Control::BeginImmediate,
        }
    }
}

/// An open transaction. It borrows its connection; dropped without [`commit`](Transaction::commit), it has no effect:
/// the rollback runs before the connection's next statement, or the connection is discarded, whichever comes first.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'c> {
    /// `None` once it is over.
    connection: Option<&'c mut Connection>,
}

impl<'c> Transaction<'c> {
    pub(super) fn new(connection: &'c mut Connection) -> Self {
        Self { connection: Some(connection) }
    }

    /// The connection, as long as the transaction is open on it. Otherwise it gives way: a closure that tries again and again would
    /// never notice that its time is over.
    async fn connection(&mut self) -> Result<&mut Connection> {
        if self.connection.as_deref().is_none_or(Connection::is_autocommit) {
            tokio::task::yield_now().await;
        }
        match self.connection.as_deref_mut() {
            Some(connection) if !connection.is_autocommit() => Ok(connection),
            _ => Err(Error::misuse(
                "the transaction is over: one of its statements, or their failure, rolled it back; nothing runs in it any more",
            )),
        }
    }

    /// What runs in it has time until then; whoever calls this cuts off what goes on.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        if let Some(connection) = self.connection.as_deref_mut() {
            connection.set_deadline(deadline);
        }
    }

    /// Runs a statement that gives no rows; returns how many rows it changed.
    ///
    /// # Errors
    /// The engine's error. The statement left nothing then, and the transaction stays open: what it did before is rolled back
    /// only if the caller says so. Some failures end the transaction in the engine (0.8.3): `OR ROLLBACK`, `RAISE(ROLLBACK)`, a query that
    /// fails, and an `INSERT` of one row of `VALUES` that fails in a function, such as `json('no json')`. Nothing runs in it then.
    /// [`Error::Misuse`] for more than one statement, for one that begins or ends a transaction (savepoints are fine), for
    /// another number of parameters than it has, and after a conflict that rolled the transaction back (`INSERT OR ROLLBACK`).
    ///
    /// # Cancel safety
    /// Dropped half-way, the statement may or may not have run inside the transaction, which can only be rolled back.
    pub async fn execute(&mut self, sql: &str, params: impl IntoParams) -> Result<u64> {
        self.connection().await?.execute_if(sql, params, within).await
    }

    /// Runs several statements, separated by semicolons: all of them, or none.
    ///
    /// # Errors
    /// The engine's error at the first statement that fails, otherwise as for [`Transaction::execute`]. None of them left anything
    /// then; if one of them sets, releases or goes back to a savepoint, the transaction can only be rolled back.
    ///
    /// # Cancel safety
    /// As for [`Transaction::execute`].
    pub async fn execute_batch(&mut self, sql: &str) -> Result<()> {
        self.connection().await?.execute_batch_if(sql, within).await
    }

    /// Runs a query; its rows borrow the transaction. One that writes (`RETURNING`) has run when it returns.
    ///
    /// # Errors
    /// The engine's error.
    ///
    /// # Cancel safety
    /// As for [`Transaction::execute`].
    pub async fn query(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        self.connection().await?.query_if(sql, params, within).await
    }

    /// The rowid of the last row inserted.
    #[must_use]
    pub fn last_insert_rowid(&self) -> i64 {
        self.connection.as_deref().map_or(0, Connection::last_insert_rowid)
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// The engine's error while the transaction is still open (it is rolled back), [`Error::Unknown`] if the disk failed, or
    /// [`Error::Misuse`] if one of its statements was cancelled half-way (it is rolled back).
    ///
    /// # Cancel safety
    /// Dropped half-way, the outcome is unknown; the connection is discarded when its guard comes back.
    pub async fn commit(self) -> Result<()> {
        // No room for a page may be none for one of the database, in the engine's own checkpoint after the commit.
        self.end(false).await
    }

    /// `full_is_certain`: that there was no room means that there is no commit.
    async fn end(mut self, full_is_certain: bool) -> Result<()> {
        let connection = self.connection().await?;
        if connection.is_cut() {
            return Err(Error::misuse("a statement of this transaction was cancelled half-way: it is rolled back"));
        }
        let outcome = connection.commit().await;
        let open = !connection.is_autocommit();
        match outcome {
            Ok(()) => {
                self.connection = None;
                Ok(())
            }
            // Still open: nothing is committed, and dropping it rolls back. If the disk failed, what is on it may say otherwise.
            Err(error)
                if full_is_certain && error.is_full() || error.is_conflict() || open && !error.may_have_committed() =>
            {
                Err(error)
            }
            Err(error) => Err(Error::unknown(error)),
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
        let connection = self.connection().await?;
        connection.roll_back().await?;
        self.connection = None;
        Ok(())
    }
}

impl Transaction<'_> {
    /// It goes on under another name: dropping this does not end it.
    pub(crate) fn stays_open(mut self) {
        self.connection = None;
    }

    /// [Commits](Transaction::commit), and syncs that, whatever a pragma inside it said of syncing. That there was no room is
    /// told as it is: whether it tells anything of the commit is for the caller to say.
    pub(crate) async fn commit_synced(mut self) -> Result<()> {
        let connection = self.connection().await?;
        if connection.is_altered() {
            connection.run_as_is("PRAGMA synchronous = FULL").await?;
        }
        self.end(true).await
    }
}

/// Where a transaction ends is said by `commit` and `rollback`, and by nothing else; and a closure, and a statement that
/// fails, are undone by going back to a savepoint of the library's own.
fn within(text: &Text) -> Result<()> {
    let effects = text.effects();
    if effects.bounds {
        return Err(Error::misuse(
            "a transaction is ended by commit or rollback, and a write or a batch is one already: leave BEGIN, COMMIT and ROLLBACK out; it was not run",
        ));
    }
    if effects.our_savepoints {
        return Err(Error::misuse(
            "the savepoints poolproof_write and poolproof_statement are the library's own: it was not run",
        ));
    }
    Ok(())
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
    connection: &'c mut Connection,
    #[cfg(feature = "cache")]
    noted: Noted,
}

/// The different queries that a snapshot was asked.
#[cfg(feature = "cache")]
#[derive(Default)]
enum Noted {
    /// Nobody wants to know.
    #[default]
    Nothing,
    All(Vec<Box<str>>),
    TooMany,
}

impl<'c> Snapshot<'c> {
    /// Takes the snapshot now, not at the first query. It is used until `deadline`, when whoever takes it cuts off what goes on.
    pub(crate) async fn take(connection: &'c mut Connection, deadline: Option<Instant>) -> Result<Self> {
        connection.only_reads().await?;
        connection.control(Control::Begin).await?;
        connection.run("SELECT 1 FROM sqlite_schema LIMIT 1").await?;
        connection.set_deadline(deadline);
        Ok(Self {
            connection,
            #[cfg(feature = "cache")]
            noted: Noted::Nothing,
        })
    }

    /// Ends it: what runs next on the connection may write.
    pub(crate) async fn end(self) -> Result<()> {
        self.connection.set_deadline(None);
        self.connection.roll_back().await?;
        self.connection.reads_no_more();
        Ok(())
    }

    /// Runs a query; its rows borrow the snapshot.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a statement that is no query or another number of parameters than it has, the engine's error for one
    /// that writes all the same, and any other error of the engine's. A query that fails while it runs ends the snapshot, so that
    /// those after it are [`Error::Misuse`], too.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when the snapshot ends.
    pub async fn query(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        #[cfg(feature = "cache")]
        self.note(sql);
        if self.connection.is_autocommit() {
            tokio::task::yield_now().await;
            return Err(Error::misuse("the snapshot is over: a query that failed has ended it; read again"));
        }
        self.connection.query_if(sql, params, only_reads).await
    }
}

fn only_reads(text: &Text) -> Result<()> {
    // What is no statement the engine has something to say of.
    match text.is_refused() || text.is_query() && !text.effects().writes {
        true => Ok(()),
        false => Err(Error::misuse(
            "a snapshot only reads: SELECT, VALUES, WITH or EXPLAIN, without nextval and setval; ask a pragma by SELECT * FROM pragma_NAME",
        )),
    }
}

#[cfg(feature = "cache")]
impl Snapshot<'_> {
    /// From now on it notes what it is asked.
    pub(crate) fn notes_queries(&mut self) {
        self.noted = Noted::All(Vec::new());
    }

    /// What it was asked since then; `None` if that was too much to be noted.
    pub(crate) fn noted(&mut self) -> Option<Vec<Box<str>>> {
        match std::mem::take(&mut self.noted) {
            Noted::Nothing | Noted::TooMany => None,
            Noted::All(noted) => Some(noted),
        }
    }

    fn note(&mut self, sql: &str) {
        const MOST: usize = 64;
        let Noted::All(noted) = &mut self.noted else { return };
        if noted.iter().any(|known| **known == *sql) {
            return;
        }
        match noted.len() < MOST {
            true => noted.push(sql.into()),
            false => self.noted = Noted::TooMany,
        }
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
