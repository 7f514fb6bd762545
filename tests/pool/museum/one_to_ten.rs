//! Exhibits 1 to 10: bb8, deadpool, and sqlx while users wait and give back.

use std::cell::Cell;
use std::future::pending;
use std::ptr;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use poolproof::{AcquireError, Error, PoolConfig, PooledDatabaseWriter};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::advance;
use tokio_test::task::Spawn;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok};

use super::{MILLISECOND, SECOND, database, get, give_back_broken, numbers, pool, queue, sum};
use crate::server::{self, Call, Does};

/// 1. bb8 issue 67, <https://github.com/djc/bb8/issues/67>: under load nothing but time-outs, until a restart.
///
/// ```text
/// user                            waiter
/// holds the only connection
///                                 queues: a channel that will bring it a connection
/// gives back: puts the connection
/// into the channel
///                                 is cancelled (its client hung up): the channel goes,
///                                 and the connection in it
/// ```
///
/// The pool went on counting a connection that nobody would ever give back.
#[tokio::test]
async fn a_cancelled_waiter_does_not_leave_the_pool_stuck() {
    let (pool, server) = pool(1);
    let held = get(&pool);
    let waiter = queue(&pool);
    drop(held);
    assert!(waiter.is_woken(), "it was handed the connection");
    drop(waiter);
    assert_eq!(numbers(&pool), [1, 1, 0, 0]);
    assert_eq!((get(&pool).number, server.opened()), (1, 1));
}

/// 2. bb8 issue 122, <https://github.com/djc/bb8/issues/122>: a benchmark that stood still.
///
/// ```text
/// newcomer                        holder
/// finds no idle connection
///                                 gives back: nobody is queued, so nobody is told
/// queues, and waits for a return
/// that has been
/// ```
#[test]
fn a_return_between_the_look_and_the_queue_is_not_missed() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let (pool, _) = pool(1);
    let held = get(&pool);
    let mut newcomer = Box::pin(pool.get());
    let waker = waker_that_when_cloned(move || drop(held));
    let Poll::Ready(guard) = newcomer.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("it waits for what is idle: {:?}", pool.status())
    };
    assert!(!is_still_to_come(), "the connection came back in between");
    assert_eq!(guard.unwrap().number, 1);
}

thread_local!(static BEFORE_QUEUEING: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) });

/// A waiter clones its waker after it found nothing and before it queues: the one moment when somebody else's code runs
/// in between. So what happens in the gap can be chosen.
#[allow(unsafe_code, reason = "no safe waker says when it is cloned")]
fn waker_that_when_cloned(happens: impl FnOnce() + 'static) -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        BEFORE_QUEUEING.take().into_iter().for_each(|happens| happens());
        RawWaker::new(ptr::null(), &NOTHING_ELSE)
    }
    static NOTHING_ELSE: RawWakerVTable = RawWakerVTable::new(clone, |_| {}, |_| {}, |_| {});
    BEFORE_QUEUEING.set(Some(Box::new(happens)));
    // SAFETY: none of the functions looks at the pointer.
    unsafe { Waker::new(ptr::null(), &NOTHING_ELSE) }
}

fn is_still_to_come() -> bool {
    BEFORE_QUEUEING.take().is_some()
}

/// 3. bb8 issue 167, <https://github.com/djc/bb8/issues/167>: connections that break leave everybody to time out.
///
/// ```text
/// users                           waiters
/// hold all five
///                                 queue
/// give back broken ones: these
/// are dropped, nobody is told
///                                 time out, though there is room for five
/// ```
#[tokio::test]
async fn connections_that_come_back_broken_do_not_leave_the_waiters_to_time_out() {
    let (pool, server) = pool(5);
    let held = [0; 5].map(|_| get(&pool));
    let mut waiters = [0; 5].map(|_| queue(&pool));
    held.into_iter().for_each(give_back_broken);
    assert_eq!(server.alive(), 0, "each is gone before its slot is used");
    assert!(waiters.iter().all(Spawn::is_woken));
    let served = waiters.each_mut().map(|waiter| assert_ready_ok!(waiter.poll()));
    assert_eq!(served.each_ref().map(|guard| guard.number), [6, 7, 8, 9, 10]);
    assert_eq!(server.most_alive(), 5);
}

