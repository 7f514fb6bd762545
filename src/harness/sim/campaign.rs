//! Many seeds: on several threads, counted, until one fails or all have run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::minimise::{Minimised, minimise};
use super::notation::{Picture, RULE, Schedule};
use super::run::{Course, Ran, run_within};
use super::trace::Detail;
use super::{Sim, Workload, World, audit};

/// A seed that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Found {
    /// Which.
    pub seed: u64,
    /// Why, as the smallest run that fails in the same way says it.
    pub failure: String,
    /// The interleaving of that run, to be read, and to be read back by [`Sim::replay`].
    pub schedule: String,
    /// Lines of its table.
    pub lines: usize,
    /// Answers that were not the default, before it was made smaller and after.
    pub decisions: (usize, usize),
    /// Runs that this took.
    pub runs: u64,
    /// Whether the schedule repeats the failure. If not, the seed does.
    pub is_repeated: bool,
    /// Whether a second run of the seed was another one: something beside the seed decides.
    pub leaks: bool,
    /// Whether a second run of the seed failed in the same way.
    pub fails_again: bool,
    /// What is known of that which beside the seed decides: where two runs part, and SQL that asks the real clock.
    pub outside: String,
}

/// What many runs came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// Events in all of them.
    pub events: u64,
    /// Schedules that differ in more than the order of independent events, by their canonical hash, and how often each was
    /// met.
    pub schedules: HashMap<u64, u32>,
    /// What was seen, and how often.
    pub seen: BTreeMap<String, u64>,
    /// In real time.
    pub seconds: f64,
    /// The seeds that failed.
    pub found: Vec<Found>,
}

impl Report {
    /// Schedules that differ.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.schedules.len()
    }

    /// How likely it is that the next seed is of a schedule that was not met: the part of those that were met once
    /// (Good and Turing's estimate; Good, 1953).
    #[must_use]
    pub fn chance_of_a_new_one(&self) -> f64 {
        let once = self.schedules.values().filter(|&&times| times == 1).count();
        if self.seeds == 0 { 1.0 } else { once as f64 / self.seeds as f64 }
    }

    /// Seeds in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.seeds as f64 / self.seconds } else { 0.0 }
    }

    /// Faults that happened.
    #[must_use]
    pub fn faults(&self) -> u64 {
        Workload::faults().iter().filter_map(|what| self.seen.get(*what)).sum()
    }

    /// Those of `wanted` that were never seen.
    #[must_use]
    pub fn never_seen<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().copied().filter(|&what| !self.seen.contains_key(what)).collect()
    }

    /// Another part of the same campaign.
    pub fn merge(&mut self, other: Report) {
        self.seeds += other.seeds;
        self.events += other.events;
        for (schedule, times) in other.schedules {
            *self.schedules.entry(schedule).or_default() += times;
        }
        for (what, times) in other.seen {
            *self.seen.entry(what).or_default() += times;
        }
        self.seconds = self.seconds.max(other.seconds);
        self.found.extend(other.found);
    }

    fn count(&mut self, ran: &Ran) {
        self.seeds += 1;
        self.events += ran.steps;
        *self.schedules.entry(ran.canonical).or_default() += 1;
        for (what, times) in &ran.seen {
            *self.seen.entry((*what).to_owned()).or_default() += times;
        }
    }
}

impl Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.decisions;
        writeln!(f, "seed {} fails: {}", self.seed, self.failure)?;
        match (before, after) {
            (0, _) => writeln!(f, "it does so in the plainest order:\n")?,
            (_, 0) => writeln!(f, "so does the plainest order, found in {} runs:\n", self.runs)?,
            _ => {
                writeln!(f, "{after} of its {before} decisions {} enough, found in {} runs:\n", verb(after), self.runs)?
            }
        }
        writeln!(f, "{RULE}\n{}\n{RULE}\n{LEGEND}", self.schedule.trim_end())?;
        f.write_str(match (self.fails_again, self.leaks, self.is_repeated) {
            (true, false, true) => "What is between the lines, saved, repeats it (Sim::replay); so does the seed.\n",
            (true, false, false) => "What is between the lines does not repeat it, the seed does.\n",
            (true, true, _) => {
                "A second run of this seed failed like this, and was another run: something beside the seed decides.\n"
            }
            (false, ..) => "A second run of this seed did not fail like this: something beside the seed decides.\n",
        })?;
        f.write_str(&self.outside)
    }
}

/// How the notation reads, for whoever meets it here.
const LEGEND: &str = "A line is what one task did until another went on, and last what the disk did for it; a dot: nothing but that.\n\
                      lane#2: the second task of that name. answer: WHAT WHOSE N = ANSWER: to its N-th question, from 0 on.\n";

