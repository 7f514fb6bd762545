//! A statement that would overflow the stack of the thread that prepares it, which ends the process, is refused before.

use std::iter;
use std::process::Command;

use poolproof::{Behavior, ConnectionPool, Error, PooledDatabaseWriter, Result};

/// A statement of a shape, the deeper the larger `n` is.
fn statement(shape: &str, n: usize) -> String {
    let each =
        |begin: &str, each: &str, between: &str, end: &str| format!("{begin}{}{end}", vec![each; n].join(between));
    match shape {
        "union" => each("", "SELECT 1", " UNION ALL ", ""),
        "insert-union" => each("INSERT INTO t ", "SELECT 1", " UNION ALL ", ""),
        "except" => each("", "SELECT 1", " EXCEPT ", ""),
        "values" => each("VALUES ", "(1)", ", ", ""),
        "insert-values" => each("INSERT INTO t VALUES ", "(1)", ", ", ""),
        "from-values" => each("SELECT * FROM (VALUES ", "(1)", ", ", ")"),
        "from" => format!("{}SELECT 1{}", "SELECT * FROM (".repeat(n), ")".repeat(n)),
        "parens" => format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)),
        "from-parens" => format!("SELECT * FROM {}t{}", "(".repeat(n), ")".repeat(n)),
        // To the lexer alone each closes what is open, or ends the statement.
        "brackets" => format!("{}SELECT 1{}", "SELECT 1 AS [)], 2 AS [;] FROM (".repeat(n), ")".repeat(n)),
        "with-nested" => format!("{}SELECT 1{}", "WITH a AS (".repeat(n), ") SELECT * FROM a".repeat(n)),
        "scalar" => format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n)),
        "exists" => format!("SELECT {}1{}", "EXISTS (SELECT ".repeat(n), ")".repeat(n)),
        "in" => format!("SELECT {}1{}", "1 IN (SELECT ".repeat(n), ")".repeat(n)),
        "and" => each("SELECT ", "1", " AND ", ""),
        "concat" => each("SELECT ", "'a'", " || ", ""),
        "not" => format!("SELECT {}1", "NOT ".repeat(n)),
        "minus" => format!("SELECT {}1", "- ".repeat(n)),
        "case" => format!("SELECT {}1{}", "CASE WHEN 1 THEN ".repeat(n), " END".repeat(n)),
        "in-list" => each("SELECT 1 IN (", "1", ", ", ")"),
        "columns" => each("SELECT ", "1", ", ", ""),
        "joins" => each("SELECT 1 FROM ", "t", ", ", ""),
        "ctes" => {
            let chain: Vec<_> = (1..n).map(|i| format!(", c{i} AS (SELECT * FROM c{})", i - 1)).collect();
            format!("WITH c0 AS (SELECT 1){} SELECT * FROM c{}", chain.concat(), n - 1)
        }
        "ctes-apart" => {
            let many: Vec<_> = (0..n).map(|i| format!("c{i} AS (SELECT 1)")).collect();
            format!("WITH {} SELECT 1", many.join(", "))
        }
        "json-path" => format!("SELECT length(json_set('{{}}', '${}', 1))", ".a".repeat(n)),
        "json-path-quoted" => format!("SELECT length(\"json_insert\"('{{}}', '${}', 1))", ".\"a\"".repeat(n)),
        "upserts" => format!("INSERT INTO k VALUES (1){}", " ON CONFLICT (x) DO NOTHING".repeat(n)),
        "check" => format!("CREATE TABLE u (x CHECK ({}1))", "x + ".repeat(n)),
        "index" => format!("CREATE INDEX i ON t ({}1)", "x + ".repeat(n)),
        _ => panic!("no such shape"),
    }
}

