//! Exhibit 20: the pool that first mended the failure of this project's story, one flaw at a time.
//!
//! Its flaws together are a subject of the harness, `src/harness/subjects/number_twenty.rs`, and `tests/proof/prove.rs` shows
//! that the proof turns it down. That its guards were clones of one another cannot be replayed: with ours it does not
//! compile, see `tests/package/compile_fail/a_guard_is_not_cloned.rs`.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use poolproof::{AcquireError, Behavior, ConnectionPool, Pool, PooledDatabaseWriter};
use tokio::sync::oneshot;
use tokio_test::task;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};

use super::{database, get, numbers, pool, queue, sum};
use crate::server::{Call, Does, Manager};

/// 20. the first fix: a semaphore that nobody acquires.
///
/// ```text
/// tasks 1 to 3                    tasks 4 to 20
/// 0 of 3 are open: each opens one
///                                 0 of 3 are open: each opens one, is told "maximum
///                                 connection pool size reached", or looks every 10 ms
/// ```
#[tokio::test]
async fn a_cold_start_opens_no_more_than_there_may_be() {
    let (pool, server) = pool(3);
    let (connected, signals): (Vec<_>, Vec<_>) = [0; 3].map(|_| oneshot::channel()).into_iter().unzip();
    signals.into_iter().for_each(|signal| server.next(Call::Connect, Does::Wait(signal)));
    let mut users = [0; 20].map(|_| queue(&pool));
    assert_eq!((server.calls(Call::Connect), numbers(&pool)), (3, [3, 0, 3, 17]));
    connected.into_iter().for_each(|connected: oneshot::Sender<()>| connected.send(()).unwrap());
    for user in &mut users {
        assert!(user.is_woken(), "in turn");
        drop(assert_ready_ok!(user.poll()));
    }
    assert_eq!((server.opened(), server.most_alive()), (3, 3));
}

/// 20. the first fix: what one task opens, another takes.
///
/// ```text
/// task 1                          task 2
/// opens a connection
/// puts it among the idle ones
///                                 takes it
/// finds none: "maximum connection
/// pool size reached"
/// ```
#[tokio::test]
async fn nobody_takes_a_connection_from_who_opened_it() {
    let (pool, server) = pool(1);
    let (connected, signal) = oneshot::channel();
    server.next(Call::Connect, Does::Wait(signal));
    let (mut opening, mut other) = (queue(&pool), queue(&pool));
    connected.send(()).unwrap();
    assert_pending!(other.poll(), "polled first, it still comes second");
    let opened = assert_ready_ok!(opening.poll());
    assert_pending!(other.poll());
    drop(opened);
    assert_eq!(assert_ready_ok!(other.poll()).number, 1);
}

/// 20. the first fix: the size is looked at outside the lock.
///
/// ```text
/// thread 1                        thread 2
/// 0 of 1 are open
///                                 0 of 1 are open
/// opens one
///                                 opens one
/// ```
#[test]
fn threads_that_see_the_last_room_at_once_open_one_connection() {
    const THREADS: usize = 4;
    for _ in 0..500 {
        let (pool, server) = pool(1);
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    start.wait();
                    runtime.block_on(async { drop(pool.get().await.unwrap()) });
                });
            }
        });
        assert_eq!((server.opened(), server.most_alive(), pool.status().most_open), (1, 1, 1));
    }
}

