//! `poolproof sim`: seeds in a simulated world. `poolproof merge`: the parts of one campaign.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use poolproof::harness::drive::Control;
use poolproof::harness::sim::audit::{Step, first_difference, twice};
use poolproof::harness::sim::{Faults, Progress, Report, Sim, Strategy, Workload};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Serialize};

use crate::output::{bar, is_stdout, json, number, say, writable, write};
use crate::{STOPPED, Trouble, stop_on_signal};

/// From so many seeds with all faults on, whatever was never seen is a failure of the campaign.
const ENOUGH: u64 = 2_000;

/// Run engine, pool and writer in a world of which a seed decides all
#[derive(clap::Args)]
#[command(after_help = "Faults: none, all, or some of read, write, full, short-write, sync, latency,\n\
                  crash, cancel, panic, time, lying-sync, separated by commas, each with a rate in\n\
                  a million if it is not the usual one: crash=5000\n\n\
                  Examples:\n  poolproof sim --seeds 0..20000 --jobs 2 --json sim.json\n  \
                  poolproof sim --workload bank --seed 17\n  \
                  poolproof sim --faults all,lying-sync   # a disk that lies: must not hold\n  \
                  poolproof sim --audit --seeds 0..50")]
pub struct Args {
    /// Seeds, without the second
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..1000")]
    seeds: Range<u64>,
    /// This seed only
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// What is done
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = str::parse::<Workload>, default_value = "story,bank,counter,mvcc")]
    workload: Vec<Workload>,
    /// What may go wrong
    #[arg(long, value_parser = str::parse::<Faults>, default_value = "all")]
    faults: Faults,
    /// uniform, pct, starvation or mixed
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Strategy>, default_value = "mixed")]
    strategy: Strategy,
    /// Begin no seed after so many minutes
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "seed", "audit", "json", "junit", "shard"])]
    replay: Option<PathBuf>,
    /// Run each seed in two processes, which have to agree
    #[arg(long, conflicts_with_all = ["json", "junit", "shard"])]
    audit: bool,
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

/// Add up the JSON reports of shards, and judge the whole
#[derive(clap::Args)]
#[command(after_help = "Example:\n  poolproof merge one.json two.json --json whole.json")]
pub struct MergeArgs {
    /// The reports, as --json wrote them
    #[arg(required = true)]
    reports: Vec<PathBuf>,
    /// Write the whole as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Prints the events of seeds, for an audit
#[derive(clap::Args)]
pub struct ChildArgs {
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    #[arg(long, value_parser = str::parse::<Workload>)]
    workload: Workload,
    #[arg(long, value_parser = str::parse::<Faults>)]
    faults: Faults,
    #[arg(long, value_parser = str::parse::<Strategy>)]
    strategy: Strategy,
    #[arg(long)]
    events: bool,
}

/// What was found, of all workloads.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Campaign {
    faults: String,
    strategy: String,
    /// Which seeds it is of.
    parts: Vec<String>,
    /// What had to be seen and was not.
    never_seen: Vec<String>,
    ok: bool,
    workloads: BTreeMap<String, Report>,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, upto)| Some((from.parse().ok()?, upto.parse().ok()?)));
    match parsed {
        Some((from, upto)) if from < upto => Ok(from..upto),
        _ => Err("seeds are written as 0..1000: from the first to before the second".to_owned()),
    }
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once('/').and_then(|(part, of)| Some((part.parse::<u64>().ok()?, of.parse::<u64>().ok()?)));
    match parsed {
        Some((part, of)) if (1..=of).contains(&part) => Ok((part - 1, of)),
        _ => Err("a shard is written as 1/4: the first of four".to_owned()),
    }
}

