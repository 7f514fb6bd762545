//! Whether a seed decides everything: each is run in two processes of their own, which have to agree in every event.
//!
//! Two runs in one process would share what leaks: the address of a map's keys, a counter, the engine's registry. Whoever
//! audits says how a child is started ([`compare`]), and calls [`answer`] in it; what is asked goes through the environment, the
//! answers come through the child's standard output, where lines that are none are passed over. They are compared seed by seed;
//! of the first that differs, all events are asked for. The hash of each event is that of all before it, too, so that the first
//! that is not the same is found by bisection.

use std::collections::{HashMap, HashSet};
use std::env;
use std::fmt::{self, Display};
use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use super::run::{Course, Ran};
use super::trace::{Event, What};
use super::words;
use super::{Sim, World};
use crate::harness::panics::portable;

/// Where a child finds what it is asked for.
const ASKED: &str = "POOLPROOF_AUDIT";

/// What a child is asked for: the hash of each of some seeds, or every event of one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Hashes(Range<u64>),
    Events(u64),
}

impl Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Hashes(seeds) => write!(f, "{}..{}", seeds.start, seeds.end),
            Asked::Events(seed) => write!(f, "{seed}"),
        }
    }
}

impl FromStr for Asked {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let parsed = match text.split_once("..") {
            Some((from, upto)) => {
                from.parse().ok().zip(upto.parse().ok()).map(|(from, upto)| Asked::Hashes(from..upto))
            }
            None => text.parse().ok().map(Asked::Events),
        };
        parsed.ok_or_else(|| io::Error::other(format!("{ASKED} is {text:?}: an audit sets it, and nobody else has to")))
    }
}

/// What two processes made of the same seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Seeds that both have run.
    pub seeds: u64,
    /// Runs among them that differ in more than the order of independent events, in what was drawn and when: in their traces, as
    /// Mazurkiewicz has them. In each byte and instant all do, as each seed has random numbers of its own.
    pub distinct: usize,
    /// Seeds that were another run in the other process.
    pub differ: Vec<u64>,
    /// Where the runs of the first of these part. `None` if they were the same when it was run again.
    pub leak: Option<Leak>,
}

impl Audit {
    /// Whether the seed decided everything.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.differ.is_empty()
    }
}

impl Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, distinct, differ, leak } = self;
        match differ.first() {
            None if *seeds == 1 => writeln!(f, "1 seed, the same in two processes"),
            None => {
                let traces = if *distinct == 1 { "trace" } else { "traces" };
                writeln!(f, "{seeds} seeds, each the same in two processes; {distinct} distinct {traces}")
            }
            Some(seed) => {
                writeln!(f, "{} of {seeds} seeds differ between two processes", differ.len())?;
                match leak {
                    Some(leak) => write!(f, "seed {seed}: {leak}"),
                    None => writeln!(f, "seed {seed}: the same when it was run again"),
                }
            }
        }
    }
}

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of all events up to this one.
    pub hash: u64,
    /// Who did what, in one line.
    pub what: String,
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} {}", self.hash, self.what)
    }
}

/// A line of a child; `None` for one that is no answer.
fn step(line: &str) -> Option<Step> {
    let (hash, what) = line.split_once(' ').filter(|(hash, _)| hash.len() == 16)?;
    Some(Step { hash: u64::from_str_radix(hash, 16).ok()?, what: what.to_owned() })
}

/// Where two runs of one seed part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leak {
    /// Events before it, the same in both.
    pub after: usize,
    /// The last of these.
    pub last: Option<Step>,
    /// The first event that is not the same, in either run; `None` where a run has ended.
    pub parts: [Option<Step>; 2],
}

impl Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = |step: &Option<Step>| step.as_ref().map_or("nothing".to_owned(), |step| step.what.clone());
        writeln!(f, "after {} events, the last of them {:?}:", self.after, what(&self.last))?;
        writeln!(f, "  one run:   {}", what(&self.parts[0]))?;
        writeln!(f, "  the other: {}", what(&self.parts[1]))?;
        if let [Some(one), Some(other)] = &self.parts
            && one.what == other.what
        {
            writeln!(f, "  (the same by name: what was read, written or drawn, or when, differs)")?;
        }
        Ok(())
    }
}