/// 20. the first fix: a guard's drop spawns a task.
///
/// ```text
/// user, on a plain thread
/// drops its guard: "there is no reactor running", a panic in a destructor
/// the slot is gone for good
/// ```
#[test]
fn a_guard_comes_back_without_a_runtime() {
    let (pool, _) = pool(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (held, mut waiter) = runtime.block_on(async { (get(&pool), queue(&pool)) });
    thread::spawn(move || drop(held)).join().expect("no panic");
    assert!(waiter.is_woken());
    assert_ready_ok!(waiter.poll());
    drop(runtime);
    drop(get(&pool));
    assert_eq!(numbers(&pool), [1, 1, 0, 0]);
}

/// 20. the first fix: `close` counts from zero again while guards are out.
///
/// ```text
/// users                           closer
/// hold 3 of 3
///                                 size = 0
/// 3 more are opened: 6 of 3
/// give back 6: the size is -3
/// ```
#[tokio::test]
async fn a_pool_that_closes_goes_on_counting_what_is_alive() {
    let (pool, server) = pool(3);
    let mut held = vec![get(&pool), get(&pool), get(&pool)];
    let mut close = task::spawn(pool.close());
    for alive in [3, 2, 1] {
        assert_pending!(close.poll());
        assert!(matches!(assert_ready_err!(task::spawn(pool.get()).poll()), AcquireError::Closed));
        assert_eq!((numbers(&pool), server.alive()), ([alive, 0, alive, 0], alive));
        held.pop();
    }
    assert!(close.is_woken());
    assert_ready!(close.poll());
    assert_eq!((numbers(&pool), server.most_alive()), ([0, 0, 0, 0], 3));
}

/// 20. the first fix: `close` and a connection being opened wait for each other's lock.
///
/// ```text
/// opener                          closer
/// holds the idle ones' lock
///                                 holds the size's lock
/// wants the size's lock
///                                 wants the idle ones' lock
/// ```
#[test]
fn opening_and_closing_at_once_wait_for_no_lock_of_each_other() {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || {
        for _ in 0..500 {
            let (pool, server) = pool(1);
            let start = Arc::new(Barrier::new(2));
            let opener = at_once(&start, &pool, async |pool| drop(pool.get().await));
            let closer = at_once(&start, &pool, async |pool| pool.close().await);
            opener.join().unwrap();
            closer.join().unwrap();
            assert_eq!((numbers(&pool), server.alive()), ([0, 0, 0, 0], 0));
        }
        done.send(()).unwrap();
    });
    outcome.recv_timeout(Duration::from_secs(60)).expect("a deadlock, or a wrong count");
}

fn at_once(
    start: &Arc<Barrier>,
    pool: &Pool<Manager>,
    work: impl AsyncFnOnce(Pool<Manager>) + Send + 'static,
) -> thread::JoinHandle<()> {
    let (start, pool) = (Arc::clone(start), pool.clone());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        start.wait();
        runtime.block_on(work(pool));
    })
}

/// 20. the first fix: every new connection runs the schema.
///
/// ```text
/// user 1                          user 2
/// opens a connection: CREATE
/// TABLE IF NOT EXISTS, and so on
///                                 opens a connection: CREATE TABLE IF NOT EXISTS:
///                                 "database is locked"
/// ```
#[tokio::test]
async fn opening_a_connection_writes_nothing_and_needs_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(4).build().await.unwrap();
    let mut writer = pool.get().await.unwrap();
    let locked = writer.begin(Behavior::Immediate).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(pool.get().await.expect("the lock is somebody else's"));
    }
    locked.rollback().await.unwrap();
    for other in &mut others {
        let mut rows = other.query("SELECT COUNT(*) FROM sqlite_schema", ()).await.unwrap();
        assert_eq!(rows.next().await.unwrap().expect("one row").get::<i64>(0).unwrap(), 0, "it is as it was");
    }
}

/// 20. the first fix: a busy time-out of 0.
///
/// ```text
/// writer 1                        writer 2
/// BEGIN IMMEDIATE
///                                 BEGIN IMMEDIATE: "database is locked", at once
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_meet_a_locked_database_wait_for_it() {
    let (pool, _folder) = database(2).await;
    let db = PooledDatabaseWriter::new(pool.clone()).await.unwrap();
    let mut guard = pool.get().await.unwrap();
    let locked = guard.begin(Behavior::Immediate).await.unwrap();
    let writes: Vec<_> = (0..8)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { db.execute("INSERT INTO t VALUES (1)", ()).await })
        })
        .collect();
    // The lane meets the lock.
    while db.status().retries == 0 {
        assert!(writes.iter().all(|write| !write.is_finished()));
        tokio::task::yield_now().await;
    }
    locked.rollback().await.unwrap();
    for write in writes {
        write.await.unwrap().expect("it waited");
    }
    assert_eq!(sum(&mut guard).await, 8);
}
