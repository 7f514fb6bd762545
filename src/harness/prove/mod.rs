//! The main job: the failure reproduced on the engine that had it, today's engine under the same mistake, and the pool.
//!
//! Every run is made in a process of its own, by the affected engine's binary or by `poolproof stress`. The phases and
//! what each must show are in `phases`; here they are run, judged and added up. The verdict is "proved" only if every phase
//! that is part of the proof holds, each of its runs by itself; the others show what is, whatever it is.

mod phases;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::child::{self, ChildError};
use super::drive::Control;
use super::run::RunReport;
use super::subjects::Kind;
use phases::Planned;
pub use phases::{ISOLATION, SERVICE, STATEMENTS};

/// What to prove, with what.
#[derive(Clone, Debug)]
pub struct Prove {
    /// The `poolproof` binary.
    pub program: PathBuf,
    /// The affected engine's binary.
    pub affected: PathBuf,
    /// Who has to be clean: the pool, or a control that must not be.
    pub subject: Kind,
    /// Decides the work of every run.
    pub seed: u64,
    /// Fewer runs of the phases that have many, and 5,000 operations instead of 20,000.
    pub quick: bool,
}

/// What happens while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A phase begins.
    Began {
        /// Its name.
        name: &'a str,
        /// How many runs it has.
        runs: u64,
    },
    /// One of its runs ended.
    Run,
    /// The phase ended.
    Ended(&'a Phase),
}

/// The whole proof. Field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// "proved" or "not proved".
    pub verdict: &'static str,
    /// Whether it was made of fewer runs than usual.
    pub quick: bool,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// Decided the work of every run.
    pub seed: u64,
    /// From the first run to the last.
    pub seconds: f64,
    /// What was done, in order.
    pub phases: Vec<Phase>,
}

/// The verdict of a proof that holds.
pub const PROVED: &str = "proved";
/// The verdict of any other.
pub const NOT_PROVED: &str = "not proved";

impl Proof {
    /// Whether the verdict is "proved".
    #[must_use]
    pub fn holds(&self) -> bool {
        self.verdict == PROVED
    }

    /// The phases that are part of the proof and do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Phase> {
        self.phases.iter().filter(|phase| phase.required && !phase.ok)
    }
}

/// All runs of one phase, added up. Field names are stable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Phase {
    /// What it is called in the table.
    pub name: String,
    /// Name and version of the engine.
    pub engine: String,
    /// Who held the connections.
    pub connections: String,
    /// Whether the verdict depends on it.
    pub required: bool,
    /// Runs that were made.
    pub runs: u64,
    /// Runs that showed what the phase must show.
    pub as_expected: u64,
    /// Runs in which something panicked.
    pub runs_with_panic: u64,
    /// Operations of all runs.
    pub operations: u64,
    /// Panics of all runs.
    pub panics: u64,
    /// Panics by `file:line:column`.
    pub locations: BTreeMap<String, u64>,
    /// Operations the engine refused for what others were doing at the time.
    pub rejected: u64,
    /// Operations that returned an error of any kind, `rejected` included.
    pub failed: u64,
    /// Runs that never ended.
    pub hung: u64,
    /// Runs whose process ended without a report.
    pub died: u64,
    /// Writes that returned success.
    pub acknowledged: u64,
    /// Writes that returned success and whose record is missing at the end.
    pub lost: u64,
    /// Writes whose record is there more than once.
    pub duplicated: u64,
    /// Records that are not what was written.
    pub changed: u64,
    /// Half-applied writes.
    pub torn: u64,
    /// Times a reader missed what had been there before it began.
    pub vanished: u64,
    /// `integrity_check` by the engine: "ok", the first other answer, or empty if it was not asked.
    pub integrity: String,
    /// The same by SQLite, with the same row counts.
    pub sqlite_integrity: String,
    /// Most connections alive at once in any run, by the pool's own count.
    pub max_open: Option<u64>,
    /// Median of the runs' median latencies, in microseconds.
    pub p50_us: u64,
    /// The worst of the runs' 99th percentiles, in microseconds.
    pub p99_us: u64,
    /// Operations a second, over all runs.
    pub ops_per_s: f64,
    /// From its first run to its last.
    pub seconds: f64,
    /// Whether every run showed what the phase must show; for a phase that must show nothing, whether all were clean.
    pub ok: bool,
    /// For the first runs that did not: why, and the line that makes the run again.
    pub findings: Vec<String>,
}

/// Findings that a phase spells out.
const FINDINGS: usize = 8;

