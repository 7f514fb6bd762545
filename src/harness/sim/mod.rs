//! Deterministic simulation: the real engine, the real pool and the real writer in a world where a seed decides everything.
//!
//! A [`World`] is a machine with a disk, a clock and one process. What is simulated is exactly this: the disk (`disk`, which
//! says what can fail), the clock (tokio's, paused: it jumps when nobody can go on), randomness, and who goes when
//! (`scheduler`). Everything else is production code. Tasks take turns at their awaits, so what a data race inside one poll
//! would do is not looked for; that is loom's.
//!
//! The rooms, from the bottom up: `trace` (what happened), `script` and `strategy` (who goes next), `decisions` (every open
//! question of a run, and its answer), `faults`, `failure`, `disk`, `identity` (which world it is), `state` (what the parts share),
//! `io` (the engine's way to the disk), `scheduler`, `world` (what a check does), `panics`, `run` (one run), `words` (any text in a
//! table), `notation` (interleavings), `minimise`, `campaign` (many runs), [`audit`] (whether a seed decides everything),
//! `watchdog` (a poll that does not end), `watch` (numbers that can never be true), `judge` (whose fault an error is), `ledger`
//! (what clients were told), `workloads`, `sometimes` (what has to be seen of them), and this face.

pub mod audit;
mod campaign;
mod decisions;
mod disk;
mod failure;
mod faults;
mod identity;
mod io;
mod judge;
mod ledger;
mod minimise;
mod notation;
mod panics;
mod run;
mod scheduler;
mod script;
mod sometimes;
mod state;
mod strategy;
mod trace;
mod watch;
mod watchdog;
mod words;
mod workloads;
mod world;

use std::fmt::Display;
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::time::Duration;

pub use self::campaign::{Found, Progress, Report};
pub use self::decisions::Plan;
pub use self::failure::{Failure, FailureKind};
pub use self::faults::Faults;
pub use self::judge::{Excuse, Judge};
pub use self::ledger::Ledger;
pub use self::notation::Schedule;
use self::run::{Course, run};
pub use self::sometimes::{Sometimes, Unseen};
pub use self::strategy::Strategy;
use self::trace::Detail;
pub use self::workloads::Workload;
pub use self::world::{Crashed, Gone, Joined, World};

/// The environment variable that makes [`Sim::check`] run one seed only.
pub const SEED: &str = "POOLPROOF_SEED";

/// A simulation: which seeds, which faults, in which order.
///
/// ```
/// use poolproof::Error;
/// use poolproof::harness::sim::{Sim, World};
///
/// /// Two clients count, each in one statement.
/// async fn count(world: World) -> Result<(), Error> {
///     let db = world.open("counter.db").await?;
///     db.execute("CREATE TABLE counter (n INTEGER)", ()).await?;
///     db.execute("INSERT INTO counter VALUES (0)", ()).await?;
///     let clients: Vec<_> = (0..2)
///         .map(|client| {
///             let db = db.clone();
///             world.spawn(format!("client-{client}"), async move {
///                 db.execute("UPDATE counter SET n = n + 1", ()).await
///             })
///         })
///         .collect();
///     for client in clients {
///         client.await.expect("nothing panics here")?;
///     }
///     let n: i64 = db
///         .read(async |snapshot| {
///             let mut rows = snapshot.query("SELECT n FROM counter", ()).await?;
///             Ok::<_, Error>(rows.next().await?.expect("a row").get(0)?)
///         })
///         .await?;
///     assert_eq!(n, 2);
///     Ok(())
/// }
///
/// Sim::new().seeds(0..20).check(count);
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is run until check or run is called"]
pub struct Sim {
    seeds: Range<u64>,
    shard: (u64, u64),
    faults: Faults,
    strategy: Strategy,
    jobs: usize,
    time: Option<Duration>,
    keeps_going: bool,
    minimises: Duration,
    poll_limit: Duration,
    workload: String,
}

