//! What the service is measured against: one connection for all handlers, as the story had it, and the same behind a mutex.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use turso::IntoParams;

use crate::error::{Error, Result};
use crate::pool::{Behavior, Connection, PRAGMAS, Snapshot, Transaction};
use crate::runs::Store;
use crate::writer::{CloseReport, Weigh, WriterStatus};

/// One connection. Whoever asks gets a clone of it; with a lock, one after the other.
#[derive(Clone)]
pub(super) struct One {
    connection: turso::Connection,
    lock: Option<Arc<Mutex<()>>>,
}

impl One {
    pub(super) async fn open(path: &str, locked: bool) -> Result<Self> {
        let connection = turso::Builder::new_local(path).build().await?.connect()?;
        for pragma in PRAGMAS {
            let mut rows = connection.query(pragma, ()).await?;
            while rows.next().await?.is_some() {}
        }
        Ok(Self { connection, lock: locked.then(Arc::default) })
    }

    /// Runs it where blocking is allowed, as the pool's reads and the lane do.
    async fn on_a_thread<R, E, F>(&self, run: impl FnOnce(Connection) -> F + Send + 'static) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Future<Output = Result<R, E>>,
    {
        let guard = match &self.lock {
            Some(lock) => Some(Arc::clone(lock).lock_owned().await),
            None => None,
        };
        let connection = Connection::unpooled(self.connection.clone());
        let ran = tokio::task::spawn_blocking(move || {
            let outcome = Handle::current().block_on(run(connection));
            drop(guard);
            outcome
        });
        ran.await.unwrap_or_else(|panic| Err(Error::of_panic(panic.into_panic()).into()))
    }
}

impl Store for One {
    async fn execute(&self, sql: &'static str, params: impl IntoParams + Send) -> Result<u64> {
        let params = params.into_params()?;
        self.on_a_thread(async move |mut connection: Connection| connection.execute(sql, params).await).await
    }

    fn write<F, R, E>(&self, mut work: F) -> impl Future<Output = Result<R, E>> + Send
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.on_a_thread(async move |mut connection: Connection| {
            let mut transaction = connection.begin(Behavior::Immediate).await?;
            match work(&mut transaction).await {
                Ok(value) => {
                    transaction.commit().await?;
                    Ok(value)
                }
                Err(error) => {
                    // Its own error is what the caller wants to know.
                    let _ = transaction.rollback().await;
                    Err(error)
                }
            }
        })
    }

    fn read<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>> + Send
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.on_a_thread(async move |mut connection: Connection| {
            let mut snapshot = Snapshot::take(&mut connection, None).await?;
            let value = work(&mut snapshot).await;
            let ended = snapshot.end().await;
            // Another handle does not know that it is to be written by.
            connection.settle().await?;
            let value = value?;
            ended?;
            Ok(value)
        })
    }

    async fn read_cached<K, F, T, E>(&self, given: K, work: F) -> Result<Arc<T>, E>
    where
        K: Hash + Eq + Weigh + Send + Sync + 'static,
        F: AsyncFnOnce(&mut Snapshot<'_>, &K) -> Result<T, E> + Send + 'static,
        T: Weigh + Send + Sync + 'static,
        E: From<Error> + Send + 'static,
    {
        self.read(async move |snapshot: &mut Snapshot<'_>| work(snapshot, &given).await.map(Arc::new)).await
    }

    fn status(&self) -> WriterStatus {
        WriterStatus::default()
    }

    async fn close(&self, _limit: Duration) -> CloseReport {
        CloseReport::default()
    }
}
