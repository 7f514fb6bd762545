//! A disk that is full: writers are told so by an error that says it, readers go on, and when there is room again so do
//! the writers.
//!
//! Filled in three ways, each in a process of its own: the log by a limit on how long a file may be, the file by the same
//! limit (the engine moves the log into it every 1,000 pages), and both by a small file system, where the machine allows one.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::alone;
use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Result, Snapshot};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Files may be this long for a body, in the shell's units of 512 bytes; a write beyond that fails, and does not end the
/// process. The soft limit only, so the body can lift it: that is when there is room again.
fn limited(bytes: u64) -> String {
    format!("trap '' XFSZ && ulimit -S -f {}", bytes / 512)
}

fn lift_the_limit() {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn writers_whose_log_has_no_room_are_told_and_go_on_when_there_is() {
    let folder = tempfile::tempdir().unwrap();
    alone::run(alone::body_after(&limited(2 << 20), &[], "disk::bodies::limit", folder.path()));
}

#[test]
fn writers_whose_file_has_no_room_are_told_and_go_on_when_there_is() {
    let folder = tempfile::tempdir().unwrap();
    alone::run(alone::body_after(&limited(6 << 20), &[], "disk::bodies::limit_without_readers", folder.path()));
}

#[test]
fn writers_on_a_full_file_system_are_told_and_go_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
    let mount = "mount -t tmpfs -o size=8m tmpfs \"$POOLPROOF_TEST_PLACE\"";
    let allowed = alone::body_after(mount, &wrapper, "disk::bodies::nothing", folder.path()).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("this machine allows no mount in a namespace of its own: no small disk to fill");
        return;
    }
    alone::run(alone::body_after(mount, &wrapper, "disk::bodies::small_file_system", folder.path()));
}

/// Run by the tests above, each in a process of its own.
mod bodies {
    use super::*;

    #[test]
    #[ignore = "run by others, with a limit"]
    fn limit() {
        fill_and_make_room(&alone::place(), Readers::FromTheStart, lift_the_limit);
    }

    /// A reader would keep the log from being begun anew, and it would reach the limit before the file does. Without one the
    /// file does first, and that alone refuses nobody: what does not fit into it stays in the log.
    #[test]
    #[ignore = "run by others, with a limit"]
    fn limit_without_readers() {
        let place = alone::place();
        fill_and_make_room(&place, Readers::WhenFull, || {
            let length = std::fs::metadata(place.join("full.db")).unwrap().len();
            assert!(length > (6 << 20) - 8192, "the file has no room either: {length}");
            lift_the_limit();
        });
    }

    #[test]
    #[ignore = "run by others, on a small file system"]
    fn small_file_system() {
        let place = alone::place();
        let ballast = place.join("ballast");
        std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
        fill_and_make_room(&place, Readers::FromTheStart, || std::fs::remove_file(ballast).unwrap());
    }

    #[test]
    #[ignore = "run by others, to see what this machine allows"]
    fn nothing() {}
}

#[derive(PartialEq)]
enum Readers {
    FromTheStart,
    WhenFull,
}

/// Rows that were acknowledged, and rows of which nobody can tell.
#[derive(Default)]
struct Told {
    acknowledged: BTreeSet<i64>,
    unknown: BTreeSet<i64>,
    refused: Vec<String>,
}

impl Told {
    /// Writes the rows of `ids`: one by itself, several as a transaction.
    async fn write(&mut self, db: &PooledDatabaseWriter, ids: std::ops::Range<i64>) -> bool {
        let content = "x".repeat(3_000);
        let outcome = if ids.end - ids.start == 1 {
            db.execute("INSERT INTO t VALUES (?1, ?2)", (ids.start, content)).await.map(drop)
        } else {
            let ids = ids.clone();
            let work = async move |tx: &mut poolproof::Transaction<'_>| {
                for id in ids.clone() {
                    tx.execute("INSERT INTO t VALUES (?1, ?2)", (id, content.as_str())).await?;
                }
                Ok::<_, Error>(())
            };
            db.write(work).await.map(drop)
        };
        match outcome {
            Ok(()) => self.acknowledged.extend(ids),
            Err(error) => {
                assert!(says_full(&error), "{error:?}");
                if is_unknown(&error) {
                    self.unknown.extend(ids);
                }
                self.refused.push(format!("{error:?}"));
                return false;
            }
        }
        true
    }
}

fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Unknown { .. })
}

/// Whether the error says, by its type, that there was no room.
fn says_full(error: &Error) -> bool {
    let Error::Engine(engine) = error.cause() else { return false };
    match engine {
        turso::Error::DatabaseFull(_) => true,
        turso::Error::IoError(kind, _) => matches!(kind, ErrorKind::StorageFull | ErrorKind::FileTooLarge),
        _ => false,
    }
}

