//! A database by two names, a name of two databases, logs that are not its own: refused, or noticed before anything is acknowledged.

use std::fs;
use std::path::{Path, PathBuf};

use poolproof::{ConnectionPool, Error, Mode, PooledDatabaseWriter, Result, WriterConfig};
use tempfile::TempDir;

use crate::world::by_sqlite;

fn mvcc() -> WriterConfig {
    WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() }
}

/// A closed database with one row, 1.
async fn seeded() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let db = PooledDatabaseWriter::open(&path).await.unwrap();
    db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").await.unwrap();
    db.close().await;
    (folder, path)
}

async fn insert(db: &PooledDatabaseWriter, x: i64) -> Result<()> {
    db.execute("INSERT INTO t VALUES (?1)", (x,)).await.map(drop)
}

fn of_the_file(error: &Error, said: &str) {
    assert!(matches!(error.cause(), Error::Open { .. }) && error.to_string().contains(said), "{error}");
}

/// The engine opens the file again for it, and closing that descriptor would drop the process's POSIX lock.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_second_pool_that_is_dropped_lets_nobody_else_in() {
    let (_folder, path) = seeded().await;
    let db = PooledDatabaseWriter::open(&path).await.unwrap();
    let locks = || {
        let id = std::process::id().to_string();
        let all = fs::read_to_string("/proc/locks").unwrap();
        all.lines().filter(|line| line.contains("POSIX") && line.split_whitespace().any(|word| word == id)).count()
    };
    insert(&db, 2).await.unwrap();
    let before = locks();
    for _ in 0..3 {
        drop(ConnectionPool::open(&path).await.unwrap());
        assert!(PooledDatabaseWriter::open(&path).await.is_err());
    }
    // Other tests of this process open and close databases of their own.
    let sqlite = rusqlite_in_another_process(&path);
    assert!(sqlite.contains("locked"), "{sqlite}, with {before} locks before and {} now", locks());
    insert(&db, 3).await.unwrap();
    db.close().await;
}

/// What SQLite says to a write in a process of its own.
#[cfg(target_os = "linux")]
fn rusqlite_in_another_process(path: &Path) -> String {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "aliases::a_child_writes_by_sqlite", "--nocapture"]).env("WRITES", path);
    let said = child.output().unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
#[ignore = "a child"]
fn a_child_writes_by_sqlite() {
    let Some(path) = std::env::var_os("WRITES") else { return };
    let written =
        rusqlite::Connection::open(path).and_then(|connection| connection.execute_batch("INSERT INTO t VALUES (99)"));
    println!("{}", written.map_or_else(|error| error.to_string(), |()| "written".to_owned()));
}

#[tokio::test]
async fn a_log_that_goes_between_the_pool_and_the_writer_is_noticed() {
    let (_folder, path) = seeded().await;
    let pool = ConnectionPool::open(&path).await.unwrap();
    let log = path.with_file_name("a.db-wal");
    fs::rename(&log, path.with_file_name("away")).unwrap();
    of_the_file(&PooledDatabaseWriter::new(pool.clone()).await.unwrap_err(), "removed or replaced");
    fs::copy(path.with_file_name("away"), &log).unwrap();
    of_the_file(&PooledDatabaseWriter::new(pool.clone()).await.unwrap_err(), "removed or replaced");
    drop(pool);

    let db = PooledDatabaseWriter::with_config(ConnectionPool::open(&path).await.unwrap(), mvcc()).await.unwrap();
    insert(&db, 2).await.unwrap();
    db.close().await;
    drop(db);
    let pool = ConnectionPool::open(&path).await.unwrap();
    fs::remove_file(path.with_file_name("a.db-log")).unwrap();
    of_the_file(&PooledDatabaseWriter::with_config(pool, mvcc()).await.unwrap_err(), "removed or replaced");
}

