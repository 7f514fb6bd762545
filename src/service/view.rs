//! What is shown of a session: running and completed are separate cases, with what each of them has.

use serde::Serialize;
use termtree::Tree;

use crate::runs::{BenchmarkId, LogChunk, Session, SessionId, SessionLog, SessionStatus, ToolCall};

/// How far an execution is.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(super) enum Progress<'a> {
    /// Its log is what there is so far.
    Running,
    /// Its log is complete.
    Completed { succeeded: bool, score: Option<f64>, final_status: Option<&'a str>, ended_ms: Option<i64> },
    /// Whoever ran it stopped. It can be resumed.
    Interrupted,
}

/// An execution.
#[derive(Debug, Serialize)]
pub(super) struct Execution<'a> {
    execution_id: &'a SessionId,
    benchmark_id: &'a BenchmarkId,
    agent: &'a str,
    seed: String,
    started_ms: i64,
    #[serde(flatten)]
    progress: Progress<'a>,
}

impl<'a> From<&'a Session> for Execution<'a> {
    fn from(session: &'a Session) -> Self {
        let Session { id, benchmark_id, agent, seed, started_ms, ended_ms, status, score, .. } = session;
        let (final_status, score, ended_ms) = (session.final_status.as_deref(), *score, *ended_ms);
        let progress = match status {
            SessionStatus::Running => Progress::Running,
            SessionStatus::Interrupted => Progress::Interrupted,
            SessionStatus::Succeeded => Progress::Completed { succeeded: true, score, final_status, ended_ms },
            SessionStatus::Failed => Progress::Completed { succeeded: false, score, final_status, ended_ms },
        };
        // As text: a script's numbers have 53 bits.
        let (execution_id, started_ms) = (id, *started_ms);
        Self { execution_id, benchmark_id, agent, seed: seed.to_string(), started_ms, progress }
    }
}

/// An execution, and how much it has written.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    #[serde(flatten)]
    execution: Execution<'a>,
    log_chunks: usize,
    tool_calls: usize,
}

impl<'a> From<&'a SessionLog> for Status<'a> {
    fn from(log: &'a SessionLog) -> Self {
        let (log_chunks, tool_calls) = (log.chunks.len(), log.tool_calls.len());
        Self { execution: (&log.session).into(), log_chunks, tool_calls }
    }
}

/// What an agent said in the latest execution of a benchmark; `execution` is `null` if there was none.
#[derive(Debug, Serialize)]
pub(super) struct FlowLog<'a> {
    benchmark_id: &'a BenchmarkId,
    execution: Option<Execution<'a>>,
    chunks: &'a [LogChunk],
}

impl<'a> FlowLog<'a> {
    pub(super) fn of(benchmark_id: &'a BenchmarkId, log: Option<&'a SessionLog>) -> Self {
        let execution = log.map(|log| (&log.session).into());
        Self { benchmark_id, execution, chunks: log.map_or(&[], |log| &log.chunks) }
    }
}

/// What an agent called in the latest execution of a benchmark; `execution` is `null` if there was none.
#[derive(Debug, Serialize)]
pub(super) struct TransactionLog<'a> {
    benchmark_id: &'a BenchmarkId,
    execution: Option<Execution<'a>>,
    tool_calls: &'a [ToolCall],
}

impl<'a> TransactionLog<'a> {
    pub(super) fn of(benchmark_id: &'a BenchmarkId, log: Option<&'a SessionLog>) -> Self {
        let execution = log.map(|log| (&log.session).into());
        Self { benchmark_id, execution, tool_calls: log.map_or(&[], |log| &log.tool_calls) }
    }
}

/// An execution as a tree, a line for each part of its log, with the call that belongs to it below.
pub(super) fn ascii_tree(benchmark: &BenchmarkId, agent: &str, log: Option<&SessionLog>) -> String {
    let Some(SessionLog { session, chunks, tool_calls }) = log else {
        return format!("{benchmark} by {agent}: not run yet\n");
    };
    let score = session.score.map(|score| format!(", score {score:.2}")).unwrap_or_default();
    let mut tree = Tree::new(format!("{} by {}: {}{score}", session.benchmark_id, session.agent, session.status));
    let mut calls = tool_calls.iter().peekable();
    for chunk in chunks {
        let mut said = Tree::new(one_line(&chunk.content));
        while let Some(call) = calls.next_if(|call| call.number <= chunk.number) {
            said.push(Tree::new(called(call)));
        }
        tree.push(said);
    }
    for call in calls {
        tree.push(Tree::new(called(call)));
    }
    tree.to_string()
}

fn called(call: &ToolCall) -> String {
    let ToolCall { name, input, output, duration_ms, .. } = call;
    let how = if call.succeeded { "" } else { "failed: " };
    one_line(&format!("{name}({input}) -> {how}{output} in {duration_ms} ms"))
}

/// Whatever would end a line, or move a terminal's cursor, is shown as what it is.
fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_whatever_was_logged() {
        assert_eq!(one_line("a\nb\u{1b}[2J ü"), "a\\nb\\u{1b}[2J ü");
    }

    #[test]
    fn what_was_never_run_says_so() {
        assert_eq!(ascii_tree(&BenchmarkId::from("b"), "a", None), "b by a: not run yet\n");
    }
}
