//! Who writes, one file each: the same row into the same table, durable when the call resolves.

pub mod answered;
pub mod handwritten;
pub mod mutex;
pub mod mvcc;
#[cfg(feature = "peers")]
pub mod pool;
pub mod poolproof;
pub mod sqlite;

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::crowd::{Crowd, Operation};
use crate::database::Database;

/// A writer that many tasks share.
pub trait Writer: Clone + Send + Sync + 'static {
    /// Its name in reports.
    const NAME: &'static str;

    /// A writer of the database at `path`.
    fn open(path: &Path) -> impl Future<Output = Self> + Send;

    /// Adds a row.
    fn insert(&self, value: i64) -> impl Future<Output = ()> + Send;
}

/// Rows, one after the other.
#[derive(Clone)]
struct Writes<W>(W);

impl<W: Writer> Operation for Writes<W> {
    async fn run(&self, caller: u64) {
        self.0.insert(caller as i64).await;
    }
}

/// One that also takes closures.
pub trait Transact: Writer {
    /// A transaction that adds a row, waits for something else, and adds another.
    fn insert_slowly(&self, value: i64, pause: Duration) -> impl Future<Output = ()> + Send;

    /// Ends after the transactions whose callers have left, which need their runtime.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A writer on a file of its own, and the runtime of its callers. They go in this order.
#[derive(Debug)]
pub struct Subject<W> {
    /// Who writes.
    pub writer: W,
    /// Of two threads.
    pub runtime: Runtime,
    /// Where to.
    pub database: Database,
}

impl<W: Writer> Subject<W> {
    /// With so many rows to begin with.
    #[must_use]
    pub fn new(rows: u64) -> Self {
        let (runtime, database) = (crate::runtime(), Database::new(rows));
        let writer = runtime.block_on(W::open(database.path()));
        Self { writer, runtime, database }
    }

    /// So many callers that write.
    pub fn writing(&self, callers: u64) -> Crowd {
        Crowd::start(&self.runtime, callers, Writes(self.writer.clone()))
    }

    /// The same, and each takes the time of every write.
    pub fn writing_timed(&self, callers: u64) -> Crowd {
        Crowd::start_timed(&self.runtime, callers, Writes(self.writer.clone()))
    }

    /// The same, and each rests before every write.
    pub fn writing_now_and_then(&self, callers: u64) -> Crowd {
        Crowd::start_resting(&self.runtime, callers, Writes(self.writer.clone()))
    }
}
