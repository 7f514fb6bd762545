//! How long a read may run, whose clock it uses, and on whose stack.

use std::time::{Duration, Instant};

use poolproof::{Error, PooledDatabaseWriter, Result, Snapshot, WriterConfig};
use tempfile::TempDir;

use crate::world::{count, rows, writer, writer_of};

const LIMIT: Duration = Duration::from_millis(50);

const LONG: Duration = Duration::from_secs(30);

/// Many rows, of which a join makes so many that no machine reads them all.
const ENDLESS: &str = "SELECT a.x FROM t a, t b, t c, t d, t e";

async fn limited() -> (PooledDatabaseWriter, TempDir) {
    let (db, folder) = writer_of(WriterConfig { read_timeout: Some(LIMIT), ..WriterConfig::default() }).await;
    db.execute("INSERT INTO t SELECT value FROM generate_series(1, 500)", ()).await.unwrap();
    (db, folder)
}

async fn read_on(snapshot: &mut Snapshot<'_>) -> Result<()> {
    let mut rows = snapshot.query(ENDLESS, ()).await?;
    while rows.next().await?.is_some() {}
    Ok(())
}

fn is_of_the_limit(outcome: &Result<()>) -> bool {
    matches!(outcome, Err(Error::ReadTimeout(limit)) if *limit == LIMIT)
}

#[tokio::test]
async fn a_read_is_cut_between_two_rows() {
    let (db, _folder) = limited().await;
    let began = Instant::now();
    let outcome = db.read(read_on).await;
    assert!(is_of_the_limit(&outcome), "{outcome:?}");
    assert!(began.elapsed() >= LIMIT);
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "the read took longer than 50ms; read less at once, or raise WriterConfig::read_timeout"
    );
    assert_eq!(rows(&db).await, 500, "its connection reads on");
    assert_eq!(db.status().pool.in_use, 1, "the lane's");
}

/// One that waits for something else, and one that asks again and again whatever it is told.
#[tokio::test]
async fn a_read_is_cut_wherever_it_waits_and_whatever_it_heeds() {
    let (db, _folder) = limited().await;
    let outcome = db.read(async |_: &mut Snapshot<'_>| std::future::pending::<Result<()>>().await).await;
    assert!(is_of_the_limit(&outcome), "{outcome:?}");
    for sql in ["SELECT 1", "no SQL", "DELETE FROM t"] {
        let heedless = db.read(async move |snapshot: &mut Snapshot<'_>| {
            loop {
                let _ = snapshot.query(sql, ()).await.map(drop);
            }
        });
        let outcome: Result<()> = tokio::time::timeout(LONG, heedless).await.expect("it is cut");
        assert!(is_of_the_limit(&outcome), "{sql}: {outcome:?}");
    }
    let status = db.status().pool;
    assert_eq!((status.in_use, rows(&db).await), (1, 500));
}

/// The next user of the connection has all of its time.
#[tokio::test]
async fn the_limit_is_of_one_read_only() {
    let (db, _folder) = limited().await;
    for _ in 0..3 {
        assert_eq!(rows(&db).await, 500);
        tokio::time::sleep(LIMIT).await;
    }
    let mut guard = db.pool().get().await.unwrap();
    guard.query("SELECT 1", ()).await.unwrap().next().await.unwrap().unwrap();
}

#[cfg(feature = "cache")]
#[tokio::test]
async fn a_cached_read_has_the_same_limit() {
    let config = WriterConfig { read_timeout: Some(LIMIT), cache: 1 << 20, ..WriterConfig::default() };
    let (db, _folder) = writer_of(config).await;
    db.execute("INSERT INTO t SELECT value FROM generate_series(1, 500)", ()).await.unwrap();
    let outcome = db.query_cached(ENDLESS, ()).await.map(drop);
    assert!(is_of_the_limit(&outcome), "{outcome:?}");
    assert_eq!(db.query_cached("SELECT COUNT(*) FROM t", ()).await.unwrap().rows()[0].get::<i64>(0).unwrap(), 500);
}

/// The blocking pool, on which reads ran, keeps a paused clock from moving on while they do. On the writer's threads time is real.
#[tokio::test(start_paused = true)]
async fn a_sleep_inside_a_read_ends_though_the_clock_is_paused() {
    let (db, _folder) = writer().await;
    let slept = db.read(async |snapshot| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        count(snapshot).await
    });
    assert_eq!(slept.await.unwrap(), 0);
}

/// A caller's runtime that nobody runs any more: the read ends by its limit all the same, and its connection comes back.
#[test]
fn a_read_depends_on_no_runtime_of_its_callers() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (service, left) = (runtime(), runtime());
    let (db, _folder) = service.block_on(limited());
    let waits = async |_: &mut Snapshot<'_>| -> Result<()> {
        tokio::time::sleep(LONG).await;
        Ok(())
    };
    let mut kept = tokio_test::task::spawn(db.read(waits));
    left.block_on(async { assert!(kept.poll().is_pending()) });
    assert_eq!(db.status().pool.in_use, 2);
    service.block_on(async {
        tokio::time::timeout(LONG / 2, async {
            while db.status().pool.in_use > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the connection comes back");
        tokio::time::timeout(LONG / 2, db.close()).await.expect("nothing is left");
    });
}

/// What a closure spawns outlives it, though its thread has nothing else to do.
#[tokio::test]
async fn a_task_that_a_read_spawns_runs_to_its_end() {
    let (db, _folder) = writer().await;
    let (done, is_done) = tokio::sync::oneshot::channel();
    db.read(async move |_: &mut Snapshot<'_>| {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = done.send(());
        });
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    db.close().await;
    drop(db);
    is_done.await.unwrap();
}

/// 2 MiB, which a thread of the runtime has, would do for neither.
#[tokio::test]
async fn a_read_has_a_stack_of_sixteen_mebibytes() {
    fn deep(left: usize) -> usize {
        let frame = std::hint::black_box([left; 1024]);
        if left == 0 { frame[0] } else { deep(left - 1) + frame[7] }
    }
    let (db, _folder) = writer().await;
    let sum = db.read(async |_: &mut Snapshot<'_>| Ok::<_, Error>(deep(1000))).await.unwrap();
    assert_eq!(sum, 500_500);
}

/// They end with the writer; on Linux that can be seen.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_threads_of_reads_are_few_and_end_with_the_writer() {
    let readers = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks
            .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == NAME))
            .count()
    };
    const NAME: &str = "unlike-others";
    let (db, _folder) = writer().await;
    let name = async |_: &mut Snapshot<'_>| {
        std::fs::write("/proc/thread-self/comm", NAME).unwrap();
        Ok::<_, Error>(())
    };
    for _ in 0..100 {
        let reads: Vec<_> = (0..16)
            .map(|_| {
                tokio::spawn({
                    let db = db.clone();
                    async move { db.read(name).await }
                })
            })
            .collect();
        for read in reads {
            read.await.unwrap().unwrap();
        }
    }
    // Three connections read at once; a thread may not have come to rest when the next read begins.
    let most = readers();
    assert!((1..=8).contains(&most), "{most} threads for 3 connections");
    db.close().await;
    let ended = async {
        while readers() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("they end at once, not when nobody has used them for long");
}