/// 4. bb8 PR 225, <https://github.com/djc/bb8/pull/225>: the mend of the last one woke everybody.
///
/// ```text
/// user                            waiters
///                                 a hundred queue
/// gives back a broken one: wakes
/// all of them
///                                 one finds room; all others look, find nothing, and
///                                 queue again, at the end
/// ```
#[tokio::test]
async fn one_broken_connection_wakes_one_waiter_and_no_herd() {
    let (pool, server) = pool(1);
    let held = get(&pool);
    let mut waiters = [0; 3].map(|_| queue(&pool));
    give_back_broken(held);
    assert_eq!(waiters.each_ref().map(Spawn::is_woken), [true, false, false]);
    waiters[1..].iter_mut().for_each(|waiter| assert_pending!(waiter.poll()));
    assert_eq!(server.opened(), 1, "those who were not woken open nothing");
    let served = assert_ready_ok!(waiters[0].poll());
    give_back_broken(served);
    assert_eq!(waiters[1..].iter().map(Spawn::is_woken).collect::<Vec<_>>(), [true, false], "in turn");
}

/// 5. deadpool issue 205, <https://github.com/deadpool-rs/deadpool/issues/205>: 33 connections of at most 24.
///
/// ```text
/// getter 1                        getter 2 .. n
/// has a permit, takes an idle
/// connection
/// it cannot be recycled: dropped,
/// and a permit is given back
/// opens another, on the permit
/// that it still has
///                                 one more than there may be has a permit, and opens
///                                 its connection beside
/// ```
#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_its_test_makes_room_for_one_other_only() {
    let config = PoolConfig { max_connections: 2, test_after: Some(MILLISECOND), ..PoolConfig::default() };
    let (pool, server) = server::pool(config);
    drop([get(&pool), get(&pool)]);
    advance(SECOND).await;
    let (connected, signals): (Vec<_>, Vec<_>) = [0; 2].map(|_| oneshot::channel()).into_iter().unzip();
    for signal in signals {
        server.next(Call::Test, Does::Fail);
        server.next(Call::Connect, Does::Wait(signal));
    }
    let mut replacing = [queue(&pool), queue(&pool)];
    let mut third = queue(&pool);
    assert_eq!((server.calls(Call::Test), server.calls(Call::Connect)), (2, 4), "both are connecting again");
    assert_eq!(numbers(&pool), [2, 0, 2, 1]);
    connected.into_iter().for_each(|connected: oneshot::Sender<()>| connected.send(()).unwrap());
    let served = replacing.each_mut().map(|getting| assert_ready_ok!(getting.poll()));
    assert_pending!(third.poll());
    drop(served);
    assert_ready_ok!(third.poll());
    assert_eq!((pool.status().most_open, server.most_alive()), (2, 2));
}

/// 6. deadpool issue 380, <https://github.com/deadpool-rs/deadpool/issues/380>: a pool tuned while it is used dies.
///
/// ```text
/// users                           tuner
/// hold 4 of 4
///                                 resize(1): all 4 are still out
///                                 resize(2): adds 2 - 4 permits, and panics with the
///                                 lock in its hands
/// give back: the lock is
/// poisoned, they panic too
/// ```
#[tokio::test]
async fn shrinking_and_growing_under_users_does_not_underflow() {
    let (pool, server) = pool(4);
    let held = [0; 4].map(|_| get(&pool));
    pool.resize(1).unwrap();
    pool.resize(2).unwrap();
    drop(held);
    assert_eq!((numbers(&pool), server.alive()), ([2, 2, 0, 0], 2));
    let _both = [get(&pool), get(&pool)];
    drop(queue(&pool));
}

