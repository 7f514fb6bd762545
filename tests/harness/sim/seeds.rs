//! `POOLPROOF_SEED` makes a check run one seed, whichever it would: what a report says repeats a failure.

use std::fs;
use std::sync::Mutex;

use poolproof::harness::sim::{SEED, Sim};

use crate::common::alone;

/// The file in which a body leaves the seeds that it ran.
const RAN: &str = "ran";

#[test]
#[ignore = "the body of the other test"]
fn a_process() {
    let ran = Mutex::new(Vec::new());
    Sim::new().seeds(0..5).check(async |world| {
        ran.lock().unwrap().push(world.seed());
        Ok::<_, String>(())
    });
    fs::write(alone::place().join(RAN), format!("{:?}", ran.into_inner().unwrap())).unwrap();
}

/// What a process runs whose environment has that; `None` if it fails.
fn ran(seed: Option<&str>) -> Option<String> {
    let place = tempfile::tempdir().unwrap();
    let mut body = alone::body("sim::seeds::a_process", place.path());
    body.env_remove(SEED).envs(seed.map(|seed| (SEED, seed)));
    assert!(body.output().unwrap().status.success() == place.path().join(RAN).exists());
    fs::read_to_string(place.path().join(RAN)).ok()
}

#[test]
fn a_seed_in_the_environment_is_the_only_one_that_is_run() {
    assert_eq!(ran(None).as_deref(), Some("[0, 1, 2, 3, 4]"));
    assert_eq!(ran(Some("3")).as_deref(), Some("[3]"));
    // One that it would not run otherwise, too.
    assert_eq!(ran(Some("1234567")).as_deref(), Some("[1234567]"));
    assert_eq!(ran(Some("three")), None);
}
