//! Hooks: when they run, and what it costs if they go wrong.
//!
//! Every hook of these tests does what a script tells it. However it ends (an error, a panic, a hang that its time limit
//! cuts short, an acquire that is cancelled meanwhile), the connection is gone and the slot is whole: the pool still serves
//! as many connections as it may have.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use poolproof::{AcquireError, Hooks, Pool, PoolConfig};
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};

use crate::server::Call::{AfterConnect, AfterRelease, BeforeAcquire};
use crate::server::{self, Call, Does, Manager, Outcome, Server, get};

/// What can go wrong in a hook.
const WRONG: [fn() -> Does; 4] = [|| Does::Fail, || Does::PanicAtOnce, || Does::PanicLater, || Does::Hang];

const HOOK_TIMEOUT: Duration = Duration::from_millis(100);

/// A pool with hooks of these kinds and no others, and its server.
fn pool(max_connections: usize, kinds: &[Call]) -> (Pool<Manager>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let hooks = kinds.iter().fold(Hooks::new(), |hooks, kind| match kind {
        AfterConnect => hooks.after_connect(server.hook(*kind)),
        BeforeAcquire => hooks.before_acquire(server.hook(*kind)),
        _ => hooks.after_release(server.hook(AfterRelease)),
    });
    let config = PoolConfig { max_connections, hook_timeout: HOOK_TIMEOUT, ..PoolConfig::default() };
    (Pool::with_hooks(Manager(Arc::clone(&server)), config, hooks).unwrap(), server)
}

/// A get in which a hook does what it does, to the end of it. `None` if it panicked.
async fn get_while(pool: &Pool<Manager>, does: Does) -> Option<Outcome> {
    let mut getting: Spawn<_> = task::spawn(pool.get());
    match does {
        Does::Fail => Some(assert_ready!(getting.poll())),
        Does::Hang => {
            assert_pending!(getting.poll());
            tokio::time::advance(HOOK_TIMEOUT + Duration::from_millis(1)).await;
            Some(assert_ready!(getting.poll(), "hook_timeout is over"))
        }
        _ => {
            assert!(catch_unwind(AssertUnwindSafe(|| while getting.poll().is_pending() {})).is_err());
            None
        }
    }
}

/// No slot is lost, and no connection is alive beside those in the slots.
fn is_whole(pool: &Pool<Manager>, server: &Server) {
    let status = pool.status();
    assert_eq!((status.open, status.in_use), (status.idle, 0));
    let all: Vec<_> = (0..status.max).map(|_| get(pool)).collect();
    assert_eq!((pool.status().in_use, server.alive()), (status.max, status.max));
    drop(all);
}

#[tokio::test]
async fn each_hook_runs_when_it_says() {
    let (pool, server) = pool(2, &[AfterConnect, BeforeAcquire, AfterRelease]);

    let first = get(&pool);
    assert_eq!(server.diary(), [(AfterConnect, 1), (BeforeAcquire, 1)]);
    drop(first);
    assert_eq!(server.diary(), [], "giving back is synchronous: nothing runs then");
    let first = get(&pool);
    assert_eq!(
        server.diary(),
        [(AfterRelease, 1), (BeforeAcquire, 1)],
        "the last use is cleared away before the next begins"
    );
    let second = get(&pool);
    assert_eq!(server.diary(), [(AfterConnect, 2), (BeforeAcquire, 2)]);

    let mut waiter = task::spawn(pool.get());
    assert_pending!(waiter.poll());
    drop((first, second));
    assert_eq!(server.diary(), []);
    drop(assert_ready_ok!(waiter.poll()));
    assert_eq!(server.diary(), [(AfterRelease, 1), (BeforeAcquire, 1)], "also if it is handed straight to a waiter");
}

#[tokio::test]
async fn the_release_hook_runs_once_for_each_use() {
    let (pool, server) = pool(1, &[AfterRelease]);
    drop(get(&pool));
    assert_eq!(pool.retain(|_| true), 0);
    drop(get(&pool));
    drop(get(&pool));
    assert_eq!(server.diary(), [(AfterRelease, 1), (AfterRelease, 1)]);
    drop(get(&pool).detach());
    drop(get(&pool));
    assert_eq!(server.diary(), [(AfterRelease, 1)], "one that is detached, or new, has no use behind it that matters");
}

