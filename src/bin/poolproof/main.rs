//! The command line: arguments in, findings out. All that is found out is found out by the library.
//!
//! Exit codes are the same everywhere: 0 it holds, 1 it does not, 2 it could not be run, 130 it was stopped (one line says why, and
//! the mend).

mod http;
mod isolation;
mod kill;
mod number;
mod output;
mod prove;
mod serve;
mod signals;
mod sim;
mod statements;
mod stress;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};
use poolproof::harness::subjects::Kind;

/// It holds.
const HOLDS: u8 = 0;
/// It does not hold.
const DOES_NOT_HOLD: u8 = 1;
/// It could not be run.
const COULD_NOT_RUN: u8 = 2;
/// It was stopped, and had found nothing until then: what a shell says of Ctrl-C.
const STOPPED: u8 = 130;

/// A connection pool for the Turso embedded database, and what proves it
#[derive(Parser)]
#[command(version)]
#[command(
    after_help = "Exit codes: 0 holds, 1 does not hold, 2 could not run, 130 was stopped\n\nExample:\n  poolproof prove --json proof.json"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Prove(prove::Args),
    Stress(stress::Args),
    Statements(statements::Args),
    Isolation(isolation::Args),
    Check(isolation::CheckArgs),
    Serve(serve::Args),
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

/// What a command that could be run came to.
enum Outcome {
    Holds,
    DoesNotHold,
    Stopped,
}

impl From<bool> for Outcome {
    fn from(holds: bool) -> Self {
        if holds { Outcome::Holds } else { Outcome::DoesNotHold }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let outcome = match cli.command {
        Command::Prove(args) => prove::run(&args),
        Command::Stress(args) => stress::run(&args),
        Command::Statements(args) => statements::run(&args),
        Command::Isolation(args) => isolation::run(&args),
        Command::Check(args) => isolation::check(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Merge(args) => sim::merge(&args).map(Outcome::from),
        Command::SimChild(args) => sim::child(&args).map(Outcome::from),
        Command::KillChild(args) => kill::child(&args).map(Outcome::from),
    };
    match outcome {
        Ok(Outcome::Holds) => ExitCode::from(HOLDS),
        Ok(Outcome::DoesNotHold) => ExitCode::from(DOES_NOT_HOLD),
        Ok(Outcome::Stopped) => {
            output::tell("error: stopped before its end, so it shows nothing; run it again");
            ExitCode::from(STOPPED)
        }
        Err(trouble) => {
            output::tell(format_args!("error: {trouble}"));
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
        output::tell(error.to_string().trim_end());
        return ExitCode::from(COULD_NOT_RUN);
    }
    output::tell(format_args!("{} (see --help)", one_line(&error.to_string())));
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