/// Its log is named after the name by which it was opened last, which may not be this one.
#[cfg(unix)]
#[tokio::test]
async fn a_file_of_several_names_is_opened_by_none() {
    let (_folder, path) = seeded().await;
    let other = path.with_file_name("b.db");
    fs::hard_link(&path, &other).unwrap();
    for name in [&path, &other] {
        of_the_file(&ConnectionPool::open(name).await.unwrap_err(), "2 names (hard links)");
        let only_read = ConnectionPool::builder(name).read_only(true).build().await;
        of_the_file(&only_read.unwrap_err(), "2 names (hard links)");
    }
    assert!(!other.with_file_name("b.db-wal").exists(), "it was opened");
    fs::remove_file(&other).unwrap();
    drop(ConnectionPool::open(&path).await.unwrap());
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_is_open_by_one_name_and_a_name_is_of_one_file() {
    let (_folder, path) = seeded().await;
    let other = path.with_file_name("b.db");
    let pool = ConnectionPool::open(&path).await.unwrap();
    fs::hard_link(&path, &other).unwrap();
    of_the_file(&ConnectionPool::open(&other).await.unwrap_err(), "a.db: open it by that name");
    fs::remove_file(&path).unwrap();
    of_the_file(&ConnectionPool::open(&other).await.unwrap_err(), "a.db: open it by that name");
    // Another file in its place would have the same log.
    fs::copy(&other, &path).unwrap();
    of_the_file(&ConnectionPool::open(&path).await.unwrap_err(), "drop that pool first");
    drop(pool);
    let db = PooledDatabaseWriter::open(&path).await.unwrap();
    insert(&db, 2).await.unwrap();
    // Moved, and a link left in its place: whoever opens the link looks for another log.
    fs::rename(&path, path.with_file_name("c.db")).unwrap();
    std::os::unix::fs::symlink("c.db", &path).unwrap();
    let error = insert(&db, 3).await.unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error}");
    of_the_file(&error, "removed or replaced");
}

#[tokio::test]
async fn what_lies_beside_a_database_is_looked_at() {
    let (_folder, path) = seeded().await;
    // A rollback journal that SQLite still needs; one that it has done with begins with zeros.
    let journal = path.with_file_name("a.db-journal");
    fs::write(&journal, [&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7][..], &[0; 512]].concat()).unwrap();
    of_the_file(&ConnectionPool::open(&path).await.unwrap_err(), "open it once with sqlite3");
    fs::write(&journal, [0; 520]).unwrap();
    drop(ConnectionPool::open(&path).await.unwrap());
    // Something that is no log where the switch to MVCC mode would write one.
    let pool = ConnectionPool::open(&path).await.unwrap();
    let log = path.with_file_name("a.db-log");
    fs::write(&log, "the application has started\n".repeat(20)).unwrap();
    of_the_file(&PooledDatabaseWriter::with_config(pool.clone(), mvcc()).await.unwrap_err(), "which is no log of it");
    fs::remove_file(&log).unwrap();
    // A switch that was refused keeps no name from others.
    let mut guard = pool.get().await.unwrap();
    let transaction = guard.begin(poolproof::Behavior::Immediate).await.unwrap();
    assert!(PooledDatabaseWriter::with_config(pool.clone(), mvcc()).await.is_err());
    drop(ConnectionPool::open(path.with_file_name("a.other")).await.unwrap());
    drop(transaction);
    drop(guard);
    drop(pool);
    assert_eq!(by_sqlite(&path), [1]);
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_name_of_a_file_is_refused_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name);
    fs::write(name("there.db"), "").unwrap();
    for (path, said) in [
        (name("x/.."), "names a folder"),
        (name("new.db/"), "names a folder"),
        (name("a.db-log"), "choose another than .db-log"),
        (name("there.db-wal"), "the WAL of another database"),
        (PathBuf::from("/dev/null"), "a device, a socket or a pipe"),
    ] {
        of_the_file(&ConnectionPool::open(&path).await.unwrap_err(), said);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "files were made");
}
