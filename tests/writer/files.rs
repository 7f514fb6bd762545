//! Files that cannot be used, or not any more: what is wrong, where, and the mend, in an error of the right type.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::common::alone;
use crate::common::running::Running;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(future)
}

/// A database of 100 rows in `t (x INTEGER, content TEXT)`, at rest: all in the file, nothing in the log.
fn database(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("app.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    sqlite.pragma_update(None, "journal_mode", "wal").unwrap();
    sqlite.execute_batch("CREATE TABLE t (x INTEGER, content TEXT); CREATE INDEX t_x ON t (x)").unwrap();
    for x in 0..100 {
        sqlite.execute("INSERT INTO t VALUES (?1, ?2)", (x, "c".repeat(500))).unwrap();
    }
    path
}

/// An [`Error::Open`] of `path` whose problem has all of `words`.
fn assert_not_opened(outcome: Result<PooledDatabaseWriter>, path: &Path, words: &[&str]) {
    match outcome {
        Err(Error::Open { path: named, problem }) => {
            assert_eq!(named, path);
            for word in words {
                assert!(problem.contains(word), "{word:?} is not in {problem:?}");
            }
        }
        other => panic!("not an Error::Open: {other:?}"),
    }
}

fn open(path: &Path) -> Result<PooledDatabaseWriter> {
    block_on(PooledDatabaseWriter::open(path))
}

/// Runs a body as somebody whom permissions bind: they do not bind root.
fn run_as_somebody(name: &str, folder: &TempDir) {
    let mut command = alone::body(name, folder.path());
    if geteuid().is_root() {
        command.uid(65_534).gid(65_534);
        let reached = alone::body("files::bodies::nothing", folder.path()).uid(65_534).gid(65_534).output();
        if !reached.is_ok_and(|output| output.status.success()) {
            eprintln!("nobody may not run this program, and permissions do not bind root: not tested");
            return;
        }
    }
    alone::run(command);
}

/// Sets permissions, and lifts them at the end so that the folder can be removed.
fn with_modes(folder: TempDir, modes: &[(&str, u32)], name: &str) {
    for (file, mode) in modes {
        fs::set_permissions(folder.path().join(file), Permissions::from_mode(*mode)).unwrap();
    }
    run_as_somebody(name, &folder);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_folder_that_may_not_be_written_is_named_with_the_mend() {
    with_modes(tempfile::tempdir().unwrap(), &[("", 0o555)], "files::bodies::cannot_open");
}

#[test]
fn a_file_that_may_not_be_written_is_named_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    database(folder.path());
    with_modes(folder, &[("app.db", 0o444), ("", 0o777)], "files::bodies::cannot_open");
}

#[test]
fn a_file_that_may_not_be_read_is_named_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    database(folder.path());
    with_modes(folder, &[("app.db", 0o000), ("", 0o777)], "files::bodies::cannot_open");
}

/// A read-only pool needs to write neither, a log that was left behind or not.
#[test]
fn a_file_and_a_folder_that_may_not_be_written_can_be_read() {
    for leaves_a_log in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path());
        let mut modes = vec![("app.db", 0o444), ("", 0o555)];
        if leaves_a_log {
            let sqlite = rusqlite::Connection::open(&path).unwrap();
            sqlite.execute("INSERT INTO t VALUES (100, 'in the log')", ()).unwrap();
            let kept = folder.path().join("kept");
            fs::copy(folder.path().join("app.db-wal"), &kept).unwrap();
            drop(sqlite);
            // As a process leaves them that is killed: the row may be in the file by now, and is in the log.
            fs::rename(kept, folder.path().join("app.db-wal")).unwrap();
            modes.insert(0, ("app.db-wal", 0o444));
        }
        with_modes(folder, &modes, "files::bodies::reads");
    }
}

#[test]
fn a_file_on_a_read_only_file_system_can_be_read() {
    on_a_read_only_file_system("files::bodies::reads");
}

