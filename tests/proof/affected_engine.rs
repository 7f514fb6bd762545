//! The engine that had the failure, as `cargo prove` runs it: the real release, in a child process.

use std::time::Duration;

use poolproof::harness::child;
use poolproof::harness::run::RunReport;

/// Where a shared connection of this release panics: the WAL is borrowed while it is synced.
const KNOWN_LOCATION: &str = "turso_core-0.2.2/storage/pager.rs:1601:43";

fn run(line: &str) -> RunReport {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let report = child::run(&crate::common::affected_engine(), &args, Duration::from_secs(60)).unwrap();
    assert_eq!(report.engine, "turso 0.2.2", "{report:?}");
    report
}

#[test]
fn a_shared_connection_panics_at_the_known_place_every_time() {
    for statement in ["insert", "select"] {
        for _ in 0..5 {
            let report = run(&format!("gate --connections shared --statement {statement}"));
            assert_eq!(report.panics, 1, "{report:?}");
            assert_eq!(report.locations.get(KNOWN_LOCATION), Some(&1), "{report:?}");
            assert_eq!((report.acknowledged, report.found), (1, 1), "the first task's INSERT stands: {report:?}");
        }
    }
}

#[test]
fn separate_connections_do_not_panic_behind_the_same_gate() {
    for statement in ["insert", "select"] {
        for _ in 0..5 {
            let report = run(&format!("gate --connections separate --statement {statement}"));
            assert_eq!((report.panics, report.hung, report.lost), (0, false, 0), "{report:?}");
            assert!(report.acknowledged >= 1, "{report:?}");
        }
    }
}

#[test]
fn racing_threads_on_a_shared_connection_panic_without_any_gate() {
    let panicked = (1..=3).any(|seed| {
        let report = run(&format!("race --connections shared --tasks 20 --workers 4 --operations 400 --seed {seed}"));
        report.panics > 0 || report.died
    });
    assert!(panicked, "three races of 400 operations, and nothing panicked");
}

#[test]
fn racing_threads_on_separate_connections_lose_nothing() {
    let report = run("race --connections separate --tasks 20 --workers 4 --operations 400 --seed 1");
    assert_eq!((report.panics, report.hung, report.lost, report.operations), (0, false, 0, 400), "{report:?}");
    assert_eq!(report.failed, report.rejected, "only locks may refuse: {report:?}");
}

#[test]
fn separate_connections_over_its_own_io_wait_for_each_other() {
    let report = run("deadlock --watchdog-s 5");
    assert!(report.hung, "{report:?}");
    let control = run("deadlock --io unlocked --watchdog-s 5");
    assert!(!control.hung, "without the mutex nobody waits: {control:?}");
}

#[test]
fn an_unknown_mode_is_refused() {
    let error =
        child::run(&crate::common::affected_engine(), &["sideways".to_owned()], Duration::from_secs(10)).unwrap_err();
    assert!(error.to_string().contains("affected-engine"), "{error}");
}
