//! A statement that fails leaves nothing behind, whatever it is and however it is run: alone, beside neighbours that share its
//! commit, prepared, and in a transaction that goes on after it, in a closure or on a guard.
//!
//! The engine undoes a statement that fails half-way in a transaction only where it expects that (`stmt_journal` in its source):
//! each of these that it does not expect kept its first rows once.

use poolproof::{Behavior, Connection, Error, Mode, PooledDatabaseWriter, Result, Rows, WriterConfig};

use crate::world::{column, hold, queue, writer, writer_of};

/// Tables, and rows that the statements below stumble over.
const TABLES: &str = "
    CREATE TABLE strict (name TEXT, value INTEGER) STRICT;
    CREATE TABLE number (id INTEGER PRIMARY KEY, x);
    INSERT INTO number VALUES (1, 'a'), (2, 'b'), (3, 'c'), (10, 'd');
    CREATE TABLE one (x UNIQUE, y NOT NULL, z CHECK (z < 10));
    INSERT INTO one VALUES (5, 5, 5), (6, 6, 6);
    CREATE TABLE source (a, b);
    INSERT INTO source VALUES (1, '{}'), (2, '[]'), (3, 'no json'), (5, '{}');
    CREATE TABLE copy (a, b);
    CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES number (id));
    INSERT INTO child VALUES (1, 3);
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, x);
    CREATE TABLE noted (x);
    CREATE TABLE watched (x);
    INSERT INTO watched VALUES (1), (2), (3);
    CREATE TRIGGER refuses_insert BEFORE INSERT ON watched WHEN NEW.x = 13 BEGIN
        INSERT INTO noted VALUES ('insert'); SELECT RAISE(ABORT, 'thirteen');
    END;
    CREATE TRIGGER refuses_delete AFTER DELETE ON watched WHEN OLD.x = 2 BEGIN
        INSERT INTO noted VALUES ('delete'); SELECT RAISE(FAIL, 'not two');
    END;
    CREATE TRIGGER refuses_update AFTER UPDATE ON watched WHEN NEW.x = 102 BEGIN
        INSERT INTO noted VALUES ('update'); INSERT INTO one VALUES (5, 1, 1);
    END";

/// Each fails at its second row or later, or after a trigger of it has written.
const FAILING: &[&str] = &[
    "INSERT INTO strict VALUES ('a', 1), ('b', 'n/a')",
    "INSERT INTO strict SELECT a, b FROM source",
    "INSERT OR IGNORE INTO strict VALUES ('a', 1), ('b', 'n/a')",
    "INSERT OR REPLACE INTO strict VALUES ('a', 1), ('b', 'n/a')",
    "UPDATE number SET id = id + 7",
    "UPDATE number SET rowid = rowid + 7",
    "UPDATE number SET id = 'text' WHERE id > 1",
    "INSERT INTO number VALUES (4, 'e'), (1, 'f')",
    "INSERT INTO number VALUES (4, 'e'), ('text', 'f')",
    "INSERT INTO number SELECT a, b FROM source",
    "INSERT INTO one VALUES (1, 1, 1), (5, 1, 1)",
    "INSERT INTO one VALUES (1, 1, 1), (2, NULL, 1)",
    "INSERT INTO one VALUES (1, 1, 1), (2, 1, 10)",
    "INSERT OR FAIL INTO one VALUES (1, 1, 1), (5, 1, 1)",
    "INSERT OR FAIL INTO one VALUES (1, 1, 1), (2, NULL, 1)",
    "INSERT OR ABORT INTO one VALUES (1, 1, 1), (5, 1, 1)",
    "INSERT OR REPLACE INTO one VALUES (5, 1, 1), (6, NULL, 1)",
    "INSERT OR IGNORE INTO one SELECT a, a, json(b) FROM source",
    "INSERT INTO one VALUES (1, 1, 1), (5, 1, 1) ON CONFLICT (x) DO UPDATE SET z = 11",
    "UPDATE one SET x = x + 1",
    "UPDATE OR FAIL one SET x = x + 1",
    "UPDATE one SET z = z + 4",
    "INSERT INTO copy SELECT a, json(b) FROM source",
    "INSERT INTO copy SELECT a, abs(a - 9223372036854775807 - 4) FROM source",
    "UPDATE source SET b = json(b)",
    "DELETE FROM source WHERE json(b) IS NOT NULL",
    "INSERT INTO child VALUES (2, 1), (3, 99)",
    "UPDATE child SET parent = 99",
    "DELETE FROM number",
    "INSERT INTO counted VALUES (9223372036854775807, 1), (NULL, 2)",
    "INSERT INTO watched VALUES (4), (13)",
    "DELETE FROM watched",
    "UPDATE watched SET x = x + 100",
    "REPLACE INTO one VALUES (7, 7, 7), (5, 5, 50)",
    "WITH s AS (SELECT a, b FROM source) INSERT INTO copy SELECT a, json(b) FROM s",
    "CREATE TABLE made AS SELECT a, json(b) AS b FROM source",
    "CREATE UNIQUE INDEX parts ON source (typeof(b))",
    "INSERT INTO one VALUES (1, 1, 1), (5, 1, 1) RETURNING x",
];

