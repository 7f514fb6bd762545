//! A statement that is kept while the schema changes: by whom, and what becomes of the change.

use poolproof::Behavior;

use super::{SUM, all, integers, pool, sum};

/// Who changes the schema.
#[derive(Clone, Copy, Debug)]
enum By {
    Another,
    Itself,
    ItsTransaction,
}

#[tokio::test]
async fn a_statement_is_right_after_the_schema_changed() {
    for by in [By::Another, By::Itself, By::ItsTransaction] {
        let (pool, _folder) = pool(8).await;
        let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        assert_eq!(sum(&mut user, 0).await, 3);
        for (change, then) in [
            ("ALTER TABLE t ADD COLUMN y INTEGER", 3),
            ("CREATE INDEX i ON t (x)", 3),
            ("DROP INDEX i", 3),
            ("DROP TABLE t; CREATE TABLE t (y INTEGER, x INTEGER); INSERT INTO t VALUES (9, 7)", 7),
            ("ALTER TABLE t RENAME COLUMN x TO z; ALTER TABLE t RENAME COLUMN y TO x", 9),
            ("ALTER TABLE t RENAME TO u; CREATE TABLE t (x INTEGER)", 0),
            ("DROP TABLE t; CREATE VIEW t AS SELECT x + 1 AS x FROM u", 10),
        ] {
            match by {
                By::Another => other.execute_batch(change).await.unwrap(),
                By::Itself => user.execute_batch(change).await.unwrap(),
                By::ItsTransaction => {
                    let mut transaction = user.begin(Behavior::Immediate).await.unwrap();
                    transaction.execute_batch(change).await.unwrap();
                    let rows = transaction.query(SUM, (0,)).await.unwrap().next().await.unwrap();
                    assert_eq!(rows.unwrap().get::<i64>(0).unwrap(), then, "{by:?}, before its commit: {change}");
                    transaction.commit().await.unwrap();
                }
            }
            assert_eq!(sum(&mut user, 0).await, then, "{by:?}: {change}");
        }
    }
}

#[tokio::test]
async fn a_statement_fails_while_its_table_is_gone_and_works_again_when_that_is_back() {
    let (pool, _folder) = pool(8).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    for (gone, back) in [
        ("DROP TABLE t", "CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1), (2)"),
        ("ALTER TABLE t RENAME COLUMN x TO z", "ALTER TABLE t RENAME COLUMN z TO x"),
        ("ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t"),
    ] {
        assert_eq!(sum(&mut user, 0).await, 3);
        other.execute_batch(gone).await.unwrap();
        let error = all(&mut user, SUM, (0,)).await.unwrap_err();
        assert!(error.to_string().contains("no such"), "{gone}: {error}");
        other.execute_batch(back).await.unwrap();
        assert_eq!(sum(&mut user, 0).await, 3, "{back}");
    }
}

#[tokio::test]
async fn rows_have_the_columns_that_the_table_has_now() {
    for by in [By::Another, By::Itself] {
        let (pool, _folder) = pool(8).await;
        let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        let query = "SELECT * FROM t";
        assert_eq!(integers(&mut user, query).await, [1, 2]);
        for (change, then) in [
            ("ALTER TABLE t ADD COLUMN y INTEGER DEFAULT 7", &[1, 7, 2, 7][..]),
            ("ALTER TABLE t DROP COLUMN y", &[1, 2]),
        ] {
            let connection = if let By::Another = by { &mut other } else { &mut user };
            connection.execute_batch(change).await.unwrap();
            assert_eq!(integers(&mut user, query).await, then, "{by:?}: {change}");
        }
    }
}

#[tokio::test]
async fn a_schema_that_was_rolled_back_is_forgotten() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    assert_eq!(sum(&mut user, 0).await, 3);
    let mut transaction = user.begin(Behavior::Immediate).await.unwrap();
    let other_t = "DROP TABLE t; CREATE TABLE t (y INTEGER, x INTEGER); INSERT INTO t VALUES (10, 20)";
    transaction.execute_batch(other_t).await.unwrap();
    let row = transaction.query(SUM, (0,)).await.unwrap().next().await.unwrap();
    assert_eq!(row.unwrap().get::<i64>(0).unwrap(), 20);
    transaction.rollback().await.unwrap();
    assert_eq!(sum(&mut user, 0).await, 3);
}

