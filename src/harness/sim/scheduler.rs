//! The one thread of a world: it lets one task or the disk make one step, and asks who is next.
//!
//! It is the root future of a current-thread tokio runtime whose clock is paused, so the timers of the pool and of the
//! writer are tokio's own and work as in production: when nobody can go on, the scheduler gives the thread back, and
//! the clock jumps to the next timer. Tasks that production code spawns on the runtime itself (the pool's alarm and its
//! maintenance) run between two steps, in the order in which they are woken; tokio's budget of cooperative scheduling is
//! switched off.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::decisions::{About, Actor, below, is_lucky};
use super::failure::{Failure, FailureKind};
use super::panics::{self, First};
use super::state::{Local, Shared, Spawn, TaskWaker};
use super::trace::What;
use crate::catch;

/// Nobody waits for a timer longer than this, in the world's time: if nobody can go on for so long, that is a deadlock, though a
/// later timer would end it. Which timers there are is tokio's, and it does not say; the pool's and the writer's are shorter unless
/// they are set otherwise. Whoever sleeps longer is told of a deadlock that is none.
const PATIENCE: Duration = Duration::from_secs(3600);

/// So many steps in which nothing is done by the disk and no task ends or begins are a livelock.
const BARREN: u64 = 20_000;

/// And from so many on, time passes: whoever polls until something changes may be waiting for that.
const BUSY: u64 = 200;

/// Whoever was polled so often, and each time did nothing but wake itself or another, waits for somebody else: those who do not go
/// first. Once nobody is left who does not, all begin anew, and have as many polls each. Otherwise a strategy that is not fair, and
/// the plainest order of all, would never let somebody go for whom others wait.
const SPINS: u32 = 8;

/// The longest that passes at once, in microseconds.
const PASSES: u64 = 1_000_000;

struct Task<'a> {
    name: Arc<str>,
    /// `None` once it has ended.
    future: Option<Local<'a>>,
    waker: Waker,
    /// So many steps.
    steps: u32,
    /// And so many of the disk for it.
    disk_steps: u32,
    /// Polls in a row that did nothing but wake itself or another.
    spins: u32,
    /// Who woke it since its last poll, first.
    woken_by: Option<usize>,
}

pub(super) struct Scheduler<'a> {
    shared: Arc<Shared>,
    /// The first is the check itself; when that ends, the run does.
    tasks: Vec<Task<'a>>,
    last: Actor,
    barren: u64,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Time passes although somebody could go on.
    naps: bool,
    /// Power failures so far: how often nobody was last.
    lives: u32,
}

/// A panic that a task was told to have.
pub(super) struct Injected;

impl<'a> Scheduler<'a> {
    pub(super) fn new(shared: Arc<Shared>, check: Local<'a>) -> Self {
        let tasks = Vec::new();
        let mut scheduler = Self { shared, tasks, last: Actor::NOBODY, barren: 0, sleep: None, naps: false, lives: 0 };
        scheduler.begins("main", None, None, check);
        scheduler
    }

    fn begins(&mut self, name: &str, of: Option<usize>, site: Option<&'static Location<'static>>, future: Local<'a>) {
        let number = self.tasks.len();
        let name = &match of.and_then(|of| self.tasks.get(of)) {
            Some(of) => format!("{}/{name}", of.name),
            None => name.to_owned(),
        };
        let alike = self.tasks.iter().filter(|task| unnumbered(&task.name) == name).count();
        let name: Arc<str> = if alike == 0 { name.as_str().into() } else { format!("{name}#{}", alike + 1).into() };
        let now = self.shared.now();
        let mut state = self.shared.state();
        state.decider.is_called(Actor::task(number), Arc::clone(&name));
        state.decider.is_called(Actor::disk(number), format!("disk/{name}").into());
        state.event(Actor::task(number), What::Begins, name.as_bytes(), now);
        if let Some(site) = site {
            state.trace.set_last_site(site);
        }
        drop(state);
        self.shared.watched().knows(&name, site);
        let waker = Waker::from(Arc::new(TaskWaker { task: number, shared: Arc::clone(&self.shared) }));
        let future = Some(future);
        self.tasks.push(Task { name, future, waker, steps: 0, disk_steps: 0, spins: 0, woken_by: None });
        self.shared.ready().tasks.insert(number);
        self.barren = 0;
    }