/// At the limit of each shape, beyond it, and far beyond.
const SHAPES: &[(&str, usize)] = &[
    ("union", 200),
    ("insert-union", 200),
    ("except", 200),
    ("from", 24),
    ("brackets", 24),
    ("with-nested", 24),
    ("scalar", 24),
    ("exists", 24),
    ("in", 24),
    ("ctes", 100),
    ("ctes-apart", 100),
    ("upserts", 100),
    // The engine's own limits.
    ("from-parens", 0),
    ("parens", 49),
    ("and", 49),
    ("concat", 49),
    ("not", 49),
    ("minus", 49),
    ("case", 49),
    ("joins", 49),
    ("check", 49),
    ("index", 49),
    ("json-path", 900),
    ("json-path-quoted", 900),
    // No limit.
    ("values", 3000),
    ("insert-values", 3000),
    ("from-values", 3000),
    ("in-list", 3000),
    ("columns", 1500),
];

/// Who runs a statement, and so on whose stack.
const WAYS: [&str; 6] = ["guard", "worker", "batch", "lane", "write", "read"];

fn runtime(way: &str) -> tokio::runtime::Runtime {
    let mut builder = match way {
        "guard" | "batch" => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().unwrap()
}

async fn run(way: &'static str, sql: String, db: &PooledDatabaseWriter) -> Result<()> {
    match way {
        "guard" => db.pool().get().await?.run(&sql).await,
        "worker" => {
            let pool = db.pool().clone();
            tokio::spawn(async move { pool.get().await?.run(&sql).await }).await.unwrap()
        }
        "batch" => db.pool().get().await?.execute_batch(&sql).await,
        "lane" => match db.execute(sql.as_str(), ()).await {
            // It gives rows: it got as far as that.
            Err(error) if matches!(error.cause(), Error::Misuse(why) if why.contains("gives rows")) => Ok(()),
            outcome => outcome.map(drop),
        },
        "write" => db.write(async move |tx| tx.query(&sql, ()).await?.next().await.map(drop)).await.map(drop),
        "read" => {
            db.read(async move |snapshot| match snapshot.query(&sql, ()).await {
                // It writes.
                Err(Error::Misuse(_)) => Ok(()),
                Err(error) => Err(error),
                Ok(mut rows) => rows.next().await.map(drop),
            })
            .await
        }
        "prepared" => match db.prepare::<()>(sql.as_str()).await {
            Ok(prepared) => prepared.execute(()).await.map(drop),
            Err(error) => Err(error),
        },
        "cached" => db.query_cached(&sql, ()).await.map(drop),
        "transaction" => {
            let mut guard = db.pool().get().await?;
            let mut tx = guard.begin(Behavior::Deferred).await?;
            tx.query(&sql, ()).await?.next().await.map(drop)
        }
        _ => panic!("no such way"),
    }
    .or_else(|error| match error.cause() {
        // It writes, or it gives rows: the way is not for that.
        Error::Misuse(_) if matches!(way, "prepared" | "cached") => Ok(()),
        _ => Err(error),
    })
}

/// And all other ways to prepare one.
const ALL_WAYS: [&str; 9] = ["guard", "worker", "batch", "lane", "write", "read", "prepared", "cached", "transaction"];

/// Runs `work` as the environment says, if it does, on a stack as large as a new thread's and a worker's.
fn on_a_small_stack(work: impl AsyncFnOnce(&'static str) + Send + 'static) {
    let Ok(told) = std::env::var("WAY") else { return };
    let way = ALL_WAYS.into_iter().find(|way| *way == told).expect("a way");
    let run = move || runtime(way).block_on(work(way));
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

/// What a child test says of this way.
fn child_says(test: &str, way: &str) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", test, "--nocapture"]).env("WAY", way);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{way}: {}, {said}, {}", output.status, String::from_utf8_lossy(&output.stderr));
    said
}

/// Run in a process of its own: what is asked of it may end it. By hand, `SHAPE=union N=100 WAY=guard` is tried alone.
#[test]
#[ignore = "a child"]
fn a_child_runs_what_it_is_told() {
    on_a_small_stack(async |way| {
        let probed = |name: &str| std::env::var(name).ok();
        for (shape, limit) in SHAPES.iter().filter(|(shape, _)| probed("SHAPE").is_none_or(|only| only == *shape)) {
            let all = [1, *limit, limit + 1, 10 * limit, 3000];
            let only = probed("N").map(|n| n.parse::<usize>().expect("a number"));
            for n in only.map_or(all.to_vec(), |n| vec![n]) {
                let folder = tempfile::tempdir().unwrap();
                let db = PooledDatabaseWriter::open(folder.path().join("t.db")).await.unwrap();
                db.execute_batch("CREATE TABLE t (x); CREATE TABLE k (x UNIQUE)").await.unwrap();
                print!("{shape} {n}: ");
                let outcome = run(way, statement(shape, n.max(1)), &db).await;
                println!("{}", outcome.map_or_else(|error| error.cause().to_string(), |()| "ok".to_owned()));
                db.close().await;
            }
        }
    });
}

#[test]
fn no_statement_overflows_the_stack_of_whoever_runs_it() {
    for way in ALL_WAYS {
        let said = child_says("depth::a_child_runs_what_it_is_told", way);
        let outcome = |shape: &str, n: usize| {
            let line = said.lines().find_map(|line| line.split_once(&format!("{shape} {n}: ")));
            line.unwrap_or_else(|| panic!("{way}: nothing is said of {shape} {n}")).1
        };
        for (shape, limit) in SHAPES.iter().filter(|(_, limit)| *limit > 0) {
            assert_eq!(outcome(shape, *limit), "ok", "{way}: {shape} {limit}");
        }
        for (shape, limit) in &SHAPES[..12] {
            for n in [limit + 1, 10 * limit, 3000] {
                let said = outcome(shape, n);
                assert!(said.contains("is the limit") && said.contains("it was not run"), "{way}: {shape} {n}: {said}");
            }
        }
    }
}

/// What goes on from each other: before a chain of `n`, and what sets it off.
fn chain(shape: &str, n: usize) -> (Vec<String>, String) {
    let table = |i: usize| format!("CREATE TABLE t{i} (x INTEGER PRIMARY KEY)");
    match shape {
        "views" => {
            let views = (1..=n).map(|i| format!("CREATE VIEW t{i} AS SELECT x FROM t{}", i - 1));
            (iter::once(table(0)).chain(views).collect(), format!("SELECT * FROM t{n}"))
        }
        "temporary views" => {
            let views = (1..=n).map(|i| format!("CREATE TEMP VIEW t{i} AS SELECT x FROM t{}", i - 1));
            (iter::once(table(0)).chain(views).collect(), format!("SELECT * FROM t{n}"))
        }
        // A reference that the lexer alone takes for a text, for another name or for an array.
        "quoted views" => {
            let name = |i: usize| match i % 3 {
                0 => format!("'t{i}'"),
                1 => format!("[t{i}]"),
                _ => format!("\"t\"\"{i}\""),
            };
            let views = (1..=n).map(|i| format!("CREATE VIEW {} AS SELECT x FROM {}", name(i), name(i - 1)));
            let first = "CREATE TABLE t0 (x INTEGER PRIMARY KEY)".to_owned();
            (iter::once(first).chain(views).collect(), format!("SELECT * FROM {}", name(n)))
        }
        "quoted triggers" => {
            let triggers = (1..=n).map(|i| {
                format!("CREATE TRIGGER r{i} AFTER INSERT ON 't{i}' BEGIN INSERT INTO [t{}] VALUES (NEW.x); END", i - 1)
            });
            ((0..=n).map(table).chain(triggers).collect(), format!("INSERT INTO t{n} VALUES (1)"))
        }
        "triggers" => {
            let triggers = (1..=n).map(|i| {
                format!("CREATE TRIGGER r{i} AFTER INSERT ON t{i} BEGIN INSERT INTO t{} VALUES (NEW.x); END", i - 1)
            });
            ((0..=n).map(table).chain(triggers).collect(), format!("INSERT INTO t{n} VALUES (1)"))
        }
        "added cascades" => {
            let add = (1..=n).map(|i| format!("ALTER TABLE t{i} ADD COLUMN y REFERENCES t{} ON DELETE CASCADE", i - 1));
            let rows = (1..=n).map(|i| format!("INSERT INTO t{i} VALUES (1, 1)"));
            let first = iter::once("INSERT INTO t0 VALUES (1)".to_owned());
            ((0..=n).map(table).chain(add).chain(first).chain(rows).collect(), "DELETE FROM t0".to_owned())
        }
        "temporary cascades" => {
            let tables = (1..=n).map(|i| {
                format!("CREATE TEMP TABLE t{i} (x INTEGER PRIMARY KEY REFERENCES t{} ON DELETE CASCADE)", i - 1)
            });
            let rows = (0..=n).map(|i| format!("INSERT INTO t{i} VALUES (1)"));
            let first = "CREATE TEMP TABLE t0 (x INTEGER PRIMARY KEY)".to_owned();
            (iter::once(first).chain(tables).chain(rows).collect(), "DELETE FROM t0".to_owned())
        }
        "cascades" => {
            let tables = (1..=n)
                .map(|i| format!("CREATE TABLE t{i} (x INTEGER PRIMARY KEY REFERENCES t{} ON DELETE CASCADE)", i - 1));
            let rows = (0..=n).map(|i| format!("INSERT INTO t{i} VALUES (1)"));
            (iter::once(table(0)).chain(tables).chain(rows).collect(), "DELETE FROM t0".to_owned())
        }
        _ => panic!("no such shape"),
    }
}

const CHAINS: [&str; 8] = [
    "views",
    "temporary views",
    "quoted views",
    "triggers",
    "quoted triggers",
    "cascades",
    "added cascades",
    "temporary cascades",
];

#[test]
#[ignore = "a child"]
fn a_child_makes_the_chains_that_it_is_told() {
    on_a_small_stack(async |way| {
        for shape in CHAINS {
            for n in [24, 25, 400] {
                let folder = tempfile::tempdir().unwrap();
                let db = PooledDatabaseWriter::open(folder.path().join("t.db")).await.unwrap();
                let (before, sets_it_off) = chain(shape, n);
                // What is temporary lives as long as the guard.
                let mut guard = db.pool().get().await.unwrap();
                let mut made = Ok(());
                for sql in &before {
                    made = guard.run(sql).await;
                    if made.is_err() {
                        break;
                    }
                }
                if shape.starts_with("temporary") {
                    let ran = guard.run(&sets_it_off).await;
                    made = made.and(ran);
                }
                drop(guard);
                // As far as it was made.
                let last = if made.is_ok() { n } else { 24 };
                print!("{shape} {n}: ");
                if !shape.starts_with("temporary") {
                    let ran = run(way, chain(shape, last).1, &db).await;
                    ran.unwrap_or_else(|error| panic!("{shape} {last}: {error}"));
                }
                println!("{}", made.map_or_else(|error| error.to_string(), |()| "ok".to_owned()));
                db.close().await;
            }
        }
    });
}

/// They are made one by one, and set off by a short statement.
#[test]
fn no_chain_of_views_triggers_or_foreign_keys_overflows_the_stack_of_whoever_sets_it_off() {
    for way in WAYS {
        let said = child_says("depth::a_child_makes_the_chains_that_it_is_told", way);
        for shape in CHAINS {
            assert!(said.contains(&format!("{shape} 24: ok")), "{way}: {shape}: {said}");
            for n in [25, 400] {
                let is_refused =
                    |line: &&str| line.starts_with(&format!("{shape} {n}: ")) && line.contains("is the limit");
                assert_eq!(said.lines().filter(is_refused).count(), 1, "{way}: {shape} {n}: {said}");
            }
        }
    }
}

/// One that was made by another tool.
#[tokio::test]
async fn a_file_whose_views_go_on_for_too_long_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let (before, _) = chain("views", 60);
    before.iter().for_each(|sql| sqlite.execute_batch(sql).unwrap());
    drop(sqlite);
    let error = ConnectionPool::open(&path).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Open { .. }) && error.to_string().contains("is the limit"), "{error}");
}