#[test]
fn a_file_in_a_folder_without_room_for_its_log_is_named_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    database(folder.path());
    with_modes(folder, &[("app.db", 0o666), ("", 0o555)], "files::bodies::cannot_open");
}

#[test]
fn a_file_on_a_read_only_file_system_is_named() {
    on_a_read_only_file_system("files::bodies::cannot_open_read_only");
}

/// The engine's own words, "read-only filesystem or storage medium", have none.
#[test]
fn a_file_on_a_read_only_file_system_is_named_with_the_mend() {
    on_a_read_only_file_system("files::bodies::cannot_open_read_only_and_says_the_mend");
}

fn on_a_read_only_file_system(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    database(folder.path());
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
    let line = "mount --bind \"$POOLPROOF_TEST_PLACE\" \"$POOLPROOF_TEST_PLACE\" && mount -o remount,bind,ro \"$POOLPROOF_TEST_PLACE\"";
    let allowed = alone::body_after(line, &wrapper, "files::bodies::nothing", folder.path()).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("this machine allows no mount in a namespace of its own: no read-only file system to try");
        return;
    }
    alone::run(alone::body_after(line, &wrapper, name, folder.path()));
}

/// Run by the tests above, each in a process of its own.
mod bodies {
    use super::*;

    #[test]
    #[ignore = "run by others, as somebody else"]
    fn cannot_open() {
        let path = alone::place().join("app.db");
        assert_not_opened(
            open(&path),
            &path,
            &["permission denied", "allow this user to write the file and its folder"],
        );
    }

    #[test]
    #[ignore = "run by others, on a read-only file system"]
    fn cannot_open_read_only() {
        let path = alone::place().join("app.db");
        assert_not_opened(open(&path), &path, &["read-only"]);
    }

    #[test]
    #[ignore = "run by others, on a read-only file system"]
    fn cannot_open_read_only_and_says_the_mend() {
        let path = alone::place().join("app.db");
        assert_not_opened(open(&path), &path, &["read-only", "; "]);
    }

    #[test]
    #[ignore = "run by others, where nothing can be written"]
    fn reads() {
        let path = alone::place().join("app.db");
        block_on(async {
            let pool = ConnectionPool::builder(&path).read_only(true).build().await.unwrap();
            let mut guard = pool.get().await.unwrap();
            let mut rows = guard.query("SELECT count(*) FROM t WHERE x < 100", ()).await.unwrap();
            assert_eq!(rows.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), 100);
            drop(rows);
            guard.execute("INSERT INTO t VALUES (200, '')", ()).await.unwrap_err();
        });
    }

    #[test]
    #[ignore = "run by others, to see what this machine allows"]
    fn nothing() {}
}

/// A process that writes to `path` until it is killed.
fn holder(path: &Path) -> Running {
    let mut holder = Command::new(crate::common::poolproof());
    holder.args(["kill-child", "--kill", "writer", "--seed", "1", "--first-id", "1", "--database"]);
    let mut holder = Running::start(holder.arg(path).stdout(Stdio::piped()));
    let mut lines = BufReader::new(holder.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("ack")), "it ended early");
    holder
}

#[test]
fn a_file_that_another_process_holds_is_named_and_opens_once_that_one_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let sql =
        "CREATE TABLE pieces (write_id INTEGER, part INTEGER, content TEXT); CREATE TABLE tally (written INTEGER)";
    sqlite.execute_batch(sql).unwrap();
    drop(sqlite);
    let holder = holder(&path);
    assert_not_opened(open(&path), &path, &["another process has it open", "stop that process"]);
    drop(holder);
    open(&path).unwrap();
}

#[test]
fn an_empty_path_is_refused_in_one_line() {
    let error = open(Path::new("")).unwrap_err();
    assert!(matches!(error, Error::Config { field: "path", .. }), "{error:?}");
    assert_eq!(error.to_string(), "path is empty: name the database's file");
}

