//! Where the engine differs from SQLite: generated programs on both, alone, without the library. Each difference is of a group, by
//! the statement's first words and by what either came to, and each group has an example, as small as it can be made.

use std::collections::BTreeMap;
use std::ops::Range;

use super::engines::{Bare, Sqlite};
use super::grammar::Grammar;
use super::minimise::minimise;
use super::program::{Call, Program};
use super::table::{ANOTHER, Told, gist};
use super::{FAILED, block_on, oracle};

/// Differences that look alike.
#[derive(Clone, Debug)]
pub struct Group {
    /// How many programs have one, as the first of theirs.
    pub programs: u64,
    /// The first seed of those.
    pub seed: u64,
    /// The smallest program of one of them that was found, as SQL.
    pub example: String,
    /// What either came to in that.
    pub what: String,
}

/// The programs of these seeds, one connection after the other. From the statement's shape, and what the engine and SQLite came to,
/// to those that look so.
///
/// # Panics
/// Inside a runtime; if there is no room for a file.
pub fn differences(seeds: Range<u64>) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for seed in seeds {
        let program = alone(Grammar::new(seed).program());
        let Some((name, what)) = first(&program) else { continue };
        if let Some(group) = groups.get_mut(&name) {
            group.programs += 1;
            continue;
        }
        let of_group = |program: &Program| first(program).filter(|(group, _)| *group == name).map(|(_, what)| what);
        let (smallest, what) = minimise(program, what, of_group);
        groups.insert(name, Group { programs: 1, seed, example: smallest.to_string(), what });
    }
    groups
}

/// The group of the first difference in the program of a seed.
///
/// # Panics
/// As for [`differences`].
#[must_use]
pub fn difference(seed: u64) -> Option<String> {
    first(&alone(Grammar::new(seed).program())).map(|(name, _)| name)
}

/// Nothing at the same time, and nothing of the library's.
fn alone(mut program: Program) -> Program {
    program.environment = Default::default();
    program.groups = program.groups.into_iter().flatten().map(|call| vec![call]).collect();
    program
}

/// The first difference: its group, and what either came to.
fn first(program: &Program) -> Option<(String, String)> {
    block_on(false, async {
        // Nobody refuses anything.
        let told: Vec<_> = program.calls().map(|_| Told::Done(Vec::new())).collect();
        let by_engine = oracle::run(&mut Bare::open(false).await, program, &told).await;
        let by_sqlite = oracle::run(&mut Sqlite::open().await, program, &told).await;
        let both = program.calls().zip(by_engine.iter().zip(&by_sqlite));
        both.filter(|(_, (engine, sqlite))| !engine.agrees_with(sqlite))
            .map(|(call, (engine, sqlite))| {
                let place = place(engine, sqlite);
                let (by_engine, by_sqlite) = (kind(engine, place), kind(sqlite, place));
                let name = format!("{}: the engine {by_engine}, SQLite {by_sqlite}", shape(call, place));
                (name, format!("engine {engine}; SQLite {sqlite}"))
            })
            .next()
    })
}

/// Which of several statements came to different things.
fn place(engine: &Told, sqlite: &Told) -> Option<usize> {
    match (engine, sqlite) {
        (Told::Done(one), Told::Done(other)) => one.iter().zip(other).position(|(one, other)| one != other),
        _ => None,
    }
}

/// The first words of the statement, if it is known which of them that is.
fn shape(call: &Call, place: Option<usize>) -> String {
    let statement = match (&call.statements[..], place) {
        ([only], _) => only,
        (all, Some(place)) => &all[place],
        _ => return format!("{:?}", call.way),
    };
    let sql = statement.sql.rsplit("*/").next().unwrap_or_default();
    let is_a_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_uppercase());
    sql.split_whitespace().take(3).take_while(is_a_word).collect::<Vec<_>>().join(" ")
}

fn kind(told: &Told, place: Option<usize>) -> String {
    let text = |of_each: &[String]| place.and_then(|place| of_each.get(place).cloned());
    match told {
        Told::Done(of_each) => match text(of_each) {
            Some(text) if text == FAILED => "fails in a transaction".to_owned(),
            _ => "does it".to_owned(),
        },
        Told::Failed(why) => format!("fails ({})", class(why)),
        Told::Refused(_) => "is not asked".to_owned(),
    }
}

/// Of an error that is of no kind that is known, its first words, without names.
fn class(error: &str) -> String {
    match gist(error) {
        gist if gist == ANOTHER => {
            let is_word = |word: &&str| word.chars().all(|letter| letter.is_alphabetic() || letter == ':');
            let words: Vec<&str> = error.split_whitespace().filter(is_word).take(5).collect();
            words.join(" ")
        }
        gist => gist,
    }
}