/// Rows that refer to each other, of one table or of two: the engine recurses for each of them. The second time the statement is one
/// that is kept.
#[test]
#[ignore = "a child"]
fn a_child_deletes_rows_that_refer_to_each_other() {
    on_a_small_stack(async |way| {
        // What overflows 2 MiB, and 16; the engine takes the square of their number.
        let most = if way == "lane" { 6_500_i64 } else { 1_500 };
        for second in if way == "lane" { &["p"][..] } else { &["p", "q"] } {
            let folder = tempfile::tempdir().unwrap();
            let db = PooledDatabaseWriter::open(folder.path().join("t.db")).await.unwrap();
            db.execute_batch(format!(
                "CREATE TABLE p (id INTEGER PRIMARY KEY, up REFERENCES {second} (id) ON DELETE CASCADE);
                 CREATE TABLE IF NOT EXISTS q (id INTEGER PRIMARY KEY, up REFERENCES p (id) ON DELETE CASCADE);
                 CREATE INDEX p_up ON p (up); CREATE INDEX q_up ON q (up);
                 CREATE TABLE t (x)"
            ))
            .await
            .unwrap();
            let delete = "DELETE FROM p WHERE id = 0";
            for rows in [1, most] {
                let numbers = "WITH RECURSIVE c (x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM c WHERE x + 1 < ?1)";
                let rows_of = |table: &str, first: i64| {
                    format!(
                        "{numbers} INSERT INTO {table} SELECT x, nullif(x - 1, -1) FROM c WHERE x % 2 = {first} OR '{second}' = 'p'"
                    )
                };
                // Their parents come later.
                let mut fill = db.pool().get().await.unwrap();
                fill.run("PRAGMA foreign_keys = OFF").await.unwrap();
                fill.execute(&rows_of("p", 0), (rows,)).await.unwrap();
                if *second == "q" {
                    fill.execute(&rows_of("q", 1), (rows,)).await.unwrap();
                }
                drop(fill);
                run(way, delete.to_owned(), &db).await.unwrap();
                let mut guard = db.pool().get().await.unwrap();
                let mut left =
                    guard.query("SELECT (SELECT COUNT(*) FROM p) + (SELECT COUNT(*) FROM q)", ()).await.unwrap();
                assert_eq!(left.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), 0, "{way}, {second}");
            }
            db.close().await;
        }
        println!("done");
    });
}

