//! What is read: each operation sees one moment.
//!
//! What a page polls (a log, how agents did) is shared and kept until somebody writes to where it comes from: as many may ask
//! for it as want to.

use std::sync::Arc;

use super::filter::Select;
use super::model::{
    AgentConfig, AgentSummary, Benchmark, BenchmarkId, LogChunk, Performance, PerformanceReport, Session, SessionId,
    SessionLog, Statistics, ToolCall,
};
use super::{Error, PerformanceFilter, Result, Runs, SessionFilter, Store};
use crate::pool::{Row, Snapshot};
use turso::IntoParams;

const SESSION: &str = "id, benchmark_id, agent, interface, seed, started_ms, ended_ms, status, score, final_status";
const PERFORMANCE: &str = "session_id, benchmark_id, agent, at_ms, score, status, duration_ms, prompt_digest";
const SUMMARY: &str =
    "SELECT agent, COUNT(*), SUM(CASE status WHEN 'succeeded' THEN 1 ELSE 0 END), AVG(score), AVG(duration_ms)
     FROM performance GROUP BY agent ORDER BY agent";
const BENCHMARK: &str = "id, name, prompt, content";

impl<S: Store> Runs<S> {
    /// How agents did, the latest first.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn agent_performance(&self, filter: &PerformanceFilter) -> Result<Vec<Performance>> {
        let Select { sql, values } = filter.select(PERFORMANCE);
        self.db.read(async move |snapshot: &mut Snapshot<'_>| all(snapshot, &sql, values, performance).await).await
    }

    /// All that agents did, by agent.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn performance_summary(&self) -> Result<Vec<AgentSummary>> {
        self.db.read(async move |snapshot: &mut Snapshot<'_>| all(snapshot, SUMMARY, (), summary).await).await
    }

    /// How agents did, the latest first, and what that comes to by agent, all of one moment.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn performance_report(&self, filter: PerformanceFilter) -> Result<Arc<PerformanceReport>> {
        let read = async |snapshot: &mut Snapshot<'_>, filter: &PerformanceFilter| {
            let Select { sql, values } = filter.select(PERFORMANCE);
            let performances = all(snapshot, &sql, values, performance).await?;
            Ok(PerformanceReport { performances, summary: all(snapshot, SUMMARY, (), summary).await? })
        };
        self.db.read_cached(filter, read).await
    }

    /// Sessions, the latest first.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn list_sessions(&self, filter: &SessionFilter) -> Result<Vec<Session>> {
        let Select { sql, values } = filter.select(SESSION);
        self.db.read(async move |snapshot: &mut Snapshot<'_>| all(snapshot, &sql, values, session).await).await
    }

    /// A session with its log and its calls of tools, all of one moment.
    ///
    /// # Errors
    /// [`Error::NoSession`]; what [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn session_log(&self, id: SessionId) -> Result<Arc<SessionLog>> {
        let read = async |snapshot: &mut Snapshot<'_>, id: &SessionId| {
            let sql = format!("SELECT {SESSION} FROM sessions WHERE id = ?1");
            let found = all(snapshot, &sql, (id.as_str(),), session).await?.pop();
            log(snapshot, found.ok_or_else(|| Error::NoSession(id.clone()))?).await
        };
        self.db.read_cached(id, read).await
    }

    /// The latest session of a benchmark, of this agent if one is named, with its log; `None` if it was never run so.
    ///
    /// # Errors
    /// [`Error::NoBenchmark`]; what [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn latest_log(&self, id: BenchmarkId, agent: Option<String>) -> Result<Arc<Option<SessionLog>>> {
        let read = async |snapshot: &mut Snapshot<'_>, (id, agent): &(BenchmarkId, Option<String>)| {
            let (agent, benchmark) = (agent.clone(), Some(id.clone()));
            let filter = SessionFilter { benchmark, agent, limit: Some(1), status: None };
            let Select { sql, values } = filter.select(SESSION);
            if let Some(found) = all(snapshot, &sql, values, session).await?.pop() {
                return log(snapshot, found).await.map(Some);
            }
            let is_one = "SELECT 1 FROM benchmarks WHERE id = ?1";
            match all(snapshot, is_one, (id.as_str(),), |_| Ok(())).await?.is_empty() {
                true => Err(Error::NoBenchmark(id.clone())),
                false => Ok(None),
            }
        };
        self.db.read_cached((id, agent), read).await
    }

    /// How agents work of whom somebody said so, by name.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn agent_configs(&self) -> Result<Vec<AgentConfig>> {
        let sql = "SELECT agent, pace, failure_rate FROM agent_configs ORDER BY agent";
        self.db.read(async move |snapshot: &mut Snapshot<'_>| all(snapshot, sql, (), agent_config).await).await
    }

    /// A benchmark.
    ///
    /// # Errors
    /// [`Error::NoBenchmark`]; what [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn benchmark(&self, id: &BenchmarkId) -> Result<Benchmark> {
        let id = id.clone();
        let read = async move |snapshot: &mut Snapshot<'_>| {
            let sql = format!("SELECT {BENCHMARK} FROM benchmarks WHERE id = ?1");
            let found = all(snapshot, &sql, (id.as_str(),), benchmark).await?.pop();
            found.ok_or_else(|| Error::NoBenchmark(id.clone()))
        };
        self.db.read(read).await
    }

    /// All benchmarks, by name.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn benchmarks(&self) -> Result<Vec<Benchmark>> {
        let sql = format!("SELECT {BENCHMARK} FROM benchmarks ORDER BY name, id");
        self.db.read(async move |snapshot: &mut Snapshot<'_>| all(snapshot, &sql, (), benchmark).await).await
    }

    /// How much there is.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::read`](crate::PooledDatabaseWriter::read) returns.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn statistics(&self) -> Result<Statistics> {
        let sql = "SELECT (SELECT COUNT(*) FROM benchmarks), (SELECT COUNT(*) FROM sessions),
                          (SELECT COUNT(*) FROM sessions WHERE status = 'running'), (SELECT COUNT(*) FROM log_chunks),
                          (SELECT COUNT(*) FROM tool_calls), (SELECT COUNT(*) FROM performance)";
        let read = async move |snapshot: &mut Snapshot<'_>| all(snapshot, sql, (), statistics).await;
        Ok(self.db.read(read).await?.pop().unwrap_or_default())
    }
}

