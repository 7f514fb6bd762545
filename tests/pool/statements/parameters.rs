//! A statement is given as many parameters as it has, or it does not run: the engine would take what is missing for NULL.

use poolproof::{Ack, Error, PooledDatabaseWriter, Result, Value};

use super::{all, pool};

/// Statements, by how many parameters they have.
const STATEMENTS: &[(&str, usize)] = &[
    ("INSERT INTO t VALUES (7)", 0),
    ("INSERT INTO t VALUES (?1)", 1),
    ("INSERT INTO t SELECT ?1 + ?1 WHERE 1", 1),
    ("UPDATE t SET x = ? WHERE x = ?", 2),
    ("UPDATE t SET x = :new WHERE x = @old", 2),
    ("DELETE FROM t WHERE x IN (?1, ?2, '?', :a, :a)", 3),
    // The two before it are there, though nobody uses them.
    ("DELETE FROM t WHERE x = ?3", 3),
];

fn says(refused: &Error, has: usize, given: usize) {
    let s = if has == 1 { "" } else { "s" };
    let were = if given == 1 { "was" } else { "were" };
    let text = format!("the statement has {has} parameter{s}, {given} {were} given");
    assert!(matches!(refused.cause(), Error::Misuse(_)), "{refused:?}");
    assert!(refused.to_string().contains(&text), "{refused}, not {text}");
}

#[tokio::test]
async fn a_statement_runs_with_as_many_parameters_as_it_has_and_with_no_other_number() {
    for cache in [0, 8] {
        let (pool, _folder) = pool(cache).await;
        let mut user = pool.get().await.unwrap();
        for &(sql, has) in STATEMENTS {
            // Twice, so that the second time finds it kept.
            for given in (0..=5).chain(0..=5) {
                let values = vec![Value::Integer(9); given];
                let transaction = user.begin(poolproof::Behavior::Deferred).await;
                let mut transaction = transaction.unwrap();
                match transaction.execute(sql, values.clone()).await {
                    Ok(_) => assert_eq!(given, has, "{sql}"),
                    Err(refused) => says(&refused, has, given),
                }
                transaction.rollback().await.unwrap();
                if given != has {
                    says(&user.execute(sql, values.clone()).await.unwrap_err(), has, given);
                    says(&user.query(sql, values).await.map(drop).unwrap_err(), has, given);
                }
            }
        }
        assert_eq!(all(&mut user, "SELECT x FROM t", ()).await.unwrap().concat(), [1, 2].map(Value::Integer));
    }
}

#[tokio::test]
async fn whoever_names_parameters_names_them_all() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    let sql = "SELECT :a, @b, :a";
    says(&user.query(sql, [(":a", 1)]).await.map(drop).unwrap_err(), 2, 1);
    says(&user.query(sql, [(":a", 1), (":a", 2)]).await.map(drop).unwrap_err(), 2, 1);
    let row = all(&mut user, sql, [(":a", 1), ("@b", 2)]).await.unwrap();
    assert_eq!(row.concat(), [1, 2, 1].map(Value::Integer));
    // Nothing is known of those that it skips: they may not be there.
    assert_eq!(all(&mut user, "SELECT ?3", [("?3", 5)]).await.unwrap().concat(), [Value::Integer(5)]);
    // Those that it has it is given, by whatever names; also where a name in brackets might be taken for one.
    user.execute_batch("CREATE TABLE u (a, [b ?9], c)").await.unwrap();
    for (sql, missing) in [
        ("INSERT INTO u VALUES (?1, ?2, 0)", "?2"),
        ("INSERT INTO u VALUES (?, ?, ?)", "?2"),
        ("INSERT INTO u (a, [b ?9], c) VALUES (?1, ?2, ?3)", "?2"),
        ("UPDATE u SET [b ?9] = ?1 WHERE a = 1 AND ?2 IS NULL", "?2"),
        ("SELECT ?1, :a", ":a"),
    ] {
        let refused = user.query(sql, [("?1", 1)]).await.map(drop).unwrap_err();
        let says = format!("the statement has {missing}, which was not given");
        assert!(matches!(refused.cause(), Error::Misuse(_)) && refused.to_string().contains(&says), "{sql}: {refused}");
    }
    user.execute("INSERT INTO u (a, [b ?9], c) VALUES (?1, ?2, ?1)", [("?1", 1), ("?2", 2)]).await.unwrap();
    assert_eq!(all(&mut user, "SELECT * FROM u", ()).await.unwrap().concat(), [1, 2, 1].map(Value::Integer));
}

#[tokio::test]
async fn a_thousand_parameters_are_counted() {
    let (pool, _folder) = pool(8).await;
    let mut user = pool.get().await.unwrap();
    let sql = format!("SELECT 1 WHERE 1 IN ({})", vec!["?"; 1_000].join(", "));
    for given in [0, 1, 999, 1_001, 5_000] {
        says(&user.query(&sql, vec![1; given]).await.map(drop).unwrap_err(), 1_000, given);
    }
    assert_eq!(all(&mut user, &sql, vec![1; 1_000]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_door_refuses_too_few_and_nothing_is_written() {
    let (pool, _folder) = pool(8).await;
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    const INSERT: &str = "INSERT INTO t VALUES (?1)";
    says(&db.execute(INSERT, ()).await.unwrap_err(), 1, 0);
    says(&db.prepare::<()>(INSERT).await.unwrap().execute(()).await.unwrap_err(), 1, 0);
    let written: Result<Ack<u64>> = db.write(async |tx| tx.execute(INSERT, ()).await).await;
    says(&written.unwrap_err(), 1, 0);
    let read: Result<()> = db.read(async |snapshot| snapshot.query("SELECT ?1, ?2", (1,)).await.map(drop)).await;
    says(&read.unwrap_err(), 2, 1);
    says(&db.query_cached("SELECT x FROM t WHERE x = ?1", ()).await.map(drop).unwrap_err(), 1, 0);
    for batch in ["INSERT INTO t VALUES (?1)", "INSERT INTO t VALUES (3); DELETE FROM t WHERE x = :x"] {
        let refused = db.execute_batch(batch).await.unwrap_err();
        assert!(matches!(refused.cause(), Error::Misuse(_)) && refused.to_string().contains("execute_batch gives no"));
        let refused = db.pool().get().await.unwrap().execute_batch(batch).await.unwrap_err();
        assert!(matches!(refused, Error::Misuse(_)), "{refused}");
    }
    let mut user = db.pool().get().await.unwrap();
    assert_eq!(all(&mut user, "SELECT x FROM t", ()).await.unwrap().concat(), [1, 2].map(Value::Integer));
}

/// Nothing of it is left in the transaction that it shares with others.
#[tokio::test]
async fn a_write_with_too_few_parameters_does_not_break_its_batch() {
    let (pool, _folder) = pool(8).await;
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    let insert = |given: usize| db.execute("INSERT INTO t VALUES (?1)", vec![5; given]);
    let (first, refused, last) = tokio::join!(insert(1), insert(0), insert(1));
    says(&refused.unwrap_err(), 1, 0);
    assert!(first.is_ok() && last.is_ok());
    assert_eq!(db.status().broken_batches, 0);
}
