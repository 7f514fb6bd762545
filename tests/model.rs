//! Random lives of a pool, each beside a model that is told the same and must foretell everything: who is served, with which
//! connection or with which error, who is woken, what is open, idle, alive.
//!
//! `model/story.rs` says what can happen, `model/reference.rs` is the model, `model/life.rs` compares the two after every
//! step. By default the same lives every time; `PROPTEST_CASES=100000 PROPTEST_RNG_SEED=7` in the environment asks for more,
//! or others. A life that fails is shortened, printed, and its seed kept in `model.proptest-regressions`, whose lives come
//! first in every run.

use std::cell::RefCell;

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestError, TestRunner};

#[path = "model/life.rs"]
mod life;
#[path = "model/reference.rs"]
mod reference;
#[path = "common/server.rs"]
mod server;
#[path = "model/story.rs"]
mod story;

use life::{Seen, live};
use reference::Model;
use story::stories;

const CASES: u32 = 500;

fn fixed() -> Config {
    Config { cases: CASES, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

#[test]
fn a_pool_does_what_the_model_foretells() {
    let mut config = Config {
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
    let outcome =
        TestRunner::new(config).run(&stories(), |(setup, steps)| live(&setup, &steps, Model::new(&setup)).map(drop));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn everything_happens_sometimes() {
    let seen = RefCell::new(Seen::new());
    let outcome = TestRunner::new(fixed()).run(&stories(), |(setup, steps)| {
        for (what, times) in live(&setup, &steps, Model::new(&setup))? {
            *seen.borrow_mut().entry(what).or_default() += times;
        }
        Ok(())
    });
    assert!(outcome.is_ok());
    let seen = seen.into_inner();
    for (what, times) in &seen {
        println!("{times:6} {what}");
    }
}

#[test]
fn a_model_in_which_waiters_are_overtaken_is_found_wrong() {
    let lived = TestRunner::new(fixed())
        .run(&stories(), |(setup, steps)| live(&setup, &steps, Model::that_overtakes(&setup)).map(drop));
    let Err(TestError::Fail(why, (setup, steps))) = lived else { panic!("nobody noticed") };
    println!("{why}: {setup:?} {steps:?}");
}