#[tokio::test]
async fn a_connection_opened_in_the_background_meets_its_hooks_too() {
    let (pool, server) = server::pool_with_hooks(PoolConfig { min_idle: 1, ..PoolConfig::default() });
    while pool.status().idle == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.diary(), [(AfterConnect, 1)], "nobody acquires it yet");
    let held = get(&pool);
    assert_eq!((held.number, server.diary()), (1, vec![(BeforeAcquire, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_goes_wrong_on_a_new_connection_fails_the_acquire_and_frees_the_slot() {
    for does in WRONG {
        for hook in [AfterConnect, BeforeAcquire] {
            let (pool, server) = pool(2, &[hook]);
            let what = format!("{hook:?}: {:?}", does());
            server.next(hook, does());
            if let Some(outcome) = get_while(&pool, does()).await {
                assert!(matches!(outcome.unwrap_err(), AcquireError::Hook(_)), "{what}");
            }
            assert_eq!((pool.status().open, server.alive()), (0, 0), "{what}");
            assert_eq!(server.diary(), [(hook, 1)]);
            is_whole(&pool, &server);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_goes_wrong_on_an_idle_connection_gets_the_user_a_new_one() {
    for does in WRONG {
        for hook in [BeforeAcquire, AfterRelease] {
            let (pool, server) = pool(2, &[hook]);
            drop(get(&pool));
            let what = format!("{hook:?}: {:?}", does());
            server.next(hook, does());
            if let Some(outcome) = get_while(&pool, does()).await {
                let guard = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!((guard.number, server.alive()), (2, 1), "{what}: replaced");
            } else {
                assert_eq!((pool.status().open, server.alive()), (0, 0), "{what}");
            }
            is_whole(&pool, &server);
        }
    }
}

#[tokio::test]
async fn a_replacement_that_a_hook_turns_down_too_fails_the_acquire() {
    let (pool, server) = pool(1, &[BeforeAcquire]);
    drop(get(&pool));
    server.next(BeforeAcquire, Does::Fail);
    server.next(BeforeAcquire, Does::Fail);
    let error = assert_ready_err!(task::spawn(pool.get()).poll());
    assert_eq!(error.to_string(), "a hook turned a new connection down: nobody listens");
    assert_eq!(server.diary(), [(BeforeAcquire, 1), (BeforeAcquire, 1), (BeforeAcquire, 2)]);
    is_whole(&pool, &server);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_cancelled_in_a_hook_costs_the_connection_and_frees_the_slot_for_a_waiter() {
    for hook in [AfterConnect, BeforeAcquire, AfterRelease] {
        let (pool, server) = pool(1, &[hook]);
        if hook != AfterConnect {
            drop(get(&pool));
        }
        server.next(hook, Does::Hang);
        let mut cancelled = task::spawn(pool.get());
        assert_pending!(cancelled.poll());
        let mut waiter = task::spawn(pool.get());
        assert_pending!(waiter.poll());
        assert!(!waiter.is_woken());
        drop(cancelled);
        assert!(waiter.is_woken(), "{hook:?}");
        assert_eq!(server.alive(), 0, "{hook:?}: what the hook was in the middle of is nobody's");
        drop(assert_ready_ok!(waiter.poll()));
        is_whole(&pool, &server);
    }
}

/// A hook that takes its time is not cut short before its limit, and what it waited for is not asked twice.
#[tokio::test(start_paused = true)]
async fn a_hook_may_take_up_to_its_limit() {
    let (pool, server) = pool(1, &[BeforeAcquire]);
    for _ in 0..2 {
        server.next(BeforeAcquire, Does::Take(HOOK_TIMEOUT - Duration::from_millis(10)));
    }
    assert_eq!(pool.get().await.unwrap().number, 1);
    assert_eq!(pool.get().await.unwrap().number, 1, "the same one");
}

#[tokio::test]
async fn close_waits_for_a_connection_that_a_hook_works_on() {
    let (pool, server) = pool(1, &[BeforeAcquire]);
    drop(get(&pool));
    server.next(BeforeAcquire, Does::Hang);
    let mut getting = task::spawn(pool.get());
    assert_pending!(getting.poll());
    let mut close = task::spawn(pool.close());
    assert_pending!(close.poll());
    drop(getting);
    assert!(close.is_woken());
    assert_eq!(server.alive(), 0);
    assert_ready!(close.poll());
}
