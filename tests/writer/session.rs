//! What a statement changes of its connection, by a pragma or something temporary, reaches nobody else; how the log is kept is
//! changed by nobody; and what is told of a statement that has an effect and gives rows is what became of it.

use poolproof::{
    Ack, Behavior, Connection, ConnectionPool, Error, HookFuture, Hooks, Mode, PooledDatabaseWriter, Result,
    WriterConfig,
};

use crate::world::{column, writer, writer_of};

/// Every way to make something temporary that the engine takes, of an object called `temp.t` or `temp.x`.
const TEMPORARY: &[&str] = &[
    "CREATE TABLE temp.t (x)",
    "CREATE TEMP TABLE t (x)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS \"t\" (x)",
    "CREATE TABLE IF NOT EXISTS \"TEMP\".t (x)",
    "CREATE TABLE [temp].t AS SELECT 1 AS x",
    "/* so */ CREATE TABLE -- and so\n temp . t (x)",
    "CREATE TEMP VIEW t AS SELECT 7 AS x",
    "CREATE VIEW temp.t AS SELECT 7 AS x",
    "CREATE TEMP TRIGGER x AFTER INSERT ON t WHEN NEW.x > 3 BEGIN DELETE FROM t; END",
    "CREATE TRIGGER temp.x AFTER INSERT ON main.t WHEN NEW.x > 3 BEGIN DELETE FROM t; END",
];

/// The first statement of a session; the next writer of `t` writes into the database.
#[tokio::test]
async fn something_temporary_is_gone_with_the_write_that_made_it_however_it_is_said() {
    let mut taken = 0;
    for sql in TEMPORARY {
        let (db, _folder) = writer().await;
        let made: Result<Ack<()>> = db.write(async move |tx| tx.execute(sql, ()).await.map(|_| ())).await;
        taken += u32::from(made.is_ok());
        // Of those, some share a commit.
        let (one, other) =
            tokio::join!(db.execute("INSERT INTO t VALUES (1)", ()), db.execute("INSERT INTO main.t VALUES (2)", ()),);
        one.unwrap();
        other.unwrap();
        let batch = db.execute_batch(format!("{sql}; INSERT INTO main.t VALUES (3)")).await;
        db.execute("INSERT INTO t VALUES (4)", ()).await.unwrap();
        let found = column(&db, "t").await;
        assert_eq!(found, if batch.is_ok() { vec![1, 2, 3, 4] } else { vec![1, 2, 4] }, "{sql}: {batch:?}");
    }
    assert!(taken >= 6, "the engine takes most of them: {taken}");
}

/// What is on a guard is on no other.
#[tokio::test]
async fn something_temporary_of_a_guard_is_on_no_other() {
    for sql in TEMPORARY {
        let folder = tempfile::tempdir().unwrap();
        let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(1).build().await.unwrap();
        let mut guard = pool.get().await.unwrap();
        guard.execute("CREATE TABLE main.t (x)", ()).await.unwrap();
        for way in 0..3 {
            let made = match way {
                0 => guard.execute(sql, ()).await.map(|_| ()),
                1 => guard.run(sql).await,
                _ => guard.execute_batch(sql).await,
            };
            drop(guard);
            guard = pool.get().await.unwrap();
            guard.execute("INSERT INTO t VALUES (5)", ()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            let mut rows = guard.query("SELECT count(*) FROM main.t", ()).await.unwrap();
            assert_eq!(rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), way + 1, "{sql}: {made:?}");
        }
    }
}

/// Its table is gone with the lane's connection, or was never there.
#[tokio::test]
async fn what_writes_to_something_temporary_is_not_prepared() {
    let (db, _folder) = writer().await;
    for sql in ["INSERT INTO temp.t VALUES (?1)", "UPDATE [Temp] . t SET x = ?1", "DELETE FROM \"temp\".t WHERE x = ?1"]
    {
        let error = db.prepare::<(i64,)>(sql).await.map(drop).unwrap_err();
        assert!(matches!(error.cause(), Error::Misuse(why) if why.contains("its connection only")), "{sql}: {error}");
    }
}

/// What is done to something temporary, by whatever name, is done to nothing else.
#[tokio::test]
async fn what_is_done_to_something_temporary_is_done_to_nothing_else() {
    let made = [
        "CREATE TEMP TABLE t (x)",
        "CREATE INDEX temp.i ON t (x)",
        "CREATE TEMP VIEW v AS SELECT x FROM t",
        "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END",
    ];
    for done in [
        "ALTER TABLE temp.t ADD COLUMN y",
        "ALTER TABLE t RENAME TO z",
        "DROP TABLE temp.t",
        "DROP TABLE \"t\"",
        "DROP INDEX temp.i",
        "DROP VIEW [temp].v",
        "DROP TRIGGER temp . g",
        "INSERT INTO temp.t VALUES (8)",
        "INSERT INTO t VALUES (8)",
        "UPDATE temp.t SET x = 9",
        "DELETE FROM temp.t",
        "REPLACE INTO temp.t VALUES (8)",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(2).build().await.unwrap();
        let db = PooledDatabaseWriter::new(pool.clone()).await.unwrap();
        db.execute_batch("CREATE TABLE main.t (x); INSERT INTO t VALUES (1)").await.unwrap();
        // Without anything temporary there is nothing to do it to: it fails, unless it names what is everybody's.
        if done.contains("temp") {
            assert!(db.execute(done, ()).await.is_err(), "{done}");
        }
        let mut guard = pool.get().await.unwrap();
        let mut taken = 0;
        for made in made {
            taken += usize::from(guard.run(made).await.is_ok());
        }
        assert!(taken >= 2, "{taken} of them were made");
        let outcome = guard.run(done).await;
        drop(guard);
        db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap_or_else(|error| panic!("{done}: {error}"));
        assert_eq!(column(&db, "t").await, [1, 2], "{done}: {outcome:?}");
    }
}

