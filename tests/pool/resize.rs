//! A pool whose size changes under its users: `resize`, `retain` and `detach`.
//!
//! Futures are polled by hand, so every test decides who runs when. Random lives in which sizes change, among much else, are
//! lived by `model.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use poolproof::{AcquireError, Error, Pool, PoolConfig};
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok};

use crate::server::{self, Manager, Server, get, numbers, queue};

fn pool(max_connections: usize) -> (Pool<Manager>, Arc<Server>) {
    server::pool(PoolConfig { max_connections, ..PoolConfig::default() })
}

#[tokio::test]
async fn a_larger_maximum_admits_waiters_in_the_order_in_which_they_came() {
    let (pool, _) = pool(1);
    let held = get(&pool);
    let mut waiters = [queue(&pool), queue(&pool), queue(&pool)];
    pool.resize(3).unwrap();
    assert_eq!(waiters.each_ref().map(Spawn::is_woken), [true, true, false]);
    assert_eq!(numbers(&pool), [3, 0, 3, 1], "the slots are spoken for before their waiters are polled");
    assert_pending!(waiters[2].poll());
    let _others = (assert_ready_ok!(waiters[0].poll()), assert_ready_ok!(waiters[1].poll()));
    drop(held);
    assert_ready_ok!(waiters[2].poll());
}

#[tokio::test]
async fn an_admitted_waiter_that_is_cancelled_passes_its_slot_on() {
    let (pool, _) = pool(1);
    let _held = get(&pool);
    let (first, mut second) = (queue(&pool), queue(&pool));
    pool.resize(2).unwrap();
    assert!(!second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert_ready_ok!(second.poll());
}

#[tokio::test]
async fn a_smaller_maximum_retires_the_idle_at_once_and_the_leased_on_return() {
    let (pool, server) = pool(4);
    let [first, second, third, fourth] = [0; 4].map(|_| get(&pool));
    drop((first, second));
    pool.resize(1).unwrap();
    assert_eq!((numbers(&pool), server.alive()), ([2, 0, 2, 0], 2));
    drop(third);
    assert_eq!((numbers(&pool), server.alive()), ([1, 0, 1, 0], 1), "one that came back was one too many");
    drop(fourth);
    assert_eq!((numbers(&pool), server.alive()), ([1, 1, 0, 0], 1), "the last is kept");
    assert_eq!((pool.status().max, pool.status().most_open), (1, 4));
}

#[tokio::test]
async fn a_smaller_maximum_keeps_what_it_has_room_for() {
    let (pool, server) = pool(4);
    let held = [0; 4].map(|_| get(&pool));
    drop(held);
    pool.resize(3).unwrap();
    assert_eq!((numbers(&pool), server.alive()), ([3, 3, 0, 0], 3));
    assert_eq!(get(&pool).number, 4, "those used last are kept: their caches are warm");
}

#[tokio::test]
async fn surplus_that_comes_back_goes_to_no_waiter() {
    let (pool, server) = pool(2);
    let (first, second) = (get(&pool), get(&pool));
    let mut waiter = queue(&pool);
    pool.resize(1).unwrap();
    drop(first);
    assert!(!waiter.is_woken());
    assert_eq!((numbers(&pool), server.alive()), ([1, 0, 1, 1], 1));
    drop(second);
    assert_eq!(assert_ready_ok!(waiter.poll()).number, 2);
}

/// It shrinks, and grows again before the surplus came back: nothing was surplus after all.
#[tokio::test]
async fn a_maximum_lowered_and_raised_again_costs_nobody_in_use_a_connection() {
    let (pool, server) = pool(2);
    let (first, second) = (get(&pool), get(&pool));
    pool.resize(1).unwrap();
    pool.resize(2).unwrap();
    drop((first, second));
    assert_eq!((numbers(&pool), server.alive()), ([2, 2, 0, 0], 2));
}

#[tokio::test]
async fn a_closed_pool_that_is_resized_stays_closed() {
    let (pool, server) = pool(1);
    let held = get(&pool);
    let mut close = task::spawn(pool.close());
    assert_pending!(close.poll());
    pool.resize(5).unwrap();
    drop(held);
    assert_ready!(close.poll());
    assert!(matches!(pool.get().await, Err(AcquireError::Closed)));
    assert_eq!(server.alive(), 0);
}

#[tokio::test]
async fn a_maximum_that_cannot_work_is_refused_and_changes_nothing() {
    let (pool, _) = pool(2);
    let (held, idle) = (get(&pool), get(&pool));
    drop(idle);
    let before = pool.status();
    for max in [0, PoolConfig::MAX_CONNECTIONS + 1] {
        assert!(matches!(pool.resize(max), Err(Error::Config { field: "max_connections", .. })));
        assert_eq!(pool.status(), before);
    }
    drop(held);
    assert_eq!(numbers(&pool), [2, 2, 0, 0]);
}

#[tokio::test]
async fn retain_closes_exactly_the_idle_ones_it_is_told() {
    let (pool, server) = pool(4);
    let [first, second, third, fourth] = [0; 4].map(|_| get(&pool));
    drop((first, second, third));
    let mut asked = Vec::new();
    let closed = pool.retain(|connection| {
        asked.push(connection.number);
        connection.number != 2
    });
    assert_eq!((closed, asked), (1, vec![1, 2, 3]), "those in use are not asked");
    assert_eq!((numbers(&pool), server.alive()), ([3, 2, 1, 0], 3));
    assert_eq!(fourth.number, 4);
    assert_eq!([get(&pool), get(&pool)].map(|guard| guard.number), [3, 1], "the order in which they serve is kept");
}

#[tokio::test]
async fn a_keep_that_panics_loses_no_slot() {
    let (pool, server) = pool(3);
    let held = [0; 3].map(|_| get(&pool));
    drop(held);
    let retained = catch_unwind(AssertUnwindSafe(|| {
        pool.retain(|connection| {
            assert_ne!(connection.number, 2, "keep panics");
            true
        })
    }));
    assert!(retained.is_err());
    assert_eq!((numbers(&pool), server.alive()), ([2, 2, 0, 0], 2), "only the one it panicked on is gone");
    let _all = [0; 3].map(|_| get(&pool));
    assert_eq!(numbers(&pool), [3, 0, 3, 0]);
}

#[tokio::test]
async fn who_comes_during_retain_gets_what_it_keeps() {
    let (pool, _) = pool(1);
    drop(get(&pool));
    let mut waiter = None;
    pool.retain(|_| {
        waiter = Some(queue(&pool));
        true
    });
    let mut waiter = waiter.unwrap();
    assert!(waiter.is_woken());
    assert_eq!(assert_ready_ok!(waiter.poll()).number, 1);
}

#[tokio::test]
async fn a_detached_connection_frees_its_slot_at_once() {
    let (pool, server) = pool(1);
    let held = get(&pool);
    let mut waiter = queue(&pool);
    let detached = held.detach();
    assert!(waiter.is_woken());
    let second = assert_ready_ok!(waiter.poll());
    assert_eq!((detached.number, second.number, server.alive()), (1, 2, 2));
    assert_eq!(numbers(&pool), [1, 0, 1, 0], "it is not the pool's any more");
    drop(detached);
    assert_eq!(numbers(&pool), [1, 0, 1, 0]);
}

#[tokio::test]
async fn close_does_not_wait_for_a_detached_connection() {
    let (pool, server) = pool(1);
    let detached = get(&pool).detach();
    assert_ready!(task::spawn(pool.close()).poll());
    assert_eq!((detached.number, server.alive()), (1, 1));
}