async fn ids(snapshot: &mut Snapshot<'_>) -> Result<Vec<i64>> {
    let mut rows = snapshot.query("SELECT id FROM t ORDER BY id", ()).await?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next().await? {
        ids.push(row.get(0)?);
    }
    Ok(ids)
}

/// ```text
/// writers                        readers
/// write until there is no room   read all the while
/// are told, and told again
///                                still read
/// there is room again
/// write                          read what was written
/// ```
fn fill_and_make_room(folder: &Path, readers: Readers, make_room: impl FnOnce()) {
    let path = folder.join("full.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (told, seen) = runtime.block_on(async {
        let pool = ConnectionPool::builder(&path).max_connections(4).build().await.unwrap();
        let db = PooledDatabaseWriter::new(pool).await.unwrap();
        db.execute("CREATE TABLE t (id INTEGER, content TEXT)", ()).await.unwrap();
        let (over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = || tokio::spawn(read_all_the_while(db.clone(), Arc::clone(&over), Arc::clone(&reads)));
        let early = (readers == Readers::FromTheStart).then(start);
        // One that reads an old moment for as long as it is full: between the reads of the others the lane could copy the log
        // into the file, and begin it anew, and there would be room.
        let (release, released) = oneshot::channel();
        let old = match readers {
            Readers::FromTheStart => Some(reads_an_old_moment(&db, released).await),
            Readers::WhenFull => None,
        };

        let mut told = Told::default();
        let mut next = 0..;
        let mut some = |count: usize| {
            let ids: Vec<i64> = next.by_ref().take(count).collect();
            ids[0]..ids[count - 1] + 1
        };
        while told.write(&db, some(1)).await && told.write(&db, some(5)).await {}
        let reader = early.unwrap_or_else(start);
        // However often they try.
        for count in [1, 5, 1, 5, 20] {
            told.write(&db, some(count)).await;
        }
        assert!(told.refused.len() >= 3, "it is full: {:?}", told.refused);
        let before = reads.load(Ordering::SeqCst);
        while reads.load(Ordering::SeqCst) < before + 3 {
            assert!(!reader.is_finished(), "readers go on");
            tokio::task::yield_now().await;
        }

        make_room();
        if let Some(old) = old {
            release.send(()).unwrap();
            assert_eq!(old.await.unwrap(), [0; 0], "its moment is the one before the first row");
        }
        let full = told.refused.len();
        for count in [1, 5, 20, 1, 5] {
            told.write(&db, some(count)).await;
        }
        assert_eq!(
            told.refused[full..],
            [""; 0],
            "there is room, and nobody is refused any more; before: {:?}",
            told.refused
        );
        over.store(true, Ordering::SeqCst);
        reader.await.unwrap();
        let there = db.read(async |snapshot| ids(snapshot).await).await.unwrap();
        check(&told, &there);
        db.close().await;
        (told, there)
    });
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let integrity: String = sqlite.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    let mut statement = sqlite.prepare("SELECT id FROM t ORDER BY id").unwrap();
    let there: Vec<i64> = statement.query_map((), |row| row.get(0)).unwrap().map(|id| id.unwrap()).collect();
    assert_eq!(there, seen, "what nobody could tell of is as it was");
    let took_effect = told.unknown.iter().filter(|id| there.contains(id)).count();
    println!(
        "{} rows acknowledged; of {} nobody could tell, {took_effect} are there; refused: {:#?}",
        told.acknowledged.len(),
        told.unknown.len(),
        told.refused
    );
}

/// Begins a read, which goes on until it is released, and sees then what it saw first.
async fn reads_an_old_moment(db: &PooledDatabaseWriter, released: oneshot::Receiver<()>) -> JoinHandle<Vec<i64>> {
    let (begun, begins) = oneshot::channel();
    let db = db.clone();
    let read = tokio::spawn(async move {
        let read = db.read(async move |snapshot| {
            begun.send(()).expect("the test waits for it");
            released.await.expect("the test releases it");
            ids(snapshot).await
        });
        read.await.unwrap()
    });
    begins.await.unwrap();
    read
}

async fn read_all_the_while(db: PooledDatabaseWriter, over: Arc<AtomicBool>, reads: Arc<AtomicU64>) {
    while !over.load(Ordering::SeqCst) {
        let there = db.read(async |snapshot| ids(snapshot).await).await.unwrap();
        assert!(there.is_sorted_by(|a, b| a < b), "no row is there twice");
        reads.fetch_add(1, Ordering::SeqCst);
    }
}

/// All that was acknowledged is there once, and nothing else but what nobody could tell of.
fn check(told: &Told, there: &[i64]) {
    let set: BTreeSet<i64> = there.iter().copied().collect();
    assert_eq!(set.len(), there.len(), "no row is there twice");
    assert!(told.acknowledged.is_subset(&set), "lost: {:?}", told.acknowledged.difference(&set));
    let more: Vec<_> = set.difference(&told.acknowledged).filter(|id| !told.unknown.contains(id)).collect();
    assert!(more.is_empty(), "there though refused: {more:?}");
}
