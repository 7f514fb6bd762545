//! `poolproof sim`: seeds in a simulated world. `poolproof merge`: the parts of one campaign.

mod audit;
mod campaign;
mod merge;
mod part;
mod watcher;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use poolproof::harness::drive::Control;
use poolproof::harness::sim::{Failure, FailureKind, Faults, Schedule, Sim, Strategy, Workload};

pub use self::audit::{ChildArgs, child};
use self::campaign::Campaign;
pub use self::merge::{MergeArgs, merge};
use self::part::{Part, seeds, shard};
use self::watcher::Watcher;
use crate::number::from_to;
use crate::output::{counted, is_stdout, json, number, reports, say, tell, write};
use crate::signals::stop_on_signal;
use crate::{Outcome, Trouble};

/// Run engine, pool and writer in a world of which a seed decides all
#[derive(clap::Args)]
#[command(after_help = "Faults: none, all, or some of these, separated by commas, each with a rate in a\n\
                  million if it is not the usual one: crash=5000\n  \
                  read         a read fails\n  \
                  write        a write, or a truncation, fails\n  \
                  full         a write fails, for the disk is full\n  \
                  short-write  a write fails half-way\n  \
                  sync         a sync fails, and nobody knows what is on the disk\n  \
                  latency      the disk takes up to 20 ms\n  \
                  crash        the power fails: what was not synced may be lost\n  \
                  cancel       a future is dropped half-way\n  \
                  panic        a task panics half-way\n  \
                  time         time passes though somebody could go on\n  \
                  lying-sync   no fault to bear, but a control: syncs do nothing; not in all\n\n\
                  Strategies, by which it is decided who goes next:\n  \
                  uniform      each with the same probability\n  \
                  pct          by priorities, of which few change: finds bugs of few switches\n  \
                  starvation   uniform, but now and then one is not let go for a while\n  \
                  mixed        one of these, by the seed\n\n\
                  Examples:\n  poolproof sim --seeds 0..20000 --jobs 2 --json sim.json\n  \
                  poolproof sim --workload bank --seed 17\n  \
                  poolproof sim --faults all,lying-sync   # a disk that lies: must not hold\n  \
                  poolproof sim --audit --seeds 0..50")]
pub struct Args {
    /// Seeds, without the second
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..1000")]
    seeds: Range<u64>,
    /// This seed only
    #[arg(long, conflicts_with = "seeds", value_parser = from_to(0, u64::MAX - 1))]
    seed: Option<u64>,
    /// What is done
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = str::parse::<Workload>, default_value = "story,bank,counter,mvcc")]
    workload: Vec<Workload>,
    /// What may go wrong
    #[arg(long, value_parser = str::parse::<Faults>, default_value = "all")]
    faults: Faults,
    /// Who goes next: one of those below
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Strategy>, default_value = "mixed")]
    strategy: Strategy,
    /// Begin no seed after so many minutes
    #[arg(value_parser = minutes, long, value_name = "M")]
    minutes: Option<f64>,
    /// Fail unless so many were run, of all workloads
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    at_least: u64,
    /// Every N-th seed: 1/2 and 2/2 are a whole
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(u64, u64)>,
    /// Threads, a world each at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Go on after a seed that fails
    #[arg(long)]
    keep_going: bool,
    /// Repeat the schedule in FILE instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "seed", "workload", "faults", "strategy", "minutes", "at_least", "shard", "jobs", "keep_going", "audit", "json", "junit"])]
    replay: Option<PathBuf>,
    /// Run each seed in two processes, which have to agree
    #[arg(long, conflicts_with_all = ["minutes", "jobs", "keep_going", "json", "junit", "shard", "at_least"])]
    audit: bool,
    /// The program whose runs are audited, if it is another one
    #[arg(long, value_name = "FILE", requires = "audit", hide = true)]
    audited: Option<PathBuf>,
    /// Write the report as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write it as JUnit's XML to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// How long it may go on.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.0..=1e6).contains(minutes));
    minutes.ok_or_else(|| "it is no number of minutes, as in 15 or 0.5".to_owned())
}

/// What is named twice would be run twice, and count as twice as many seeds.
fn once(workloads: &[Workload]) -> Result<(), Trouble> {
    let twice = workloads.iter().enumerate().find(|(place, workload)| workloads[..*place].contains(workload));
    twice.map_or(Ok(()), |(_, workload)| Err(format!("--workload has {workload} twice; name each once")))
}

