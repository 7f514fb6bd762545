//! What the lane does for one write: wait for the lock, run, commit or roll back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::pool::{PooledConnection, Transaction};

/// How long a write waits for a lock that somebody outside the lane holds: a guard of the same pool that writes itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses between two tries grow up to this one.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// Writes since the lane began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    skipped: AtomicU64,
}

impl Counts {
    pub(crate) fn ended(&self, committed: bool) {
        let count = if committed { &self.committed } else { &self.rolled_back };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Committed, rolled back, skipped.
    pub(crate) fn get(&self) -> (u64, u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.committed), load(&self.rolled_back), load(&self.skipped))
    }
}

/// One statement as a transaction of its own.
pub(crate) async fn execute_patiently(
    connection: &mut PooledConnection,
    sql: &str,
    params: turso::params::Params,
) -> Result<u64> {
    patiently(async || connection.execute(sql, params.clone()).await).await
}

/// `work` between BEGIN IMMEDIATE and COMMIT.
pub(crate) async fn transact<F, R, E>(connection: &mut PooledConnection, work: F) -> Result<R, E>
where
    F: AsyncFnOnce(&mut Transaction<'_>) -> Result<R, E>,
    E: From<Error>,
{
    patiently(async || connection.lock_for_writing().await).await?;
    let mut transaction = connection.opened();
    match work(&mut transaction).await {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(error) => {
            // If even that fails, the lane discards the connection, and the engine rolls back with its last handle.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

/// Tries again while somebody else holds the write lock. `Busy` means that nothing happened, so trying again is safe.
async fn patiently<R>(mut attempt: impl AsyncFnMut() -> Result<R>) -> Result<R> {
    let mut pause = Duration::from_micros(250);
    let mut deadline = None;
    loop {
        match attempt().await {
            Err(Error::Engine(turso::Error::Busy(_)))
                if Instant::now() < *deadline.get_or_insert_with(|| Instant::now() + PATIENCE) =>
            {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => return outcome,
        }
    }
}
