//! What the clients saw, kept small while they run.
//!
//! Writes are remembered by id, kind and hash; reads are checked as they end against the *floor*: whatever was
//! acknowledged, or seen by another reader, before this read began must be seen by it. Order is taken from one logical
//! clock, so "before" is exact and needs no wall clock:
//!
//! ```text
//! writer                    reader
//! append chunk 3 -> Ok
//!   tick 7
//!                           begins: tick 8
//!                           sees chunks 1, 2        <- chunk 3 vanished: 7 < 8
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::run::RunReport;
use super::workload::{Failure, LIST_LIMIT, Seen, SessionSeen, Write, WriteKind};

/// How a write ended, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned success: it must be there, once, unchanged.
    Acknowledged,
    /// It returned an error, panicked or never returned: it may be there.
    Unacknowledged,
    /// It was there before the run began: it must be there, once, unchanged.
    Prepared,
}

/// A write as the history keeps it: without its content.
#[derive(Clone, Debug)]
pub struct Written {
    pub write: WriteKey,
    pub hash: String,
    pub outcome: Outcome,
}

/// Which record a write makes or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKey {
    Session(i64),
    Chunk { session: i64, seq: i64 },
    Performance { session: i64 },
    Completion(i64),
}

impl From<&Write> for WriteKey {
    fn from(write: &Write) -> Self {
        match write.kind {
            WriteKind::OpenSession { .. } => WriteKey::Session(write.session),
            WriteKind::AppendLog { seq, .. } => WriteKey::Chunk { session: write.session, seq },
            WriteKind::RecordPerformance { .. } => WriteKey::Performance { session: write.session },
            WriteKind::CompleteSession { .. } => WriteKey::Completion(write.session),
        }
    }
}

/// The moment a read began, and what it must at least see.
pub struct Begun {
    tick: u64,
    sessions: usize,
    performances: BTreeMap<String, i64>,
}

/// What is known of one session at a tick; later entries of a session say more.
#[derive(Clone, Copy, Debug)]
struct Floor {
    tick: u64,
    chunks: i64,
    completed: bool,
}

/// How many performances of an agent there must at least be. Acknowledged and seen are two views of the same rows, so
/// the floor is the larger of them, never their sum.
#[derive(Clone, Copy, Debug, Default)]
struct Performances {
    acknowledged: i64,
    seen: i64,
}

/// What the reads found wrong.
#[derive(Clone, Debug, Default)]
pub struct ReadFindings {
    pub torn: u64,
    pub vanished: u64,
    pub changed: u64,
    /// The first few, in words.
    pub texts: Vec<String>,
}

#[derive(Default)]
struct Inner {
    writes: HashMap<i64, Written>,
    sessions: HashMap<i64, Vec<Floor>>,
    performances: BTreeMap<String, Performances>,
    /// Sessions of which is known that they were opened.
    opened: usize,
    findings: ReadFindings,
    failed: u64,
    rejected: u64,
    errors: BTreeMap<String, u64>,
}

/// The history of one run, shared by its clients.
#[derive(Default)]
pub struct History {
    clock: AtomicU64,
    inner: Mutex<Inner>,
}

/// Texts of findings, and distinct error texts, that are kept.
const KEPT: usize = 12;

