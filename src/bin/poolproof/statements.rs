//! `poolproof statements`: generated programs of SQL, run by the library and by the engine alone.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use indicatif::ProgressBar;
use poolproof::harness::drive::Control;
use poolproof::harness::statements::{Statements, StatementsReport, Subject};

use crate::output::{counted, finish, number, verdict, watched, writable};
use crate::signals::stop_on_signal;
use crate::{Outcome, Trouble};

/// Who runs them beside the engine, as an argument.
#[derive(Clone, Copy, Debug)]
struct Runs(Subject);

impl ValueEnum for Runs {
    fn value_variants<'a>() -> &'a [Self] {
        &[Runs(Subject::Library), Runs(Subject::Naive)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            Subject::Library => "the pool and the writer",
            Subject::Naive => "control: batches that undo nothing of one that fails",
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

/// Run generated programs of SQL, and compare with the engine alone
///
/// Each call, and the database, must come to the same as on a plain connection.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  poolproof statements --programs 0..10000\n  \
                        poolproof statements --subject naive   # broken: must not hold")]
pub struct Args {
    /// The seeds of the programs
    #[arg(long, value_name = "A..B", default_value = "0..200", value_parser = range)]
    programs: Range<u64>,
    /// Who runs them beside the engine
    #[arg(long, value_enum, default_value = "pool")]
    subject: Runs,
    /// Write the report as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let read = text.split_once("..").and_then(|(from, upto)| Some(from.parse().ok()?..upto.parse().ok()?));
    read.filter(|range: &Range<u64>| !range.is_empty()).ok_or_else(|| "choose A..B, such as 0..200".to_owned())
}

/// Runs them; whether all are as on the engine alone.
pub fn run(args: &Args) -> Result<Outcome, Trouble> {
    writable(args.json.as_deref())?;
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let search = Statements { subject: args.subject.0, seeds: args.programs.clone() };
    let length = args.programs.end - args.programs.start;
    let moves = |bar: &ProgressBar| bar.set_position(control.performed());
    let report = watched((!args.quiet).then_some((length, "programs")), moves, || search.run(&control))?;
    finish(&report, (args.quiet, args.json.as_deref()), (text, ends), report.run.was_only_stopped(), report.run.ok)
}

/// What a person reads.
fn text(report: &StatementsReport) -> String {
    let run = &report.run;
    let mut lines = vec![format!(
        "{}, {}: {}, {} in {:.1} s",
        run.engine,
        run.connections,
        counted(report.programs, "program"),
        counted(run.operations, "statement"),
        run.seconds
    )];
    lines.push(format!(
        "{} done, {} failed as on the engine alone, {} refused by rule",
        counted(run.acknowledged, "call"),
        number(report.failed_calls),
        number(report.refused)
    ));
    lines.extend(run.locations.iter().map(|(location, count)| format!("panic x {count} at {location}")));
    lines.extend(run.findings.iter().map(|finding| format!("finding: {finding}")));
    lines.extend(ends(report));
    lines.push(String::new());
    lines.join("\n")
}

fn ends(report: &StatementsReport) -> Vec<String> {
    verdict(report.run.ok, report.run.stopped, &report.run.faults(), &report.run.repeat)
}
