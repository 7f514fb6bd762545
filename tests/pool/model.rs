//! Random lives of a pool, each beside a model that is told the same and must foretell everything: who is served, with which
//! connection or with which error, who is woken, what is open, idle, alive.
//!
//! `model/story.rs` says what can happen, `model/reference.rs` is the model, `model/life.rs` compares the two after every
//! step. By default the same lives every time; `PROPTEST_CASES=100000 PROPTEST_RNG_SEED=7` in the environment asks for more,
//! or others. A life that fails is shortened, printed, and its seed kept in `model.proptest-regressions`, whose lives come
//! first in every run.

use std::cell::RefCell;

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestError, TestRunner};

mod life;
mod reference;
mod story;

use life::{Seen, live};
use reference::Model;
use story::{Limits, Reply, Setup, Step, stories};

const CASES: u32 = 1_000;

fn fixed() -> Config {
    Config { cases: CASES, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

#[test]
fn a_pool_does_what_the_model_foretells() {
    let mut config = Config {
        // Otherwise four times the cases, however few those are.
        max_shrink_iters: 10_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        source_file: Some(file!()),
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = fixed().cases;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = fixed().rng_seed;
    }
    let lived =
        TestRunner::new(config).run(&stories(), |(setup, steps)| live(&setup, &steps, Model::new(&setup)).map(drop));
    lived.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Steps, what they met and what came of it, that make these lives worth living.
const SOMETIMES: &[&str] = &[
    "Answer: Done",
    "Cancel Admitted: Done, hands over",
    "Cancel Checking: Done, hands over",
    "Cancel Expired: Done",
    "Cancel Handed: Done",
    "Cancel Handed: Done, closes after the end",
    "Cancel Handed: Done, closes surplus",
    "Cancel Handed: Done, hands over",
    "Cancel Opening: Done, closes after the end",
    "Cancel Opening: Done, hands over",
    "Cancel Queued: Done",
    "Cancel Refused: Done",
    "CancelClose: Done",
    "Close: Empty, closes",
    "Close: Pending",
    "CloseWithin: Pending",
    "CloseWithin: StillOpen",
    "Detach: Done, closes after the end",
    "Detach: Done, hands over",
    "Get: Closed",
    "Get: ConnectFailed",
    "Get: Lent",
    "Get: Lent, replaces what a hook refuses",
    "Get: Lent, replaces what is stale",
    "Get: Panicked",
    "Get: Pending",
    "Get: TurnedDown",
    "Panic: Done, hands over",
    "Pass: Done",
    "Poll Admitted: Closed, closes after the end",
    "Poll Admitted: ConnectFailed, hands over",
    "Poll Admitted: ConnectedTooLong, hands over",
    "Poll Admitted: Lent",
    "Poll Admitted: Panicked, hands over",
    "Poll Checking: Closed, closes after the end",
    "Poll Checking: Lent",
    "Poll Expired: WaitedTooLong",
    "Poll Handed: Closed, closes after the end",
    "Poll Handed: ConnectFailed, hands over",
    "Poll Handed: Lent",
    "Poll Handed: Lent, replaces what fails its test",
    "Poll Handed: Lent, replaces what is stale",
    "Poll Opening: Closed, closes after the end",
    "Poll Opening: ConnectFailed, closes after the end",
    "Poll Opening: ConnectFailed, hands over",
    "Poll Opening: ConnectedTooLong, hands over",
    "Poll Opening: Lent",
    "Poll Opening: Panicked, closes after the end",
    "Poll Opening: Panicked, hands over",
    "Poll Opening: TurnedDown, hands over",
    "Poll Queued: Pending",
    "Poll Refused: Closed",
    "PollClose: Empty",
    "PollClose: Pending",
    "PollClose: StillOpen",
    "Resize: Done, closes",
    "Resize: Done, hands over",
    "Retain: Retained, closes",
    "Return: Done",
    "Return: Done, closes after the end",
    "Return: Done, closes another that is stale",
    "Return: Done, closes surplus",
    "Return: Done, closes what is too old",
    "Return: Done, hands over",
    "Return: Done, hands over past one out of time",
    "Return: Done, rests past one out of time",
    "ReturnBroken: Done, closes surplus",
    "ReturnBroken: Done, hands over",
    "TryGet: Closed",
    "TryGet: ConnectFailed",
    "TryGet: Lent",
    "TryGet: Nothing",
    "TryGet: Panicked",
    "TryGet: Pending",
    "TryGet: TurnedDown",
    "Turn: Done, closes",
    "Turn: Done, closes after the end",
    "Turn: Done, hands over",
    "Turn: Done, opens what nobody asked for",
];

#[test]
fn everything_happens_sometimes() {
    let seen = RefCell::new(Seen::new());
    let lived = TestRunner::new(fixed()).run(&stories(), |(setup, steps)| {
        for (what, times) in live(&setup, &steps, Model::new(&setup))? {
            *seen.borrow_mut().entry(what).or_default() += times;
        }
        Ok(())
    });
    assert!(lived.is_ok(), "see the other test");
    let seen = seen.into_inner();
    seen.iter().for_each(|(what, times)| println!("{times:6} {what}"));
    let never: Vec<_> = SOMETIMES.iter().filter(|what| !seen.contains_key(**what)).collect();
    assert!(never.is_empty(), "never seen: {never:#?}");
}

#[test]
fn what_a_cancelled_waiter_was_handed_goes_to_the_next() {
    use Step::{Cancel, Get, Resize};
    let setup = Setup { max: 1, wait: 3, connects: vec![Reply::Succeeds, Reply::Later], ..Setup::default() };
    live(&setup, &[Get, Get, Get, Get, Get, Get, Resize(4), Cancel(0)], Model::new(&setup)).unwrap();
}

#[test]
fn surplus_that_comes_back_is_closed() {
    use Step::{Get, Resize};
    let limits = Limits { idle_timeout: Some(1), ..Limits::default() };
    let setup = Setup { max: 1, wait: 3, limits, ..Setup::default() };
    live(&setup, &[Resize(2), Get, Get, Resize(1), Get], Model::new(&setup)).unwrap();
}

#[test]
fn what_comes_back_passes_by_who_is_out_of_time() {
    use Step::{Get, Pass, Poll, Return, Turn};
    let setup = Setup { max: 1, wait: 3, ..Setup::default() };
    live(&setup, &[Get, Get, Pass(1), Get, Pass(2), Turn, Return(0), Poll(0), Poll(0)], Model::new(&setup)).unwrap();
}

#[test]
fn what_was_handed_over_before_the_end_is_lent_to_nobody_after_it() {
    use Step::{Close, Get, Poll, Resize, Return};
    let setup = Setup { max: 1, wait: 3, ..Setup::default() };
    let steps = [Get, Get, Get, Return(0), Resize(2), Close, Poll(0), Poll(0)];
    live(&setup, &steps, Model::new(&setup)).unwrap();
}

/// The control.
#[test]
fn a_model_in_which_waiters_are_overtaken_is_found_wrong() {
    let lived = TestRunner::new(fixed())
        .run(&stories(), |(setup, steps)| live(&setup, &steps, Model::that_overtakes(&setup)).map(drop));
    let Err(TestError::Fail(_, (setup, steps))) = lived else { panic!("nobody noticed") };
    assert!(live(&setup, &steps, Model::new(&setup)).is_ok(), "the mistake alone makes the difference");
}
