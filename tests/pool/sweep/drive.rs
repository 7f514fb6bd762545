//! Takes an operation to one of its moments, lets it end there, and checks.
//!
//! The operation is polled when it was woken; when it waits, the others do the next thing that its scenario says. Each poll
//! and each thing that others do is a step, and before each step is a moment. A sweep goes through all of them: moment 0 is
//! before the first poll, the last one after the operation is complete and its output still held.
//!
//! ```text
//! moment  0      1                2      3
//!           poll   others release   poll
//!           waits                   is lent what they released
//! ```

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use poolproof::AcquireError;
use tokio_test::task::{self, Spawn};

use super::scenario::{Meanwhile, Operation, Scenario, Start};
use super::world::{MAX, World};
use crate::server::{Call, Outcome};

/// No operation takes more steps: one that does never ends.
const MOST_STEPS: usize = 100;

/// Who else waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    Nobody,
    /// Two that come after the operation's first poll.
    Behind,
    /// One that came before it.
    Before,
}

/// How the operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its future is dropped.
    Dropped,
    /// Its future is dropped by a panic of whoever held it.
    Unwound,
    /// It goes on to its own end.
    Complete,
}

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub crowd: Crowd,
    pub end: End,
    /// The pool is closed at that moment, just before.
    pub closes: bool,
    pub moment: usize,
    /// The call into user code that panics; whether at once or later.
    pub panic: Option<(usize, bool)>,
}

/// How far it came.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    pub polls: usize,
    pub complete: bool,
    /// What panicked of the user's code.
    pub panicked: Option<Call>,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    pub cases: usize,
    /// The fewest and the most polls that the operation took.
    pub polls: Option<(usize, usize)>,
    /// The calls that panicked, and whether later than at once.
    pub panicked: HashSet<(Call, bool)>,
}

/// Lets the operation end in every way at each of its moments, in every crowd, and in a pool that was just closed.
///
/// # Errors
/// What is wrong, of which case; also if the operation has fewer polls, or more, than its scenario says.
pub async fn cancel(scenario: &Scenario) -> Result<Swept, String> {
    let mut swept = Swept::default();
    for crowd in crowds(scenario) {
        for (end, closes) in ENDS {
            for moment in 0.. {
                let came = run(scenario, Case { crowd, end, closes, moment, panic: None }).await?;
                swept.cases += 1;
                if came.complete {
                    swept.takes(scenario, came.polls)?;
                    break;
                }
            }
        }
    }
    Ok(swept)
}

/// Lets each call into user code panic, at once and later, in every crowd.
///
/// # Errors
/// What is wrong, of which case.
pub async fn panic(scenario: &Scenario) -> Result<Swept, String> {
    let mut swept = Swept::default();
    for crowd in crowds(scenario) {
        for later in [false, true] {
            for call in 0.. {
                let panic = Some((call, later));
                let case = Case { crowd, end: End::Complete, closes: false, moment: 0, panic };
                let Some(panicked) = run(scenario, case).await?.panicked else { break };
                swept.cases += 1;
                swept.panicked.insert((panicked, later));
            }
        }
    }
    Ok(swept)
}

/// How an operation ends, and whether the pool is closed just before.
const ENDS: [(End, bool); 6] = [
    (End::Complete, false),
    (End::Dropped, false),
    (End::Unwound, false),
    (End::Dropped, true),
    (End::Unwound, true),
    (End::Complete, true),
];

fn crowds(scenario: &Scenario) -> impl Iterator<Item = Crowd> + use<> {
    // Where there is room nobody waits.
    let full = scenario.start == Start::Full;
    [Crowd::Nobody, Crowd::Behind, Crowd::Before].into_iter().filter(move |crowd| full || *crowd != Crowd::Before)
}

impl Swept {
    fn takes(&mut self, scenario: &Scenario, polls: usize) -> Result<(), String> {
        let (least, most) = scenario.polls;
        ensure!((least..=most).contains(&polls), "{}: {polls} polls, not {least} to {most}", scenario.name);
        let (fewest, greatest) = self.polls.unwrap_or((polls, polls));
        self.polls = Some((fewest.min(polls), greatest.max(polls)));
        Ok(())
    }
}

/// One operation on its way.
struct Drive<'s> {
    scenario: &'s Scenario,
    world: World,
    /// `None` once it is dropped.
    operation: Option<Spawn<Operation>>,
    output: Option<Option<Outcome>>,
    meanwhile: std::slice::Iter<'static, Meanwhile>,
    polls: usize,
    crowd: Crowd,
}

/// # Errors
/// What is wrong, of which case.
pub async fn run(scenario: &Scenario, case: Case) -> Result<Came, String> {
    run_in_words(scenario, case).await.map_err(|wrong| format!("{}, {case:?}: {wrong}", scenario.name))
}

