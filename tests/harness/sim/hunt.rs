//! A hunt for something that is broken on purpose, and the same for its mended twin: a check that finds nothing proves
//! something only beside one that finds.

use std::fmt::Display;
use std::time::{Duration, Instant};

use poolproof::harness::sim::{Faults, Found, Sim, World};

/// Ranges of seeds in which the flaw is looked for, each for itself.
const RANGES: u64 = 5;

/// Seeds of a range, many more than it takes.
const SEEDS: u64 = 500;

/// Seeds that a twin passes at least; as many as the flaw took in any range if that is more.
const PASSES: u64 = 60;

/// Lines of an interleaving that a reader takes in at a glance.
const LINES: usize = 12;

/// How long a reader waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is hunted.
pub struct Hunt {
    name: &'static str,
    faults: Faults,
    /// Seeds that its twin passes.
    passes: u64,
    /// The failure says one of these.
    says: &'static [&'static str],
}

impl Hunt {
    /// A flaw whose failure `says` one of these, without any fault.
    pub fn new(name: &'static str, says: &'static [&'static str]) -> Self {
        Self { name, faults: Faults::NONE, passes: PASSES, says }
    }

    /// With these faults, as the command line has them.
    pub fn faults(mut self, faults: &str) -> Self {
        self.faults = faults.parse().expect("the names of faults");
        self
    }

    fn sim(&self, range: u64) -> Sim {
        Sim::new().seeds(range * SEEDS..(range + 1) * SEEDS).faults(self.faults)
    }

    /// The flaw is found in each range, told in a few lines, and these lines repeat it.
    pub fn finds<F, E>(mut self, broken: F) -> Self
    where
        F: AsyncFn(World) -> Result<(), E> + Sync,
        E: Display,
    {
        let began = Instant::now();
        let found = self.sim(0).run(&broken).found.pop();
        let found = found.unwrap_or_else(|| panic!("{}: not found in {} seeds", self.name, SEEDS));
        let took = began.elapsed();
        println!("{found}");
        assert!(self.says.iter().any(|says| found.failure.contains(says)), "{}: found is something else", self.name);
        assert!(found.lines <= LINES, "{}: {} lines", self.name, found.lines);
        assert!(took < PATIENCE, "{}: {took:?}", self.name);
        self.is_repeated(&found, &broken);
        let mut counts: Vec<u64> = (0..RANGES).map(|range| self.counts(range, &broken)).collect();
        counts.sort_unstable();
        let (median, most) = (counts[counts.len() / 2], counts[counts.len() - 1]);
        println!("{}: found after a median of {median} seeds, {most} at most; made smaller in {took:.1?}", self.name);
        self.passes = self.passes.max(most);
        self
    }

    fn is_repeated<F, E>(&self, found: &Found, broken: &F)
    where
        F: AsyncFn(World) -> Result<(), E> + Sync,
        E: Display,
    {
        assert!(found.is_repeated, "{}: the lines do not repeat it", self.name);
        let again = Sim::replay(&found.schedule, broken).expect("a schedule that was printed");
        let again = again.failure.expect("what failed fails again").to_string();
        assert_eq!(again.lines().next(), found.failure.lines().next(), "{}", self.name);
    }

    /// Seeds of a range until the flaw shows.
    fn counts<F, E>(&self, range: u64, broken: &F) -> u64
    where
        F: AsyncFn(World) -> Result<(), E> + Sync,
        E: Display,
    {
        let report = self.sim(range).minimise_for(Duration::ZERO).run(broken);
        let found = report.found.first();
        let found = found.unwrap_or_else(|| panic!("{}: not found in range {range} of {SEEDS} seeds", self.name));
        assert!(self.says.iter().any(|says| found.failure.contains(says)), "{}: {found}", self.name);
        report.seeds
    }

    /// The same without the flaw passes.
    pub fn but_not<F, E>(self, mended: F) -> Self
    where
        F: AsyncFn(World) -> Result<(), E> + Sync,
        E: Display,
    {
        let report = self.sim(0).seeds(0..self.passes).run(&mended);
        if let Some(found) = report.found.first() {
            panic!("{}: without the flaw, {found}", self.name);
        }
        println!("{}: without the flaw {} seeds pass, {:.0} in a second", self.name, report.seeds, report.rate());
        self
    }
}
