//! Generated programs of SQL, judged by the engine itself.
//!
//! A seed decides a program: calls of the library, each with statements of a weighted grammar (`grammar`), some of them at the same
//! time, so that they share a commit. The library runs it (`subject`), and so does one plain connection of the engine, call after
//! call, each by itself (`oracle`, over `engines`): every call has to come to the same, and both databases have to be the same at the
//! end. What the library promises beyond the engine (nothing is left of a statement that fails) is all that the oracle adds. In the
//! end a guard, a snapshot and the cache have to read the same, and SQLite has to find no damage in the file. A program that fails is
//! made smaller statement by statement (`minimise`), and printed as SQL that runs. What the grammar chooses is a seed's, or that of bytes
//! (`choices`), which the fuzzer changes.
//!
//! SQLite is asked the same, too (`differences`): where the engine differs from it is no fault of the library's, and worth knowing.
//!
//! The order of those that are called at the same time is known: the lane takes writes in the order of their first poll, whatever
//! becomes of their batch.

mod choices;
mod differences;
mod engines;
mod failures;
mod features;
mod grammar;
mod minimise;
mod naive;
mod oracle;
mod program;
mod run;
mod subject;
mod table;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use self::choices::Choices;
pub use self::differences::{Group, difference, differences};
use self::engines::Bare;
pub use self::failures::{Shown, judge_through_failures};
pub use self::features::{Features, Uses};
use self::grammar::Grammar;
use self::minimise::minimise;
pub use self::program::{Call, Environment, Program, Statement, Way};
pub use self::run::{Statements, StatementsReport};
use self::table::{Told, damage, differs, digest};
use crate::harness::drive::Control;
use crate::harness::sim::World;
use crate::stack::with_room;

/// In a transaction that goes on: a statement that failed, and one that the library refused.
const FAILED: &str = "failed";
const REFUSED: &str = "refused";
/// Why the library refuses what comes behind the end of a transaction.
const IS_OVER: &str = "the transaction is over";

/// What is wrong with a program: how the library and the engine differ in it.
#[derive(Debug)]
pub struct Difference {
    /// The seed that it is of, if it is of one.
    pub seed: Option<u64>,
    /// The smallest that was found.
    pub program: Program,
    /// In words.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seed) = self.seed {
            write!(f, "seed {seed}: ")?;
        }
        writeln!(f, "{}", self.what)?;
        write!(f, "{}", self.program)
    }
}

impl Program {
    /// The program that the grammar makes if it chooses by these bytes, one for each choice. All bytes make one; a change of a byte changes
    /// it in one place.
    #[must_use]
    pub fn from_choices(bytes: &[u8]) -> Self {
        Grammar::of(Choices::of_bytes(bytes)).program()
    }

    /// The bytes that make the program of a seed.
    #[must_use]
    pub fn choices(seed: u64) -> Vec<u8> {
        Grammar::new(seed).program_and_choices().1
    }
}

/// Runs a program, and makes it smaller if the library and the engine differ in it.
///
/// # Panics
/// Inside a runtime.
#[must_use]
pub fn judge(program: &Program) -> Option<Difference> {
    let what = compare(Subject::Library, program).difference?;
    let (program, what) = smallest(Subject::Library, program.clone(), what);
    Some(Difference { seed: None, program, what })
}

/// Who runs programs beside the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The library.
    Library,
    /// Control: a writer whose batches undo nothing of one that fails.
    Naive,
}

impl Subject {
    /// The name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Subject::Library => "pool",
            Subject::Naive => "naive",
        }
    }
}

/// What many programs came to.
#[derive(Debug, Default)]
pub struct Searched {
    /// Programs.
    pub programs: u64,
    /// Statements in them.
    pub statements: u64,
    /// Calls in them.
    pub calls: u64,
    /// Calls that the library refused without asking the engine, as its documentation says.
    pub refused: u64,
    /// Statements that failed.
    pub failed: u64,
    /// What they asked for, and what became of it.
    pub features: Features,
    /// Those that differ.
    pub differ: Vec<Difference>,
}

/// Runs the program of each seed, and makes the first that differs smaller.
///
/// # Panics
/// Inside a runtime.
pub fn search(seeds: Range<u64>) -> Searched {
    search_of(Subject::Library, seeds, &Control::default())
}

