//! One description of the story's work, run by every engine and every pool.
//!
//! The story: a benchmark run writes (open a session, append log chunks, record the agent's performance, complete the
//! session) while a UI polls (the performance summary; the list of sessions, then one session's log). This file says
//! what those operations are, as SQL with parameters, and which of them each client performs: a pure function of a
//! [`Spec`]. It names no engine: whoever can execute and query ([`Client`]) can perform an [`Op`]. The affected engine's
//! crate compiles this very file.
//!
//! What makes the work checkable: every write carries an id and a SHA-256 prefix of its content, each session is written
//! by one client alone, and a session counts its own log chunks, in the same transaction that appends them. So a record
//! that is lost, doubled, torn or changed is recognised from the rows alone.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The tables of the story. `write_id` is deliberately not unique: a write that is applied twice must show as two rows,
/// not as a constraint error.
pub const SCHEMA: [&str; 5] = [
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY, benchmark TEXT NOT NULL, agent TEXT NOT NULL, status TEXT NOT NULL, \
     chunks INTEGER NOT NULL, score REAL, write_id INTEGER NOT NULL, hash TEXT NOT NULL, closed_by INTEGER, \
     closed_hash TEXT)",
    "CREATE TABLE session_logs (id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL, seq INTEGER NOT NULL, \
     content TEXT NOT NULL, write_id INTEGER NOT NULL, hash TEXT NOT NULL)",
    "CREATE TABLE agent_performance (id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL, agent TEXT NOT NULL, \
     score REAL NOT NULL, write_id INTEGER NOT NULL, hash TEXT NOT NULL)",
    "CREATE INDEX session_logs_by_session ON session_logs (session_id, seq)",
    "CREATE INDEX agent_performance_by_agent ON agent_performance (agent)",
];

/// Of this many consecutive operations one is a write in the story.
pub const OPERATIONS_PER_WRITE: u64 = 5;

/// An id is a round above this many bits of client number.
const CLIENT_BITS: u32 = 20;
/// The most clients that ids leave room for.
pub const MAX_CONCURRENCY: u64 = 1 << CLIENT_BITS;
/// Log chunks that a run appends before it records its performance and completes.
const CHUNKS_PER_SESSION: u32 = 4;
/// Sessions the UI's list shows.
pub const LIST_LIMIT: usize = 20;
const AGENTS: [&str; 3] = ["deterministic", "local-model", "remote-model"];
const COMPLETED: &str = "completed";

/// A value in SQL, in the words of no engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `NULL`.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// A text.
    Text(String),
}

impl Value {
    /// The integer, or the failure that says which column was something else.
    pub fn integer(&self, column: &str) -> Result<i64, Failure> {
        match self {
            Value::Integer(value) => Ok(*value),
            other => Err(Failure::unexpected(format!("{column} is {other:?}, not an integer"))),
        }
    }

    /// The text, or the failure that says which column was something else.
    pub fn text(&self, column: &str) -> Result<&str, Failure> {
        match self {
            Value::Text(value) => Ok(value),
            other => Err(Failure::unexpected(format!("{column} is {other:?}, not text"))),
        }
    }
}

/// Why an operation did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Whether the engine refused it for what others were doing at the time (`Misuse`, `Busy`, "database is locked"),
    /// as opposed to anything else.
    pub rejected: bool,
    /// The engine's words.
    pub message: String,
}

impl Failure {
    /// A refusal for concurrency.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self { rejected: true, message: message.into() }
    }

    /// Any other failure.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self { rejected: false, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Whoever can run SQL: a connection, a guard, a transaction, a snapshot.
pub trait Client: Send {
    /// Runs a statement that gives no rows; returns how many it changed.
    fn execute(&mut self, sql: &str, params: Vec<Value>) -> impl Future<Output = Result<u64, Failure>> + Send;
    /// Runs a query to its end.
    fn query(&mut self, sql: &str, params: Vec<Value>)
    -> impl Future<Output = Result<Vec<Vec<Value>>, Failure>> + Send;
}

/// Creates the tables and the sessions that [`Spec::prepared`] names, in one transaction.
pub async fn prepare(client: &mut impl Client, spec: &Spec) -> Result<(), Failure> {
    client.execute("BEGIN", vec![]).await?;
    for sql in SCHEMA {
        client.execute(sql, vec![]).await?;
    }
    for write in spec.prepared() {
        write.perform(client).await?;
    }
    client.execute("COMMIT", vec![]).await.map(drop)
}

/// How much work, from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Operations of all clients together.
    pub operations: u64,
    /// Clients, each performing its operations one after the other.
    pub concurrency: u64,
    /// Decides every choice below.
    pub seed: u64,
    /// Of this many consecutive operations one is a write; with 1 all are.
    pub write_every: u64,
}

