//! How far a campaign or an audit is: a bar on a terminal, and plain lines elsewhere.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use poolproof::harness::drive::Control;
use poolproof::harness::sim::{Failure, Progress, Report, Workload};

use crate::output::{bar, counted, number, tell};

/// Seeds that are done, of those that there are.
pub struct Meter {
    name: String,
    seeds: u64,
    bar: ProgressBar,
    /// When it says so in a line at the latest; `None` where it says nothing.
    lines: Option<Mutex<Instant>>,
}

/// The first line comes after this time at the latest, for a long run must be seen to have begun.
const FIRST: Duration = Duration::from_secs(1);
/// And each other one after this, however many seeds there are.
const SILENCE: Duration = Duration::from_secs(10);

impl Meter {
    pub fn new(seeds: u64, name: &str, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { bar(seeds, name) };
        let lines = (!quiet && !std::io::stderr().is_terminal()).then(|| Mutex::new(Instant::now() + FIRST));
        Self { name: name.to_owned(), seeds, bar, lines }
    }

    /// So many are done, of which that can be said.
    pub fn shows(&self, done: u64, what: impl Fn() -> String) {
        let Self { name, seeds, .. } = self;
        self.bar.set_position(done);
        if done.is_multiple_of(16) {
            let rate = done as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
            self.bar.set_message(format!("{name}: {rate:.0}/s, {}", what()));
        }
        if let Some(next) = &self.lines {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            if done.is_multiple_of(seeds.div_ceil(10).max(1)) || Instant::now() >= *next {
                *next = Instant::now() + SILENCE;
                tell(format_args!("{name}: {} of {}, {}", number(done), counted(*seeds, "seed"), what()));
            }
        }
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Shows how far a campaign is, and stops it.
pub struct Watcher<'a> {
    control: &'a Control,
    meter: Meter,
}

impl<'a> Watcher<'a> {
    pub fn new(control: &'a Control, seeds: u64, workload: Workload, quiet: bool) -> Self {
        Self { control, meter: Meter::new(seeds, &workload.to_string(), quiet) }
    }

    pub fn clear(&self) {
        self.meter.clear();
    }
}

impl Progress for Watcher<'_> {
    fn is_stopped(&self) -> bool {
        self.control.is_stopped()
    }

    fn fails(&self, seed: u64, failure: &Failure, limit: Duration) {
        tell(format_args!("{}: {}", self.meter.name, failure.found(seed, limit)));
    }

    fn ran(&self, report: &Report) -> ControlFlow<()> {
        let what = || {
            let (schedules, faults) = (report.distinct() as u64, report.faults());
            format!("{}, {}", counted(schedules, "distinct schedule"), counted(faults, "fault"))
        };
        self.meter.shows(report.seeds, what);
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
