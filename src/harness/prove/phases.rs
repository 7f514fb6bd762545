//! The phases of the proof, and what a run of each must show.
//!
//! ```text
//! engine         connections   by              must show
//! turso 0.2.2    shared        the gate        the panic of the story, in every run        part of the proof
//! turso 0.2.2    separate      the gate        no panic                                    part of the proof
//! turso 0.2.2    shared        racing threads  whatever it is
//! turso 0.8.3    shared        racing threads  whatever it is
//! turso 0.8.3    the pool      racing threads  nothing at fault                            part of the proof
//! turso 0.8.3    the pool      generated SQL   what the engine alone does                  part of the proof
//! turso 0.8.3    the pool      transactions    strict serializability, by two checkers     part of the proof
//! turso 0.8.3    the pool      the service     nothing at fault                            part of the proof
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

/// The phase of the story's service.
pub const SERVICE: &str = "service, over HTTP";

/// The phase of generated programs of SQL.
pub const STATEMENTS: &str = "statements";

/// The phase of transactions that are judged.
pub const ISOLATION: &str = "isolation";

/// Operations of one race.
const RACE: u64 = 400;

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
    LoseNothing {
        operations: u64,
    },
    BeClean {
        operations: u64,
    },
    /// As many requests as there was time for, and each was answered well.
    Serve,
    /// Nothing is found by judges of its own.
    PassItsJudges {
        at_least: u64,
    },
    /// Nothing: it is shown as it is, and `ok` only says whether it was clean.
    JustRun,
}

impl Planned {
    /// Why the run is not what it must be, if it is not.
    pub(super) fn judge(&self, run: &RunReport) -> Option<String> {
        match self.must {
            Must::JustRun if run.ok => None,
            Must::JustRun => Some(run.faults().join(", ") + &first_finding(run)),
            Must::Reproduce => not_reproduced(run),
            Must::NotPanic => at_fault(run).or_else(|| not_overlapped(run)),
            Must::LoseNothing { operations } => at_fault(run).or_else(|| {
                if run.failed > run.rejected {
                    return Some(format!("failed for other reasons than a lock: {:?}", run.errors));
                }
                short_of(operations, run)
            }),
            Must::Serve => not_clean(run),
            Must::PassItsJudges { .. } if !run.ok => Some(run.faults().join(", ") + &first_finding(run)),
            Must::PassItsJudges { at_least } if run.operations < at_least => {
                Some(format!("performed {} of at least {at_least} operations", run.operations))
            }
            Must::PassItsJudges { .. } => None,
            Must::BeClean { operations } => not_clean(run).or_else(|| short_of(operations, run)),
        }
    }
}

fn first_finding(run: &RunReport) -> String {
    run.findings.first().map(|finding| format!(": {finding}")).unwrap_or_default()
}

/// The panic of the story, at its place, and no other.
fn not_reproduced(run: &RunReport) -> Option<String> {
    if run.panics == 0 {
        Some(format!("did not panic{}", first_finding(run)))
    } else if run.locations.keys().any(|location| location != KNOWN_LOCATION) {
        Some(format!("panicked elsewhere: {:?}", run.locations))
    } else if !run.messages.keys().all(|message| is_borrow_panic(message)) {
        Some(format!("panicked for another reason: {:?}", run.messages))
    } else {
        None
    }
}

/// Anything but operations that were refused.
fn at_fault(run: &RunReport) -> Option<String> {
    let faults = run.faults_beside_failures();
    match faults.is_empty() && run.findings.is_empty() {
        true => None,
        false => Some(faults.join(", ") + &first_finding(run)),
    }
}

/// Behind the gate an INSERT on another connection must have met the first one's lock. One that came late would not panic
/// either, and show nothing.
fn not_overlapped(run: &RunReport) -> Option<String> {
    if run.acknowledged == 0 {
        return Some("the first task wrote nothing".to_owned());
    }
    let met = !run.repeat.contains("--statement insert") || run.rejected == 1;
    (!met).then(|| "the two tasks did not overlap".to_owned())
}

fn not_clean(run: &RunReport) -> Option<String> {
    if !run.ok {
        return Some(run.faults().join(", ") + &first_finding(run));
    }
    for (by, verdict) in [("the engine", &run.integrity), ("SQLite", &run.sqlite_integrity)] {
        if verdict != "ok" {
            return Some(format!("{by} was not asked for the file's integrity"));
        }
    }
    if run.acknowledged == 0 {
        return Some("wrote nothing".to_owned());
    }
    match run.max_open {
        Some(2..) => None,
        count => Some(format!("{} connections at once are no pool", count.unwrap_or(1))),
    }
}