/// Runs it; whether it holds.
pub fn run(args: &Args) -> Result<bool, Trouble> {
    if let Some(file) = &args.replay {
        return replay(file, args.quiet);
    }
    writable(args.json.as_deref())?;
    writable(args.junit.as_deref())?;
    let seeds = args.seed.map_or(args.seeds.clone(), |seed| seed..seed + 1);
    if args.audit {
        return audit(args, seeds);
    }
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let (part, of) = args.shard.map_or((1, 1), |(part, of)| (part + 1, of));
    let part = format!("{}..{}, {part}/{of}", seeds.start, seeds.end);
    let mut campaign = Campaign::new(args.faults, args.strategy, part);
    let began = Instant::now();
    let time = args.minutes.map(|minutes| Duration::from_secs_f64(minutes.clamp(0.0, 1e6) * 60.0));
    for (place, &workload) in args.workload.iter().enumerate() {
        let mut sim = Sim::new()
            .seeds(seeds.clone())
            .faults(args.faults)
            .strategy(args.strategy)
            .jobs(args.jobs.into())
            .keep_going(args.keep_going)
            .workload(workload.to_string());
        if let Some((part, of)) = args.shard {
            sim = sim.shard(part, of);
        }
        if let Some(time) = time {
            // What is left, in equal parts.
            let left = time.saturating_sub(began.elapsed());
            sim = sim.time(left / (args.workload.len() - place) as u32);
        }
        let watcher = Watcher::new(&control, seeds.end - seeds.start, args.shard, workload, args.quiet);
        let report = sim.run_with(async |world| workload.run(world).await, &watcher);
        watcher.bar.finish_and_clear();
        let failed = !report.found.is_empty();
        campaign.workloads.insert(workload.to_string(), report);
        if (failed && !args.keep_going) || control.is_stopped() {
            break;
        }
    }
    campaign.judge();
    if campaign.whole().seeds == 0 {
        return Err(
            "no seed was run: there is none in this part, or no time; give more --seeds or --minutes".to_owned()
        );
    }
    if args.quiet && !campaign.ok {
        eprintln!("{}", campaign.findings());
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
    if control.is_stopped() && campaign.ok { Err(STOPPED.to_owned()) } else { Ok(campaign.ok) }
}

/// Adds up the reports of shards.
pub fn merge(args: &MergeArgs) -> Result<bool, Trouble> {
    writable(args.json.as_deref())?;
    let mut whole: Option<Campaign> = None;
    for file in &args.reports {
        let wrong =
            |problem: String| format!("{}: {problem}; name a file that `poolproof sim --json` wrote", file.display());
        let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let part: Campaign = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match &mut whole {
            None => whole = Some(part),
            Some(whole) if whole.faults != part.faults || whole.strategy != part.strategy => {
                return Err(wrong(format!(
                    "was made with the faults {} and the strategy {}, the others with {} and {}",
                    part.faults, part.strategy, whole.faults, whole.strategy
                )));
            }
            Some(whole) => {
                if let Some(twice) = part.parts.iter().find(|part| whole.parts.contains(part)) {
                    return Err(wrong(format!("has the seeds {twice}, which another report has, too")));
                }
                whole.parts.extend(part.parts);
                for (workload, report) in part.workloads {
                    whole.workloads.entry(workload).or_default().merge(report);
                }
            }
        }
    }
    let mut whole = whole.ok_or("there is nothing to merge; name the reports")?;
    whole.judge();
    if !args.json.as_deref().is_some_and(is_stdout) {
        say(&whole.text())?;
    }
    if let Some(file) = &args.json {
        json(file, &whole)?;
    }
    Ok(whole.ok)
}

/// What a child of an audit prints.
pub fn child(args: &ChildArgs) -> Result<bool, Trouble> {
    let sim = Sim::new().faults(args.faults).strategy(args.strategy);
    let workload = args.workload;
    let check = async |world| workload.run(world).await;
    for seed in args.seeds.clone() {
        if args.events {
            for step in sim.events(seed, check) {
                say(&format!("{step}\n"))?;
            }
        } else {
            say(&format!("{:016x} seed {seed}\n", sim.hash(seed, check)))?;
        }
    }
    Ok(true)
}

fn audit(args: &Args, seeds: Range<u64>) -> Result<bool, Trouble> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let children = |workload: Workload, seeds: Range<u64>, events: bool| {
        let mut given = vec!["sim-child".to_owned(), format!("--seeds={}..{}", seeds.start, seeds.end)];
        given.push(format!("--workload={workload}"));
        given.push(format!("--faults={}", args.faults));
        given.push(format!("--strategy={}", args.strategy));
        given.extend(events.then(|| "--events".to_owned()));
        let printed = twice(&program, &given).map_err(|error| format!("a child: {error}; run it again"))?;
        let parse = |lines: Vec<String>| lines.iter().map(|line| line.parse()).collect::<Result<Vec<Step>, _>>();
        let [one, other] = printed;
        Ok::<_, Trouble>([parse(one)?, parse(other)?])
    };
    let mut ok = true;
    for &workload in &args.workload {
        let [one, other] = children(workload, seeds.clone(), false)?;
        let differ = one.iter().zip(&other).zip(seeds.clone()).filter(|((one, other), _)| one.hash != other.hash);
        let differ: Vec<u64> = differ.map(|(_, seed)| seed).collect();
        let count = number(seeds.end - seeds.start);
        let mut text = match differ.len() {
            0 => format!("{workload}: {count} seeds, each the same in two processes\n"),
            differing => format!("{workload}: {differing} of {count} seeds differ between two processes\n"),
        };
        if let Some(&seed) = differ.first() {
            ok = false;
            let [one, other] = children(workload, seed..seed + 1, true)?;
            match first_difference(&one, &other) {
                Some(leak) => text.push_str(&format!("seed {seed}: {leak}")),
                None => text.push_str(&format!("seed {seed}: the same when it was run again\n")),
            }
        }
        if !args.quiet {
            say(&text)?;
        }
    }
    if !args.quiet {
        say(if ok { "holds\n" } else { "DOES NOT HOLD: something beside the seed decides\n" })?;
    }
    Ok(ok)
}

