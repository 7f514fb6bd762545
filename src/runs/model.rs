//! What there is: benchmarks, sessions, their logs, and how agents performed. Times are milliseconds since 1970, UTC.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// Names a benchmark: a digest of its name and prompt, so the same one has the same id everywhere.
    BenchmarkId
}

id! {
    /// Names a session.
    SessionId
}

impl BenchmarkId {
    /// Of a benchmark with this name and prompt.
    #[must_use]
    pub fn of(name: &str, prompt: &str) -> Self {
        let mut digest = Sha256::new();
        // Neither may run into the other.
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        digest.update(prompt);
        Self(hex(&digest.finalize()[..16]))
    }
}

impl SessionId {
    /// One that nobody has had, and that comes after those that were made before it.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }
}

/// The digest of a prompt.
pub(super) fn prompt_digest(prompt: &str) -> String {
    hex(&Sha256::digest(prompt)[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A task for agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Benchmark {
    /// Which.
    pub id: BenchmarkId,
    /// What people call it.
    pub name: String,
    /// What the agent is told.
    pub prompt: String,
    /// The whole of it, as it was written.
    pub content: String,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// Its agent is at work.
    Running,
    /// It ended, and the agent did what was asked.
    Succeeded,
    /// It ended, and the agent did not.
    Failed,
    /// Whoever ran it stopped before it ended. It can be run again from where it was.
    Interrupted,
}

impl SessionStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Succeeded, Self::Failed, Self::Interrupted];

    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl FromStr for SessionStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| Error::Status(text.to_owned()))
    }
}

impl fmt::Display for SessionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a session when it begins.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Which.
    pub id: SessionId,
    /// What is run.
    pub benchmark: BenchmarkId,
    /// Who runs it.
    pub agent: String,
    /// By which way the agent was called.
    pub interface: String,
    /// What the agent's choices are drawn from, so that a session that was interrupted goes on as it would have.
    pub seed: u64,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// [`SessionStatus::Succeeded`] or [`SessionStatus::Failed`].
    pub succeeded: bool,
    /// From 0 to 1.
    pub score: f64,
    /// In the agent's words.
    pub final_status: String,
}

/// One run of one benchmark by one agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// What is run.
    pub benchmark_id: BenchmarkId,
    /// Who runs it.
    pub agent: String,
    /// By which way the agent was called.
    pub interface: String,
    /// What the agent's choices are drawn from.
    pub seed: u64,
    /// When it began.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// How far it is.
    pub status: SessionStatus,
    /// From 0 to 1, once it has ended.
    pub score: Option<f64>,
    /// In the agent's words, once it has ended.
    pub final_status: Option<String>,
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogChunk {
    /// Its place, from 1 on, without a gap.
    pub number: u32,
    /// When it was written.
    pub at_ms: i64,
    /// What it says.
    pub content: String,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolCall {
    /// Its place, from 1 on, without a gap.
    pub number: u32,
    /// When it ended.
    pub at_ms: i64,
    /// Which tool.
    pub name: String,
    /// What it was given.
    pub input: String,
    /// What it gave.
    pub output: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether it did what it was called for.
    pub succeeded: bool,
}

/// Something that an agent did: what it says of it, and the tool that it called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepDone {
    /// Its place among all of them, from 1 on: that of its part of the log, and of its call.
    pub number: u32,
    /// What the log says.
    pub content: String,
    /// The call, which has the same number.
    pub call: Option<ToolCall>,
}

/// A session with everything that it wrote, all of one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionLog {
    /// The session. While it is running the log is what there is so far.
    pub session: Session,
    /// In their order.
    pub chunks: Vec<LogChunk>,
    /// In their order.
    pub tool_calls: Vec<ToolCall>,
}

/// How an agent did in a session that ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Performance {
    /// Which session.
    pub session_id: SessionId,
    /// Of which benchmark.
    pub benchmark_id: BenchmarkId,
    /// Who.
    pub agent: String,
    /// When it ended.
    pub at_ms: i64,
    /// From 0 to 1.
    pub score: f64,
    /// [`SessionStatus::Succeeded`] or [`SessionStatus::Failed`].
    pub status: SessionStatus,
    /// How long it took.
    pub duration_ms: i64,
    /// Of the prompt that it was given.
    pub prompt_digest: String,
}

/// How agents did, and what that comes to by agent, of one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PerformanceReport {
    /// Those that a filter lets through, the latest first.
    pub performances: Vec<Performance>,
    /// Of all sessions, by agent.
    pub summary: Vec<AgentSummary>,
}

/// How the built-in agent works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Its name.
    pub agent: String,
    /// So many times as quick as its benchmark says.
    pub pace: f64,
    /// The part of its calls that fail, from 0 to 1.
    pub failure_rate: f64,
}

impl AgentConfig {
    /// Of an agent of which nobody said anything.
    #[must_use]
    pub fn of(agent: impl Into<String>) -> Self {
        Self { agent: agent.into(), pace: 1.0, failure_rate: 0.05 }
    }

    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        let Self { agent, pace, failure_rate } = self;
        let is_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        match () {
            () if agent.is_empty() || agent.len() > 64 || !agent.chars().all(is_a_name) => {
                Err("agent: give it 1 to 64 letters, digits, - or _".to_owned())
            }
            () if !(0.01..=1000.0).contains(pace) => Err("pace: choose 0.01 to 1000".to_owned()),
            () if !(0.0..=1.0).contains(failure_rate) => Err("failure_rate: choose 0 to 1".to_owned()),
            () => Ok(()),
        }
    }
}

/// All sessions of an agent that ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AgentSummary {
    /// Who.
    pub agent: String,
    /// How many.
    pub runs: u64,
    /// How many of them succeeded.
    pub succeeded: u64,
    /// The mean, from 0 to 1.
    pub mean_score: f64,
    /// The mean.
    pub mean_duration_ms: f64,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Benchmarks.
    pub benchmarks: u64,
    /// Sessions.
    pub sessions: u64,
    /// Those that are running.
    pub running: u64,
    /// Parts of logs.
    pub log_chunks: u64,
    /// Calls of tools.
    pub tool_calls: u64,
    /// Rows of performance.
    pub performances: u64,
}