async fn journal_mode(db: &PooledDatabaseWriter) -> String {
    let mut guard = db.pool().get().await.unwrap();
    let mut rows = guard.query("PRAGMA journal_mode", ()).await.unwrap();
    rows.next().await.unwrap().unwrap().get(0).unwrap()
}

#[tokio::test]
async fn the_journal_mode_is_changed_by_nobody_and_a_schema_that_names_the_one_there_is_is_run() {
    for mode in [Mode::Wal, Mode::Mvcc] {
        let (db, _folder) = writer_of(WriterConfig { mode, ..WriterConfig::default() }).await;
        let (is, other) = if mode == Mode::Wal { ("wal", "mvcc") } else { ("mvcc", "wal") };
        for wanted in [other, "DELETE", "off"] {
            for sql in [
                format!("PRAGMA journal_mode = '{wanted}'"),
                format!("pragma main.Journal_Mode({wanted})"),
                format!("EXPLAIN PRAGMA journal_mode = {wanted}"),
            ] {
                let refused = |outcome: Result<()>| {
                    let error = outcome.expect_err(&sql);
                    assert!(matches!(error.cause(), Error::Misuse(_)), "{sql}: {error}");
                    assert!(error.to_string().contains("WriterConfig::mode"), "{sql}: {error}");
                };
                refused(db.execute(sql.as_str(), ()).await.map(drop));
                refused(db.execute_batch(sql.as_str()).await.map(drop));
                let text = sql.clone();
                refused(db.write(async move |tx| tx.execute(&text, ()).await).await.map(drop));
                let mut guard = db.pool().get().await.unwrap();
                refused(guard.execute(&sql, ()).await.map(drop));
                refused(guard.run(&sql).await);
                refused(guard.execute_batch(&format!("CREATE TABLE u (x); {sql}")).await);
                refused(guard.query(&sql, ()).await.map(drop));
                let mut tx = guard.begin(Behavior::Immediate).await.unwrap();
                refused(tx.execute(&sql, ()).await.map(drop));
                tx.rollback().await.unwrap();
                drop(guard);
                assert_eq!(journal_mode(&db).await, is, "{sql}");
            }
        }
        let schema = format!("PRAGMA journal_mode = {is}; CREATE TABLE v (x); INSERT INTO v VALUES (1);");
        db.execute_batch(schema).await.unwrap();
        db.execute(format!("PRAGMA journal_mode = '{is}'"), ()).await.unwrap();
        assert_eq!((column(&db, "v").await, journal_mode(&db).await.as_str()), (vec![1], is));
    }
}

/// A pragma that writes what it is given: told as done if it is, and only then.
#[tokio::test]
async fn a_pragma_that_has_an_effect_is_told_by_that() {
    let (db, _folder) = writer().await;
    db.execute("PRAGMA user_version = 7", ()).await.unwrap();
    db.execute("PRAGMA application_id(9)", ()).await.unwrap();
    let mut guard = db.pool().get().await.unwrap();
    for (sql, value) in [("PRAGMA user_version", 7), ("PRAGMA application_id", 9)] {
        let mut rows = guard.query(sql, ()).await.unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), value, "{sql}");
    }
    // It gives a row, and has an effect.
    guard.execute("PRAGMA cache_size = 100", ()).await.unwrap();
    // It tells, or tells what became of it, which `execute` has no place for.
    for sql in [
        "PRAGMA user_version",
        "PRAGMA table_info(t)",
        "PRAGMA synchronous",
        "PRAGMA journal_mode",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        assert!(matches!(guard.execute(sql, ()).await, Err(Error::Misuse(_))), "{sql}");
        assert!(matches!(db.execute(sql, ()).await.unwrap_err().cause(), Error::Misuse(_)), "{sql}");
    }
}

