//! What the rounds found, in numbers with stable names.

use serde::{Deserialize, Serialize};

/// How many findings a report spells out.
const FINDINGS: usize = 12;

/// What became of all rounds together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KillReport {
    /// Name and version of the engine.
    pub engine: String,
    /// Who wrote.
    pub subject: String,
    /// Decided what was written and when children were killed.
    pub seed: u64,
    /// The line that does the same again. What a child is in the middle of when it is killed is up to the machine.
    pub repeat: String,

    /// Children killed.
    pub rounds: u64,
    /// Of those, the ones killed while they opened the file, before any acknowledgement was asked for.
    pub interrupted_openings: u64,
    /// Rounds that left a log from which the next had to recover.
    pub logs_recovered: u64,
    /// Rounds in which the child had begun to move the log into the file.
    pub checkpoints: u64,
    /// Files; each was written by one child after the other.
    pub databases: u64,

    /// Writes whose acknowledgement was printed.
    pub acknowledged: u64,
    /// Of those, the ones that were there afterwards.
    pub found: u64,
    /// Writes that are there though the kill came before their acknowledgement. That is no fault.
    pub unacknowledged: u64,

    /// Writes that were acknowledged, or there after an earlier round, and are not there.
    pub lost: u64,
    /// Times a write was there more than once.
    pub duplicated: u64,
    /// Times a write was there in part.
    pub torn: u64,
    /// Times a write was there that had been rolled back.
    pub undead: u64,
    /// Rows that are not what was written.
    pub changed: u64,
    /// Files that could not be opened or read afterwards.
    pub unreadable: u64,
    /// Files of which `integrity_check` by the engine is not content.
    pub unsound: u64,
    /// Files of which SQLite sees something else than the engine, `integrity_check` included.
    pub disagreements: u64,
    /// Children that hung, died by themselves, or were told of an error.
    pub complaints: u64,
    /// What, where, for the first of the counts above.
    pub findings: Vec<String>,

    /// From the first round to the last, in seconds.
    pub seconds: f64,
    /// Whether it was stopped from outside before its rounds were done.
    pub stopped: bool,
    /// Whether nothing above is a fault, and it was not stopped; see [`KillReport::faults`].
    pub ok: bool,
}

impl KillReport {
    /// Adds a finding; beyond the first few only the counts go on.
    pub(super) fn finding(&mut self, text: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS {
            self.findings.push(text());
        }
    }

    pub(super) fn unreadable(&mut self, at: &str, by: &str, error: &str) {
        self.unreadable += 1;
        self.finding(|| format!("{at}: {by} cannot read the file: {error}"));
    }

    /// What speaks against the rounds, each with its count; empty if they were clean.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let counts = [
            (self.lost, "writes lost"),
            (self.duplicated, "writes applied twice"),
            (self.torn, "writes half applied"),
            (self.undead, "writes there that were rolled back"),
            (self.changed, "rows changed"),
            (self.unreadable, "files unreadable"),
            (self.unsound, "files unsound"),
            (self.disagreements, "files that SQLite reads otherwise"),
            (self.complaints, "children that hung, died or met an error"),
        ];
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }

    /// Rounds in which nothing was acknowledged have shown nothing, nor have those of a run that was stopped.
    pub(super) fn conclude(mut self) -> Self {
        if self.acknowledged == 0 && !self.stopped && self.rounds > self.interrupted_openings {
            self.complaints += 1;
            self.finding(|| "nothing was acknowledged, so nothing is shown".to_owned());
        }
        self.ok = !self.stopped && self.faults().is_empty();
        self
    }
}