fn replay(file: &Path, quiet: bool) -> Result<bool, Trouble> {
    let wrong = |problem: String| format!("{}: {problem}", file.display());
    let text = fs::read_to_string(file).map_err(|error| wrong(format!("{error}; name a schedule that was saved")))?;
    let schedule: poolproof::harness::sim::Schedule = text.parse().map_err(wrong)?;
    let workload: Workload = schedule.workload.parse().map_err(|error: String| wrong(error))?;
    let replayed = Sim::replay(&text, async |world| workload.run(world).await).map_err(wrong)?;
    let outcome = replayed.failure.as_ref().map_or("holds".to_owned(), ToString::to_string);
    match quiet {
        false => say(&format!("{}\n{outcome}\n", replayed.interleaving))?,
        true if replayed.failure.is_some() => eprintln!("{outcome}"),
        true => {}
    }
    Ok(replayed.failure.is_none())
}

impl Campaign {
    fn new(faults: Faults, strategy: Strategy, part: String) -> Self {
        let (faults, strategy) = (faults.to_string(), strategy.to_string());
        Self { faults, strategy, parts: vec![part], never_seen: Vec::new(), ok: true, workloads: BTreeMap::new() }
    }

    /// All workloads together.
    fn whole(&self) -> Report {
        let mut whole = Report::default();
        self.workloads.values().for_each(|report| whole.merge(report.clone()));
        whole
    }

    fn judge(&mut self) {
        let whole = self.whole();
        if self.has_all_faults() {
            self.never_seen = whole.never_seen(&Workload::SOMETIMES).into_iter().map(str::to_owned).collect();
        }
        self.ok = whole.found.is_empty() && (self.never_seen.is_empty() || whole.seeds < ENOUGH);
    }

