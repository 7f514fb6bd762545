//! How long things last: waiting, connecting, being idle, being alive, and the pool itself.
//!
//! The clock is paused: it goes on only when everybody waits for it, so minutes pass in no time and to the millisecond.

use std::sync::Arc;
use std::time::Duration;

use poolproof::{AcquireError, Pool, PoolConfig, Pooled, Stage};
use tokio::time::{Instant, sleep};
use tokio_test::task;
use tokio_test::{assert_pending, assert_ready_ok};

use crate::server::{Call, Does, Manager, Server, pool};

/// Managers alive: what knows the server beside the test and its connections.
fn managers(server: &Arc<Server>) -> usize {
    Arc::strong_count(server) - 1 - server.alive()
}

/// Lets every task run that can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn open(pool: &Pool<Manager>, count: usize) -> Vec<Pooled<Manager>> {
    let mut opened = Vec::new();
    for _ in 0..count {
        opened.push(pool.get().await.unwrap());
    }
    opened
}

/// How a get that runs out of time does so: at which stage, and after how long.
async fn time_out(pool: &Pool<Manager>) -> (Stage, Duration) {
    let began = Instant::now();
    let Err(AcquireError::Timeout(timeout)) = pool.get().await else { panic!("it should run out of time") };
    let took = began.elapsed();
    assert_eq!(timeout.waited, took);
    // The timer's resolution.
    (timeout.stage, Duration::from_millis((took + Duration::from_micros(999)).as_millis() as u64 / 10 * 10))
}

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn waiting_connecting_and_the_whole_acquire_have_limits_of_their_own() {
    let limits = PoolConfig {
        max_connections: 1,
        wait_timeout: millis(300),
        connect_timeout: millis(200),
        acquire_timeout: millis(400),
        ..PoolConfig::default()
    };
    let (pool, server) = pool(limits);

    let held = pool.get().await.unwrap();
    assert_eq!(time_out(&pool).await, (Stage::Waiting, millis(300)), "wait_timeout");

    drop(held.detach());
    server.next(Call::Connect, Does::Hang);
    assert_eq!(time_out(&pool).await, (Stage::Connecting, millis(200)), "connect_timeout");

    let held = pool.get().await.unwrap();
    let detaching = async {
        sleep(millis(250)).await;
        server.next(Call::Connect, Does::Hang);
        drop(held.detach());
    };
    let (outcome, ()) = tokio::join!(time_out(&pool), detaching);
    assert_eq!(outcome, (Stage::Connecting, millis(400)), "acquire_timeout: less than both together");
    assert_eq!((pool.status().open, server.alive()), (0, 0));

    let held = pool.get().await.unwrap();
    let detaching = async {
        sleep(millis(250)).await;
        server.next(Call::Connect, Does::Take(millis(100)));
        drop(held.detach());
    };
    let (outcome, ()) = tokio::join!(pool.get(), detaching);
    assert!(outcome.is_ok(), "each step within its limit, and all within theirs");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_in_a_pool_that_nobody_uses() {
    let config = PoolConfig { max_connections: 3, idle_timeout: Some(10 * SECOND), ..PoolConfig::default() };
    let (pool, server) = pool(config);
    drop(open(&pool, 3).await);
    sleep(9 * SECOND).await;
    assert_eq!((pool.status().idle, server.alive()), (3, 3), "not yet");
    sleep(5 * SECOND).await;
    assert_eq!((pool.status().open, server.alive()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_down_to_min_idle() {
    let config =
        PoolConfig { max_connections: 4, min_idle: 2, idle_timeout: Some(10 * SECOND), ..PoolConfig::default() };
    let (pool, server) = pool(config);
    drop(open(&pool, 4).await);
    for _ in 0..10 {
        sleep(20 * SECOND).await;
        assert_eq!((pool.status().idle, pool.status().open, server.alive()), (2, 2, 2));
    }
}

/// Those used last are used again, so the others grow old though the pool is busy.
#[tokio::test(start_paused = true)]
async fn a_busy_pool_closes_what_it_does_not_need() {
    let config = PoolConfig { max_connections: 3, idle_timeout: Some(10 * SECOND), ..PoolConfig::default() };
    let (pool, server) = pool(config);
    drop(open(&pool, 3).await);
    for _ in 0..15 {
        sleep(SECOND).await;
        drop(pool.get().await.unwrap());
    }
    assert_eq!((pool.status().open, server.alive(), server.calls(Call::Connect)), (1, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn min_idle_connections_are_opened_in_the_background() {
    let (pool, server) = pool(PoolConfig { max_connections: 3, min_idle: 2, ..PoolConfig::default() });
    settle().await;
    assert_eq!((pool.status().idle, server.alive()), (2, 2), "nobody asked for one");
    let first = pool.get().await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().in_use), (2, 1), "one is in use, so one more was opened");
    let second = pool.get().await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!((pool.status().idle, pool.status().in_use), (1, 2), "as far as the maximum allows");
    drop((first, second));
    assert_eq!((pool.status().idle, server.alive()), (3, 3), "a minimum, no maximum");
}

#[tokio::test(start_paused = true)]
async fn min_idle_is_tried_again_after_a_connect_that_fails_or_hangs() {
    let (pool, server) = pool(PoolConfig { min_idle: 1, connect_timeout: SECOND, ..PoolConfig::default() });
    server.next(Call::Connect, Does::Fail);
    server.next(Call::Connect, Does::Hang);
    settle().await;
    assert_eq!((pool.status().open, server.calls(Call::Connect)), (0, 1), "not in a hot loop");
    sleep(120 * SECOND).await;
    assert_eq!((pool.status().idle, server.calls(Call::Connect)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_what_is_opened_in_the_background() {
    for does in [Does::Take(SECOND), Does::Hang, Does::Fail] {
        let config =
            PoolConfig { max_connections: 1, min_idle: 1, connect_timeout: 2 * SECOND, ..PoolConfig::default() };
        let (pool, server) = pool(config);
        server.next(Call::Connect, does);
        settle().await;
        assert!(pool.get().await.is_ok(), "the slot was the background's, and is the waiter's now");
        assert_eq!(server.alive(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn min_idle_is_tried_again_after_a_connect_that_panics() {
    let (pool, server) = pool(PoolConfig { min_idle: 1, ..PoolConfig::default() });
    server.next(Call::Connect, Does::PanicAtOnce);
    settle().await;
    assert_eq!((pool.status().open, server.calls(Call::Connect)), (0, 1));
    let held = pool.get().await.unwrap();
    sleep(120 * SECOND).await;
    assert_eq!((held.number, pool.status().idle, server.calls(Call::Connect)), (1, 1, 3));
}

/// What `min_idle` keeps warm serves, however long nobody asked for it.
#[tokio::test(start_paused = true)]
async fn a_connection_kept_for_min_idle_is_lent() {
    let config = PoolConfig { min_idle: 1, idle_timeout: Some(10 * SECOND), ..PoolConfig::default() };
    let (pool, _) = pool(config);
    sleep(60 * SECOND).await;
    assert_eq!(pool.status().idle, 1);
    assert_eq!(pool.get().await.unwrap().number, 1);
}

/// A runtime may end before the pool does, as between tests, or when a service restarts its runtime.
#[test]
fn a_pool_goes_on_caring_in_another_runtime() {
    let config = PoolConfig { idle_timeout: Some(SECOND), ..PoolConfig::default() };
    let (pool, _) = pool(config);
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            drop(open(&pool, 2).await);
            sleep(5 * SECOND).await;
            assert_eq!(pool.status().open, 0);
        });
    }
}

#[test]
fn a_pool_made_outside_a_runtime_begins_to_care_with_the_first_connection() {
    let config = PoolConfig { min_idle: 2, idle_timeout: Some(SECOND), ..PoolConfig::default() };
    let (pool, _) = pool(config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        settle().await;
        assert_eq!(pool.status().open, 0);
        drop(open(&pool, 4).await);
        sleep(5 * SECOND).await;
        assert_eq!(pool.status().idle, 2);
    });
}

#[tokio::test(start_paused = true)]
async fn connections_opened_together_are_not_closed_together() {
    let config = PoolConfig {
        max_connections: 16,
        max_lifetime: Some(100 * SECOND),
        lifetime_jitter: 0.5,
        ..PoolConfig::default()
    };
    let (pool, server) = pool(config);
    drop(open(&pool, 16).await);
    let mut left = vec![16];
    for _ in 0..13 {
        sleep(10 * SECOND).await;
        left.push(server.alive());
    }
    assert_eq!((left[4], left[13]), (16, 0), "none before half its time, none after: {left:?}");
    let most = left.windows(2).map(|pair| pair[0] - pair[1]).max();
    assert!(most <= Some(9), "{left:?}");
}

/// The one that has been idle longest need not be the oldest.
#[tokio::test(start_paused = true)]
async fn a_young_connection_that_was_idle_for_long_does_not_shield_an_old_one() {
    let config = PoolConfig {
        max_connections: 2,
        max_lifetime: Some(100 * SECOND),
        lifetime_jitter: 0.0,
        ..PoolConfig::default()
    };
    let (pool, server) = pool(config);
    let old = pool.get().await.unwrap();
    sleep(90 * SECOND).await;
    drop(pool.get().await.unwrap());
    drop(old);
    sleep(50 * SECOND).await;
    assert_eq!(server.alive(), 1, "the first is 140 s old");
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_lent_or_kept_beyond_its_lifetime() {
    let config = PoolConfig {
        max_connections: 2,
        max_lifetime: Some(100 * SECOND),
        lifetime_jitter: 0.0,
        ..PoolConfig::default()
    };
    let (pool, server) = pool(config);
    let (held, idle) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    drop(idle);
    sleep(99 * SECOND).await;
    assert_eq!(pool.get().await.unwrap().number, 2, "still young enough");
    sleep(SECOND).await;
    assert_eq!(pool.get().await.unwrap().number, 3, "replaced, though the background has not seen it");
    assert_eq!(server.alive(), 2, "one in use is left alone");
    drop(held);
    assert_eq!((pool.status().open, server.alive()), (1, 1), "and closed when it comes back");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_the_slot_of_a_connection_whose_lifetime_is_over() {
    let config = PoolConfig {
        max_connections: 1,
        max_lifetime: Some(5 * SECOND),
        lifetime_jitter: 0.0,
        ..PoolConfig::default()
    };
    let (pool, _) = pool(config);
    let held = pool.get().await.unwrap();
    let mut waiter = task::spawn(pool.get());
    assert_pending!(waiter.poll());
    sleep(6 * SECOND).await;
    drop(held);
    assert_eq!(assert_ready_ok!(waiter.poll()).number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_used_moments_ago_is_not_tested() {
    let (pool, server) = pool(PoolConfig { test_after: Some(10 * SECOND), ..PoolConfig::default() });
    let tested = || server.calls(Call::Test);
    drop(pool.get().await.unwrap());
    sleep(9 * SECOND).await;
    drop(pool.get().await.unwrap());
    sleep(9 * SECOND).await;
    drop(pool.get().await.unwrap());
    assert_eq!(tested(), 0);
    sleep(11 * SECOND).await;
    assert_eq!((pool.get().await.unwrap().number, tested()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_test_fails_or_hangs_is_replaced() {
    for does in [Does::Fail, Does::Hang] {
        let config = PoolConfig { max_connections: 1, test_after: Some(SECOND), ..PoolConfig::default() };
        let (pool, server) = pool(config);
        drop(pool.get().await.unwrap());
        sleep(2 * SECOND).await;
        server.next(Call::Test, does);
        let began = Instant::now();
        assert_eq!(pool.get().await.unwrap().number, 2);
        assert!(began.elapsed() <= PoolConfig::default().hook_timeout + millis(2));
        assert_eq!((server.alive(), server.calls(Call::Test)), (1, 1), "a new one is not tested");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_everything_with_it() {
    let config = PoolConfig {
        min_idle: 1,
        idle_timeout: Some(60 * SECOND),
        max_lifetime: Some(60 * SECOND),
        ..PoolConfig::default()
    };
    for config in [config, PoolConfig::default()] {
        let (pool, server) = pool(config);
        let handle = pool.clone();
        drop(open(&pool, 2).await);
        settle().await;
        drop(pool);
        settle().await;
        assert_eq!((managers(&server), server.alive()), (1, 2), "a clone keeps the pool");
        drop(handle);
        assert_eq!((managers(&server), server.alive()), (0, 0), "at once: nothing in the background holds on to it");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_a_background_that_hangs_in_connect() {
    let (pool, server) = pool(PoolConfig { min_idle: 1, ..PoolConfig::default() });
    server.next(Call::Connect, Does::Hang);
    settle().await;
    assert_eq!((pool.status().open, server.calls(Call::Connect)), (1, 1), "it is connecting");
    drop(pool);
    settle().await;
    assert_eq!((managers(&server), server.alive()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_guard_outlives_the_last_handle() {
    let (pool, server) = pool(PoolConfig { idle_timeout: Some(SECOND), ..PoolConfig::default() });
    let held = pool.get().await.unwrap();
    drop(pool);
    sleep(10 * SECOND).await;
    assert_eq!((held.number, managers(&server), server.alive()), (1, 1, 1));
    drop(held);
    assert_eq!((managers(&server), server.alive()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_background_opens_nothing_in_a_closed_pool() {
    let (pool, server) = pool(PoolConfig { min_idle: 2, ..PoolConfig::default() });
    settle().await;
    pool.close().await;
    sleep(120 * SECOND).await;
    assert_eq!((pool.status().open, server.alive(), server.calls(Call::Connect)), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn close_within_says_who_still_holds_what() {
    let (pool, server) = pool(PoolConfig { max_connections: 2, ..PoolConfig::default() });
    let (held, line) = (pool.get().await.unwrap(), line!());
    drop(pool.get().await.unwrap());
    let began = Instant::now();
    let still_open = pool.close_within(SECOND).await.unwrap_err();
    assert!((SECOND..SECOND + millis(5)).contains(&began.elapsed()));
    let [holder] = &still_open.holders[..] else { panic!("{still_open}") };
    assert_eq!((holder.site.file(), holder.site.line()), (file!(), line));
    assert!(still_open.to_string().contains(&format!("held at {}:{line}", file!())), "{still_open}");
    assert!(matches!(pool.get().await, Err(AcquireError::Closed)), "closed all the same");
    assert_eq!(server.alive(), 1);
    drop(held);
    pool.close_within(SECOND).await.unwrap();
    assert_eq!(server.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn close_ends_the_background_in_the_middle_of_connecting() {
    let (pool, server) = pool(PoolConfig { min_idle: 1, ..PoolConfig::default() });
    server.next(Call::Connect, Does::Hang);
    settle().await;
    assert_eq!(pool.status().open, 1, "the background is connecting");
    pool.close_within(SECOND).await.unwrap();
    assert_eq!((pool.status().open, server.alive()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_testing_when_the_pool_closes_is_refused() {
    let (pool, server) = pool(PoolConfig { test_after: Some(SECOND), ..PoolConfig::default() });
    drop(pool.get().await.unwrap());
    sleep(2 * SECOND).await;
    server.next(Call::Test, Does::Take(SECOND));
    let refused = async { matches!(pool.get().await, Err(AcquireError::Closed)) };
    let (refused, ()) = tokio::join!(refused, async {
        sleep(SECOND / 2).await;
        pool.close().await;
    });
    assert!(refused);
}
