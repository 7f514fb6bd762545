//! Which file is meant: by whatever path it is opened, whatever is done to it meanwhile, and whoever else has it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Waker};
use std::time::Duration;

use poolproof::{ConnectionPool, Error, Mode, PooledDatabaseWriter, Result, WriterConfig};

use crate::world::{by_sqlite, column};

async fn insert(path: impl AsRef<Path>, x: i64) -> Result<()> {
    let db = PooledDatabaseWriter::open(path).await?;
    db.execute("CREATE TABLE IF NOT EXISTS t (x)", ()).await?;
    db.execute("INSERT INTO t VALUES (?1)", (x,)).await?;
    db.close().await;
    Ok(())
}

async fn rows(path: impl AsRef<Path>) -> Vec<i64> {
    let db = PooledDatabaseWriter::open(path).await.unwrap();
    let found = column(&db, "t").await;
    db.close().await;
    found
}

/// What is acknowledged by one name is there by any other.
#[cfg(unix)]
#[tokio::test]
async fn through_a_link_it_is_the_file_itself() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name);
    std::fs::create_dir(name("data")).unwrap();
    symlink("data/real.db", name("link.db")).unwrap();
    symlink(name("link.db"), name("link to link.db")).unwrap();
    symlink("data", name("folder")).unwrap();
    let (real, link) = (name("data/real.db"), name("link.db"));
    // The first creates the file, through a link that leads nowhere yet.
    insert(&link, 1).await.unwrap();
    insert(name("link to link.db"), 2).await.unwrap();
    insert(name("folder/real.db"), 3).await.unwrap();
    insert(name("data/../data/./real.db"), 4).await.unwrap();
    assert_eq!(rows(&real).await, [1, 2, 3, 4]);
    assert_eq!(by_sqlite(&real), [1, 2, 3, 4]);
    let pool = ConnectionPool::open(&link).await.unwrap();
    assert_eq!(pool.path(), real.canonicalize().unwrap());
    // It is one file: it has one writer.
    let _db = PooledDatabaseWriter::new(pool).await.unwrap();
    let error = PooledDatabaseWriter::open(&real).await.unwrap_err();
    assert!(error.to_string().contains("has a writer already"), "{error}");

    symlink("loop.db", name("loop.db")).unwrap();
    let error = ConnectionPool::open(name("loop.db")).await.unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error}");
}

