//! What `execute` and a transaction take, and what they refuse before it runs.

use std::time::Duration;

use poolproof::{Ack, ConnectionPool, Error, PooledConnection, Priority, Result, WriterConfig};

use crate::world::{column, hold, patient, queue, rows, writer, writer_of};

#[tokio::test]
async fn a_write_inside_a_write_is_refused_instead_of_waiting_for_itself() {
    let (db, _folder) = writer().await;
    let inner = db.clone();
    let outcome: Result<Ack<Ack<u64>>> =
        db.write(async move |_| inner.execute("INSERT INTO t VALUES (1)", ()).await).await;
    assert!(matches!(outcome.as_ref().unwrap_err().cause(), Error::Misuse(_)), "{outcome:?}");
    assert_eq!(rows(&db).await, 0);
}

#[tokio::test]
async fn a_transaction_in_pieces_is_refused_and_leaves_nothing_open() {
    let (db, _folder) = writer().await;
    let outcome = db.execute("BEGIN", ()).await;
    assert!(matches!(outcome.as_ref().unwrap_err().cause(), Error::Misuse(_)), "{outcome:?}");
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!((rows(&db).await, db.status().pool.in_use), (1, 1));
}

#[tokio::test]
async fn a_pragma_does_not_reach_the_next_user() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(1).build().await.unwrap();
    let synchronous = async || {
        let mut guard = pool.get().await.unwrap();
        let mut rows = guard.query("PRAGMA synchronous", ()).await.unwrap();
        rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap()
    };
    assert_eq!(synchronous().await, 2, "FULL");
    let mut guard = pool.get().await.unwrap();
    let mut rows = guard.query("PRAGMA synchronous = OFF", ()).await.unwrap();
    while rows.next().await.unwrap().is_some() {}
    drop(rows);
    drop(guard);
    assert_eq!(synchronous().await, 2, "FULL again");
}

#[tokio::test]
async fn a_second_statement_is_refused_not_dropped() {
    let (db, _folder) = writer().await;
    let two = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)";
    assert!(matches!(db.execute(two, ()).await.unwrap_err().cause(), Error::Misuse(_)));
    let in_transaction: Result<Ack<u64>> = db.write(async move |tx| tx.execute(two, ()).await).await;
    assert!(matches!(in_transaction.unwrap_err().cause(), Error::Misuse(_)));
    let mut guard = db.pool().get().await.unwrap();
    assert!(matches!(guard.execute(two, ()).await, Err(Error::Misuse(_))));
    assert!(matches!(guard.query("SELECT 1; SELECT 2", ()).await.map(drop), Err(Error::Misuse(_))));
    drop(guard);
    assert_eq!(rows(&db).await, 0);
    db.execute_batch(two).await.unwrap();
    assert_eq!(rows(&db).await, 2);
}

#[tokio::test]
async fn a_transaction_is_not_ended_by_a_statement() {
    let (db, _folder) = writer().await;
    for sql in ["COMMIT", "ROLLBACK", " end;", "BEGIN", "/* so */ commit"] {
        let outcome: Result<Ack<u64>> = db
            .write(async move |tx| {
                tx.execute("INSERT INTO t VALUES (1)", ()).await?;
                tx.execute(sql, ()).await
            })
            .await;
        assert!(matches!(outcome, Err(Error::Misuse(_))), "{sql}: {outcome:?}");
    }
    assert_eq!(rows(&db).await, 0);
    db.write(async |tx| {
        tx.execute("SAVEPOINT s", ()).await?;
        tx.execute("INSERT INTO t VALUES (1)", ()).await?;
        tx.execute("ROLLBACK TO s", ()).await?;
        tx.execute("INSERT INTO t VALUES (2)", ()).await
    })
    .await
    .unwrap();
    assert_eq!(rows(&db).await, 1);
}

/// The engine would write the rows and then fail on the first one it gives: an error for a write that took effect.
#[tokio::test]
async fn a_statement_that_gives_rows_is_refused_before_it_writes_any() {
    let (db, _folder) = writer().await;
    let insert = "INSERT INTO t VALUES (1), (2) RETURNING x";
    for _ in 0..2 {
        assert!(matches!(db.execute(insert, ()).await.unwrap_err().cause(), Error::Misuse(_)));
        assert!(matches!(db.pool().get().await.unwrap().execute(insert, ()).await, Err(Error::Misuse(_))));
        let refused = db.write(async move |tx| Ok::<_, Error>(tx.execute(insert, ()).await.is_err())).await;
        assert!(refused.unwrap().value);
        assert_eq!(rows(&db).await, 0);
    }
}