async fn lines(rows: &mut Rows<'_>) -> Result<Vec<String>> {
    let columns = rows.column_count();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().await? {
        let values = (0..columns).map(|column| row.value(column).map(|value| format!("{value:?}")));
        lines.push(values.collect::<Result<Vec<_>>>()?.join(", "));
    }
    Ok(lines)
}

/// All that the database holds, but for the neighbours' table.
async fn digest(connection: &mut Connection) -> Vec<String> {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 't' ORDER BY name";
    let mut digest = Vec::new();
    let tables = lines(&mut connection.query(tables, ()).await.unwrap()).await.unwrap();
    for table in tables {
        let table = table.trim_start_matches("Text(\"").trim_end_matches("\")");
        let mut rows = connection.query(&format!("SELECT rowid, * FROM \"{table}\" ORDER BY rowid"), ()).await.unwrap();
        digest.extend(lines(&mut rows).await.unwrap().into_iter().map(|line| format!("{table}: {line}")));
    }
    let mut rows = connection.query("SELECT type, name, sql FROM sqlite_schema ORDER BY name", ()).await.unwrap();
    digest.extend(lines(&mut rows).await.unwrap());
    digest
}

async fn digest_of(db: &PooledDatabaseWriter) -> Vec<String> {
    digest(&mut db.pool().get().await.unwrap()).await
}

/// What a way in made of a statement: the error that it told, if any.
type Told = Option<String>;

