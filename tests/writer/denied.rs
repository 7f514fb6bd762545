//! What is not run since nobody could be told the truth of it, and what shares no commit.

use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Result};

use crate::world::{by_sqlite, writer};

fn is_misuse<T: std::fmt::Debug>(outcome: Result<T>, said: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error.cause(), Error::Misuse(why) if why.contains(said)), "{error}");
}

/// The engine forgets the log before the database is synced (`disk_faults/controls.rs`).
#[tokio::test]
async fn a_checkpoint_that_empties_the_log_is_refused() {
    let (db, _folder) = writer().await;
    let mut guard = db.pool().get().await.unwrap();
    for mode in ["(TRUNCATE)", "(restart)", " = 'truncate'", "(\"RESTART\")"] {
        for schema in ["", "main."] {
            let sql = format!("PRAGMA {schema}wal_checkpoint{mode}");
            is_misuse(guard.query(&sql, ()).await.map(drop), "wal_checkpoint(PASSIVE)");
            is_misuse(guard.execute_batch(&format!("SELECT 1; {sql}")).await, "wal_checkpoint(PASSIVE)");
            is_misuse(db.execute_batch(sql.as_str()).await, "wal_checkpoint(PASSIVE)");
        }
    }
    for mode in ["", "(PASSIVE)", "(full)"] {
        drop(guard.query(&format!("PRAGMA wal_checkpoint{mode}"), ()).await.unwrap());
    }
}

/// A neighbour that takes one violation off too many, and one that brings the parent: alone, the child is refused.
#[tokio::test]
async fn a_deferred_foreign_key_is_judged_for_each_write_by_itself() {
    for neighbour in ["DELETE FROM p WHERE id = 1", "INSERT INTO p VALUES (99)", "DELETE FROM c WHERE id = 2"] {
        for reopened in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("t.db");
            let mut db = PooledDatabaseWriter::open(&path).await.unwrap();
            db.execute_batch(
                "CREATE TABLE t (x); CREATE TABLE p (id INTEGER PRIMARY KEY);
                 CREATE TABLE c (id INTEGER PRIMARY KEY,
                                 p REFERENCES p (id) ON DELETE CASCADE deferrable initially Deferred);
                 INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1)",
            )
            .await
            .unwrap();
            if reopened {
                db.close().await;
                db = PooledDatabaseWriter::open(&path).await.unwrap();
            }
            let (first, orphan, last) = tokio::join!(
                db.execute("INSERT INTO t VALUES (1)", ()),
                db.execute("INSERT INTO c VALUES (2, 99)", ()),
                db.execute(neighbour, ()),
            );
            assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
            assert!(orphan.is_err_and(|error| error.constraint().is_some()), "{neighbour}");
            db.close().await;
            assert_eq!(by_sqlite(&path), [1]);
            let sqlite = rusqlite::Connection::open(&path).unwrap();
            let violations: i64 =
                sqlite.query_row("SELECT count(*) FROM pragma_foreign_key_check", (), |row| row.get(0)).unwrap();
            assert_eq!(violations, 0, "{neighbour}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_takes_no_number_of_a_sequence() {
    let (db, _folder) = writer().await;
    db.execute("CREATE SEQUENCE s", ()).await.unwrap();
    for sql in ["SELECT nextval('s')", "SELECT setval('s', 50)", "SELECT 1 WHERE EXISTS (SELECT nextval('s'))"] {
        is_misuse(
            db.read(async move |snapshot| snapshot.query(sql, ()).await.map(drop)).await,
            "a snapshot only reads",
        );
    }
    // Through a view nobody would see it.
    for sql in ["CREATE VIEW v AS SELECT nextval('s') AS x", "CREATE VIEW v AS SELECT 1 WHERE setval('s', 3)"] {
        is_misuse(db.execute(sql, ()).await, "would write wherever it is read");
        is_misuse(db.pool().get().await.unwrap().execute_batch(sql).await, "would write wherever it is read");
    }
    let next = db.write(async |tx| {
        let mut rows = tx.query("SELECT nextval('s')", ()).await?;
        rows.next().await?.expect("a row").get::<i64>(0)
    });
    assert_eq!(next.await.unwrap().value, 1);
}

#[tokio::test]
async fn a_column_is_not_altered_into_a_database_that_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let db = PooledDatabaseWriter::open(&path).await.unwrap();
    db.execute("CREATE TABLE t (x PRIMARY KEY)", ()).await.unwrap();
    for sql in
        ["ALTER TABLE t ALTER COLUMN x TO y INT", "INSERT INTO t VALUES (1); ALTER TABLE t ALTER COLUMN x TO y INT"]
    {
        is_misuse(db.execute_batch(sql).await, "ALTER COLUMN");
        is_misuse(db.pool().get().await.unwrap().execute_batch(sql).await, "ALTER COLUMN");
    }
    db.close().await;
    drop(db);
    assert!(by_sqlite(&path).is_empty());
    // One that another tool has made is told as an error, though the engine panics.
    let raw = turso::Builder::new_local(&path.to_string_lossy()).build().await.unwrap();
    raw.connect().unwrap().execute("ALTER TABLE t ALTER COLUMN x TO y INT", ()).await.unwrap();
    drop(raw);
    let error = ConnectionPool::open(&path).await.unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error}");
}

#[tokio::test]
async fn a_parameter_that_is_named_by_its_number_and_not_given_is_missed() {
    let (db, _folder) = writer().await;
    let two = "INSERT INTO t SELECT ?1 + ?2";
    is_misuse(db.execute(two, [("?1", 5)]).await, "the statement has ?2");
    is_misuse(db.execute(two, [("?1", 5), ("?1", 6)]).await, "the statement has ?2");
    db.execute(two, [("?2", 5), ("?1", 6)]).await.unwrap();
    db.execute("INSERT INTO t SELECT ?3", [("?3", 5)]).await.unwrap();
}
