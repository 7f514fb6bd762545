//! A connection pool for the Turso embedded database that you can trust, and the harness that proves it.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod catch;
mod error;
#[cfg(feature = "harness")]
pub mod harness;
mod pool;
mod sync;
mod writer;

pub use error::{Error, Result};
pub use pool::{
    AcquireError, Behavior, ConnectionPool, ConnectionPoolBuilder, Manage, Pool, PoolConfig, Pooled, PooledConnection,
    Rows, Snapshot, Status, Transaction,
};
pub use writer::{PooledDatabaseWriter, WriterStatus};
