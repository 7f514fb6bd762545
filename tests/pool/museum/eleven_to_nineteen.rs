//! Exhibits 11 to 19: sqlx when it closes, begins and pings; mobc, puddle, crystal-db, diesel.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use poolproof::{AcquireError, Behavior, Connection, Hooks, PoolConfig};
use tokio::sync::oneshot;
use tokio::time::{Instant, advance, timeout};
use tokio_test::task;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};

use super::{MILLISECOND, SECOND, database, database_with, get, give_back_broken, numbers, pool, queue, sum};
use crate::server::{self, Call, Does, Server};

/// 11. sqlx issue 3217, <https://github.com/launchbadge/sqlx/issues/3217>: `close` returned, the file was still open.
///
/// ```text
/// closer                          user
///                                 gives back: sees that the pool is open, pings
/// closes the idle connections
/// has as many permits as it
/// needs: returns
///                                 puts its connection among the idle, where nobody
///                                 will ever look again
/// ```
#[tokio::test]
async fn what_comes_back_while_the_pool_closes_does_not_outlive_close() {
    let (pool, server) = pool(2);
    let (held, idle) = (get(&pool), get(&pool));
    drop(idle);
    let closing = pool.clone();
    server.meanwhile(Call::IsReusable, move || {
        assert_pending!(task::spawn(closing.close()).poll(), "one is alive: it is coming back right now");
        assert_eq!(numbers(&closing), [1, 0, 1, 0]);
    });
    drop(held);
    assert_eq!((numbers(&pool), server.alive()), ([0, 0, 0, 0], 0));
    assert_ready!(task::spawn(pool.close()).poll());
}