#[tokio::test]
async fn an_address_is_no_name() {
    for address in [
        "file:b.db?mode=ro",
        "file:b.db",
        "FILE:b.db",
        "sqlite://c.db",
        "sqlite:c.db",
        "sqlite::memory:",
        "libsql:x.db",
        "libsql://host/db",
        "http://localhost/x.db",
        "b.db?mode=ro",
        "b.db?cache=shared&mode=memory",
    ] {
        let error = ConnectionPool::open(address).await.unwrap_err();
        assert!(matches!(error, Error::Config { field: "path", .. }), "{address}: {error}");
        assert!(error.to_string().contains("read_only"), "{address}: {error}");
        for made in [address, address.rsplit('/').next().unwrap()] {
            assert!(!Path::new(made).exists(), "{made} was made in the working folder");
        }
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_or_removed_after_its_pool_was_opened_gets_no_writer() {
    for replaced in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        insert(&path, 1).await.unwrap();
        let pool = ConnectionPool::open(&path).await.unwrap();
        // A handle of its own, so that no other file gets its number.
        let _kept = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        if replaced {
            std::fs::write(&path, "").unwrap();
        }
        let error = PooledDatabaseWriter::new(pool).await.unwrap_err();
        assert!(error.to_string().contains("removed or replaced"), "{error}");
    }
}

/// The engine's log in MVCC mode has the name of the file without its extension.
#[tokio::test]
async fn in_mvcc_mode_two_databases_never_share_a_log() {
    let mvcc = || WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() };
    let open = async |path: PathBuf, config| {
        PooledDatabaseWriter::with_config(ConnectionPool::open(path).await?, config).await
    };
    for [one, other] in [["shop.2024", "shop.2025"], ["shop", "shop.db"], ["shop.db", "shop.2024"]] {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join(one), folder.path().join(other));
        let first = open(one.clone(), mvcc()).await.unwrap();
        first.execute("CREATE TABLE t (x)", ()).await.unwrap();
        first.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        let refused = |outcome: Result<PooledDatabaseWriter>, named: &Path| {
            let error = outcome.map(|_| ()).expect_err(&format!("{other:?}"));
            assert!(error.to_string().contains(&*named.to_string_lossy()), "{error}");
        };
        refused(open(other.clone(), mvcc()).await, &one);
        refused(open(other.clone(), WriterConfig::default()).await, &one);
        first.close().await;
        drop(first);
        // And later, when the first is closed: the log is there.
        refused(open(other.clone(), mvcc()).await, &one);
        refused(open(other.clone(), WriterConfig::default()).await, &one);
        let again = open(one.clone(), mvcc()).await.unwrap();
        assert_eq!(column(&again, "t").await, [1]);
        again.close().await;
        drop(again);
        // And even if it is not: the first file says that it is in MVCC mode.
        std::fs::remove_file(one.with_extension("db-log")).unwrap();
        open(other.clone(), WriterConfig::default()).await.unwrap().close().await;
        refused(open(other.clone(), mvcc()).await, &one);
    }
    // Those that have a log each do not mind each other.
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path().join("a.db"), mvcc()).await.unwrap();
    let other = open(folder.path().join("b.db"), mvcc()).await.unwrap();
    for db in [&one, &other] {
        db.execute("CREATE TABLE t (x)", ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_is_only_read_is_read_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    insert(&path, 1).await.unwrap();
    let readers = async || ConnectionPool::builder(&path).read_only(true).build().await;
    {
        // The two ways do not go together.
        let _writes = ConnectionPool::open(&path).await.unwrap();
        let error = readers().await.map(drop).unwrap_err();
        assert!(error.to_string().contains("to be written"), "{error}");
    }
    {
        let _reads = readers().await.unwrap();
        let error = ConnectionPool::open(&path).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("only to be read"), "{error}");
    }
    let before = std::fs::read(&path).unwrap();
    {
        let (pool, another) = (readers().await.unwrap(), readers().await.unwrap());
        for pool in [&pool, &another] {
            let mut guard = pool.get().await.unwrap();
            let mut rows = guard.query("SELECT x FROM t", ()).await.unwrap();
            assert_eq!(rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), 1);
            drop(rows);
            for sql in ["INSERT INTO t VALUES (2)", "CREATE TABLE u (x)", "DELETE FROM t", "PRAGMA user_version = 3"] {
                guard.execute(sql, ()).await.map(drop).expect_err(sql);
            }
        }
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(rows(&path).await, [1]);
    let missing = ConnectionPool::builder(folder.path().join("none.db")).read_only(true).build().await;
    assert!(matches!(missing, Err(Error::Open { .. })), "{missing:?}");
    assert!(!folder.path().join("none.db").exists());
}

/// Run in a process of its own: opens what it is told, says so, and waits for its end.
#[tokio::test]
#[ignore = "a child"]
async fn a_child_opens_what_it_is_told() {
    let Some(path) = std::env::var_os("OPENS") else { return };
    if let Some(folder) = std::env::var_os("FROM") {
        std::env::set_current_dir(&folder).unwrap();
    }
    let db = match PooledDatabaseWriter::open(&path).await {
        Ok(db) => db,
        Err(error) => return println!("CHILD {error}"),
    };
    db.execute("CREATE TABLE IF NOT EXISTS t (x)", ()).await.unwrap();
    if let Some(folder) = std::env::var_os("MOVES") {
        std::env::set_current_dir(folder).unwrap();
        db.execute("INSERT INTO t VALUES (7)", ()).await.unwrap();
    }
    println!("CHILD opened");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    db.close().await;
}

fn child(path: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "location::a_child_opens_what_it_is_told", "--nocapture"]).env("OPENS", path);
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    child
}

/// What the child says first.
fn says(child: &mut Child) -> String {
    use std::io::{BufRead, BufReader};
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(std::io::Result::ok);
    let mut said = lines.filter_map(|line| line.split_once("CHILD ").map(|(_, said)| said.to_owned()));
    said.next().expect("it says something")
}