/// 7. deadpool issue 113, <https://github.com/deadpool-rs/deadpool/issues/113>: one panic, and it panics for ever.
///
/// ```text
/// user 1                          user 2
/// its closure panics, holding
/// the connection's mutex
/// gives back: into the pool
///                                 is lent it: the mutex is poisoned, it panics
///                                 gives back: into the pool
/// ```
#[tokio::test]
async fn a_panic_of_one_user_is_no_panic_of_the_next() {
    let (pool, _folder) = database(2).await;
    let db = PooledDatabaseWriter::new(pool.clone()).await.unwrap();
    let user = db.clone();
    let read = tokio::spawn(async move { user.read(async |_| -> Result<(), Error> { panic!("in a read") }).await });
    assert!(read.await.unwrap_err().is_panic());
    let user = db.clone();
    let write = tokio::spawn(async move { user.write(async |_| -> Result<(), Error> { panic!("in a write") }).await });
    assert!(write.await.unwrap_err().is_panic());
    let user = pool.clone();
    let guard = tokio::spawn(async move {
        let _guard = user.get().await.unwrap();
        panic!("with a guard");
    });
    assert!(guard.await.unwrap_err().is_panic());
    assert_eq!((pool.status().in_use, pool.status().idle), (1, 0), "only the writer's own is left");
    for count in 1..=3 {
        db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        assert_eq!(sum(&mut pool.get().await.unwrap()).await, count);
    }
}

/// How a waiter gives up.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Cancelled,
    OutOfTime,
}

/// 8. sqlx PR 918, <https://github.com/launchbadge/sqlx/pull/918>: all are idle, and the queue grows.
///
/// ```text
/// waiter 1                        user              waiter 2
/// queues its waker                                  queues its waker
/// is dropped, or its time is
/// over; its waker stays
///                                 gives back:
///                                 wakes waker 1
/// is not there to hear it                           waits on, beside an idle connection
/// ```
#[tokio::test(start_paused = true)]
async fn a_waiter_that_left_is_not_in_the_way_of_the_next() {
    for leaves in [Leaves::Cancelled, Leaves::OutOfTime] {
        let (pool, _) = pool(1);
        let held = get(&pool);
        let mut first = queue(&pool);
        advance(SECOND).await;
        let mut second = queue(&pool);
        match leaves {
            Leaves::Cancelled => drop(first),
            Leaves::OutOfTime => {
                advance(PoolConfig::default().wait_timeout - SECOND + MILLISECOND).await;
                assert!(matches!(assert_ready_err!(first.poll()), AcquireError::Timeout(_)));
            }
        }
        assert_eq!(numbers(&pool), [1, 0, 1, 1], "{leaves:?}: it took its place in the queue with it");
        drop(held);
        assert!(second.is_woken(), "{leaves:?}");
        assert_ready_ok!(second.poll());
    }
}

/// 9. sqlx PR 1211, <https://github.com/launchbadge/sqlx/pull/1211>: a wake-up that nobody used.
///
/// ```text
/// waiter 1                        user              waiter 2
/// queues                                            queues
///                                 gives back:
///                                 wakes waiter 1
/// is cancelled before it is
/// polled
///                                                   waits on, beside an idle connection
/// ```
#[tokio::test]
async fn a_cancelled_waiter_passes_its_wake_on() {
    let (pool, _) = pool(1);
    let held = get(&pool);
    let (first, mut second) = (queue(&pool), queue(&pool));
    drop(held);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert_ready_ok!(second.poll());
    assert_eq!(numbers(&pool), [1, 1, 0, 0]);
}

/// 10. sqlx PR 1799, <https://github.com/launchbadge/sqlx/pull/1799>: a runtime ends, and a permit with it.
///
/// ```text
/// user's runtime                  waiter, on another
///                                 queues
/// ends: drops the user's task,
/// whose guard spawns its return
/// drops what was spawned, not run:
/// connection and permit are gone
///                                 waits until its time is over
/// ```
#[test]
fn a_guard_that_goes_down_with_its_runtime_frees_its_slot() {
    let (pool, _) = pool(1);
    let (dying, living) = (runtime(), runtime());
    let user = pool.clone();
    dying.spawn(async move {
        let _held = user.get().await.unwrap();
        pending::<()>().await
    });
    dying.block_on(tokio::task::yield_now());
    let mut waiter = {
        let _entered = living.enter();
        queue(&pool)
    };
    drop(dying);
    assert!(waiter.is_woken());
    assert_eq!(assert_ready_ok!(waiter.poll()).number, 1);
    assert_eq!(numbers(&pool), [1, 1, 0, 0]);
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}
