//! A transaction that its user has begun by a statement, and that a failure has ended: what was meant for it is not committed by itself.

use poolproof::{Connection, Error, Mode, PooledDatabaseWriter, Value, WriterConfig};

use super::{all, pool};

fn is_misuse<T: std::fmt::Debug>(outcome: Result<T, Error>, said: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(&error, Error::Misuse(why) if why.contains(said)), "{error}");
}

async fn holds(user: &mut Connection) -> Vec<Value> {
    all(user, "SELECT x FROM t ORDER BY x", ()).await.unwrap().concat()
}

/// What ends a transaction in the engine: an insert of one row, and a query.
const ENDING: [&str; 4] = [
    "INSERT INTO t VALUES (json('no json'))",
    "INSERT INTO t VALUES (abs(-9223372036854775807 - 1))",
    "INSERT OR ROLLBACK INTO u VALUES (1)",
    "SELECT json('no json')",
];

#[tokio::test]
async fn nothing_runs_in_a_transaction_that_a_failure_has_ended() {
    for ending in ENDING {
        for end in ["ROLLBACK", "COMMIT", "END", "BEGIN"] {
            let (pool, _folder) = pool(8).await;
            let mut user = pool.get().await.unwrap();
            user.execute_batch("CREATE TABLE u (x PRIMARY KEY); INSERT INTO u VALUES (1)").await.unwrap();
            for begin in ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT s"] {
                user.execute(begin, ()).await.unwrap();
                user.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
                assert!(all(&mut user, ending, ()).await.is_err(), "{ending}");
                assert!(
                    user.is_autocommit(),
                    "the engine goes on after {ending} now: change the README and FINDINGS.md"
                );
                is_misuse(user.execute("INSERT INTO t VALUES (4)", ()).await, "committed by itself");
                is_misuse(user.execute_batch("INSERT INTO t VALUES (4)").await, "committed by itself");
                is_misuse(user.query("SELECT 1", ()).await.map(drop), "committed by itself");
                match end {
                    "ROLLBACK" => assert_eq!(user.execute(end, ()).await.unwrap(), 0),
                    "BEGIN" => {
                        user.execute(end, ()).await.unwrap();
                        user.execute("ROLLBACK", ()).await.unwrap();
                    }
                    // Of what is there nothing can be committed.
                    _ => assert!(user.execute(end, ()).await.is_err(), "{end}"),
                }
                assert_eq!(holds(&mut user).await, [1, 2].map(Value::Integer), "{begin}, {ending}, {end}");
            }
            user.execute("INSERT INTO t VALUES (5)", ()).await.unwrap();
            // The next user finds nothing of it.
            user.execute("BEGIN", ()).await.unwrap();
            let _ = user.execute(ENDING[0], ()).await;
            drop(user);
            assert_eq!(holds(&mut pool.get().await.unwrap()).await, [1, 2, 5].map(Value::Integer));
        }
    }
}

/// In the writer's closure and in a guard's `begin`, too, as the README's table says.
#[tokio::test]
async fn nor_does_it_in_one_of_the_library() {
    let (pool, _folder) = pool(8).await;
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    let written: Result<_, Error> = db
        .write(async |tx| {
            tx.execute("INSERT INTO t VALUES (3)", ()).await?;
            assert!(tx.execute(ENDING[0], ()).await.is_err());
            is_misuse(tx.execute("INSERT INTO t VALUES (4)", ()).await, "the transaction is over");
            Ok(())
        })
        .await;
    assert!(matches!(written, Err(Error::RolledBack { .. })), "{written:?}");
    let mut user = db.pool().get().await.unwrap();
    {
        let mut tx = user.begin(poolproof::Behavior::Immediate).await.unwrap();
        tx.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
        assert!(tx.execute(ENDING[0], ()).await.is_err());
        is_misuse(tx.execute("INSERT INTO t VALUES (4)", ()).await, "the transaction is over");
        assert!(tx.commit().await.is_err());
    }
    assert_eq!(holds(&mut user).await, [1, 2].map(Value::Integer));
}