/// What a schedule that was repeated came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// `None` if the check passed.
    pub failure: Option<Failure>,
    /// The first line that it never came to: if it failed, then perhaps elsewhere than the schedule did.
    pub left_over: Option<String>,
    /// What happened, in the notation of schedules.
    pub interleaving: String,
}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// 100 seeds, no faults, all strategies in turn, one thread.
    pub fn new() -> Self {
        Self {
            seeds: 0..100,
            shard: (0, 1),
            faults: Faults::NONE,
            strategy: Strategy::default(),
            jobs: 1,
            time: None,
            keeps_going: false,
            minimises: Duration::from_secs(30),
            poll_limit: watchdog::POLL_LIMIT,
            workload: String::new(),
        }
    }

    /// These seeds. 0 to 99 unless set.
    pub fn seeds(mut self, seeds: Range<u64>) -> Self {
        self.seeds = seeds;
        self
    }

    /// Of the seeds, part `shard` of `of`: every `of`-th.
    ///
    /// # Panics
    /// Unless `shard` is less than `of`.
    pub fn shard(mut self, shard: u64, of: u64) -> Self {
        assert!(shard < of, "there is no part {shard} of {of}");
        self.shard = (shard, of);
        self
    }

    /// With these faults. None unless set.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// In this order. [`Strategy::Mixed`] unless set.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// On so many threads, a world each at a time. 1 unless set.
    ///
    /// # Panics
    /// For 0.
    pub fn jobs(mut self, jobs: usize) -> Self {
        assert!(jobs > 0, "no thread would run anything");
        self.jobs = jobs;
        self
    }

    /// No further seed begins after this time.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Goes on after a seed that failed.
    pub fn keep_going(mut self, keeps_going: bool) -> Self {
        self.keeps_going = keeps_going;
        self
    }

    /// For how long a failure is made smaller. 30 seconds unless set; with 0 it is told as it was found.
    pub fn minimise_for(mut self, time: Duration) -> Self {
        self.minimises = time;
        self
    }

    /// For how long, in real time, one poll may go on. 10 seconds unless set. One that spins or blocks its thread cannot be
    /// interrupted: it is told which seed, task and place that is, and the process ends (exit code 101).
    ///
    /// # Panics
    /// For 0.
    pub fn poll_limit(mut self, limit: Duration) -> Self {
        assert!(!limit.is_zero(), "no poll ends in no time");
        self.poll_limit = limit;
        self
    }

    /// What the check is called in schedules: by [`check`](Self::check) as the test is, unless set.
    pub fn workload(mut self, name: impl Into<String>) -> Self {
        self.workload = name.into();
        self
    }

    /// Runs `check` in a world for each seed: the gate of a `#[test]`. An error and a panic fail the seed alike. If the
    /// environment has `POOLPROOF_SEED=S`, only that one is run.
    ///
    /// # Panics
    /// If a seed fails: with the smallest interleaving that fails in the same way; which seed it is is told on the standard error as
    /// soon as it failed. In an async function: a world has a runtime of its own.
    #[track_caller]
    pub fn check<F, E>(mut self, check: F)
    where
        F: AsyncFn(World) -> Result<(), E> + Sync,
        E: Display,
    {
        if let Some(seed) = std::env::var_os(SEED) {
            let parsed = seed.to_str().and_then(|seed| seed.parse().ok()).filter(|&seed| seed < u64::MAX);
            let seed: u64 = parsed.unwrap_or_else(|| panic!("{SEED} is {seed:?}, which is no seed"));
            self = self.seeds(seed..seed + 1).shard(0, 1);
        }
        let thread = std::thread::current();
        let test = thread.name().filter(|name| *name != "main");
        if self.workload.is_empty() {
            self.workload = test.unwrap_or_default().to_owned();
        }
        let report = self.run_with(check, &Tells);
        assert!(report.seeds > 0, "no seed was run: there is none, or no time for one");
        if let Some(found) = report.found.first() {
            let (seed, test) = (found.seed, test.unwrap_or("NAME_OF_THIS_TEST"));
            match found.fails_again {
                true => panic!("{found}\nrepeat: {SEED}={seed} cargo test {test}"),
                false => panic!("{found}\n{SEED}={seed} alone does not repeat it"),
            }
        }
    }

    /// Runs `check` once along a schedule that was printed, or written by hand.
    ///
    /// # Errors
    /// What is wrong with the text. A schedule that no longer applies is a [`FailureKind::Schedule`]. (One poll may take 10
    /// seconds, in a debugger too; [`poll_limit`](Self::poll_limit) is for runs of seeds.)
    pub fn replay<F, E>(text: &str, check: F) -> Result<Replayed, String>
    where
        F: AsyncFn(World) -> Result<(), E>,
        E: Display,
    {
        let schedule: Schedule = text.parse()?;
        let ran = run(Course::Schedule(&schedule), schedule.faults, true, &check);
        let interleaving = notation::Picture::of(&ran.events, &ran.names, Detail::Deeds).to_string();
        Ok(Replayed { failure: ran.failure, left_over: ran.left_over, interleaving })
    }

    /// The hash of everything that happened in a run of `seed`: the same in every process, or something leaks into it
    /// ([`audit`](Self::audit)).
    pub fn hash<F, E>(&self, seed: u64, check: F) -> u64
    where
        F: AsyncFn(World) -> Result<(), E>,
        E: Display,
    {
        self.once(Course::Seed(seed, self.strategy), false, &check).hash
    }
}

/// Tells which seed failed before that is made smaller, which may take long.
struct Tells;

impl Progress for Tells {
    fn ran(&self, _report: &Report) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn fails(&self, seed: u64, failure: &Failure, limit: Duration) {
        // Not by eprintln!, which a test keeps until it ends.
        let _ = writeln!(std::io::stderr(), "{}", failure.found(seed, limit));
    }
}
