//! What the lane does for one write: wait for the lock, run, commit or roll back, and count how that ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pool::{PooledConnection, Transaction, clock};

/// How long a write waits for a lock that somebody outside the lane holds: a guard of the same pool that writes itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses between two tries grow up to this one.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Committed,
    RolledBack,
    Unknown,
    Skipped,
}

/// Writes since the lane began.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; 4]);

impl Counts {
    pub(crate) fn add(&self, ended: Ended) {
        self.0[ended as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, ended: Ended) -> u64 {
        self.0[ended as usize].load(Ordering::Relaxed)
    }

    fn outcome<R>(&self, outcome: Result<R>) -> Result<R> {
        self.add(match &outcome {
            Ok(_) => Ended::Committed,
            Err(Error::OutcomeUnknown(_)) => Ended::Unknown,
            Err(_) => Ended::RolledBack,
        });
        outcome
    }
}

/// One statement as a transaction of its own.
pub(crate) async fn execute(
    connection: &mut PooledConnection,
    sql: &str,
    params: turso::params::Params,
    counts: &Counts,
) -> Result<u64> {
    let outcome = match patiently(async || connection.execute(sql, params.clone()).await).await {
        Ok(_) if !connection.is_autocommit() => {
            Err(Error::Misuse("execute runs one statement by itself; use write for a transaction: it is rolled back"))
        }
        // The commit is part of the statement, and nothing tells at which of the two the disk failed.
        Err(Error::Engine(error)) if may_have_committed(&error) => Err(Error::OutcomeUnknown(error)),
        outcome => outcome,
    };
    counts.outcome(outcome)
}

fn may_have_committed(error: &turso::Error) -> bool {
    use turso::Error::{Corrupt, DatabaseFull, Interrupt, IoError};
    matches!(error, Corrupt(_) | DatabaseFull(_) | Interrupt(_) | IoError(..))
}

/// `work` between BEGIN IMMEDIATE and COMMIT.
pub(crate) async fn transact<F, R, E>(connection: &mut PooledConnection, work: F, counts: &Counts) -> Result<R, E>
where
    F: AsyncFnOnce(&mut Transaction<'_>) -> Result<R, E>,
    E: From<Error>,
{
    if let Err(error) = patiently(async || connection.lock_for_writing().await).await {
        counts.add(Ended::RolledBack);
        return Err(error.into());
    }
    let mut transaction = connection.opened();
    match work(&mut transaction).await {
        Ok(value) => {
            counts.outcome(transaction.commit().await)?;
            Ok(value)
        }
        Err(error) => {
            // If even that fails, the lane discards the connection, and the engine rolls back with its last handle.
            let _ = transaction.rollback().await;
            counts.add(Ended::RolledBack);
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
                if clock::now() < *deadline.get_or_insert_with(|| clock::now() + PATIENCE) =>
            {
                clock::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => return outcome,
        }
    }
}