/// Runs every failing statement in a database of its own, and holds what is there afterwards against what was there before.
async fn each<F>(way: &str, run: F)
where
    F: AsyncFn(&PooledDatabaseWriter, &'static str) -> Told,
{
    let mut wrong = Vec::new();
    for sql in FAILING {
        let (db, _folder) = writer().await;
        db.execute_batch(TABLES).await.unwrap();
        let before = digest_of(&db).await;
        let told = run(&db, sql).await;
        let after = digest_of(&db).await;
        match told {
            None => wrong.push(format!("{sql}: did not fail")),
            Some(told) if after != before => {
                let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
                let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
                wrong.push(format!("{sql}: told {told}; there is {new:?}, and no {gone:?}"));
            }
            Some(_) => {}
        }
        db.close().await;
    }
    assert!(wrong.is_empty(), "{way}:\n{}", wrong.join("\n"));
}

fn gives_rows(sql: &str) -> bool {
    sql.contains("RETURNING")
}

async fn run(connection: &mut Connection, sql: &str) -> Result<()> {
    match gives_rows(sql) {
        true => lines(&mut connection.query(sql, ()).await?).await.map(drop),
        false => connection.execute(sql, ()).await.map(drop),
    }
}

#[tokio::test]
async fn alone_a_statement_that_fails_leaves_nothing() {
    each("alone", async |db, sql| match gives_rows(sql) {
        true => Some("no way to run it".to_owned()),
        false => db.execute(sql, ()).await.err().map(|error| error.to_string()),
    })
    .await;
}

#[tokio::test]
async fn beside_neighbours_a_statement_that_fails_leaves_nothing_and_they_are_written() {
    each("beside neighbours", async |db, sql| {
        if gives_rows(sql) {
            return Some("no way to run it".to_owned());
        }
        // The lane is held until all are queued, twice: the second time it knows that the statement failed.
        let mut told = None;
        for _ in 0..2 {
            let held = hold(db).await;
            let before = queue(db, |db| async move { db.execute("INSERT INTO t VALUES (1)", ()).await }).await;
            let failing = queue(db, move |db| async move { db.execute(sql, ()).await }).await;
            let after = queue(db, |db| async move { db.execute("INSERT INTO t VALUES (2)", ()).await }).await;
            held.let_go().await;
            before.await.unwrap().unwrap();
            after.await.unwrap().unwrap();
            told = failing.await.unwrap().err().map(|error| error.to_string());
        }
        let mut guard = db.pool().get().await.unwrap();
        let neighbours = lines(&mut guard.query("SELECT COUNT(*) FROM t", ()).await.unwrap()).await.unwrap();
        assert_eq!(neighbours, ["Integer(4)"], "{sql}");
        told
    })
    .await;
}

#[tokio::test]
async fn prepared_a_statement_that_fails_beside_neighbours_leaves_nothing() {
    each("prepared", async |db, sql| {
        if gives_rows(sql) || sql.starts_with("CREATE") {
            return Some("no way to run it".to_owned());
        }
        let prepared = db.prepare::<()>(sql).await.unwrap();
        let held = hold(db).await;
        let neighbour = queue(db, |db| async move { db.execute("INSERT INTO t VALUES (1)", ()).await }).await;
        let failing = queue(db, move |_| async move { prepared.execute(()).await }).await;
        held.let_go().await;
        neighbour.await.unwrap().unwrap();
        failing.await.unwrap().err().map(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_closure_that_goes_on_after_a_statement_that_fails_commits_nothing_of_it() {
    each("in a closure", async |db, sql| {
        let write = db.write(async move |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            let failed = match gives_rows(sql) {
                true => match tx.query(sql, ()).await {
                    Ok(mut rows) => lines(&mut rows).await.map(drop),
                    Err(error) => Err(error),
                },
                false => tx.execute(sql, ()).await.map(drop),
            };
            tx.execute("INSERT INTO t VALUES (2)", ()).await?;
            Ok::<_, Error>(failed.err().map(|error| error.to_string()))
        });
        let told = write.await.unwrap().value;
        let mut guard = db.pool().get().await.unwrap();
        let rest = lines(&mut guard.query("SELECT COUNT(*) FROM t", ()).await.unwrap()).await.unwrap();
        assert_eq!(rest, ["Integer(2)"], "{sql}");
        told
    })
    .await;
}

#[tokio::test]
async fn a_closure_that_goes_on_after_a_batch_that_fails_commits_nothing_of_it() {
    each("a batch in a closure", async |db, sql| {
        if gives_rows(sql) {
            return Some("no way to run it".to_owned());
        }
        let write = db.write(async move |tx| {
            let failed = tx.execute_batch(&format!("INSERT INTO copy VALUES (0, 0); {sql}")).await;
            tx.execute("INSERT INTO t VALUES (2)", ()).await?;
            Ok::<_, Error>(failed.err().map(|error| error.to_string()))
        });
        write.await.unwrap().value
    })
    .await;
}

#[tokio::test]
async fn a_guards_transaction_that_goes_on_after_a_statement_that_fails_commits_nothing_of_it() {
    for (behavior, reads) in [(Behavior::Immediate, false), (Behavior::Deferred, false), (Behavior::Deferred, true)] {
        on_a_guard(behavior, reads).await;
    }
}

/// `reads`: something was read in the transaction before.
async fn on_a_guard(behavior: Behavior, reads: bool) {
    each(&format!("on a guard, {behavior:?}, {reads}"), async |db, sql| {
        let mut guard = db.pool().get().await.unwrap();
        let mut transaction = guard.begin(behavior).await.unwrap();
        if reads {
            lines(&mut transaction.query("SELECT COUNT(*) FROM t", ()).await.unwrap()).await.unwrap();
        }
        let failed = match gives_rows(sql) {
            true => match transaction.query(sql, ()).await {
                Ok(mut rows) => lines(&mut rows).await.map(drop),
                Err(error) => Err(error),
            },
            false => transaction.execute(sql, ()).await.map(drop),
        };
        transaction.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
        transaction.commit().await.unwrap();
        failed.err().map(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn between_begin_and_commit_by_hand_a_statement_that_fails_leaves_nothing() {
    each("begun by hand", async |db, sql| {
        let mut guard = db.pool().get().await.unwrap();
        guard.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        let failed = run(&mut guard, sql).await;
        guard.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
        guard.execute("COMMIT", ()).await.unwrap();
        failed.err().map(|error| error.to_string())
    })
    .await;
}

/// The savepoint changes nothing for a transaction that found the lock taken: it can try again when the lock is free.
#[tokio::test]
async fn a_deferred_transaction_that_found_the_lock_taken_goes_on_as_on_the_engine_alone() {
    let (db, folder) = writer().await;
    let (mut user, mut other) = (db.pool().get().await.unwrap(), db.pool().get().await.unwrap());
    let mut transaction = user.begin(Behavior::Deferred).await.unwrap();
    other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    other.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let first = transaction.execute("INSERT INTO t VALUES (2)", ()).await.is_ok();
    other.execute("COMMIT", ()).await.unwrap();
    let again = transaction.execute("INSERT INTO t VALUES (3)", ()).await.is_ok();

    let engine = turso::Builder::new_local(folder.path().join("alone.db").to_str().unwrap()).build().await.unwrap();
    let (user, other) = (engine.connect().unwrap(), engine.connect().unwrap());
    other.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    user.execute("BEGIN", ()).await.unwrap();
    other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    other.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let first_alone = user.execute("INSERT INTO t VALUES (2)", ()).await.is_ok();
    other.execute("COMMIT", ()).await.unwrap();
    let again_alone = user.execute("INSERT INTO t VALUES (3)", ()).await.is_ok();
    assert_eq!((first, again), (first_alone, again_alone));
}

/// In MVCC mode, too, for what it can create: it has no AUTOINCREMENT.
#[tokio::test]
async fn in_mvcc_mode_a_closure_that_goes_on_after_a_statement_that_fails_commits_nothing_of_it() {
    let mut wrong = Vec::new();
    for sql in FAILING.iter().copied().filter(|sql| !gives_rows(sql) && !sql.contains("counted")) {
        let config = WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
        let (db, _folder) = writer_of(config).await;
        let tables = TABLES.replace(" AUTOINCREMENT", "");
        db.execute_batch(tables).await.unwrap();
        let before = digest_of(&db).await;
        let write = db.write(async move |tx| {
            let failed = tx.execute(sql, ()).await;
            tx.execute("INSERT INTO t VALUES (2)", ()).await?;
            Ok::<_, Error>(failed.err().map(|error| error.to_string()))
        });
        let told = write.await.map(|ack| ack.value);
        let after = digest_of(&db).await;
        if after != before || !matches!(told, Ok(Some(_))) {
            wrong.push(format!("{sql}: told {told:?}"));
        }
        db.close().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `run`, and `query` for a statement that gives no rows.
#[tokio::test]
async fn by_run_and_by_query_a_statement_that_fails_leaves_nothing() {
    for by_run in [true, false] {
        each(if by_run { "by run" } else { "by query" }, async |db, sql| {
            let mut guard = db.pool().get().await.unwrap();
            guard.execute("BEGIN IMMEDIATE", ()).await.unwrap();
            let failed = match by_run {
                true => guard.run(sql).await,
                false => match guard.query(sql, ()).await {
                    Ok(mut rows) => lines(&mut rows).await.map(drop),
                    Err(error) => Err(error),
                },
            };
            guard.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
            guard.execute("COMMIT", ()).await.unwrap();
            failed.err().map(|error| error.to_string())
        })
        .await;
    }
}

/// The same for a transaction that was begun by a statement.
#[tokio::test]
async fn a_transaction_begun_by_hand_that_found_the_lock_taken_can_try_again() {
    for begin in ["BEGIN", "begin deferred transaction"] {
        let (db, _folder) = writer().await;
        let (mut user, mut other) = (db.pool().get().await.unwrap(), db.pool().get().await.unwrap());
        user.execute(begin, ()).await.unwrap();
        other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        other.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        user.execute("INSERT INTO t VALUES (2)", ()).await.unwrap_err();
        other.execute("COMMIT", ()).await.unwrap();
        user.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
        user.execute("COMMIT", ()).await.unwrap();
    }
}

/// What only the connection has is undone as well.
#[tokio::test]
async fn a_statement_that_fails_leaves_nothing_in_a_temporary_table() {
    let (db, _folder) = writer().await;
    let write = db.write(async |tx| {
        tx.execute("CREATE TEMP TABLE part (x INTEGER) STRICT", ()).await?;
        tx.execute("INSERT INTO part VALUES (1), ('n/a')", ()).await.unwrap_err();
        lines(&mut tx.query("SELECT x FROM part", ()).await?).await
    });
    assert_eq!(write.await.unwrap().value, Vec::<String>::new());
}

/// A savepoint outside a transaction begins one: left open, it would take the writes after it along.
#[tokio::test]
async fn a_batch_that_began_a_savepoint_and_failed_leaves_none_open() {
    for batch in
        ["SAVEPOINT a; INSERT INTO t VALUES (1); and then what?", "SAVEPOINT a; INSERT INTO t VALUES (1), (NULL)"]
    {
        let (db, _folder) = writer().await;
        let mut guard = db.pool().get().await.unwrap();
        guard.execute_batch("CREATE TABLE IF NOT EXISTS u (x NOT NULL)").await.unwrap();
        guard
            .execute_batch(&batch.replace("INTO t VALUES (1), (NULL)", "INTO u VALUES (1), (NULL)"))
            .await
            .unwrap_err();
        guard.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
        assert!(guard.is_autocommit());
        drop(guard);
        assert_eq!((column(&db, "t").await, column(&db, "u").await), (vec![2], vec![]), "{batch}");
    }
}
