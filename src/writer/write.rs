//! Writes, as their callers ask for them: a statement, several, or a closure. Each becomes a job, and waits for its answer.

use std::panic::{Location, resume_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use turso::IntoParams;
use turso::params::Params;

use super::door::{Manner, given_time};
use super::job::{Answer, Closure, Job, Kind, Statement};
use super::outcome::Ack;
use super::{PooledDatabaseWriter, Way};
use crate::error::{Error, Result};
use crate::pool::inside::is_inside_a_write;
use crate::pool::{Transaction, clock};
use crate::sql::Text;

impl PooledDatabaseWriter {
    /// Runs one statement by itself; its value is how many rows it changed. For the rowid of a new row, run it by
    /// [`write`](PooledDatabaseWriter::write) and return [`Transaction::last_insert_rowid`].
    ///
    /// # Errors
    /// [`Error::RolledBack`], for a [constraint](Error::constraint) or anything else that the engine refuses, for a deadline or
    /// a closed writer, and for [`Error::Misuse`]: a `BEGIN`, several statements, a statement that gives rows, a pragma that
    /// sets something of one connection only (a [hook](crate::Hooks) sets it for all), or a call inside a
    /// [`write`](PooledDatabaseWriter::write). [`Error::Unknown`] if the disk failed, perhaps in the commit.
    ///
    /// # Cancel safety
    /// Dropped before its turn, it is not run; after that it runs to its end, unobserved.
    #[track_caller]
    pub fn execute(
        &self,
        sql: impl Into<Arc<str>>,
        params: impl IntoParams,
    ) -> impl Future<Output = Result<Ack<u64>>> + Send + '_ {
        let params = params.into_params();
        self.run_statement(Location::caller(), sql.into(), params, true)
    }

    /// The same, if there is room in the queue.
    ///
    /// # Errors
    /// As for [`execute`](PooledDatabaseWriter::execute), and [`Error::Full`] behind [`Error::RolledBack`].
    ///
    /// # Cancel safety
    /// As for [`execute`](PooledDatabaseWriter::execute).
    #[track_caller]
    pub fn try_execute(
        &self,
        sql: impl Into<Arc<str>>,
        params: impl IntoParams,
    ) -> impl Future<Output = Result<Ack<u64>>> + Send + '_ {
        let params = params.into_params();
        self.run_statement(Location::caller(), sql.into(), params, false)
    }

    async fn run_statement(
        &self,
        site: &'static Location<'static>,
        sql: Arc<str>,
        params: turso::Result<Params>,
        waits: bool,
    ) -> Result<Ack<u64>> {
        let text = self.way.shared().texts.of(&sql);
        let params = params.map_err(|error| Error::rolled_back(Error::from(error)));
        let params = given_time(params.and_then(|params| runs_alone(&text).map(|()| params))).await?;
        let can_share = text.repeats() || text.is_refused();
        let (statement, answer) = Statement::new(sql, params);
        let kind = if can_share { Kind::Statement(statement) } else { Kind::Solitary(statement) };
        self.queue(site, kind, answer, waits).await
    }

    /// Runs several statements, separated by semicolons, as one transaction: all of them take effect, or none.
    ///
    /// # Errors
    /// As for [`execute`](PooledDatabaseWriter::execute).
    ///
    /// # Cancel safety
    /// Dropped before its turn, it is not run; after that it runs to its end, unobserved.
    #[track_caller]
    pub fn execute_batch(&self, sql: impl Into<Arc<str>>) -> impl Future<Output = Result<Ack<()>>> + Send + '_ {
        let (site, sql) = (Location::caller(), sql.into());
        async move {
            given_time(leaves_something(&Text::of(&sql))).await?;
            let outcome = self.run_closure(site, async move |tx| tx.execute_batch(&sql).await, true).await;
            outcome.map_err(|error| match error {
                Error::RolledBack { .. } | Error::Unknown { .. } => error,
                error => Error::rolled_back(error),
            })
        }
    }

    /// Runs `work` as one transaction. It takes effect if `work` returns `Ok`, and is undone if that returns `Err` or panics.
    ///
    /// `work` moves to the lane's thread and is polled only there (so its future need not be `Send`), in a runtime that has
    /// timers and nothing else: no sockets. While it runs no other write does: keep it short, and wait in it for nothing but the
    /// database; after [`write_timeout`](crate::WriterConfig::write_timeout) it is dropped and undone. A write inside it would
    /// wait for itself, and is refused. It may run more than once: what it did before is undone then, as if it had not been. What
    /// it changes of its connection, by a pragma or a temporary table, is gone after it; a commit is synced whatever `PRAGMA
    /// synchronous` says.
    ///
    /// The closure is `async move`, so that it owns what it uses, and its error is any type that is made from [`Error`]. Where
    /// nothing else says which, end it with `Ok::<_, Error>(...)`; for a boxed error take `Box<dyn Error + Send + Sync>`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("bank.db");
    /// use poolproof::{Error, PooledDatabaseWriter};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// enum BankError {
    ///     #[error("{0} has not enough")]
    ///     NotEnough(String),
    ///     #[error(transparent)]
    ///     Database(#[from] Error),
    /// }
    ///
    /// let db = PooledDatabaseWriter::open(&path).await?;
    /// db.execute_batch("CREATE TABLE accounts (name TEXT, balance INTEGER); INSERT INTO accounts VALUES ('ada', 10)").await?;
    /// let (name, amount) = ("ada".to_owned(), 30);
    /// let outcome = db
    ///     .write(async move |tx| {
    ///         let sql = "UPDATE accounts SET balance = balance - ?2 WHERE name = ?1 AND balance >= ?2";
    ///         match tx.execute(sql, (name.as_str(), amount)).await? {
    ///             0 => Err(BankError::NotEnough(name.clone())),
    ///             _ => Ok(()),
    ///         }
    ///     })
    ///     .await;
    /// assert!(matches!(outcome, Err(BankError::NotEnough(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `work` returned: nothing was written. What [`execute`](PooledDatabaseWriter::execute) returns for anything that
    /// went wrong outside it.
    ///
    /// # Panics
    /// If `work` panics, with the same payload, once it is undone.
    ///
    /// # Cancel safety
    /// Dropped before its turn, `work` is not run; after that it runs to its end, unobserved.
    #[track_caller]
    pub fn write<F, R, E>(&self, work: F) -> impl Future<Output = Result<Ack<R>, E>> + Send + '_
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_closure(Location::caller(), work, true)
    }

    /// The same, if there is room in the queue.
    ///
    /// # Errors
    /// As for [`write`](PooledDatabaseWriter::write), and [`Error::Full`] behind [`Error::RolledBack`].
    ///
    /// # Panics
    /// As for [`write`](PooledDatabaseWriter::write).
    ///
    /// # Cancel safety
    /// As for [`write`](PooledDatabaseWriter::write).
    #[track_caller]
    pub fn try_write<F, R, E>(&self, work: F) -> impl Future<Output = Result<Ack<R>, E>> + Send + '_
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_closure(Location::caller(), work, false)
    }

    async fn run_closure<F, R, E>(&self, site: &'static Location<'static>, work: F, waits: bool) -> Result<Ack<R>, E>
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (closure, answer) = Closure::new(work);
        self.queue(site, Kind::Work(Box::new(closure)), answer, waits).await
    }

    /// Queues a job and waits for its answer.
    pub(super) async fn queue<R, E: From<Error>>(
        &self,
        site: &'static Location<'static>,
        kind: Kind,
        answer: oneshot::Receiver<Answer<R, E>>,
        waits: bool,
    ) -> Result<Ack<R>, E> {
        if is_inside_a_write() {
            let why = "a write inside a write would wait for itself: use the transaction it has";
            return given_time(Err(Error::rolled_back(Error::misuse(why)).into())).await;
        }
        let (came, shared) = (clock::now(), self.way.shared());
        let Manner { priority, limit } = self.manner;
        let due = limit.and_then(|limit| Some((came.checked_add(limit)?, limit)));
        // Moved a few times, by the queue above all.
        let mut job = Box::new(Job { kind, priority, site, came, due, counted: None, claim: None });
        shared.enter(self.manner, waits).await?;
        let answer = match &*self.way {
            Way::Lane(_) => {
                shared.count(&mut job)?;
                shared.queue(job, answer)?.answer().await
            }
            Way::SideBySide(side_by_side) => side_by_side.run(job, answer).await,
        };
        answer.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

fn runs_alone(text: &Text) -> Result<()> {
    Error::check_depth(text).map_err(Error::rolled_back)?;
    leaves_something(text)?;
    match text.effects().bounds {
        true => {
            let why = "execute runs one statement by itself; use write for a transaction: it was not run";
            Err(Error::rolled_back(Error::misuse(why)))
        }
        false => Ok(()),
    }
}

/// The lane's connection is replaced once a statement has changed it, so what only does that would be undone without a word.
pub(super) fn leaves_something(text: &Text) -> Result<()> {
    match text.changes_only_the_session() {
        true => Err(Error::rolled_back(Error::misuse(
            "this changes its connection only, which is replaced after it: set a pragma by a hook (Hooks::after_connect) for \
             every connection, or use it in write, for that transaction; it was not run",
        ))),
        false => Ok(()),
    }
}
