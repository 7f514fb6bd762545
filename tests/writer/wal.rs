//! A snapshot that is held for long: the log grows, the status says so, and nobody waits for anybody.

use std::path::Path;
use std::time::Duration;

use poolproof::{Connection, ConnectionPool, Error, PooledDatabaseWriter, Result, Snapshot, WalStatus, WriterConfig};
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Writes while the snapshot is held, each of half a page.
const WRITES: i64 = 10_000;

/// Callers that write at once.
const AT_ONCE: i64 = 200;

/// Of a page and its header in the log.
const FRAME: u64 = 4096 + 24;

async fn count(snapshot: &mut Snapshot<'_>) -> Result<i64> {
    let mut rows = snapshot.query("SELECT COUNT(*) FROM t", ()).await?;
    rows.next().await?.expect("a count").get(0)
}

fn log_pages(database: &Path) -> u64 {
    std::fs::metadata(database.with_extension("db-wal")).map_or(0, |log| log.len() / FRAME)
}

/// Resolves when the lane has made another checkpoint, which it does whenever it rests, as long as a page is pinned.
async fn checkpoint(db: &PooledDatabaseWriter) {
    checkpoint_after(db, db.status().wal.checkpoints).await;
}

/// Resolves when it has made more than `before`.
async fn checkpoint_after(db: &PooledDatabaseWriter, before: u64) {
    let began = std::time::Instant::now();
    while db.status().wal.checkpoints <= before {
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint: {:?}", db.status());
        yield_now().await;
    }
}

/// The snapshot begins when all that was written is copied, or before: to the engine those are two kinds of reader.
#[tokio::test]
async fn a_long_snapshot_holds_up_nobody_and_the_log_that_it_pins_is_copied_after_it() {
    for is_all_copied in [false, true] {
        hold_a_long_snapshot(is_all_copied).await;
    }
}

async fn hold_a_long_snapshot(is_all_copied: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let pool = ConnectionPool::open(&path).await.unwrap();
    let config = WriterConfig { checkpoint_idle: Duration::from_millis(1), ..WriterConfig::default() };
    let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER, body BLOB)", ()).await.unwrap();
    let before = db.status().wal.checkpoints;
    db.execute("INSERT INTO t VALUES (0, NULL)", ()).await.unwrap();
    if is_all_copied {
        checkpoint_after(&db, before).await;
    }

    let (begun, begins) = oneshot::channel();
    let (end, ends) = oneshot::channel::<()>();
    let snapshot = tokio::spawn({
        let db = db.clone();
        async move {
            db.read(async move |snapshot| {
                let before = count(snapshot).await?;
                begun.send(()).unwrap();
                ends.await.unwrap();
                Ok::<_, Error>((before, count(snapshot).await?))
            })
            .await
        }
    });
    begins.await.unwrap();
    for batch in 0..WRITES / AT_ONCE {
        let writes: Vec<_> = (0..AT_ONCE)
            .map(|x| {
                let db = db.clone();
                tokio::spawn(async move { db.execute("INSERT INTO t VALUES (?1, zeroblob(2000))", (x,)).await })
            })
            .collect();
        for write in writes {
            write.await.unwrap().unwrap();
        }
        let rows = db.read(async |snapshot| count(snapshot).await).await.unwrap();
        assert_eq!(rows, 1 + (batch + 1) * AT_ONCE, "another reader sees what is committed");
    }
    let status = db.status();
    assert_eq!((status.rolled_back, status.unknown, status.retries), (0, 0, 0), "no writer is refused, nor waits");

    checkpoint(&db).await;
    let (wal, grown) = (db.status().wal, log_pages(&path));
    let warning = db.status().warning().expect("a warning");
    println!(
        "{WRITES} writes in {} commits beside a snapshot: {grown} pages in the log; {wal:?}; {warning}",
        status.commits
    );
    assert!(wal.pages > WRITES as u64 / 2 && wal.pinned_pages > WRITES as u64 / 2, "{wal:?}");
    assert!(warning.contains("readers pin the log") && warning.contains(&wal.pinned_pages.to_string()), "{warning}");

    end.send(()).unwrap();
    assert_eq!(snapshot.await.unwrap().unwrap(), (1, 1), "one moment, from its first query to its last");
    let began = std::time::Instant::now();
    while db.status().wal.pinned_pages > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "still pinned: {:?}", db.status());
        yield_now().await;
    }
    assert!(db.status().warning().is_none(), "{:?}", db.status());
    db.execute("INSERT INTO t VALUES (0, NULL)", ()).await.unwrap();
    let left = log_pages(&path);
    println!("after it: {left} pages in the log, {} copied", db.status().wal.pages);
    assert!(left < 10, "the log begins anew: {left} pages");
    db.close().await;
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    let rows: i64 = sqlite.query_row("SELECT COUNT(*) FROM t", (), |row| row.get(0)).unwrap();
    assert_eq!(rows, WRITES + 2);
}

