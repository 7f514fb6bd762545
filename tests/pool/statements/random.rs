//! The same statements at random on two databases: one whose pool keeps statements, and one whose pool does not. Every
//! result and every error must be equal.
//!
//! Each database has two connections. A run is a pure function of its seed. An error may come sooner without a cache, when
//! the statement is prepared, than with one, when its first row is fetched; so what is compared is how the whole went.

use std::fmt::Write;

use poolproof::{Connection, ConnectionPool, Hooks, PooledConnection, Value};
use tempfile::TempDir;

/// Numerical Recipes' linear congruential generator: the same sequence every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const SCHEMA: &str = "CREATE TABLE t (x INTEGER UNIQUE, y TEXT); CREATE TABLE u (x INTEGER, y TEXT NOT NULL)";

const QUERIES: [&str; 8] = [
    "SELECT x, y FROM t WHERE x >= ?1 ORDER BY x",
    "SELECT COUNT(*), SUM(x) FROM t",
    "SELECT y FROM u WHERE x = ?1 OR y = ?2",
    "SELECT t.x, u.y FROM t JOIN u ON t.x = u.x ORDER BY t.x, u.y",
    "SELECT ABS(x) FROM u WHERE x > ?1",
    "SELECT ?1, ?2",
    "WITH v AS (SELECT x FROM t) SELECT MAX(x), ?1 FROM v",
    "SELECT z FROM t",
];

const WRITES: [&str; 9] = [
    "INSERT INTO t VALUES (?1, ?2)",
    "INSERT INTO t VALUES (?1, ?2), (?1 + 1, ?2) RETURNING x, y",
    "INSERT OR REPLACE INTO t VALUES (?1, ?2)",
    "INSERT OR ROLLBACK INTO t VALUES (?1, ?2)",
    "INSERT INTO u VALUES (?1, ?2)",
    "UPDATE t SET x = x + 1 WHERE x > ?1",
    "UPDATE u SET y = ?2 WHERE x = ?1 RETURNING y",
    "DELETE FROM t WHERE x = ?1",
    "DELETE FROM u WHERE x >= ?1",
];

const BOUNDARIES: [&str; 9] = [
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "ROLLBACK TO s",
    "PRAGMA schema_version",
];

const CHANGES: [&str; 9] = [
    "CREATE INDEX i ON t (y)",
    "DROP INDEX i",
    "ALTER TABLE u ADD COLUMN z INTEGER",
    "ALTER TABLE u DROP COLUMN z",
    "ALTER TABLE t RENAME COLUMN y TO z",
    "ALTER TABLE t RENAME COLUMN z TO y",
    "DROP TABLE u; CREATE TABLE u (y TEXT NOT NULL, x INTEGER)",
    "DROP TABLE u; CREATE TABLE u (x INTEGER, y TEXT NOT NULL)",
    "CREATE TEMP TABLE u (x INTEGER, y TEXT NOT NULL)",
];