impl Default for Spec {
    fn default() -> Self {
        Self { operations: 20, concurrency: 20, seed: 1, write_every: OPERATIONS_PER_WRITE }
    }
}

impl Spec {
    /// The clients, each with its share of the operations.
    pub fn clients(&self) -> impl Iterator<Item = Script> {
        let spec = *self;
        (0..self.concurrency).map(move |client| Script::new(spec, client))
    }

    /// Exactly one of each so many consecutive operations is a write; the seed decides which.
    fn is_write(&self, index: u64) -> bool {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(0);
        rng.set_word_pos(u128::from(index / self.write_every));
        u64::from(rng.next_u32()) % self.write_every == index % self.write_every
    }

    /// What exists before the first operation: the first session of each client that will write, at the stage where its
    /// script goes on.
    pub fn prepared(&self) -> Vec<Write> {
        self.clients().flat_map(|script| script.prepared).collect()
    }
}

/// The operations of one client, in order.
#[derive(Clone, Debug)]
pub struct Script {
    spec: Spec,
    client: u64,
    performed: u64,
    rng: ChaCha8Rng,
    run: Run,
    prepared: Vec<Write>,
}

impl Script {
    fn new(spec: Spec, client: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
        rng.set_stream(client + 1);
        let run = Run::new(client);
        // A client that performs one operation only must still be able to draw any of the four writes.
        let stage = rng.next_u32() % (CHUNKS_PER_SESSION + 3);
        let mut script = Self { spec, client, performed: 0, rng, run, prepared: vec![] };
        if (0..).map_while(|performed| script.index(performed)).any(|index| spec.is_write(index)) {
            script.prepared = (0..stage).map(|_| script.run.next(&mut script.rng)).collect();
        }
        script
    }

    /// The place of this client's operation among those of all clients, when they take turns.
    fn index(&self, performed: u64) -> Option<u64> {
        let index = performed.checked_mul(self.spec.concurrency)?.checked_add(self.client)?;
        (index < self.spec.operations).then_some(index)
    }

    /// The client's number, from 0.
    pub fn client(&self) -> u64 {
        self.client
    }

    /// The next operation; `None` when this client's share is done.
    pub fn next_op(&mut self) -> Option<Op> {
        let index = self.index(self.performed)?;
        self.performed += 1;
        Some(if self.spec.is_write(index) {
            Op::Write(self.run.next(&mut self.rng))
        } else if self.rng.next_u32().is_multiple_of(2) {
            Op::PerformanceSummary
        } else {
            Op::SessionLog { pick: self.rng.next_u32() }
        })
    }

    /// The last write did not succeed and may or may not have been applied: leave its session, as a failed run would.
    pub fn abandon_session(&mut self) {
        self.run.abandon();
    }
}

/// Where a client's current session stands.
#[derive(Clone, Debug)]
struct Run {
    client: u64,
    sessions: i64,
    writes: i64,
    step: u32,
}

impl Run {
    /// Clients' ids are disjoint, and a later round has larger ids: the UI lists the latest sessions.
    fn id(&self, round: i64) -> i64 {
        (round << CLIENT_BITS) | self.client as i64
    }

    fn new(client: u64) -> Self {
        Self { client, sessions: 0, writes: 0, step: 0 }
    }

    fn abandon(&mut self) {
        self.step = 0;
    }

    fn next(&mut self, rng: &mut ChaCha8Rng) -> Write {
        if self.step == 0 {
            self.sessions += 1;
        }
        self.writes += 1;
        let session = self.id(self.sessions);
        let agent = AGENTS[rng.next_u32() as usize % AGENTS.len()].to_owned();
        let kind = match self.step {
            0 => WriteKind::OpenSession { benchmark: format!("bench-{:02}", rng.next_u32() % 20), agent },
            step if step <= CHUNKS_PER_SESSION => {
                WriteKind::AppendLog { seq: i64::from(step) - 1, content: log_line(session, step, rng) }
            }
            step if step == CHUNKS_PER_SESSION + 1 => WriteKind::RecordPerformance { agent, score: score(rng) },
            _ => WriteKind::CompleteSession { score: score(rng) },
        };
        self.step = if matches!(kind, WriteKind::CompleteSession { .. }) { 0 } else { self.step + 1 };
        Write { id: self.id(self.writes), session, kind }
    }
}

fn log_line(session: i64, step: u32, rng: &mut ChaCha8Rng) -> String {
    let mut line = format!("session {session} step {step}:");
    for _ in 0..4 + rng.next_u32() % 12 {
        line.push_str(&format!(" {:016x}", rng.next_u64()));
    }
    line
}