#[test]
fn no_chain_of_rows_that_refer_to_each_other_overflows_the_stack() {
    for way in ["worker", "lane"] {
        assert!(child_says("depth::a_child_deletes_rows_that_refer_to_each_other", way).contains("done"));
    }
}

/// What closes a circle of rows in other ways: each by its statements, and what sets it off. `{n}` is the number of rows.
const CIRCLES: [(&str, &str, &str); 4] = [
    (
        "a rename",
        "CREATE TABLE p (id INTEGER PRIMARY KEY, up REFERENCES q (id) ON DELETE CASCADE);
         ALTER TABLE p RENAME TO q; CREATE INDEX q_up ON q (up); INSERT INTO q SELECT x, nullif(x - 1, -1) FROM numbers",
        "DELETE FROM q WHERE id = 0",
    ),
    (
        "a trigger",
        "CREATE TABLE p (id INTEGER PRIMARY KEY);
         CREATE TABLE q (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE, next); CREATE INDEX q_p ON q (p);
         CREATE TRIGGER r AFTER DELETE ON q BEGIN DELETE FROM p WHERE id = OLD.next; END;
         INSERT INTO p SELECT x FROM numbers; INSERT INTO q SELECT x, x, x + 1 FROM numbers",
        "DELETE FROM p WHERE id = 0",
    ),
    (
        "a REPLACE in a trigger",
        "CREATE TABLE p (id INTEGER PRIMARY KEY);
         CREATE TABLE q (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE SET NULL, next); CREATE INDEX q_p ON q (p);
         CREATE TRIGGER r AFTER UPDATE ON q BEGIN REPLACE INTO p VALUES (OLD.next); END;
         INSERT INTO p SELECT x FROM numbers; INSERT INTO q SELECT x, x, x + 1 FROM numbers",
        "DELETE FROM p WHERE id = 0",
    ),
    (
        "temporary tables",
        "CREATE TEMP TABLE p (id INTEGER PRIMARY KEY, up REFERENCES q (id) ON DELETE CASCADE);
         CREATE TEMP TABLE q (id INTEGER PRIMARY KEY, up REFERENCES p (id) ON DELETE CASCADE);
         CREATE INDEX temp.p_up ON p (up); CREATE INDEX temp.q_up ON q (up);
         INSERT INTO p SELECT x, nullif(x - 1, -1) FROM numbers WHERE x % 2 = 0;
         INSERT INTO q SELECT x, x - 1 FROM numbers WHERE x % 2 = 1",
        "DELETE FROM p WHERE id = 0",
    ),
];

