//! Hooks: when they run, and what it costs if they go wrong.
//!
//! Every hook of these tests does what a script tells it. However it ends (an error, a panic, a hang that its time limit
//! cuts short, an acquire that is cancelled meanwhile), the connection is gone and the slot is whole: the pool still serves
//! as many connections as it may have.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolproof::{AcquireError, HookError, HookFuture, Hooks, Manage, Pool, PoolConfig, Pooled};
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};

/// Opens numbered connections.
#[derive(Default)]
struct Manager {
    opened: AtomicUsize,
    alive: Arc<AtomicUsize>,
}

struct Connection {
    number: usize,
    alive: Arc<AtomicUsize>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Manage for Manager {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        self.alive.fetch_add(1, Ordering::SeqCst);
        let number = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Connection { number, alive: Arc::clone(&self.alive) })
    }

    fn is_reusable(&self, _: &mut Connection) -> bool {
        true
    }
}

/// What a hook does.
#[derive(Clone, Copy, Debug)]
enum Does {
    Fail,
    Panic,
    PanicInside,
    Hang,
}

const WRONG: [Does; 4] = [Does::Fail, Does::Panic, Does::PanicInside, Does::Hang];

/// A hook's script and diary.
#[derive(Clone, Default)]
struct Script {
    /// What the next runs do; those after them succeed.
    next: Arc<Mutex<VecDeque<Does>>>,
    /// Which hook ran on which connection.
    diary: Arc<Mutex<Vec<(&'static str, usize)>>>,
}

impl Script {
    fn next(&self, does: Does) {
        self.next.lock().unwrap().push_back(does);
    }

    fn diary(&self) -> Vec<(&'static str, usize)> {
        std::mem::take(&mut self.diary.lock().unwrap())
    }

    fn hook(
        &self,
        name: &'static str,
    ) -> impl for<'c> Fn(&'c mut Connection) -> HookFuture<'c> + Send + Sync + 'static {
        let script = self.clone();
        move |connection| {
            script.diary.lock().unwrap().push((name, connection.number));
            let does = script.next.lock().unwrap().pop_front();
            assert!(!matches!(does, Some(Does::Panic)), "the hook panics");
            Box::pin(async move {
                match does {
                    None | Some(Does::Panic) => Ok(()),
                    Some(Does::Fail) => Err(HookError::from("not this one")),
                    Some(Does::PanicInside) => panic!("the hook's future panics"),
                    Some(Does::Hang) => std::future::pending().await,
                }
            })
        }
    }
}

const HOOK_TIMEOUT: Duration = Duration::from_millis(100);

/// A pool, and how many of its connections are alive.
fn pool(max_connections: usize, hooks: Hooks<Connection>) -> (Pool<Manager>, Arc<AtomicUsize>) {
    let manager = Manager::default();
    let alive = Arc::clone(&manager.alive);
    let config = PoolConfig { max_connections, hook_timeout: HOOK_TIMEOUT, ..PoolConfig::default() };
    (Pool::with_hooks(manager, config, hooks).unwrap(), alive)
}

type Outcome = Result<Pooled<Manager>, AcquireError<Infallible>>;

/// A get that finds what it wants at its first poll.
fn get(pool: &Pool<Manager>) -> Pooled<Manager> {
    assert_ready_ok!(task::spawn(pool.get()).poll())
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
        Does::Panic | Does::PanicInside => {
            assert!(catch_unwind(AssertUnwindSafe(|| getting.poll().map(drop))).is_err());
            None
        }
    }
}

/// No slot is lost, and no connection is alive beside those in the slots.
fn is_whole(pool: &Pool<Manager>, alive: &AtomicUsize) {
    let status = pool.status();
    assert_eq!((status.open, status.in_use), (status.idle, 0));
    let all: Vec<_> = (0..status.max).map(|_| get(pool)).collect();
    assert_eq!((pool.status().in_use, alive.load(Ordering::SeqCst)), (status.max, status.max));
    drop(all);
}

#[tokio::test]
async fn each_hook_runs_when_it_says() {
    let script = Script::default();
    let hooks = Hooks::new()
        .after_connect(script.hook("connect"))
        .before_acquire(script.hook("acquire"))
        .after_release(script.hook("release"));
    let (pool, _) = pool(2, hooks);

    let first = get(&pool);
    assert_eq!(script.diary(), [("connect", 1), ("acquire", 1)]);
    drop(first);
    assert_eq!(script.diary(), [], "giving back is synchronous: nothing runs then");
    let first = get(&pool);
    assert_eq!(script.diary(), [("release", 1), ("acquire", 1)], "the last use is cleared away before the next begins");
    let second = get(&pool);
    assert_eq!(script.diary(), [("connect", 2), ("acquire", 2)]);

    let mut waiter = task::spawn(pool.get());
    assert_pending!(waiter.poll());
    drop((first, second));
    assert_eq!(script.diary(), []);
    drop(assert_ready_ok!(waiter.poll()));
    assert_eq!(script.diary(), [("release", 1), ("acquire", 1)], "also if it is handed straight to a waiter");
}

#[tokio::test]
async fn the_release_hook_runs_once_for_each_use() {
    let script = Script::default();
    let (pool, _) = pool(1, Hooks::new().after_release(script.hook("release")));
    drop(get(&pool));
    assert_eq!(pool.retain(|_| true), 0);
    drop(get(&pool));
    drop(get(&pool));
    assert_eq!(script.diary(), [("release", 1), ("release", 1)]);
    drop(get(&pool).detach());
    drop(get(&pool));
    assert_eq!(script.diary(), [("release", 1)], "one that is detached, or new, has no use behind it that matters");
}

