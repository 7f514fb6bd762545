//! Whether what the clients were told holds: the records at the end against the history.
//!
//! Reads every table once, through any [`Client`], and compares: each acknowledged write must be there exactly once and
//! say what was written; sessions and their logs must agree; nothing may be there that nobody wrote.

use std::collections::HashMap;

use super::history::{History, Outcome, WriteKey};
use super::run::RunReport;
use super::workload::{Client, Failure, Value, Write, WriteKind, column};

/// One record that carries a write id.
struct Record {
    id: i64,
    hash: String,
    /// Whether the stored hash is the digest of what is stored beside it.
    intact: bool,
    key: WriteKey,
}

/// Rows a table holds: sessions, session_logs, agent_performance.
pub type RowCounts = [i64; 3];

/// The tables whose rows [`row_counts`] counts.
pub const TABLES: [&str; 3] = ["sessions", "session_logs", "agent_performance"];

/// How many rows each table has.
pub async fn row_counts(client: &mut impl Client) -> Result<RowCounts, Failure> {
    let mut counts = [0; 3];
    for (count, table) in counts.iter_mut().zip(TABLES) {
        let rows = client.query(&format!("SELECT COUNT(*) FROM {table}"), vec![]).await?;
        *count = column(rows.first().map_or(&[][..], Vec::as_slice), 0)?.integer(table)?;
    }
    Ok(counts)
}

/// `PRAGMA integrity_check`: "ok", or what it says.
pub async fn integrity(client: &mut impl Client) -> Result<String, Failure> {
    let rows = client.query("PRAGMA integrity_check", vec![]).await?;
    let lines = rows.iter().map(|row| column(row, 0)?.text("integrity_check")).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.join("; "))
}

/// Holds every record against the history and adds what it finds to the report.
pub async fn final_state(client: &mut impl Client, history: &History, report: &mut RunReport) -> Result<(), Failure> {
    history.count(report);

    let sessions = client.query("SELECT * FROM sessions ORDER BY id", vec![]).await?;
    let logs = client.query("SELECT session_id, seq, content, write_id, hash FROM session_logs", vec![]).await?;
    let performances =
        client.query("SELECT session_id, agent, score, write_id, hash FROM agent_performance", vec![]).await?;

    let mut records: HashMap<i64, Vec<Record>> = HashMap::new();
    let mut keep = |record: Record| records.entry(record.id).or_default().push(record);
    for row in &sessions {
        keep(opened(row)?);
        completed(row)?.map(&mut keep);
    }
    for row in &logs {
        keep(chunk(row)?);
    }
    for row in &performances {
        keep(performance(row)?);
    }

    check_writes(history, &records, report);
    check_logs(&sessions, &logs, report)
}

/// Every acknowledged write once and unchanged; every record somebody's.
fn check_writes(history: &History, records: &HashMap<i64, Vec<Record>>, report: &mut RunReport) {
    let writes = history.writes();
    let mut ids: Vec<_> = writes.keys().copied().collect();
    ids.sort_unstable();
    for id in ids {
        let written = &writes[&id];
        let found = records.get(&id).map_or(&[][..], Vec::as_slice);
        let acknowledged = written.outcome == Outcome::Acknowledged;
        match found.len() {
            0 if written.outcome == Outcome::Unacknowledged => {}
            0 => {
                report.lost += 1;
                report.finding(|| format!("write {id}, {:?}: acknowledged, its record is missing", written.write));
            }
            count => {
                report.found += u64::from(acknowledged);
                report.unacknowledged += u64::from(written.outcome == Outcome::Unacknowledged);
                if count > 1 {
                    report.duplicated += 1;
                    report.finding(|| format!("write {id}, {:?}: its record is there {count} times", written.write));
                }
            }
        }
        for record in found {
            if !record.intact || record.hash != written.hash || record.key != written.write {
                report.changed += 1;
                report.finding(|| format!("write {id}, {:?}: its record is not what was written", written.write));
            }
        }
    }
    for id in records.keys().filter(|id| !writes.contains_key(id)) {
        report.changed += 1;
        report.finding(|| format!("a record with write id {id}, which nobody wrote"));
    }
}