    fn take_in(&mut self) {
        let spawned = std::mem::take(&mut self.shared.ready().spawned);
        for Spawn { name, of, site, make } in spawned {
            self.begins(&name, of, site, make());
        }
    }

    /// Those who lived when the power failed are gone, all but the check.
    fn bury(&mut self) {
        for number in 1..self.tasks.len() {
            self.ends(number);
        }
        self.shared.ready().tasks.insert(0);
    }

    /// Drops a task. What it drops may panic; its life is over, and so is that.
    fn ends(&mut self, number: usize) {
        let future = self.tasks[number].future.take();
        let before = self.shared.state().current.replace(number);
        let _silent = panics::record();
        if future.is_some() {
            self.shared.watched().begins(number);
            std::mem::forget(catch_unwind(AssertUnwindSafe(|| drop(future))));
            self.shared.watched().runtime_runs();
        }
        drop(panics::first());
        self.shared.state().current = before;
    }

    /// Who could go, the default first: who went goes on, then what the disk does for it, then the others.
    fn options(&mut self) -> Vec<Actor> {
        let ready: Vec<usize> = self.shared.ready().tasks.iter().copied().collect();
        let now = Instant::now();
        let mut owners: Vec<usize> = {
            let state = self.shared.state();
            let due = state.disk.pending.iter().filter(|pending| pending.due.is_none_or(|due| due <= now));
            due.map(|pending| pending.owner).collect()
        };
        owners.sort_unstable();
        owners.dedup();
        let mut options: Vec<Actor> = ready.into_iter().map(Actor::task).collect();
        options.extend(owners.into_iter().map(Actor::disk));
        let last = self.last.of();
        if options.iter().all(|option| self.spins(*option)) {
            self.tasks.iter_mut().for_each(|task| task.spins = 0);
        }
        options.retain(|option| !self.spins(*option));
        // Stable, so the rest is in the order of their numbers.
        options.sort_by_key(|option| (last.is_none() || option.of() != last, option.is_disk()));
        options
    }