/// 11. sqlx issue 3217, its other half: `close` counts permits where it should count connections.
///
/// ```text
/// closer                          user
///                                 holds one of two; the other is idle
/// closes the idle one: gives its
/// permit back, which had been given
/// back when it became idle
/// has two permits: returns
///                                 still holds its connection
/// ```
#[tokio::test]
async fn close_is_told_when_nothing_is_alive_and_not_before() {
    let (pool, server) = pool(2);
    let (held, idle) = (get(&pool), get(&pool));
    drop(idle);
    let closer = Arc::new(Closer { server: Arc::clone(&server), alive: AtomicUsize::new(usize::MAX) });
    let waker = Waker::from(Arc::clone(&closer));
    let mut close = pin!(pool.close());
    assert!(close.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!((server.alive(), closer.alive.load(Ordering::SeqCst)), (1, usize::MAX), "not woken yet");
    drop(held);
    assert_eq!(closer.alive.load(Ordering::SeqCst), 0, "it was gone when the closer was woken");
    assert!(close.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

/// Looks, when it is woken, at how many connections are alive.
struct Closer {
    server: Arc<Server>,
    alive: AtomicUsize,
}

impl Wake for Closer {
    fn wake(self: Arc<Self>) {
        self.alive.store(self.server.alive(), Ordering::SeqCst);
    }
}

/// 12. sqlx issue 3932, <https://github.com/launchbadge/sqlx/issues/3932>: what a user wrote was never committed,
/// though it had begun nothing.
///
/// ```text
/// user 1                          database          user 2
/// BEGIN
///                                 begins
/// is cancelled before it hears
/// of it: there is nothing yet
/// whose drop would roll back
/// gives back: into the pool
///                                                   is lent it, and is inside the
///                                                   transaction of user 1
/// ```
#[tokio::test]
async fn a_begin_that_is_cancelled_leaves_the_next_user_no_transaction() {
    // With a busy time-out BEGIN waits inside the engine: a place where it can be cancelled.
    let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA busy_timeout = 2000").await?) })
    });
    let (pool, _folder) = database_with(2, hooks).await;
    let (mut first, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());

    let locked = other.begin(Behavior::Immediate).await.unwrap();
    let mut begin = task::spawn(first.begin(Behavior::Immediate));
    assert_pending!(begin.poll(), "somebody else holds the lock");
    drop(begin);
    drop(first);
    assert_eq!(pool.status().open, 1, "whether it began cannot be known: nobody gets that connection");
    locked.rollback().await.unwrap();
    let mut second = pool.get().await.unwrap();
    other.execute("INSERT INTO t VALUES (1)", ()).await.expect("the lock is free");

    let mut begun = task::spawn(async {
        let _transaction = second.begin(Behavior::Immediate).await.unwrap();
        pending::<()>().await
    });
    assert_pending!(begun.poll());
    drop(begun);
    drop(second);
    other.execute("INSERT INTO t VALUES (2)", ()).await.expect("the lock is free");
    let mut third = pool.get().await.unwrap();
    assert!(third.is_autocommit());
    third.execute("INSERT INTO t VALUES (4)", ()).await.unwrap();
    assert_eq!(sum(&mut other).await, 7, "what the last one wrote is there for all to see");
}

/// 13. sqlx issue 4349, <https://github.com/launchbadge/sqlx/issues/4349>: a peer that vanishes takes a permit along.
///
/// ```text
/// user                            peer
///                                 is gone, without a word
/// gives back: a task pings, with
/// the permit in its hands
///                                 never answers
/// every such return is a permit
/// fewer, until there is none
/// ```
#[tokio::test(start_paused = true)]
async fn a_connection_that_never_answers_does_not_take_its_slot_with_it() {
    for call in [Call::AfterRelease, Call::Test, Call::BeforeAcquire] {
        let config = PoolConfig {
            max_connections: 1,
            test_after: Some(MILLISECOND),
            hook_timeout: SECOND,
            ..PoolConfig::default()
        };
        let (pool, server) = server::pool_with_hooks(config);
        let held = get(&pool);
        server.next(call, Does::Hang);
        drop(held);
        assert_eq!(numbers(&pool), [1, 1, 0, 0], "{call:?}: who gives back asks the peer nothing");
        advance(2 * MILLISECOND).await;
        let began = Instant::now();
        let next = timeout(60 * SECOND, pool.get()).await.expect("a limit for each step").unwrap();
        assert!(began.elapsed() <= SECOND + 2 * MILLISECOND, "{call:?}");
        assert_eq!((next.number, server.alive()), (2, 1), "{call:?}: replaced");
    }
}

/// 14. sqlx PR 4185, <https://github.com/launchbadge/sqlx/pull/4185>: a core at 100 %.
///
/// ```text
/// user                            waiter
/// its connection is too old:
/// dropped, and a permit given
/// back
///                                 has the permit; none is idle; there is no room
///                                 either, by now: gives the permit back, yields, has
///                                 it again, and so on
/// ```
#[tokio::test]
async fn a_waiter_is_woken_when_there_is_something_to_take_and_not_before() {
    let (pool, server) = pool(2);
    let (broken, _held) = (get(&pool), get(&pool));
    let (mut first, mut second) = (queue(&pool), queue(&pool));
    let (connected, signal) = oneshot::channel();
    server.next(Call::Connect, Does::Wait(signal));
    give_back_broken(broken);
    for _ in 0..100 {
        assert_pending!(first.poll(), "it connects");
        assert_pending!(second.poll());
        assert!(!first.is_woken() && !second.is_woken(), "nobody asks again and again");
    }
    connected.send(()).unwrap();
    assert!(first.is_woken() && !second.is_woken());
    drop(assert_ready_ok!(first.poll()));
    assert!(second.is_woken());
    assert_eq!(assert_ready_ok!(second.poll()).number, 3);
}

/// 15. mobc PR 64, <https://github.com/importcjj/mobc/pull/64>: counted as open, and nobody has it.
///
/// ```text
/// user                            waiters
///                                 queue, each with a channel for its connection
/// gives back: sends it to the
/// first
///                                 the first has just hung up: the connection is lost
///                                 with its channel, and still counted
/// after as many as there may be,
/// none can be opened any more
/// ```
#[tokio::test]
async fn a_crowd_of_waiters_that_hang_up_does_not_upset_the_count() {
    let (pool, server) = pool(2);
    let held = [get(&pool), get(&pool)];
    let mut waiters: VecDeque<_> = (0..20).map(|_| queue(&pool)).collect();
    drop(held);
    while let Some(handed) = waiters.pop_front() {
        assert!(handed.is_woken());
        drop(handed);
        assert_eq!((pool.status().open, server.alive()), (2, 2));
    }
    assert_eq!((numbers(&pool), server.opened()), ([2, 2, 0, 0], 2));
    let _both = [get(&pool), get(&pool)];
    drop(queue(&pool));
}

/// 16. mobc issue 52, <https://github.com/importcjj/mobc/issues/52>: a time-out that need not have been.
///
/// ```text
/// A                  B                      C
/// 0 s: gets the
/// only connection
///                    2 s: queues
///                                           3 s: queues
/// 5 s: gives back to whoever comes first in a hash map
///                                           is served, for 3 s
///                    7 s: its time is over
/// ```
#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_in_which_they_came() {
    let config = PoolConfig { max_connections: 1, wait_timeout: 5 * SECOND, ..PoolConfig::default() };
    let (pool, _) = server::pool(config);
    let mut held = get(&pool);
    advance(2 * SECOND).await;
    let mut waiters = VecDeque::new();
    for _ in 0..5 {
        waiters.push_back(queue(&pool));
        advance(SECOND / 2).await;
    }
    while let Some(mut next) = waiters.pop_front() {
        drop(held);
        assert!(next.is_woken());
        assert!(waiters.iter().all(|later| !later.is_woken()));
        // Polled without being woken, those behind it get nothing.
        waiters.iter_mut().for_each(|later| assert_pending!(later.poll()));
        held = assert_ready_ok!(next.poll(), "nobody ran out of time");
    }
}