#[tokio::test]
async fn a_trigger_whose_body_has_a_case_is_one_statement() {
    let (db, _folder) = writer().await;
    let trigger = "CREATE TRIGGER a AFTER INSERT ON t BEGIN UPDATE t SET x = CASE WHEN x = 1 THEN 7 ELSE x END; END";
    db.execute(trigger, ()).await.unwrap();
    db.execute_batch(trigger.replace(" a ", " b ") + "; INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(rows(&db).await, 1);
    let two = format!("{}; DELETE FROM t", trigger.replace(" a ", " c "));
    assert!(matches!(db.execute(two, ()).await.unwrap_err().cause(), Error::Misuse(_)), "what comes after it is seen");
}

#[tokio::test]
async fn a_prepared_statement_takes_a_limit_a_priority_and_room_if_there_is_some() {
    let (db, _folder) = writer_of(WriterConfig { queue: 1, ..patient() }).await;
    let insert = db.prepare::<(i64,)>("INSERT INTO t VALUES (?1)").await.unwrap();
    let held = hold(&db).await;
    let limit = Duration::from_millis(1);
    // By the handle that it was prepared by, or by itself.
    let by_its_handle = db.within(limit).prepare::<(i64,)>("INSERT INTO t VALUES (?1)").await.unwrap();
    for late in [by_its_handle, insert.within(limit)] {
        let refused = late.execute((0,)).await.unwrap_err();
        assert!(matches!(refused.cause(), Error::Deadline { limit: told, .. } if *told == limit), "{refused:?}");
    }
    let background = insert.priority(Priority::Background);
    let first = queue(&db, |_| async move { background.execute((1,)).await }).await;
    let normal = insert.clone();
    let second = queue(&db, |_| async move { normal.try_execute((2,)).await }).await;
    assert!(matches!(insert.try_execute((3,)).await.unwrap_err().cause(), Error::Full(1)));
    held.let_go().await;
    for write in [first, second] {
        assert_eq!(write.await.unwrap().unwrap().value, 1);
    }
    assert_eq!(column(&db, "t").await, [2, 1], "it was overtaken");
    assert_eq!(insert.within(Duration::ZERO).execute((4,)).await.unwrap().value, 1);
}

/// A comment that ends where it begins, to whoever reads it wrongly: what is behind it is another statement, and the end of a
/// transaction.
#[tokio::test]
async fn what_stands_behind_an_odd_comment_is_seen() {
    let (db, _folder) = writer().await;
    let odd = "/*/ ' /*/";
    let two = format!("INSERT INTO t VALUES (1) {odd} ; INSERT INTO t VALUES (2)");
    assert!(matches!(db.execute(two.as_str(), ()).await.unwrap_err().cause(), Error::Misuse(_)));
    assert_eq!(rows(&db).await, 0);
    for end in [format!("{odd} COMMIT"), format!("INSERT INTO t VALUES (3) {odd} ; COMMIT"), format!("{odd}{odd}END;")]
    {
        let inside = end.clone();
        let by_closure = async {
            let outcome: Result<Ack<()>> = db
                .write(async move |tx| {
                    tx.execute("INSERT INTO t VALUES (1)", ()).await?;
                    let refused = tx.execute(&inside, ()).await.map(drop);
                    assert!(matches!(refused, Err(Error::Misuse(_))), "{inside}: {refused:?}");
                    Err(Error::Closed)
                })
                .await;
            outcome.map(drop).unwrap_err();
        };
        let insert = || db.execute("INSERT INTO t VALUES (7)", ());
        let ((), one, other) = tokio::join!(by_closure, insert(), insert());
        assert_eq!((one.unwrap().value, other.unwrap().value), (1, 1));
        assert_eq!(column(&db, "t").await, [7, 7], "{end}");
        db.execute("DELETE FROM t", ()).await.unwrap();
    }
    db.execute_batch(two).await.unwrap();
    assert_eq!(column(&db, "t").await, [1, 2]);
}

#[tokio::test]
async fn a_trigger_on_columns_called_start_and_end_is_made_and_fires() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE source (start, end); CREATE TABLE ranges (start, end)").await.unwrap();
    let trigger = "CREATE TRIGGER g AFTER INSERT ON source BEGIN INSERT INTO ranges (start, end) VALUES (NEW.start, NEW.end); END";
    db.execute(trigger, ()).await.unwrap();
    db.execute("INSERT INTO source VALUES (3, 4)", ()).await.unwrap();
    let mut guard = db.pool().get().await.unwrap();
    let row = guard.query("SELECT start, end FROM ranges", ()).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!((row.get::<i64>(0).unwrap(), row.get::<i64>(1).unwrap()), (3, 4));
}

