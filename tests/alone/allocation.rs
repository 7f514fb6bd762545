//! What a pool allocates: nothing to lend an idle connection and take it back, and little for who waits.

use std::convert::Infallible;

use poolproof::{ConnectionPool, Manage, Pool, PoolConfig};
use tokio_test::{assert_pending, assert_ready_ok};

use crate::allocator::{allocations, bytes_of_this_thread};
use crate::{alone, alone_blocking};

/// Polls by hand, with a waker that does nothing: nobody waits here.
fn now<F: Future>(future: F) -> std::task::Poll<F::Output> {
    // Of as many as are polled here in one poll of the test, tokio's budget would let go on only the first.
    let future = tokio::task::coop::unconstrained(future);
    std::pin::pin!(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

struct Numbers;

impl Manage for Numbers {
    type Connection = u32;
    type Error = Infallible;

    async fn connect(&self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn is_reusable(&self, _: &mut u32) -> bool {
        true
    }
}

#[test]
fn the_counter_counts() {
    let _alone = alone_blocking();
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_warm_pool_allocates_nothing() {
    let _alone = alone_blocking();
    let pool = Pool::new(Numbers, PoolConfig::default()).unwrap();
    let round = || drop(assert_ready_ok!(now(pool.get())));
    round();
    assert_eq!(allocations(|| (0..1_000).for_each(|_| round())), 0);
}

#[tokio::test]
async fn a_warm_connection_pool_allocates_nothing() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
    drop(pool.get().await.unwrap());
    let round = || drop(assert_ready_ok!(now(pool.get())));
    round();
    assert_eq!(allocations(|| (0..1_000).for_each(|_| round())), 0);
}

#[tokio::test]
async fn waiting_in_a_warm_pool_allocates_nothing() {
    let _alone = alone().await;
    let pool = Pool::new(Numbers, PoolConfig { max_connections: 1, ..PoolConfig::default() }).unwrap();
    let round = || {
        let held = assert_ready_ok!(now(pool.get()));
        let mut waiter = std::pin::pin!(pool.get());
        assert_pending!(now(waiter.as_mut()));
        drop(held);
        drop(assert_ready_ok!(now(waiter)));
    };
    round();
    assert_eq!(allocations(|| (0..1_000).for_each(|_| round())), 0);
}

/// The bytes that each of `count` waiters costs the pool, its future not counted.
fn bytes_a_waiter(count: usize) -> isize {
    let pool = Pool::new(Numbers, PoolConfig { max_connections: 1, ..PoolConfig::default() }).unwrap();
    let _held = assert_ready_ok!(now(pool.get()));
    let mut waiters: Vec<_> = (0..count).map(|_| Box::pin(pool.get())).collect();
    let before = bytes_of_this_thread();
    for waiter in &mut waiters {
        assert_pending!(now(waiter.as_mut()));
    }
    assert_eq!(pool.status().waiting, count);
    (bytes_of_this_thread() - before) / count as isize
}

/// Neither many waiters nor one more than there was room for: the queue grows by doubling.
#[tokio::test]
async fn a_waiter_costs_less_than_200_bytes() {
    let _alone = alone().await;
    let costs = [100, 10_000, 16_384, 16_385].map(|count| (count, bytes_a_waiter(count)));
    println!("{costs:?}");
    assert!(costs.iter().all(|(_, bytes)| (1..200).contains(bytes)), "{costs:?}");
}
