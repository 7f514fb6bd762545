//! The statement cache: what is prepared once gives the right results every time.
//!
//! Each test brings one statement into the cache, changes what it depends on (its parameters, the schema, the transaction
//! around it, how its last run ended), and runs it again. `ended` has transactions that a failure has ended; `parameters` has how many it is given; `schema` has those in which the
//! tables change; `random` does so at random, beside a pool without a cache.

use std::mem;
use std::pin::pin;
use std::task::{Context, Waker};

use poolproof::{Behavior, Connection, ConnectionPool, Error, Hooks, IntoParams, PooledDatabaseWriter, Result, Value};
use tempfile::TempDir;

mod ended;
mod parameters;
mod random;
mod schema;

/// A pool on a database of one table `t (x)` with the rows 1 and 2.
async fn pool(cache: usize) -> (ConnectionPool, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).statement_cache(cache).build().await.unwrap();
    pool.get().await.unwrap().execute_batch("CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1), (2)").await.unwrap();
    (pool, folder)
}

/// Every row that a query gives.
async fn all(connection: &mut Connection, sql: &str, params: impl IntoParams) -> Result<Vec<Vec<Value>>> {
    let mut found = Vec::new();
    let mut rows = connection.query(sql, params).await?;
    while let Some(row) = rows.next().await? {
        found.push((0..row.column_count()).map(|column| row.value(column)).collect::<Result<_>>()?);
    }
    Ok(found)
}

async fn integers(connection: &mut Connection, sql: &str) -> Vec<i64> {
    let rows = all(connection, sql, ()).await.unwrap();
    rows.concat().iter().map(|value| *value.as_integer().expect("an integer")).collect()
}

const SUM: &str = "SELECT COALESCE(SUM(x), 0) FROM t WHERE x >= ?1";

async fn sum(connection: &mut Connection, least: i64) -> i64 {
    let mut rows = connection.query(SUM, (least,)).await.unwrap();
    rows.next().await.unwrap().expect("one row").get(0).unwrap()
}

/// Whether a statement was in the cache; it is not any more. Parameters that it has no place for are refused after it was
/// taken out, and one that failed is not put back.
async fn was_kept(connection: &mut Connection, sql: &str) -> bool {
    let before = connection.cached_statements();
    assert!(connection.query(sql, [0; 9]).await.is_err());
    connection.cached_statements() < before
}

#[tokio::test]
async fn the_same_statement_is_prepared_once_and_right_with_other_parameters() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    let before = user.cached_statements();
    assert_eq!((sum(&mut user, 1).await, sum(&mut user, 2).await, sum(&mut user, 0).await), (3, 2, 3));
    assert_eq!(user.cached_statements(), before + 1);
}

#[tokio::test]
async fn the_cache_is_bounded_and_a_cache_of_any_size_gives_the_right_rows() {
    for cache in [0, 1, 2] {
        let (pool, _folder) = pool(cache).await;
        let mut user = pool.get().await.unwrap();
        for number in (0..10).chain(0..10).chain([3, 3, 4, 3]) {
            assert_eq!(integers(&mut user, &format!("SELECT {number}")).await, [number]);
            assert!((cache.min(1)..=cache).contains(&user.cached_statements()), "{cache}: {number}");
        }
    }
}

#[tokio::test]
async fn the_statement_unused_longest_makes_room() {
    let (pool, _folder) = pool(3).await;
    let mut user = pool.get().await.unwrap();
    for sql in ["SELECT 1", "SELECT 2", "SELECT 3", "SELECT 1", "SELECT 4"] {
        user.run(sql).await.unwrap();
    }
    for (sql, kept) in [("SELECT 2", false), ("SELECT 1", true), ("SELECT 3", true), ("SELECT 4", true)] {
        assert_eq!(was_kept(&mut user, sql).await, kept, "{sql}");
    }
}

