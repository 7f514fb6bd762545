//! The tables, as a list of steps. A database notes which of them it has had.
//!
//! Each step is applied once, in one transaction with its note, by whoever opens the database first; it is never changed
//! once it was released.

use super::Store;
use crate::error::{Error, Result};
use crate::pool::{Snapshot, Transaction};

/// One step, by the version that a database has after it.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "sessions, their logs, and how agents performed",
    sql: "
            CREATE TABLE benchmarks (
                id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                prompt TEXT NOT NULL,
                content TEXT NOT NULL,
                updated_ms INTEGER NOT NULL
            );
            CREATE TABLE sessions (
                id TEXT PRIMARY KEY,
                benchmark_id TEXT NOT NULL REFERENCES benchmarks (id),
                agent TEXT NOT NULL,
                interface TEXT NOT NULL,
                seed INTEGER NOT NULL,
                started_ms INTEGER NOT NULL,
                ended_ms INTEGER,
                status TEXT NOT NULL,
                score REAL,
                final_status TEXT
            );
            CREATE INDEX sessions_by_benchmark ON sessions (benchmark_id, started_ms);
            CREATE INDEX sessions_by_status ON sessions (status);
            CREATE TABLE log_chunks (
                session_id TEXT NOT NULL REFERENCES sessions (id),
                number INTEGER NOT NULL,
                at_ms INTEGER NOT NULL,
                content TEXT NOT NULL,
                PRIMARY KEY (session_id, number)
            );
            CREATE TABLE tool_calls (
                session_id TEXT NOT NULL REFERENCES sessions (id),
                number INTEGER NOT NULL,
                at_ms INTEGER NOT NULL,
                name TEXT NOT NULL,
                input TEXT NOT NULL,
                output TEXT NOT NULL,
                duration_ms INTEGER NOT NULL,
                succeeded INTEGER NOT NULL,
                PRIMARY KEY (session_id, number)
            );
            CREATE TABLE performance (
                session_id TEXT PRIMARY KEY REFERENCES sessions (id),
                benchmark_id TEXT NOT NULL REFERENCES benchmarks (id),
                agent TEXT NOT NULL,
                at_ms INTEGER NOT NULL,
                score REAL NOT NULL,
                status TEXT NOT NULL,
                duration_ms INTEGER NOT NULL,
                prompt_digest TEXT NOT NULL
            );
            CREATE TABLE agent_configs (
                agent TEXT PRIMARY KEY,
                pace REAL NOT NULL,
                failure_rate REAL NOT NULL
            );
            CREATE INDEX performance_by_agent ON performance (agent, at_ms);
            CREATE INDEX performance_by_benchmark ON performance (benchmark_id, at_ms)",
}];

/// Brings the tables up to date.
pub(super) async fn apply(db: &impl Store) -> Result<()> {
    // One write each: a step that fails leaves those before it.
    db.write(async |tx: &mut Transaction<'_>| {
        tx.execute("CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL)", ()).await
    })
    .await?;
    for migration in MIGRATIONS {
        db.write(async move |tx: &mut Transaction<'_>| migration.apply(tx).await).await?;
    }
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let found: i64 = db
        .read(async |snapshot: &mut Snapshot<'_>| {
            let mut rows = snapshot.query("SELECT COALESCE(MAX(version), 0) FROM migrations", ()).await?;
            rows.next().await?.map_or(Ok(0), |row| row.get(0))
        })
        .await?;
    match found > newest {
        true => Err(Error::Config {
            field: "database",
            problem: format!("it has tables of version {found}, this program knows {newest}: use a newer program"),
        }),
        false => Ok(()),
    }
}

impl Migration {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let mut known = tx.query("SELECT 1 FROM migrations WHERE version >= ?1 LIMIT 1", (self.version,)).await?;
        if known.next().await?.is_some() {
            return Ok(());
        }
        drop(known);
        tx.execute_batch(self.sql).await?;
        tx.execute("INSERT INTO migrations VALUES (?1, ?2)", (self.version, self.name)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;

    #[test]
    fn versions_are_numbered_from_one_without_a_gap() {
        for (place, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, place as i64 + 1, "{}", migration.name);
        }
    }
}