    /// Whether it waits for somebody else to do something.
    fn spins(&self, actor: Actor) -> bool {
        !actor.is_disk() && actor.of().is_some_and(|number| self.tasks[number].spins >= SPINS)
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.ready().root = Some(cx.waker().clone());
        if std::mem::take(&mut self.shared.state().has_dead) {
            self.bury();
            self.last = Actor::NOBODY;
            self.lives += 1;
        }
        self.take_in();
        self.looks_outside();
        if self.tasks[0].future.is_none() || self.shared.state().failure.is_some() {
            return Poll::Ready(());
        }
        if self.naps {
            self.naps = false;
            if let Some(sleep) = &mut self.sleep
                && sleep.as_mut().poll(cx).is_pending()
                && self.shared.woken().is_empty()
            {
                self.naps = true;
                return Poll::Pending;
            }
            self.sleep = None;
        }
        let options = self.options();
        if options.is_empty() {
            return self.idles(cx);
        }
        self.sleep = None;
        if self.time_passes() {
            // A timer that is due first wakes somebody, and that ends the nap.
            self.shared.woken();
            return self.step_again(cx);
        }
        let nth = self.steps_of(self.last);
        let chosen = self.shared.state().decider.next(self.last, nth, &options);
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(problem) => {
                self.fails(FailureKind::Schedule, problem);
                return Poll::Ready(());
            }
        };
        self.last = chosen;
        let number = chosen.of().expect("the clock is no option");
        self.barren += 1;
        if chosen.is_disk() {
            self.tasks[number].disk_steps += 1;
            self.shared.does(number);
            self.barren = 0;
            self.may_have_been_waited_for();
        } else {
            self.tasks[number].steps += 1;
            self.polls(number);
        }
        self.looks();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The same step again, now that it naps.
    fn step_again(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep
            && sleep.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn steps_of(&self, actor: Actor) -> u32 {
        match actor.of() {
            Some(number) if actor.is_disk() => self.tasks[number].disk_steps,
            Some(number) => self.tasks[number].steps,
            None => self.lives,
        }
    }

    /// Whether time passes though somebody could go on: by the seed, or since nobody gets anywhere.
    fn time_passes(&mut self) -> bool {
        let mut state = self.shared.state();
        let rate = state.faults().time;
        let micros = match self.barren > 0 && self.barren.is_multiple_of(BUSY) {
            true => 1_000,
            false if rate == 0 => 0,
            false => state.decider.number(About::Pass, Actor::CLOCK, |rng| match is_lucky(rng, rate) {
                true => 1 + below(rng, PASSES),
                false => 0,
            }),
        };
        if micros == 0 {
            return false;
        }
        let time = Duration::from_micros(micros);
        let now = self.shared.now();
        state.event(Actor::CLOCK, What::Passes(time), &[], now);
        state.sees("time that passes");
        self.barren += 1;
        self.sleep = Some(Box::pin(tokio::time::sleep(time)));
        self.naps = true;
        true
    }

    /// Nobody can go on: until a timer is due, or a slow call of the disk.
    fn idles(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.shared.state().disk.pending.iter().filter_map(|pending| pending.due).min();
        let is_waiting = self.sleep.is_some();
        let sleep = self.sleep.get_or_insert_with(|| {
            let until = due.unwrap_or_else(|| Instant::now() + PATIENCE);
            Box::pin(tokio::time::sleep_until(until))
        });
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if is_waiting && due.is_none() {
            self.fails(FailureKind::Deadlock, format!("nobody can go on{}", self.who_waits()));
            return Poll::Ready(());
        }
        self.sleep = None;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn polls(&mut self, number: usize) {
        self.shared.ready().tasks.remove(&number);
        let actor = Actor::task(number);
        let woken_by = self.tasks[number].woken_by.take().map(|by| What::Wakes(Arc::clone(&self.tasks[by].name)));
        let now = self.shared.now();
        let (events, life) = {
            let mut state = self.shared.state();
            woken_by.into_iter().for_each(|wakes| state.event(actor, wakes, &[], now));
            state.current = Some(number);
            state.looks = 0;
            (state.trace.count(), state.life)
        };
        let task = &mut self.tasks[number];
        let outcome = match &mut task.future {
            Some(future) => {
                let mut context = Context::from_waker(&task.waker);
                let _recorded = panics::record();
                self.shared.watched().begins(number);
                catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)))
            }
            None => Ok(Poll::Pending),
        };
        let now = self.shared.now();
        // The power failed inside the poll: what the engine made of that concerns nobody any more.
        let is_dead = self.shared.state().life != life;
        if outcome.is_ok() && !is_dead && !self.shared.state().lets_panics_be_caught {
            self.caught(number);
        }
        let what = match outcome {
            Ok(Poll::Pending) => What::Waits,
            Ok(Poll::Ready(())) => What::Ends,
            Err(payload) if payload.is::<Injected>() => What::Panics,
            Err(payload) => {
                if !is_dead {
                    self.panicked(number, &*payload);
                }
                std::mem::forget(payload);
                What::Panics
            }
        };
        drop(panics::first());
        let woken = self.shared.woken();
        let is_over = what != What::Waits;
        let woke_somebody = !woken.is_empty();
        let did_nothing = {
            let mut state = self.shared.state();
            state.event(actor, what, &[], now);
            for other in woken.into_iter().filter(|&other| other != number) {
                state.trace.wakes(actor, Actor::task(other));
                self.tasks[other].woken_by.get_or_insert(number);
            }
            state.current = None;
            state.trace.count() == events + 1
        };
        if woke_somebody && did_nothing {
            self.tasks[number].spins += 1;
        } else {
            self.tasks[number].spins = 0;
            self.may_have_been_waited_for();
        }
        if is_over {
            self.barren = 0;
            self.ends(number);
        }
    }

    /// Something was done: whoever waits for somebody looks once whether that was it.
    fn may_have_been_waited_for(&mut self) {
        self.tasks.iter_mut().for_each(|task| task.spins = task.spins.min(SPINS - 1));
    }

    fn panicked(&mut self, number: usize, payload: &(dyn Any + Send)) {
        let name = &self.tasks[number].name;
        let (panic, at) = match panics::first() {
            Some(First { message, at }) => (message, at),
            None => (catch::message(payload).to_owned(), None),
        };
        self.fails_with(Failure::panic(format!("{panic}, in {name}"), at));
    }

    /// What happened beside its own steps: in a task of the runtime's (`tokio::spawn`), or on another thread.
    pub(super) fn looks_outside(&mut self) {
        if let Some(First { message, at }) = panics::first()
            && !self.shared.state().lets_panics_be_caught
        {
            self.fails_with(Failure::panic(format!("{message}, in a task that tokio::spawn started"), at));
        }
        if let Some((woken, thread)) = self.shared.ready().woken_from_outside.take() {
            let name = &self.tasks[woken].name;
            self.fails(
                FailureKind::Outside,
                format!(
                    "{name} was woken by the thread {thread}: a real thread is no part of a world (std::thread, spawn_blocking, tokio::fs); \
                     use World::spawn"
                ),
            );
        }
    }

    /// A panic that production code contained is one all the same: neither ours nor the engine's may happen.
    fn caught(&self, number: usize) {
        if let Some(First { message, at }) = panics::first() {
            let name = &self.tasks[number].name;
            self.fails_with(Failure::panic(format!("{message}, in {name}, where it was caught"), at));
        }
    }

    /// Looks whether everything is as it must be.
    fn looks(&mut self) {
        let watches = std::mem::take(&mut self.shared.state().watches);
        let problem = watches.iter().find_map(|watch| watch().err());
        let mut state = self.shared.state();
        if !state.has_dead {
            state.watches.splice(0..0, watches);
        }
        drop(state);
        if let Some(problem) = problem {
            self.fails(FailureKind::Invariant, problem);
        } else if self.barren >= BARREN {
            self.fails(FailureKind::Livelock, format!("{BARREN} steps led nowhere{}", self.who_waits()));
        }
    }

    fn fails(&self, kind: FailureKind, message: String) {
        self.fails_with(Failure::new(kind, message));
    }

    /// Unless it has failed before.
    fn fails_with(&self, failure: Failure) {
        self.shared.state().failure.get_or_insert(failure);
    }

    /// Who is there, and what for.
    fn who_waits(&self) -> String {
        let ready = self.shared.ready();
        let state = self.shared.state();
        let mut text = String::new();
        for (number, task) in self.tasks.iter().enumerate().filter(|(_, task)| task.future.is_some()) {
            let asked = state.disk.pending.iter().find(|pending| pending.owner == number);
            let what = match asked {
                Some(pending) => {
                    let call = state.disk.describe(pending.file, &pending.call);
                    format!("waits for the disk: {}", What::asked(&call))
                }
                None if ready.tasks.contains(&number) || u64::from(task.steps) > BARREN / 2 => {
                    "goes on and on".to_owned()
                }
                None => "waits, and nobody will wake it".to_owned(),
            };
            text.push_str(&format!("\n  {}, after {} steps, {what}", task.name, task.steps));
        }
        text.push_str("\n  (what a task did last is in the table if it says so: World::note; a real thread or socket is waited for in vain)");
        text
    }
}

/// A task's name without the number that tells it from others of that name: `client-1#2/read#3` is a `client-1#2/read`.
fn unnumbered(name: &str) -> &str {
    match name.rsplit_once('#') {
        Some((base, number)) if number.bytes().all(|digit| digit.is_ascii_digit()) => base,
        _ => name,
    }
}

impl Future for Scheduler<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.step(cx);
        self.shared.watched().runtime_runs();
        polled
    }
}

impl Drop for Scheduler<'_> {
    fn drop(&mut self) {
        // Nothing that is dropped now has a disk any more.
        self.shared.state().life = 0;
        for number in (0..self.tasks.len()).rev() {
            self.ends(number);
        }
        // A task that was never taken in.
        let never_begun = std::mem::take(&mut self.shared.ready().spawned);
        drop(never_begun);
        let watches = std::mem::take(&mut self.shared.state().watches);
        drop(watches);
        // Nor calls that nobody does: they know whom to wake, and that one knows the world.
        let never_done = std::mem::take(&mut self.shared.state().disk.pending);
        drop(never_done);
    }
}
