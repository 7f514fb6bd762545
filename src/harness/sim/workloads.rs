//! What the pool and the writer are put through: several clients, several lives of one database, every kind of call.
//!
//! A life begins with opening the database and ends when its clients are done, when it cannot be opened, or when the power
//! fails. After each, without faults, the database is opened again and compared with what the clients were told
//! ([`Ledger`]), and with what must always be true of its rows. While clients work they read that, too: each in one snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::ledger::Ledger;
use super::world::{Joined, World};
use crate::error::{Error, Result};
use crate::pool::{Behavior, Hooks, PoolConfig, PooledConnection, Transaction};
use crate::writer::{Ack, PooledDatabaseWriter, Priority, WriterConfig};

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
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 3] = [Workload::Story, Workload::Bank, Workload::Counter];

    /// What has to be seen in a campaign with all faults. If it is not, the campaign did not look everywhere.
    pub const SOMETIMES: [&'static str; 25] = [
        "a read that fails",
        "a write that fails",
        "a full disk",
        "a short write",
        "a sync that fails",
        "a truncation that fails",
        "a slow disk",
        "a crash that keeps what is synced",
        "a crash that keeps everything",
        "a crash that keeps some sectors",
        "a crash during recovery",
        "a future that is dropped",
        "a task that panics",
        "time that passes",
        "a wait inside a poll",
        "a write that is rolled back",
        "an unknown outcome",
        "a time-out",
        "a full queue",
        "a retry",
        "a discarded connection",
        "a connection handed over",
        "writes that share a commit",
        "a batch that is run again",
        "a checkpoint",
    ];
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Workload::Counter => "counter",
            Workload::Bank => "bank",
            Workload::Story => "story",
        })
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let found = Workload::ALL.into_iter().find(|workload| workload.to_string() == name);
        found.ok_or_else(|| format!("{name:?} is no workload: story, bank or counter"))
    }
}

/// The database's name on the world's disk.
const NAME: &str = "sim.db";

/// Lives of the database, clients of each, and operations of a client, at most.
const LIVES: u64 = 3;
const CLIENTS: u64 = 5;
const OPERATIONS: u64 = 6;

/// Rows that each write leaves.
const ROWS: u64 = 2;

/// Rows of things that writes are about: accounts, sessions.
const THINGS: u64 = 4;

