//! Programs in a world whose disk fails, whose callers leave, and whose power does: the engine alone, on a disk that never fails, has to
//! come to the same in one of the orders that are possible.
//!
//! What a call is known to have come to is that of its caller: done, failed and nothing written, or nobody knows. Of the last it is tried
//! whether it was done: each of them is, and is not, until one choice explains all that was told, and what the database holds
//! in the end. The power may fail several times, and what is left of the program goes on in the next life.

use std::cell::Cell;

use parking_lot::Mutex;

use super::engines::Bare;
use super::grammar::Grammar;
use super::oracle;
use super::program::{Call, Environment, Program, Way};
use super::subject::{Asked, Opened, UNKNOWN, held_in_world, together};
use super::table::{self, ANOTHER, Told, damage, digest, gist};
use super::{FAILED, wrongly_refused};
use crate::error::Error;
use crate::harness::sim::World;

/// Lives of a database, at most.
const LIVES: usize = 4;
/// Choices of what was done, at most.
const TRIES: usize = 300;

/// What is known of a call.
#[derive(Clone, Debug)]
enum Known {
    /// It was not made, or failed beside a disk that did: nothing of it is written.
    Nothing,
    /// Nobody knows.
    Unsure,
    /// What its caller was told.
    Told(Told),
    /// Whatever fails, this must not be: why.
    Wrong(String),
    /// Nor can it be tried: it went on after a statement that the disk has failed, or may have been lost later.
    Open,
}

/// What a program in such a world shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The library and the engine come to the same, in so many lives.
    Same {
        /// How often the database was opened.
        lives: usize,
        /// How often the disk failed, or the power did.
        failures: u64,
    },
    /// Too much is not known of what was told.
    TooLittle,
}

/// Runs the program of a seed in a world that has any of the faults, and through its power failures.
///
/// # Errors
/// How the library and the engine differ, and the program.
///
/// # Cancel safety
/// Dropped half-way, so is the world's work.
pub async fn judge_through_failures(world: &World, seed: u64) -> Result<Shown, String> {
    let mut program = Grammar::new(seed).program();
    let Environment { no_statement_cache, narrow, .. } = program.environment;
    program.environment = Environment { no_statement_cache, narrow, ..Environment::default() };
    let wrong = |what: String| format!("program {seed}: {what}\n{program}");
    let (known, lives) = live(world, &program).await.map_err(wrong)?;
    let held = world.calmly(holds(world, program.environment)).await.map_err(wrong)?;
    if let Some(damage) = damage(&program, &held) {
        return Err(wrong(damage));
    }
    match explained(&program, &known, &held).await {
        Explained::Yes => Ok(Shown::Same { lives, failures: world.failures() }),
        Explained::NotJudged => Ok(Shown::TooLittle),
        Explained::No(what) => Err(wrong(what)),
    }
}

/// Runs a program through the failures of its world: what is known of each call, and in how many lives.
async fn live(world: &World, program: &Program) -> Result<(Vec<Known>, usize), String> {
    world.calmly(make(world, program.environment)).await.map_err(|error| format!("it cannot be made: {error}"))?;
    let known = Mutex::new(vec![Known::Nothing; program.calls().count()]);
    let (group, mut lives) = (Cell::new(0), 0);
    // Where each group begins among the calls.
    let starts: Vec<usize> =
        program.groups.iter().scan(0, |calls, group| Some(std::mem::replace(calls, *calls + group.len()))).collect();
    while lives < LIVES && group.get() < program.groups.len() {
        lives += 1;
        let life = async {
            let began = world.failures();
            let opened = world.calmly(Opened::in_world(world, program.environment)).await;
            let opened = opened.map_err(|error| format!("it cannot be opened in life {lives}: {error}"))?;
            while let Some(calls) = program.groups.get(group.get()) {
                let (first, known, opened) = (starts[group.get()], &known, &opened);
                // What the power ends is not made again.
                group.set(group.get() + 1);
                let asked = calls.iter().enumerate().map(|(place, call)| {
                    let asked = async move {
                        known.lock()[first + place] = Known::Unsure;
                        let known_of_it = made(world, opened, call, began).await;
                        known.lock()[first + place] = known_of_it;
                    };
                    Box::pin(asked) as Asked<'_, ()>
                });
                together(asked.collect()).await;
            }
            opened.close().await;
            Ok::<_, String>(())
        };
        // The power may fail in it.
        world.until_crash(life).await.unwrap_or(Ok(()))?;
    }
    Ok((known.into_inner(), lives))
}

