//! `poolproof prove`: the main job.

mod table;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;
use poolproof::harness::affected;
use poolproof::harness::drive::Control;
use poolproof::harness::prove::{Event, ISOLATION, Phase, Proof, Prove, SERVICE, STATEMENTS};
use poolproof::harness::subjects::Kind;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::output::{bar, counted, is_stdout, json, number, reports, say, tell, write};
use crate::signals::stop_on_signal;
use crate::{Outcome, Subject, Trouble};

/// Reproduce the BorrowMutError, and prove that the pool ends it
///
/// Needs a clone of the repository, for it builds the engine that had the failure.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  poolproof prove\n  poolproof prove --json proof.json --junit proof.xml\n  \
                        poolproof prove --subject double-holder   # broken: must say \"not proved\"")]
pub struct Args {
    /// Who has to be clean: the pool, or what must not be proved
    #[arg(long, value_enum, default_value = "pool")]
    subject: Subject,
    /// Decides the work of every run, though not how threads interleave
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Fewer runs of gates and races, and 5,000 operations, not 20,000
    #[arg(long)]
    quick: bool,
    /// Write the proof as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the proof as a JUnit report to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs it; whether it is proved.
pub fn run(args: &Args) -> Result<Outcome, Trouble> {
    reports(args.json.as_deref(), args.junit.as_deref())?;
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let announce = || tell("building the affected engine (turso 0.2.2), once; about a minute on 2 cores");
    let affected = affected::find_or_build(&program, announce).map_err(|error| error.to_string())?;
    let prove = Prove { program, affected, subject: args.subject.0, seed: args.seed, quick: args.quick };

    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    tell(if args.quick {
        "proving: about 15 seconds"
    } else {
        "proving: about 30 seconds, a minute on a busy machine"
    });
    let mut progress = Progress::new();
    let proof = prove.run(&control, &mut |event| progress.show(&event)).map_err(|error| error.to_string())?;
    progress.clear();

    // Said before it is written down: a disk that is full by now must not swallow the verdict.
    let outputs = [args.json.as_deref(), args.junit.as_deref()];
    if !outputs.into_iter().flatten().any(is_stdout) {
        say(&text(&proof, args.subject.0, table::width()))?;
    }
    if let Some(file) = &args.json {
        json(file, &proof)?;
    }
    if let Some(file) = &args.junit {
        let text = junit(&proof).to_string().map_err(|error| format!("cannot write the JUnit report: {error}"))?;
        write(file, &text)?;
    }
    match proof.stopped {
        true => Ok(Outcome::Stopped),
        false => Ok(proof.holds().into()),
    }
}

/// A bar for the phase that runs, on a terminal; elsewhere a line for each phase that ended.
struct Progress {
    bar: ProgressBar,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { bar: ProgressBar::hidden(), terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Began { name, runs } => self.bar = bar(*runs, name),
            Event::Run => self.bar.inc(1),
            Event::Ended(phase) => {
                self.clear();
                if !self.terminal {
                    let Phase { name, engine, runs, seconds, .. } = phase;
                    tell(format_args!(
                        "{engine}, {name}: {} in {seconds:.1} s, {}",
                        counted(*runs, "run"),
                        mark(phase)
                    ));
                }
            }
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn mark(phase: &Phase) -> &'static str {
    match (phase.required, phase.ok) {
        (false, _) => "shown",
        (true, true) => "holds",
        (true, false) => "FAILS",
    }
}

/// What a person reads.
fn text(proof: &Proof, subject: Kind, width: u16) -> String {
    let mut lines = Vec::new();
    lines.push(table::of(&proof.phases, width));
    lines.push("holds: part of the proof, and as it must be; shown: whatever it is, for comparison.".to_owned());
    for phase in proof.phases.iter().filter(|phase| phase.rejected > 0) {
        let (rejected, operations) = (number(phase.rejected), number(phase.operations));
        lines.push(format!("{}, {}: the engine refused {rejected} of {operations}", phase.engine, phase.name));
    }
    for phase in proof.phases.iter().take(1) {
        lines.push(format!("{} of {} gated runs panicked at {}", phase.as_expected, phase.runs, places(phase)));
    }
    for phase in proof.phases.iter().filter(|phase| !phase.required && phase.panics > 0) {
        lines.push(format!(
            "{}, {}: {} of {} runs panicked, at {}",
            phase.engine,
            phase.name,
            phase.runs_with_panic,
            phase.runs,
            places(phase)
        ));
    }
    if let Some(most) = proof.phases.iter().filter_map(|phase| phase.max_open).max() {
        lines.push(format!("{}: at most {most} connections open in any run", subject.name()));
    }
    for phase in proof.phases.iter().filter(|phase| phase.ok) {
        let count = number(phase.operations);
        match phase.name.as_str() {
            STATEMENTS => lines.push(format!("statements: {count}, as the engine alone")),
            ISOLATION => {
                lines.push(format!("isolation: {count} transactions, strict serializable, by two checkers"));
            }
            _ => {}
        }
    }
    for phase in proof.phases.iter().filter(|phase| phase.name == SERVICE) {
        lines.push(format!("service: {}, {}", counted(phase.operations, "request"), counted(phase.failed, "failure")));
    }
    for phase in proof.failed() {
        lines.push(format!("\nnot as it must be: {}, {}, {}", phase.engine, phase.connections, phase.name));
        for finding in &phase.findings {
            lines.push(format!("  {finding}"));
        }
    }
    let how = match (proof.stopped, proof.quick) {
        (true, _) => ", stopped before its end",
        (false, true) => ", the quick way",
        (false, false) => "",
    };
    lines.push(format!("\nverdict: {} ({:.0} s{how})", proof.verdict, proof.seconds));
    lines.push(String::new());
    lines.join("\n")
}

/// The places of a phase's panics, the most frequent first.
fn places(phase: &Phase) -> String {
    let mut places: Vec<_> = phase.locations.iter().collect();
    places.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let shown: Vec<_> = places.iter().take(3).map(|(place, count)| format!("{place} (x {count})")).collect();
    match (shown.is_empty(), places.len() - shown.len()) {
        (true, _) => "no place".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn junit(proof: &Proof) -> Report {
    let mut report = Report::new("poolproof prove");
    if proof.stopped {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message("stopped before its end");
        let mut suite = TestSuite::new("the whole proof");
        suite.add_test_case(TestCase::new("runs to its end", status));
        report.add_test_suite(suite);
    }
    for phase in &proof.phases {
        let mut status = TestCaseStatus::success();
        if phase.required && !phase.ok {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(format!("{} of {} runs as expected", phase.as_expected, phase.runs));
            status.set_description(phase.findings.join("\n"));
        }
        let mut case = TestCase::new(phase.name.clone(), status);
        case.set_classname(format!("{} {}", phase.engine, phase.connections));
        case.set_time(std::time::Duration::from_secs_f64(phase.seconds));
        let mut suite = TestSuite::new(format!("{} {} {}", phase.engine, phase.connections, phase.name));
        suite.add_test_case(case);
        report.add_test_suite(suite);
    }
    report
}