/// So many rows overflow 2 MiB.
const ROWS: usize = 1_500;

#[test]
#[ignore = "a child"]
fn a_child_goes_round_in_circles() {
    on_a_small_stack(async |_| {
        for (name, setup, delete) in CIRCLES {
            let folder = tempfile::tempdir().unwrap();
            let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
            let mut guard = pool.get().await.unwrap();
            let numbers = format!(
                "CREATE TABLE numbers AS WITH RECURSIVE c (x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM c WHERE x + 1 < {ROWS}) SELECT x FROM c"
            );
            guard.run(&numbers).await.unwrap();
            guard.run("PRAGMA foreign_keys = OFF").await.unwrap();
            for sql in setup.split(";\n") {
                guard.execute_batch(sql).await.unwrap_or_else(|error| panic!("{name}: {sql}: {error}"));
            }
            guard.run("PRAGMA foreign_keys = ON").await.unwrap();
            guard.execute(delete, ()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            println!("{name}: done");
        }
    });
}

/// One that waits for the lock while another closes the circle; its way is a statement's, or a batch's.
#[test]
#[ignore = "a child"]
fn a_child_waits_for_who_closes_a_circle() {
    on_a_small_stack(async |way| {
        let folder = tempfile::tempdir().unwrap();
        let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
        let mut changes = pool.get().await.unwrap();
        changes.run("CREATE TABLE p (id INTEGER PRIMARY KEY)").await.unwrap();
        let mut deletes = pool.get().await.unwrap();
        changes.run("BEGIN IMMEDIATE").await.unwrap();
        let waits = tokio::spawn(async move {
            deletes.run("PRAGMA busy_timeout = 60000").await.unwrap();
            match way {
                "batch" => deletes.execute_batch("DELETE FROM p WHERE id = 0").await,
                _ => deletes.execute("DELETE FROM p WHERE id = 0", ()).await.map(drop),
            }
        });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        changes.run("ALTER TABLE p ADD COLUMN up REFERENCES p (id) ON DELETE CASCADE").await.unwrap();
        changes.run("CREATE INDEX p_up ON p (up)").await.unwrap();
        for id in 0..ROWS as i64 {
            changes.execute("INSERT INTO p VALUES (?1, nullif(?1 - 1, -1))", (id,)).await.unwrap();
        }
        changes.run("COMMIT").await.unwrap();
        let deleted = waits.await.unwrap();
        println!("waited: {deleted:?}");
        let mut left = changes.query("SELECT count(*) FROM p", ()).await.unwrap();
        assert_eq!(left.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), 0);
    });
}

#[test]
fn no_circle_of_rows_overflows_the_stack_whatever_closes_it() {
    let said = child_says("depth::a_child_goes_round_in_circles", "guard");
    for (name, ..) in CIRCLES {
        assert!(said.contains(&format!("{name}: done")), "{name}: {said}");
    }
    for way in ["worker", "batch"] {
        assert!(child_says("depth::a_child_waits_for_who_closes_a_circle", way).contains("waited: Ok"), "{way}");
    }
}
