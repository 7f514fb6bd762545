//! What the pool and the writer are put through: several clients, several lives of one database, every kind of call.
//!
//! A life begins with opening the database and ends when its clients are done, when it cannot be opened, or when the power
//! fails. After each, without faults, the database is opened again and compared with what the clients were told
//! ([`Ledger`]), and with what must always be true of its rows. While clients work they read that, too: each in one snapshot.
//!
//! The rooms, from the bottom up: `tables` (what is written), `kept` (reads by the cache), `client` (its operations), `life`,
//! and this face.

mod client;
mod kept;
mod life;
mod tables;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::life::Life;
use super::faults::Faults;
use super::ledger::Ledger;
use super::world::World;
use crate::error::{Error, Result};
use crate::writer::{Mode, WriterConfig};

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workload {
    /// Clients read a counter and write what comes next.
    Counter,
    /// Clients move money between accounts.
    Bank,
    /// Agents append to the logs of their sessions.
    Story,
    /// Clients move money between accounts, side by side in MVCC mode.
    Mvcc,
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 4] = [Workload::Story, Workload::Bank, Workload::Counter, Workload::Mvcc];
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Workload::Counter => "counter",
            Workload::Bank => "bank",
            Workload::Story => "story",
            Workload::Mvcc => "mvcc",
        })
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let found = Workload::ALL.into_iter().find(|workload| workload.to_string() == name);
        found.ok_or_else(|| format!("{name:?} is no workload: story, bank, counter or mvcc"))
    }
}

/// The database's name on the world's disk.
const NAME: &str = "sim.db";

/// Lives of the database, clients of each, and operations of a client, at most.
const LIVES: u64 = 3;
const CLIENTS: u64 = 5;
const OPERATIONS: u64 = 6;

/// For how long a lock is tried that others hold.
const RETRIES: Duration = Duration::from_secs(1);

/// Rows that each write leaves.
const ROWS: u64 = 2;

/// Rows of things that writes are about: accounts, sessions.
const THINGS: u64 = 4;

impl Workload {
    /// Puts the pool and the writer through it, in one world.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    ///
    /// # Cancel safety
    /// Dropped half-way, so is the world's work.
    pub async fn run(self, world: World) -> std::result::Result<(), String> {
        let ledger = Ledger::default();
        world.leaves_out(self.too_much());
        world.calmly(self.prepares(&world)).await.map_err(|error| format!("preparing: {error}"))?;
        let mut has_crashed = false;
        for _ in 0..world.up_to(LIVES) {
            let life = Life { workload: self, world: &world, ledger: &ledger, opened: Arc::default() };
            let lived = world.until_crash(life.is_lived()).await;
            if lived.is_err() && has_crashed && life.opened.load(Ordering::Relaxed) == 0 {
                world.sometimes("a crash during recovery");
            }
            has_crashed = lived.is_err();
            lived.unwrap_or(Ok(()))?;
            let found = world.calmly(self.looks(&world)).await?;
            ledger.check(&found, ROWS)?;
            ledger.settle(&found);
        }
        Ok(())
    }

    async fn prepares(self, world: &World) -> Result<()> {
        let pool = world.pool(NAME).build().await?;
        pool.get().await?.execute_batch(self.schema()).await?;
        match self.mode() {
            Mode::Wal => pool.close().await,
            // From the beginning: see FINDINGS.md for what a switch comes to that is cut short.
            Mode::Mvcc => {
                let config = WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
                world.writer(pool, config).await?.close().await;
            }
        }
        Ok(())
    }

    fn mode(self) -> Mode {
        match self {
            Workload::Mvcc => Mode::Mvcc,
            _ => Mode::Wal,
        }
    }

    /// Faults that the engine does not bear in the workload's mode: a sync of its log that fails in MVCC mode (FINDINGS.md).
    fn too_much(self) -> Faults {
        match self {
            Workload::Mvcc => Faults { sync: 1, ..Faults::NONE },
            _ => Faults::NONE,
        }
    }

    /// What is there, read without any fault, by an engine that opens the file anew.
    async fn looks(self, world: &World) -> std::result::Result<BTreeMap<u64, u64>, String> {
        let looks = async {
            let pool = world.pool(NAME).build().await?;
            let mut connection = pool.get().await?;
            let mut found = BTreeMap::new();
            for sql in ["SELECT write_id FROM writes", "SELECT write_id FROM notes"] {
                let mut rows = connection.query(sql, ()).await?;
                while let Some(row) = rows.next().await? {
                    *found.entry(row.get::<i64>(0)? as u64).or_default() += 1;
                }
            }
            let integrity: String = {
                let mut rows = connection.query("PRAGMA integrity_check", ()).await?;
                rows.next().await?.map_or(Ok(String::new()), |row| row.get(0))?
            };
            let zero: i64 = {
                let mut rows = connection.query(self.always_zero(), ()).await?;
                rows.next().await?.map_or(Ok(-1), |row| row.get(0))?
            };
            drop(connection);
            pool.close().await;
            Ok::<_, Error>((found, integrity, zero))
        };
        match looks.await {
            Ok((found, integrity, 0)) if integrity == "ok" => Ok(found),
            Ok((_, integrity, 0)) => Err(format!("integrity_check: {integrity}")),
            Ok((.., zero)) => Err(format!("the rows do not fit each other: {} is {zero}", self.always_zero())),
            Err(error) => Err(format!("the database cannot be read any more: {error}")),
        }
    }
}