/// Makes the database, with nothing in it: a power failure meanwhile may leave a file that is none (FINDINGS.md).
async fn make(world: &World, environment: Environment) -> Result<(), Error> {
    let opened = Opened::in_world(world, environment).await?;
    for sql in ["CREATE TABLE made (a)", "DROP TABLE made"] {
        opened.db.execute(sql, ()).await?;
    }
    opened.close().await;
    Ok(())
}

/// Makes a call, whose caller may leave: what is known of it. In this life the disk had failed so often when it began.
async fn made(world: &World, opened: &Opened, call: &Call, began: u64) -> Known {
    let before = world.failures();
    let Some(told) = world.cancellable(opened.call(call)).await else { return Known::Unsure };
    let now = world.power_failed();
    let (failed, failed_beside) = (now || world.failures() != began, now || world.failures() != before);
    if let Some(refused) = wrongly_refused(call, &told) {
        return Known::Wrong(format!("{call}: {refused}, which is refused by no rule"));
    }
    match told {
        Told::Failed(why) if why.starts_with(UNKNOWN) && !failed => {
            Known::Wrong(format!("{call}: an outcome is unknown though no disk failed: {why}"))
        }
        Told::Failed(why) if why.starts_with(UNKNOWN) => Known::Unsure,
        Told::Refused(why) => Known::Told(Told::Refused(why)),
        Told::Failed(_) if is_by_guard(call) && failed_beside => Known::Unsure,
        // A sync of the log that fails meanwhile, of anybody's, may have lost what a guard wrote without a word (FINDINGS.md).
        Told::Done(_) if failed_beside && is_by_guard(call) => Known::Open,
        // The lane writes nothing of what it says has failed; of a guard's `OR FAIL` the first rows are there. A disk that failed before
        // may be why it does not serve; it is not why a value is not unique.
        Told::Failed(_) if failed_beside && !is_by_guard(call) => Known::Nothing,
        Told::Failed(why) if failed && !is_by_guard(call) && gist(&why) == ANOTHER => Known::Nothing,
        Told::Done(of_each) if failed_beside && of_each.iter().any(|text| text == FAILED) => Known::Open,
        told => Known::Told(told),
    }
}

/// Whether it is none of the lane's.
fn is_by_guard(call: &Call) -> bool {
    matches!(call.way, Way::Guard | Way::Glance | Way::GuardTransaction)
}

/// What the database holds, once everybody can read it.
async fn holds(world: &World, environment: Environment) -> Result<String, String> {
    let opened = Opened::in_world(world, environment).await;
    let opened = opened.map_err(|error| format!("it cannot be opened in the end: {error}"))?;
    let read = opened.readers_agree().await;
    opened.close().await;
    read?;
    held_in_world(world).await
}

enum Explained {
    Yes,
    No(String),
    NotJudged,
}

