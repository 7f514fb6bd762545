//! What the pool and the lane ask of the database themselves: pragmas of their own, after which the connection is as it was.

use super::{Connection, QueryOnly};
use crate::error::{Error, Result, UNCOPIED};
use crate::pool::row::FromValue;

/// Pragmas that the writer's promise needs (`pool/builder.rs` says why).
const DURABLE: [&str; 2] = ["PRAGMA synchronous = FULL", "PRAGMA data_sync_retry = 1"];

/// Whoever waits for a lock does so where the time is limited, not in the engine, which would use a core up meanwhile.
const PATIENCE: &str = "PRAGMA busy_timeout = 0";

/// Tables that take what is written by the name of one of everybody's.
const TEMPORARY: &str = "SELECT name FROM sqlite_temp_schema WHERE type = 'table'";

impl Connection {
    /// Statements may only read from now on, until [`reads_no_more`](Connection::reads_no_more).
    pub(crate) async fn only_reads(&mut self) -> Result<()> {
        if self.query_only != QueryOnly::Left {
            self.settle().await?;
            self.query_only = QueryOnly::InDoubt;
            self.run_unsettled("PRAGMA query_only = 1").await?;
        }
        self.query_only = QueryOnly::Needed;
        Ok(())
    }

    /// The next statement may write, if it is not a snapshot's.
    pub(crate) fn reads_no_more(&mut self) {
        if self.query_only == QueryOnly::Needed {
            self.query_only = QueryOnly::Left;
        }
    }

    pub(super) async fn may_write(&mut self) -> Result<()> {
        if self.query_only == QueryOnly::Left {
            self.query_only = QueryOnly::InDoubt;
            self.run_unsettled("PRAGMA query_only = 0").await?;
            self.query_only = QueryOnly::Off;
        }
        Ok(())
    }

    /// Makes commits and checkpoints durable again if a hook has run pragmas, and waits for locks as long as the writer does.
    ///
    /// # Errors
    /// A hook has made a temporary table: what is written by its name would be gone with the connection.
    pub(crate) async fn restore_durability(&mut self) -> Result<()> {
        if !self.hooked {
            return Ok(());
        }
        for pragma in DURABLE.into_iter().chain([PATIENCE]) {
            self.run_as_is(pragma).await?;
        }
        let mut rows = self.query_own(TEMPORARY).await?;
        if let Some(row) = rows.next().await? {
            let name: String = row.get(0)?;
            return Err(Error::Misuse(
                format!(
                    "a hook (Hooks) makes the temporary table {name}, and what is written by that name would be lost: make it where it \
                     is used, on a guard; nothing was written"
                )
                .into(),
            ));
        }
        drop(rows);
        self.hooked = false;
        Ok(())
    }

    /// Copies what is committed from the log into the database, as far as readers let it. How many pages the log has, and
    /// how many of them are copied.
    pub(crate) async fn checkpoint(&mut self) -> Result<(u64, u64)> {
        self.settle().await?;
        let mut rows = self.query_own("PRAGMA wal_checkpoint(PASSIVE)").await?;
        let mut counts = None;
        while let Some(row) = rows.next().await? {
            counts = Some((row.get::<Option<i64>>(1)?, row.get::<Option<i64>>(2)?));
        }
        match counts {
            Some((Some(pages), Some(copied))) => Ok((pages.max(0) as u64, copied.max(0) as u64)),
            // The engine's answer to a disk that fails, too.
            _ => Err(Error::Engine(turso::Error::Busy(UNCOPIED.to_owned()))),
        }
    }

    /// Bytes in a page of the database.
    pub(crate) async fn page_size(&mut self) -> Result<u64> {
        Ok(self.pragma::<i64>("PRAGMA page_size").await?.unsigned_abs())
    }

    /// How the database is kept safe: `wal`, or `mvcc`.
    pub(crate) async fn journal_mode(&mut self) -> Result<String> {
        self.pragma("PRAGMA journal_mode").await
    }

    /// Switches the database to MVCC mode, if the engine does. How it is kept safe then.
    pub(crate) async fn switch_to_mvcc(&mut self) -> Result<String> {
        self.pragma("PRAGMA journal_mode = 'mvcc'").await
    }

    /// What a pragma of the pool's own says; 0, or no text, if it says nothing.
    async fn pragma<T: FromValue + Default>(&mut self, sql: &str) -> Result<T> {
        self.settle().await?;
        let mut rows = self.query_own(sql).await?;
        let mut said = None;
        while let Some(row) = rows.next().await? {
            said = Some(row.get(0)?);
        }
        Ok(said.unwrap_or_default())
    }

    /// Writes the database's first page again as it is, in the open transaction.
    pub(crate) async fn rewrite_header(&mut self) -> Result<()> {
        let version: i64 = self.pragma("PRAGMA user_version").await?;
        self.run_as_is(&format!("PRAGMA user_version = {version}")).await
    }
}