/// A score in [0, 1] that every engine stores and returns exactly.
fn score(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32() % 1025) / 1024.0
}

/// One operation of the story.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The benchmark run writes.
    Write(Write),
    /// The UI asks for the performance of all agents: one statement.
    PerformanceSummary,
    /// The UI lists the latest sessions, then fetches the log of one of them: two statements of one snapshot.
    SessionLog {
        /// Which of the listed sessions, modulo their number.
        pick: u32,
    },
}

/// A write, with the id by which it is found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Stored with the record.
    pub id: i64,
    /// The session it belongs to.
    pub session: i64,
    /// What it does.
    pub kind: WriteKind,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteKind {
    /// A run begins: one row.
    OpenSession {
        /// The benchmark's id.
        benchmark: String,
        /// The agent's name.
        agent: String,
    },
    /// A run logs: one row, and the session's count of them, together.
    AppendLog {
        /// From 0, without gaps.
        seq: i64,
        /// What it logs.
        content: String,
    },
    /// A run is scored: one row.
    RecordPerformance {
        /// The agent's name.
        agent: String,
        /// From 0 to 1.
        score: f64,
    },
    /// A run ends: the session's row is changed.
    CompleteSession {
        /// From 0 to 1.
        score: f64,
    },
}

impl Write {
    /// The digest stored beside the content: 16 hexadecimal digits of SHA-256 over everything the write says.
    pub fn hash(&self) -> String {
        let content = match &self.kind {
            WriteKind::OpenSession { benchmark, agent } => format!("open|{benchmark}|{agent}"),
            WriteKind::AppendLog { seq, content } => format!("log|{seq}|{content}"),
            WriteKind::RecordPerformance { agent, score } => format!("performance|{agent}|{score}"),
            WriteKind::CompleteSession { score } => format!("complete|{score}"),
        };
        digest(&format!("{}|{}|{content}", self.id, self.session))
    }

    /// Runs the write's statements; whether they are one transaction is up to the caller.
    ///
    /// Parents come first: a statement that should change one row and changes none is a failure.
    pub async fn perform(&self, client: &mut impl Client) -> Result<(), Failure> {
        let (id, session, hash) = (Value::Integer(self.id), Value::Integer(self.session), Value::Text(self.hash()));
        match &self.kind {
            WriteKind::OpenSession { benchmark, agent } => {
                let sql = "INSERT INTO sessions (id, benchmark, agent, status, chunks, write_id, hash) \
                           VALUES (?1, ?2, ?3, 'running', 0, ?4, ?5)";
                let params = vec![session, Value::Text(benchmark.clone()), Value::Text(agent.clone()), id, hash];
                change_one(client, sql, params).await
            }
            WriteKind::AppendLog { seq, content } => {
                let sql = "INSERT INTO session_logs (session_id, seq, content, write_id, hash) \
                           VALUES (?1, ?2, ?3, ?4, ?5)";
                let params = vec![session.clone(), Value::Integer(*seq), Value::Text(content.clone()), id, hash];
                change_one(client, sql, params).await?;
                change_one(client, "UPDATE sessions SET chunks = chunks + 1 WHERE id = ?1", vec![session]).await
            }
            WriteKind::RecordPerformance { agent, score } => {
                let sql = "INSERT INTO agent_performance (session_id, agent, score, write_id, hash) \
                           VALUES (?1, ?2, ?3, ?4, ?5)";
                let params = vec![session, Value::Text(agent.clone()), Value::Real(*score), id, hash];
                change_one(client, sql, params).await
            }
            WriteKind::CompleteSession { score } => {
                let sql = "UPDATE sessions SET status = 'completed', score = ?2, closed_by = ?3, closed_hash = ?4 \
                           WHERE id = ?1";
                change_one(client, sql, vec![session, Value::Real(*score), id, hash]).await
            }
        }
    }

    /// Whether the write takes more than one statement, so that half of it could be applied.
    pub fn is_compound(&self) -> bool {
        matches!(self.kind, WriteKind::AppendLog { .. })
    }
}

async fn change_one(client: &mut impl Client, sql: &str, params: Vec<Value>) -> Result<(), Failure> {
    match client.execute(sql, params).await? {
        1 => Ok(()),
        changed => Err(Failure::unexpected(format!("changed {changed} rows instead of 1: {sql}"))),
    }
}

/// The first 16 hexadecimal digits of SHA-256.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What a poll of the UI saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The agents with the number of their recorded performances.
    Summary(Vec<(String, i64)>),
    /// The list of sessions, and one of them.
    Sessions {
        /// How many the list showed.
        listed: usize,
        /// The one that was looked at; `None` when the list was empty.
        session: Option<SessionSeen>,
    },
}