impl History {
    /// A history that begins after `prepared` was written.
    pub fn after(prepared: &[Write]) -> Self {
        let history = Self::default();
        for write in prepared {
            history.begin_write(write);
            history.acknowledge(write);
        }
        for written in history.lock().writes.values_mut() {
            written.outcome = Outcome::Prepared;
        }
        history
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A write is about to begin: from now on its record may appear.
    pub fn begin_write(&self, write: &Write) {
        let written = Written { write: write.into(), hash: write.hash(), outcome: Outcome::Unacknowledged };
        self.lock().writes.insert(write.id, written);
    }

    /// The write returned success.
    pub fn acknowledge(&self, write: &Write) {
        let mut inner = self.lock();
        if let Some(written) = inner.writes.get_mut(&write.id) {
            written.outcome = Outcome::Acknowledged;
        }
        match &write.kind {
            WriteKind::OpenSession { .. } => inner.opened += 1,
            WriteKind::AppendLog { seq, .. } => self.raise(&mut inner, write.session, seq + 1, false),
            WriteKind::RecordPerformance { agent, .. } => {
                inner.performances.entry(agent.clone()).or_default().acknowledged += 1;
            }
            WriteKind::CompleteSession { .. } => self.raise(&mut inner, write.session, 0, true),
        }
    }

    /// The operation returned an error.
    pub fn fail(&self, failure: &Failure) {
        let mut inner = self.lock();
        inner.failed += 1;
        inner.rejected += u64::from(failure.rejected);
        let known = inner.errors.contains_key(&failure.message);
        let text = if known || inner.errors.len() < KEPT { failure.message.clone() } else { "(others)".to_owned() };
        *inner.errors.entry(text).or_default() += 1;
    }

    /// A read begins.
    pub fn begin_read(&self) -> Begun {
        let inner = self.lock();
        let floor = |(agent, known): (&String, &Performances)| (agent.clone(), known.acknowledged.max(known.seen));
        Begun {
            tick: self.tick(),
            sessions: inner.opened,
            performances: inner.performances.iter().map(floor).collect(),
        }
    }

    /// A read ended: holds what it saw against the floor of the moment it began, then raises the floor.
    pub fn end_read(&self, begun: Begun, seen: &Seen) {
        let mut inner = self.lock();
        match seen {
            Seen::Summary(agents) => Self::check_summary(&mut inner, &begun, agents),
            Seen::Sessions { listed, session } => {
                let floor = begun.sessions.min(LIST_LIMIT);
                if *listed < floor {
                    inner.findings.vanished += 1;
                    inner.findings.note(|| format!("{listed} sessions listed, {floor} were there before"));
                }
                let Some(session) = session else { return };
                Self::check_session(&mut inner, begun.tick, session);
                self.raise(&mut inner, session.id, session.chunks.len() as i64, session.completed);
            }
        }
    }

    fn check_summary(inner: &mut Inner, begun: &Begun, agents: &[(String, i64)]) {
        let seen: BTreeMap<&str, i64> = agents.iter().map(|(agent, count)| (agent.as_str(), *count)).collect();
        for (agent, floor) in &begun.performances {
            let count = seen.get(agent.as_str()).copied().unwrap_or(0);
            if count < *floor {
                inner.findings.vanished += 1;
                inner.findings.note(|| format!("agent {agent}: {count} performances seen, {floor} were there before"));
            }
        }
        for (agent, count) in agents {
            let known = inner.performances.entry(agent.clone()).or_default();
            known.seen = known.seen.max(*count);
        }
    }

    fn check_session(inner: &mut Inner, began: u64, seen: &SessionSeen) {
        let SessionSeen { id, completed, counted, chunks } = seen;
        let rows = chunks.len() as i64;
        let before = inner.sessions.get(id).map_or(&[][..], Vec::as_slice).iter().filter(|floor| floor.tick < began);
        let (floor, was_completed) =
            before.fold((0, false), |(most, any), floor| (most.max(floor.chunks), any || floor.completed));
        let findings = &mut inner.findings;
        if rows < floor {
            findings.vanished += 1;
            findings.note(|| format!("session {id}: a log of {rows} chunks, {floor} were there before"));
        }
        if was_completed && !completed {
            findings.vanished += 1;
            findings.note(|| format!("session {id}: running again after it was completed"));
        }
        if *counted != rows || chunks.iter().enumerate().any(|(index, chunk)| chunk.seq != index as i64) {
            findings.torn += 1;
            let seqs: Vec<i64> = chunks.iter().map(|chunk| chunk.seq).collect();
            findings.note(|| format!("session {id}: counts {counted} chunks, its log has {seqs:?}"));
        }
        for chunk in chunks.iter().filter(|chunk| !chunk.intact) {
            findings.changed += 1;
            findings.note(|| format!("session {id}: chunk {} does not agree with its hash", chunk.seq));
        }
    }

    /// Adds what is now known of a session, if it says more than what was known.
    fn raise(&self, inner: &mut Inner, session: i64, chunks: i64, completed: bool) {
        let tick = self.tick();
        let floors = inner.sessions.entry(session).or_default();
        let known = floors.iter().any(|floor| floor.chunks >= chunks && (floor.completed || !completed));
        if !known {
            floors.push(Floor { tick, chunks, completed });
        }
    }

    /// Writes so far, by id.
    pub fn writes(&self) -> HashMap<i64, Written> {
        self.lock().writes.clone()
    }

    /// What reads found so far.
    #[cfg(test)]
    pub fn read_findings(&self) -> ReadFindings {
        self.lock().findings.clone()
    }

    /// Adds what clients know by now: acknowledged writes, and what their reads found.
    pub fn count(&self, report: &mut RunReport) {
        let inner = self.lock();
        let acknowledged = inner.writes.values().filter(|written| written.outcome == Outcome::Acknowledged);
        report.acknowledged += acknowledged.count() as u64;
        report.torn += inner.findings.torn;
        report.vanished += inner.findings.vanished;
        report.changed += inner.findings.changed;
        for text in &inner.findings.texts {
            report.finding(|| format!("a reader: {text}"));
        }
    }

    /// Failed operations, the rejected ones among them, and all by text.
    pub fn failures(&self) -> (u64, u64, BTreeMap<String, u64>) {
        let inner = self.lock();
        (inner.failed, inner.rejected, inner.errors.clone())
    }
}

impl ReadFindings {
    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.texts.len() < KEPT {
            self.texts.push(text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::{ChunkSeen, Op, Spec};
    use super::*;

    fn session(id: i64, chunks: i64, completed: bool) -> Seen {
        let chunks: Vec<_> = (0..chunks).map(|seq| ChunkSeen { seq, intact: true }).collect();
        let session = SessionSeen { id, completed, counted: chunks.len() as i64, chunks };
        Seen::Sessions { listed: 1, session: Some(session) }
    }

    #[test]
    fn a_log_that_shrinks_is_found() {
        let history = History::default();
        let first = history.begin_read();
        history.end_read(first, &session(1, 3, false));
        let second = history.begin_read();
        history.end_read(second, &session(1, 2, false));
        assert_eq!(history.read_findings().vanished, 1);
    }

    #[test]
    fn a_read_that_overlaps_another_may_see_less() {
        let history = History::default();
        let (first, second) = (history.begin_read(), history.begin_read());
        history.end_read(first, &session(1, 3, false));
        history.end_read(second, &session(1, 2, false));
        assert_eq!(history.read_findings().vanished, 0);
    }

    #[test]
    fn a_completed_session_that_runs_again_is_found() {
        let history = History::default();
        let first = history.begin_read();
        history.end_read(first, &session(1, 0, true));
        let second = history.begin_read();
        history.end_read(second, &session(1, 0, false));
        assert_eq!(history.read_findings().vanished, 1);
    }

    #[test]
    fn a_read_must_see_what_was_acknowledged_before_it_began() {
        let spec = Spec { operations: 500, concurrency: 1, seed: 1, ..Spec::default() };
        let mut script = spec.clients().next().unwrap();
        let append = std::iter::from_fn(|| script.next_op()).find_map(|op| match op {
            Op::Write(write @ Write { kind: WriteKind::AppendLog { .. }, .. }) => Some(write),
            _ => None,
        });
        let append = append.unwrap();
        let history = History::default();
        let early = history.begin_read();
        history.begin_write(&append);
        history.acknowledge(&append);
        history.end_read(early, &session(append.session, 0, false));
        assert_eq!(history.read_findings().vanished, 0, "it began before the acknowledgement");
        let late = history.begin_read();
        history.end_read(late, &session(append.session, 0, false));
        assert_eq!(history.read_findings().vanished, 1);
    }

    #[test]
    fn a_session_that_disagrees_with_its_log_is_torn() {
        let history = History::default();
        let read = history.begin_read();
        let chunks = vec![ChunkSeen { seq: 0, intact: true }, ChunkSeen { seq: 2, intact: false }];
        let session = SessionSeen { id: 1, completed: false, counted: 2, chunks };
        history.end_read(read, &Seen::Sessions { listed: 1, session: Some(session) });
        let findings = history.read_findings();
        assert_eq!((findings.torn, findings.changed), (1, 1));
    }

    #[test]
    fn a_list_without_a_session_that_was_opened_before_is_found() {
        let spec = Spec { operations: 500, concurrency: 3, seed: 1, ..Spec::default() };
        let history = History::after(&spec.prepared());
        let read = history.begin_read();
        history.end_read(read, &Seen::Sessions { listed: 0, session: None });
        assert_eq!(history.read_findings().vanished, 1);
    }
}
