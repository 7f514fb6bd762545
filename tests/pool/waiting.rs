//! Waiting for a connection, poll by poll.
//!
//! The tests hold every future in their own hands: they decide who is polled and when, and see who was woken. So each can
//! put the pool into the one state that matters and nothing ever sleeps. The connections of the first part are numbers that
//! open, fail, panic or hang at the test's command; those of the second are the engine's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use poolproof::{AcquireError, AcquireTimeout, Pool, PoolConfig, Stage, Status, Verdict};
use tokio::sync::oneshot;
use tokio_test::task;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};

mod engine;
use crate::server::{self, Call, Does, Manager, Server, get, queue};

const TIMEOUT: Duration = Duration::from_millis(250);

fn pool(max_connections: usize) -> (Pool<Manager>, Arc<Server>) {
    server::pool(PoolConfig { max_connections, acquire_timeout: TIMEOUT, ..PoolConfig::default() })
}

/// `[open, idle, in use, waiting]` of a pool that keeps its maximum.
fn numbers(pool: &Pool<Manager>) -> [usize; 4] {
    let Status { open, most_open, max, .. } = pool.status();
    assert!(open <= most_open && most_open <= max);
    server::numbers(pool)
}

#[tokio::test]
async fn status_counts_every_step() {
    let (pool, server) = pool(2);
    assert_eq!(numbers(&pool), [0, 0, 0, 0], "nothing is opened before it is wanted");
    let first = get(&pool);
    assert_eq!(numbers(&pool), [1, 0, 1, 0]);
    drop(first);
    assert_eq!(numbers(&pool), [1, 1, 0, 0]);
    let first = get(&pool);
    assert_eq!((first.number, server.opened()), (1, 1), "an idle connection is used again");
    let second = get(&pool);
    assert_eq!(numbers(&pool), [2, 0, 2, 0]);
    let mut waiter = queue(&pool);
    assert_eq!(numbers(&pool), [2, 0, 2, 1]);
    drop(second);
    assert_eq!(numbers(&pool), [2, 0, 2, 0], "handed over, not idle: it is spoken for before the waiter is polled");
    let second = assert_ready_ok!(waiter.poll());
    assert_eq!(second.number, 2);
    drop((first, second));
    assert_eq!(numbers(&pool), [2, 2, 0, 0]);
    pool.close().await;
    assert_eq!(numbers(&pool), [0, 0, 0, 0]);
    assert!(pool.status().closed);
    assert_eq!((pool.status().most_open, server.opened(), server.alive()), (2, 2, 0));
}

#[tokio::test]
async fn the_connection_used_last_is_taken_first() {
    let (pool, _) = pool(2);
    let (first, second) = (get(&pool), get(&pool));
    drop(first);
    drop(second);
    assert_eq!(get(&pool).number, 2, "its caches are warm");
}

/// Counts, where `is_woken` only tells.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

#[tokio::test]
async fn a_release_wakes_one_waiter_once() {
    let (pool, _) = pool(2);
    let (first, second) = (get(&pool), get(&pool));
    let wakes = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
    let mut waiters = [Box::pin(pool.get()), Box::pin(pool.get())];
    for (waiter, wakes) in waiters.iter_mut().zip(&wakes) {
        assert!(poll(waiter.as_mut(), wakes).is_pending());
    }
    let counts = || wakes.each_ref().map(|wakes| wakes.0.load(Ordering::SeqCst));
    assert_eq!(counts(), [0, 0]);
    drop(first);
    assert_eq!(counts(), [1, 0]);
    drop(second);
    assert_eq!(counts(), [1, 1], "the first, who was woken but not polled yet, is not woken again");
}

#[tokio::test]
async fn a_newcomer_does_not_barge_past_a_queued_waiter() {
    let (pool, _) = pool(1);
    let held = get(&pool);
    let mut waiter = queue(&pool);
    drop(held);
    let mut newcomer = queue(&pool);
    let held = assert_ready_ok!(waiter.poll());
    assert!(!newcomer.is_woken());
    drop(held);
    assert!(newcomer.is_woken());
    assert_ready_ok!(newcomer.poll());
}

