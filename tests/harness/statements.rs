//! Generated programs: the library as the engine alone.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use poolproof::harness::sim::{Faults, Sim, World};
use poolproof::harness::statements::{
    Searched, Shown, difference, differences, judge_in, judge_through_failures, search,
};

/// Programs, unless the environment says another number.
const PROGRAMS: u64 = 200;

fn range() -> Range<u64> {
    range_of("POOLPROOF_PROGRAMS", 0..PROGRAMS)
}

/// What a variable of the environment says, or else this.
fn range_of(variable: &str, or_else: Range<u64>) -> Range<u64> {
    let Ok(range) = std::env::var(variable) else { return or_else };
    let (from, upto) = range.split_once("..").expect("A..B");
    from.parse().unwrap()..upto.parse().unwrap()
}

#[test]
fn every_generated_program_is_as_on_the_engine_alone() {
    let Searched { programs, statements, refused, failed, features, differ, .. } = search(range());
    println!("{programs} programs, {statements} statements, {refused} calls refused, {failed} failed");
    for (feature, uses) in features.iter() {
        println!("{feature:22} {:7} done, {:7} failed, {:7} refused", uses.done, uses.failed, uses.refused);
    }
    if let Some(difference) = differ.first() {
        panic!("{difference}");
    }
    assert!(failed * 10 > programs && refused < statements / 4, "they show too little");
    if programs >= PROGRAMS {
        assert_eq!(features.untested(), [""; 0], "no program has shown what these do");
    }
}

/// Known ones are seen: the list is not empty because nothing is compared.
#[test]
fn the_engine_is_seen_to_differ_from_sqlite() {
    let groups = differences(0..20);
    let named = |what: &str| groups.values().any(|group| group.what.contains(what));
    assert!(named("WITHOUT ROWID tables are an experimental feature"), "{groups:?}");
}

/// The list of them, with an example of each.
const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/differences-to-sqlite.md");

/// What a line of the list begins with that names the first seed of a group.
const SEED: &str = "First seen in program ";

/// Each group of the list, by its name and its seed.
fn listed() -> Vec<(String, u64)> {
    let list = std::fs::read_to_string(LIST).unwrap();
    let mut listed = Vec::new();
    let mut name = String::new();
    for line in list.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut name);
        } else if let Some(seed) = line.strip_prefix(SEED) {
            let digits = seed.split(|letter: char| !letter.is_ascii_digit()).next().unwrap();
            listed.push((name.clone(), digits.parse().unwrap()));
        }
    }
    listed
}

/// What the list says is so, as long as neither the grammar nor an engine is another.
#[test]
fn the_listed_differences_to_sqlite_are_there() {
    let listed = listed();
    assert!(listed.len() > 20, "{}", listed.len());
    for (name, seed) in listed {
        assert_eq!(difference(seed).as_ref(), Some(&name), "program {seed}: make the list anew, as its head says");
    }
}

/// Writes the list: by hand, as its head says.
#[test]
#[ignore = "a report, of minutes"]
fn differences_to_sqlite_are_listed() {
    use std::fmt::Write as _;

    let range = range_of("POOLPROOF_PROGRAMS", 0..2000);
    let (count, groups) = (range.end - range.start, differences(range));
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(name, group)| (std::cmp::Reverse(group.programs), name.clone()));
    let mut list = format!(
        "# Where the engine differs from SQLite\n\n{} groups in {count} generated programs, which both ran alone, the most frequent \
         first: by the first words of the\nstatement and what either came to, each with the first program that showed it, made small. \
         Of each program only the\nfirst difference counts. `cargo test` holds the list to what it says; this writes it anew, in a few \
         minutes:\n\n```console\n$ cargo test --test harness differences_to_sqlite_are_listed -- --ignored\n```\n",
        groups.len()
    );
    for (name, group) in groups {
        let times = if group.programs == 1 { "once".to_owned() } else { format!("{} times", group.programs) };
        write!(
            list,
            "\n## {name}\n\n{SEED}{}, {times} in all: {}\n\n```sql\n{}```\n",
            group.seed, group.what, group.example
        )
        .unwrap();
    }
    std::fs::write(LIST, list).unwrap();
}

/// In simulated worlds it is decided otherwise who waits for whom, and every call comes to the same.
#[test]
fn in_simulated_worlds_programs_are_as_on_the_engine_alone() {
    let faults = Faults { latency: 100_000, time: 2_000, ..Faults::NONE };
    // An unoptimised engine takes more stack for what the grammar nests than a thread of a test has.
    let worlds = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
        for program in 0..60 {
            let sim = Sim::new().seeds(program * 2..program * 2 + 2).faults(faults);
            sim.check(async |world: World| judge_in(&world, program).await);
        }
    });
    worlds.unwrap().join().unwrap();
}

/// What worlds showed.
#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    worlds: usize,
    /// Those of them whose disk, or power, failed.
    failed: usize,
    lives: usize,
    /// Worlds of which too much is not known.
    not_judged: usize,
}

/// Runs programs in worlds of these faults.
fn through_failures(programs: Range<u64>, seeds: u64, faults: Faults) -> Result<Judged, String> {
    let worlds = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
        let judged = Mutex::new(Judged::default());
        for program in programs {
            let seeds = program * seeds..(program + 1) * seeds;
            let report =
                Sim::new().seeds(seeds).faults(faults).minimise_for(Duration::ZERO).run(async |world: World| {
                    let shown = judge_through_failures(&world, program).await?;
                    let mut judged = judged.lock().unwrap();
                    match shown {
                        Shown::Same { lives, failures } => {
                            judged.worlds += 1;
                            judged.lives += lives;
                            judged.failed += usize::from(failures > 0);
                        }
                        Shown::TooLittle => judged.not_judged += 1,
                    }
                    Ok::<_, String>(())
                });
            if let Some(found) = report.found.first() {
                return Err(found.to_string());
            }
        }
        Ok(judged.into_inner().unwrap())
    });
    worlds.unwrap().join().unwrap()
}

/// Disks that fail, callers that leave, power that fails: what is told as done is there, and nothing else, whatever the SQL.
#[test]
fn through_failures_programs_are_as_on_the_engine_alone() {
    let judged = through_failures(range_of("POOLPROOF_LIVES", 0..40), 3, Faults::all()).unwrap();
    println!("{judged:?}");
    let Judged { worlds, failed, not_judged, .. } = judged;
    // In a third of them something fails, in a twentieth too much.
    assert!(worlds > not_judged * 5 && failed * 5 > worlds, "they show too little: {judged:?}");
}

/// Control: what was acknowledged is lost, since the disk says that it has synced and has not.
#[test]
fn a_disk_that_lies_is_found_out_by_generated_programs() {
    let found = through_failures(0..40, 3, Faults { lying_sync: true, ..Faults::crashes() }).unwrap_err();
    let ways = ["and the engine alone", "cannot be opened in", "the engine finds damage"];
    assert!(ways.iter().any(|way| found.contains(way)), "{found}");
}