/// Every session and its log agree, and every chunk has a session.
fn check_logs(sessions: &[Vec<Value>], logs: &[Vec<Value>], report: &mut RunReport) -> Result<(), Failure> {
    let mut chunks: HashMap<i64, Vec<i64>> = HashMap::new();
    for row in logs {
        let session = column(row, 0)?.integer("session_id")?;
        chunks.entry(session).or_default().push(column(row, 1)?.integer("seq")?);
    }
    for row in sessions {
        let (id, counted) = (column(row, 0)?.integer("id")?, column(row, 4)?.integer("chunks")?);
        let mut seqs = chunks.remove(&id).unwrap_or_default();
        seqs.sort_unstable();
        if counted != seqs.len() as i64 || seqs.iter().enumerate().any(|(index, seq)| *seq != index as i64) {
            report.torn += 1;
            report.finding(|| format!("session {id}: counts {counted} chunks, its log has {seqs:?}"));
        }
    }
    for session in chunks.keys() {
        report.torn += 1;
        report.finding(|| format!("session {session}: has a log but is not there"));
    }
    Ok(())
}

fn record(write: Write, hash: &Value) -> Result<Record, Failure> {
    let hash = hash.text("hash")?.to_owned();
    Ok(Record { id: write.id, intact: hash == write.hash(), hash, key: (&write).into() })
}

// Columns of sessions: id, benchmark, agent, status, chunks, score, write_id, hash, closed_by, closed_hash.

fn opened(row: &[Value]) -> Result<Record, Failure> {
    let kind = WriteKind::OpenSession {
        benchmark: column(row, 1)?.text("benchmark")?.to_owned(),
        agent: column(row, 2)?.text("agent")?.to_owned(),
    };
    let write = Write { id: column(row, 6)?.integer("write_id")?, session: column(row, 0)?.integer("id")?, kind };
    record(write, column(row, 7)?)
}

fn completed(row: &[Value]) -> Result<Option<Record>, Failure> {
    let (status, closed_by) = (column(row, 3)?.text("status")?, column(row, 8)?);
    match (status, closed_by) {
        ("running", Value::Null) => Ok(None),
        ("completed", Value::Integer(id)) => {
            let kind = WriteKind::CompleteSession { score: score(column(row, 5)?)? };
            let write = Write { id: *id, session: column(row, 0)?.integer("id")?, kind };
            record(write, column(row, 9)?).map(Some)
        }
        _ => Err(Failure::unexpected(format!("a session is {status} and closed by {closed_by:?}"))),
    }
}

fn chunk(row: &[Value]) -> Result<Record, Failure> {
    let kind = WriteKind::AppendLog {
        seq: column(row, 1)?.integer("seq")?,
        content: column(row, 2)?.text("content")?.to_owned(),
    };
    let write =
        Write { id: column(row, 3)?.integer("write_id")?, session: column(row, 0)?.integer("session_id")?, kind };
    record(write, column(row, 4)?)
}

fn performance(row: &[Value]) -> Result<Record, Failure> {
    let kind = WriteKind::RecordPerformance {
        agent: column(row, 1)?.text("agent")?.to_owned(),
        score: score(column(row, 2)?)?,
    };
    let write =
        Write { id: column(row, 3)?.integer("write_id")?, session: column(row, 0)?.integer("session_id")?, kind };
    record(write, column(row, 4)?)
}

