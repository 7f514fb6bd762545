//! Whatever leaks into a world makes a seed mean something else in each process. The hash of a run tells.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use poolproof::Error;
use poolproof::harness::sim::audit::{Audit, answer, compare};
use poolproof::harness::sim::{Faults, Sim, Strategy, Workload, World};

use crate::common::{alone, poolproof};
use crate::sim::clients::each;

/// Which leak a body is to have, by its name.
const LEAK: &str = "POOLPROOF_TEST_LEAK";

/// The file in which a body leaves its hash.
const HASH: &str = "hash";

const SEED: u64 = 7;

/// What people forget that it is not the same each time.
const LEAKS: [&str; 5] = ["order of a map", "monotonic clock", "wall clock", "random number", "uuid"];

/// Eight writes, each with a number that `leak` has a hand in.
async fn writes(world: World, leak: &str) -> Result<(), Error> {
    let began = Instant::now();
    let db = world.open("leaks.db").await?;
    db.execute("CREATE TABLE numbers (n)", ()).await?;
    let by_map: Vec<i64> = (0..8).collect::<HashSet<_>>().into_iter().collect();
    for (place, by_map) in (0..).zip(by_map) {
        let n = match leak {
            "order of a map" => by_map,
            "monotonic clock" => began.elapsed().subsec_nanos().into(),
            "wall clock" => SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").subsec_nanos().into(),
            "random number" => (RandomState::new().build_hasher().finish() >> 1) as i64,
            _ => place,
        };
        // SQL's own random numbers are the world's; what makes a UUID asks the operating system.
        let sql = match leak {
            "uuid" => "INSERT INTO numbers VALUES (?1), (uuid4_str())",
            _ => "INSERT INTO numbers VALUES (?1), (random()), (randomblob(8))",
        };
        world.note(format!("writes {n}"));
        db.execute(sql, (n,)).await?;
    }
    db.close().await;
    Ok(())
}

/// The hashes of the seed in a process of its own, which has this leak, or none.
fn hash_of(leak: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    let mut body = alone::body("sim::leaks::a_process", place.path());
    body.env(LEAK, leak);
    alone::run(body);
    fs::read_to_string(place.path().join(HASH)).unwrap()
}

#[test]
#[ignore = "the body of the other tests"]
fn a_process() {
    let leak = std::env::var(LEAK).unwrap();
    let own = Sim::new().hash(SEED, async |world| writes(world, &leak).await);
    let story = Sim::new().faults(Faults::all()).hash(SEED, async |world| Workload::Story.run(world).await);
    fs::write(alone::place().join(HASH), format!("{own:016x} {story:016x}")).unwrap();
}

#[test]
fn what_leaks_in_makes_a_seed_another_in_each_process() {
    for leak in LEAKS {
        assert_ne!(hash_of(leak), hash_of(leak), "{leak}");
    }
}