/// Whether the engine alone comes to what was told, and to what is there, for some choice of what was done, and when.
async fn explained(program: &Program, known: &[Known], held: &str) -> Explained {
    if let Some(wrong) = known.iter().find_map(|known| if let Known::Wrong(why) = known { Some(why) } else { None }) {
        return Explained::No(wrong.clone());
    }
    let calls: Vec<(&Call, &Known)> = program.calls().zip(known).collect();
    let has_no_effect = |call: &Call| call.way.reads() || matches!(call.way, Way::FailingClosure | Way::GuardRollback);
    let is_unsure = |(call, known): (&Call, &Known)| matches!(known, Known::Unsure) && !has_no_effect(call);
    let unsure: Vec<usize> = (0..calls.len()).filter(|place| is_unsure(calls[*place])).collect();
    // Not at all, or later: what the lane has begun it does unobserved, before it does the next of which it tells; a guard's may be done at any
    // time from then on, for what it has written to the log, and nobody sees, is read when the database is opened anew (FINDINGS.md).
    let ways: Vec<Vec<Option<usize>>> = unsure
        .iter()
        .map(|place| {
            let is_told = |later: &usize| {
                let (call, known) = calls[*later];
                !call.way.reads() && !is_by_guard(call) && matches!(known, Known::Told(Told::Done(_)))
            };
            let next = (place + 1..calls.len()).find(|later| !is_by_guard(calls[*place].0) && is_told(later));
            let last = next.unwrap_or(calls.len());
            std::iter::once(None).chain((*place..=last).map(Some)).collect()
        })
        .collect();
    let tries =
        ways.iter().try_fold(1_usize, |tries, ways| tries.checked_mul(ways.len()).filter(|tries| *tries <= TRIES));
    // Of what the library may have refused in one of them nothing is known.
    let may_be_refused = |place: &usize| {
        let call = calls[*place].0;
        call.statements.iter().any(|statement| statement.may_be_refused(call.way))
    };
    let is_open = known.iter().any(|known| matches!(known, Known::Open)) || unsure.iter().any(may_be_refused);
    let Some(tries) = tries.filter(|_| !is_open) else { return Explained::NotJudged };
    let mut each = Vec::new();
    for mut choice in 0..tries {
        let chosen = ways.iter().map(|ways| {
            let chosen = ways[choice % ways.len()];
            choice /= ways.len();
            chosen
        });
        let when: Vec<(usize, usize)> =
            unsure.iter().copied().zip(chosen).filter_map(|(place, when)| Some((place, when?))).collect();
        // Nothing waits for a disk here: all of the choices would be one poll, which the world takes for one that does not end.
        tokio::task::yield_now().await;
        match differs(&calls, program.fails_half_way(), &when, held).await {
            None => return Explained::Yes,
            Some(what) if unsure.is_empty() => each.push(what),
            Some(what) => each.push(format!(
                "if of calls {unsure:?}, of which nobody knows, those of {when:?} were done, each before another: {what}"
            )),
        }
    }
    // The most that is explained is told: the others differ earlier.
    Explained::No(each.into_iter().max_by_key(|what| what.contains("the database holds")).unwrap_or_default())
}

/// How the engine alone differs, if of the calls of which nobody knows these were done, each before which call.
async fn differs(
    calls: &[(&Call, &Known)],
    fails_half_way: bool,
    when: &[(usize, usize)],
    held: &str,
) -> Option<String> {
    let mut bare = Bare::open(false).await;
    for before in 0..=calls.len() {
        for (place, _) in when.iter().filter(|(_, when)| *when == before) {
            let _ = oracle::next(&mut bare, calls[*place].0, &Told::Done(Vec::new()), fails_half_way).await;
        }
        if let Some((call, Known::Told(told))) = calls.get(before) {
            let truth = oracle::next(&mut bare, call, told, fails_half_way).await;
            if !told.agrees_with(&truth) {
                return Some(format!("{call}: told {told}, and the engine alone {truth}"));
            }
        }
    }
    table::differs(held, &digest(&bare.connection, false).await)
}

#[cfg(test)]
mod tests {
    use super::super::block_on;
    use super::super::program::Statement;
    use super::*;

    fn call(way: Way, sql: &str) -> Call {
        Call { way, statements: vec![Statement { sql: sql.to_owned(), params: Vec::new(), gives_rows: way.reads() }] }
    }

    fn told(text: &str) -> Known {
        Known::Told(Told::Done(vec![text.to_owned()]))
    }

    /// What is known of three calls, and whether the last row of them is there.
    fn explains(known: [Known; 3], is_there: bool) -> bool {
        block_on(false, async {
            let program = Program {
                environment: Environment::default(),
                groups: ["CREATE TABLE t (a)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"]
                    .map(|sql| vec![call(Way::Execute, sql)])
                    .to_vec(),
            };
            let database = Bare::open(false).await;
            for call in program.calls().take(if is_there { 3 } else { 2 }) {
                database.connection.execute(call.statements[0].sql.as_str(), ()).await.unwrap();
            }
            let held = digest(&database.connection, false).await;
            matches!(explained(&program, &known, &held).await, Explained::Yes)
        })
    }

    #[test]
    fn what_is_not_known_may_have_been_done_and_what_is_told_must_have_been() {
        for is_there in [false, true] {
            assert!(explains([told("0"), told("1"), Known::Unsure], is_there));
            assert!(explains([told("0"), Known::Unsure, Known::Unsure], is_there));
            assert_eq!(explains([told("0"), told("1"), told("1")], is_there), is_there, "it was acknowledged");
            assert_eq!(explains([told("0"), told("1"), Known::Nothing], is_there), !is_there, "it was refused");
        }
        assert!(!explains([told("0"), told("7"), told("1")], true), "it was told another count");
        assert!(!explains([told("0"), Known::Unsure, told("1")], false), "the other is not there");
        assert!(!explains([told("0"), told("1"), Known::Open], true), "it is not judged");
    }
}
