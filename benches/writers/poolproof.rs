//! Ours.

use std::path::Path;
use std::time::Duration;

use poolproof::{Error, PooledDatabaseWriter, Prepared};

use super::{Transact, Writer};
use crate::database::{BY_KEY, INSERT, SCAN};

/// A handle to the writer, and its insert.
#[derive(Clone, Debug)]
pub struct Ours(PooledDatabaseWriter, Prepared<(i64,)>);

impl Writer for Ours {
    const NAME: &'static str = "poolproof";

    async fn open(path: &Path) -> Self {
        let db = PooledDatabaseWriter::open(path).await.expect("the file opens");
        let insert = db.prepare(INSERT).await.expect("it can be prepared");
        Self(db, insert)
    }

    async fn insert(&self, value: i64) {
        self.1.execute((value,)).await.expect("it is committed");
    }
}

impl Transact for Ours {
    async fn insert_slowly(&self, value: i64, pause: Duration) {
        insert_slowly(&self.0, value, pause).await;
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// A transaction that writes a row, waits for something, and writes another.
pub(super) async fn insert_slowly(db: &PooledDatabaseWriter, value: i64, pause: Duration) {
    let work = async move |tx: &mut poolproof::Transaction<'_>| {
        tx.execute(INSERT, (value,)).await?;
        tokio::time::sleep(pause).await;
        tx.execute(INSERT, (value,)).await
    };
    let committed: Result<_, Error> = db.write(work).await;
    committed.expect("it is committed");
}

/// A row with one number.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    sql: &'static str,
    key: Option<i64>,
}

impl Query {
    /// A row by its key.
    #[must_use]
    pub fn by_key(key: i64) -> Self {
        Self { sql: BY_KEY, key: Some(key) }
    }

    /// All rows.
    #[must_use]
    pub fn scan() -> Self {
        Self { sql: SCAN, key: None }
    }

    fn parameters(self) -> Vec<poolproof::Value> {
        self.key.map(poolproof::Value::Integer).into_iter().collect()
    }
}

impl Ours {
    /// Through the writer: on a snapshot, polled on a thread of the writer's own.
    pub async fn read(&self, query: Query) -> i64 {
        let read = async move |snapshot: &mut poolproof::Snapshot<'_>| -> Result<i64, Error> {
            let mut rows = snapshot.query(query.sql, query.parameters()).await?;
            rows.next().await?.expect("there is a row").get(0)
        };
        self.0.read(read).await.expect("it can be read")
    }

    /// Through the pool: polled in the caller's task.
    pub async fn read_in_task(&self, query: Query) -> i64 {
        let mut connection = self.0.pool().get().await.expect("a connection");
        let mut rows = connection.query(query.sql, query.parameters()).await.expect("it is a query");
        let row = rows.next().await.expect("it can be read").expect("there is a row");
        row.get(0).expect("a number")
    }
}
