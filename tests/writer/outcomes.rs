//! What callers are told: which constraint refused them, and whether anything was written.

use poolproof::{Ack, Connection, ConstraintKind, Error, PooledDatabaseWriter, Result};

use crate::world::{hold, queue, rows, writer};

const TABLES: &str = "CREATE TABLE one (x INTEGER UNIQUE, y);
                      CREATE TABLE two (a, b, UNIQUE (a, b));
                      CREATE TABLE number (x INTEGER PRIMARY KEY);
                      CREATE TABLE name (x TEXT PRIMARY KEY);
                      CREATE TABLE pair (a, b, PRIMARY KEY (a, b));
                      CREATE TABLE filled (x INTEGER NOT NULL);
                      CREATE TABLE small (x INTEGER CHECK (x < 10));
                      CREATE TABLE child (x INTEGER REFERENCES number (x));
                      CREATE TABLE late (x INTEGER REFERENCES number (x) DEFERRABLE INITIALLY DEFERRED);
                      CREATE TABLE strict (x INTEGER) STRICT;
                      INSERT INTO one VALUES (1, 1);
                      INSERT INTO two VALUES (1, 1);
                      INSERT INTO number VALUES (1);
                      INSERT INTO name VALUES ('a');
                      INSERT INTO pair VALUES (1, 1)";

