//! One life of a pool beside its model: each step is done to both, then they are compared.
//!
//! Futures are polled by hand in a runtime whose clock is paused. The runtime runs in [`Step::Turn`] only, so time can pass
//! without a timer that fires, as in a busy process.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use poolproof::{AcquireError, Pool, PoolConfig, Pooled, Stage, Status, StillOpen};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_test::task::{self, Spawn};

use super::reference::{self, Model};
use super::story::{ACQUIRE, CONNECT, HOOK, Limits, Reply, Setup, Shown, Step};
use crate::server::{self, Call, Does, Manager, NobodyListens, Server};

/// A unit of time. With the limits that are drawn, the pool's own task never sleeps longer: once time has passed, it is due
/// at the next turn.
const UNIT: Duration = Duration::from_millis(20);

/// The calls into user code that are scripted.
const CALLS: [Call; 3] = [Call::Connect, Call::Test, Call::BeforeAcquire];

/// So many wait at most. Who comes to a longer queue is given its time by the next tick of an alarm, and here none ticks
/// between two steps: that is `tests/pool/alarm.rs`'s question.
const CROWD: usize = 32;

/// How often what happened.
pub type Seen = BTreeMap<String, usize>;

/// What a get gives: nothing only if it does not wait.
type Outcome = Result<Option<Pooled<Manager>>, AcquireError<NobodyListens>>;

type Polled<'p, T> = Spawn<Pin<Box<dyn Future<Output = T> + 'p>>>;

struct Life<'p> {
    setup: &'p Setup,
    pool: &'p Pool<Manager>,
    server: &'p Server,
    runtime: &'p Runtime,
    model: Model,
    /// What answers the calls that wait for it, and which of all calls of its kind each one is.
    answers: Vec<((Call, usize), oneshot::Sender<Does>)>,
    gets: Vec<Polled<'p, Outcome>>,
    held: Vec<Pooled<Manager>>,
    closers: Vec<Polled<'p, Result<(), StillOpen>>>,
    /// What may be open: the maximum, or what was open when that was lowered and has not come back since.
    ceiling: usize,
    seen: Seen,
}

/// Lives through `steps`, and then lets everything come to its end.
pub fn live(setup: &Setup, steps: &[Step], model: Model) -> Result<Seen, TestCaseError> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _context = runtime.enter();
    let Limits { min_idle, idle_timeout, max_lifetime } = setup.limits;
    let config = PoolConfig {
        max_connections: setup.max,
        min_idle,
        wait_timeout: units(setup.wait),
        connect_timeout: units(CONNECT),
        acquire_timeout: units(ACQUIRE),
        hook_timeout: units(HOOK),
        idle_timeout: idle_timeout.map(units),
        max_lifetime: max_lifetime.map(units),
        lifetime_jitter: 0.0,
        test_after: setup.tests.as_ref().map(|(after, _)| units(*after)),
        ..PoolConfig::default()
    };
    let (pool, server) = if setup.hooks.is_some() { server::pool_with_hooks(config) } else { server::pool(config) };
    let mut life = Life {
        setup,
        pool: &pool,
        server: &server,
        runtime: &runtime,
        model,
        answers: script(setup, &server),
        gets: Vec::new(),
        held: Vec::new(),
        closers: Vec::new(),
        ceiling: setup.max,
        seen: Seen::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        life.step(*step).map_err(|error| TestCaseError::fail(format!("step {number}, {step:?}: {error}")))?;
    }
    life.end().map_err(|error| TestCaseError::fail(format!("at the end: {error}")))
}

/// Tells the server what its calls do; returns what answers those that wait.
fn script(setup: &Setup, server: &Server) -> Vec<((Call, usize), oneshot::Sender<Does>)> {
    let mut answers = Vec::new();
    for call in CALLS {
        for (number, reply) in (1..).zip(setup.replies(call)) {
            let (answer, answered) = oneshot::channel();
            server.next(call, Does::Ask(answered));
            match reply {
                Reply::Later => answers.push(((call, number), answer)),
                known => tell(answer, *known),
            }
        }
    }
    answers
}

/// Tells a call what to come to. Nobody may listen any more.
fn tell(answer: oneshot::Sender<Does>, reply: Reply) {
    let _unheard = answer.send(match reply {
        Reply::Succeeds => Does::Succeed,
        Reply::Fails => Does::Fail,
        Reply::Panics => Does::PanicAtOnce,
        Reply::Later => unreachable!("an answer is not put off"),
    });
}

fn units(units: u64) -> Duration {
    UNIT * u32::try_from(units).unwrap()
}

