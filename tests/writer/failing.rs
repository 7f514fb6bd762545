//! A write that fails or panics has no effect, and harms nobody else.

use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use poolproof::{Ack, ConnectionPool, Error, PooledDatabaseWriter, Result, WriterConfig};

use crate::world::{hold, insert, leave, patient, queue, rows, until, writer, writer_of};

#[tokio::test]
async fn a_write_that_fails_has_no_effect_and_its_neighbours_have_theirs() {
    let (db, _folder) = writer().await;
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let failed: Result<Ack<()>> = db
        .write(async |tx| {
            tx.execute("INSERT INTO t VALUES (2)", ()).await?;
            tx.execute("INSERT INTO missing VALUES (3)", ()).await.map(drop)
        })
        .await;
    assert!(matches!(failed, Err(Error::Engine(_))), "{failed:?}");
    db.execute("INSERT INTO t VALUES (4)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 2);
    assert_eq!(db.status().rolled_back, 1);
}

/// What ends the caller of a write that inserts a row and panics.
async fn panic_of(db: &PooledDatabaseWriter) -> Box<dyn Any + Send> {
    let db = db.clone();
    let caller = tokio::spawn(async move {
        db.write(async |tx| -> Result<()> {
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            panic!("the closure's own panic");
        })
        .await
    });
    caller.await.unwrap_err().into_panic()
}

#[tokio::test]
async fn a_write_that_panics_has_no_effect_and_panics_in_its_caller() {
    let (db, _folder) = writer().await;
    assert_eq!(panic_of(&db).await.downcast_ref::<&str>(), Some(&"the closure's own panic"));
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 1);
}

/// ```text
/// lane                         reader 1            reader 2
/// a write panics:
/// its connection is discarded
///                              holds the other     waits
/// opens another in its own
/// slot, waits for nobody
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_lost_its_connection_does_not_queue_behind_readers() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(2).build().await.unwrap();
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    let reader = db.pool().get().await.unwrap();
    let waiting = tokio::spawn({
        let pool = db.pool().clone();
        async move { pool.get().await.map(drop) }
    });
    while db.status().pool.waiting == 0 {
        tokio::task::yield_now().await;
    }
    let panicking = db.clone();
    let caller = tokio::spawn(async move { panicking.write(async |_| -> Result<()> { panic!("in a write") }).await });
    assert!(caller.await.unwrap_err().is_panic());
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!((db.status().pool.waiting, db.status().pool.in_use), (1, 2), "the reader still waits its turn");
    drop(reader);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_that_sees_a_write_panic_finds_the_lock_free() {
    let (db, _folder) = writer().await;
    panic_of(&db).await;
    // Not through the lane: were its transaction still open, this would be Busy.
    db.pool().get().await.unwrap().execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 1);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a destructor");
        }
    }
}

#[tokio::test]
async fn a_destructor_that_panics_does_not_end_the_lane() {
    let (db, _folder) = writer().await;
    // Its answer is a value whose drop panics, and nobody waits for it.
    let release = leave(&db, async |_| Ok(PanicsWhenDropped)).await;
    release.notify_one();
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(rows(&db).await, 2);
}

#[tokio::test]
async fn a_batch_takes_effect_wholly_or_not_at_all() {
    let (db, _folder) = writer().await;
    assert!(db.execute_batch("INSERT INTO t VALUES (1); INSERT INTO missing VALUES (2)").await.is_err());
    assert_eq!(rows(&db).await, 0);
}

/// The engine ends the transaction by itself; whatever came after would commit by itself, under a write that fails.
#[tokio::test]
async fn nothing_runs_after_a_conflict_has_rolled_the_transaction_back() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE u (x INTEGER PRIMARY KEY); INSERT INTO u VALUES (5)").await.unwrap();
    let outcome: Result<Ack<u64>> = db
        .write(async |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            let conflict = tx.execute("INSERT OR ROLLBACK INTO u VALUES (5)", ()).await;
            assert!(conflict.is_err());
            tx.execute("INSERT INTO t VALUES (99)", ()).await
        })
        .await;
    assert!(matches!(outcome.as_ref().unwrap_err().cause(), Error::Misuse(_)), "{outcome:?}");
    assert_eq!(rows(&db).await, 0);
}

