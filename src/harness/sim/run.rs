//! One run of one check in one world, from its first step to its last.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use super::decisions::{Actor, Decider, Plan};
use super::disk::Disk;
use super::failure::{Failure, FailureKind};
use super::faults::Faults;
use super::notation::Schedule;
use super::scheduler::Scheduler;
use super::state::{Shared, State, next_life};
use super::strategy::Strategy;
use super::trace::{Event, Trace};
use super::world::World;

/// How one run goes.
#[derive(Clone, Copy)]
pub(super) enum Course<'a> {
    Seed(u64, Strategy),
    Plan(&'a Plan),
    Schedule(&'a Schedule),
}

/// What one run came to.
pub(super) struct Ran {
    pub(super) failure: Option<Failure>,
    /// Of everything that happened.
    pub(super) hash: u64,
    /// The same whatever the order of independent events.
    pub(super) canonical: u64,
    /// Events.
    pub(super) steps: u64,
    pub(super) seen: BTreeMap<&'static str, u64>,
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads and sockets needs nothing");
    runtime.block_on(async {
        let (decider, seed) = match course {
            Course::Seed(seed, strategy) => (Decider::of_seed(seed, strategy), seed),
            Course::Plan(plan) => (Decider::of_plan(plan), plan.seed),
            Course::Schedule(schedule) => (Decider::of_script(schedule.seed, schedule.script.clone()), schedule.seed),
        };
        let life = next_life();
        let shared = Shared::new(State {
            decider,
            disk: Disk::default(),
            trace: Trace::new(keeps_events),
            faults,
            calm: 0,
            current: None,
            machine: life,
            life,
            may_crash: false,
            crashed: false,
            failure: None,
            seen: BTreeMap::new(),
            watches: Vec::new(),
        });
        let world = World::new(Arc::clone(&shared), seed);
        let fails = Arc::clone(&shared);
        let main = async move {
            if let Err(error) = check(world).await {
                fails.state().failure.get_or_insert(Failure::new(FailureKind::Check, error.to_string()));
            }
        };
        let mut scheduler = Box::pin(Scheduler::new(Arc::clone(&shared), Box::pin(main)));
        tokio::task::unconstrained(scheduler.as_mut() as std::pin::Pin<&mut dyn Future<Output = ()>>).await;
        let ran = {
            let mut state = shared.state();
            let left_over = state.decider.left_over();
            let obsolete = || left_over.map(|line| Failure::new(FailureKind::Schedule, line));
            Ran {
                failure: state.failure.take().or_else(obsolete),
                hash: state.trace.hash(),
                canonical: state.trace.canonical(),
                steps: state.trace.count(),
                seen: std::mem::take(&mut state.seen),
                plan: state.decider.plan(),
                events: state.trace.take_events(),
                names: state.decider.names(),
            }
        };
        // In the runtime, whose clock it may look at.
        drop(scheduler);
        ran
    })
}