/// Runs it; whether it holds.
pub fn run(args: &Args) -> Result<Outcome, Trouble> {
    if let Some(file) = &args.replay {
        return replay(file, args.quiet).map(Outcome::from);
    }
    reports(args.json.as_deref(), args.junit.as_deref())?;
    once(&args.workload)?;
    let seeds = args.seed.map_or(args.seeds.clone(), |seed| seed..seed + 1);
    if args.faults.lying_sync && args.faults.crash == 0 {
        tell(
            "warning: without a power failure nobody can tell that a disk lies; add crash to --faults: crash=10000,lying-sync",
        );
    }
    if args.audit {
        return audit::audit(args, &seeds);
    }
    let (part, of) = args.shard.unwrap_or((0, 1));
    let of_each = (seeds.end - seeds.start).saturating_sub(part).div_ceil(of);
    let of_all = of_each.saturating_mul(args.workload.len() as u64);
    if of_all < args.at_least {
        let there = if of_all == 1 { "there is" } else { "there are" };
        let seeds = counted(of_all, "seed");
        return Err(format!("{there} {seeds}, and --at-least asks for {}; give more --seeds", number(args.at_least)));
    }
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let whole = Part::new(seeds.clone(), (part, of), args.workload.iter().map(Workload::to_string));
    let mut campaign = Campaign::new(args.faults, args.strategy, whole, args.at_least);
    let began = Instant::now();
    let time = args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    for (place, &workload) in args.workload.iter().enumerate() {
        let mut sim = Sim::new()
            .seeds(seeds.clone())
            .shard(part, of)
            .faults(args.faults)
            .strategy(args.strategy)
            .jobs(args.jobs.into())
            .keep_going(args.keep_going)
            .workload(workload.to_string());
        if let Some(time) = time {
            // What is left, in equal parts.
            let left = time.saturating_sub(began.elapsed());
            sim = sim.time(left / (args.workload.len() - place) as u32);
        }
        let watcher = Watcher::new(&control, of_each, workload, args.quiet);
        let report = sim.run_with(async |world| workload.run(world).await, &watcher);
        watcher.clear();
        campaign.ran(workload, report);
        if (campaign.has_found() && !args.keep_going) || control.is_stopped() {
            break;
        }
    }
    let stopped = control.is_stopped() && campaign.seeds() < of_all;
    if stopped {
        campaign.was_stopped();
    } else if campaign.seeds() == 0 {
        return Err(
            "no seed was run: there is none in this part, or no time; give more --seeds or --minutes".to_owned()
        );
    }
    let holds = campaign.judge();
    let only_stopped = stopped && !campaign.has_found();
    if args.quiet && !holds && !only_stopped {
        tell(campaign.findings().trim());
    }
    if !args.quiet && !args.json.iter().chain(&args.junit).any(|file| is_stdout(file)) {
        say(&campaign.text())?;
    }
    if let Some(file) = &args.json {
        json(file, &campaign)?;
    }
    if let Some(file) = &args.junit {
        write(file, &campaign.junit()?)?;
    }
    if only_stopped { Ok(Outcome::Stopped) } else { Ok(holds.into()) }
}

fn replay(file: &Path, quiet: bool) -> Result<bool, Trouble> {
    let wrong = |problem: String| format!("{}: {problem}", file.display());
    let text = fs::read_to_string(file).map_err(|error| wrong(format!("{error}; name a schedule that was saved")))?;
    let schedule: Schedule = text.parse().map_err(wrong)?;
    let workload: Workload = schedule.workload.parse().map_err(|_| {
        let whose = match schedule.workload.as_str() {
            "" => "it names no workload".to_owned(),
            name => {
                format!("it is of {name}, which is none of {}", Workload::ALL.map(|known| known.to_string()).join(", "))
            }
        };
        wrong(format!("{whose}: repeat it by Sim::replay, in the test that made it"))
    })?;
    let replayed = Sim::replay(&text, async |world| workload.run(world).await).map_err(wrong)?;
    let mut outcome = replayed.failure.as_ref().map_or("holds".to_owned(), ToString::to_string);
    let is_told = |failure: &Failure| failure.kind == FailureKind::Schedule;
    if let Some(line) = replayed.left_over.filter(|_| !replayed.failure.as_ref().is_some_and(is_told)) {
        outcome.push_str(&format!("\nand the schedule was not followed to its end: {line}"));
    }
    match quiet {
        false => say(&format!("{}\n{outcome}\n", replayed.interleaving))?,
        true if replayed.failure.is_some() => tell(outcome),
        true => {}
    }
    Ok(replayed.failure.is_none())
}
