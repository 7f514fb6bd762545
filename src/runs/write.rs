//! What is written: each operation is one transaction, durable when it returns.

use std::time::{SystemTime, UNIX_EPOCH};

use super::model::{
    AgentConfig, BenchmarkId, Ended, NewSession, SessionId, SessionStatus, StepDone, ToolCall, prompt_digest,
};
use super::{Error, Result, Runs, Store};
use crate::constraint::ConstraintKind;
use crate::pool::Transaction;

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl<S: Store> Runs<S> {
    /// A session begins.
    ///
    /// # Errors
    /// [`Error::NoBenchmark`]; what [`PooledDatabaseWriter::execute`](crate::PooledDatabaseWriter::execute) returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, it has begun or has not.
    pub async fn create_session(&self, new: NewSession) -> Result<()> {
        let NewSession { id, benchmark, agent, interface, seed } = new;
        let status = SessionStatus::Running.as_str();
        let row = (id.as_str(), benchmark.as_str(), agent, interface, seed as i64, now_ms(), status);
        let sql = "INSERT INTO sessions (id, benchmark_id, agent, interface, seed, started_ms, status)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        match self.db.execute(sql, row).await {
            Ok(_) => Ok(()),
            Err(error) if is_foreign_key(&error) => Err(Error::NoBenchmark(benchmark)),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what an agent did, its part of the log and its call together, under the same conditions as
    /// [`append_log`](Self::append_log).
    ///
    /// # Errors
    /// As of [`append_log`](Self::append_log).
    ///
    /// # Cancel safety
    /// Dropped half-way, both are noted or neither.
    pub async fn append_step(&self, id: &SessionId, step: StepDone) -> Result<()> {
        let id = id.clone();
        let work = async move |tx: &mut Transaction<'_>| {
            is_running(tx, &id).await?;
            add_chunk(tx, &id, step.number, &step.content).await?;
            match step.call.clone() {
                Some(call) => add_call(tx, &id, call).await,
                None => Ok(()),
            }
        };
        self.db.write(work).await
    }

    /// Appends to the log of a session that is running. `number` is the part's place, from 1 on: one that is there already
    /// stays as it is, so that who does not know whether it was written can write it again.
    ///
    /// # Errors
    /// [`Error::NoSession`], [`Error::Over`]; what [`PooledDatabaseWriter::write`](crate::PooledDatabaseWriter::write)
    /// returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, it is appended or is not.
    pub async fn append_log(&self, id: &SessionId, number: u32, content: impl Into<String>) -> Result<()> {
        let (id, content) = (id.clone(), content.into());
        let work = async move |tx: &mut Transaction<'_>| {
            is_running(tx, &id).await?;
            add_chunk(tx, &id, number, &content).await
        };
        self.db.write(work).await
    }

    /// Notes a call of a tool by a session that is running, under the same conditions as [`append_log`](Self::append_log).
    ///
    /// # Errors
    /// As of [`append_log`](Self::append_log).
    ///
    /// # Cancel safety
    /// Dropped half-way, it is noted or is not.
    pub async fn record_tool_call(&self, id: &SessionId, call: ToolCall) -> Result<()> {
        let id = id.clone();
        let work = async move |tx: &mut Transaction<'_>| {
            is_running(tx, &id).await?;
            add_call(tx, &id, call.clone()).await
        };
        self.db.write(work).await
    }

    /// A session has ended: notes how, and the agent's performance with it.
    ///
    /// # Errors
    /// [`Error::NoSession`], [`Error::Over`]; what [`PooledDatabaseWriter::write`](crate::PooledDatabaseWriter::write)
    /// returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, both are noted or neither.
    pub async fn complete_session(&self, id: &SessionId, ended: Ended) -> Result<()> {
        let id = id.clone();
        let work = async move |tx: &mut Transaction<'_>| {
            let (benchmark, agent, started_ms) = is_running(tx, &id).await?;
            let Ended { succeeded, score, final_status } = ended.clone();
            let status = if succeeded { SessionStatus::Succeeded } else { SessionStatus::Failed };
            let now = now_ms();
            let sql = "UPDATE sessions SET ended_ms = ?2, status = ?3, score = ?4, final_status = ?5 WHERE id = ?1";
            tx.execute(sql, (id.as_str(), now, status.as_str(), score, final_status)).await?;
            let digest = prompt_digest(&prompt(tx, &benchmark).await?);
            let sql = "INSERT INTO performance
                       (session_id, benchmark_id, agent, at_ms, score, status, duration_ms, prompt_digest)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let duration = now - started_ms;
            let row = (id.as_str(), benchmark.as_str(), agent, now, score, status.as_str(), duration, digest);
            tx.execute(sql, row).await?;
            Ok(())
        };
        self.db.write(work).await
    }

    /// A session stops before its end. It can be [resumed](Self::resume_session).
    ///
    /// # Errors
    /// As of [`complete_session`](Self::complete_session).
    ///
    /// # Cancel safety
    /// Dropped half-way, it is noted or is not.
    pub async fn interrupt_session(&self, id: &SessionId) -> Result<()> {
        let id = id.clone();
        let work = async move |tx: &mut Transaction<'_>| {
            is_running(tx, &id).await?;
            change_status(tx, &id, SessionStatus::Interrupted).await
        };
        self.db.write(work).await
    }

    /// A session that was interrupted runs again. Its log goes on where it was.
    ///
    /// # Errors
    /// As of [`complete_session`](Self::complete_session).
    ///
    /// # Cancel safety
    /// Dropped half-way, it is noted or is not.
    pub async fn resume_session(&self, id: &SessionId) -> Result<()> {
        let id = id.clone();
        let work = async move |tx: &mut Transaction<'_>| match session(tx, &id).await?.0 {
            SessionStatus::Interrupted => change_status(tx, &id, SessionStatus::Running).await,
            SessionStatus::Running | SessionStatus::Succeeded | SessionStatus::Failed => Err(Error::Over(id.clone())),
        };
        self.db.write(work).await
    }

    /// From now on this agent works so.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::execute`](crate::PooledDatabaseWriter::execute) returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, it works so or as before.
    pub async fn put_agent_config(&self, config: &AgentConfig) -> Result<()> {
        let sql = "INSERT INTO agent_configs (agent, pace, failure_rate) VALUES (?1, ?2, ?3)
                   ON CONFLICT (agent) DO UPDATE SET pace = excluded.pace, failure_rate = excluded.failure_rate";
        self.db.execute(sql, (config.agent.as_str(), config.pace, config.failure_rate)).await?;
        Ok(())
    }

    /// Marks every session as interrupted that a process which is gone left running: how many.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::execute`](crate::PooledDatabaseWriter::execute) returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, all are marked or none.
    pub async fn interrupt_all(&self) -> Result<u64> {
        let sql = "UPDATE sessions SET status = ?1 WHERE status = ?2";
        let row = (SessionStatus::Interrupted.as_str(), SessionStatus::Running.as_str());
        Ok(self.db.execute(sql, row).await?)
    }
}