/// The events of a run: who did what, and where in the source that is, or where its task was started.
pub(super) fn steps(ran: &Ran) -> Vec<Step> {
    let mut started = HashMap::new();
    let step = |event: &Event| {
        let name = &ran.names[&event.actor];
        if let (What::Begins, Some(site)) = (&event.what, event.site) {
            started.insert(Arc::clone(name), site);
        }
        // What works for a task has its name before its own.
        let task = name.strip_prefix("disk/").unwrap_or(name);
        let task = task.split_once('/').map_or(task, |(task, _)| task);
        let place = match (&event.what, event.site) {
            (_, Some(site)) => format!(", at {}:{}", portable(site.file()), site.line()),
            (_, None) => started.get(task).map_or(String::new(), |site| {
                format!(", of the task that was started at {}:{}", portable(site.file()), site.line())
            }),
        };
        Step { hash: event.hash, what: words::written(&format!("{name} {}{place}", event.what)) }
    };
    ran.events.iter().map(step).collect()
}

/// The first event in which two runs differ.
pub(super) fn first_difference(one: &[Step], other: &[Step]) -> Option<Leak> {
    let both: Vec<(&Step, &Step)> = one.iter().zip(other).collect();
    let after = both.partition_point(|(one, other)| one.hash == other.hash);
    if after == one.len() && after == other.len() {
        return None;
    }
    let last = after.checked_sub(1).and_then(|last| one.get(last)).cloned();
    Some(Leak { after, last, parts: [one.get(after).cloned(), other.get(after).cloned()] })
}

/// The hashes of two children, as they come.
struct Pairs {
    first: u64,
    hashes: [Vec<u64>; 2],
    distinct: HashSet<String>,
    audit: Audit,
}

impl Pairs {
    /// One more hash of a child, and what tells its schedule from others. Whether both have run that seed now.
    fn add(&mut self, child: usize, hash: u64, schedule: String) -> bool {
        self.hashes[child].push(hash);
        let place = self.hashes[child].len() - 1;
        let Some(&other) = self.hashes[1 - child].get(place) else { return false };
        self.distinct.insert(schedule);
        self.audit.seeds += 1;
        self.audit.distinct = self.distinct.len();
        if hash != other {
            self.audit.differ.push(self.first + place as u64);
        }
        true
    }
}

/// Runs each of `seeds` in two processes, which `child` says how to start, and tells `ran` of each seed that both have run. In a
/// child [`answer`] has to be called.
///
/// # Errors
/// If a child cannot be started, does not succeed, or has not answered to each seed.
pub fn compare(
    seeds: Range<u64>,
    child: impl Fn() -> Command + Sync,
    ran: impl Fn(&Audit) + Sync,
) -> io::Result<Audit> {
    let (hashes, distinct, audit) = (Default::default(), HashSet::new(), Audit::default());
    let pairs = Mutex::new(Pairs { first: seeds.start, hashes, distinct, audit });
    let asked = seeds.end.saturating_sub(seeds.start);
    twice(&child, &Asked::Hashes(seeds), |which, Step { hash, what }| {
        let mut pairs = pairs.lock();
        if pairs.add(which, hash, what) {
            ran(&pairs.audit);
        }
    })?;
    let Pairs { hashes, mut audit, .. } = pairs.into_inner();
    if let Some(too_few) = hashes.iter().find(|hashes| hashes.len() as u64 != asked) {
        return Err(io::Error::other(format!("a child answered to {} of {asked} seeds", too_few.len())));
    }
    if let Some(&seed) = audit.differ.first() {
        let events = Mutex::new([Vec::new(), Vec::new()]);
        twice(&child, &Asked::Events(seed), |which, step| events.lock()[which].push(step))?;
        let [one, other] = events.into_inner();
        audit.leak = first_difference(&one, &other);
    }
    Ok(audit)
}

/// Runs a child twice at once, and passes on each line of either that is an answer.
fn twice(child: &(impl Fn() -> Command + Sync), asked: &Asked, line: impl Fn(usize, Step) + Sync) -> io::Result<()> {
    let run = |which: usize| {
        let mut command = child();
        command.env(ASKED, asked.to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let mut printed = child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines());
        let read = printed.try_for_each(|printed| {
            step(&printed?).into_iter().for_each(|step| line(which, step));
            Ok(())
        });
        drop(printed);
        let status = child.wait()?;
        let failed = || io::Error::other(format!("{} ended with {status}", command.get_program().display()));
        read.and_then(|()| status.success().then_some(()).ok_or_else(failed))
    };
    let run = &run;
    let died = |_| Err(io::Error::other("the thread that ran it panicked"));
    thread::scope(|scope| {
        let children = [0, 1].map(|which| scope.spawn(move || run(which)));
        children.map(|child| child.join().unwrap_or_else(died)).into_iter().collect()
    })
}