/// It is done when its standard input ends.
fn ends(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_relative_path_stays_what_it_was_wherever_the_process_goes() {
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut moved = child(Path::new("t.db")).env("FROM", here.path()).env("MOVES", elsewhere.path()).spawn().unwrap();
    assert_eq!(says(&mut moved), "opened");
    ends(moved);
    assert_eq!(by_sqlite(&here.path().join("t.db")), [7]);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

/// A POSIX lock is lost with any descriptor of the file that its process closes.
#[cfg(unix)]
#[tokio::test]
async fn another_process_is_kept_out_whatever_this_one_does_with_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let db = PooledDatabaseWriter::open(&path).await.unwrap();
    db.execute("CREATE TABLE t (x)", ()).await.unwrap();
    for file in ["t.db", "t.db-wal"] {
        std::fs::read(folder.path().join(file)).unwrap();
    }
    by_sqlite(&path);
    let refused = |path: &Path| {
        let mut other = child(path).spawn().unwrap();
        let said = says(&mut other);
        ends(other);
        said
    };
    let said = refused(&path);
    assert!(said.contains("another process has it open"), "{said}");
    // As long as anything of it is open: here a guard that outlives its writer.
    let guard = db.pool().get().await.unwrap();
    db.stop().await;
    drop(db);
    assert!(refused(&path).contains("another process has it open"));
    drop(guard);
    assert_eq!(refused(&path), "opened");
}

#[cfg(unix)]
#[tokio::test]
async fn who_has_time_waits_for_another_process_to_close_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let mut other = child(&path).spawn().unwrap();
    assert_eq!(says(&mut other), "opened");
    let open = async |millis| ConnectionPool::builder(&path).open_timeout(Duration::from_millis(millis)).build().await;
    for millis in [0, 50] {
        let error = open(millis).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("another process has it open"), "{error}");
    }
    let waits = async { open(60_000).await.map(drop) };
    let ended = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(100));
        ends(other);
    });
    let (opened, ended) = tokio::join!(waits, ended);
    ended.unwrap();
    opened.unwrap();
}

/// As in a rolling restart, where the state of a service outlives its last request: what is closed is free, and all of it is in the
/// database, what a guard has written too.
#[tokio::test]
async fn what_is_closed_is_free_though_a_handle_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let db = PooledDatabaseWriter::open(&path).await.unwrap();
    db.execute("CREATE TABLE t (x)", ()).await.unwrap();
    db.pool().get().await.unwrap().execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let (left, pool) = (db.clone(), db.pool().clone());
    // Whoever closes does not see the end: a guard comes back later.
    let guard = pool.get().await.unwrap();
    assert!(!db.close_within(Duration::from_millis(20)).await.holders.is_empty());
    drop(guard);
    let mut other = child(&path).spawn().unwrap();
    let said = says(&mut other);
    assert!(!said.contains("another process"), "{said}");
    ends(other);
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(by_sqlite(&copy), [1], "the log is copied");
    drop(ConnectionPool::builder(&path).read_only(true).build().await.unwrap());
    assert!(matches!(left.execute("INSERT INTO t VALUES (2)", ()).await.unwrap_err().cause(), Error::Closed));
    assert!(matches!(pool.get().await.unwrap_err(), Error::Closed));
}

/// A close that nobody waited for, by a pool of its own: its file is free with the last guard.
#[tokio::test]
async fn what_a_cut_close_began_to_close_is_free_too() {
    for limit in [None, Some(Duration::from_secs(60))] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let pool = ConnectionPool::open(&path).await.unwrap();
        let guard = pool.get().await.unwrap();
        let context = &mut Context::from_waker(Waker::noop());
        match limit {
            None => assert!(pin!(pool.close()).poll(context).is_pending()),
            Some(limit) => assert!(pin!(pool.close_within(limit)).poll(context).is_pending()),
        }
        drop(guard);
        let mut other = child(&path).spawn().unwrap();
        let said = says(&mut other);
        assert!(!said.contains("another process"), "{limit:?}: {said}");
        ends(other);
    }
}