/// So many writes of two pages each, all queued before the first is run, so that the lane rests only after the last. What it
/// did for the log, and the most pages that this had.
async fn without_a_rest(writes: usize, config: WriterConfig) -> (WalStatus, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let never = Duration::from_hours(1);
    let config = WriterConfig { checkpoint_idle: never, batch_jobs: 1, write_timeout: never, ..config };
    let db = PooledDatabaseWriter::with_config(ConnectionPool::open(&path).await.unwrap(), config).await.unwrap();
    db.execute("CREATE TABLE t (body BLOB)", ()).await.unwrap();
    let (release, held) = oneshot::channel::<()>();
    let mut held = Some(held);
    let writer = db.clone();
    let holds = tokio::spawn(async move {
        let wait = writer.write(async move |_| {
            if let Some(held) = held.take() {
                held.await.unwrap();
            }
            Ok::<_, Error>(())
        });
        wait.await.map(drop)
    });
    let mut tasks = Vec::new();
    for _ in 0..writes {
        let (db, path) = (db.clone(), path.clone());
        tasks.push(tokio::spawn(async move {
            db.execute("INSERT INTO t VALUES (zeroblob(5000))", ()).await?;
            Ok::<_, Error>(log_pages(&path))
        }));
    }
    while db.status().queued < writes {
        yield_now().await;
    }
    release.send(()).unwrap();
    holds.await.unwrap().unwrap();
    let mut most = 0;
    for task in tasks {
        most = most.max(task.await.unwrap().unwrap());
    }
    db.close().await;
    (db.status().wal, most)
}

#[tokio::test]
async fn a_lane_that_does_not_rest_checkpoints_too() {
    // The engine makes one by itself only at 1,000 pages.
    let config = WriterConfig { checkpoint_bytes: 100 * FRAME, ..WriterConfig::default() };
    let (wal, most) = without_a_rest(500, config).await;
    println!("{wal:?}, {most} pages at most");
    // After the last one, and at the close.
    assert!(wal.checkpoints > 2, "{wal:?}");
}

/// It makes its own inside a commit, where an error of the disk tells nothing.
#[tokio::test]
async fn the_lane_comes_before_the_engines_checkpoint() {
    let (wal, most) = without_a_rest(1_000, WriterConfig::default()).await;
    println!("{wal:?}, {most} pages at most");
    assert!((900..1_000).contains(&most), "{most} pages: {wal:?}");
    // The control: whoever asks for it gets the engine's.
    let config = WriterConfig { checkpoint_bytes: u64::MAX, ..WriterConfig::default() };
    let (wal, most) = without_a_rest(1_000, config).await;
    assert!(most > 1_000, "{most} pages: {wal:?}");
}