fn score(value: &Value) -> Result<f64, Failure> {
    match value {
        Value::Real(score) => Ok(*score),
        Value::Integer(score) => Ok(*score as f64),
        other => Err(Failure::unexpected(format!("score is {other:?}, not a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::{Op, Spec, prepare};
    use super::*;

    /// SQLite in memory: the checks name no engine, so their controls need none of ours.
    struct Sqlite(rusqlite::Connection);

    impl Client for Sqlite {
        async fn execute(&mut self, sql: &str, params: Vec<Value>) -> Result<u64, Failure> {
            let params = rusqlite::params_from_iter(params.into_iter().map(to_sqlite));
            self.0.execute(sql, params).map(|changed| changed as u64).map_err(failure)
        }

        async fn query(&mut self, sql: &str, params: Vec<Value>) -> Result<Vec<Vec<Value>>, Failure> {
            let params = rusqlite::params_from_iter(params.into_iter().map(to_sqlite));
            let mut statement = self.0.prepare(sql).map_err(failure)?;
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| (0..columns).map(|index| row.get(index).map(from_sqlite)).collect();
            statement.query_map(params, row).map_err(failure)?.collect::<Result<_, _>>().map_err(failure)
        }
    }

    fn failure(error: rusqlite::Error) -> Failure {
        Failure::unexpected(error.to_string())
    }

    fn to_sqlite(value: Value) -> rusqlite::types::Value {
        match value {
            Value::Null => rusqlite::types::Value::Null,
            Value::Integer(value) => rusqlite::types::Value::Integer(value),
            Value::Real(value) => rusqlite::types::Value::Real(value),
            Value::Text(value) => rusqlite::types::Value::Text(value),
        }
    }

    fn from_sqlite(value: rusqlite::types::Value) -> Value {
        match value {
            rusqlite::types::Value::Null | rusqlite::types::Value::Blob(_) => Value::Null,
            rusqlite::types::Value::Integer(value) => Value::Integer(value),
            rusqlite::types::Value::Real(value) => Value::Real(value),
            rusqlite::types::Value::Text(value) => Value::Text(value),
        }
    }

    /// Performs a small workload faithfully, then lets `tamper` change the file behind the history's back.
    fn report_after(tamper: &str) -> RunReport {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let spec = Spec { operations: 400, concurrency: 4, seed: 3, ..Spec::default() };
            let mut sqlite = Sqlite(rusqlite::Connection::open_in_memory().unwrap());
            prepare(&mut sqlite, &spec).await.unwrap();
            let history = History::after(&spec.prepared());
            for mut script in spec.clients() {
                while let Some(op) = script.next_op() {
                    if let Op::Write(write) = op {
                        history.begin_write(&write);
                        write.perform(&mut sqlite).await.unwrap();
                        history.acknowledge(&write);
                    }
                }
            }
            sqlite.0.execute_batch(tamper).unwrap();
            let mut report = RunReport { operations: 400, ..RunReport::default() };
            final_state(&mut sqlite, &history, &mut report).await.unwrap();
            report.conclude()
        })
    }

    #[test]
    fn a_faithful_run_is_clean() {
        let report = report_after("");
        assert!(report.ok, "{report:?}");
        assert_eq!((report.acknowledged, report.found), (80, 80));
    }

    #[test]
    fn an_acknowledged_write_that_is_missing_is_lost() {
        let report = report_after("DELETE FROM agent_performance WHERE id = (SELECT MAX(id) FROM agent_performance)");
        assert_eq!((report.lost, report.ok), (1, false), "{report:?}");
    }

    #[test]
    fn an_update_that_is_undone_is_lost() {
        let report = report_after(
            "UPDATE sessions SET status = 'running', score = NULL, closed_by = NULL, closed_hash = NULL \
             WHERE id = (SELECT MIN(id) FROM sessions WHERE status = 'completed')",
        );
        assert_eq!((report.lost, report.ok), (1, false), "{report:?}");
    }

    #[test]
    fn a_write_that_is_applied_twice_is_duplicated() {
        let report = report_after(
            "INSERT INTO agent_performance (session_id, agent, score, write_id, hash) \
             SELECT session_id, agent, score, write_id, hash FROM agent_performance LIMIT 1",
        );
        assert_eq!((report.duplicated, report.ok), (1, false), "{report:?}");
    }

    #[test]
    fn a_record_that_is_not_what_was_written_is_changed() {
        let report = report_after("UPDATE session_logs SET content = content || '!' WHERE id = 1");
        assert_eq!((report.changed, report.ok), (1, false), "{report:?}");
    }

    #[test]
    fn a_record_that_nobody_wrote_is_changed() {
        let report = report_after(
            "INSERT INTO agent_performance (session_id, agent, score, write_id, hash) VALUES (1, 'x', 1, 99, 'y')",
        );
        assert!(report.changed >= 1 && !report.ok, "{report:?}");
    }

    #[test]
    fn a_log_without_its_count_is_torn() {
        let report = report_after("UPDATE sessions SET chunks = chunks + 1 WHERE id = (SELECT MIN(id) FROM sessions)");
        assert_eq!((report.torn, report.ok), (1, false), "{report:?}");
    }

    #[test]
    fn a_log_without_its_session_is_torn_and_lost() {
        let report =
            report_after("DELETE FROM sessions WHERE chunks > 0 AND id = (SELECT MIN(session_id) FROM session_logs)");
        assert!(report.torn == 1 && report.lost >= 1 && !report.ok, "{report:?}");
    }
}
