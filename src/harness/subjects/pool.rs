//! The product under test: writes through the writer's lane, reads through guards and snapshots.

use std::path::Path;
use std::time::Duration;

use super::super::drive::{Closed, Settings, Subject};
use super::super::workload::{self, Failure, Op, Seen};
use super::ENGINE;
use super::engine::Raw;
use crate::pool::ConnectionPool;
use crate::writer::PooledDatabaseWriter;

/// Longer than any run's watchdog leaves it: that a guard comes late is no failure of the work.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(120);

/// The pool and the writer.
pub struct Pooled {
    db: PooledDatabaseWriter,
}

impl Pooled {
    /// Opens every connection that the pool may have, once.
    async fn warm_up(&self) -> Result<(), Failure> {
        let pool = self.db.pool();
        let mut guards = Vec::new();
        for _ in pool.status().open..pool.status().max {
            guards.push(pool.get().await?);
        }
        Ok(())
    }
}

impl Subject for Pooled {
    const ENGINE: &'static str = ENGINE;
    type Fresh = Raw;

    async fn fresh(path: &Path) -> Result<Raw, Failure> {
        Raw::fresh(path).await
    }

    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let builder = ConnectionPool::builder(&settings.path);
        let pool =
            builder.max_connections(settings.pool_size as usize).acquire_timeout(ACQUIRE_TIMEOUT).build().await?;
        let subject = Self { db: PooledDatabaseWriter::new(pool).await? };
        if settings.warm {
            subject.warm_up().await?;
        }
        Ok(subject)
    }

    async fn perform(&self, op: Op) -> Result<Option<Seen>, Failure> {
        match op {
            Op::Write(write) => self.db.write(async move |tx| write.perform(tx).await).await.map(|_ack| None),
            Op::PerformanceSummary => {
                let mut guard = self.db.pool().get().await?;
                workload::performance_summary(&mut *guard).await.map(Some)
            }
            Op::SessionLog { pick } => {
                self.db.read(async move |snapshot| workload::session_log(snapshot, pick).await).await.map(Some)
            }
        }
    }

    async fn close(self) -> Result<Closed, Failure> {
        self.db.stop().await;
        let rest = self.db.pool().status();
        let mut complaints = Vec::new();
        if rest.in_use != 0 || rest.waiting != 0 || rest.idle != rest.open {
            complaints.push(format!("the work is over, but the pool is not at rest: {rest:?}"));
        }
        if rest.most_open > rest.max {
            complaints.push(format!("{} connections were open of at most {}", rest.most_open, rest.max));
        }
        self.db.close().await;
        let end = self.db.pool().status();
        if end.open != 0 {
            complaints.push(format!("the pool is closed, but connections are alive: {end:?}"));
        }
        Ok(Closed { max_open: Some(end.most_open as u64), complaints })
    }
}