impl Workload {
    fn schema(self) -> &'static str {
        match self {
            Workload::Counter => {
                "CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0);
                 CREATE TABLE writes (write_id INTEGER); CREATE TABLE notes (write_id INTEGER)"
            }
            Workload::Bank => {
                "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER);
                 INSERT INTO accounts VALUES (0, 100), (1, 100), (2, 100), (3, 100);
                 CREATE TABLE writes (write_id INTEGER); CREATE TABLE notes (write_id INTEGER)"
            }
            Workload::Story => {
                "CREATE TABLE sessions (id INTEGER PRIMARY KEY, lines INTEGER);
                 INSERT INTO sessions VALUES (0, 0), (1, 0), (2, 0), (3, 0);
                 CREATE TABLE writes (write_id INTEGER, session INTEGER, line TEXT);
                 CREATE TABLE notes (write_id INTEGER)"
            }
        }
    }

    /// A number that is 0 at every moment that anybody may see.
    fn always_zero(self) -> &'static str {
        match self {
            Workload::Counter => "SELECT (SELECT n FROM counter) * 2 - (SELECT COUNT(*) FROM writes)",
            Workload::Bank => "SELECT SUM(balance) - 400 FROM accounts",
            Workload::Story => {
                "SELECT COUNT(*) FROM sessions WHERE lines <> (SELECT COUNT(*) FROM writes WHERE session = sessions.id)"
            }
        }
    }

    /// One write of `number`, as a transaction.
    async fn writes(self, tx: &mut Transaction<'_>, number: u64, things: (u64, u64)) -> Result<()> {
        let (number, one, other) = (number as i64, things.0 as i64, things.1 as i64);
        match self {
            Workload::Counter => {
                let n = {
                    let mut rows = tx.query("SELECT n FROM counter", ()).await?;
                    rows.next().await?.map_or(Ok(0), |row| row.get::<i64>(0))?
                };
                tx.execute("INSERT INTO writes VALUES (?1)", (number,)).await?;
                tx.execute("UPDATE counter SET n = ?1", (n + 1,)).await?;
                tx.execute("INSERT INTO writes VALUES (?1)", (number,)).await?;
            }
            Workload::Bank => {
                let amount = number % 7 + 1;
                tx.execute("UPDATE accounts SET balance = balance - ?2 WHERE id = ?1", (one, amount)).await?;
                tx.execute("INSERT INTO writes VALUES (?1), (?1)", (number,)).await?;
                tx.execute("UPDATE accounts SET balance = balance + ?2 WHERE id = ?1", (other, amount)).await?;
            }
            Workload::Story => {
                tx.execute("INSERT INTO writes VALUES (?1, ?2, 'a step')", (number, one)).await?;
                tx.execute("INSERT INTO writes VALUES (?1, ?2, 'its result')", (number, one)).await?;
                tx.execute("UPDATE sessions SET lines = lines + 2 WHERE id = ?1", (one,)).await?;
            }
        }
        Ok(())
    }

    /// Puts the pool and the writer through it, in one world.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    ///
    /// # Cancel safety
    /// Dropped half-way, so is the world's work.
    pub async fn run(self, world: World) -> std::result::Result<(), String> {
        let ledger = Ledger::default();
        world.calmly(self.prepares(&world)).await.map_err(|error| format!("preparing: {error}"))?;
        for _ in 0..world.up_to(LIVES) {
            let opened = Arc::new(AtomicUsize::new(0));
            match world.until_crash(self.lives(&world, &ledger, &opened)).await {
                Ok(outcome) => outcome?,
                Err(_) if opened.load(Ordering::Relaxed) == 0 => world.sometimes("a crash during recovery"),
                Err(_) => {}
            }
            let found = world.calmly(self.looks(&world)).await?;
            ledger.check(&found, ROWS)?;
            ledger.settle(&found);
        }
        Ok(())
    }

    async fn prepares(self, world: &World) -> Result<()> {
        let pool = world.pool(NAME).build().await?;
        pool.get().await?.execute_batch(self.schema()).await?;
        pool.close().await;
        Ok(())
    }

    /// One life: opens the database, and lets the clients work.
    async fn lives(self, world: &World, ledger: &Ledger, opened: &Arc<AtomicUsize>) -> std::result::Result<(), String> {
        let connects = Arc::clone(opened);
        let hooks = Hooks::new().after_connect(move |_| {
            connects.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        });
        let config = PoolConfig {
            max_connections: 3,
            wait_timeout: Duration::from_millis(200),
            idle_timeout: Some(Duration::from_secs(5)),
            ..PoolConfig::default()
        };
        let writer = WriterConfig { queue: 2, checkpoint_bytes: 64 * 1024, ..WriterConfig::default() };
        let pool = world.pool(NAME).config(config).hooks(hooks).build();
        let opens = async { world.writer(pool.await?, writer).await };
        // A disk that fails may not let anybody in.
        let Ok(db) = opens.await else { return Ok(()) };
        let clients: Vec<Joined<_>> = (1..=world.up_to(CLIENTS))
            .map(|client| {
                let (db, world, ledger) = (db.clone(), world.clone(), ledger.clone());
                let name = format!("client-{client}");
                world.clone().spawn(name, async move {
                    for _ in 0..world.up_to(OPERATIONS) {
                        world.may_panic(self.operates(&world, &db, &ledger)).await?;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap_or(Ok(()))?;
        }
        self.serves_still(world, &db, ledger).await?;
        let status = db.status();
        let seen = [
            (status.pool.handed_over > 0, "a connection handed over"),
            (status.retries > 0, "a retry"),
            (status.broken_batches > 0, "a batch that is run again"),
            (status.largest_batch > 1, "writes that share a commit"),
            (status.wal.checkpoints > 0, "a checkpoint"),
            (opened.load(Ordering::Relaxed) > status.pool.most_open, "a discarded connection"),
        ];
        seen.into_iter().filter(|(is_so, _)| *is_so).for_each(|(_, what)| world.sometimes(what));
        db.close().await;
        Ok(())
    }

    /// Once nothing fails any more, whatever failed before, the lane writes and readers read.
    async fn serves_still(
        self,
        world: &World,
        db: &PooledDatabaseWriter,
        ledger: &Ledger,
    ) -> std::result::Result<(), String> {
        world
            .calmly(async {
                let number = ledger.issue();
                let wrote = note(db, number).await;
                ledger.told(world, number, Some(&wrote));
                wrote.map_err(|error| format!("nothing fails any more, and a write does: {error}"))?;
                self.reads(world, db).await
            })
            .await
    }

    /// One operation of a client, of whatever kind the seed says.
    async fn operates(
        self,
        world: &World,
        db: &PooledDatabaseWriter,
        ledger: &Ledger,
    ) -> std::result::Result<(), String> {
        let kind = world.random(12);
        let number = if kind < 9 { ledger.issue() } else { 0 };
        let things = (world.random(THINGS), world.random(THINGS));
        let whole = || db.write(async move |tx: &mut Transaction<'_>| self.writes(tx, number, things).await);
        let told = match kind {
            0 | 1 => world.cancellable(note(db, number)).await,
            2 => world.cancellable(whole()).await.map(without_ack),
            3 => {
                let sql = format!("INSERT INTO notes VALUES ({number}); INSERT INTO notes VALUES ({number})");
                world.cancellable(db.execute_batch(sql)).await.map(without_ack)
            }
            4 => {
                let hasty = db.within(Duration::from_millis(2));
                Some(without_ack(hasty.execute(NOTE, (number as i64,)).await))
            }
            5 => Some(without_ack(db.try_execute(NOTE, (number as i64,)).await)),
            6 => {
                let late = db.priority(Priority::Background);
                let work = async move |tx: &mut Transaction<'_>| self.writes(tx, number, things).await;
                Some(without_ack(late.write(work).await))
            }
            // It breaks the transaction of whoever shares it.
            7 => Some(without_ack(db.write(async move |tx| breaks(tx, number).await).await)),
            8 => Some(self.by_a_guard(db, number).await),
            _ => {
                let read = world.cancellable(self.reads(world, db)).await;
                return read.unwrap_or(Ok(()));
            }
        };
        ledger.told(world, number, told.as_ref());
        Ok(())
    }

    /// A read, of which no more is asked than that what it sees can be.
    async fn reads(self, world: &World, db: &PooledDatabaseWriter) -> std::result::Result<(), String> {
        let sql = self.always_zero();
        let read = db.read(async move |snapshot| {
            let mut seen = [0; 2];
            for seen in &mut seen {
                let mut rows = snapshot.query(sql, ()).await?;
                *seen = rows.next().await?.map_or(Ok(-1), |row| row.get::<i64>(0))?;
            }
            Ok::<_, Error>(seen)
        });
        match read.await {
            Ok([0, 0]) => {
                world.note("read 0");
                Ok(())
            }
            Ok(seen) => Err(format!("a snapshot shows what cannot be: {sql} is {seen:?}")),
            Err(Error::AcquireTimeout(_)) => {
                world.sometimes("a time-out");
                Ok(())
            }
            // A disk that fails, or a closed pool.
            Err(_) => Ok(()),
        }
    }

    /// Somebody who writes past the lane, which then finds the lock taken.
    async fn by_a_guard(self, db: &PooledDatabaseWriter, number: u64) -> Result<()> {
        guarded(&mut db.pool().get().await?, number).await
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

/// Two rows in one statement.
const NOTE: &str = "INSERT INTO notes VALUES (?1), (?1)";

async fn note(db: &PooledDatabaseWriter, number: u64) -> Result<()> {
    without_ack(db.execute(NOTE, (number as i64,)).await)
}

/// A transaction that fails in a way that the engine answers by rolling back all of it.
async fn breaks(tx: &mut Transaction<'_>, number: u64) -> Result<()> {
    tx.execute(NOTE, (number as i64,)).await?;
    tx.execute("INSERT OR ROLLBACK INTO notes SELECT json('{')", ()).await?;
    Ok(())
}

async fn guarded(guard: &mut PooledConnection, number: u64) -> Result<()> {
    let mut tx = guard.begin(Behavior::Immediate).await?;
    tx.execute(NOTE, (number as i64,)).await?;
    tx.commit().await
}

fn without_ack<T>(outcome: Result<Ack<T>>) -> Result<()> {
    outcome.map(|_| ())
}