/// The engine tells schemas apart by a number that a rollback takes back, and that the next change uses again.
///
/// ```text
/// version 2: t (x)
/// BEGIN, t becomes (y, x): version 4      the statement is prepared for version 4
/// ROLLBACK: version 2, t (x)
/// two other changes: version 4, t (x)     the statement seems to fit, and reads the wrong column
/// ```
#[tokio::test]
async fn a_schema_that_was_rolled_back_is_not_taken_for_a_later_one() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    for (table, end) in [("a", "ROLLBACK"), ("b", "ROLLBACK TO s; COMMIT")] {
        let new_t = "DROP TABLE t; CREATE TABLE t (y INTEGER, x INTEGER); INSERT INTO t VALUES (10, 20)";
        user.execute_batch(&format!("BEGIN; SAVEPOINT s; {new_t}")).await.unwrap();
        assert_eq!(sum(&mut user, 0).await, 20);
        user.execute_batch(end).await.unwrap();
        user.execute_batch(&format!("CREATE TABLE {table} (x); CREATE TABLE {table}{table} (x)")).await.unwrap();
        assert_eq!(sum(&mut user, 0).await, 3, "{end}");
    }
}

/// ```text
/// version 1: the statement is prepared
/// version 2                                   BEGIN, and a first read
/// version 3                                   the statement: prepared again, for version 3
/// ```
#[tokio::test]
async fn a_transaction_that_began_before_a_change_of_the_schema_reads_on() {
    let (pool, _folder) = pool(8).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!(sum(&mut user, 0).await, 3);
    other.execute("CREATE TABLE a (x)", ()).await.unwrap();
    user.execute("BEGIN", ()).await.unwrap();
    assert_eq!(integers(&mut user, "SELECT COUNT(*) FROM t").await, [2]);
    other.execute("CREATE TABLE b (x)", ()).await.unwrap();
    assert_eq!(sum(&mut user, 0).await, 3);
}

#[tokio::test]
async fn a_statement_sees_a_temporary_table_come_and_go() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    assert_eq!(sum(&mut user, 0).await, 3);
    user.execute("CREATE TEMP TABLE t (x INTEGER)", ()).await.unwrap();
    assert_eq!(sum(&mut user, 0).await, 0, "it hides the other");
    user.execute("INSERT INTO t VALUES (8)", ()).await.unwrap();
    assert_eq!(sum(&mut user, 0).await, 8);
    user.execute("DROP TABLE temp.t", ()).await.unwrap();
    assert_eq!(sum(&mut user, 0).await, 3);
    let attached = user.execute("ATTACH ':memory:' AS other", ()).await.unwrap_err();
    assert!(attached.to_string().contains("experimental"), "attached databases need a test here: {attached}");
}

/// A change that was never ended is over with its connection: the others keep statements again.
#[tokio::test]
async fn a_change_that_was_given_up_does_not_switch_the_cache_off() {
    let (pool, _folder) = pool(8).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    user.execute_batch("BEGIN; CREATE TABLE u (x INTEGER)").await.unwrap();
    assert_eq!((sum(&mut other, 0).await, other.cached_statements()), (3, 0), "nothing is kept while it lasts");
    drop(user);
    assert_eq!((sum(&mut other, 0).await, other.cached_statements()), (3, 1));
}

/// What writes has run when its rows can be fetched, a change of the schema, too.
#[tokio::test]
async fn a_change_that_gives_rows_has_run_before_they_are_fetched() {
    let (pool, _folder) = pool(8).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let mut rows = user.query("CREATE TABLE u (x INTEGER)", ()).await.unwrap();
    assert_eq!((sum(&mut other, 0).await, other.cached_statements()), (3, 1));
    assert!(rows.next().await.unwrap().is_none());
    drop(rows);
    assert_eq!(integers(&mut other, "SELECT COUNT(*) FROM u").await, [0]);
}

/// What is prepared in a transaction that still sees the old schema is not for those who see the new one.
#[tokio::test]
async fn nothing_is_kept_from_a_transaction_older_than_the_schema() {
    let (pool, _folder) = pool(8).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let mut transaction = user.begin(Behavior::Deferred).await.unwrap();
    transaction.query("SELECT x FROM t", ()).await.unwrap().next().await.unwrap();
    other.execute_batch("ALTER TABLE t ADD COLUMN y INTEGER").await.unwrap();
    transaction.query(SUM, (0,)).await.unwrap().next().await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(user.cached_statements(), 0);
    assert_eq!((sum(&mut user, 0).await, user.cached_statements()), (3, 1), "and from then on it is");
}
