//! Writers on a disk that fails, with a ledger of what they were told.

use std::time::Duration;

use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Result, Transaction, WriterConfig};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;

use super::disk::{Disk, Fault, Survives};
use super::ledger::{COUNTS, Found, Ledger, ROWS, Told};

/// How a write is made.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// One statement.
    Statement,
    /// A closure, of a statement for each row.
    Closure,
}

/// A database, the disk that it is on, and what its callers were told.
pub struct Story {
    pub disk: Disk,
    pub db: PooledDatabaseWriter,
    pub ledger: Ledger,
}

/// A lane that never checkpoints.
pub fn without_checkpoints() -> WriterConfig {
    let never = Duration::from_hours(1);
    // Those who are to share a commit do so on a busy machine, too.
    let batch_time = Duration::from_secs(60);
    WriterConfig { checkpoint_bytes: u64::MAX, checkpoint_idle: never, batch_time, ..WriterConfig::default() }
}

/// One that does whenever it rests.
pub fn with_checkpoints() -> WriterConfig {
    WriterConfig { checkpoint_idle: Duration::from_millis(1), ..without_checkpoints() }
}

impl Story {
    /// A database with a table, on a disk that works.
    pub async fn begin(config: WriterConfig) -> Self {
        let disk = Disk::new();
        let db = open(&disk, config).await.unwrap();
        db.execute("CREATE TABLE t (number INTEGER, row INTEGER, body BLOB)", ()).await.unwrap();
        db.execute("CREATE INDEX t_by_number ON t (number, row)", ()).await.unwrap();
        Self { disk, db, ledger: Ledger::default() }
    }

    /// What another process finds that opens the database after this one's end.
    pub async fn goes_on_in_another_process(&self) -> Result<Self> {
        let disk = self.disk.after_process_end();
        let db = open(&disk, without_checkpoints()).await?;
        Ok(Self { disk, db, ledger: self.ledger.clone() })
    }

    /// Makes a write whose rows have bodies of `size` bytes; `fault` befalls the disk inside it.
    pub async fn write(&mut self, write: Write, size: i64, fault: Option<Fault>) -> Result<()> {
        let number = self.ledger.next();
        if let (Some(fault), Write::Statement) = (fault, write) {
            self.disk.fails(fault);
        }
        let outcome = one(&self.db, number, write, size, fault.map(|fault| (self.disk.clone(), fault))).await;
        self.ledger.told(number, Told::of(&outcome));
        outcome
    }