#[tokio::test]
async fn parameters_of_the_last_time_do_not_leak_into_a_run_with_fewer() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    user.execute("CREATE TABLE pairs (a, b)", ()).await.unwrap();
    let (query, insert) = ("SELECT ?1, ?2", "INSERT INTO pairs VALUES (:a, :b)");
    let integer = Value::Integer;
    assert_eq!(all(&mut user, query, (1, 2)).await.unwrap(), [[integer(1), integer(2)]]);
    assert!(matches!(all(&mut user, query, (3,)).await, Err(Error::Misuse(_))));
    assert!(matches!(all(&mut user, query, ()).await, Err(Error::Misuse(_))));
    assert_eq!(all(&mut user, query, (3, Value::Null)).await.unwrap(), [[integer(3), Value::Null]]);
    user.execute(insert, ((":a", 1), (":b", 2))).await.unwrap();
    assert!(matches!(user.execute(insert, ((":b", 3),)).await, Err(Error::Misuse(_))));
    assert!(matches!(user.execute(insert, ()).await, Err(Error::Misuse(_))));
    user.execute(insert, ((":b", 3), (":a", Value::Null))).await.unwrap();
    let pairs = [[integer(1), integer(2)], [Value::Null, integer(3)]];
    assert_eq!(all(&mut user, "SELECT a, b FROM pairs", ()).await.unwrap(), pairs);
    assert!(was_kept(&mut user, query).await && was_kept(&mut user, insert).await);
}

#[tokio::test]
async fn rows_dropped_half_way_are_given_from_the_first_on_the_next_time() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    for taken in 0..=3 {
        let mut rows = user.query("SELECT x FROM t", ()).await.unwrap();
        for _ in 0..taken {
            rows.next().await.unwrap();
        }
        drop(rows);
        assert_eq!(user.cached_statements(), 1, "{taken}: kept");
        assert_eq!(integers(&mut user, "SELECT x FROM t").await, [1, 2], "{taken}");
    }
    drop(user);
    assert_eq!(pool.status().idle, 1, "as new");
}

/// A write has run when its rows can be fetched, however many of them are.
#[tokio::test]
async fn a_write_whose_rows_are_dropped_half_way_does_not_run_twice_or_half() {
    for cache in [0, 8] {
        let (pool, _folder) = pool(cache).await;
        let mut user = pool.get().await.unwrap();
        for (taken, then) in [(0, 4), (1, 6), (2, 8), (0, 10), (3, 12)] {
            let mut rows = user.query("INSERT INTO t VALUES (?1), (?1) RETURNING x", (taken,)).await.unwrap();
            for _ in 0..taken {
                rows.next().await.unwrap();
            }
            drop(rows);
            assert!(user.is_autocommit());
            assert_eq!(integers(&mut user, "SELECT COUNT(*) FROM t").await, [then], "cache {cache}, {taken} taken");
        }
    }
}

#[tokio::test]
async fn a_statement_that_failed_is_not_kept_and_right_the_next_time() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    user.execute("CREATE TABLE unique_ones (x UNIQUE)", ()).await.unwrap();
    let insert = "INSERT INTO unique_ones VALUES (?1), (?1 + 1)";
    assert_eq!(user.execute(insert, (1,)).await.unwrap(), 2);
    for transaction in [false, true] {
        if transaction {
            user.execute("BEGIN", ()).await.unwrap();
        }
        let kept = user.cached_statements();
        assert!(user.execute(insert, (0,)).await.is_err(), "the second of its rows is there already");
        assert_eq!(user.cached_statements(), kept - 1);
        let x = if transaction { 5 } else { 3 };
        assert_eq!(user.execute(insert, (x,)).await.unwrap(), 2);
        assert_eq!(user.cached_statements(), kept);
    }
    user.execute("COMMIT", ()).await.unwrap();
    assert_eq!(integers(&mut user, "SELECT x FROM unique_ones ORDER BY x").await, [1, 2, 3, 4, 5, 6]);
    assert!(user.execute("SELECT x FROM t", ()).await.is_err(), "a query is not executed");
    assert_eq!(integers(&mut user, "SELECT x FROM t").await, [1, 2]);
}

#[tokio::test]
async fn rows_that_failed_half_way_are_right_the_next_time() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    let query = "SELECT ABS(x) FROM t";
    assert_eq!(integers(&mut user, query).await, [1, 2]);
    user.execute("INSERT INTO t VALUES (?1), (4)", (i64::MIN,)).await.unwrap();
    assert!(all(&mut user, query, ()).await.unwrap_err().to_string().contains("overflow"));
    assert!(!was_kept(&mut user, query).await);
    user.execute("DELETE FROM t WHERE x < 0", ()).await.unwrap();
    assert_eq!(integers(&mut user, query).await, [1, 2, 4]);
}