fn runs(sql: &'static str) -> impl for<'c> Fn(&'c mut Connection) -> HookFuture<'c> + Send + Sync {
    move |connection| Box::pin(async move { Ok(connection.run(sql).await?) })
}

/// A hook may set what it likes of a connection; but that a write is told as committed means that it is synced. (That it is,
/// the simulated power failures tell: `tests/harness/sim/mutants/volatile.rs`.)
#[tokio::test]
async fn a_hook_does_not_take_the_sync_from_the_writers_commits() {
    for mode in [Mode::Wal, Mode::Mvcc] {
        for sql in ["PRAGMA synchronous = OFF", "PRAGMA main.synchronous = 'normal'", "PRAGMA synchronous(0)"] {
            let folder = tempfile::tempdir().unwrap();
            let hooks = Hooks::new().after_connect(runs(sql)).before_acquire(runs(sql));
            let pool = ConnectionPool::builder(folder.path().join("t.db")).hooks(hooks).build().await.unwrap();
            let db = PooledDatabaseWriter::with_config(pool, WriterConfig { mode, ..WriterConfig::default() })
                .await
                .unwrap();
            db.execute("CREATE TABLE t (x)", ()).await.unwrap();
            for _ in 0..2 {
                let said: Ack<i64> = db
                    .write(async |tx| {
                        let mut rows = tx.query("PRAGMA synchronous", ()).await?;
                        rows.next().await?.expect("a row").get::<i64>(0)
                    })
                    .await
                    .unwrap_or_else(|error: Error| panic!("{sql}: {error}"));
                assert_eq!(said.value, 2, "{sql}, {mode:?}: FULL");
            }
        }
    }
}

/// Nor does it make the lane wait in the engine, which limits nothing.
#[tokio::test]
async fn a_hook_does_not_make_the_lane_wait_longer_for_a_lock() {
    let folder = tempfile::tempdir().unwrap();
    let hooks = Hooks::new().after_connect(runs("PRAGMA busy_timeout = 60000"));
    let pool = ConnectionPool::builder(folder.path().join("t.db")).hooks(hooks).build().await.unwrap();
    let retry_timeout = std::time::Duration::from_millis(200);
    let db = PooledDatabaseWriter::with_config(pool, WriterConfig { retry_timeout, ..WriterConfig::default() })
        .await
        .unwrap();
    db.execute("CREATE TABLE t (x)", ()).await.unwrap();
    let mut guard = db.pool().get().await.unwrap();
    guard.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    let written = tokio::time::timeout(std::time::Duration::from_secs(30), db.execute("INSERT INTO t VALUES (1)", ()));
    let error = written.await.expect("the lane does not wait so long").unwrap_err();
    assert!(matches!(error.cause(), Error::Locked { .. }), "{error}");
}

/// Nor does a temporary table of its take what is written by the name of one of everybody's.
#[tokio::test]
async fn a_hook_that_makes_a_temporary_table_is_refused_by_the_lane() {
    for sql in ["create temp table t (x)", "CREATE TABLE temp.t (x)"] {
        for acquired in [false, true] {
            let (db, folder) = writer().await;
            db.close().await;
            let hooks = Hooks::new();
            let hooks = if acquired { hooks.before_acquire(runs(sql)) } else { hooks.after_connect(runs(sql)) };
            let path = folder.path().join("t.db");
            let pool = ConnectionPool::builder(&path).hooks(hooks).build().await.unwrap();
            let Ok(db) = PooledDatabaseWriter::new(pool).await else { continue };
            let written = db.execute("INSERT INTO t VALUES (1)", ()).await;
            assert!(matches!(&written, Err(Error::RolledBack { .. })), "{sql}, {acquired}: {written:?}");
            db.close().await;
            assert_eq!(crate::world::by_sqlite(&path), [0; 0], "{sql}");
        }
    }
}

/// Between two of its statements a batch can be cut short, and is undone.
#[tokio::test]
async fn a_batch_that_takes_too_long_is_undone() {
    let write_timeout = std::time::Duration::from_millis(20);
    let (db, _folder) = writer_of(WriterConfig { write_timeout, ..WriterConfig::default() }).await;
    let error = db.execute_batch("INSERT INTO t VALUES (1);".repeat(50_000)).await.unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error}");
    assert!(matches!(error.cause(), Error::Deadline { limit, .. } if *limit == write_timeout), "{error}");
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(column(&db, "t").await, [2]);
}

/// The README's way to rebuild a table that others refer to.
#[tokio::test]
async fn a_table_that_others_refer_to_is_rebuilt_without_their_rows_going() {
    let (db, _folder) = writer().await;
    db.execute_batch(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id) ON DELETE CASCADE);
         INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1), (2)",
    )
    .await
    .unwrap();
    let rebuild = "CREATE TABLE new (id INTEGER PRIMARY KEY, z); INSERT INTO new (id) SELECT id FROM p; DROP TABLE p;
        ALTER TABLE new RENAME TO p";
    let off = format!("PRAGMA foreign_keys = OFF; BEGIN; {rebuild}; COMMIT; PRAGMA foreign_keys = ON");
    db.pool().get().await.unwrap().execute_batch(&off).await.unwrap();
    let children = db.read(async |snapshot| {
        let mut rows = snapshot.query("SELECT count(*) FROM c", ()).await?;
        rows.next().await?.unwrap().get::<i64>(0)
    });
    assert_eq!(children.await.unwrap(), 2);
    // The next user has them enforced.
    db.execute("INSERT INTO c VALUES (9)", ()).await.unwrap_err();
}