#[test]
fn a_file_that_is_no_database_is_named_with_the_mend_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.db");
    let letter = "Dear reader, this is no database, however long it is. ".repeat(200);
    fs::write(&path, &letter).unwrap();
    assert_not_opened(open(&path), &path, &["is no database", "name another file"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
}

#[test]
fn a_file_cut_off_in_its_header_is_named() {
    for length in [1, 50, 99] {
        cut_off(length, &[]);
    }
}

/// The engine's own words, "short read on page 1", have none.
#[test]
fn a_file_cut_off_in_its_header_is_named_with_the_mend() {
    for length in [1, 50, 99] {
        cut_off(length, &["name another file"]);
    }
}

/// A database of which only the first bytes are left.
fn cut_off(length: usize, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..length]).unwrap();
    assert_not_opened(open(&path), &path, words);
}

#[test]
fn a_file_whose_header_is_nonsense_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[16..100].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(&path), Err(Error::Open { .. })));
}

async fn contents(db: &PooledDatabaseWriter) -> Result<Vec<(i64, String)>> {
    db.read(async |snapshot| {
        let mut rows = snapshot.query("SELECT x, content FROM t ORDER BY x, rowid", ()).await?;
        let mut contents = Vec::new();
        while let Some(row) = rows.next().await? {
            contents.push((row.get(0)?, row.get(1)?));
        }
        Ok(contents)
    })
    .await
}

/// A commit is in the log wholly or not at all, so what is behind the first damage is gone, and nothing else; which that is
/// SQLite says.
#[test]
fn what_is_left_of_a_damaged_log_is_what_sqlite_finds_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let [path, log] = ["app.db", "app.db-wal"].map(|name| folder.path().join(name));
    database(folder.path());
    let (file, whole) = block_on(async {
        let db = PooledDatabaseWriter::open(&path).await.unwrap();
        for x in 1000..1040 {
            db.execute("INSERT INTO t VALUES (?1, ?2)", (x, "d".repeat(900))).await.unwrap();
        }
        let files = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
        // Its lane would still have them open, and so would whoever opened them again in this process.
        db.close().await;
        files
    });
    let [copy, copied_log] = ["copy.db", "copy.db-wal"].map(|name| folder.path().join(name));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut fewer, mut all) = (0, 0);
    for round in 0..60 {
        let mut damaged = whole.clone();
        let at = rng.next_u32() as usize % whole.len();
        match round % 3 {
            0 => damaged.truncate(at),
            1 => damaged[at] ^= 1 << (rng.next_u32() % 8),
            _ => damaged[at..(at + 512).min(whole.len())].fill(0),
        }
        for (path, log) in [(&path, &log), (&copy, &copied_log)] {
            fs::write(path, &file).unwrap();
            fs::write(log, &damaged).unwrap();
        }
        let found = block_on(async {
            let db = PooledDatabaseWriter::open(&path).await.unwrap();
            let found = contents(&db).await.unwrap();
            db.close().await;
            found
        });
        let sqlite = rusqlite::Connection::open(&copy).unwrap();
        let mut statement = sqlite.prepare("SELECT x, content FROM t ORDER BY x, rowid").unwrap();
        let expected = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let expected: Vec<(i64, String)> = expected.map(|row| row.unwrap()).collect();
        assert!(found == expected, "round {round}, at {at}: {} rows, SQLite finds {}", found.len(), expected.len());
        fewer += u32::from(found.len() < 140);
        all += u32::from(found.len() == 140);
    }
    assert!(fewer > 30, "the damage was felt: {fewer} times, {all} times not");
}

