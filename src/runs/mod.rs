//! Runs of benchmarks: which agent did what, how long it took, and how well it did.
//!
//! A *session* is one run of one benchmark by one agent. While it goes on it has a log that grows and calls of tools; when it
//! ends it has a score, and the agent's performance has a row more. Everything that is written goes through the lane, so an
//! operation that returns `Ok` is on the disk; whatever belongs together is one write, and is read in one snapshot.

mod benchmarks;
mod filter;
mod migrations;
mod model;
mod read;
mod store;
mod weigh;
mod write;

use std::path::Path;

pub use benchmarks::BenchmarkFile;
pub use filter::{PerformanceFilter, SessionFilter};
pub use model::{
    AgentConfig, AgentSummary, Benchmark, BenchmarkId, Ended, LogChunk, NewSession, Performance, PerformanceReport,
    Session, SessionId, SessionLog, SessionStatus, Statistics, StepDone, ToolCall,
};
pub use store::Store;
pub(crate) use write::now_ms;

use crate::writer::PooledDatabaseWriter;

/// Why an operation on runs failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Database(#[from] crate::Error),
    /// No benchmark has this id.
    #[error("there is no benchmark {0}")]
    NoBenchmark(BenchmarkId),
    /// No session has this id.
    #[error("there is no session {0}")]
    NoSession(SessionId),
    /// The session has ended: its log is complete.
    #[error("session {0} is over")]
    Over(SessionId),
    /// A file that is no benchmark, or a folder that cannot be read.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// A row that this version cannot have written.
    #[error("the database has {0:?} where a status belongs; was it written by a newer version?")]
    Status(String),
}

/// What operations on runs return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The runs in one database. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Runs<S = PooledDatabaseWriter> {
    db: S,
}

impl Runs {
    /// Opens or creates the database at `path` with default settings, and brings its tables up to date.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::open`] and [`Runs::new`] return.
    ///
    /// # Cancel safety
    /// Dropped half-way, tables are as they were, or up to date.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(PooledDatabaseWriter::open(path).await?).await
    }
}

impl<S: Store> Runs<S> {
    /// Brings the tables of a database up to date, once, and not for each connection.
    ///
    /// # Errors
    /// [`Error::Database`]: among others, that a newer version has written it.
    ///
    /// # Cancel safety
    /// Dropped half-way, tables are as they were, or up to date.
    pub async fn new(db: S) -> Result<Self> {
        migrations::apply(&db).await?;
        Ok(Self { db })
    }

    /// The database itself: its status, its end.
    #[must_use]
    pub fn db(&self) -> &S {
        &self.db
    }
}