fn short_of(asked: u64, run: &RunReport) -> Option<String> {
    let performed = run.operations;
    (performed != asked).then(|| format!("performed {performed} of {asked} operations{}", first_finding(run)))
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
        phases.push(pool(prove, name, operations, if warm { "--warm" } else { "" }, &[2, 4, 8]));
    }
    let (name, operations) = if prove.quick { ("5,000 at once", 5_000) } else { ("20,000 at once", 20_000) };
    phases.push(pool(prove, name, operations, "", &[4]));
    let (name, writes) = if prove.quick { ("10,000 writes", 10_000) } else { ("100,000 writes", 100_000) };
    let mut lane = pool(prove, name, writes, "", &[4]);
    lane.runs = vec![stress(prove.subject, writes, 512, 4, prove.seed, "--write-every 1 --warm", 50)];
    phases.push(lane);
    phases.push(statements(prove));
    phases.push(isolation(prove));
    phases.push(service(prove));
    phases.push(affected_race(prove, "race, separate", "separate", Must::LoseNothing { operations: RACE }));
    let mut one_writer =
        affected_race(prove, "race, one writer", "separate --writers one --retry-ms 1000", Must::JustRun);
    // Whatever it is, it is shown by a few: some of them take that engine many seconds.
    one_writer.runs.truncate(4);
    phases.push(one_writer);
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
            "race --connections {how} --tasks 20 --workers 4 --operations {RACE} --seed {seed} --watchdog-s {watchdog}"
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

fn stress(
    subject: Kind,
    operations: u64,
    concurrency: u64,
    workers: u64,
    seed: u64,
    how: &str,
    watchdog: u64,
) -> Vec<String> {
    let name = subject.name();
    words(&format!(
        "stress --subject {name} --operations {operations} --concurrency {concurrency} --workers {workers} \
         --seed {seed} {how} --watchdog {watchdog} --json - --quiet"
    ))
}

fn todays_race(prove: &Prove) -> Planned {
    let runs = if prove.quick { 4 } else { 20 };
    let line = |run: u64| stress(Kind::Shared, 2_000, 20, 8, prove.seed.wrapping_add(run), "", 5);
    Planned {
        name: "race, shared, today",
        connections: Kind::Shared.name().to_owned(),
        required: false,
        program: prove.program.clone(),
        runs: (0..runs).map(line).collect(),
        at_once: 1,
        must: Must::JustRun,
    }
}