/// All rows of a query.
async fn all<T>(
    snapshot: &mut Snapshot<'_>,
    sql: &str,
    values: impl IntoParams,
    of: fn(&Row) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rows = snapshot.query(sql, values).await?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().await? {
        found.push(of(&row)?);
    }
    Ok(found)
}

/// A session with everything that it wrote.
async fn log(snapshot: &mut Snapshot<'_>, session: Session) -> Result<SessionLog> {
    let id = session.id.as_str();
    let sql = "SELECT number, at_ms, content FROM log_chunks WHERE session_id = ?1 ORDER BY number";
    let chunks = all(snapshot, sql, (id,), chunk).await?;
    let sql = "SELECT number, at_ms, name, input, output, duration_ms, succeeded FROM tool_calls
               WHERE session_id = ?1 ORDER BY number";
    let tool_calls = all(snapshot, sql, (id,), tool_call).await?;
    Ok(SessionLog { session, chunks, tool_calls })
}

fn agent_config(row: &Row) -> Result<AgentConfig> {
    Ok(AgentConfig { agent: row.get(0)?, pace: row.get(1)?, failure_rate: row.get(2)? })
}

fn count(row: &Row, column: usize) -> Result<u64> {
    Ok(row.get::<i64>(column)?.unsigned_abs())
}

fn session(row: &Row) -> Result<Session> {
    Ok(Session {
        id: SessionId::from(row.get::<String>(0)?),
        benchmark_id: BenchmarkId::from(row.get::<String>(1)?),
        agent: row.get(2)?,
        interface: row.get(3)?,
        seed: row.get::<i64>(4)? as u64,
        started_ms: row.get(5)?,
        ended_ms: row.get(6)?,
        status: row.get::<String>(7)?.parse()?,
        score: row.get(8)?,
        final_status: row.get(9)?,
    })
}

fn performance(row: &Row) -> Result<Performance> {
    Ok(Performance {
        session_id: SessionId::from(row.get::<String>(0)?),
        benchmark_id: BenchmarkId::from(row.get::<String>(1)?),
        agent: row.get(2)?,
        at_ms: row.get(3)?,
        score: row.get(4)?,
        status: row.get::<String>(5)?.parse()?,
        duration_ms: row.get(6)?,
        prompt_digest: row.get(7)?,
    })
}

fn summary(row: &Row) -> Result<AgentSummary> {
    Ok(AgentSummary {
        agent: row.get(0)?,
        runs: count(row, 1)?,
        succeeded: count(row, 2)?,
        mean_score: row.get(3)?,
        mean_duration_ms: row.get(4)?,
    })
}

fn chunk(row: &Row) -> Result<LogChunk> {
    Ok(LogChunk { number: row.get(0)?, at_ms: row.get(1)?, content: row.get(2)? })
}

fn tool_call(row: &Row) -> Result<ToolCall> {
    Ok(ToolCall {
        number: row.get(0)?,
        at_ms: row.get(1)?,
        name: row.get(2)?,
        input: row.get(3)?,
        output: row.get(4)?,
        duration_ms: count(row, 5)?,
        succeeded: row.get(6)?,
    })
}

fn benchmark(row: &Row) -> Result<Benchmark> {
    Ok(Benchmark {
        id: BenchmarkId::from(row.get::<String>(0)?),
        name: row.get(1)?,
        prompt: row.get(2)?,
        content: row.get(3)?,
    })
}

fn statistics(row: &Row) -> Result<Statistics> {
    Ok(Statistics {
        benchmarks: count(row, 0)?,
        sessions: count(row, 1)?,
        running: count(row, 2)?,
        log_chunks: count(row, 3)?,
        tool_calls: count(row, 4)?,
        performances: count(row, 5)?,
    })
}
