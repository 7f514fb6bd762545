//! Schedules that name semantic steps: those that are kept are followed, and say so when they no longer apply.

use std::fs;
use std::path::Path;

use poolproof::harness::sim::{FailureKind, Sim, Workload};

fn replay(text: &str) -> poolproof::harness::sim::Replayed {
    let name = text.lines().find_map(|line| line.strip_prefix("workload:")).expect("it names its workload");
    let workload: Workload = name.trim().parse().unwrap();
    Sim::replay(text, async move |world| workload.run(world).await).unwrap()
}

fn kept(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schedules").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn every_schedule_that_is_kept_is_followed_and_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schedules");
    let mut schedules = 0;
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // Those that the engine does not bear are for themselves: see findings.rs.
    for file in files.filter(|file| file.is_file()) {
        let replayed = replay(&fs::read_to_string(&file).unwrap());
        assert_eq!(replayed.failure, None, "{}:\n{}", file.display(), replayed.interleaving);
        schedules += 1;
    }
    assert!(schedules >= 4);
}

#[test]
fn what_a_schedule_says_happens() {
    let replayed = replay(&kept("sync-fails.sched"));
    assert!(replayed.interleaving.contains("fsync log fails: EIO; fsync log"), "{}", replayed.interleaving);
    assert!(replayed.interleaving.contains("write 2 rolled back"), "{}", replayed.interleaving);
    let replayed = replay(&kept("crash-in-a-commit.sched"));
    assert!(replayed.interleaving.contains("power failure"), "{}", replayed.interleaving);
}

#[test]
fn a_schedule_that_no_longer_applies_says_which_line() {
    let head = "workload: bank\nseed: 1\nfaults: none\nanswer: number main 1 = 1\n\n";
    let never = format!("{head}client-1 | client-2 | disk\nwrite 1 ok | |\nwrite 7 ok | |\n");
    let failure = replay(&never).failure.expect("there is no seventh write");
    assert_eq!(failure.kind, FailureKind::Schedule);
    assert_eq!(failure.message, "line 8: client-1 never did \"write 7 ok\"");

    // Both share a commit unless the lane goes first: then client-1 is done before client-2 has begun.
    let early = format!("{head}client-1 | lane | disk\n | . | fsync mvcc-log\nwrite 1 ok | |\n");
    let failure = replay(&early).failure.expect("client-1 is done by then");
    assert_eq!(failure.kind, FailureKind::Schedule);
    assert!(
        failure
            .message
            .starts_with("line 8: client-1 did \"write 1 ok\" while line 7 waited for lane to do \"fsync mvcc-log\""),
        "{failure}"
    );
}

#[test]
fn a_schedule_that_cannot_be_read_says_where_and_why() {
    let problems = [
        ("", "there is no table: it begins with the names of the tasks, and disk: client-1 | lane | disk"),
        ("seed: many", "line 1: \"many\" is no seed"),
        ("speed: 3", "line 1: \"speed\" is none of workload, seed, faults, answer, order: answers"),
        ("answer: number client-1", "line 1: an answer is written as: answer: number client-1 0 = 7"),
        ("client-1 | lane", "line 1: the table begins with the names of the tasks, and disk: client-1 | lane | disk"),
        ("a | disk\nx | y | z", "line 2: 3 cells under 2 names"),
        ("a | b | disk\nx | y |", "line 2: a line is about one task; one that only lets the disk work has a dot"),
        ("a | disk\n. |", "line 2: a dot is for a task that lets the disk work: say what it does"),
    ];
    for (text, problem) in problems {
        let outcome = Sim::replay(text, async |world| Workload::Bank.run(world).await);
        assert_eq!(outcome, Err(problem.to_owned()), "{text:?}");
    }
}

#[test]
fn every_step_of_a_line_is_followed() {
    let head = "workload: bank\nseed: 1\nfaults: crash=1\nanswer: number main 0 = 1\n\n";
    let replayed = replay(&format!("{head}client-1 | lane | disk\n | . | fsync log; power failure\n"));
    assert_eq!(replayed.failure, None, "{}", replayed.interleaving);
    let [synced, failed] = ["fsync log", "power failure"].map(|step| replayed.interleaving.find(step));
    assert!(synced < failed, "{}", replayed.interleaving);
}

#[test]
fn a_table_beside_an_order_by_answers_decides_nothing_and_has_to_happen() {
    let head = "workload: bank\nseed: 1\nfaults: none\norder: answers\nanswer: number main 0 = 1\n\n";
    let replayed = replay(&format!("{head}client-1 | disk\nwrite 1 ok |\n"));
    assert_eq!(replayed.failure, None, "{}", replayed.interleaving);
    let failure = replay(&format!("{head}client-1 | disk\nwrite 7 ok |\n")).failure.expect("there is no seventh write");
    assert_eq!(failure.kind, FailureKind::Schedule);
    assert_eq!(failure.message, "line 8: client-1 never did \"write 7 ok\"");
}