    fn text(&self) -> String {
        let mut text = format!("seeds: {}\n", self.parts.join("; "));
        text.push_str(&format!(
            "faults: {}; strategy: {}\n",
            if self.has_all_faults() { "all" } else { &self.faults },
            self.strategy
        ));
        for (workload, report) in &self.workloads {
            text.push_str(&format!(
                "{workload}: {} seeds in {:.1} s, {:.0}/s, {} events, {} schedules that differ; the next is a new one with a \
                 probability of {:.2}\n",
                number(report.seeds),
                report.seconds,
                report.rate(),
                number(report.events),
                number(report.distinct() as u64),
                report.chance_of_a_new_one()
            ));
        }
        let whole = self.whole();
        if !whole.seen.is_empty() {
            text.push_str("\nseen, and how often:\n");
        }
        for (what, times) in &whole.seen {
            text.push_str(&format!("{:>12}  {what}\n", number(*times)));
        }
        for what in &self.never_seen {
            text.push_str(&format!("{:>12}  {what}\n", "never"));
        }
        text.push_str(&self.findings());
        text.push_str(match (self.ok, whole.found.is_empty()) {
            (true, _) => "\nholds\n",
            (false, false) => "\nDOES NOT HOLD\n",
            (false, true) => "\nDOES NOT HOLD: what has to be seen was not, so this campaign shows too little\n",
        });
        text
    }

    /// The seeds that failed.
    fn findings(&self) -> String {
        let faults = if self.has_all_faults() { "all" } else { &self.faults };
        let mut text = String::new();
        for (workload, report) in &self.workloads {
            for found in &report.found {
                text.push_str(&format!("\n{workload}, {found}"));
                text.push_str(&format!(
                    "repeat: poolproof sim --workload {workload} --faults {faults} --strategy {} --seed {}\n",
                    self.strategy, found.seed
                ));
            }
        }
        text
    }

    fn has_all_faults(&self) -> bool {
        self.faults == Faults::all().to_string()
    }

    fn junit(&self) -> Result<String, Trouble> {
        let mut suite = TestSuite::new("sim");
        for (workload, report) in &self.workloads {
            let status = match report.found.first() {
                None => TestCaseStatus::success(),
                Some(found) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status
                        .set_message(format!("seed {}: {}", found.seed, found.failure))
                        .set_description(found.to_string());
                    status
                }
            };
            let mut case = TestCase::new(workload.clone(), status);
            case.set_time(Duration::from_secs_f64(report.seconds));
            suite.add_test_case(case);
        }
        let mut whole = quick_junit::Report::new("poolproof sim");
        whole.add_test_suite(suite);
        whole.to_string().map_err(|error| format!("cannot write JUnit's XML: {error}"))
    }
}

/// Shows how far it is, and stops it.
struct Watcher<'a> {
    control: &'a Control,
    bar: ProgressBar,
    shows_lines: bool,
    workload: Workload,
    seeds: u64,
}

impl<'a> Watcher<'a> {
    fn new(control: &'a Control, seeds: u64, shard: Option<(u64, u64)>, workload: Workload, quiet: bool) -> Self {
        let seeds = shard.map_or(seeds, |(part, of)| seeds.saturating_sub(part).div_ceil(of));
        let bar = if quiet { ProgressBar::hidden() } else { bar(seeds, &workload.to_string()) };
        Self { control, bar, shows_lines: !quiet && !std::io::stderr().is_terminal(), workload, seeds }
    }
}

impl Progress for Watcher<'_> {
    fn ran(&self, report: &Report) -> ControlFlow<()> {
        let done = report.seeds;
        self.bar.set_position(done);
        if done.is_multiple_of(16) {
            let rate = done as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
            self.bar.set_message(format!("{}: {rate:.0}/s, {} seen", self.workload, report.seen.len()));
        }
        if self.shows_lines && done.is_multiple_of(self.seeds.div_ceil(10).max(1)) {
            eprintln!("{}: {done} of {} seeds, {} schedules differ", self.workload, self.seeds, report.distinct());
        }
        if self.control.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