/// A table, and columns of it.
type Place = Option<(&'static str, &'static [&'static str])>;

/// A statement that a constraint refuses, what kind that is of, and where.
const REFUSED: &[(&str, ConstraintKind, Place)] = &[
    ("INSERT INTO one VALUES (1, 2)", ConstraintKind::Unique, Some(("one", &["x"]))),
    ("INSERT INTO two VALUES (1, 1)", ConstraintKind::Unique, Some(("two", &["a", "b"]))),
    ("INSERT INTO number VALUES (1)", ConstraintKind::Unique, Some(("number", &["x"]))),
    ("INSERT INTO name VALUES ('a')", ConstraintKind::Unique, Some(("name", &["x"]))),
    ("INSERT INTO pair VALUES (1, 1)", ConstraintKind::Unique, Some(("pair", &["a", "b"]))),
    ("INSERT INTO one (rowid, x) VALUES (1, 7)", ConstraintKind::Unique, Some(("one", &["rowid"]))),
    ("INSERT INTO filled VALUES (NULL)", ConstraintKind::NotNull, Some(("filled", &["x"]))),
    ("INSERT INTO small VALUES (10)", ConstraintKind::Check, None),
    ("INSERT INTO child VALUES (7)", ConstraintKind::ForeignKey, None),
    ("INSERT INTO late VALUES (7)", ConstraintKind::ForeignKey, None),
    ("INSERT INTO strict VALUES ('text')", ConstraintKind::Datatype, None),
    ("INSERT INTO number VALUES ('text')", ConstraintKind::Datatype, None),
];

fn is_as_expected(error: &Error, kind: ConstraintKind, place: Place, what: &str) {
    let constraint = error.constraint().unwrap_or_else(|| panic!("{what}: {error:?}"));
    let columns: Vec<&str> = constraint.columns.iter().map(String::as_str).collect();
    let found = constraint.table.as_deref().map(|table| (table, columns.as_slice()));
    assert_eq!((constraint.kind, found), (kind, place), "{what}");
    assert!(!error.is_contention(), "{what}: {error:?}");
}

/// By itself, in a batch and in a closure, with its own words for a conflict or with none, and on a guard of the pool.
#[tokio::test]
async fn a_constraint_is_told_by_its_type_wherever_it_refuses() {
    let (db, _folder) = writer().await;
    db.execute_batch(TABLES).await.unwrap();
    for (sql, kind, place) in REFUSED {
        for conflict in ["INSERT", "INSERT OR ABORT", "INSERT OR FAIL", "INSERT OR ROLLBACK"] {
            let sql = sql.replacen("INSERT", conflict, 1);
            let before = db.status();
            let error = db.execute(sql.as_str(), ()).await.unwrap_err();
            assert!(matches!(error, Error::RolledBack { .. }), "{sql}: {error:?}");
            is_as_expected(&error, *kind, *place, &sql);
            let error = db.try_execute(sql.as_str(), ()).await.unwrap_err();
            assert!(matches!(error, Error::RolledBack { .. }), "{sql}: {error:?}");
            is_as_expected(&error, *kind, *place, &sql);
            let prepared = db.prepare::<()>(sql.as_str()).await.unwrap();
            is_as_expected(&prepared.execute(()).await.unwrap_err(), *kind, *place, &sql);
            let error = db.execute_batch(format!("UPDATE t SET x = x; {sql}")).await.unwrap_err();
            assert!(matches!(error, Error::RolledBack { .. }), "{sql}: {error:?}");
            is_as_expected(&error, *kind, *place, &sql);
            is_as_expected(&in_a_closure(&db, &sql).await.unwrap_err(), *kind, *place, &sql);
            let mut guard = db.pool().get().await.unwrap();
            is_as_expected(&on_a_guard(&mut guard, &sql).await.unwrap_err(), *kind, *place, &sql);
            drop(guard);
            let after = db.status();
            assert_eq!((after.rolled_back - before.rolled_back, after.commits), (5, before.commits), "{sql}");
            assert_eq!((after.unknown, after.retries), (0, 0), "{sql}: nothing is tried again");
        }
    }
}

async fn in_a_closure(db: &PooledDatabaseWriter, sql: &str) -> Result<Ack<u64>> {
    let sql = sql.to_owned();
    db.write(async move |tx| tx.execute(&sql, ()).await).await
}

async fn on_a_guard(guard: &mut Connection, sql: &str) -> Result<u64> {
    let alone = guard.execute(sql, ()).await;
    assert!(guard.is_autocommit() || alone.is_err(), "{sql}");
    alone
}

#[tokio::test]
async fn a_constraint_is_told_by_its_type_in_the_middle_of_a_batch() {
    let (db, _folder) = writer().await;
    db.execute_batch(TABLES).await.unwrap();
    let held = hold(&db).await;
    let mut refused = Vec::new();
    for (sql, ..) in REFUSED {
        refused.push(queue(&db, |db| async move { db.execute(*sql, ()).await }).await);
        refused.push(queue(&db, |db| async move { in_a_closure(&db, sql).await }).await);
    }
    held.let_go().await;
    for (place, refused) in refused.into_iter().enumerate() {
        let (sql, kind, table) = &REFUSED[place / 2];
        let error = refused.await.unwrap().unwrap_err();
        is_as_expected(&error, *kind, *table, sql);
        assert!(place % 2 == 1 || matches!(error, Error::RolledBack { .. }), "{sql}: {error:?}");
    }
}

/// What never reaches the engine is rolled back, too: a caller may always make it again.
#[tokio::test]
async fn whatever_the_lane_refuses_is_told_as_rolled_back() {
    let (db, _folder) = writer().await;
    let is_rolled_back = |outcome: Result<Ack<u64>>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
        assert!(error.to_string().ends_with("; nothing was written"), "{error}");
        error
    };
    let of_misuse = ["BEGIN", "COMMIT", "SELECT 1", "INSERT INTO t VALUES (1); SELECT 1", "SAVEPOINT s"];
    for sql in of_misuse {
        let error = is_rolled_back(db.execute(sql, ()).await);
        assert!(matches!(error.cause(), Error::Misuse(_)), "{sql}: {error:?}");
    }
    for sql in ["INSERT INTO missing VALUES (1)", "nonsense", "INSERT INTO t VALUES (?1, ?2)"] {
        assert!(matches!(is_rolled_back(db.execute(sql, ()).await).cause(), Error::Engine(_)), "{sql}");
    }
    let inner = db.clone();
    let nested = db.write(async move |_| Ok::<_, Error>(inner.execute("INSERT INTO t VALUES (1)", ()).await));
    assert!(matches!(is_rolled_back(nested.await.unwrap().value).cause(), Error::Misuse(_)));
    let (status, rows) = (db.status(), rows(&db).await);
    assert_eq!((status.unknown, rows, status.pool.in_use), (0, 0, 1));
    db.stop().await;
    assert!(matches!(is_rolled_back(db.execute("INSERT INTO t VALUES (1)", ()).await).cause(), Error::Closed));
}