/// Answers on the standard output if this process is the child of an audit: what `check` comes to in the runs of `sim` that are
/// asked for. Whether it is one.
///
/// # Errors
/// If what is asked cannot be understood, or the answer not be written.
pub fn answer<F, E>(sim: &Sim, check: F) -> io::Result<bool>
where
    F: AsyncFn(World) -> Result<(), E>,
    E: Display,
{
    let Some(asked) = env::var_os(ASKED) else { return Ok(false) };
    // Not by print!, which a test would keep.
    let say = |step: &Step| writeln!(io::stdout(), "{step}");
    match asked.to_string_lossy().parse()? {
        Asked::Hashes(seeds) => {
            // Whatever stands in the line by now is none of it.
            writeln!(io::stdout())?;
            for seed in seeds {
                let ran = sim.once(Course::Seed(seed, sim.strategy), false, &check);
                say(&Step { hash: ran.hash, what: format!("{:016x}", ran.canonical) })?;
            }
        }
        Asked::Events(seed) => {
            writeln!(io::stdout())?;
            let ran = sim.once(Course::Seed(seed, sim.strategy), true, &check);
            steps(&ran).iter().try_for_each(say)?;
        }
    }
    Ok(true)
}

impl Sim {
    /// Runs each seed in two processes of this test, named `test` as `cargo test` prints it, which have to agree in every event. In
    /// the other process this does not return, so it is the first thing that a test does, and only one test's.
    ///
    /// # Panics
    /// If a seed is another run in another process: with the first event that differs.
    #[track_caller]
    pub fn audit<F, E>(&self, test: &str, check: F)
    where
        F: AsyncFn(World) -> Result<(), E>,
        E: Display,
    {
        let child = || {
            // Where it is unknown, starting it fails, and says so.
            let mut command = Command::new(env::current_exe().unwrap_or_default());
            command.args(["--exact", test, "--include-ignored", "--test-threads", "1"]);
            command
        };
        let audited = match answer(self, check) {
            Ok(true) => std::process::exit(0),
            Ok(false) => compare(self.seeds.clone(), child, |_| ()),
            Err(error) => Err(error),
        };
        match audited {
            Ok(audit) => assert!(audit.holds(), "something beside the seed decides: {audit}"),
            Err(error) => panic!("{test:?} cannot be audited: {error}; is that the name of this test?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(names: &str) -> Vec<Step> {
        let mut hash = 0;
        let step = |what: &str| {
            hash = hash * 31 + u64::from(what.as_bytes()[0]);
            Step { hash, what: what.to_owned() }
        };
        names.split(' ').map(step).collect()
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(&steps("a b c"), &steps("a b c")), None);
        let leak = first_difference(&steps("a b c d e f"), &steps("a b c x e f")).expect("they differ");
        assert_eq!((leak.after, leak.last.map(|step| step.what)), (3, Some("c".to_owned())));
        assert_eq!(leak.parts.map(|step| step.map(|step| step.what)), [Some("d".to_owned()), Some("x".to_owned())]);
        let leak = first_difference(&steps("a b"), &steps("a b c")).expect("one is longer");
        assert_eq!((leak.after, leak.parts[0].is_none()), (2, true));
    }

    #[test]
    fn answers_are_read_as_they_are_printed_and_nothing_else_is_one() {
        let one = Step { hash: 0xABC, what: "disk/lane fsync log".to_owned() };
        assert_eq!(step(&one.to_string()), Some(one));
        for line in ["", "running 1 test", "test leaks::a_process ... ", "0123456789abcdeg seed 1"] {
            assert_eq!(step(line), None, "{line:?}");
        }
        for asked in [Asked::Hashes(3..70), Asked::Events(9)] {
            assert_eq!(asked.to_string().parse::<Asked>().unwrap(), asked);
        }
        assert!("3..".parse::<Asked>().is_err());
    }
}