async fn add_chunk(tx: &mut Transaction<'_>, id: &SessionId, number: u32, content: &str) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO log_chunks (session_id, number, at_ms, content) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(sql, (id.as_str(), number, now_ms(), content)).await?;
    Ok(())
}

async fn add_call(tx: &mut Transaction<'_>, id: &SessionId, call: ToolCall) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO tool_calls
               (session_id, number, at_ms, name, input, output, duration_ms, succeeded)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let ToolCall { number, at_ms, name, input, output, duration_ms, succeeded } = call;
    tx.execute(sql, (id.as_str(), number, at_ms, name, input, output, duration_ms as i64, succeeded)).await?;
    Ok(())
}

fn is_foreign_key(error: &crate::Error) -> bool {
    error.constraint().is_some_and(|constraint| constraint.kind == ConstraintKind::ForeignKey)
}

async fn change_status(tx: &mut Transaction<'_>, id: &SessionId, status: SessionStatus) -> Result<()> {
    tx.execute("UPDATE sessions SET status = ?2 WHERE id = ?1", (id.as_str(), status.as_str())).await?;
    Ok(())
}

/// How far a session is, and its benchmark, agent and beginning.
async fn session(tx: &mut Transaction<'_>, id: &SessionId) -> Result<(SessionStatus, (BenchmarkId, String, i64))> {
    let sql = "SELECT status, benchmark_id, agent, started_ms FROM sessions WHERE id = ?1";
    let mut rows = tx.query(sql, (id.as_str(),)).await?;
    let row = rows.next().await?.ok_or_else(|| Error::NoSession(id.clone()))?;
    let status = row.get::<String>(0)?.parse()?;
    Ok((status, (BenchmarkId::from(row.get::<String>(1)?), row.get(2)?, row.get(3)?)))
}

/// The benchmark, agent and beginning of a session that is running.
async fn is_running(tx: &mut Transaction<'_>, id: &SessionId) -> Result<(BenchmarkId, String, i64)> {
    match session(tx, id).await? {
        (SessionStatus::Running, rest) => Ok(rest),
        _ => Err(Error::Over(id.clone())),
    }
}

async fn prompt(tx: &mut Transaction<'_>, id: &BenchmarkId) -> Result<String> {
    let mut rows = tx.query("SELECT prompt FROM benchmarks WHERE id = ?1", (id.as_str(),)).await?;
    let row = rows.next().await?.ok_or_else(|| Error::NoBenchmark(id.clone()))?;
    Ok(row.get(0)?)
}