    /// Makes `count` writes that share a commit, behind one that does not; `fault` befalls the disk in the last one of them,
    /// just before that commit. What those that share were told.
    pub async fn together(&mut self, count: usize, size: i64, fault: Option<Fault>) -> Vec<Result<()>> {
        let (started, starts) = oneshot::channel();
        let mut started = Some(started);
        let (number, db) = (self.ledger.next(), self.db.clone());
        let first = tokio::spawn({
            let (db, writer) = (db.clone(), db.clone());
            async move {
                let work = async move |tx: &mut Transaction<'_>| {
                    insert(tx, number, size).await?;
                    // It may run again, and then nobody is on the way any more.
                    if let Some(started) = started.take() {
                        let _ = started.send(());
                        while db.status().queued < count {
                            yield_now().await;
                        }
                    }
                    Ok::<_, Error>(())
                };
                writer.write(work).await.map(drop)
            }
        });
        // It starts, or it is refused.
        let _ = starts.await;
        let numbers: Vec<i64> = (0..count).map(|_| self.ledger.next()).collect();
        let last = *numbers.last().expect("some share a commit");
        let others: Vec<JoinHandle<Result<()>>> = numbers
            .iter()
            .map(|&number| {
                let (db, fault) = (db.clone(), fault.filter(|_| number == last).map(|f| (self.disk.clone(), f)));
                let write = if number % 2 == 0 && fault.is_none() { Write::Statement } else { Write::Closure };
                tokio::spawn(async move { one(&db, number, write, size, fault).await })
            })
            .collect();
        self.ledger.told(number, Told::of(&first.await.unwrap()));
        let mut outcomes = Vec::new();
        for (number, other) in numbers.into_iter().zip(others) {
            let outcome = other.await.unwrap();
            self.ledger.told(number, Told::of(&outcome));
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Resolves when the lane has tried a checkpoint that began after this call; or has committed nothing, for then none is
    /// due.
    pub async fn checkpoint(&self) {
        let tries = || {
            let log = self.db.status().wal;
            log.checkpoints + log.failed_checkpoints
        };
        let commits_nothing = async || self.db.write(async |_| Ok::<_, Error>(())).await.is_ok();
        // The first waits for a checkpoint that goes on right now, the second makes another one due.
        commits_nothing().await;
        let before = tries();
        if !commits_nothing().await {
            return;
        }
        while tries() == before {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Checks the ledger against what its own readers see.
    pub async fn is_seen(&self) -> Result<(), String> {
        let found = self.db.read(async |snapshot| {
            let (mut found, mut rows) = (Found::new(), snapshot.query(COUNTS, ()).await?);
            while let Some(row) = rows.next().await? {
                found.insert(row.get(0)?, row.get(1)?);
            }
            Ok::<_, Error>(found)
        });
        let found = found.await.map_err(|error| format!("nobody can read: {error}"))?;
        self.ledger.bears_out(&found).map_err(|wrong| format!("to its readers, {wrong}"))
    }

    /// Checks the ledger against a power failure at this moment, and against one after another process has gone on. How many
    /// disks were looked at.
    pub async fn holds(&self) -> Result<usize, String> {
        let looked = self.ledger.survives_power_failure(&self.disk).await?;
        if self.db.status().wal.in_doubt {
            // Whoever opens it now adopts what nobody could sync. A writer that does is looked at by `holds_in_doubt`.
            return Ok(looked);
        }
        Ok(looked + self.holds_in_another_process().await?)
    }

    /// The same while a commit is in doubt, of a log that is so short that the engine makes no checkpoint by itself.
    pub async fn holds_in_doubt(&self) -> Result<usize, String> {
        assert!(self.db.status().wal.in_doubt);
        Ok(self.holds().await? + self.holds_in_another_process().await?)
    }

    async fn holds_in_another_process(&self) -> Result<usize, String> {
        let in_another = |error: Error| format!("in another process: {error}");
        let mut other = self.goes_on_in_another_process().await.map_err(in_another)?;
        other.write(Write::Closure, 10, None).await.map_err(in_another)?;
        let wrong = |wrong| format!("once another process has gone on, {wrong}");
        other.ledger.is_borne_out_after(&other.disk, Survives::Nothing).await.map_err(wrong)?;
        Ok(1)
    }
}

pub async fn open(disk: &Disk, config: WriterConfig) -> Result<PooledDatabaseWriter> {
    let pool = ConnectionPool::builder(disk.path()).io(std::sync::Arc::new(disk.clone())).build().await?;
    PooledDatabaseWriter::with_config(pool, config).await
}

async fn one(
    db: &PooledDatabaseWriter,
    number: i64,
    write: Write,
    size: i64,
    mut fault: Option<(Disk, Fault)>,
) -> Result<()> {
    match write {
        Write::Statement => {
            let sql = "INSERT INTO t VALUES (?1, 0, zeroblob(?2)), (?1, 1, zeroblob(?2))";
            db.execute(sql, (number, size)).await.map(drop)
        }
        Write::Closure => {
            let work = async move |tx: &mut Transaction<'_>| {
                insert(tx, number, size).await?;
                // Once: it may run again.
                if let Some((disk, fault)) = fault.take() {
                    disk.fails(fault);
                }
                Ok::<_, Error>(())
            };
            db.write(work).await.map(drop)
        }
    }
}

async fn insert(tx: &mut Transaction<'_>, number: i64, size: i64) -> Result<()> {
    for row in 0..ROWS {
        tx.execute("INSERT INTO t VALUES (?1, ?2, zeroblob(?3))", (number, row, size)).await?;
    }
    Ok(())
}