/// A batch that would end a transaction which it has not begun is refused, whole: what stays of it if it fails nobody could tell.
#[tokio::test]
async fn a_batch_ends_no_transaction_that_was_open_before() {
    for begin in ["BEGIN", "SAVEPOINT s"] {
        let (pool, _folder) = pool(8).await;
        let mut user = pool.get().await.unwrap();
        user.execute(begin, ()).await.unwrap();
        user.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
        for batch in [
            "INSERT INTO t VALUES (4); COMMIT",
            "INSERT INTO t VALUES (4); RELEASE s; INSERT INTO missing VALUES (1)",
            "ROLLBACK; INSERT INTO t VALUES (4)",
            "SAVEPOINT s; INSERT INTO t VALUES (4); RELEASE s",
        ] {
            is_misuse(user.execute_batch(batch).await, "a transaction is open");
            assert!(!user.is_autocommit(), "{batch}");
        }
        // One that ends nothing is done or undone in it.
        user.execute_batch("INSERT INTO t VALUES (5); INSERT INTO t VALUES (6)").await.unwrap();
        for batch in
            ["INSERT INTO t VALUES (7); INSERT INTO missing VALUES (1)", "INSERT INTO t VALUES (7); SELEC; COMMIT"]
        {
            user.execute_batch(batch).await.unwrap_err();
        }
        user.execute("INSERT INTO t VALUES (8)", ()).await.unwrap();
        // Nor is one in doubt that does nothing else.
        user.execute_batch(if begin == "BEGIN" { "COMMIT" } else { "SAVEPOINT u; RELEASE u; RELEASE s" })
            .await
            .unwrap();
        assert_eq!(holds(&mut user).await, [1, 2, 3, 5, 6, 8].map(Value::Integer));
        // And one that begins one itself may leave it open.
        user.execute_batch("BEGIN; INSERT INTO t VALUES (9)").await.unwrap();
        user.execute("ROLLBACK", ()).await.unwrap();
        user.execute_batch("BEGIN; INSERT INTO t VALUES (9); COMMIT").await.unwrap();
        assert_eq!(holds(&mut user).await.len(), 7);
    }
}

/// Nothing but its end is taken for one, and nothing else lets what follows be committed by itself.
#[tokio::test]
async fn only_an_end_ends_what_a_failure_has_ended() {
    for other in [
        "INSERT INTO t VALUES (4); COMMIT",
        "SAVEPOINT s; INSERT INTO t VALUES (4); RELEASE s",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "RELEASE s",
        "COMMIT; SELECT 1",
        "ROLLBACK; INSERT INTO t VALUES (4)",
    ] {
        for way in 0..3 {
            let (pool, _folder) = pool(8).await;
            let mut user = pool.get().await.unwrap();
            user.run("BEGIN").await.unwrap();
            user.run("INSERT INTO t VALUES (3)").await.unwrap();
            assert!(user.run(ENDING[0]).await.is_err());
            let outcome = match way {
                0 => user.execute(other, ()).await.map(drop),
                1 => user.run(other).await,
                _ => user.execute_batch(other).await,
            };
            assert!(matches!(outcome, Err(Error::Misuse(_))), "{other}: {outcome:?}");
            is_misuse(user.execute("INSERT INTO t VALUES (5)", ()).await, "committed by itself");
            user.run("ROLLBACK").await.unwrap();
            assert_eq!(holds(&mut user).await, [1, 2].map(Value::Integer), "{other}");
        }
    }
    // By whatever call it begins and ends.
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    user.execute("BEGIN", ()).await.unwrap();
    user.run("COMMIT").await.unwrap();
    user.execute("BEGIN", ()).await.unwrap();
    assert!(user.begin(poolproof::Behavior::Deferred).await.is_err());
    assert!(user.execute_batch("SAVEPOINT a; SELECT json('no json'); RELEASE a").await.is_err());
    is_misuse(user.execute("INSERT INTO t VALUES (5)", ()).await, "committed by itself");
    user.execute_batch("ROLLBACK").await.unwrap();
    user.execute("INSERT INTO t VALUES (6)", ()).await.unwrap();
    // Who begins anew has seen it.
    user.execute("BEGIN", ()).await.unwrap();
    assert!(user.execute(ENDING[0], ()).await.is_err());
    is_misuse(user.execute("BEGIN; SELECT 1", ()).await, "committed by itself");
    user.execute_batch("BEGIN; INSERT INTO t VALUES (7)").await.unwrap();
    user.execute("ROLLBACK", ()).await.unwrap();
    assert_eq!(holds(&mut user).await, [1, 2, 6].map(Value::Integer));
}