/// One session as a poll saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSeen {
    /// The session.
    pub id: i64,
    /// Whether its row says so.
    pub completed: bool,
    /// What the session's own row counts.
    pub counted: i64,
    /// The log's rows, in order.
    pub chunks: Vec<ChunkSeen>,
}

/// One row of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSeen {
    /// Its sequence number.
    pub seq: i64,
    /// Whether content and hash agree.
    pub intact: bool,
}

/// `GET /agent-performance`.
pub async fn performance_summary(client: &mut impl Client) -> Result<Seen, Failure> {
    let sql = "SELECT agent, COUNT(*), AVG(score) FROM agent_performance GROUP BY agent ORDER BY agent";
    let rows = client.query(sql, vec![]).await?;
    let agents =
        rows.iter().map(|row| Ok((column(row, 0)?.text("agent")?.to_owned(), column(row, 1)?.integer("count")?)));
    Ok(Seen::Summary(agents.collect::<Result<_, Failure>>()?))
}

/// `GET /sessions`, then `GET /flow-logs/{session}`: meaningful as one snapshot only.
pub async fn session_log(client: &mut impl Client, pick: u32) -> Result<Seen, Failure> {
    let sql = "SELECT id, status, chunks FROM sessions ORDER BY id DESC LIMIT ?1";
    let listed = client.query(sql, vec![Value::Integer(LIST_LIMIT as i64)]).await?;
    if listed.is_empty() {
        return Ok(Seen::Sessions { listed: 0, session: None });
    }
    let row = &listed[pick as usize % listed.len()];
    let id = column(row, 0)?.integer("id")?;
    let completed = column(row, 1)?.text("status")? == COMPLETED;
    let counted = column(row, 2)?.integer("chunks")?;
    let sql = "SELECT seq, content, write_id, hash FROM session_logs WHERE session_id = ?1 ORDER BY seq";
    let rows = client.query(sql, vec![Value::Integer(id)]).await?;
    let chunks = rows.iter().map(|row| {
        let (seq, write_id) = (column(row, 0)?.integer("seq")?, column(row, 2)?.integer("write_id")?);
        let kind = WriteKind::AppendLog { seq, content: column(row, 1)?.text("content")?.to_owned() };
        let written = Write { id: write_id, session: id, kind };
        Ok(ChunkSeen { seq, intact: column(row, 3)?.text("hash")? == written.hash() })
    });
    let chunks = chunks.collect::<Result<_, Failure>>()?;
    Ok(Seen::Sessions { listed: listed.len(), session: Some(SessionSeen { id, completed, counted, chunks }) })
}

/// The value at `index`, or a failure: an engine that returns short rows must not end the harness.
pub fn column(row: &[Value], index: usize) -> Result<&Value, Failure> {
    row.get(index).ok_or_else(|| Failure::unexpected(format!("a row of {} columns has no column {index}", row.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(spec: Spec) -> Vec<Vec<Op>> {
        spec.clients().map(|mut script| std::iter::from_fn(|| script.next_op()).collect()).collect()
    }

    #[test]
    fn one_operation_in_five_is_a_write_whatever_the_concurrency() {
        for concurrency in [1, 7, 20, 1_000] {
            let ops = ops(Spec { operations: 1_000, concurrency, seed: 4, ..Spec::default() });
            let all: Vec<_> = ops.iter().flatten().collect();
            let writes = all.iter().filter(|op| matches!(op, Op::Write(_))).count();
            assert_eq!((all.len(), writes), (1_000, 200));
        }
    }

    #[test]
    fn the_same_seed_is_the_same_work_and_another_is_not() {
        let spec = Spec { operations: 300, concurrency: 10, seed: 9, ..Spec::default() };
        assert_eq!(ops(spec), ops(spec));
        assert_ne!(ops(spec), ops(Spec { seed: 10, ..spec }));
    }

    #[test]
    fn no_two_writes_have_the_same_id() {
        let spec = Spec { operations: 2_000, concurrency: 16, seed: 2, ..Spec::default() };
        let prepared = spec.prepared().into_iter().map(|write| write.id);
        let written = ops(spec).into_iter().flatten().filter_map(|op| match op {
            Op::Write(write) => Some(write.id),
            _ => None,
        });
        let mut ids: Vec<_> = prepared.chain(written).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }

    #[test]
    fn clients_of_one_operation_draw_every_kind_of_write() {
        let ops = ops(Spec { operations: 1_000, concurrency: 1_000, seed: 1, ..Spec::default() });
        let kinds: std::collections::HashSet<_> = ops
            .iter()
            .flatten()
            .filter_map(|op| match op {
                Op::Write(write) => Some(std::mem::discriminant(&write.kind)),
                _ => None,
            })
            .collect();
        assert_eq!(kinds.len(), 4);
    }
}
