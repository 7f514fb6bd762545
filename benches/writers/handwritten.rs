//! The engine with nothing around it, on the thread that calls: no callers, no queue, nobody to answer. What a writer adds
//! to this is its own.

use std::path::Path;

use tokio::runtime::{Builder, Runtime};
use turso::Statement;

use crate::database::{INSERT, connect};

/// A connection and its prepared statements.
pub struct Handwritten {
    runtime: Runtime,
    begin: Statement,
    insert: Statement,
    commit: Statement,
}

impl Handwritten {
    /// The name of its batches in reports.
    pub const LOOP: &'static str = "hand-written loop";
    /// The name of its single rows in reports.
    pub const BARE: &'static str = "bare connection";

    /// On the database at `path`.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let [begin, insert, commit] = runtime.block_on(async {
            let connection = connect(path).await;
            let prepare = async |sql| connection.prepare(sql).await.expect("it can be prepared");
            [prepare("BEGIN IMMEDIATE").await, prepare(INSERT).await, prepare("COMMIT").await]
        });
        Self { runtime, begin, insert, commit }
    }

    /// Adds `rows` rows and commits them together.
    pub fn batch(&mut self, rows: u64) {
        self.rows(0..rows as i64);
    }

    /// Adds a row for each of `values` and commits them together.
    pub fn rows(&mut self, values: impl Iterator<Item = i64>) {
        let Self { runtime, begin, insert, commit } = self;
        let transaction = async {
            begin.execute(()).await?;
            for value in values {
                insert.execute((value,)).await?;
            }
            commit.execute(()).await
        };
        runtime.block_on(transaction).expect("it is committed");
    }

    /// Adds a row, which is a commit by itself.
    pub fn insert(&mut self, value: i64) {
        self.runtime.block_on(self.insert.execute((value,))).expect("it is committed");
    }
}