impl Life<'_> {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let place = match step {
            Step::Get => (self.model.waiting() < CROWD).then_some(0),
            Step::Poll(choice) | Step::Cancel(choice) => choice.checked_rem(self.gets.len()),
            Step::Answer(choice, _) => self.unanswered(choice),
            Step::Return(choice) | Step::ReturnBroken(choice) | Step::Panic(choice) | Step::Detach(choice) => {
                choice.checked_rem(self.held.len())
            }
            Step::PollClose(choice) | Step::CancelClose(choice) => choice.checked_rem(self.closers.len()),
            _ => Some(0),
        };
        let Some(place) = place else { return Ok(()) };
        let (before, opened) = (self.pool.status(), self.server.opened());
        let stage = self.model.gets.get(place).map_or_else(String::new, |get| word(&get.stage));
        let predicted = match step {
            Step::Answer(_, reply) => self.model.answer(self.answers[place].0, reply),
            _ => self.model.take(step, place),
        };
        let shown = self.take(step, place);
        let mut what = match step {
            Step::Poll(_) | Step::Cancel(_) => format!("{} {stage}: {}", word(&step), word(&shown)),
            _ => format!("{}: {}", word(&step), word(&shown)),
        };
        prop_assert_eq!(shown, predicted, "the pool left, the model right");
        self.compare()?;
        what += self.effect(&what, &before, opened);
        *self.seen.entry(what).or_default() += 1;
        Ok(())
    }

    /// What else a step did, told from how the pool was before.
    fn effect(&self, what: &str, before: &Status, opened: usize) -> &'static str {
        let after = self.pool.status();
        let Setup { limits: Limits { idle_timeout, max_lifetime, .. }, tests, hooks, .. } = self.setup;
        let took = ["Poll Handed", "Poll Checking"].iter().any(|polled| what.starts_with(polled))
            || (["Get", "TryGet"].iter().any(|get| what.starts_with(get)) && after.idle < before.idle);
        let (replaces, closes) = (took && self.server.opened() > opened, after.open < before.open);
        let (returns, is_timed) = (what.starts_with("Return:"), idle_timeout.or(*max_lifetime).is_some());
        let passes_by = self.model.gets.iter().any(|get| matches!(get.stage, reference::Stage::Expired));
        match before {
            _ if returns && passes_by && after.handed_over > before.handed_over => ", hands over past one out of time",
            _ if returns && passes_by && after.idle > before.idle => ", rests past one out of time",
            _ if after.handed_over > before.handed_over => ", hands over",
            _ if replaces && tests.is_none() && hooks.is_none() => ", replaces what is stale",
            _ if replaces && !is_timed && tests.is_none() => ", replaces what a hook refuses",
            _ if replaces && !is_timed && hooks.is_none() => ", replaces what fails its test",
            Status { closed: true, .. } if closes => ", closes after the end",
            Status { open, max, .. } if closes && open > max => ", closes surplus",
            Status { idle: 0, .. } if closes && returns => ", closes what is too old",
            _ if closes && returns && max_lifetime.is_none() => ", closes another that is stale",
            _ if closes => ", closes",
            _ if after.idle > before.idle && what.starts_with("Turn") => ", opens what nobody asked for",
            _ => "",
        }
    }

    /// The place of the answer to one of the calls that nobody answered yet, under way or over.
    fn unanswered(&self, choice: usize) -> Option<usize> {
        let called = |place: &usize| {
            let (call, number) = self.answers[*place].0;
            number <= self.server.calls(call)
        };
        let places: Vec<_> = (0..self.answers.len()).filter(called).collect();
        Some(places[choice.checked_rem(places.len())?])
    }

    fn take(&mut self, step: Step, place: usize) -> Shown {
        match step {
            Step::Get => {
                let getting = self.pool.get();
                self.gets.push(task::spawn(Box::pin(async { getting.await.map(Some) })));
                return self.poll(self.gets.len() - 1);
            }
            Step::TryGet => {
                self.gets.push(task::spawn(Box::pin(self.pool.try_get())));
                return self.poll(self.gets.len() - 1);
            }
            Step::Poll(_) => return self.poll(place),
            Step::Cancel(_) => drop(self.gets.remove(place)),
            Step::Answer(_, reply) => tell(self.answers.remove(place).1, reply),
            Step::Return(_) => drop(self.held.remove(place)),
            Step::ReturnBroken(_) => self.held.remove(place).broken.store(true, Ordering::SeqCst),
            Step::Panic(_) => {
                let guard = self.held.remove(place);
                let user = move || -> () {
                    let _guard = guard;
                    // Without the noise of `panic!`.
                    resume_unwind(Box::new("a user panics"))
                };
                assert!(catch_unwind(AssertUnwindSafe(user)).is_err());
            }
            Step::Detach(_) => drop(self.held.remove(place).detach()),
            Step::Resize(max) => self.pool.resize(max).unwrap(),
            Step::Retain { odd } => {
                let mut asked = Vec::new();
                let closed = self.pool.retain(|connection| {
                    asked.push(connection.number);
                    connection.number.is_multiple_of(2) != odd
                });
                return Shown::Retained { asked, closed };
            }
            Step::Close => {
                let pool = self.pool;
                let closing = async {
                    pool.close().await;
                    Ok(())
                };
                self.closers.push(task::spawn(Box::pin(closing)));
                return self.poll_close(self.closers.len() - 1);
            }
            Step::CloseWithin(limit) => {
                self.closers.push(task::spawn(Box::pin(self.pool.close_within(units(limit)))));
                return self.poll_close(self.closers.len() - 1);
            }
            Step::PollClose(_) => return self.poll_close(place),
            Step::CancelClose(_) => drop(self.closers.remove(place)),
            // At its first poll it moves the clock; later it would give the runtime a turn.
            Step::Pass(time) => drop(task::spawn(tokio::time::advance(units(time))).poll()),
            Step::Turn => self.runtime.block_on(async {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }),
        }
        Shown::Done
    }

    fn poll(&mut self, place: usize) -> Shown {
        let polled = catch_unwind(AssertUnwindSafe(|| self.gets[place].poll()));
        if let Ok(Poll::Pending) = polled {
            return Shown::Pending;
        }
        drop(self.gets.remove(place));
        let Ok(Poll::Ready(outcome)) = polled else { return Shown::Panicked };
        match outcome {
            Ok(Some(guard)) => {
                let number = guard.number;
                self.held.push(guard);
                Shown::Lent(number)
            }
            Ok(None) => Shown::Nothing,
            Err(AcquireError::Closed) => Shown::Closed,
            Err(AcquireError::Connect(_)) => Shown::ConnectFailed,
            Err(AcquireError::Hook(_)) => Shown::TurnedDown,
            Err(AcquireError::Timeout(timeout)) => {
                let waited = (timeout.waited.as_millis() / UNIT.as_millis()) as u64;
                match timeout.stage {
                    Stage::Waiting => Shown::WaitedTooLong { waited, place: timeout.place },
                    _ => Shown::ConnectedTooLong { waited },
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn poll_close(&mut self, place: usize) -> Shown {
        let Poll::Ready(outcome) = self.closers[place].poll() else { return Shown::Pending };
        drop(self.closers.remove(place));
        outcome.map_or_else(|still_open| Shown::StillOpen(still_open.holders.len()), |()| Shown::Empty)
    }

    /// What must hold after every step: whatever the model says, and as the model says.
    fn compare(&mut self) -> Result<(), TestCaseError> {
        let status = self.pool.status();
        let Status { max, open, most_open, idle, in_use, waiting, handed_over, closed, .. } = status;
        let alive = self.server.alive();
        self.ceiling = self.ceiling.max(max);
        prop_assert!(open <= self.ceiling && alive <= open, "{} open, {} alive, {} may be", open, alive, self.ceiling);
        self.ceiling = open.max(max);
        prop_assert!(idle == 0 || waiting == 0, "an idle connection and a waiter coexist: {:?}", status);
        prop_assert!(waiting == 0 || open >= max, "somebody waits though there is room: {:?}", status);
        prop_assert!(!closed || (idle == 0 && waiting == 0), "something rests in a closed pool: {:?}", status);
        prop_assert_eq!(self.pool.holders().len(), in_use, "everything in use has a holder");

        let counts = [max, open, most_open, idle, in_use, waiting, handed_over as usize, usize::from(closed)];
        prop_assert_eq!(counts, self.model.status(), "the pool left, the model right");
        prop_assert_eq!(alive, self.model.alive(), "alive: the pool left, the model right");
        let calls = CALLS.map(|call| self.server.calls(call));
        prop_assert_eq!(calls, CALLS.map(|call| self.model.calls(call)), "calls: the pool left, the model right");
        let gets = self.gets.iter().map(Spawn::is_woken).collect();
        let closers = self.closers.iter().map(Spawn::is_woken).collect();
        prop_assert_eq!((gets, closers), self.model.woken(), "woken gets, closers: the pool left, the model right");
        Ok(())
    }

    /// Everything ends: each get at one poll once its time is up, the pool once all came back.
    fn end(mut self) -> Result<Seen, TestCaseError> {
        // Shows what is idle, in its order.
        self.step(Step::Retain { odd: true })?;
        self.step(Step::Pass(ACQUIRE))?;
        self.step(Step::Turn)?;
        for _ in 0..self.gets.len() {
            self.step(Step::Poll(0))?;
        }
        prop_assert_eq!(self.gets.len(), 0, "a get does not end");
        while !self.held.is_empty() {
            self.step(Step::Return(0))?;
        }
        self.step(Step::Close)?;
        // The pool's own task may be in the middle of connecting: it ends at its turn.
        self.step(Step::Turn)?;
        for _ in 0..self.closers.len() {
            self.step(Step::PollClose(0))?;
        }
        prop_assert_eq!(self.closers.len(), 0, "a close does not end");
        prop_assert_eq!((self.pool.status().open, self.server.alive()), (0, 0), "something is left");
        Ok(self.seen)
    }
}

/// The first word of how a thing is written.
fn word(thing: &impl Debug) -> String {
    let written = format!("{thing:?}");
    written.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
