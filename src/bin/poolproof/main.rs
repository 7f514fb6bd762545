//! The command line: arguments in, findings out. All that is found out is found out by the library.
//!
//! Exit codes are the same everywhere: 0 it holds, 1 it does not, 2 it could not be run (one line says why, and the mend).

mod kill;
mod number;
mod output;
mod prove;
mod sim;
mod stress;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};
use poolproof::harness::drive::Control;
use poolproof::harness::subjects::Kind;

/// It holds.
const HOLDS: u8 = 0;
/// It does not hold.
const DOES_NOT_HOLD: u8 = 1;
/// It could not be run.
const COULD_NOT_RUN: u8 = 2;

/// A connection pool for the Turso embedded database, and what proves it
#[derive(Parser)]
#[command(version)]
#[command(
    after_help = "Exit codes: 0 holds, 1 does not hold, 2 could not run\n\nExample:\n  poolproof prove --json proof.json"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Prove(prove::Args),
    Stress(stress::Args),
    // Many settings.
    Sim(Box<sim::Args>),
    Merge(sim::MergeArgs),
    #[command(hide = true)]
    SimChild(sim::ChildArgs),
    #[command(hide = true)]
    KillChild(kill::ChildArgs),
}

/// What ends a command early: the one line that says what, where and the mend.
type Trouble = String;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let outcome = match cli.command {
        Command::Prove(args) => prove::run(&args),
        Command::Stress(args) => stress::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Merge(args) => sim::merge(&args),
        Command::SimChild(args) => sim::child(&args),
        Command::KillChild(args) => kill::child(&args),
    };
    match outcome {
        Ok(true) => ExitCode::from(HOLDS),
        Ok(false) => ExitCode::from(DOES_NOT_HOLD),
        Err(trouble) => {
            eprintln!("error: {trouble}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

/// Help goes to stdout as it is; what clap says of an error in several lines becomes one.
fn not_understood(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match output::say(&error.to_string()) {
            Ok(()) => ExitCode::from(HOLDS),
            Err(_) => ExitCode::from(COULD_NOT_RUN),
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{error}");
        return ExitCode::from(COULD_NOT_RUN);
    }
    eprintln!("{} (see --help)", one_line(&error.to_string()));
    ExitCode::from(COULD_NOT_RUN)
}

/// The paragraphs of an error as the parts of a sentence: what is wrong, what would be right, a tip.
fn one_line(error: &str) -> String {
    let paragraphs = error.split("\n\n").map(str::trim);
    let said = paragraphs.filter(|text| !text.starts_with("Usage:") && !text.starts_with("For more information"));
    said.map(part).collect::<Vec<_>>().join("; ")
}

/// One paragraph: a line, and perhaps a list of what it is about.
fn part(paragraph: &str) -> String {
    let mut lines = paragraph.lines().map(|line| {
        let line = line.trim();
        line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap_or(line)
    });
    let first = lines.next().unwrap_or_default();
    let list = lines.collect::<Vec<_>>().join(", ");
    match (list.is_empty(), first.ends_with(':')) {
        (true, _) => first.to_owned(),
        (false, true) => format!("{first} {list}"),
        (false, false) => format!("{first}; {list}"),
    }
}

/// A subject's name as an argument.
#[derive(Clone, Copy, Debug)]
struct Subject(Kind);

impl ValueEnum for Subject {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Subject; Kind::ALL.len()] = {
            let mut all = [Subject(Kind::Pool); Kind::ALL.len()];
            let mut index = 0;
            while index < all.len() {
                all[index] = Subject(Kind::ALL[index]);
                index += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let help = match self.0 {
            Kind::Pool => "the pool and the writer",
            Kind::Mutex => "one connection behind an async mutex",
            Kind::Shared => "control: one connection shared by all",
            Kind::OneHolder => "as double-holder, but each lent to one",
            Kind::DoubleHolder => "control: our pool, each connection lent to two",
            Kind::NumberTwenty => "control: a pool with the flaws of the first fix",
            _ => "",
        };
        Some(clap::builder::PossibleValue::new(self.0.name()).help(help))
    }
}

/// What a command says that was stopped: nothing is shown to hold or not to hold.
const STOPPED: &str = "stopped before its end, so it shows nothing; run it again";

/// Ctrl-C, and SIGTERM, let what runs end cleanly, so that what was found is still printed; a second one ends the process.
fn stop_on_signal(control: &Arc<Control>) -> Result<(), Trouble> {
    let cannot = |error: std::io::Error| format!("cannot watch for Ctrl-C: {error}; allow this process more threads");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(cannot)?;
    let control = Arc::clone(control);
    let watch = move || {
        runtime.block_on(async {
            if signal().await.is_ok() {
                control.stop();
                if signal().await.is_ok() {
                    std::process::exit(130);
                }
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop).map_err(cannot)
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