/// The same, of a subject that may be broken; until it is stopped.
fn search_of(subject: Subject, seeds: Range<u64>, control: &Control) -> Searched {
    let mut searched = Searched::default();
    for seed in seeds {
        if control.is_stopped() {
            break;
        }
        let program = Grammar::new(seed).program();
        searched.programs += 1;
        searched.statements += program.statements() as u64;
        searched.calls += program.calls().count() as u64;
        let compared = compare(subject, &program);
        searched.refused += compared.refused;
        searched.failed += compared.failed;
        searched.features.count(&program, &compared.told);
        control.count_one();
        if let Some(what) = compared.difference {
            let (program, what) = smallest(subject, program, what);
            searched.differ.push(Difference { seed: Some(seed), program, what });
            break;
        }
    }
    searched
}

/// The smallest program that differs in the same way.
fn smallest(subject: Subject, program: Program, what: String) -> (Program, String) {
    // Of a difference, what stays the same when the program is smaller: which way it is of.
    let way = |what: &str| what.split([' ', ':']).next().unwrap_or_default().to_owned();
    let wanted = way(&what);
    minimise(program, what, |candidate| compare(subject, candidate).difference.filter(|what| way(what) == wanted))
}

/// What the library refused though none of its rules says so. That a transaction is over the oracle sees.
fn wrongly_refused(call: &Call, told: &Told) -> Option<String> {
    let statements = &call.statements;
    match told {
        Told::Refused(why) => {
            let may_be = statements.iter().any(|statement| statement.may_be_refused(call.way));
            let is_over = !call.way.takes_one() && why.contains(IS_OVER);
            (!may_be && !is_over).then(|| why.clone())
        }
        Told::Done(of_each) => {
            let mut pairs = statements.iter().zip(of_each);
            let is_wrong = |text: &str| text.starts_with(REFUSED) && !text.contains(IS_OVER);
            let wrong = pairs.find(|(statement, text)| is_wrong(text) && !statement.may_be_refused(call.way));
            wrong.map(|(statement, text)| format!("{statement} is {text}"))
        }
        Told::Failed(_) => None,
    }
}

/// A disk of the engine's, in memory.
type Io = Arc<dyn turso::core::IO>;

fn memory() -> Io {
    Arc::new(turso::core::MemoryIO::new())
}

/// What a database is called there: each by a name of its own, for the engine takes two of one name for one, whatever disk they are
/// on.
fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("statements-{}.db", NEXT.fetch_add(1, Relaxed))
}

/// What one program came to.
#[derive(Default)]
struct Compared {
    refused: u64,
    failed: u64,
    told: Vec<Told>,
    difference: Option<String>,
}

/// Awaits `work` in a runtime of its own, with the stack that the library gives the engine.
fn block_on<T>(threads: bool, work: impl Future<Output = T>) -> T {
    let runtime = match threads {
        true => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build(),
        false => tokio::runtime::Builder::new_current_thread().enable_time().build(),
    };
    let runtime = runtime.expect("a runtime without sockets needs nothing");
    with_room(true, || runtime.block_on(work))
}

/// Runs a program on the library and on the engine.
fn compare(subject: Subject, program: &Program) -> Compared {
    block_on(program.environment.threads, async {
        let told = match subject {
            Subject::Library => subject::run(program).await,
            Subject::Naive => Ok(naive::run(program).await),
        };
        compared(program, told).await
    })
}

/// Runs the program of a seed in a simulated world: whoever shares a commit, or waits for a lock, is decided by the world's seed, and
/// whatever that is, each call comes to the same. The engine alone runs it on a disk in memory of its own.
///
/// # Errors
/// How they differ, and the program.
///
/// # Cancel safety
/// Dropped half-way, so is the world's work.
pub async fn judge_in(world: &World, seed: u64) -> Result<(), String> {
    let mut program = Grammar::new(seed).program();
    let Environment { no_statement_cache, mvcc, hooks, narrow, .. } = program.environment;
    program.environment = Environment { no_statement_cache, mvcc, hooks, narrow, ..Environment::default() };
    let told = subject::run_in(world, &program).await;
    match compared(&program, told).await.difference {
        Some(what) => Err(format!("program {seed}: {what}\n{program}")),
        None => Ok(()),
    }
}