/// 17. puddle issue 8, <https://github.com/jackc/puddle/issues/8>: a pool closed while it connects stands still.
///
/// ```text
/// getter                          closer
/// constructs a resource
///                                 closes
/// takes the lock: closed, so it
/// returns, and keeps the lock
/// asks again: waits for the lock,
/// for ever
/// ```
#[tokio::test]
async fn a_pool_that_is_closed_while_it_connects_refuses_and_goes_on_answering() {
    let (pool, server) = pool(2);
    let closing = pool.clone();
    server.meanwhile(Call::Connect, move || assert_pending!(task::spawn(closing.close()).poll()));
    for _ in 0..2 {
        assert!(matches!(assert_ready_err!(task::spawn(pool.get()).poll()), AcquireError::Closed));
    }
    assert_eq!((server.opened(), server.alive(), numbers(&pool)), (1, 0, [0, 0, 0, 0]));
    assert_ready!(task::spawn(pool.close()).poll());
}

/// 18. crystal-db PR 186, <https://github.com/crystal-lang/crystal-db/pull/186>: fibers that disappear under load.
///
/// ```text
/// A                               B
/// has the only connection
///                                 waits on a channel
/// gives back: puts it among the
/// idle, and sends "there is one"
///                                 its time is over first: asks again, finds the idle
///                                 one, takes it
/// stands in the send, and nobody
/// receives any more
/// ```
///
/// Whichever comes first, the connection is somebody's, and who gave it back is free.
#[tokio::test(start_paused = true)]
async fn a_return_that_meets_a_time_out_neither_blocks_nor_loses_the_connection() {
    let past = PoolConfig::default().wait_timeout + MILLISECOND;

    let (in_time, _) = pool(1);
    let held = get(&in_time);
    let mut waiter = queue(&in_time);
    drop(held);
    advance(past).await;
    assert_ready_ok!(waiter.poll(), "it looks when its time is over, but was handed a connection before");

    let (too_late, _) = pool(1);
    let held = get(&too_late);
    let mut waiter = queue(&too_late);
    advance(past).await;
    assert_ready_err!(waiter.poll());
    let mut again = queue(&too_late);
    drop(held);
    assert!(again.is_woken(), "not to the waiter that is gone");
    drop(assert_ready_ok!(again.poll()));
    assert_eq!(numbers(&too_late), [1, 1, 0, 0]);

    let (dropped, _) = pool(1);
    let held = get(&dropped);
    let waiter = queue(&dropped);
    advance(past).await;
    let mut next = queue(&dropped);
    drop(held);
    drop(waiter);
    assert!(next.is_woken());
    assert_ready_ok!(next.poll());
}

/// 19. diesel issue 2104, <https://github.com/diesel-rs/diesel/issues/2104>: half a transaction, committed by others.
///
/// ```text
/// user 1                          user 2
/// BEGIN, and half of its writes
/// panics; its guard goes back
/// into the pool
///                                 is lent it, BEGIN (a warning, no error), writes
///                                 COMMIT: its own, and the half of user 1
/// ```
#[tokio::test]
async fn a_transaction_that_a_panic_left_open_is_not_committed_by_the_next_user() {
    let (pool, _folder) = database(1).await;
    let user = pool.clone();
    let panicked = tokio::spawn(async move {
        let mut guard = user.get().await.unwrap();
        let mut transaction = guard.begin(Behavior::Immediate).await.unwrap();
        transaction.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        panic!("in the middle of it");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let mut next = pool.get().await.unwrap();
    let mut transaction = next.begin(Behavior::Immediate).await.expect("it is in none");
    transaction.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(sum(&mut next).await, 2);

    // The same with a guard that outlives the panic, which is caught inside one thread.
    let half = async {
        let mut transaction = next.begin(Behavior::Immediate).await.unwrap();
        transaction.execute("INSERT INTO t VALUES (4)", ()).await.unwrap();
        panic!("in the middle of it");
    };
    assert!(panics(half).await);
    next.execute("INSERT INTO t VALUES (8)", ()).await.unwrap();
    drop(next);
    assert_eq!(sum(&mut pool.get().await.unwrap()).await, 10);
}

/// Whether the future panics, which ends there.
async fn panics(future: impl Future) -> bool {
    let mut future = pin!(future);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context).is_ready()));
        if matches!(polled, Ok(false)) { Poll::Pending } else { Poll::Ready(polled.is_err()) }
    })
    .await
}
