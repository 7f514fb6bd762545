//! One run of one check in one world, from its first step to its last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::decisions::{Actor, Decider, Plan};
use super::disk::Disk;
use super::failure::{Failure, FailureKind};
use super::faults::Faults;
use super::notation::Schedule;
use super::panics;
use super::scheduler::Scheduler;
use super::state::{Outside, Shared, State};
use super::strategy::Strategy;
use super::trace::{Event, Trace};
use super::watchdog::{POLL_LIMIT, Watchdog};
use super::world::World;
use crate::simulated;

/// How one run goes.
#[derive(Clone, Copy)]
pub(super) enum Course<'a> {
    Seed(u64, Strategy),
    Plan(&'a Plan),
    Schedule(&'a Schedule),
}

/// What one run came to.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) failure: Option<Failure>,
    /// What a schedule says, and this run never came to.
    pub(super) left_over: Option<String>,
    /// Of everything that happened.
    pub(super) hash: u64,
    /// The same whatever the order of independent events.
    pub(super) canonical: u64,
    /// Events.
    pub(super) steps: u64,
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// What real things got in, as far as that is known.
    pub(super) leaks: BTreeSet<String>,
    pub(super) plan: Plan,
    /// Empty unless they were asked for.
    pub(super) events: Vec<Event>,
    /// Whose events they are.
    pub(super) names: BTreeMap<Actor, Arc<str>>,
}