/// ```text
/// reader                 guard                 lane
/// sees one row
///                        writes rows
/// (pins the log)                               writes: cannot copy all of the log that it found
/// ends
///                                              writes
///                                              writes: copies the rest, and the log begins anew
/// ```
#[tokio::test]
async fn a_log_that_was_found_and_is_pinned_is_copied_when_the_reader_has_ended() {
    for is_all_seen in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let pool = ConnectionPool::open(&path).await.unwrap();
        let mut guard = pool.get().await.unwrap();
        guard.run("CREATE TABLE t (x INTEGER, body BLOB)").await.unwrap();
        let mut reader = pool.get().await.unwrap();
        if !is_all_seen {
            pin(&mut reader).await;
        }
        for _ in 0..100 {
            guard.execute("INSERT INTO t VALUES (1, zeroblob(2000))", ()).await.unwrap();
        }
        if is_all_seen {
            pin(&mut reader).await;
        }
        let found = log_pages(&path);
        assert!(found > 100, "{found}");
        let never = Duration::from_hours(1);
        let config = WriterConfig { checkpoint_idle: never, checkpoint_bytes: u64::MAX, ..WriterConfig::default() };
        let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
        for _ in 0..2 {
            db.execute("INSERT INTO t VALUES (2, NULL)", ()).await.unwrap();
            assert!(log_pages(&path) > found, "it is pinned");
        }
        reader.run("COMMIT").await.unwrap();
        // It is not tried before each batch, but before the fourth.
        db.execute("INSERT INTO t VALUES (2, NULL)", ()).await.unwrap();
        assert!(log_pages(&path) > found, "not before the third");
        db.execute("INSERT INTO t VALUES (2, NULL)", ()).await.unwrap();
        let left = log_pages(&path);
        println!("{found} pages were found, {left} are left");
        assert!(left < 10, "the log begins anew: {left} pages");
        // Once, and not before each batch.
        for _ in 0..20 {
            db.execute("INSERT INTO t VALUES (2, NULL)", ()).await.unwrap();
        }
        assert!(log_pages(&path) >= left + 20, "{} pages", log_pages(&path));
    }
}

/// Whoever reads, by whatever connection of this process, and whenever that began: the log is pinned, and writes go on.
#[tokio::test]
async fn a_reader_that_the_pool_does_not_know_holds_up_no_write() {
    #[derive(Clone, Copy, Debug)]
    enum Began {
        BeforeTheWrites,
        AfterThem,
        WhenAllWasCopied,
    }
    for began in [Began::BeforeTheWrites, Began::AfterThem, Began::WhenAllWasCopied] {
        for (another_pool, detached) in [(false, true), (true, false), (true, true)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("t.db");
            let pool = ConnectionPool::open(&path).await.unwrap();
            let mut guard = pool.get().await.unwrap();
            guard.run("CREATE TABLE t (x INTEGER, body BLOB)").await.unwrap();
            let other = if another_pool { ConnectionPool::open(&path).await.unwrap() } else { pool.clone() };
            let reads = async || {
                let reader = other.get().await.unwrap();
                let (mut lent, mut taken) = if detached { (None, Some(reader.detach())) } else { (Some(reader), None) };
                let connection: &mut Connection = match &mut lent {
                    Some(reader) => reader,
                    None => taken.as_mut().unwrap(),
                };
                pin(connection).await;
                (lent, taken)
            };
            let before = if matches!(began, Began::BeforeTheWrites) { Some(reads().await) } else { None };
            for _ in 0..100 {
                guard.execute("INSERT INTO t VALUES (1, zeroblob(2000))", ()).await.unwrap();
            }
            if matches!(began, Began::WhenAllWasCopied) {
                let mut rows = guard.query("PRAGMA wal_checkpoint", ()).await.unwrap();
                while rows.next().await.unwrap().is_some() {}
            }
            let _reader = if before.is_some() { before } else { Some(reads().await) };
            drop(guard);
            let db = PooledDatabaseWriter::new(pool).await.unwrap();
            for number in 0..20 {
                let written = db.execute("INSERT INTO t VALUES (2, NULL)", ()).await.map(drop);
                assert!(
                    written.is_ok(),
                    "{number}, {began:?}, another pool: {another_pool}, detached: {detached}: {written:?}"
                );
            }
            // A checkpoint that runs beside it fails for nobody either.
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                db.execute("INSERT INTO t VALUES (3, zeroblob(3000000))", ()).await.unwrap();
            }
            let status = db.status().wal;
            assert_eq!((status.failed_checkpoints, status.in_doubt), (0, false), "{began:?}: {status:?}");
        }
    }
}

/// Begins to read, and keeps on.
async fn pin(reader: &mut Connection) {
    reader.run("BEGIN").await.unwrap();
    let mut rows = reader.query("SELECT COUNT(*) FROM t", ()).await.unwrap();
    assert!(rows.next().await.unwrap().is_some());
}
