//! `poolproof isolation`: transactions by every way in, recorded and judged; and `poolproof check`: a history from a file, judged.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use clap::ValueEnum;
use clap::builder::PossibleValue;
use indicatif::ProgressBar;
use poolproof::Mode;
use poolproof::harness::drive::Control;
use poolproof::harness::isolation::{
    Flaw, Isolation, IsolationReport, Judged, Level, Shape, Verdict, VerdictReport, Workload,
};
use poolproof::harness::stress::MAX_WORKERS;
use serde::Serialize;

use crate::number::from_to;
use crate::output::{counted, is_stdout, json, number, say, tell, verdict, watched, writable, write};
use crate::signals::stop_on_signal;
use crate::{Outcome, Trouble};

const MAX_TRANSACTIONS: u64 = 1_000_000;

/// A level as an argument.
#[derive(Clone, Copy, Debug)]
struct AtLevel(Level);

impl ValueEnum for AtLevel {
    fn value_variants<'a>() -> &'a [Self] {
        &[AtLevel(Level::StrictSerializable), AtLevel(Level::Serializable), AtLevel(Level::SnapshotIsolation)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// What transactions do, as an argument.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OfShape {
    /// They append to lists, and read them
    ListAppend,
    /// They write registers, and read them
    RwRegister,
}

/// A flaw as an argument.
#[derive(Clone, Copy, Debug)]
struct Planted(Flaw);

impl ValueEnum for Planted {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Planted; Flaw::ALL.len()] = {
            let mut all = [Planted(Flaw::TwoSnapshots); Flaw::ALL.len()];
            let mut index = 0;
            while index < all.len() {
                all[index] = Planted(Flaw::ALL[index]);
                index += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// Run transactions by every way in, and judge their isolation
///
/// Two checkers judge: by the graph of dependencies, and by the order of commits.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  poolproof isolation --transactions 20000 --history run.jsonl\n  \
                        poolproof isolation --mvcc   # snapshot isolation\n  \
                        poolproof isolation --flaw two-snapshots   # broken: must not hold\n\n\
                        Flaws: two-snapshots, old-snapshot, stale-answers, before-own-write,\n  \
                        long-fork, lost-update, reads-before,\n  \
                        uncommitted-reads, unwritten, done-twice, in-pieces")]
pub struct Args {
    /// Transactions of all clients, a multiple of their number
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = from_to(1, MAX_TRANSACTIONS))]
    transactions: u64,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = from_to(1_u64, 64))]
    concurrency: u64,
    /// Lists or registers; guards write a quarter of them
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = from_to(2_u64, 1_000))]
    keys: u64,
    /// What transactions do
    #[arg(long, value_enum, default_value = "list-append")]
    shape: OfShape,
    /// Threads of the runtime
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = from_to(1, MAX_WORKERS))]
    workers: usize,
    /// Decides the work, though not how the threads interleave
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// In MVCC mode, judged by snapshot isolation
    #[arg(long)]
    mvcc: bool,
    /// Plant a flaw, which must not hold
    #[arg(long, value_enum, hide_possible_values = true, value_name = "FLAW")]
    flaw: Option<Planted>,
    /// Write what was recorded to FILE, in Elle's format (lines of JSON)
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Write the report as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// Runs it; whether it holds.
pub fn run(args: &Args) -> Result<Outcome, Trouble> {
    writable(args.json.as_deref())?;
    writable(args.history.as_deref())?;
    let both = [&args.json, &args.history].map(|file| file.as_deref().is_some_and(is_stdout));
    if both == [true, true] {
        return Err("--json and --history both go to stdout; name a file for one of them".to_owned());
    }
    if args.json.is_some() && args.json == args.history {
        return Err("--json and --history name the same file; name two".to_owned());
    }
    let shape = match args.shape {
        OfShape::ListAppend => Shape::ListAppend,
        OfShape::RwRegister => Shape::RwRegister,
    };
    let (mode, level) = match args.mvcc {
        true => (Mode::Mvcc, Level::SnapshotIsolation),
        false => (Mode::Wal, Level::StrictSerializable),
    };
    let processes = args.concurrency.min(args.transactions);
    let workload = Workload {
        shape,
        mode,
        processes: processes as i64,
        keys: args.keys,
        transactions: args.transactions.div_ceil(processes),
        seed: args.seed,
        flaw: args.flaw.map(|Planted(flaw)| flaw),
        ..Workload::default()
    };
    let isolation = Isolation { workload, level, workers: args.workers };
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let length = processes * isolation.workload.transactions;
    let moves = |bar: &ProgressBar| {
        bar.set_position(control.performed());
        if control.is_stopped() || control.performed() >= length {
            bar.set_message("judging");
        }
    };
    let report = watched((!args.quiet).then_some((length, "transactions")), moves, || isolation.run(&control))?;
    let only_stopped = report.run.was_only_stopped();
    if !args.quiet && both == [false, false] {
        say(&text(&report, args.flaw.is_some()))?;
    }
    if !report.run.ok && !only_stopped && (args.quiet || both[1]) {
        tell(ends(&report).join("; "));
    }
    if let Some(file) = &args.history {
        write(file, &report.history.to_json_lines())?;
    }
    if let Some(file) = &args.json {
        json(file, &report)?;
    }
    if only_stopped { Ok(Outcome::Stopped) } else { Ok(report.run.ok.into()) }
}