/// One step of a run.
#[derive(Debug)]
enum Step {
    /// A query, of which so many rows are fetched.
    Query(&'static str, Vec<Value>, usize),
    Execute(&'static str, Vec<Value>),
    Batch(&'static str),
}

/// What hinders the comparison as long as `tests/pool/statements.rs` has tests for it that are ignored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    LeftOut,
    Included,
}

fn next(random: &mut Random, known: Known, at_rest: bool) -> Step {
    let taken = random.one_of(&[0, 1, 2, 1_000, 1_000, 1_000]);
    let (query, write) = (random.one_of(&QUERIES), random.one_of(&WRITES));
    match random.below(20) {
        0..=5 => Step::Query(query, params(random, query), taken),
        6..=8 => Step::Query(write, params(random, write), taken),
        9..=12 => Step::Execute(write, params(random, write)),
        13 => Step::Execute(query, params(random, query)),
        14 | 15 if known == Known::Included => {
            Step::Query(random.one_of(&["SELECT * FROM t", "SELECT * FROM u"]), vec![], taken)
        }
        16 if known == Known::Included || at_rest => Step::Batch(random.one_of(&CHANGES)),
        _ => Step::Execute(random.one_of(&BOUNDARIES), vec![]),
    }
}

/// Values for a statement's parameters, or for fewer of them.
fn params(random: &mut Random, sql: &str) -> Vec<Value> {
    let value = match random.below(8) {
        0 => Value::Null,
        1 => Value::Integer(i64::MIN),
        number => Value::Integer(number as i64),
    };
    let text = Value::Text(random.one_of(&["a", "b", "it's"]).to_owned());
    let mut params = vec![value, text];
    params.retain(|_| random.below(10) > 0);
    params.truncate(usize::from(sql.contains("?1")) + usize::from(sql.contains("?2")));
    params
}

/// How a step went, in words.
async fn outcome(connection: &mut Connection, step: &Step) -> String {
    let mut outcome = match step {
        Step::Query(sql, params, taken) => query(connection, sql, params, *taken).await,
        Step::Execute(sql, params) => format!("{:?}", connection.execute(sql, params.clone()).await),
        Step::Batch(sql) => format!("{:?}", connection.execute_batch(sql).await),
    };
    let (autocommit, rowid) = (connection.is_autocommit(), connection.last_insert_rowid());
    write!(outcome, ", autocommit {autocommit}, rowid {rowid}").unwrap();
    outcome
}

async fn query(connection: &mut Connection, sql: &str, params: &[Value], taken: usize) -> String {
    let mut rows = match connection.query(sql, params.to_vec()).await {
        Ok(rows) => rows,
        Err(_) if taken == 0 => return String::new(),
        Err(error) => return format!("{error:?}"),
    };
    let mut found = String::new();
    for _ in 0..taken {
        match rows.next().await {
            Ok(Some(row)) => write!(found, "{row:?} ").unwrap(),
            Ok(None) => return found + "the end",
            Err(error) => return format!("{found}{error:?}"),
        }
    }
    found
}

/// A pool that keeps so many statements, and two of its connections.
async fn database(cache: usize) -> (TempDir, [PooledConnection; 2]) {
    let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA synchronous = OFF").await?) })
    });
    let folder = tempfile::tempdir().unwrap();
    let builder = ConnectionPool::builder(folder.path().join("t.db"));
    let pool = builder.statement_cache(cache).hooks(hooks).build().await.unwrap();
    let connections = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    (folder, connections)
}

/// Runs one seed. Returns how many steps went well, how many failed, how many changed the schema, and how many statements
/// were kept, all steps together.
async fn compare(seed: u64, cache: usize, known: Known) -> [usize; 4] {
    let ((_with, mut with), (_without, mut without)) = (database(cache).await, database(0).await);
    for first in [&mut with[0], &mut without[0]] {
        first.execute_batch(SCHEMA).await.unwrap();
    }
    let mut random = Random(seed);
    let mut counts = [0; 4];
    for number in 0..400 {
        let who = random.below(2);
        let at_rest = without.iter().all(|connection| connection.is_autocommit());
        let step = next(&mut random, known, at_rest);
        let expected = outcome(&mut without[who], &step).await;
        let found = outcome(&mut with[who], &step).await;
        // Of two reasons to refuse, the lock comes before the text only if the text is known already.
        if found.contains("Busy(") && expected.contains("Parse error") {
            continue;
        }
        assert_eq!(found, expected, "seed {seed}, cache {cache}, step {number}: connection {who}, {step:?}");
        // Refused by the engine, or by the pool: of all that is misuse, a wrong number of parameters.
        let failed = expected.contains("Engine(") || expected.contains("Misuse(");
        counts[usize::from(failed)] += 1;
        counts[2] += usize::from(!failed && matches!(step, Step::Batch(_)));
        let kept = with[who].cached_statements();
        assert!(kept <= cache, "seed {seed}, cache {cache}, step {number}: {kept} are kept");
        counts[3] += kept;
    }
    counts
}

/// All seeds together must have come to enough of everything.
async fn compare_all(known: Known) {
    let mut all = [0; 4];
    for seed in 1..=20 {
        let counts = compare(seed, [64, 3, 1][seed as usize % 3], known).await;
        all = std::array::from_fn(|kind| all[kind] + counts[kind]);
    }
    assert!(all.iter().zip([4_000, 2_000, 50, 4_000]).all(|(found, least)| *found > least), "{all:?}");
}

#[tokio::test]
async fn a_pool_that_keeps_statements_answers_as_one_that_does_not() {
    compare_all(Known::LeftOut).await;
}

#[tokio::test]
async fn a_pool_that_keeps_statements_answers_as_one_that_does_not_whatever_happens_to_the_schema() {
    compare_all(Known::Included).await;
}