fn verb(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// What one campaign tells while it runs.
pub trait Progress: Sync {
    /// A seed was run. Whether to go on.
    fn ran(&self, report: &Report) -> ControlFlow<()>;

    /// A seed failed, and is about to be made smaller, for that time at most.
    fn fails(&self, _seed: u64, _failure: &Failure, _limit: Duration) {}

    /// Whether somebody wants it to end. Asked while a failure is made smaller, which may take longer than any seed.
    fn is_stopped(&self) -> bool {
        false
    }
}

impl Progress for () {
    fn ran(&self, _report: &Report) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Sim {
    /// Runs `check` in a world for each seed, and makes what fails smaller.
    pub fn run<F, E>(&self, check: F) -> Report
    where
        F: AsyncFn(World) -> Result<(), E> + Sync,
        E: Display,
    {
        self.run_with(check, &())
    }

    /// The same, and tells of it meanwhile.
    pub fn run_with<F, E>(&self, check: F, progress: &impl Progress) -> Report
    where
        F: AsyncFn(World) -> Result<(), E> + Sync,
        E: Display,
    {
        let began = Instant::now();
        let (shard, of) = self.shard;
        let next = AtomicU64::new(self.seeds.start.saturating_add(shard));
        let (stops, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let report = Mutex::new(Report::default());
        let works = || {
            while !stops.load(Ordering::Relaxed) && self.time.is_none_or(|time| began.elapsed() < time) {
                // Never beyond the last number, after which 0 would be next.
                let after = |seed: u64| Some(seed.saturating_add(of));
                let (Ok(seed) | Err(seed)) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
                if seed >= self.seeds.end {
                    break;
                }
                let ran = self.once(Course::Seed(seed, self.strategy), false, &check);
                {
                    let mut report = report.lock();
                    report.count(&ran);
                    if progress.ran(&report).is_break() {
                        stops.store(true, Ordering::Relaxed);
                    }
                }
                if let Some(failure) = ran.failure {
                    let is_first = !failed.swap(true, Ordering::Relaxed);
                    stops.fetch_or(!self.keeps_going, Ordering::Relaxed);
                    if is_first || self.keeps_going {
                        progress.fails(seed, &failure, self.minimises);
                        let found = self.explain(seed, ran.hash, ran.plan, failure, &check, progress);
                        report.lock().found.push(found);
                    }
                }
            }
        };
        match self.jobs {
            1 => works(),
            jobs => thread::scope(|scope| {
                for _ in 0..jobs {
                    scope.spawn(works);
                }
            }),
        }
        let mut report = report.into_inner();
        report.seconds = began.elapsed().as_secs_f64();
        report.found.sort_by_key(|found| found.seed);
        report
    }

    /// Makes the failure of a seed smaller, and draws it.
    fn explain<F, E>(
        &self,
        seed: u64,
        hash: u64,
        plan: super::Plan,
        failure: Failure,
        check: &F,
        progress: &impl Progress,
    ) -> Found
    where
        F: AsyncFn(World) -> Result<(), E>,
        E: Display,
    {
        let before = plan.decisions.len();
        let runs = |plan: &super::Plan| match progress.is_stopped() {
            // As if it held: what is left is as small as it gets.
            true => Ran::default(),
            false => self.once(Course::Plan(plan), false, check),
        };
        let Minimised { plan, runs } = minimise(plan, &failure, self.minimises, &runs);
        let ran = self.once(Course::Plan(&plan), true, check);
        // As whoever saved it would.
        let repeats = |schedule: &Schedule, picture: &Picture| {
            schedule.file(picture).parse::<Schedule>().is_ok_and(|schedule| {
                let repeated = self.once(Course::Schedule(&schedule), false, check);
                repeated.failure.is_some_and(|repeated| repeated.is_like(&failure))
            })
        };
        // With as little as it takes: its deeds, where one takes over from another, and last each step that is not the default.
        let told = [Detail::Deeds, Detail::Handovers].map(|detail| {
            let picture = Picture::of(&ran.events, &ran.names, detail);
            (Schedule::of(&self.workload, self.faults, &plan, &picture), picture)
        });
        let (schedule, picture) = match told {
            [one, _] if repeats(&one.0, &one.1) => one,
            [_, other] if repeats(&other.0, &other.1) => other,
            [(schedule, picture), _] => (schedule.by_answers(&plan), picture),
        };
        let smallest = ran.failure.unwrap_or_else(|| failure.clone());
        let again = self.once(Course::Seed(seed, self.strategy), false, check);
        let leaks = again.hash != hash;
        let fails_again = again.failure.is_some_and(|again| again.is_like(&failure));
        Found {
            seed,
            is_repeated: repeats(&schedule, &picture),
            leaks,
            fails_again,
            outside: self.outside(seed, leaks || !fails_again, &again.leaks, check),
            failure: smallest.to_string(),
            schedule: schedule.file(&picture),
            lines: picture.len(),
            decisions: (before, plan.decisions.len()),
            runs,
        }
    }

    /// What is known of that which beside the seed decides.
    fn outside<F, E>(&self, seed: u64, is_another: bool, known: &BTreeSet<String>, check: &F) -> String
    where
        F: AsyncFn(World) -> Result<(), E>,
        E: Display,
    {
        let mut text: String = known.iter().map(|what| format!("SQL asks the real world: {what}\n")).collect();
        if !is_another {
            return text;
        }
        let [one, other] = [(); 2].map(|()| audit::steps(&self.once(Course::Seed(seed, self.strategy), true, check)));
        match audit::first_difference(&one, &other) {
            Some(leak) => text.push_str(&format!("Two runs of it part {leak}")),
            None => text.push_str("Two more runs of it had the same events: World::note what a task sees.\n"),
        }
        text + "Usual: tokio::select! without `biased`, the order of a HashMap, std::time, SystemTime, randomness, an address.\n"
    }

    /// Runs `check` once.
    pub(super) fn once<F, E>(&self, course: Course<'_>, keeps_events: bool, check: &F) -> Ran
    where
        F: AsyncFn(World) -> Result<(), E>,
        E: Display,
    {
        run_within(self.poll_limit, course, self.faults, keeps_events, check)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Faults, Workload};
    use super::*;

    /// Whether somebody wants an end.
    struct Stopped(bool);

    impl Progress for Stopped {
        fn ran(&self, _report: &Report) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }

        fn is_stopped(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn each_fault_is_counted_and_nothing_else_is() {
        /// No further than the first.
        struct Fault;
        impl Progress for Fault {
            fn ran(&self, report: &Report) -> ControlFlow<()> {
                if report.faults() > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        }
        let faults = |seeds, faults| {
            let sim = Sim::new().seeds(seeds).faults(faults);
            let report = sim.run_with(async |world| Workload::Counter.run(world).await, &Fault);
            assert!(report.found.is_empty() && !report.seen.is_empty());
            report.faults()
        };
        assert_eq!(faults(0..5, Faults::NONE), 0);
        let usual = Faults::all();
        for one in [
            Faults { read: usual.read, ..Faults::NONE },
            Faults { write: usual.write, ..Faults::NONE },
            Faults { full: usual.full, ..Faults::NONE },
            Faults { short_write: usual.short_write, ..Faults::NONE },
            Faults { sync: usual.sync, ..Faults::NONE },
            Faults { latency: usual.latency, ..Faults::NONE },
            Faults { crash: usual.crash, ..Faults::NONE },
            Faults { cancel: usual.cancel, ..Faults::NONE },
            Faults { panic: usual.panic, ..Faults::NONE },
            Faults { time: usual.time, ..Faults::NONE },
        ] {
            assert!(faults(0..200, one) > 0, "{one}");
        }
    }

    #[test]
    fn the_last_of_all_seeds_are_run_once_each() {
        let seeds = |sim: Sim| {
            let ran = Mutex::new(Vec::new());
            let report = sim.seeds(u64::MAX - 5..u64::MAX).run(async |world: World| {
                ran.lock().push(u64::MAX - world.seed());
                Ok::<_, String>(())
            });
            let mut ran = ran.into_inner();
            ran.sort_unstable();
            assert_eq!(report.seeds, ran.len() as u64);
            ran
        };
        assert_eq!(seeds(Sim::new().jobs(3)), [1, 2, 3, 4, 5]);
        assert_eq!(seeds(Sim::new().jobs(3).shard(1, 3)), [1, 4]);
        assert!(seeds(Sim::new().shard(8, 9)).is_empty(), "there are fewer seeds than shards");
    }

    #[test]
    fn a_failure_that_is_found_when_somebody_wants_an_end_is_told_as_it_is() {
        let fails = async |world: World| {
            let db = world.open("t.db").await.map_err(|error| error.to_string())?;
            db.execute("CREATE TABLE t (x)", ()).await.map_err(|error| error.to_string())?;
            Err::<(), _>("it always fails".to_owned())
        };
        let decisions = |is_stopped| {
            let sim = Sim::new().seeds(0..20).faults(Faults { latency: 500_000, ..Faults::NONE });
            sim.run_with(fails, &Stopped(is_stopped)).found[0].decisions
        };
        let (before, after) = decisions(true);
        assert!(before > 0 && before == after, "{before} {after}");
        assert_eq!(decisions(false), (before, 0));
    }
}
