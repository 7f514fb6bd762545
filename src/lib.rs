//! A connection pool and a pooled writer for the [Turso](https://docs.rs/turso) embedded database, and the concurrency
//! test harness that proves them.
//!
//! A Turso connection is not made to be shared: with one in the state of a web service, concurrent handlers are refused,
//! panic inside the engine, and can lose writes that were acknowledged. [`ConnectionPool`] lends each connection to one
//! user at a time. [`PooledDatabaseWriter`] adds one lane for all writes, so that nobody who writes through it sees
//! `database is locked`, and snapshots for reads.
//!
//! # Quick start
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("app.db");
//! use poolproof::{Error, PooledDatabaseWriter};
//!
//! let db = PooledDatabaseWriter::open(&path).await?;
//! db.execute("CREATE TABLE notes (text TEXT)", ()).await?;
//! db.execute("INSERT INTO notes VALUES (?1)", ("hello",)).await?;
//!
//! let texts = db
//!     .read(async |snapshot| {
//!         let mut texts = Vec::new();
//!         let mut rows = snapshot.query("SELECT text FROM notes", ()).await?;
//!         while let Some(row) = rows.next().await? {
//!             texts.push(row.get::<String>(0)?);
//!         }
//!         Ok::<_, Error>(texts)
//!     })
//!     .await?;
//! assert_eq!(texts, ["hello"]);
//! # Ok(())
//! # }
//! ```
//!
//! # The rooms
//!
//! | room | what it is for |
//! | --- | --- |
//! | `sync` | the one seam between real locks and loom |
//! | `sql` | what a text of SQL says of itself, by the engine's own parser |
//! | `changes` | (feature `cache`) which tables are written, and when that can be seen |
//! | `pool` | the core (slots, permits, waiters), the generic [`Pool`], and its face for Turso, [`ConnectionPool`] |
//! | `writer` | the lane that all writes go through, and reads on snapshots: [`PooledDatabaseWriter`] |
//! | `runs` | (feature `service`) runs of benchmarks: sessions, their logs, how agents performed |
//! | `service` | (feature `service`) the story's web service over the runs: an axum router, live runs, a page |
//! | `harness` | (feature `harness`) the story's workload, the subjects it is run on, the checks, the proof |
//!
//! # Features
//!
//! None is on by default: the library pulls in the pool and the writer alone.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `cache` | answers of repeated queries, kept until one of their tables is written: `query_cached` |
//! | `serde` | [`PoolConfig`] and [`WriterConfig`] are read from a file |
//! | `metrics` | what pools do is counted, through the `metrics` facade |
//! | `harness` | stress runs and their checks, for tests |
//! | `service` | the story's service, [`service`], over its domain, [`runs`] |
//! | `cli` | the `poolproof` binary; includes `harness`, `cache`, `serde` and `service` |

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod catch;
#[cfg_attr(not(feature = "cache"), path = "changes/off.rs")]
mod changes;
mod constraint;
mod error;
#[cfg(feature = "harness")]
pub mod harness;
mod pool;
#[cfg(feature = "service")]
pub mod runs;
#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "harness")]
mod simulated;
mod sql;
mod stack;
mod sync;
mod writer;

pub use constraint::{Constraint, ConstraintKind};
pub use error::{Error, Result, WriteStage};
pub use pool::{
    AcquireError, AcquireTimeout, Activity, Behavior, Connection, ConnectionPool, ConnectionPoolBuilder, FromValue,
    HolderReport, HookError, HookFuture, Hooks, Manage, Pool, PoolConfig, Pooled, PooledConnection, Row, Rows,
    Snapshot, Stage, Status, StillOpen, Transaction, Verdict,
};
pub use turso::{IntoParams, Value};
pub use writer::{
    Ack, CloseReport, CommitToken, Mode, NotDone, PooledDatabaseWriter, Prepared, Priority, WalStatus, WriterConfig,
    WriterStatus,
};
#[cfg(feature = "cache")]
pub use writer::{CacheStatus, CachedRows, Weigh};

/// The README's example, compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