#[tokio::test]
async fn who_does_not_wait_has_what_is_free_and_neither_queues_nor_barges() {
    let (pool, _) = pool(2);
    let try_get = || assert_ready_ok!(task::spawn(pool.try_get()).poll());
    let [first, second] = [try_get(), try_get()].map(|guard| guard.expect("there is room to open one"));
    assert!(try_get().is_none());
    assert_eq!(numbers(&pool), [2, 0, 2, 0]);
    drop(second);
    assert_eq!(try_get().expect("one is idle").number, 2);
    let second = try_get();
    let mut waiter = queue(&pool);
    drop(first);
    assert!(try_get().is_none(), "it is spoken for");
    assert_eq!(assert_ready_ok!(waiter.poll()).number, 1);
    drop(second);
    pool.close().await;
    assert!(matches!(assert_ready_err!(task::spawn(pool.try_get()).poll()), AcquireError::Closed));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_for_others_waits_for_its_own_connection_and_no_longer_than_it_may() {
    let (pool, server) = pool(1);
    server.next(Call::Connect, Does::Hang);
    let AcquireError::Timeout(timeout) = pool.try_get().await.map(drop).unwrap_err() else { panic!("it hangs") };
    assert_eq!((timeout.stage, timeout.waited), (Stage::Connecting, TIMEOUT));
    assert_eq!(numbers(&pool), [0, 0, 0, 0]);
    assert!(pool.try_get().await.unwrap().is_some());
}

#[tokio::test]
async fn a_waiter_that_leaves_the_middle_of_the_queue_is_skipped() {
    let (pool, _) = pool(1);
    let held = get(&pool);
    let (mut first, second, mut third) = (queue(&pool), queue(&pool), queue(&pool));
    drop(second);
    assert_eq!(numbers(&pool), [1, 0, 1, 2]);
    drop(held);
    let held = assert_ready_ok!(first.poll());
    assert!(!third.is_woken());
    drop(held);
    assert!(third.is_woken());
    assert_ready_ok!(third.poll());
}

#[tokio::test]
async fn a_connect_that_fails_frees_its_slot_for_the_next_waiter() {
    let (pool, server) = pool(1);
    server.next(Call::Connect, Does::Hang);
    let hanging = queue(&pool);
    assert_eq!(numbers(&pool), [1, 0, 1, 0], "connecting takes a slot");
    let (mut first, mut second) = (queue(&pool), queue(&pool));
    server.next(Call::Connect, Does::Fail);
    drop(hanging);
    assert!(first.is_woken() && !second.is_woken());
    let error = assert_ready_err!(first.poll());
    assert_eq!(error.to_string(), "connecting failed: nobody listens");
    assert!(second.is_woken(), "it tries in its turn");
    assert_eq!(assert_ready_ok!(second.poll()).number, 3, "the third that was asked for");
    assert_eq!(pool.status().most_open, 1);
}

#[tokio::test]
async fn a_connect_that_panics_frees_its_slot() {
    let (pool, server) = pool(1);
    server.next(Call::Connect, Does::PanicAtOnce);
    let mut panics = task::spawn(pool.get());
    assert!(catch_unwind(AssertUnwindSafe(|| panics.poll().map(drop))).is_err());
    assert_eq!(numbers(&pool), [0, 0, 0, 0], "freed by the panic, though the future is not dropped yet");
    assert_eq!(get(&pool).number, 1);
}

#[tokio::test]
async fn a_guard_that_comes_back_from_a_panic_is_discarded() {
    let (pool, server) = pool(1);
    let user = pool.clone();
    let task = tokio::spawn(async move {
        let _held = user.get().await.unwrap();
        panic!("the user panics");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!((numbers(&pool), server.alive()), ([0, 0, 0, 0], 0));
    assert_eq!(get(&pool).number, 2, "nobody else sees what the panic left behind");
}

/// A destructor that uses the pool while its thread unwinds is no reason to discard what it used.
#[tokio::test]
async fn a_guard_acquired_while_unwinding_is_reused() {
    struct Farewell(Pool<Manager>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            drop(get(&self.0));
        }
    }

    let (pool, _) = pool(1);
    let farewell = Farewell(pool.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _farewell = farewell;
        panic!("the user panics");
    }));
    assert!(panicked.is_err());
    assert_eq!(numbers(&pool), [1, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_time_out_says_how_long_and_how_many_wait() {
    let (pool, _) = pool(1);
    let held = get(&pool);
    let mut first = queue(&pool);
    tokio::time::advance(TIMEOUT / 2).await;
    let mut others = [queue(&pool), queue(&pool)];
    tokio::time::advance(TIMEOUT / 2 + Duration::from_millis(1)).await;
    assert!(first.is_woken() && others.iter().all(|other| !other.is_woken()));
    let error = assert_ready_err!(first.poll());
    let AcquireError::Timeout(timeout) = &error else { panic!("{error}") };
    let AcquireTimeout { waited, place, status, holders, verdict, .. } = &**timeout;
    assert!((TIMEOUT..TIMEOUT + Duration::from_millis(5)).contains(waited), "{waited:?}");
    assert_eq!((status.in_use, status.max, *place, holders.len(), *verdict), (1, 1, 0, 1, Verdict::HoldsOneItself));
    assert!(error.to_string().contains("1 of 1 in use"), "{error}");
    drop(held);
    assert_ready_ok!(others[0].poll());
}

#[tokio::test(start_paused = true)]
async fn one_deadline_covers_waiting_and_connecting() {
    let (pool, server) = pool(1);
    let held = get(&pool);
    held.broken.store(true, Ordering::SeqCst);
    let mut waiter = queue(&pool);
    tokio::time::advance(TIMEOUT / 2).await;
    server.next(Call::Connect, Does::Hang);
    drop(held);
    assert_pending!(waiter.poll());
    assert_eq!(numbers(&pool), [1, 0, 1, 0], "connecting");
    tokio::time::advance(TIMEOUT / 2 + Duration::from_millis(1)).await;
    assert!(matches!(assert_ready_err!(waiter.poll()), AcquireError::Timeout(_)));
    assert_eq!(numbers(&pool), [0, 0, 0, 0], "the slot in which it was connecting is free");
}

#[tokio::test]
async fn close_refuses_at_once_and_resolves_with_the_last_guard() {
    let (pool, server) = pool(3);
    let (first, second, third) = (get(&pool), get(&pool), get(&pool));
    drop(third);
    assert_eq!(numbers(&pool), [3, 1, 2, 0]);

    let mut close = task::spawn(pool.close());
    assert_pending!(close.poll());
    assert_eq!((numbers(&pool), server.alive()), ([2, 0, 2, 0], 2), "what was idle is gone");
    assert!(matches!(assert_ready_err!(task::spawn(pool.get()).poll()), AcquireError::Closed));
    drop(first);
    assert_pending!(close.poll());
    assert_eq!(second.number, 2, "a guard that is out keeps working");
    assert!(!close.is_woken());
    drop(second);
    assert!(close.is_woken());
    assert_eq!(server.alive(), 0);
    assert_ready!(close.poll());
    pool.close().await;
}

#[tokio::test]
async fn close_refuses_who_waits() {
    let (pool, _) = pool(1);
    let held = get(&pool);
    let mut waiters = [queue(&pool), queue(&pool)];
    let mut close = task::spawn(pool.close());
    assert_pending!(close.poll());
    for waiter in &mut waiters {
        assert!(waiter.is_woken());
        assert!(matches!(assert_ready_err!(waiter.poll()), AcquireError::Closed));
    }
    drop(held);
    assert_ready!(close.poll());
}

#[tokio::test]
async fn close_waits_for_a_grant_that_is_not_taken_yet() {
    let (pool, server) = pool(1);
    let held = get(&pool);
    let waiter = queue(&pool);
    drop(held);
    let mut close = task::spawn(pool.close());
    assert_pending!(close.poll());
    drop(waiter);
    assert!(close.is_woken());
    assert_eq!(server.alive(), 0);
    assert_ready!(close.poll());
}

#[tokio::test]
async fn a_connection_opened_after_close_is_dropped() {
    let (pool, server) = pool(1);
    let (connected, signal) = oneshot::channel();
    server.next(Call::Connect, Does::Wait(signal));
    let mut user = queue(&pool);
    let mut close = task::spawn(pool.close());
    assert_pending!(close.poll(), "a connection that is being opened counts as alive");
    connected.send(()).unwrap();
    assert!(user.is_woken());
    assert!(matches!(assert_ready_err!(user.poll()), AcquireError::Closed));
    assert_eq!((server.opened(), server.alive()), (1, 0));
    assert!(close.is_woken());
    assert_ready!(close.poll());
}

#[tokio::test]
async fn the_pool_is_closed_though_nobody_awaits_close() {
    let (pool, _) = pool(1);
    let held = get(&pool);
    let wakes = Arc::new(Wakes::default());
    let mut close = Box::pin(pool.close());
    assert!(poll(close.as_mut(), &wakes).is_pending());
    drop(close);
    assert_eq!(Arc::strong_count(&wakes), 1, "whoever left is forgotten");
    assert!(pool.status().closed);
    drop(held);
    assert_eq!(numbers(&pool), [0, 0, 0, 0], "what comes back is dropped, not kept");
    assert_ready!(task::spawn(pool.close()).poll());
}