async fn run_in_words(scenario: &Scenario, case: Case) -> Result<Came, String> {
    let mut drive = Drive::begin(scenario, case.crowd)?;
    if let Some((calls, later)) = case.panic {
        drive.world.server.sabotage(calls, later);
    }
    let gone_before = gone(&drive.world);
    for _ in 0..case.moment {
        if drive.output.is_some() {
            break;
        }
        drive.step().await?;
    }
    let complete = drive.output.is_some();
    let pool = drive.world.pool.clone();
    let mut close = task::spawn(async move { pool.close().await });
    let mut closed = case.closes && close.poll().is_ready();
    drive.end(case.end).await?;
    let Drive { mut world, polls, output, operation, .. } = drive;
    if case.end == End::Complete && case.panic.is_none() {
        let output = output.as_ref().and_then(Option::as_ref);
        ensure!(as_it_should(output, case.closes && !complete), "it gives {output:?}");
    }
    world.careful(|_| drop(output));
    world.let_go()?;
    let panicked = world.server.sabotaged();
    let through = world.panics;
    ensure!(through == 0 || (through == 1 && panicked.is_some()), "{through} panics came through");
    let about_none = through == 0 || panicked == Some(Call::Connect);
    ensure!(about_none || gone(&world) > gone_before, "the connection that the panic was about is kept");
    drop(operation);
    closed |= close.is_woken() && close.poll().is_ready();
    ensure!(closed == case.closes, "the close is not told that nothing is open");
    world.serves_and_closes().await?;
    Ok(Came { polls, complete, panicked })
}

/// How many connections were dropped.
fn gone(world: &World) -> usize {
    world.server.opened() - world.server.alive()
}

/// What an operation may give that was still on its way when the pool was closed, if it was.
fn as_it_should(output: Option<&Outcome>, closed: bool) -> bool {
    match output {
        None => true,
        // A connection that was there before the close is lent all the same to a waiter that was handed it before.
        Some(Ok(guard)) => !closed || guard.number <= MAX,
        Some(Err(error)) => closed && matches!(error, AcquireError::Closed),
    }
}

impl<'s> Drive<'s> {
    fn begin(scenario: &'s Scenario, crowd: Crowd) -> Result<Self, String> {
        let mut world = World::full((scenario.config)(), scenario.hooks);
        if scenario.start != Start::Full {
            let Some(first) = world.held.pop() else { unreachable!("all are held") };
            if scenario.start == Start::Idle {
                drop(first)
            } else {
                drop(first.detach())
            }
            if crowd == Crowd::Nobody {
                world.held.drain(..).for_each(|other| drop(other.detach()));
            }
        }
        if crowd == Crowd::Before {
            world.queue()?;
        }
        // What is idle has been so for a while. Polled once the clock is there, and no task has run.
        let _ = task::spawn(tokio::time::advance(Duration::from_secs(5))).poll();
        (scenario.script)(&world.server);
        let operation = Some(task::spawn((scenario.operation)(&world)));
        let meanwhile = scenario.meanwhile.iter();
        Ok(Self { scenario, world, operation, output: None, meanwhile, polls: 0, crowd })
    }

    async fn step(&mut self) -> Result<(), String> {
        let Some(operation) = &mut self.operation else { return Ok(()) };
        if self.polls == 0 || operation.is_woken() {
            self.polls += 1;
            match self.world.careful(|_| operation.poll()) {
                Some(Poll::Pending) => {}
                Some(Poll::Ready(output)) => self.output = Some(output),
                None => self.output = Some(None),
            }
            if self.polls == 1 && self.crowd == Crowd::Behind {
                self.world.queue()?;
                self.world.queue()?;
            }
        } else if let Some(meanwhile) = self.meanwhile.next() {
            self.do_meanwhile(*meanwhile).await;
        } else {
            return Err(format!("after {} polls nobody wakes it: {:?}", self.polls, self.world.pool.status()));
        }
        self.settle().await;
        self.world.invariants()
    }

    async fn settle(&self) {
        if self.scenario.background {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn do_meanwhile(&mut self, meanwhile: Meanwhile) {
        let world = &mut self.world;
        match meanwhile {
            Meanwhile::Release | Meanwhile::ReleaseBroken => {
                let Some(guard) = world.held.pop() else { return };
                let broken = matches!(meanwhile, Meanwhile::ReleaseBroken);
                guard.broken.store(broken, Ordering::SeqCst);
                world.careful(|_| drop(guard));
            }
            Meanwhile::Leave => {
                if self.crowd == Crowd::Before && !world.waiters.is_empty() {
                    let oldest = world.waiters.remove(0);
                    world.careful(|_| drop(oldest));
                }
            }
            Meanwhile::Grow => world.pool.resize(MAX + 1).unwrap_or_else(|error| unreachable!("{error}")),
            Meanwhile::Pass(time) => tokio::time::advance(time).await,
        }
    }

    async fn end(&mut self, end: End) -> Result<(), String> {
        match end {
            End::Dropped => {
                drop(self.operation.take());
                drop(self.output.take());
            }
            End::Unwound => {
                let (operation, output) = (self.operation.take(), self.output.take());
                let holds = matches!(output, Some(Some(Ok(_))));
                let left = self.world.server.alive() - usize::from(holds);
                let unwound = catch_unwind(AssertUnwindSafe(|| {
                    let _dropped_by_the_panic = (operation, output);
                    resume_unwind(Box::new("whoever held it panics"));
                }));
                assert!(unwound.is_err());
                ensure!(!holds || self.world.server.alive() == left, "what a panic left behind is kept");
            }
            End::Complete => return self.complete().await,
        }
        self.settle().await;
        self.world.invariants()?;
        self.world.is_accounted_for()
    }

    async fn complete(&mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            if self.output.is_some() {
                return Ok(());
            }
            self.step().await?;
        }
        Err(format!("it does not end within {MOST_STEPS} steps"))
    }
}
