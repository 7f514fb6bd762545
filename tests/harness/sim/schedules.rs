//! Schedules that name semantic steps: those that are kept are followed, and say so when they no longer apply.

use std::fs;
use std::path::Path;
use std::time::Duration;

use poolproof::harness::sim::{FailureKind, Sim, Workload, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::sim::clients::{each, give_way};
use crate::sim::mutants::lost_update::two_count;

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
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        // What is kept of the engine alone has checks of its own.
        if file.is_dir() {
            continue;
        }
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
        ("a | disk\n\\x |", "line 2: a backslash in \"\\\\x\" means nothing: \\\\ is one that means itself"),
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

#[test]
fn a_line_says_where_the_lane_takes_over_from_a_client() {
    let head = "workload: bank\nseed: 1\nfaults: none\nanswer: number main 1 = 1\n\n";
    let table = |client: &str| format!("{head}client-1 | lane | disk\n | wakes for {client} |\nwrite 1 ok | |\n");
    let replayed = replay(&table("client-1"));
    assert_eq!(replayed.failure, None, "{}", replayed.interleaving);
    let failure = replay(&table("client-9")).failure.expect("there is no ninth client");
    let why = "line 8: client-1 did \"write 1 ok\" while line 7 waited for lane to do \"wakes for client-9\"";
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Schedule, why));
}

/// Whether a second client reads between the lane's sync and its end decides, and neither does anything that can be seen before.
#[test]
fn what_is_found_names_a_handover_where_deeds_alone_do_not_repeat_it() {
    let loses = |seed| {
        let found = Sim::new().seeds(seed..seed + 1).run(async |world| two_count(world, true).await).found.pop();
        found.filter(|found| found.is_repeated && found.schedule.contains("asks fsync log"))
    };
    // Others are repeated by the deeds, or by counting answers.
    let found = (0..60).find_map(loses).expect("an update is lost, in an order that this names");
    assert!(!found.schedule.contains("order: answers"), "{found}");
    let without: Vec<_> = found.schedule.lines().filter(|line| !line.contains("asks fsync log")).collect();
    assert!(without.len() < found.schedule.lines().count(), "{found}");
    let replayed = Sim::replay(&without.join("\n"), async |world| two_count(world, true).await).unwrap();
    let failure = replayed.failure.expect("the rest happens in another order");
    assert_eq!(failure.kind, FailureKind::Schedule, "{failure}");
}

/// Two clients say these in turn, and the check fails.
async fn two_say(world: World, notes: &[String]) -> Result<(), String> {
    each(&world, 2, |_| {
        let (world, notes) = (world.clone(), notes.to_vec());
        async move {
            for note in notes {
                world.note(note);
                give_way().await;
            }
            Ok::<_, String>(())
        }
    })
    .await?;
    Err("they have said it".to_owned())
}

/// What a note may be, and what means something in a table.
fn note() -> impl Strategy<Value = String> {
    let telling =
        prop::sample::select(vec!["|", ";", "\n", "#", ".", "\\", " ", "", "disk", "ends", "\u{2028}", "\\u{20}"]);
    prop_oneof![any::<String>(), prop::collection::vec(telling, 0..4).prop_map(|parts| parts.concat())]
}

proptest! {
    #![proptest_config(Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_note_is_printed_read_and_followed(notes in prop::collection::vec(note(), 1..4), seed in 0_u64..100) {
        let sim = Sim::new().seeds(seed..seed + 1).minimise_for(Duration::ZERO);
        let report = sim.run(async |world| two_say(world, &notes).await);
        let found = &report.found[0];
        prop_assert!(found.is_repeated && !found.schedule.contains("order: answers"), "{found}");
        let replayed = Sim::replay(&found.schedule, async |world| two_say(world, &notes).await).unwrap();
        let failure = replayed.failure.expect("it failed");
        prop_assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Check, "they have said it"));
        prop_assert!(found.schedule.ends_with(&replayed.interleaving), "{}\n{}", found, replayed.interleaving);
        // Whoever says anything else does not follow it.
        let others: Vec<String> = notes.iter().map(|note| format!("{note}!")).collect();
        let says_other = async |world| {
            // Whether the check fails is no matter: the lines have not happened.
            let _ = two_say(world, &others).await;
            Ok::<_, String>(())
        };
        let replayed = Sim::replay(&found.schedule, says_other).unwrap();
        prop_assert!(replayed.failure.is_some_and(|failure| failure.kind == FailureKind::Schedule), "{found}");
    }
}
