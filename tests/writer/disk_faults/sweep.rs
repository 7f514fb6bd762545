//! A scenario again and again: its first call of some kind fails, then its second, and so on until there are no more.
//!
//! After each step in which a call failed, and at the end, the power fails: with nothing lost, everything that was not
//! synced, and some sectors of it; and once after another process went on. The lane's thread runs beside the story's, so
//! the calls of two runs may differ by a checkpoint that came before or after a write; what must hold does not.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind::{self, Other, StorageFull};
use std::thread;

use super::disk::{Call, Fault, Style, Which};
use super::ledger::Told;
use super::story::{Story, Write, with_checkpoints};

/// A part of a scenario. Sizes are of each row's body, in bytes.
#[derive(Clone, Copy)]
pub enum Step {
    One(Write, i64),
    Together(usize, i64),
    Checkpoint,
}

pub type Scenario = [Step];

use Step::{Checkpoint, One, Together};
use Write::{Closure, Statement};

/// Some twenty writes, alone and in batches, of one page and of several, and a checkpoint every few of them.
pub const EVERYDAY: &Scenario = &[
    One(Statement, 100),
    Checkpoint,
    One(Closure, 100),
    Together(3, 100),
    Checkpoint,
    One(Statement, 6000),
    Checkpoint,
    Checkpoint,
    One(Statement, 10),
    Together(4, 3000),
    One(Closure, 9000),
    Checkpoint,
    One(Closure, 10),
    Together(2, 10),
    One(Statement, 3000),
    Checkpoint,
];

/// A write of more than 1,000 pages.
pub const LARGE: &Scenario = &[One(Statement, 100), One(Closure, 2_100_000), One(Closure, 10)];

/// What fails, and how.
pub type Kind = (Which, Call, Style, ErrorKind);

pub const KINDS: &[Kind] = &[
    (Which::Log, Call::Sync, Style::Inline, Other),
    (Which::Log, Call::Sync, Style::Completion, Other),
    (Which::Log, Call::Write, Style::Inline, Other),
    (Which::Log, Call::Write, Style::Inline, StorageFull),
    (Which::Log, Call::Write, Style::HalfWay, Other),
    (Which::Log, Call::Write, Style::HalfWay, StorageFull),
    (Which::Log, Call::Write, Style::Completion, Other),
    (Which::Log, Call::Write, Style::Completion, StorageFull),
    (Which::Log, Call::Truncate, Style::Inline, Other),
    (Which::Database, Call::Sync, Style::Inline, Other),
    (Which::Database, Call::Sync, Style::Completion, Other),
    (Which::Database, Call::Write, Style::Inline, Other),
    (Which::Database, Call::Write, Style::Inline, StorageFull),
    (Which::Database, Call::Write, Style::HalfWay, Other),
    (Which::Database, Call::Write, Style::HalfWay, StorageFull),
    (Which::Database, Call::Write, Style::Completion, Other),
    (Which::Database, Call::Write, Style::Completion, StorageFull),
    (Which::Database, Call::Read, Style::Inline, Other),
];

/// What fails in the engine's own checkpoint.
pub const OF_A_CHECKPOINT: &[Kind] = &[
    (Which::Log, Call::Sync, Style::Completion, Other),
    (Which::Database, Call::Sync, Style::Completion, Other),
    (Which::Database, Call::Write, Style::Inline, Other),
    (Which::Database, Call::Write, Style::Completion, StorageFull),
];

/// How often it fails from then on: once; so that a repair fails too; until the end.
const TIMES: [usize; 3] = [1, 2, usize::MAX];

/// What was done in a sweep.
#[derive(Default)]
pub struct Swept {
    runs: BTreeMap<(Which, Call), usize>,
    told: [usize; 3],
    /// Disks that were looked at.
    disks: usize,
}

impl Swept {
    pub fn runs_of(&self, which: Which, call: Call) -> usize {
        self.runs.get(&(which, call)).copied().unwrap_or(0)
    }

    pub fn told(&self, told: Told) -> usize {
        self.told[told as usize]
    }

    fn add(&mut self, other: &Swept) {
        for (kind, runs) in &other.runs {
            *self.runs.entry(*kind).or_default() += runs;
        }
        for (all, these) in self.told.iter_mut().zip(other.told) {
            *all += these;
        }
        self.disks += other.disks;
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [committed, rolled_back, unknown] = self.told;
        writeln!(f, "{} runs, {} disks", self.runs.values().sum::<usize>(), self.disks)?;
        writeln!(f, "writes: {committed} committed, {rolled_back} rolled back, {unknown} unknown")?;
        for ((which, call), runs) in &self.runs {
            writeln!(f, "{runs} runs in which a {call:?} of the {which:?} failed")?;
        }
        Ok(())
    }
}

/// Every kind of call, each on a thread of its own.
pub fn all(scenario: &'static Scenario, kinds: &[Kind]) -> Swept {
    let sweeps: Vec<_> = kinds.iter().map(|&kind| thread::spawn(move || sweep(scenario, kind))).collect();
    let (mut all, mut wrong) = (Swept::default(), Vec::new());
    for sweep in sweeps {
        match sweep.join().unwrap() {
            Ok(swept) => all.add(&swept),
            Err(this) => wrong.push(this),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    all
}

fn sweep(scenario: &Scenario, (which, call, style, kind): Kind) -> Result<Swept, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut swept = Swept::default();
    // Only a commit has a repair.
    let times = if (which, kind) == (Which::Log, Other) { &TIMES[..] } else { &TIMES[..1] };
    for &times in times {
        let mut after = 0;
        loop {
            let fault = Fault { which, call, after, times, style, kind };
            let run = runtime.block_on(run(scenario, fault)).map_err(|wrong| format!("{fault:?}: {wrong}"))?;
            let Some(run) = run else { break };
            swept.add(&run);
            after += 1;
        }
    }
    Ok(swept)
}

/// The scenario with one fault; `None` if it did not occur.
async fn run(scenario: &Scenario, fault: Fault) -> Result<Option<Swept>, String> {
    let mut story = Story::begin(with_checkpoints()).await;
    story.disk.fails(fault);
    let (mut failed, mut disks) = (0, 0);
    for step in scenario {
        match *step {
            One(write, size) => drop(story.write(write, size, None).await),
            Together(count, size) => drop(story.together(count, size, None).await),
            Checkpoint => story.checkpoint().await,
        }
        // Once it has begun, the end tells as much as each step.
        if failed == 0 && story.disk.failed() > 0 {
            failed = story.disk.failed();
            disks += story.holds().await?;
        }
    }
    if story.disk.is_mended() == 0 {
        return Ok(None);
    }
    story.write(Statement, 10, None).await.map_err(|error| format!("the lane does not go on: {error}"))?;
    story.is_seen().await?;
    disks += story.holds().await?;
    let told = [Told::Committed, Told::RolledBack, Told::Unknown].map(|told| story.ledger.count(told));
    Ok(Some(Swept { runs: BTreeMap::from([((fault.which, fault.call), 1)]), told, disks }))
}
