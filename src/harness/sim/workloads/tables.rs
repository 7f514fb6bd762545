//! What each workload writes, and what is always true of that.

use super::Workload;
use crate::error::Result;
use crate::pool::Transaction;

impl Workload {
    pub(super) fn schema(self) -> &'static str {
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
    pub(super) fn always_zero(self) -> &'static str {
        match self {
            Workload::Counter => "SELECT (SELECT n FROM counter) * 2 - (SELECT COUNT(*) FROM writes)",
            Workload::Bank => "SELECT SUM(balance) - 400 FROM accounts",
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
            Workload::Story => {
                tx.execute("INSERT INTO writes VALUES (?1, ?2, 'a step')", (number, one)).await?;
                tx.execute("INSERT INTO writes VALUES (?1, ?2, 'its result')", (number, one)).await?;
                tx.execute("UPDATE sessions SET lines = lines + 2 WHERE id = ?1", (one,)).await?;
            }
        }
        Ok(())
    }
}
