//! What each workload writes, and what is always true of that.

use turso::IntoParams;

use super::Workload;
use crate::error::Result;
use crate::harness::sim::World;
use crate::pool::{Behavior, PooledConnection, Snapshot, Transaction};

/// Two rows in one statement.
pub(super) const NOTE: &str = "INSERT INTO notes VALUES (?1), (?1)";

/// Half of that.
pub(super) const HALF: &str = "INSERT INTO notes VALUES (?1)";

/// All rows that writes left.
pub(super) const ALL_ROWS: &str = "SELECT (SELECT COUNT(*) FROM writes) + (SELECT COUNT(*) FROM notes)";

/// Those of one write.
pub(super) const ITS_ROWS: &str =
    "SELECT (SELECT COUNT(*) FROM writes WHERE write_id = ?1) + (SELECT COUNT(*) FROM notes WHERE write_id = ?1)";

const SET: &str = "UPDATE accounts SET balance = ?2 WHERE id = ?1";

impl Workload {
    pub(super) fn schema(self) -> &'static str {
        match self {
            Workload::Counter => {
                "CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0);
                 CREATE TABLE writes (write_id INTEGER); CREATE TABLE notes (write_id INTEGER)"
            }
            Workload::Bank | Workload::Mvcc => {
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
    pub(super) fn always_zero(self) -> &'static str {
        match self {
            Workload::Counter => "SELECT (SELECT n FROM counter) * 2 - (SELECT COUNT(*) FROM writes)",
            Workload::Bank | Workload::Mvcc => "SELECT SUM(balance) - 400 FROM accounts",
            Workload::Story => {
                "SELECT COUNT(*) FROM sessions WHERE lines <> (SELECT COUNT(*) FROM writes WHERE session = sessions.id)"
            }
        }
    }

    /// One write of `number`, as a transaction.
    pub(super) async fn writes(self, tx: &mut Transaction<'_>, number: u64, things: (u64, u64)) -> Result<()> {
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
            // What it writes is of what it read: whoever was faster in between makes it a conflict.
            Workload::Mvcc => {
                let amount = number % 7 + 1;
                let [from, to] = [balance(tx, one).await?, balance(tx, other).await?];
                tx.execute("INSERT INTO writes VALUES (?1), (?1)", (number,)).await?;
                if one != other {
                    tx.execute(SET, (one, from - amount)).await?;
                    tx.execute(SET, (other, to + amount)).await?;
                }
            }
            Workload::Story => {
                tx.execute("INSERT INTO writes VALUES (?1, ?2, 'a step')", (number, one)).await?;
                tx.execute("INSERT INTO writes VALUES (?1, ?2, 'its result')", (number, one)).await?;
                tx.execute("UPDATE sessions SET lines = lines + 2 WHERE id = ?1", (one,)).await?;
            }
        }
        Ok(())
    }
}

async fn balance(tx: &mut Transaction<'_>, account: i64) -> Result<i64> {
    let mut rows = tx.query("SELECT balance FROM accounts WHERE id = ?1", (account,)).await?;
    rows.next().await?.map_or(Ok(0), |row| row.get(0))
}

/// A transaction that fails in a way that the engine answers by rolling back all of it.
pub(super) async fn breaks(tx: &mut Transaction<'_>, number: u64) -> Result<()> {
    tx.execute(NOTE, (number as i64,)).await?;
    tx.execute("INSERT OR ROLLBACK INTO notes SELECT json('{')", ()).await?;
    Ok(())
}

/// What the engine says of that.
pub(super) const BROKEN: &str = "malformed JSON";

/// A transaction whose closure panics: before its first statement, after half of its rows, or with a query in its hands.
pub(super) async fn panics(tx: &mut Transaction<'_>, world: &World, number: u64) -> Result<()> {
    let number = number as i64;
    match number % 3 {
        0 => world.panics(),
        1 => tx.execute(HALF, (number,)).await.map(drop)?,
        _ => {
            tx.execute(NOTE, (number,)).await?;
            let mut rows = tx.query("SELECT write_id FROM notes", ()).await?;
            rows.next().await?;
            world.panics()
        }
    }
    world.panics()
}

/// Somebody who writes past the lane, which then finds the lock taken.
pub(super) async fn guarded(guard: &mut PooledConnection, number: u64) -> Result<()> {
    let mut tx = guard.begin(Behavior::Immediate).await?;
    tx.execute(NOTE, (number as i64,)).await?;
    tx.commit().await
}

/// The one number of a query.
pub(super) async fn number(snapshot: &mut Snapshot<'_>, sql: &str, params: impl IntoParams) -> Result<i64> {
    let mut rows = snapshot.query(sql, params).await?;
    rows.next().await?.map_or(Ok(-1), |row| row.get(0))
}