/// Rows borrow the connection, so its safe use does not compile (`tests/package/compile_fail.rs`); whoever leaks them gets a
/// statement of its own, since the first was not put back.
#[tokio::test]
async fn a_statement_whose_rows_were_leaked_is_not_handed_out_again() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    let query = "SELECT x FROM t";
    assert_eq!(integers(&mut user, query).await, [1, 2]);
    let mut rows = user.query(query, ()).await.unwrap();
    assert!(rows.next().await.unwrap().is_some());
    mem::forget(rows);
    assert_eq!(user.cached_statements(), 0, "it is busy");
    assert_eq!(integers(&mut user, query).await, [1, 2]);
}

#[tokio::test]
async fn a_connection_whose_rows_were_leaked_is_discarded_whatever_ran_after_them() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    let mut rows = user.query("SELECT x FROM t", ()).await.unwrap();
    assert!(rows.next().await.unwrap().is_some());
    mem::forget(rows);
    assert_eq!(sum(&mut user, 0).await, 3);
    drop(user);
    pool.get().await.unwrap().execute_batch("INSERT INTO t VALUES (4)").await.expect("nothing else runs on it");
    assert_eq!(pool.status().most_open, 1);
}

/// A busy time-out makes the engine wait for the write lock inside the statement: there it is dropped.
#[tokio::test]
async fn a_statement_that_was_cancelled_is_not_kept_and_right_the_next_time() {
    let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA busy_timeout = 60000").await?) })
    });
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).hooks(hooks).build().await.unwrap();
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    user.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    let (insert, returning) = ("INSERT INTO t VALUES (?1)", "INSERT INTO t VALUES (?1) RETURNING x");
    user.execute(insert, (1,)).await.unwrap();
    assert_eq!(all(&mut user, returning, (2,)).await.unwrap(), [[Value::Integer(2)]]);
    let context = &mut Context::from_waker(Waker::noop());
    let writing = other.begin(Behavior::Immediate).await.unwrap();
    assert!(pin!(user.execute(insert, (3,))).poll(context).is_pending());
    assert_eq!(user.cached_statements(), 1, "it is in an unknown state");
    assert!(pin!(user.query(returning, (4,))).poll(context).is_pending());
    assert_eq!(user.cached_statements(), 0, "that too");
    writing.rollback().await.unwrap();
    assert_eq!(user.execute(insert, (5,)).await.unwrap(), 1);
    assert_eq!(all(&mut user, returning, (6,)).await.unwrap(), [[Value::Integer(6)]]);
    assert_eq!(integers(&mut user, "SELECT x FROM t").await, [1, 2, 5, 6]);
    drop(user);
    assert_eq!(pool.status().idle, 0, "discarded, though the next statement went well");
}

#[tokio::test]
async fn what_changes_the_schema_or_the_connection_or_bounds_a_transaction_is_not_kept() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    for sql in [
        "BEGIN",
        "COMMIT",
        " begin immediate",
        "-- a remark\nEND",
        "BEGIN",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "RELEASE s",
        "/* a remark */ ROLLBACK",
        "CREATE TABLE u (x)",
        "CREATE INDEX i ON u (x)",
        "ALTER TABLE u ADD COLUMN y",
        "DROP INDEX i",
        "DROP TABLE u",
        "CREATE TEMP TABLE u (x)",
        "PRAGMA cache_size",
        "ANALYZE",
        "EXPLAIN SELECT 1",
    ] {
        user.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(user.cached_statements(), 0, "{sql}");
    }
    for sql in ["SELECT 1", "/* a remark */ with v AS (SELECT 1) SELECT * FROM v", "VALUES (1)", "DELETE FROM t"] {
        let kept = user.cached_statements();
        user.run(sql).await.unwrap();
        assert_eq!(user.cached_statements(), kept + 1, "{sql}");
    }
}

/// Who makes tables and then fills them in one transaction prepares each statement once. What a transaction sees that began before
/// a change is not kept.
#[tokio::test]
async fn the_first_transaction_after_a_change_of_the_schema_keeps_its_statements() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    user.execute_batch("CREATE TABLE u (x)").await.unwrap();
    let mut writing = user.begin(Behavior::Immediate).await.unwrap();
    writing.execute("INSERT INTO u VALUES (?1)", (1,)).await.unwrap();
    writing.commit().await.unwrap();
    assert_eq!(user.cached_statements(), 1);
    user.run("BEGIN").await.unwrap();
    assert_eq!(integers(&mut user, "SELECT x FROM u").await, [1]);
    assert_eq!(user.cached_statements(), 2);
    pool.get().await.unwrap().run("CREATE TABLE v (x)").await.unwrap();
    assert_eq!(integers(&mut user, "SELECT x FROM u").await, [1]);
    assert_eq!(user.cached_statements(), 0);
    user.run("COMMIT").await.unwrap();
}