/// Opens, reads, checks and writes; what became of each, a panic being nobody's but the caller's.
fn use_all(path: &Path) -> Vec<std::result::Result<(), String>> {
    let told = |outcome: std::result::Result<Result<()>, tokio::task::JoinError>| match outcome {
        // An error, or what is there after all: either is an answer.
        Ok(_) => Ok(()),
        Err(panic) => Err(panic.to_string()),
    };
    block_on(async {
        let db = match tokio::spawn(PooledDatabaseWriter::open(path.to_owned())).await {
            Ok(Ok(db)) => db,
            Ok(Err(_)) => return vec![Ok(())],
            Err(panic) => return vec![Err(panic.to_string())],
        };
        let mut all = Vec::new();
        for sql in ["SELECT * FROM t", "SELECT x FROM t WHERE x >= 0 ORDER BY x", "PRAGMA integrity_check"] {
            let pool = db.pool().clone();
            let read = async move {
                let mut guard = pool.get().await?;
                let mut rows = guard.query(sql, ()).await?;
                while rows.next().await?.is_some() {}
                Ok(())
            };
            all.push(told(tokio::spawn(read).await));
        }
        for sql in ["INSERT INTO t VALUES (1000, 'more')", "DELETE FROM t WHERE x < 50"] {
            let db = db.clone();
            all.push(told(tokio::spawn(async move { db.execute(sql, ()).await.map(drop) }).await));
        }
        // Whatever it was, the pool is whole: everything came back, and it closes.
        db.stop().await;
        let rest = db.pool().status();
        assert_eq!((rest.in_use, rest.waiting), (0, 0), "{rest:?}");
        db.close().await;
        all
    })
}

/// Each page of a database in turn, damaged in three ways.
fn damaged_files(mut judge: impl FnMut(&Path, usize, &str)) {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path());
    let bytes = fs::read(&path).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for page in 0..bytes.len() / 4096 {
        for how in ["zeros", "nonsense", "a byte in its header", "a byte"] {
            let mut damaged = bytes.clone();
            // The first page begins with the header of the file.
            let start = page * 4096 + if page == 0 { 100 } else { 0 };
            let content = &mut damaged[start..(page + 1) * 4096];
            match how {
                "zeros" => content.fill(0),
                "nonsense" => rng.fill_bytes(content),
                "a byte" => content[rng.next_u32() as usize % 3_900] ^= 1 << (rng.next_u32() % 8),
                _ => content[rng.next_u32() as usize % 12] ^= 1 << (rng.next_u32() % 8),
            }
            fs::write(&path, &damaged).unwrap();
            let _ = fs::remove_file(folder.path().join("app.db-wal"));
            judge(&path, page, how);
        }
    }
}

#[test]
fn a_damaged_page_leaves_the_pool_whole_and_never_hangs_it() {
    damaged_files(|path, _, _| drop(use_all(path)));
}

/// Some damage the engine meets with a panic (an index out of range, an `unreachable!`, and in a debug build its own
/// assertions): the caller of `execute` gets an error instead.
#[test]
fn a_damaged_page_is_an_error_and_no_panic() {
    let mut panics = Vec::new();
    damaged_files(|path, page, how| {
        panics
            .extend(use_all(path).into_iter().filter_map(|told| Some(format!("page {page}, {how}: {}", told.err()?))));
    });
    assert!(panics.is_empty(), "{} panics: {panics:#?}", panics.len());
}

/// What is lost with a file must not have been acknowledged. The engine itself keeps writing to files that have no name any
/// more.
fn assert_not_acknowledged(meanwhile: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path());
    block_on(async {
        let db = PooledDatabaseWriter::open(&path).await.unwrap();
        db.execute("INSERT INTO t VALUES (1000, 'before')", ()).await.unwrap();
        meanwhile(folder.path());
        let outcome = db.execute("INSERT INTO t VALUES (1001, 'after')", ()).await;
        db.close().await;
        let there =
            rusqlite::Connection::open(&path).unwrap().query_row("SELECT 1 FROM t WHERE x = 1001", (), |_| Ok(()));
        assert!(outcome.is_err() || there.is_ok(), "acknowledged, and not in the file: {outcome:?}");
    });
}