/// What a destructor of the user's does on the lane's thread: it panics, once.
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0.swap(false, Ordering::SeqCst) {
            resume_unwind(Box::new("in a destructor"));
        }
    }
}

fn bomb() -> (Bomb, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(true));
    (Bomb(Arc::clone(&armed)), armed)
}

/// It is alive, and nothing is lost.
async fn serves(db: &PooledDatabaseWriter, expected: i64, what: &str) {
    let outcome = db.execute("INSERT INTO t VALUES (99)", ()).await;
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(rows(db).await, expected, "{what}");
    assert_eq!(db.status().pool.in_use, 1, "{what}");
}

#[tokio::test]
async fn a_destructor_that_panics_when_a_closure_runs_out_of_time_does_not_end_the_lane() {
    let write_timeout = Duration::from_millis(30);
    let (db, _folder) = writer_of(WriterConfig { write_timeout, ..patient() }).await;
    let (bomb, armed) = bomb();
    let mut bomb = Some(bomb);
    let outcome: Result<Ack<()>> = db
        .write(async move |tx| {
            let _dropped_half_way = bomb.take();
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            std::future::pending().await
        })
        .await;
    assert!(matches!(outcome.as_ref().unwrap_err().cause(), Error::Deadline { .. }), "{outcome:?}");
    assert!(!armed.load(Ordering::SeqCst), "it went off");
    serves(&db, 1, "a local").await;
}

#[tokio::test]
async fn a_destructor_that_panics_when_a_write_is_settled_or_left_does_not_end_the_lane() {
    let (db, _folder) = writer().await;
    // What it captured.
    let (captured, armed) = bomb();
    let write = db.write(async move |tx| {
        let _owned = &captured;
        tx.execute("INSERT INTO t VALUES (1)", ()).await
    });
    let outcome: Result<Ack<u64>> = write.await;
    outcome.unwrap();
    until(|| !armed.load(Ordering::SeqCst)).await;
    serves(&db, 2, "what it captured").await;
    // What it captured, of one that is refused at the end.
    let held = hold(&db).await;
    let (captured, armed) = bomb();
    let refused = queue(&db, |db| async move {
        db.write(async move |_| {
            let _owned = &captured;
            Ok::<_, Error>(())
        })
        .await
    })
    .await;
    assert_eq!(db.close_within(Duration::ZERO).await.not_done.len(), 1);
    assert!(!armed.load(Ordering::SeqCst), "it went off");
    assert!(matches!(refused.await.unwrap().unwrap_err().cause(), Error::Closed));
    held.let_go().await;
}

#[tokio::test]
async fn a_destructor_that_panics_when_a_closure_runs_again_does_not_end_the_lane() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE u (x INTEGER UNIQUE); INSERT INTO u VALUES (1)").await.unwrap();
    let held = hold(&db).await;
    let (bomb, armed) = bomb();
    let mut bomb = Some(bomb);
    let write = queue(&db, |db| async move {
        db.write(async move |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            // Its value of the first run, which counts for nothing.
            Ok::<_, Error>(bomb.take())
        })
        .await
    })
    .await;
    let breaks = queue(&db, |db| async move { db.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await }).await;
    held.let_go().await;
    assert!(write.await.unwrap().unwrap().value.is_none());
    assert!(breaks.await.unwrap().is_err() && !armed.load(Ordering::SeqCst));
    serves(&db, 2, "an answer").await;
}

/// An error type whose conversion panics.
#[derive(Debug)]
struct NoError;

impl From<Error> for NoError {
    fn from(_: Error) -> Self {
        resume_unwind(Box::new("in a conversion"))
    }
}

#[tokio::test]
async fn a_conversion_that_panics_does_so_in_its_caller() {
    let write_timeout = Duration::from_millis(30);
    let (db, _folder) = writer_of(WriterConfig { write_timeout, ..patient() }).await;
    let panicking = db.clone();
    let caller = tokio::spawn(async move {
        panicking
            .write(async |tx| -> Result<(), NoError> {
                tx.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
                std::future::pending().await
            })
            .await
    });
    let panic = caller.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"in a conversion"));
    serves(&db, 1, "a conversion").await;
}

/// Panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        resume_unwind(Box::new("the waker panics"));
    }
}

