//! What is printed of an error: each thing once, with what mends it.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use poolproof::{
    Ack, AcquireError, ConnectionPool, Error, Hooks, PooledDatabaseWriter, Result, Transaction, WriterConfig,
};

use crate::world::{by_sqlite, hold, insert, lock, patient, queue_row, unlock, writer, writer_of};

/// What a program prints that prints an error and whatever is behind it.
fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source())
        .map(ToString::to_string)
        .collect()
}

fn says_nothing_twice(error: &(dyn StdError + 'static)) {
    let chain = chain(error);
    for (place, text) in chain.iter().enumerate() {
        assert!(!chain[..place].iter().any(|before| before.contains(text)), "{chain:?}");
    }
}

/// An error with another behind it, each with words of its own.
#[derive(Debug)]
struct Refused(std::io::Error);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the key is missing")
    }
}

impl StdError for Refused {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

fn refused() -> Box<Refused> {
    Box::new(Refused(std::io::Error::other("no such file")))
}

#[tokio::test]
async fn an_error_printed_with_its_chain_says_nothing_twice() {
    let (db, _folder) = writer().await;
    db.execute("CREATE TABLE u (x INTEGER UNIQUE)", ()).await.unwrap();
    db.execute("INSERT INTO u VALUES (1)", ()).await.unwrap();
    for sql in ["INSERT INTO u VALUES (1)", "INSERT INTO missing VALUES (1)", "BEGIN"] {
        let error = db.execute(sql, ()).await.unwrap_err();
        says_nothing_twice(&error);
        says_nothing_twice(&Error::Unknown { cause: Arc::new(error) });
    }
    says_nothing_twice(&db.pool().get().await.unwrap().execute("INSERT INTO u VALUES (1)", ()).await.unwrap_err());
    // What a hook says is said, and what is behind that follows.
    let hook = Error::RolledBack { cause: Arc::new(Error::Hook(refused())) };
    for error in [&hook as &(dyn StdError + 'static), &AcquireError::<Error>::Hook(refused())] {
        says_nothing_twice(error);
        assert!(
            matches!(&chain(error)[..], [all, behind] if all.contains("the key is missing") && behind == "no such file")
        );
    }
    says_nothing_twice(&AcquireError::Connect(hook));
}

/// Each message, and the words that have to be in it.
#[tokio::test]
async fn whoever_is_refused_for_want_of_room_or_time_is_told_which_setting_gives_more() {
    let config = WriterConfig { queue: 1, write_timeout: Duration::from_millis(50), ..patient() };
    let (db, _folder) = writer_of(config).await;
    let slow = db.write(async |_| {
        std::future::pending::<()>().await;
        Ok::<_, Error>(())
    });
    says(&slow.await.unwrap_err(), &["the write took longer than 50ms", "WriterConfig::write_timeout"]);

    let (db, _folder) = writer_of(WriterConfig { queue: 1, ..patient() }).await;
    let held = hold(&db).await;
    let queued = queue_row(&db, 1).await;
    says(&db.try_execute("DELETE FROM t", ()).await.unwrap_err(), &["1 writes wait", "WriterConfig::queue"]);
    says(&insert(db.within(Duration::from_millis(5)), 2).await.unwrap_err(), &["longer than 5ms", "within"]);
    held.let_go().await;
    queued.await.unwrap().unwrap();
    db.close().await;
    says(&insert(db.clone(), 3).await.unwrap_err(), &["closed", "open the database again"]);
}

fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[tokio::test]
async fn whoever_finds_the_write_lock_taken_is_told_who_has_it() {
    let (db, _folder) = writer_of(WriterConfig { retry_timeout: Duration::from_millis(20), ..patient() }).await;
    let guard = lock(&db).await;
    let error = insert(db.clone(), 1).await.unwrap_err();
    assert!(matches!(error.cause(), Error::Locked { holders, .. } if holders.len() == 1), "{error:?}");
    says(&error, &["WriterConfig::retry_timeout", "a transaction at tests/writer/world.rs:", "BEGIN IMMEDIATE"]);
    let beside = db.pool().get().await.unwrap().execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert!(beside.is_contention(), "{beside:?}");
    says(&beside, &["locked", "PooledDatabaseWriter", "ConnectionPool::holders"]);
    unlock(guard).await;
}

#[tokio::test]
async fn whoever_executes_what_gives_rows_is_told_where_it_runs() {
    let (db, _folder) = writer().await;
    for sql in ["SELECT x FROM t", "INSERT INTO t VALUES (1) RETURNING x"] {
        says(&db.execute(sql, ()).await.unwrap_err(), &["by query", "in read", "in write", "RETURNING"]);
    }
    // As it says.
    let returned: Result<Ack<i64>> = db
        .write(async |tx| {
            let mut rows = tx.query("INSERT INTO t VALUES (7) RETURNING rowid", ()).await?;
            let id = rows.next().await?.expect("one row").get(0)?;
            while rows.next().await?.is_some() {}
            Ok(id)
        })
        .await;
    assert_eq!(returned.unwrap().value, 1);
    let last = db.write(async |tx| {
        tx.execute("INSERT INTO t VALUES (8)", ()).await?;
        Ok::<_, Error>(tx.last_insert_rowid())
    });
    assert_eq!(last.await.unwrap().value, 2);
}

/// In [`AcquireError`] and in [`Error`] alike.
#[tokio::test]
async fn a_hook_that_says_no_is_quoted_once() {
    let folder = tempfile::tempdir().unwrap();
    let hooks = Hooks::new().after_connect(|_| Box::pin(async { Err(refused() as _) }));
    let pool = ConnectionPool::builder(folder.path().join("t.db")).hooks(hooks).build().await.unwrap();
    let error = PooledDatabaseWriter::new(pool).await.unwrap_err();
    says(&error, &["a hook turned a new connection down: the key is missing"]);
    assert_eq!(chain(&error).len(), 2, "{:?}", chain(&error));
}

#[tokio::test]
async fn whoever_reads_null_as_what_it_cannot_be_is_told_as_what_it_can() {
    let (db, _folder) = writer().await;
    let mut guard = db.pool().get().await.unwrap();
    let mut rows = guard.query("SELECT NULL, 'text'", ()).await.unwrap();
    let row = rows.next().await.unwrap().expect("one row");
    assert_eq!(row.get::<String>(0).unwrap_err().to_string(), "column 0 is NULL: use Option<String>");
    assert_eq!(row.get::<Vec<u8>>(0).unwrap_err().to_string(), "column 0 is NULL: use Option<Vec<u8>>");
    assert_eq!(row.get::<Option<i64>>(1).unwrap_err().to_string(), "column 1 is text, not Option<i64>");
    assert_eq!(row.get::<Option<String>>(0).unwrap(), None, "as it says");
}

#[tokio::test]
async fn whoever_asks_for_what_is_off_is_told_what_to_do_instead() {
    let (db, folder) = writer().await;
    let copy = folder.path().join("copy.db");
    let attach = format!("ATTACH '{}' AS other", copy.display());
    for (sql, words) in [("VACUUM", "VACUUM INTO"), (attach.as_str(), "by a pool of its own")] {
        says(&db.execute(sql, ()).await.unwrap_err(), &["experimental", words, "nothing was written"]);
        says(&db.execute_batch(sql).await.unwrap_err(), &["experimental", words]);
        says(&db.pool().get().await.unwrap().execute(sql, ()).await.unwrap_err(), &["experimental", words]);
    }
    insert(db.clone(), 7).await.unwrap();
    db.execute(format!("VACUUM INTO '{}'", copy.display()), ()).await.unwrap();
    assert_eq!(by_sqlite(&copy), [7], "as it says");
}

/// What the lane's connection is given would be undone after it. In a write it is used, and undone after that.
#[tokio::test]
async fn a_setting_of_one_connection_is_refused_where_it_would_be_undone_without_a_word() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE parent (x INTEGER PRIMARY KEY); CREATE TABLE child (x REFERENCES parent (x))")
        .await
        .unwrap();
    for sql in [
        "PRAGMA synchronous = OFF",
        "PRAGMA foreign_keys(0)",
        "EXPLAIN PRAGMA synchronous = OFF",
        "EXPLAIN QUERY PLAN PRAGMA foreign_keys = 0",
        "CREATE TEMP TABLE v (x)",
    ] {
        let batch = format!("{sql}; {sql};");
        for error in [
            db.execute(sql, ()).await.unwrap_err(),
            db.try_execute(sql, ()).await.unwrap_err(),
            db.execute_batch(batch).await.unwrap_err(),
        ] {
            assert!(matches!(error.cause(), Error::Misuse(_)), "{sql}: {error:?}");
            says(&error, &["Hooks::after_connect", "in write", "not run", "nothing was written"]);
        }
    }
    // As it says: until the end of the transaction.
    let orphan = "INSERT INTO child VALUES (7)";
    assert!(db.execute(orphan, ()).await.unwrap_err().constraint().is_some());
    let work = async move |tx: &mut Transaction<'_>| {
        tx.execute("PRAGMA foreign_keys = OFF", ()).await?;
        tx.execute(orphan, ()).await
    };
    assert_eq!(db.write::<_, _, Error>(work).await.unwrap().value, 1);
    assert!(db.execute(orphan, ()).await.unwrap_err().constraint().is_some());
    // What the database keeps is kept.
    db.execute("PRAGMA user_version = 7", ()).await.unwrap();
    let mut guard = db.pool().get().await.unwrap();
    let mut rows = guard.query("PRAGMA user_version", ()).await.unwrap();
    assert_eq!(rows.next().await.unwrap().expect("one row").get::<i64>(0).unwrap(), 7);
}
