//! `poolproof stress --kill`: children that are killed while they write. And the children.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use poolproof::harness::drive::Control;
use poolproof::harness::kill::{Kill, KillReport, Orders, Subject, write_until_killed};

use crate::Trouble;
use crate::output::{bar, counted, number, tell, verdict};
use crate::signals::stop_on_signal;

/// Who writes in the child, as an argument.
#[derive(Clone, Copy, Debug)]
pub struct Killed(pub Subject);

impl ValueEnum for Killed {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Killed; Subject::ALL.len()] = {
            let mut all = [Killed(Subject::Writer); Subject::ALL.len()];
            let mut index = 0;
            while index < all.len() {
                all[index] = Killed(Subject::ALL[index]);
                index += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let help = match self.0 {
            Subject::Writer => "the pool and the writer",
            Subject::Forgetful => "the same, on a disk that forgets the unsynced",
            Subject::EarlyAck => "control: acknowledges before it commits",
            Subject::Pieces => "control: commits statement by statement",
            Subject::Unsynced => "control: such a disk, and the log is not synced",
            _ => "",
        };
        Some(clap::builder::PossibleValue::new(self.0.name()).help(help))
    }
}

/// Kills `rounds` children, behind a bar on a terminal, with a line now and then elsewhere.
pub fn run(subject: Subject, rounds: u32, seed: u64, quiet: bool) -> Result<KillReport, Trouble> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let kill = Kill { subject, rounds, seed, ..Kill::new(program) };
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let terminal = std::io::stderr().is_terminal();
    let bar = if quiet { indicatif::ProgressBar::hidden() } else { bar(rounds.into(), "children killed") };
    let done = AtomicU64::new(0);
    let tenth = u64::from(rounds).div_ceil(10);
    let outcome = kill.run(&control, &|| {
        bar.inc(1);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if !quiet && !terminal && done.is_multiple_of(tenth) {
            tell(format_args!("{done} of {rounds} children killed"));
        }
    });
    bar.finish_and_clear();
    outcome.map_err(|error| error.to_string())
}

fn children(count: u64) -> String {
    if count == 1 { "1 child".to_owned() } else { format!("{} children", number(count)) }
}

/// What a person reads.
pub fn text(report: &KillReport) -> String {
    let mut lines = vec![format!(
        "{}, {}: {} killed in {:.1} s, {} of them while they opened the file",
        report.engine,
        report.subject,
        children(report.rounds),
        report.seconds,
        number(report.interrupted_openings)
    )];
    lines.push(format!(
        "{}, {} left to recover from, {} begun",
        counted(report.databases, "file"),
        counted(report.logs_recovered, "log"),
        counted(report.checkpoints, "checkpoint")
    ));
    lines.push(format!(
        "{} acknowledged, {} found again, {} more that were not acknowledged in time",
        counted(report.acknowledged, "write"),
        number(report.found),
        number(report.unacknowledged)
    ));
    lines.extend(report.findings.iter().map(|finding| format!("finding: {finding}")));
    lines.extend(ends(report));
    lines.push(String::new());
    lines.join("\n")
}

/// The last of it.
pub fn ends(report: &KillReport) -> Vec<String> {
    let is_control = |subject: &Subject| !matches!(subject, Subject::Writer | Subject::Forgetful);
    let control = Subject::ALL.into_iter().filter(is_control).any(|subject| subject.name() == report.subject);
    let mut lines = verdict(report.ok, report.stopped, &report.faults(), &report.repeat);
    if control && report.ok {
        lines.push(format!(
            "but {} is a control, which must not hold: that it was not found out shows that {} {} too few; give more --rounds",
            report.subject,
            children(report.rounds),
            if report.rounds == 1 { "is" } else { "are" }
        ));
    }
    lines
}

/// Writes until it is killed
#[derive(clap::Args)]
pub struct ChildArgs {
    /// Who writes
    #[arg(long, value_enum)]
    kill: Killed,
    /// The file, with its tables
    #[arg(long)]
    database: PathBuf,
    /// Decides what is written
    #[arg(long)]
    seed: u64,
    /// The least id
    #[arg(long)]
    first_id: i64,
}

/// Runs the child.
pub fn child(args: &ChildArgs) -> Result<bool, Trouble> {
    let ChildArgs { kill, database, seed, first_id } = args;
    let orders = Orders { subject: kill.0, database: database.clone(), seed: *seed, first_id: *first_id };
    write_until_killed(&orders).map(|()| true)
}