impl Prove {
    /// Runs all phases, or as many as there is time for until `control` stops it.
    ///
    /// # Errors
    /// If a child could not be run at all.
    pub fn run(&self, control: &Control, on: &mut dyn FnMut(Event<'_>)) -> Result<Proof, ChildError> {
        let began = Instant::now();
        let mut phases = Vec::new();
        for planned in phases::all(self) {
            if control.is_stopped() {
                break;
            }
            on(Event::Began { name: planned.name, runs: planned.runs.len() as u64 });
            let phase = planned.run(control, &mut || on(Event::Run))?;
            on(Event::Ended(&phase));
            phases.push(phase);
        }
        let stopped = control.is_stopped();
        let holds = !stopped && phases.iter().all(|phase| phase.ok || !phase.required);
        let verdict = if holds { PROVED } else { NOT_PROVED };
        let seconds = began.elapsed().as_secs_f64();
        Ok(Proof { verdict, quick: self.quick, stopped, seed: self.seed, seconds, phases })
    }
}

impl Planned {
    /// Makes the runs, some at once, and adds them up.
    fn run(self, control: &Control, on_run: &mut dyn FnMut()) -> Result<Phase, ChildError> {
        let began = Instant::now();
        let total = self.runs.len();
        let queue = Mutex::new(VecDeque::from(self.runs.clone()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let (done, ended) = std::sync::mpsc::channel();
        let mut reports = Vec::new();
        let mut error = None;
        thread::scope(|scope| {
            for _ in 0..self.at_once {
                let (done, next, program) = (done.clone(), &next, &self.program);
                scope.spawn(move || {
                    while !control.is_stopped()
                        && let Some(args) = next()
                    {
                        let outcome = child::run(program, &args, WATCHDOG);
                        if done.send(outcome).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            for outcome in ended {
                on_run();
                match outcome {
                    Ok(report) => reports.push(report),
                    // The rest would fail in the same way.
                    Err(cause) => {
                        queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        error.get_or_insert(cause);
                    }
                }
            }
        });
        match error {
            Some(error) if !control.is_stopped() => Err(error),
            _ => Ok(self.add_up(&reports, total, began.elapsed())),
        }
    }

    fn add_up(&self, reports: &[RunReport], total: usize, took: Duration) -> Phase {
        let mut phase = Phase {
            name: self.name.to_owned(),
            connections: self.connections.clone(),
            required: self.required,
            runs: reports.len() as u64,
            seconds: took.as_secs_f64(),
            ..Phase::default()
        };
        let mut medians: Vec<u64> = Vec::new();
        let mut busy_seconds = 0.0;
        for report in reports {
            match self.judge(report) {
                None => phase.as_expected += 1,
                Some(why) if phase.findings.len() < FINDINGS => {
                    phase.findings.push(format!("{why}; repeat: {}", report.repeat));
                }
                Some(_) => {}
            }
            if phase.engine.is_empty() {
                phase.engine.clone_from(&report.engine);
            }
            phase.runs_with_panic += u64::from(report.panics > 0);
            phase.operations += report.operations;
            phase.panics += report.panics;
            for (location, count) in &report.locations {
                *phase.locations.entry(location.clone()).or_default() += count;
            }
            phase.rejected += report.rejected;
            phase.failed += report.failed;
            phase.hung += u64::from(report.hung);
            phase.died += u64::from(report.died);
            phase.acknowledged += report.acknowledged;
            phase.lost += report.lost;
            phase.duplicated += report.duplicated;
            phase.changed += report.changed;
            phase.torn += report.torn;
            phase.vanished += report.vanished;
            keep_worst(&mut phase.integrity, &report.integrity);
            keep_worst(&mut phase.sqlite_integrity, &report.sqlite_integrity);
            phase.max_open = phase.max_open.max(report.max_open);
            phase.p99_us = phase.p99_us.max(report.p99_us);
            medians.push(report.p50_us);
            busy_seconds += report.seconds;
        }
        medians.sort_unstable();
        phase.p50_us = medians.get(medians.len() / 2).copied().unwrap_or(0);
        if busy_seconds > 0.0 {
            phase.ops_per_s = phase.operations as f64 / busy_seconds;
        }
        phase.ok = phase.as_expected == total as u64 && total > 0;
        if self.required && phase.acknowledged == 0 {
            phase.ok = false;
            phase.findings.push("no write was acknowledged in any run: nothing could have been lost".to_owned());
        }
        phase
    }
}

/// Longer than any run's own watchdog.
const WATCHDOG: Duration = Duration::from_secs(120);

/// "ok" only if every run that was asked said so.
fn keep_worst(kept: &mut String, verdict: &str) {
    if kept.is_empty() || kept == "ok" {
        verdict.clone_into(kept);
    }
}