fn pool(prove: &Prove, name: &'static str, operations: u64, how: &str, workers: &[u64]) -> Planned {
    let line = |workers: &u64| stress(prove.subject, operations, operations, *workers, prove.seed, how, 50);
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

/// The story's service, polled over HTTP while benchmarks run. It is always the pool's: what a subject is broken in is shown
/// by the others.
fn service(prove: &Prove) -> Planned {
    let seconds = if prove.quick { 1 } else { 4 };
    let line = format!("stress --http --seconds {seconds} --seed {} --json - --quiet", prove.seed);
    Planned {
        name: SERVICE,
        connections: Kind::Pool.name().to_owned(),
        required: true,
        program: prove.program.clone(),
        runs: vec![words(&line)],
        at_once: 1,
        must: Must::Serve,
    }
}

/// A subject that is broken is so here in a way of its own.
fn is_broken(prove: &Prove) -> bool {
    !matches!(prove.subject, Kind::Pool | Kind::Mutex | Kind::OneHolder)
}

/// Generated programs of SQL, as the engine alone runs them. Who is put to it is the library, or a control if the subject is one.
fn statements(prove: &Prove) -> Planned {
    let programs = if prove.quick { 20 } else { 50 };
    let subject = if is_broken(prove) { "naive" } else { "pool" };
    let line = |part: u64| {
        let from = (prove.seed % 1_000_000 * 2 + part) * programs;
        let upto = from + programs;
        words(&format!("statements --subject {subject} --programs {from}..{upto} --json - --quiet"))
    };
    Planned {
        name: STATEMENTS,
        connections: subject.to_owned(),
        required: true,
        program: prove.program.clone(),
        runs: (0..2).map(line).collect(),
        at_once: 2,
        must: Must::PassItsJudges { at_least: programs },
    }
}

/// Transactions by every way in, judged by two checkers.
fn isolation(prove: &Prove) -> Planned {
    let transactions = if prove.quick { 1_000 } else { 4_000 };
    let (subject, flaw) = if is_broken(prove) { ("two-snapshots", " --flaw two-snapshots") } else { ("pool", "") };
    let line = format!("isolation --transactions {transactions} --seed {}{flaw} --json - --quiet", prove.seed);
    Planned {
        name: ISOLATION,
        connections: subject.to_owned(),
        required: true,
        program: prove.program.clone(),
        runs: vec![words(&line)],
        at_once: 1,
        must: Must::PassItsJudges { at_least: transactions },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(must: Must) -> Planned {
        Planned {
            name: "",
            connections: String::new(),
            required: true,
            program: PathBuf::new(),
            runs: vec![],
            at_once: 1,
            must,
        }
    }

    fn judge(must: Must, run: &RunReport) -> Option<String> {
        planned(must).judge(run)
    }

    /// Whether a required phase of these runs, of so many planned, holds.
    fn holds(runs: &[RunReport], planned_runs: usize) -> bool {
        planned(Must::LoseNothing { operations: 10 }).add_up(runs, planned_runs, std::time::Duration::ZERO).ok
    }

    #[test]
    fn a_phase_holds_if_every_planned_run_came_and_somebody_was_told_of_a_write() {
        let silent = || RunReport { acknowledged: 0, ..good() };
        assert!(holds(&[good(), silent()], 2));
        assert!(!holds(&[good()], 2), "one is missing");
        assert!(!holds(&[], 0), "none was planned");
        assert_eq!(judge(Must::LoseNothing { operations: 10 }, &silent()), None, "by itself it is as it must be");
        assert!(!holds(&[silent(), silent()], 2), "nothing could have been lost");
    }

    /// A run to which every judgement but [`Must::Reproduce`] says yes.
    fn good() -> RunReport {
        let ok = "ok".to_owned();
        RunReport {
            operations: 10,
            acknowledged: 2,
            max_open: Some(2),
            integrity: ok.clone(),
            sqlite_integrity: ok,
            ok: true,
            ..RunReport::default()
        }
    }

    #[test]
    fn a_clean_run_must_have_done_everything_side_by_side_and_been_asked_about_its_file() {
        let must = Must::BeClean { operations: 10 };
        assert_eq!(judge(must, &good()), None);
        for run in [
            RunReport { operations: 9, ..good() },
            RunReport { acknowledged: 0, ..good() },
            RunReport { max_open: Some(1), ..good() },
            RunReport { max_open: None, ..good() },
            RunReport { integrity: String::new(), ..good() },
            RunReport { sqlite_integrity: String::new(), ..good() },
            RunReport { ok: false, failed: 1, ..good() },
        ] {
            assert!(judge(must, &run).is_some(), "{run:?}");
        }
    }

    #[test]
    fn what_has_judges_of_its_own_must_pass_them_and_have_done_enough() {
        let must = Must::PassItsJudges { at_least: 10 };
        assert_eq!(judge(must, &good()), None);
        for run in [RunReport { operations: 9, ..good() }, RunReport { ok: false, ..good() }] {
            assert!(judge(must, &run).is_some(), "{run:?}");
        }
    }

    #[test]
    fn the_second_task_behind_the_gate_must_have_met_the_first() {
        let repeat = "gate --statement insert".to_owned();
        let met = RunReport { repeat, failed: 1, rejected: 1, ..good() };
        assert_eq!(judge(Must::NotPanic, &met), None);
        for run in [
            RunReport { failed: 0, rejected: 0, ..met.clone() },
            RunReport { acknowledged: 0, ..met.clone() },
            RunReport { panics: 1, ..met.clone() },
            RunReport { hung: true, ..met.clone() },
        ] {
            assert!(judge(Must::NotPanic, &run).is_some(), "{run:?}");
        }
    }

    #[test]
    fn refusals_are_all_that_may_fail_where_nothing_may_be_lost() {
        let must = Must::LoseNothing { operations: 10 };
        assert_eq!(judge(must, &RunReport { failed: 3, rejected: 3, ..good() }), None);
        for run in [
            RunReport { failed: 3, rejected: 2, ..good() },
            RunReport { lost: 1, ..good() },
            RunReport { died: true, ..good() },
            RunReport { operations: 9, ..good() },
        ] {
            assert!(judge(must, &run).is_some(), "{run:?}");
        }
    }

    #[test]
    fn only_the_panic_of_the_story_at_its_place_reproduces_it() {
        let once = |text: &str| std::iter::once((text.to_owned(), 1)).collect();
        let (locations, messages) = (once(KNOWN_LOCATION), once("RefCell already borrowed"));
        let story = RunReport { panics: 1, locations, messages, ..good() };
        assert_eq!(judge(Must::Reproduce, &story), None);
        for run in [
            good(),
            RunReport { locations: once("elsewhere.rs:1:1"), ..story.clone() },
            RunReport { messages: once("another reason"), ..story.clone() },
        ] {
            assert!(judge(Must::Reproduce, &run).is_some(), "{run:?}");
        }
    }
}