#[tokio::test]
async fn a_snapshot_that_a_failure_has_ended_shows_no_other_moment() {
    let (pool, _folder) = pool(8).await;
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    let read: Result<(), Error> = db
        .read(async |snapshot| {
            let mut rows = snapshot.query("SELECT json('no json')", ()).await?;
            assert!(rows.next().await.is_err());
            drop(rows);
            is_misuse(snapshot.query("SELECT x FROM t", ()).await.map(drop), "the snapshot is over");
            Ok(())
        })
        .await;
    read.unwrap();
    let again: i64 =
        db.read(async |snapshot| snapshot.query("SELECT 7", ()).await?.next().await?.unwrap().get(0)).await.unwrap();
    assert_eq!(again, 7);
}

/// Begun by a query, in a savepoint of a savepoint, or in MVCC mode, where a conflict is what ends it.
#[tokio::test]
async fn it_is_ended_however_it_was_begun() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    drop(all(&mut user, "BEGIN", ()).await.unwrap());
    assert!(user.execute(ENDING[0], ()).await.is_err());
    is_misuse(user.execute("INSERT INTO t VALUES (4)", ()).await, "committed by itself");
    user.execute("ROLLBACK", ()).await.unwrap();
    for sql in ["SAVEPOINT a", "SAVEPOINT b", "INSERT INTO t VALUES (3)", "RELEASE b"] {
        user.execute(sql, ()).await.unwrap();
    }
    assert!(user.execute(ENDING[0], ()).await.is_err());
    is_misuse(user.execute("RELEASE a", ()).await, "committed by itself");
    user.execute("ROLLBACK", ()).await.unwrap();
    assert_eq!(holds(&mut user).await, [1, 2].map(Value::Integer));
    // One that goes on after it was released inside.
    for sql in ["BEGIN", "SAVEPOINT b", "INSERT INTO t VALUES (3)", "RELEASE b", "COMMIT", "DELETE FROM t WHERE x = 3"]
    {
        user.execute(sql, ()).await.unwrap();
    }
    assert_eq!(holds(&mut user).await, [1, 2].map(Value::Integer));
    drop(user);
    let config = WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
    let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
    let (mut one, mut other) = (db.pool().get().await.unwrap(), db.pool().get().await.unwrap());
    for user in [&mut one, &mut other] {
        user.execute("BEGIN CONCURRENT", ()).await.unwrap();
    }
    one.execute("UPDATE t SET x = 7 WHERE x = 1", ()).await.unwrap();
    let conflict = other.execute("UPDATE t SET x = 8 WHERE x = 1", ()).await;
    assert!(conflict.is_err(), "{conflict:?}");
    if other.is_autocommit() {
        is_misuse(other.execute("INSERT INTO t VALUES (9)", ()).await, "committed by itself");
    }
    other.execute("ROLLBACK", ()).await.unwrap();
    one.execute("COMMIT", ()).await.unwrap();
    assert_eq!(holds(&mut other).await, [2, 7].map(Value::Integer));
}