/// What a program came to, as the engine alone has it.
async fn compared(program: &Program, told: Result<(Vec<Told>, String), String>) -> Compared {
    let (told, held) = match told {
        Ok(told) => told,
        Err(error) => return Compared { difference: Some(error), ..Compared::default() },
    };
    let mut bare = Bare::open(program.environment.mvcc).await;
    let truth = oracle::run(&mut bare, program, &told).await;
    let holds = digest(&bare.connection, program.environment.mvcc).await;
    let difference = program.calls().zip(told.iter().zip(&truth)).find_map(|(call, (told, truth))| {
        if let Some(refused) = wrongly_refused(call, told) {
            return Some(format!("{call}: {refused}, which is refused by no rule"));
        }
        let differs = !told.agrees_with(truth);
        differs.then(|| format!("{call}: told {told}, and the engine alone {truth}"))
    });
    Compared {
        refused: told.iter().filter(|told| matches!(told, Told::Refused(_))).count() as u64,
        failed: told.iter().filter(|told| matches!(told, Told::Failed(_))).count() as u64,
        difference: difference.or_else(|| differs(&held, &holds)).or_else(|| damage(program, &held)),
        told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(way: Way, sql: &str) -> Call {
        let statement = Statement { sql: sql.to_owned(), params: Vec::new(), gives_rows: way.reads() };
        Call { way, statements: vec![statement] }
    }

    #[test]
    fn the_choices_of_a_seed_make_its_program() {
        for seed in 0..1000 {
            assert_eq!(Program::from_choices(&Program::choices(seed)), Grammar::new(seed).program(), "{seed}");
        }
    }

    /// Many bytes decide something whatever they are (one of forty is a missing column), and most of what they decide is in one call.
    #[test]
    fn another_byte_makes_another_program_which_differs_in_one_place() {
        let (mut bytes_changed, mut differ, mut in_one_call) = (0, 0, 0);
        for seed in 0..50 {
            let bytes = Program::choices(seed);
            let program = Program::from_choices(&bytes);
            for place in (0..bytes.len()).filter(|place| bytes[*place] < 0xfe) {
                let mut other = bytes.clone();
                other[place] ^= 1;
                let other = Program::from_choices(&other);
                bytes_changed += 1;
                differ += usize::from(other != program);
                let both = program.calls().zip(other.calls());
                in_one_call += usize::from(both.filter(|(one, other)| one != other).count() == 1);
            }
        }
        assert!(differ * 3 > bytes_changed, "{differ} of {bytes_changed}");
        assert!(in_one_call * 2 > differ, "{in_one_call} of {differ}");
    }

    /// Whatever the bytes are, there is a program; none is the plainest of them.
    #[test]
    fn any_bytes_make_a_program() {
        assert_eq!(Program::from_choices(&[]), Program::from_choices(&[0; 100]));
        assert_eq!(Program::from_choices(&[]).environment, Environment::default());
        for byte in [0xfd, 0xfe, 0xff] {
            assert!(Program::from_choices(&[byte; 1000]).statements() > 0);
        }
        assert!(judge(&Program::from_choices(&[])).is_none());
    }

    /// What is random is another thing each time: the oracle has to see it, and nothing else is left of the program.
    #[test]
    fn what_differs_is_found_and_made_as_small_as_it_can_be() {
        for (way, random, differs) in [
            (Way::Execute, "CREATE TABLE r AS SELECT random() AS a", "the database holds"),
            (Way::Guard, "CREATE TABLE r AS SELECT random() AS a", "the database holds"),
            (Way::Read, "SELECT random()", "told"),
        ] {
            let groups = vec![
                vec![call(Way::Execute, "CREATE TABLE t (a INTEGER PRIMARY KEY)")],
                vec![call(Way::Execute, "INSERT INTO t VALUES (1)"), call(Way::Execute, "INSERT INTO t VALUES (1)")],
                vec![call(way, random)],
                vec![call(Way::Read, "SELECT a FROM t")],
            ];
            let mut program = Program { environment: Environment::default(), groups };
            let what = compare(Subject::Library, &program).difference.expect("it is another number each time");
            assert!(what.contains(differs), "{what}");
            let (smallest, _) = smallest(Subject::Library, program.clone(), what);
            assert_eq!((smallest.statements(), smallest.to_string().contains(random)), (1, true), "{smallest}");
            program.groups.remove(2);
            assert_eq!(compare(Subject::Library, &program).difference, None, "without it");
        }
    }
}