/// Runs `check` once.
pub(super) fn run<F, E>(course: Course<'_>, faults: Faults, keeps_events: bool, check: &F) -> Ran
where
    F: AsyncFn(World) -> Result<(), E>,
    E: Display,
{
    run_within(POLL_LIMIT, course, faults, keeps_events, check)
}

/// The same, where one poll may take so long.
pub(super) fn run_within<F, E>(
    poll_limit: Duration,
    course: Course<'_>,
    faults: Faults,
    keeps_events: bool,
    check: &F,
) -> Ran
where
    F: AsyncFn(World) -> Result<(), E>,
    E: Display,
{
    assert!(
        Handle::try_current().is_err(),
        "a simulation has a runtime of its own: call it in a plain #[test], not in #[tokio::test] or another async function"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads and sockets needs nothing");
    let (decider, seed) = match course {
        Course::Seed(seed, strategy) => (Decider::of_seed(seed, strategy), seed),
        Course::Plan(plan) => (Decider::of_plan(plan), plan.seed),
        Course::Schedule(schedule) => (schedule.decider(), schedule.seed),
    };
    let watchdog = Watchdog::new(seed, poll_limit);
    let ran = runtime.block_on(async {
        let state = State {
            decider,
            disk: Disk::default(),
            trace: Trace::new(keeps_events),
            faults,
            calm: 0,
            current: None,
            looks: 0,
            life: 1,
            may_crash: false,
            lets_panics_be_caught: false,
            crashed: false,
            has_dead: false,
            failure: None,
            seen: BTreeMap::new(),
            leaks: BTreeSet::new(),
            watches: Vec::new(),
        };
        let shared = Shared::new(state, Arc::clone(watchdog.watched()));
        let _here = simulated::enter(Rc::new(Outside(Arc::downgrade(&shared))));
        let _recorded = panics::record();
        let world = World::new(Arc::clone(&shared), seed);
        let fails = Arc::clone(&shared);
        let main = async move {
            if let Err(error) = check(world).await {
                fails.state().failure.get_or_insert(Failure::new(FailureKind::Check, error.to_string()));
            }
        };
        let mut scheduler = Box::pin(Scheduler::new(Arc::clone(&shared), Box::pin(main)));
        tokio::task::unconstrained(scheduler.as_mut() as std::pin::Pin<&mut dyn Future<Output = ()>>).await;
        scheduler.looks_outside();
        let ran = {
            let mut state = shared.state();
            let left_over = state.decider.left_over();
            let obsolete = || left_over.clone().map(|line| Failure::new(FailureKind::Schedule, line));
            Ran {
                failure: state.failure.take().or_else(obsolete),
                left_over,
                hash: state.trace.hash(),
                canonical: state.trace.canonical(),
                steps: state.trace.count(),
                seen: std::mem::take(&mut state.seen),
                leaks: std::mem::take(&mut state.leaks),
                plan: state.decider.plan(),
                events: state.trace.take_events(),
                names: state.decider.names(),
            }
        };
        // In the runtime, whose clock it may look at.
        drop(scheduler);
        ran
    });
    // It waits for threads that the check has started.
    watchdog.watched().runtime_runs();
    drop(runtime);
    ran
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::harness::sim::Workload;

    async fn story(world: World) -> Result<(), String> {
        Workload::Story.run(world).await
    }

    fn of_seed(seed: u64) -> Ran {
        run(Course::Seed(seed, Strategy::Mixed), Faults::all(), true, &story)
    }

    #[test]
    fn a_seed_is_the_same_run_each_time_and_no_other() {
        let hashes: Vec<u64> = (0..10).map(|seed| of_seed(seed).hash).collect();
        assert_eq!(hashes, (0..10).map(|seed| of_seed(seed).hash).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<u64> = hashes.iter().copied().collect();
        assert_eq!(distinct.len(), 10);
    }

    #[test]
    fn another_seeds_random_numbers_are_another_run_and_the_same_schedule() {
        for seed in 0..20 {
            let ran = of_seed(seed);
            let plan = Plan { seed: seed + 1000, ..ran.plan };
            let other = run(Course::Plan(&plan), Faults::all(), false, &story);
            assert_ne!(other.hash, ran.hash, "seed {seed}: salts of the log are in it");
            assert_eq!(other.canonical, ran.canonical, "seed {seed}");
        }
    }

    /// Worlds of which something is left after their runs.
    fn left_over(check: impl AsyncFn(World) -> Result<(), String>) -> Vec<u64> {
        let worlds = RefCell::new(Vec::new());
        for seed in 0..30 {
            run(Course::Seed(seed, Strategy::Mixed), Faults::all(), false, &async |world: World| {
                worlds.borrow_mut().push((seed, Arc::downgrade(&world.shared)));
                check(world).await
            });
        }
        let left = worlds.into_inner().into_iter().filter(|(_, shared)| shared.strong_count() > 0);
        left.map(|(seed, _)| seed).collect()
    }

    #[test]
    fn nothing_of_a_world_outlives_its_run() {
        assert_eq!(left_over(story), Vec::<u64>::new());
        // One that ends while somebody waits for the disk, and somebody for nothing.
        let leaves = async |world: World| {
            let db = world.open("t.db").await.map_err(|error| error.to_string())?;
            let writes = async move { db.execute("CREATE TABLE t (x)", ()).await.map(drop) };
            let writes = world.spawn("client-1", writes);
            let waits = world.spawn("client-2", std::future::pending::<()>());
            world.sleep(Duration::from_micros(world.random(3))).await;
            drop((writes, waits));
            Err("it is over".to_owned())
        };
        assert_eq!(left_over(leaves), Vec::<u64>::new());
        // The control: one that is kept.
        let kept = RefCell::new(Vec::new());
        let keeps = async |world| {
            kept.borrow_mut().push(world);
            Ok(())
        };
        assert_eq!(left_over(keeps).len(), 30);
    }

    #[test]
    fn the_plan_of_a_run_repeats_it() {
        for seed in 0..10 {
            let ran = of_seed(seed);
            assert!(!ran.plan.decisions.is_empty());
            let again = run(Course::Plan(&ran.plan), Faults::all(), true, &story);
            assert_eq!(again.hash, ran.hash, "seed {seed}");
            assert!(again.plan == ran.plan, "seed {seed}");
        }
    }

    #[test]
    fn an_empty_plan_is_the_plainest_run() {
        let plan = Plan { seed: 3, ..Plan::default() };
        let ran = run(Course::Plan(&plan), Faults::all(), false, &story);
        assert_eq!((ran.failure, ran.plan), (None, plan));
    }

    #[test]
    fn nobody_who_can_go_on_is_a_deadlock() {
        let ran = run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &async |world: World| {
            let (_kept, never) = tokio::sync::oneshot::channel::<()>();
            let waits = world.spawn("waits", never);
            waits.await.map(drop)
        });
        let failure = ran.failure.expect("nobody wakes it");
        assert_eq!(failure.kind, FailureKind::Deadlock);
        assert!(failure.message.contains("\n  waits, after 1 steps, waits, and nobody will wake it"), "{failure}");
    }

    #[test]
    fn a_sleep_of_more_than_an_hour_is_taken_for_a_deadlock_if_nobody_else_goes_on() {
        let sleeps = |seconds| {
            run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &async move |world: World| {
                world.sleep(Duration::from_secs(seconds)).await;
                Ok::<_, String>(())
            })
        };
        assert_eq!(sleeps(3599).failure, None);
        assert_eq!(sleeps(3601).failure.map(|failure| failure.kind), Some(FailureKind::Deadlock));
    }

    #[test]
    fn many_steps_that_lead_nowhere_are_a_livelock() {
        let ran = run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &async |world: World| {
            let spins = world.spawn("spins", async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            spins.await
        });
        let failure = ran.failure.expect("it never ends");
        assert_eq!(failure.kind, FailureKind::Livelock);
        assert!(failure.message.contains("goes on and on"), "{failure}");
    }

    #[test]
    fn whoever_others_poll_for_gets_its_turn_whatever_the_strategy() {
        for strategy in [Strategy::Uniform, Strategy::Pct, Strategy::Starvation] {
            for seed in 0..50 {
                let ran = run(Course::Seed(seed, strategy), Faults::NONE, false, &async |world: World| {
                    let is_free = Arc::new(AtomicBool::new(false));
                    let spin = |number| {
                        let is_free = Arc::clone(&is_free);
                        world.spawn(format!("spins-{number}"), async move {
                            while !is_free.load(Ordering::Relaxed) {
                                tokio::task::yield_now().await;
                            }
                        })
                    };
                    let spinning = [spin(1), spin(2)];
                    let frees = world.spawn("frees", {
                        let is_free = Arc::clone(&is_free);
                        async move {
                            // More than it is given at a time.
                            for _ in 0..20 {
                                tokio::task::yield_now().await;
                            }
                            is_free.store(true, Ordering::Relaxed);
                        }
                    });
                    for task in spinning.into_iter().chain([frees]) {
                        task.await.map_err(|ended| ended.to_string())?;
                    }
                    Ok::<_, String>(())
                });
                assert_eq!(ran.failure, None, "{strategy}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_panic_says_whose_it_is_and_where() {
        let ran = run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &async |world: World| {
            world.spawn("clumsy", async { panic!("dropped it") }).await
        });
        let failure = ran.failure.expect("it panics");
        assert_eq!(failure.kind, FailureKind::Panic);
        assert!(failure.message.starts_with("dropped it at "), "{failure}");
        assert!(failure.message.ends_with("in clumsy"), "{failure}");
    }

    #[test]
    fn a_panic_that_is_caught_fails_the_run_unless_the_check_provokes_it() {
        let check = |is_provoked: bool| {
            async move |world: World| {
                if is_provoked {
                    world.lets_panics_be_caught();
                }
                let db = world.open("t.db").await.map_err(|error| error.to_string())?;
                let write = world.spawn("clumsy", async move {
                    let writes = std::panic::AssertUnwindSafe(db.write(async |_| -> Result<(), crate::Error> {
                        panic!("dropped it");
                    }));
                    crate::catch::catch(writes.0).await.is_err()
                });
                write.await.map(drop).map_err(|error| error.to_string())
            }
        };
        let ran = run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &check(false));
        let failure = ran.failure.expect("it panics in the lane");
        assert_eq!(failure.kind, FailureKind::Panic);
        assert!(failure.message.ends_with("in lane, where it was caught"), "{failure}");
        let ran = run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &check(true));
        assert_eq!(ran.failure, None);
    }

    #[test]
    fn a_watch_that_complains_fails_the_run() {
        let check = async |world: World| {
            world.shared.state().watches.push(Box::new(|| Err("two are one too many".to_owned())));
            world.sleep(Duration::from_millis(1)).await;
            Ok::<_, String>(())
        };
        let failure = run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &check).failure.expect("it complains");
        assert_eq!(failure, Failure::new(FailureKind::Invariant, "two are one too many"));
    }

    #[test]
    fn sleeps_take_the_worlds_time_and_none_of_ours() {
        let began = std::time::Instant::now();
        let ran = run(Course::Seed(1, Strategy::Mixed), Faults::NONE, false, &async |world: World| {
            let sleeps = |seconds| {
                let in_task = world.clone();
                world.spawn(format!("sleeps-{seconds}"), async move {
                    in_task.sleep(Duration::from_secs(seconds)).await;
                    in_task.now()
                })
            };
            let (long, short) = (sleeps(1000), sleeps(7));
            let ended = [short.await, long.await].map(|ended| ended.map(|now| now.as_secs()));
            if ended == [Ok(7), Ok(1000)] { Ok(()) } else { Err(format!("{ended:?}")) }
        });
        assert_eq!(ran.failure, None);
        assert!(began.elapsed() < Duration::from_secs(100));
    }
}
