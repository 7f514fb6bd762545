//! The report of one run: what happened, in numbers with stable names.
//!
//! One schema for every subject and both engines: a child process prints it as one JSON object, the parent reads it,
//! the tables and the gate's verdict are made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What one run did and what was found afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Name and version of the engine.
    pub engine: String,
    /// Who holds the connections: `shared`, `separate`, `pool` or the name of a control.
    pub connections: String,
    /// The line that repeats this run.
    pub repeat: String,
    /// Operations that ended, well or not.
    pub operations: u64,
    /// Clients at once.
    pub concurrency: u64,
    /// Threads of the runtime.
    pub workers: u64,
    /// Decided every choice of the work.
    pub seed: u64,
    /// Whether the pool's connections were open before the first operation.
    pub warm: bool,

    /// Panics anywhere in the process.
    pub panics: u64,
    /// Panics by `file:line:column`.
    pub locations: BTreeMap<String, u64>,
    /// Panics by message.
    pub messages: BTreeMap<String, u64>,
    /// Operations that returned an error of any kind, `rejected` included.
    pub failed: u64,
    /// Of those, the ones the engine refused for what others were doing at the time.
    pub rejected: u64,
    /// Errors by text.
    pub errors: BTreeMap<String, u64>,
    /// Whether the run had to be given up: something never ended.
    pub hung: bool,
    /// Whether the process ended without a report: aborted, or killed by a signal.
    pub died: bool,
    /// Whether the run was stopped from outside before its operations were done.
    pub stopped: bool,

    /// Writes of this run that returned success.
    pub acknowledged: u64,
    /// Of those, the ones whose record is there at the end.
    pub found: u64,
    /// Writes that returned success, now or before the run, and whose record is missing at the end.
    pub lost: u64,
    /// Writes whose record is there more than once.
    pub duplicated: u64,
    /// Records that are not what was written.
    pub changed: u64,
    /// Half-applied writes: a session and its log do not agree.
    pub torn: u64,
    /// Times a reader missed what had been acknowledged, or seen, before it began.
    pub vanished: u64,
    /// Records of writes that returned an error or panicked.
    pub unacknowledged: u64,
    /// What, where, for the first findings of the counts above.
    pub findings: Vec<String>,
    /// `PRAGMA integrity_check` by the engine under test; empty if it was not asked.
    pub integrity: String,
    /// The same by SQLite, with the same row counts; empty if it was not asked.
    pub sqlite_integrity: String,

    /// Most connections alive at once, by the pool's own count; `None` without a pool.
    pub max_open: Option<u64>,
    /// Median latency of an operation, in microseconds.
    pub p50_us: u64,
    /// 99th percentile of the latency of an operation, in microseconds.
    pub p99_us: u64,
    /// Operations that ended, in a second.
    pub ops_per_s: f64,
    /// From the first operation to the last, in seconds.
    pub seconds: f64,
    /// Whether nothing above is a fault, and it was not stopped; see [`RunReport::faults`].
    pub ok: bool,
}

/// How many findings a report spells out.
const FINDINGS: usize = 12;

impl RunReport {
    /// Adds a finding; beyond the first few only the counts go on.
    pub fn finding(&mut self, text: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS {
            self.findings.push(text());
        }
    }

    /// What speaks against the run, each with its count; empty if it was clean.
    pub fn faults(&self) -> Vec<String> {
        let counts = [
            (self.panics, "panics"),
            (self.failed, "failed operations"),
            (self.lost, "acknowledged writes lost"),
            (self.duplicated, "writes applied twice"),
            (self.changed, "records changed"),
            (self.torn, "writes half applied"),
            (self.vanished, "records that vanished before a reader"),
        ];
        let mut faults: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        for (happened, what) in [(self.hung, "a hang"), (self.died, "the death of the process")] {
            if happened {
                faults.push(what.to_owned());
            }
        }
        for (by, verdict) in [("the engine", &self.integrity), ("SQLite", &self.sqlite_integrity)] {
            if !verdict.is_empty() && verdict != "ok" {
                faults.push(format!("integrity_check by {by}: {verdict}"));
            }
        }
        faults
    }

    /// What speaks against the run beside operations that failed.
    pub fn faults_beside_failures(&self) -> Vec<String> {
        Self { failed: 0, ..self.clone() }.faults()
    }

    /// Whether it was stopped before its end, and nothing is at fault until then: it shows nothing.
    pub fn was_only_stopped(&self) -> bool {
        self.stopped && self.faults().is_empty() && self.findings.is_empty()
    }

    /// Closes the report: `ok` says whether there are no faults and no findings, in a run that came to its end.
    pub fn conclude(mut self) -> Self {
        if self.operations == 0 && !self.stopped && self.faults().is_empty() {
            self.finding(|| "nothing was performed, so nothing is shown".to_owned());
        }
        self.ok = !self.stopped && self.faults().is_empty() && self.findings.is_empty();
        self
    }
}