#[tokio::test]
async fn a_waker_that_panics_does_not_end_the_lane() {
    let (db, _folder) = writer_of(WriterConfig { queue: 1, ..patient() }).await;
    let held = hold(&db).await;
    let waker = Waker::from(Arc::new(Panics));
    let mut context = Context::from_waker(&waker);
    // One that waits for its answer, and one that waits for room.
    let mut writes = [insert(db.clone(), 1), insert(db.clone(), 2)].map(Box::pin);
    for write in &mut writes {
        assert!(write.as_mut().poll(&mut context).is_pending());
    }
    let own = held.let_go().await.token.number();
    let [first, second] = writes;
    assert_eq!(first.await.unwrap().token.number(), own + 1);
    second.await.unwrap();
    serves(&db, 3, "a waker").await;
}

/// `FAIL` keeps the rows before the conflict, in SQLite as in the engine, which commits them and then says that it failed. Not
/// through a writer: a write that is told as rolled back has no effect.
#[tokio::test]
async fn a_statement_that_says_fail_leaves_no_row_behind() {
    const SCHEMA: &str = "CREATE TABLE u (x INTEGER UNIQUE); INSERT INTO u VALUES (1); \
        CREATE TABLE v (x INTEGER UNIQUE ON CONFLICT FAIL); INSERT INTO v VALUES (1); \
        CREATE TABLE w (x INTEGER); \
        CREATE TRIGGER says_so BEFORE INSERT ON w WHEN NEW.x = 1 BEGIN SELECT RAISE(FAIL, 'not this one'); END";
    for in_a_batch in [false, true] {
        let (db, _folder) = writer().await;
        db.execute_batch(SCHEMA).await.unwrap();
        let statements =
            ["INSERT OR FAIL INTO u VALUES (7), (1)", "INSERT INTO v VALUES (7), (1)", "INSERT INTO w VALUES (7), (1)"];
        for sql in statements {
            let held = if in_a_batch { Some(hold(&db).await) } else { None };
            let neighbour = in_a_batch.then(|| {
                let db = db.clone();
                tokio::spawn(async move { db.execute("INSERT INTO t VALUES (1)", ()).await })
            });
            let failing = {
                let db = db.clone();
                tokio::spawn(async move { db.execute(sql, ()).await })
            };
            if let Some(held) = held {
                until(|| db.status().queued == 2).await;
                held.let_go().await;
            }
            let error = failing.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::RolledBack { .. }), "{sql}: {error}");
            if let Some(neighbour) = neighbour {
                neighbour.await.unwrap().unwrap();
            }
        }
        let left = db.read(async |snapshot| {
            let sql = "SELECT (SELECT COUNT(*) FROM u), (SELECT COUNT(*) FROM v), (SELECT COUNT(*) FROM w)";
            let mut rows = snapshot.query(sql, ()).await?;
            let row = rows.next().await?.expect("a row");
            Ok::<_, Error>((row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<i64>(2)?))
        });
        assert_eq!(left.await.unwrap(), (1, 1, 0), "in a batch: {in_a_batch}");
        assert_eq!(rows(&db).await, if in_a_batch { 3 } else { 0 });
    }
}

/// The engine is never pending; the closure awaits nothing else.
#[tokio::test]
async fn a_closure_of_nothing_but_statements_runs_out_of_time_too() {
    let (db, _folder) = writer_of(WriterConfig { write_timeout: Duration::from_millis(30), ..patient() }).await;
    let outcome: Result<Ack<()>> = db
        .write(async |tx| {
            loop {
                tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            }
        })
        .await;
    let error = outcome.unwrap_err();
    assert!(matches!(error.cause(), Error::Deadline { .. }), "{error}");
    assert_eq!(rows(&db).await, 0);
}

/// A scan that awaits nothing but the engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_nothing_but_rows_ends_when_nobody_waits_for_it() {
    let (db, _folder) = writer().await;
    let (started, begun) = tokio::sync::oneshot::channel();
    let reading = tokio::spawn({
        let db = db.clone();
        async move {
            db.read(async move |snapshot| {
                let mut started = Some(started);
                loop {
                    snapshot.query("SELECT COUNT(*) FROM t", ()).await?.next().await?;
                    if let Some(started) = started.take() {
                        let _ = started.send(());
                    }
                }
                #[expect(unreachable_code, reason = "it says what the closure's error is")]
                Ok::<(), Error>(())
            })
            .await
        }
    });
    begun.await.unwrap();
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    until(|| db.status().pool.in_use == 1).await;
}