#[test]
fn a_write_to_a_file_that_was_removed_is_not_acknowledged() {
    assert_not_acknowledged(|folder| {
        fs::remove_file(folder.join("app.db")).unwrap();
        fs::remove_file(folder.join("app.db-wal")).unwrap();
    });
}

#[test]
fn a_write_to_a_file_that_another_took_the_place_of_is_not_acknowledged() {
    assert_not_acknowledged(|folder| {
        let backup = tempfile::tempdir().unwrap();
        fs::rename(database(backup.path()), folder.join("app.db")).unwrap();
        fs::remove_file(folder.join("app.db-wal")).unwrap();
    });
}

#[test]
fn a_write_whose_log_was_removed_is_not_acknowledged() {
    assert_not_acknowledged(|folder| fs::remove_file(folder.join("app.db-wal")).unwrap());
}

#[test]
fn a_write_to_a_file_that_became_read_only_is_refused_by_type_and_goes_on_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path());
    let chattr = |flag: &str| {
        let files = ["app.db", "app.db-wal"].map(|name| folder.path().join(name));
        Command::new("chattr").arg(flag).args(files).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    block_on(async {
        let db = PooledDatabaseWriter::open(&path).await.unwrap();
        db.execute("INSERT INTO t VALUES (1000, 'before')", ()).await.unwrap();
        if !chattr("+i") {
            eprintln!("this machine allows no chattr +i: an open file cannot be made read-only");
            return;
        }
        let refused = db.execute("INSERT INTO t VALUES (1001, 'meanwhile')", ()).await;
        let there = contents(&db).await;
        assert!(chattr("-i"));
        let kind = std::io::ErrorKind::PermissionDenied;
        let refused = refused.unwrap_err();
        let Error::Engine(engine) = refused.cause() else { panic!("{refused:?}") };
        assert!(matches!(engine, turso::Error::IoError(said, _) if *said == kind), "{engine:?}");
        assert_eq!(there.unwrap().len(), 101);
        db.execute("INSERT INTO t VALUES (1002, 'after')", ()).await.unwrap();
        assert_eq!(contents(&db).await.unwrap().len(), 102);
        db.close().await;
    });
}

/// As SQLite makes them: the engine would refuse every write, and say that the database is read-only.
#[test]
fn a_database_with_auto_vacuum_is_not_opened_to_be_written() {
    for mode in ["FULL", "INCREMENTAL"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let sqlite = rusqlite::Connection::open(&path).unwrap();
        sqlite
            .execute_batch(&format!("PRAGMA auto_vacuum = {mode}; CREATE TABLE t (x); INSERT INTO t VALUES (1)"))
            .unwrap();
        drop(sqlite);
        let before = fs::read(&path).unwrap();
        assert_not_opened(open(&path), &path, &["auto_vacuum", "read_only"]);
        assert_eq!(fs::read(&path).unwrap(), before, "it is as it was");
        let sqlite = rusqlite::Connection::open(&path).unwrap();
        sqlite.execute_batch("PRAGMA auto_vacuum = NONE; VACUUM").unwrap();
        drop(sqlite);
        block_on(async { open_and_write(&path).await });
    }
}

async fn open_and_write(path: &Path) {
    let db = PooledDatabaseWriter::open(path).await.unwrap();
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    db.close().await;
}

#[test]
fn a_read_only_pool_has_no_writer_and_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path());
    block_on(async {
        let pool = ConnectionPool::builder(&path).read_only(true).build().await.unwrap();
        let error = PooledDatabaseWriter::new(pool).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Config { field: "read_only", .. }), "{error}");
        let missing = folder.path().join("none.db");
        let error = ConnectionPool::builder(&missing).read_only(true).build().await.map(drop).unwrap_err();
        assert!(error.to_string().contains("there is no such file"), "{error}");
    });
}