/// A statement that writes and gives rows has run before the first of them is given, whatever becomes of those.
#[tokio::test]
async fn rows_that_nobody_fetches_are_written() {
    let (db, _folder) = writer().await;
    db.write(async |tx| {
        drop(tx.query("INSERT INTO t VALUES (1), (2), (3) RETURNING x", ()).await?);
        let mut rows = tx.query("INSERT INTO t VALUES (4), (5) RETURNING x", ()).await?;
        rows.next().await?;
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    assert_eq!(column(&db, "t").await, [1, 2, 3, 4, 5]);
}

/// So has everything else that does more than read, though it gives no rows.
#[tokio::test]
async fn what_is_asked_as_a_query_and_does_more_has_run() {
    let (db, folder) = writer().await;
    db.write(async |tx| tx.query("PRAGMA user_version = 7", ()).await.map(drop)).await.unwrap();
    let mut guard = db.pool().get().await.unwrap();
    let number = async |guard: &mut PooledConnection, sql: &str| {
        let mut rows = guard.query(sql, ()).await.unwrap();
        rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap()
    };
    assert_eq!(number(&mut guard, "PRAGMA user_version").await, 7);
    drop(guard.query("BEGIN", ()).await.unwrap());
    assert!(!guard.is_autocommit());
    guard.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    drop(guard.query("SAVEPOINT s", ()).await.unwrap());
    guard.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    drop(guard.query("ROLLBACK TO s", ()).await.unwrap());
    drop(guard.query("COMMIT", ()).await.unwrap());
    assert!(guard.is_autocommit());
    // What it comes to is told, though nobody asks for a row.
    let schema = "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)";
    guard.execute_batch(schema).await.unwrap();
    drop(guard.query("BEGIN", ()).await.unwrap());
    guard.execute("INSERT INTO child VALUES (7)", ()).await.unwrap();
    let outcome = guard.query("COMMIT", ()).await.map(drop);
    assert!(outcome.as_ref().is_err_and(|error| error.to_string().contains("FOREIGN KEY")), "{outcome:?}");
    drop(guard.query("ROLLBACK", ()).await.unwrap());
    let copy = folder.path().join("copy.db");
    drop(guard.query(&format!("VACUUM INTO '{}'", copy.display()), ()).await.unwrap());
    drop(guard.query("CREATE TABLE made (a)", ()).await.unwrap());
    assert!(copy.exists(), "there is no copy");
    assert_eq!(number(&mut guard, "SELECT count(*) FROM made").await, 0);
    drop(guard);
    assert_eq!(column(&db, "t").await, [1]);
}

/// A query has begun when it returns: whoever changes the schema then changes neither its columns nor its rows.
#[tokio::test]
async fn a_change_of_the_schema_between_a_query_and_its_first_row_changes_nothing_of_it() {
    for (change, in_a_transaction) in [
        ("ALTER TABLE u DROP COLUMN a", false),
        ("ALTER TABLE u ADD COLUMN d DEFAULT 9", false),
        ("ALTER TABLE u DROP COLUMN a", true),
        ("ALTER TABLE u RENAME COLUMN a TO z", true),
    ] {
        let (db, _folder) = writer().await;
        db.execute_batch("CREATE TABLE u (a, b, c); INSERT INTO u VALUES (1, 2, 3), (4, 5, 6)").await.unwrap();
        let (mut one, mut other) = (db.pool().get().await.unwrap(), db.pool().get().await.unwrap());
        if in_a_transaction {
            one.execute("BEGIN", ()).await.unwrap();
        }
        let mut rows = one.query("SELECT * FROM u", ()).await.unwrap();
        assert_eq!(rows.column_names(), ["a", "b", "c"]);
        other.execute(change, ()).await.unwrap();
        let mut found = Vec::new();
        while let Some(row) = rows.next().await.unwrap() {
            found.push([0, 1, 2].map(|column| row.get::<i64>(column).unwrap()));
        }
        assert_eq!(
            (rows.column_names(), found),
            (["a", "b", "c"].map(str::to_owned).to_vec(), vec![[1, 2, 3], [4, 5, 6]]),
            "{change}"
        );
    }
}

/// On a guard its commit is inside it: where that fails, it has failed.
#[tokio::test]
async fn a_statement_that_gives_rows_and_cannot_be_committed_fails() {
    let (db, _folder) = writer().await;
    let mut guard = db.pool().get().await.unwrap();
    guard.run("PRAGMA foreign_keys = ON").await.unwrap();
    let schema = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)";
    guard.execute_batch(schema).await.unwrap();
    let orphans = "INSERT INTO child VALUES (1, 77), (2, 77) RETURNING id";
    let outcome = guard.query(orphans, ()).await.map(drop);
    assert!(outcome.as_ref().is_err_and(|error| error.to_string().contains("FOREIGN KEY")), "{outcome:?}");
    let mut rows = guard.query("SELECT count(*) FROM child", ()).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), 0);
}

#[tokio::test]
async fn what_is_prepared_with_an_error_in_it_is_told_that() {
    let (db, _folder) = writer().await;
    let error = db.prepare::<()>("INSRT INTO t VALUES (1)").await.map(drop).unwrap_err();
    assert!(error.to_string().contains("INSRT"), "{error}");
    for none in ["", "SELECT 1", "CREATE TABLE u (x)"] {
        let error = db.prepare::<()>(none).await.map(drop).unwrap_err();
        assert!(matches!(error.cause(), Error::Misuse(_) | Error::Engine(_)), "{none}: {error}");
    }
}
