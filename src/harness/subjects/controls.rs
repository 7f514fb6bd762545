//! What the pool is measured against: one connection for all, and the same pool with its exclusivity broken.

use std::path::Path;
use std::sync::{Mutex as StdMutex, PoisonError};

use super::super::drive::{Closed, Settings, Subject};
use super::super::workload::{self, Client, Failure, Op, Seen};
use super::ENGINE;
use super::engine::{Raw, open};
use crate::pool::{Manage, PRAGMAS, Pool, PoolConfig};

/// The story's mistake: clones of one connection in everybody's hands, one autocommit statement after the other.
pub struct Shared {
    connection: turso::Connection,
}

impl Subject for Shared {
    const ENGINE: &'static str = ENGINE;
    type Fresh = Raw;

    async fn fresh(path: &Path) -> Result<Raw, Failure> {
        Raw::fresh(path).await
    }

    async fn open(settings: &Settings) -> Result<Self, Failure> {
        Ok(Self { connection: Raw::fresh(&settings.path).await?.0 })
    }

    async fn perform(&self, op: Op) -> Result<Option<Seen>, Failure> {
        autocommit(&mut Raw(self.connection.clone()), op).await
    }

    async fn close(self) -> Result<Closed, Failure> {
        Ok(Closed::default())
    }
}

/// One connection behind an async mutex: what a careful service does without a pool.
pub struct Mutexed {
    connection: tokio::sync::Mutex<Raw>,
}

impl Subject for Mutexed {
    const ENGINE: &'static str = ENGINE;
    type Fresh = Raw;

    async fn fresh(path: &Path) -> Result<Raw, Failure> {
        Raw::fresh(path).await
    }

    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let mut connection = Raw::fresh(&settings.path).await?;
        for pragma in PRAGMAS {
            connection.query(pragma, vec![]).await?;
        }
        Ok(Self { connection: tokio::sync::Mutex::new(connection) })
    }

    async fn perform(&self, op: Op) -> Result<Option<Seen>, Failure> {
        transact(&mut *self.connection.lock().await, op).await
    }

    async fn close(self) -> Result<Closed, Failure> {
        Ok(Closed::default())
    }
}

/// Our own pool over a manager that lends each engine connection to `HOLDERS` slots. With 1 it is sound; with 2 its
/// exclusivity is broken, and that is the only difference. Writes come one at a time, so that nothing else can fail.
pub struct Lending<const HOLDERS: usize> {
    pool: Pool<Lender<HOLDERS>>,
    writing: tokio::sync::Mutex<()>,
}

struct Lender<const HOLDERS: usize> {
    database: turso::Database,
    /// The connection opened last, as often as it may still be lent.
    lent: StdMutex<Vec<turso::Connection>>,
}

impl<const HOLDERS: usize> Manage for Lender<HOLDERS> {
    type Connection = Raw;
    type Error = turso::Error;

    async fn connect(&self) -> Result<Raw, turso::Error> {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        if lent.is_empty() {
            let connection = self.database.connect()?;
            lent.extend(std::iter::repeat_n(connection, HOLDERS));
        }
        lent.pop().map(Raw).ok_or_else(|| turso::Error::Misuse("a connection needs a holder".to_owned()))
    }

    fn is_reusable(&self, connection: &mut Raw) -> bool {
        connection.0.is_autocommit().unwrap_or(false)
    }
}

impl<const HOLDERS: usize> Subject for Lending<HOLDERS> {
    const ENGINE: &'static str = ENGINE;
    type Fresh = Raw;

    async fn fresh(path: &Path) -> Result<Raw, Failure> {
        Raw::fresh(path).await
    }

    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let manager = Lender { database: open(&settings.path).await?, lent: StdMutex::default() };
        let config = PoolConfig { max_connections: settings.pool_size as usize, ..PoolConfig::default() };
        let pool = Pool::new(manager, config)?;
        if settings.warm {
            let mut guards = Vec::new();
            for _ in 0..settings.pool_size {
                guards.push(pool.get().await.map_err(|error| Failure::unexpected(error.to_string()))?);
            }
        }
        Ok(Self { pool, writing: tokio::sync::Mutex::new(()) })
    }

    async fn perform(&self, op: Op) -> Result<Option<Seen>, Failure> {
        let _turn = match op {
            Op::Write(_) => Some(self.writing.lock().await),
            Op::PerformanceSummary | Op::SessionLog { .. } => None,
        };
        let mut guard = self.pool.get().await.map_err(|error| Failure::unexpected(error.to_string()))?;
        transact(&mut *guard, op).await
    }

    async fn close(self) -> Result<Closed, Failure> {
        self.pool.close().await;
        Ok(Closed { max_open: Some(self.pool.status().most_open as u64), complaints: vec![] })
    }
}

/// The operation as statements that each commit by themselves.
pub(super) async fn autocommit(client: &mut impl Client, op: Op) -> Result<Option<Seen>, Failure> {
    match op {
        Op::Write(write) => write.perform(client).await.map(|()| None),
        Op::PerformanceSummary => workload::performance_summary(client).await.map(Some),
        Op::SessionLog { pick } => workload::session_log(client, pick).await.map(Some),
    }
}

/// The operation as one transaction.
async fn transact(client: &mut impl Client, op: Op) -> Result<Option<Seen>, Failure> {
    let begin = if matches!(op, Op::Write(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
    client.execute(begin, vec![]).await?;
    match autocommit(client, op).await {
        Ok(seen) => client.execute("COMMIT", vec![]).await.map(|_| seen),
        Err(failure) => {
            // The first failure is the one to report.
            let _ = client.execute("ROLLBACK", vec![]).await;
            Err(failure)
        }
    }
}