#[test]
fn without_a_leak_a_seed_is_the_same_in_twenty_processes() {
    let hashes: BTreeSet<String> = (0..20).map(|_| hash_of("none")).collect();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

#[test]
#[ignore = "the body of the other tests"]
fn an_audited_process() {
    let leak = std::env::var(LEAK).unwrap();
    assert!(answer(&Sim::new(), async |world| writes(world, &leak).await).unwrap(), "an audit asks");
}

/// A few seeds in two processes that have this leak, or none.
fn audited(leak: &str) -> Audit {
    let place = tempfile::tempdir().unwrap();
    let child = || {
        let mut body = alone::body("sim::leaks::an_audited_process", place.path());
        body.env(LEAK, leak);
        body
    };
    compare(SEED..SEED + 3, child, |_| ()).unwrap()
}

#[test]
fn an_audit_shows_the_first_event_that_a_leak_makes_another() {
    for leak in LEAKS {
        let audit = audited(leak);
        println!("{leak}: {audit}");
        assert_eq!((audit.seeds, audit.differ.first()), (3, Some(&SEED)), "{leak}");
        let part = audit.leak.as_ref().unwrap_or_else(|| panic!("{leak}: the same when it was run again"));
        assert!(part.after > 0 && part.last.is_some(), "{leak}: all before it is the same");
        let [one, other] = part.parts.clone().map(|step| step.expect("both go on").what);
        if leak == "uuid" {
            // What is written differs, and nothing says what it is.
            assert_eq!(one, other);
            assert!(one.starts_with("lane asks write ") && audit.to_string().contains("the same by name"), "{audit}");
        } else {
            assert_ne!(one, other);
            assert!(one.starts_with("main writes ") && other.starts_with("main writes "), "{leak}: {audit}");
            assert!(one.contains("leaks.rs:"), "{leak}: no place in the source: {audit}");
        }
    }
}

#[test]
fn an_audit_of_what_has_no_leak_holds() {
    let audit = audited("none");
    assert!(audit.holds() && audit.leak.is_none(), "{audit}");
    // How many traces is the seeds' to say: the lane goes to sleep before its one client comes, or not.
    assert!(audit.to_string().starts_with("3 seeds, each the same in two processes; "), "{audit}");
}

/// The command, of a program into which something leaks.
#[cfg(unix)]
#[test]
fn the_commands_audit_ends_with_the_first_event_that_differs() {
    let audit = |leak: &str| {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/sim/audited.sh");
        let mut command = std::process::Command::new(poolproof());
        command.args(["sim", "--audit", "--audited", program, "--workload", "bank", "--seeds", "7..10"]);
        command.env(LEAK, leak).env("POOLPROOF_TEST_PROGRAM", std::env::current_exe().unwrap());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = audit("order of a map");
    println!("{text}");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("bank: 3 of 3 seeds differ between two processes\nseed 7: after "), "{text}");
    assert!(text.contains("\n  one run:   main writes ") && text.contains("\n  the other: main writes "), "{text}");
    assert!(text.ends_with("\nDOES NOT HOLD: something beside the seed decides\n"), "{text}");
    let (code, text) = audit("none");
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("bank: 3 seeds, each the same in two processes; ") && text.ends_with("\nholds\n"),
        "{text}"
    );
}

#[test]
fn a_test_can_be_audited() {
    Sim::new().seeds(0..3).audit("sim::leaks::a_test_can_be_audited", two_write);
}

#[test]
#[should_panic(expected = "something beside the seed decides: 3 of 3 seeds differ")]
fn a_test_into_which_something_leaks_is_found() {
    let leaks = async |world| writes(world, "random number").await;
    Sim::new().seeds(0..3).audit("sim::leaks::a_test_into_which_something_leaks_is_found", leaks);
}

#[test]
#[should_panic(expected = "a child answered to 0 of 3 seeds; is that the name of this test?")]
fn an_audit_of_a_test_that_is_not_there_is_none() {
    Sim::new().seeds(0..3).audit("sim::leaks::nobody", two_write);
}

/// Two clients write a row each: small enough for many seeds.
async fn two_write(world: World) -> Result<(), Error> {
    let pool = world.pool("seeds.db").max_connections(1).build().await?;
    pool.get().await?.execute("CREATE TABLE numbers (n)", ()).await?;
    each(&world, 2, |client| {
        let pool = pool.clone();
        async move {
            pool.get().await?.execute("INSERT INTO numbers VALUES (?1)", (client,)).await?;
            Ok(())
        }
    })
    .await
}

/// Clients, who write so often each.
async fn several_write(world: World, clients: i64, writes: i64) -> Result<(), Error> {
    let db = world.open("seeds.db").await?;
    db.execute("CREATE TABLE numbers (n)", ()).await?;
    each(&world, clients, |client| {
        let db = db.clone();
        async move {
            for _ in 0..writes {
                db.execute("INSERT INTO numbers VALUES (?1)", (client,)).await?;
            }
            Ok(())
        }
    })
    .await
}

/// Apart from what they draw, by which alone any two seeds are different runs, and from the order of what is independent.
#[test]
fn a_thousand_seeds_are_a_thousand_schedules() {
    let distinct = |strategy: Strategy, clients: i64, writes: i64| {
        let sim = Sim::new().seeds(0..1000).strategy(strategy).jobs(2);
        let report = sim.run(async |world| several_write(world, clients, writes).await);
        println!("{strategy}, {clients} clients with {writes} writes: {} schedules", report.distinct());
        assert_eq!((report.seeds, report.found.len()), (1000, 0));
        report.distinct()
    };
    assert_eq!(distinct(Strategy::Uniform, 6, 6), 1000);
    // The control: of those that there are of so few steps, most come again and again.
    assert!(distinct(Strategy::Uniform, 2, 1) < 100);
}