/// What a person reads.
fn text(report: &IsolationReport, is_broken: bool) -> String {
    let run = &report.run;
    let mut lines = vec![format!(
        "{}, {}, {} on {}: {} ({})",
        run.engine,
        run.connections,
        counted(run.concurrency, "client"),
        counted(run.workers, "thread"),
        counted(run.operations, "transaction"),
        report.found.shape
    )];
    lines.push(format!(
        "in {:.2} s, {:.0}/s: {} committed, {} refused, {} unknown",
        run.seconds,
        run.ops_per_s,
        number(report.committed),
        number(report.refused),
        number(report.unknown)
    ));
    lines.extend(run.locations.iter().map(|(location, count)| format!("panic x {count} at {location}")));
    lines.push(report.verdict.trim_end().to_owned());
    let found = &report.found;
    if report.run.ok && found.judged_by_order == 0 && found.level == Level::StrictSerializable.name() {
        lines.push("the second checker judged nothing: give more --transactions, or more --keys".to_owned());
    }
    if report.run.ok && is_broken {
        lines.push("the flaw was not seen: give more --transactions".to_owned());
    }
    lines.extend(ends(report));
    lines.push(String::new());
    lines.join("\n")
}

fn ends(report: &IsolationReport) -> Vec<String> {
    let mut faults = report.run.faults();
    let found = &report.found;
    if !found.anomalies.is_empty() {
        faults.push(format!("not {}: {}", found.level, found.anomalies.join(", ")));
    } else if !found.violations_by_order.is_empty() {
        faults.push(format!("not {} in the order of commits", found.level));
    }
    verdict(report.run.ok, report.run.stopped, &faults, &report.run.repeat)
}

/// Judge the isolation of a history in one of Elle's formats
///
/// Lines of JSON, a JSON array, or EDN; of append and r, or of w and r.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  poolproof check fixtures/histories/write-skew.jsonl\n  \
                        poolproof check --level snapshot-isolation fixtures/histories/write-skew.jsonl\n  \
                        poolproof isolation --quiet --history - | poolproof check -")]
pub struct CheckArgs {
    /// The history; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// strict-serializable, serializable or snapshot-isolation
    #[arg(long, value_enum, hide_possible_values = true, default_value = "strict-serializable")]
    level: AtLevel,
    /// Write what was found as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// What a program reads of it.
#[derive(Serialize)]
struct CheckReport<'a> {
    file: &'a str,
    ok: bool,
    #[serde(flatten)]
    found: VerdictReport,
}

const EXAMPLE: &str = r#"{"type": "invoke", "process": 0, "value": [["append", 1, 2]]} and {"type": "ok", "process": 0, "value": [["append", 1, 2]]}"#;

/// Judges it; whether the level is kept.
pub fn check(args: &CheckArgs) -> Result<Outcome, Trouble> {
    writable(args.json.as_deref())?;
    let level = args.level.0;
    let (file, text) = match is_stdout(&args.file) {
        true => ("stdin".to_owned(), io::read_to_string(io::stdin())),
        false => (args.file.display().to_string(), fs::read_to_string(&args.file)),
    };
    let text = text.map_err(|error| format!("cannot read {file}: {error}; name a file of text that can be read"))?;
    let found = Verdict::of_text(&text, level).map_err(|error| {
        format!("{file} is no history that can be judged: {error}; give Elle's format, for each transaction two lines such as {EXAMPLE}")
    })?;
    if let (Judged::Unknown(why), false) = (&found.by_graph, found.is_violated()) {
        return Err(format!("{file} does not tell whether it is {level}: {why}"));
    }
    let ok = found.holds();
    let ends = if ok { "holds" } else { "DOES NOT HOLD" };
    let passed_over = match found.passed_over {
        0 => String::new(),
        events => format!("; {} of no client passed over", counted(events as u64, "event")),
    };
    if !args.quiet && !args.json.as_deref().is_some_and(is_stdout) {
        say(&format!("{file}: {}{passed_over}\n{found}{ends}\n", found.shape))?;
    }
    let report = CheckReport { file: &file, ok, found: found.report() };
    if args.quiet && !ok {
        tell(format_args!("{file} is not {level}: {}", first_of(&report.found)));
    }
    if let Some(file) = &args.json {
        json(file, &report)?;
    }
    Ok(ok.into())
}

/// What speaks against it, in a line.
fn first_of(found: &VerdictReport) -> String {
    let by_order = || found.violations_by_order.first().cloned().unwrap_or_default();
    if found.anomalies.is_empty() { by_order() } else { found.anomalies.join(", ") }
}