/// A statement that writes is kept from when its connection might: in a snapshot it must not.
#[tokio::test]
async fn a_write_that_is_kept_does_not_write_in_a_snapshot() {
    let (pool, _folder) = pool(8).await;
    let db = PooledDatabaseWriter::new(pool.clone()).await.unwrap();
    let insert = "WITH v AS (SELECT 4 AS x) INSERT INTO t SELECT x FROM v";
    let mut user = pool.get().await.unwrap();
    user.execute(insert, ()).await.unwrap();
    assert_eq!(user.cached_statements(), 1);
    drop(user);
    let refused = db
        .read(async move |snapshot| {
            let mut rows = snapshot.query(insert, ()).await?;
            rows.next().await.map(drop)
        })
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Misuse(_)), "{refused}");
    assert_eq!((pool.status().most_open, sum(&mut pool.get().await.unwrap(), 0).await), (2, 7), "on that connection");
}

#[tokio::test]
async fn a_very_long_statement_is_right_each_time() {
    let (pool, _folder) = pool(1).await;
    let mut user = pool.get().await.unwrap();
    for letters in [1 << 20, 1 << 10, 1 << 20] {
        let sql = format!("SELECT LENGTH('{}')", "x".repeat(letters));
        for _ in 0..2 {
            assert_eq!(integers(&mut user, &sql).await, [letters as i64]);
        }
    }
}

#[tokio::test]
async fn statements_that_are_very_long_do_not_pile_up() {
    let (pool, _folder) = pool(64).await;
    let mut user = pool.get().await.unwrap();
    for number in 0..4 {
        let sql = format!("SELECT {number}, '{}'", "x".repeat(1 << 20));
        user.run(&sql).await.unwrap();
        assert!(!was_kept(&mut user, &sql).await, "whoever writes values into the text runs each once");
    }
}

/// The engine keeps count of the deferred foreign key that a row violates which `OR FAIL` kept, and whatever is asked next fails for
/// that, a query, too.
#[tokio::test]
async fn a_statement_that_failed_and_kept_rows_harms_neither_the_next_nor_the_next_user() {
    let folder = tempfile::tempdir().unwrap();
    let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA foreign_keys = ON").await?) })
    });
    let builder = ConnectionPool::builder(folder.path().join("t.db")).max_connections(1).hooks(hooks);
    let pool = builder.build().await.unwrap();
    let mut guard = pool.get().await.unwrap();
    let schema = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO child VALUES (6, NULL)";
    guard.execute_batch(schema).await.unwrap();
    for (same_user, cyclic, sql) in [
        (true, false, "INSERT OR FAIL INTO child VALUES (4, 77), (6, 3)"),
        (false, false, "INSERT OR FAIL INTO child VALUES (5, 77), (6, 3) RETURNING id"),
        // One that needs the most stack.
        (true, true, "INSERT OR FAIL INTO child VALUES (7, 77), (6, 3) RETURNING id"),
    ] {
        if cyclic {
            let back = "ALTER TABLE parent ADD COLUMN child REFERENCES child (id) ON DELETE CASCADE;
                CREATE TRIGGER r AFTER DELETE ON parent BEGIN DELETE FROM child WHERE parent = OLD.id; END";
            guard.execute_batch(back).await.unwrap();
        }
        let failed = async {
            if !sql.ends_with("RETURNING id") {
                return guard.execute_batch(sql).await;
            }
            let mut rows = guard.query(sql, ()).await?;
            while rows.next().await?.is_some() {}
            Ok::<_, Error>(())
        };
        assert!(failed.await.is_err_and(|error| error.constraint().is_some()));
        if !same_user {
            drop(guard);
            guard = pool.get().await.unwrap();
        }
        let mut rows = guard.query("SELECT COUNT(*) FROM child WHERE parent = 77", ()).await.unwrap();
        let row = rows.next().await.unwrap().unwrap();
        let kept = if cyclic { 3 } else { 1 + i64::from(!same_user) };
        assert_eq!(row.get::<i64>(0).unwrap(), kept);
        assert!(rows.next().await.unwrap().is_none(), "the query comes to its end");
    }
}
