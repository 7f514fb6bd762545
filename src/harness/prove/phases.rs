//! The phases of the proof, and what a run of each must show.
//!
//! ```text
//! engine         connections   by              must show
//! turso 0.2.2    shared        the gate        the panic of the story, in every run        part of the proof
//! turso 0.2.2    separate      the gate        no panic                                    part of the proof
//! turso 0.2.2    shared        racing threads  whatever it is
//! turso 0.8.3    shared        racing threads  whatever it is
//! turso 0.8.3    the pool      racing threads  nothing at fault                            part of the proof
//! turso 0.2.2    separate      racing threads  no panic, hang or lost write                part of the proof
//! turso 0.2.2    separate      one writer      whatever it is: what a lane makes of it
//! turso 0.2.2    separate      its own I/O     whatever it is: a deadlock of its own
//! ```

use std::path::PathBuf;

use super::super::panics::is_borrow_panic;
use super::super::run::RunReport;
use super::super::subjects::Kind;
use super::Prove;

/// Where the engine of the story panics when its connection is shared: the WAL is borrowed while it is synced.
pub const KNOWN_LOCATION: &str = "turso_core-0.2.2/storage/pager.rs:1601:43";

/// The runs of one phase, before they are made.
pub(super) struct Planned {
    pub name: &'static str,
    pub connections: String,
    pub required: bool,
    pub program: PathBuf,
    pub runs: Vec<Vec<String>>,
    pub at_once: usize,
    must: Must,
}

/// What a run must show.
#[derive(Clone, Copy)]
enum Must {
    Reproduce,
    NotPanic,
    LoseNothing,
    BeClean { operations: u64 },
    JustRun,
}

impl Planned {
    /// Why the run is not what it must be, if it is not.
    pub(super) fn judge(&self, run: &RunReport) -> Option<String> {
        let RunReport { panics, lost, operations, .. } = *run;
        let trouble = || run.findings.first().map(|finding| format!(": {finding}")).unwrap_or_default();
        match self.must {
            Must::JustRun => None,
            Must::Reproduce => {
                let known = run.locations.keys().all(|location| location == KNOWN_LOCATION);
                let borrow = run.messages.keys().all(|message| is_borrow_panic(message));
                match panics {
                    0 => Some(format!("did not panic{}", trouble())),
                    _ if !known => Some(format!("panicked elsewhere: {:?}", run.locations)),
                    _ if !borrow => Some(format!("panicked for another reason: {:?}", run.messages)),
                    _ => None,
                }
            }
            Must::NotPanic | Must::LoseNothing if panics > 0 => Some(format!("panicked: {:?}", run.locations)),
            Must::NotPanic | Must::LoseNothing if run.hung || run.died => Some(run.faults().join(", ") + &trouble()),
            Must::NotPanic if run.acknowledged == 0 => Some(format!("wrote nothing{}", trouble())),
            Must::NotPanic | Must::LoseNothing if lost > 0 => Some(format!("lost {lost} acknowledged writes")),
            Must::LoseNothing if run.failed > run.rejected => {
                Some(format!("failed for other reasons than a lock: {:?}", run.errors))
            }
            Must::NotPanic | Must::LoseNothing if !run.findings.is_empty() => Some(format!("is at fault{}", trouble())),
            Must::NotPanic | Must::LoseNothing => None,
            Must::BeClean { operations: asked } if operations != asked => {
                Some(format!("performed {operations} of {asked} operations{}", trouble()))
            }
            Must::BeClean { .. } if run.acknowledged == 0 => Some("wrote nothing".to_owned()),
            Must::BeClean { .. } => {
                let unasked = [("engine", &run.integrity), ("SQLite", &run.sqlite_integrity)]
                    .into_iter()
                    .find(|(_, verdict)| verdict.is_empty());
                match unasked {
                    Some((by, _)) => Some(format!("integrity was not asked of the {by}{}", trouble())),
                    None if run.ok => None,
                    None => Some(format!("{}{}", run.faults().join(", "), trouble())),
                }
            }
        }
    }
}