/// A statement that one pool keeps is prepared anew when another pool of the process has changed the schema.
#[tokio::test]
async fn a_change_of_the_schema_by_one_pool_is_known_to_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let (one, other) = (ConnectionPool::open(&path).await.unwrap(), ConnectionPool::open(&path).await.unwrap());
    let mut changes = one.get().await.unwrap();
    changes.execute_batch("CREATE TABLE t (a, b, c); INSERT INTO t VALUES (1, 2, 3)").await.unwrap();
    for (change, names, values) in [
        ("ALTER TABLE t DROP COLUMN a", vec!["b", "c"], vec![2, 3]),
        ("ALTER TABLE t ADD COLUMN d DEFAULT 4", vec!["b", "c", "d"], vec![2, 3, 4]),
        ("ALTER TABLE t RENAME COLUMN b TO x", vec!["x", "c", "d"], vec![2, 3, 4]),
        ("DROP TABLE t; CREATE TABLE t (y); INSERT INTO t VALUES (9)", vec!["y"], vec![9]),
    ] {
        let mut keeps = other.get().await.unwrap();
        keeps.query("SELECT * FROM t", ()).await.unwrap().next().await.unwrap();
        assert!(keeps.cached_statements() > 0);
        changes.execute_batch(change).await.unwrap();
        let mut rows = keeps.query("SELECT * FROM t", ()).await.unwrap();
        assert_eq!(rows.column_names(), names, "{change}");
        let row = rows.next().await.unwrap().unwrap();
        let found: Vec<i64> = (0..values.len()).map(|index| row.get(index).unwrap()).collect();
        assert_eq!(found, values, "{change}");
    }
}

/// What stands behind the cut is lost with it, whoever reads the file later; nothing is written into the void.
#[tokio::test]
async fn a_file_that_is_cut_short_while_it_is_open_is_written_no_more() {
    for (name, part) in [("t.db-wal", 0), ("t.db", 0), ("t.db", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let db = PooledDatabaseWriter::open(&path).await.unwrap();
        db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").await.unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(folder.path().join(name)).unwrap();
        let len = file.metadata().unwrap().len();
        assert!(len > 0, "{name}");
        file.set_len(len.checked_div(part).unwrap_or_default()).unwrap();
        for _ in 0..2 {
            let error = db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap_err();
            assert!(
                matches!(error, Error::RolledBack { .. }) && error.to_string().contains("was cut short"),
                "{error}"
            );
        }
        db.close().await;
    }
}

/// Pipes are not waited for: neither one that is called as a journal would be, nor one whose log would be the same in MVCC mode.
#[test]
fn a_pipe_beside_the_database_holds_nobody_up() {
    for (name, mode) in [("t.db-journal", Mode::Wal), ("t.pipe", Mode::Mvcc)] {
        let folder = tempfile::tempdir().unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join(name), rustix::fs::Mode::RUSR).unwrap();
        let path = folder.path().join("t.db");
        let (opened, opens) = std::sync::mpsc::channel();
        // Waiting there would block its thread.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let pool = ConnectionPool::open(&path).await.unwrap();
                let config = WriterConfig { mode, ..WriterConfig::default() };
                let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
                db.execute("CREATE TABLE t (x)", ()).await.unwrap();
                db.close().await;
            });
            opened.send(()).unwrap();
        });
        opens.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{name} is waited for"));
    }
}

/// A transaction that goes on looks like one that was cut short, and ends.
#[tokio::test]
async fn who_has_time_waits_for_sqlite_to_end_its_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    sqlite.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    drop(sqlite);
    let journal = folder.path().join("t.db-journal");
    let needed = [&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7][..], &[0; 512]].concat();
    std::fs::write(&journal, needed).unwrap();
    let opens = |limit| ConnectionPool::builder(&path).open_timeout(limit).build();
    let refused = opens(Duration::ZERO).await.unwrap_err().to_string();
    assert!(refused.contains("open_timeout") && refused.contains("sqlite3"), "{refused}");
    let mut waits = tokio_test::task::spawn(opens(Duration::from_secs(60)));
    tokio_test::assert_pending!(waits.poll());
    std::fs::remove_file(&journal).unwrap();
    waits.await.unwrap();
}

/// In memory there is no file, whatever is called so.
#[test]
fn a_file_called_memory_is_not_looked_at() {
    let Some(_) = std::env::var_os(IN_A_FOLDER) else {
        let folder = tempfile::tempdir().unwrap();
        for name in [":memory:", ":memory:-wal"] {
            std::fs::write(folder.path().join(name), "not a database").unwrap();
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "location::a_file_called_memory_is_not_looked_at", "--nocapture"]).env(IN_A_FOLDER, "");
        let output = child.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let [one, other] = [0; 2].map(|_| PooledDatabaseWriter::open(":memory:"));
        let (one, other) = (one.await.unwrap(), other.await.unwrap());
        for db in [&one, &other] {
            db.execute("CREATE TABLE t (x)", ()).await.unwrap();
            std::fs::remove_file(":memory:-wal").ok();
            db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        }
    });
}

const IN_A_FOLDER: &str = "POOLPROOF_IN_A_FOLDER";