#[tokio::test]
async fn a_connection_opened_in_the_background_meets_its_hooks_too() {
    let script = Script::default();
    let hooks = Hooks::new().after_connect(script.hook("connect")).before_acquire(script.hook("acquire"));
    let config = PoolConfig { min_idle: 1, ..PoolConfig::default() };
    let pool = Pool::with_hooks(Manager::default(), config, hooks).unwrap();
    while pool.status().idle == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(script.diary(), [("connect", 1)], "nobody acquires it yet");
    let held = get(&pool);
    assert_eq!((held.number, script.diary()), (1, vec![("acquire", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_goes_wrong_on_a_new_connection_fails_the_acquire_and_frees_the_slot() {
    for does in WRONG {
        for name in ["connect", "acquire"] {
            let script = Script::default();
            let hooks = match name {
                "connect" => Hooks::new().after_connect(script.hook(name)),
                _ => Hooks::new().before_acquire(script.hook(name)),
            };
            let (pool, alive) = pool(2, hooks);
            script.next(does);
            if let Some(outcome) = get_while(&pool, does).await {
                assert!(matches!(outcome.unwrap_err(), AcquireError::Hook(_)), "{name}, {does:?}");
            }
            assert_eq!((pool.status().open, alive.load(Ordering::SeqCst)), (0, 0), "{name}, {does:?}");
            assert_eq!(script.diary(), [(name, 1)]);
            is_whole(&pool, &alive);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_goes_wrong_on_an_idle_connection_gets_the_user_a_new_one() {
    for does in WRONG {
        for name in ["acquire", "release"] {
            let script = Script::default();
            let hooks = match name {
                "acquire" => Hooks::new().before_acquire(script.hook(name)),
                _ => Hooks::new().after_release(script.hook(name)),
            };
            let (pool, alive) = pool(2, hooks);
            drop(get(&pool));
            script.next(does);
            if let Some(outcome) = get_while(&pool, does).await {
                let guard = outcome.unwrap_or_else(|error| panic!("{name}, {does:?}: {error}"));
                assert_eq!((guard.number, alive.load(Ordering::SeqCst)), (2, 1), "{name}, {does:?}: replaced");
            } else {
                assert_eq!((pool.status().open, alive.load(Ordering::SeqCst)), (0, 0), "{name}, {does:?}");
            }
            is_whole(&pool, &alive);
        }
    }
}

#[tokio::test]
async fn a_replacement_that_a_hook_turns_down_too_fails_the_acquire() {
    let script = Script::default();
    let (pool, alive) = pool(1, Hooks::new().before_acquire(script.hook("acquire")));
    drop(get(&pool));
    script.next(Does::Fail);
    script.next(Does::Fail);
    let error = assert_ready_err!(task::spawn(pool.get()).poll());
    assert_eq!(error.to_string(), "a hook turned a new connection down: not this one");
    assert_eq!(script.diary(), [("acquire", 1), ("acquire", 1), ("acquire", 2)]);
    is_whole(&pool, &alive);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_cancelled_in_a_hook_costs_the_connection_and_frees_the_slot_for_a_waiter() {
    for name in ["connect", "acquire", "release"] {
        let script = Script::default();
        let hooks = match name {
            "connect" => Hooks::new().after_connect(script.hook(name)),
            "acquire" => Hooks::new().before_acquire(script.hook(name)),
            _ => Hooks::new().after_release(script.hook(name)),
        };
        let (pool, alive) = pool(1, hooks);
        if name != "connect" {
            drop(get(&pool));
        }
        script.next(Does::Hang);
        let mut cancelled = task::spawn(pool.get());
        assert_pending!(cancelled.poll());
        let mut waiter = task::spawn(pool.get());
        assert_pending!(waiter.poll());
        assert!(!waiter.is_woken());
        drop(cancelled);
        assert!(waiter.is_woken(), "{name}");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "{name}: what the hook was in the middle of is nobody's");
        drop(assert_ready_ok!(waiter.poll()));
        is_whole(&pool, &alive);
    }
}

/// A hook that takes its time is not cut short before its limit, and what it waited for is not asked twice.
#[tokio::test(start_paused = true)]
async fn a_hook_may_take_up_to_its_limit() {
    let (pool, _) = pool(
        1,
        Hooks::new().before_acquire(|_| {
            Box::pin(async {
                tokio::time::sleep(HOOK_TIMEOUT - Duration::from_millis(10)).await;
                Ok(())
            })
        }),
    );
    assert_eq!(pool.get().await.unwrap().number, 1);
    assert_eq!(pool.get().await.unwrap().number, 1, "the same one");
}

#[tokio::test]
async fn close_waits_for_a_connection_that_a_hook_works_on() {
    let script = Script::default();
    let (pool, alive) = pool(1, Hooks::new().before_acquire(script.hook("acquire")));
    drop(get(&pool));
    script.next(Does::Hang);
    let mut getting = task::spawn(pool.get());
    assert_pending!(getting.poll());
    let mut close = task::spawn(pool.close());
    assert_pending!(close.poll());
    drop(getting);
    assert!(close.is_woken());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_ready!(close.poll());
}
