//! kill -9: what was acknowledged outlives the process, each write wholly and once; and whoever breaks that is caught.

use std::process::{Command, Output};

use poolproof::harness::drive::Control;
use poolproof::harness::kill::{Kill, KillReport, Subject};

fn kill(subject: Subject, rounds: u32) -> KillReport {
    let kill = Kill { subject, rounds, ..Kill::new(crate::common::poolproof()) };
    kill.run(&Control::default(), &|| {}).unwrap()
}

fn assert_clean(report: &KillReport, rounds: u64) {
    assert!(report.ok, "{:?}: {:#?}\nrepeat: {}", report.faults(), report.findings, report.repeat);
    assert_eq!((report.rounds, report.found), (rounds, report.acknowledged), "{report:?}");
    assert!(report.acknowledged >= rounds && report.logs_recovered > 0, "{report:?}");
}

#[test]
fn what_was_acknowledged_outlives_50_kills_wholly_and_once() {
    assert_clean(&kill(Subject::Writer, 50), 50);
}

/// What a killed process alone cannot show, since the operating system outlives it: that each commit was synced.
#[test]
fn what_was_acknowledged_outlives_a_kill_on_a_disk_that_forgets_what_was_not_synced() {
    assert_clean(&kill(Subject::Forgetful, 15), 15);
}

#[test]
fn without_a_sync_acknowledged_writes_are_lost_on_that_disk_and_that_is_found_out() {
    let report = kill(Subject::Unsynced, 5);
    assert!(!report.ok && report.lost > 0, "{report:?}");
    assert_eq!(report.faults().len(), 1, "it is broken in one thing only: {report:?}");
}

#[test]
fn a_lane_that_acknowledges_before_it_commits_is_found_out() {
    // A kill has to come between the acknowledgement and the commit, as one in ten does: 12 kills, again and again, until one has.
    let reports = (1..=20).map(|seed| {
        let kill = Kill { subject: Subject::EarlyAck, rounds: 12, seed, ..Kill::new(crate::common::poolproof()) };
        kill.run(&Control::default(), &|| {}).unwrap()
    });
    let report = reports.into_iter().find(|report| !report.ok).expect("240 kills, and nothing was lost");
    assert!(!report.ok && report.lost > 0, "{report:?}");
    assert_eq!(report.faults().len(), 1, "it is broken in one thing only: {report:?}");
}

#[test]
fn a_lane_whose_transactions_commit_in_pieces_is_found_out() {
    let report = kill(Subject::Pieces, 8);
    assert!(!report.ok && report.torn > 0, "{report:?}");
    assert_eq!(report.faults().len(), 1, "it is broken in one thing only: {report:?}");
}

#[cfg(unix)]
#[test]
fn children_that_end_by_themselves_or_talk_nonsense_are_found_out() {
    for program in ["true", "yes"] {
        let report = Kill { rounds: 2, ..Kill::new(program.into()) }.run(&Control::default(), &|| {}).unwrap();
        assert!(!report.ok && report.complaints >= 2 && report.acknowledged == 0, "{program}: {report:?}");
    }
    let error = Kill::new("no-such-program".into()).run(&Control::default(), &|| {}).unwrap_err();
    assert!(error.to_string().contains("no-such-program cannot be started"), "{error}");
}

#[test]
fn rounds_that_are_stopped_say_so_and_show_nothing() {
    let control = Control::default();
    control.stop();
    let report = Kill::new(crate::common::poolproof()).run(&control, &|| {}).unwrap();
    assert!(report.stopped && !report.ok && report.rounds == 0, "{report:?}");
    assert!(report.faults().is_empty() && report.findings.is_empty(), "{report:?}");
}

fn poolproof(line: &str) -> Output {
    Command::new(crate::common::poolproof()).args(line.split_whitespace()).output().unwrap()
}

#[test]
fn the_exit_code_tells_a_writer_that_holds_from_one_that_does_not() {
    let output = poolproof("stress --kill --rounds 4 --seed 7 --json -");
    let report: KillReport = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report.ok, report.rounds, report.seed), (Some(0), true, 4, 7), "{report:?}");

    let output = poolproof("stress --kill=unsynced --rounds 4");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("repeat: poolproof stress --kill=unsynced --rounds 4"), "{text}");
}

#[test]
fn what_cannot_be_asked_of_a_kill_is_refused() {
    for (line, word) in [
        ("stress --kill --rounds 0", "'--rounds <N>': choose 1 to 1000000"),
        ("stress --rounds 5", "--kill"),
        ("stress --kill --operations 5", "--operations"),
        ("stress --kill=somebody", "early-ack"),
    ] {
        let output = poolproof(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), stderr.trim().lines().count()), (Some(2), 1), "{line}: {stderr}");
        assert!(stderr.contains(word), "{line}: {stderr}");
    }
    // By the field's name, where it does not come from the command line.
    let nothing = Kill { rounds: 0, ..Kill::new(crate::common::poolproof()) };
    let refused = nothing.run(&Control::default(), &|| {}).unwrap_err();
    assert!(refused.to_string().contains("rounds is 0"), "{refused}");
}