/// All phases, in order.
pub(super) fn all(prove: &Prove) -> Vec<Planned> {
    let mut phases = vec![
        gate(prove, "gate, shared", "shared", Must::Reproduce),
        gate(prove, "gate, separate", "separate", Must::NotPanic),
        affected_race(prove, "race, shared", "shared --autocommit", Must::JustRun),
        todays_race(prove),
    ];
    for (name, operations, warm) in [
        ("20 at once, cold", 20, false),
        ("20 at once, warm", 20, true),
        ("1,000 at once, cold", 1_000, false),
        ("1,000 at once, warm", 1_000, true),
    ] {
        phases.push(pool(prove, name, operations, warm, &[2, 4, 8]));
    }
    let (name, operations) = if prove.quick { ("5,000 at once", 5_000) } else { ("20,000 at once", 20_000) };
    phases.push(pool(prove, name, operations, false, &[4]));
    phases.push(affected_race(prove, "race, separate", "separate", Must::LoseNothing));
    phases.push(affected_race(prove, "race, one writer", "separate --writers one --retry-ms 1000", Must::JustRun));
    phases.push(deadlock(prove));
    phases
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn affected(prove: &Prove, name: &'static str, connections: &str, must: Must) -> Planned {
    Planned {
        name,
        connections: connections.to_owned(),
        required: !matches!(must, Must::JustRun),
        program: prove.affected.clone(),
        runs: vec![],
        at_once: 1,
        must,
    }
}

fn gate(prove: &Prove, name: &'static str, connections: &str, must: Must) -> Planned {
    let runs = if prove.quick { 20 } else { 100 };
    let line = |run: u64| {
        let statement = if run.is_multiple_of(2) { "insert" } else { "select" };
        words(&format!("gate --connections {connections} --statement {statement}"))
    };
    Planned { runs: (0..runs).map(line).collect(), at_once: 2, ..affected(prove, name, connections, must) }
}

fn affected_race(prove: &Prove, name: &'static str, how: &str, must: Must) -> Planned {
    let runs = if prove.quick { 4 } else { 20 };
    // A run takes a fraction of a second. Where one may hang and be shown as it is, it is not waited for longer.
    let watchdog = if matches!(must, Must::JustRun) { 4 } else { 20 };
    let line = |run: u64| {
        let seed = prove.seed.wrapping_add(run);
        words(&format!(
            "race --connections {how} --tasks 20 --workers 4 --operations 400 --seed {seed} --watchdog-s {watchdog}"
        ))
    };
    let connections = how.split_whitespace().next().unwrap_or(how);
    Planned { runs: (0..runs).map(line).collect(), ..affected(prove, name, connections, must) }
}

/// Separate connections over the affected engine's own I/O wait for each other for ever: shown once, as it is.
fn deadlock(prove: &Prove) -> Planned {
    Planned {
        runs: vec![words("deadlock --watchdog-s 5")],
        ..affected(prove, "its own I/O", "separate", Must::JustRun)
    }
}

fn stress(subject: Kind, operations: u64, concurrency: u64, workers: u64, seed: u64, warm: bool) -> Vec<String> {
    let warm = if warm { " --warm" } else { "" };
    let name = subject.name();
    words(&format!(
        "stress --subject {name} --operations {operations} --concurrency {concurrency} --workers {workers} \
         --seed {seed}{warm} --watchdog 50 --json - --quiet"
    ))
}

fn todays_race(prove: &Prove) -> Planned {
    let runs = if prove.quick { 4 } else { 20 };
    let line = |run: u64| stress(Kind::Shared, 2_000, 20, 8, prove.seed.wrapping_add(run), false);
    Planned {
        name: "race, shared",
        connections: Kind::Shared.name().to_owned(),
        required: false,
        program: prove.program.clone(),
        runs: (0..runs).map(line).collect(),
        at_once: 1,
        must: Must::JustRun,
    }
}

fn pool(prove: &Prove, name: &'static str, operations: u64, warm: bool, workers: &[u64]) -> Planned {
    let line = |workers: &u64| stress(prove.subject, operations, operations, *workers, prove.seed, warm);
    Planned {
        name,
        connections: prove.subject.name().to_owned(),
        required: true,
        program: prove.program.clone(),
        runs: workers.iter().map(line).collect(),
        at_once: 1,
        must: Must::BeClean { operations },
    }
}
