//! What the tests begin with: a writer, looks at its rows, and a lane that is kept busy while others queue.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use poolproof::{
    Ack, Connection, ConnectionPool, Error, Hooks, PooledConnection, PooledDatabaseWriter, Result, Snapshot,
    Transaction, WriterConfig,
};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

/// A write that is held for a while is not cut short, and those behind it share a commit on a slow machine, too.
pub fn patient() -> WriterConfig {
    let minute = Duration::from_secs(60);
    WriterConfig { write_timeout: minute, batch_time: minute, ..WriterConfig::default() }
}

/// A database with an empty table `t (x INTEGER)`.
pub async fn writer() -> (PooledDatabaseWriter, TempDir) {
    writer_of(patient()).await
}

/// The same by a writer of these settings. Foreign keys are enforced.
pub async fn writer_of(config: WriterConfig) -> (PooledDatabaseWriter, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA foreign_keys = ON").await?) })
    });
    let pool =
        ConnectionPool::builder(folder.path().join("t.db")).max_connections(4).hooks(hooks).build().await.unwrap();
    let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    (db, folder)
}

pub async fn count(snapshot: &mut Snapshot<'_>) -> Result<i64> {
    let mut rows = snapshot.query("SELECT COUNT(*) FROM t", ()).await?;
    let row = rows.next().await?.expect("COUNT gives a row");
    row.get(0)
}

/// How many rows `t` has.
pub async fn rows(db: &PooledDatabaseWriter) -> i64 {
    db.read(async |snapshot| count(snapshot).await).await.unwrap()
}

/// Column `x` of a table, in the order in which it was written.
pub async fn column(db: &PooledDatabaseWriter, table: &'static str) -> Vec<i64> {
    let read = db.read(async move |snapshot| {
        let mut rows = snapshot.query(&format!("SELECT x FROM {table} ORDER BY rowid"), ()).await?;
        let mut column = Vec::new();
        while let Some(row) = rows.next().await? {
            column.push(row.get(0)?);
        }
        Ok::<_, Error>(column)
    });
    read.await.unwrap()
}

/// Column `x` of `t`, as another library reads it.
pub fn by_sqlite(path: &Path) -> Vec<i64> {
    let sqlite = rusqlite::Connection::open(path).unwrap();
    let soundness: String = sqlite.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(soundness, "ok");
    let mut statement = sqlite.prepare("SELECT x FROM t ORDER BY rowid").unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// The lane while a write of its own transaction keeps it.
pub struct Held {
    release: watch::Sender<bool>,
    write: JoinHandle<Result<Ack<()>>>,
}

impl Held {
    /// Lets that write end, and what is queued begin.
    pub async fn let_go(self) -> Ack<()> {
        self.release.send_replace(true);
        self.write.await.unwrap().unwrap()
    }
}

/// Keeps the lane busy; the write before this was a lone one, so that this one is, too.
pub async fn hold(db: &PooledDatabaseWriter) -> Held {
    let (release, held) = watch::channel(false);
    let (started, mut begun) = watch::channel(false);
    let db = db.clone();
    let write = tokio::spawn(async move {
        let write = db.write(async move |_| {
            started.send_replace(true);
            let _ = held.clone().wait_for(|released| *released).await;
            Ok::<_, Error>(())
        });
        write.await
    });
    begun.wait_for(|begun| *begun).await.unwrap();
    Held { release, write }
}

/// A write whose caller leaves in the middle of it: it has written a 1, and goes on with `rest` once it is notified.
pub async fn leave<F, R>(db: &PooledDatabaseWriter, mut rest: F) -> Arc<Notify>
where
    F: AsyncFnMut(&mut Transaction<'_>) -> Result<R> + Send + 'static,
    R: Send + 'static,
{
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, held, db) = (Arc::clone(&started), Arc::clone(&release), db.clone());
    let caller = tokio::spawn(async move {
        let write = db.write(async move |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            started.notify_one();
            held.notified().await;
            rest(tx).await
        });
        write.await.map(std::mem::forget)
    });
    begun.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    release
}

/// A guard of the pool that holds the write lock, and a lone write of 0 that waits for it in the lane.
pub async fn locked(db: &PooledDatabaseWriter) -> (PooledConnection, JoinHandle<Result<Ack<u64>>>) {
    let guard = lock(db).await;
    let retries = db.status().retries;
    let waiting = tokio::spawn(insert(db.clone(), 0));
    until(|| db.status().retries > retries).await;
    (guard, waiting)
}

/// A guard of the pool that holds the write lock. The lane may have it for a moment, for a write that was refused already: it
/// sees that once it has the lock.
pub async fn lock(db: &PooledDatabaseWriter) -> PooledConnection {
    let mut guard = db.pool().get().await.unwrap();
    loop {
        match guard.execute("BEGIN IMMEDIATE", ()).await {
            Err(error) if error.is_contention() => tokio::task::yield_now().await,
            outcome => {
                outcome.unwrap();
                return guard;
            }
        }
    }
}

/// Gives the write lock back.
pub async fn unlock(mut guard: PooledConnection) {
    guard.execute("ROLLBACK", ()).await.unwrap();
}

/// Queues a write, while the lane takes none out: it has its place when this returns.
pub async fn queue<F>(db: &PooledDatabaseWriter, write: impl FnOnce(PooledDatabaseWriter) -> F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let queued = db.status().queued;
    let write = tokio::spawn(write(db.clone()));
    until(|| db.status().queued > queued).await;
    write
}

/// Queues a write of `x`, also while the lane takes others out.
pub async fn queue_row(db: &PooledDatabaseWriter, x: i64) -> JoinHandle<Result<Ack<u64>>> {
    let (came, mut comes) = oneshot::channel();
    let (mut came, mut write) = (Some(came), Box::pin(insert(db.clone(), x)));
    let write = tokio::spawn(poll_fn(move |context| {
        let polled = write.as_mut().poll(context);
        if let Some(came) = came.take() {
            let _ = came.send(());
        }
        polled
    }));
    until(|| comes.try_recv().is_ok()).await;
    write
}

/// Writes `x`.
pub async fn insert(db: PooledDatabaseWriter, x: i64) -> Result<Ack<u64>> {
    db.execute("INSERT INTO t VALUES (?1)", (x,)).await
}

/// Lets others go on until it holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

/// Which commit an acknowledged write was part of.
pub async fn commit_of<R>(write: JoinHandle<Result<Ack<R>>>) -> u64 {
    write.await.unwrap().unwrap().token.number()
}
