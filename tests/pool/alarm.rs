//! The alarm that ends waiting, in real runtimes.
//!
//! Waiters share one alarm a runtime, so what can go wrong is that one of them takes it along: one that is served, gives up,
//! panics, stops being polled, or whose runtime stops. The clocks are paused, and times are exact, except where a runtime has
//! several threads or is to be busy: there the limits are short and only being much too late fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use poolproof::{AcquireError, Pool, PoolConfig};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready_ok, task};

use crate::server::{self, Manager, Outcome, Server, get};

const LIMIT: Duration = Duration::from_millis(100);
/// How long a test waits for what should long have happened.
const MUCH_TOO_LATE: Duration = Duration::from_secs(20);

/// A pool of one connection for which nobody waits longer than `limit`.
fn pool_with(limit: Duration) -> (Pool<Manager>, Arc<Server>) {
    let config =
        PoolConfig { max_connections: 1, wait_timeout: limit, acquire_timeout: limit, ..PoolConfig::default() };
    server::pool(config)
}

fn pool() -> Pool<Manager> {
    pool_with(LIMIT).0
}

/// How long one waited that ran out of time.
#[track_caller]
fn waited(outcome: Outcome) -> Duration {
    match outcome {
        Err(AcquireError::Timeout(timeout)) => timeout.waited,
        Ok(_) => panic!("served"),
        Err(error) => panic!("{error}"),
    }
}

/// Waits in a task of its own, and says at what time it ended.
fn wait(pool: &Pool<Manager>) -> JoinHandle<(Outcome, Instant)> {
    let pool = pool.clone();
    tokio::spawn(async move { (ends(pool.get()).await, Instant::now()) })
}

/// Polls a future once, in the runtime in which this is awaited.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Lets every task run that can, without any time going by.
async fn let_tasks_run() {
    for _ in 0..10 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_runs_out_of_time_at_its_own_time_and_in_its_order() {
    let pool = pool();
    let _lease = get(&pool);
    let (send, ended) = channel();
    // Three come at once each time, the last when the first have run out of time. There are never so many that time is
    // taken less exactly.
    for place in 0..60 {
        let (pool, send) = (pool.clone(), send.clone());
        tokio::spawn(async move {
            let came = Instant::now();
            send.send((place, waited(ends(pool.get()).await), came.elapsed())).unwrap();
        });
        if place % 3 == 2 {
            sleep(Duration::from_millis(11)).await;
        }
    }
    sleep(LIMIT).await;
    let expected: Vec<_> = (0..60).map(|place| (place, LIMIT, LIMIT)).collect();
    assert_eq!(ended.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!(pool.status().waiting, 0);
}

/// How late somebody may be refused who comes when 32 wait: a sixteenth of the limit, to a whole millisecond.
const TICK: Duration = Duration::from_millis(7);

#[tokio::test(start_paused = true)]
async fn who_comes_to_a_busy_queue_runs_out_of_time_a_tick_late_at_most() {
    let pool = pool();
    let _lease = get(&pool);
    let mut waiters = Vec::new();
    for _ in 0..80 {
        let came = Instant::now();
        waiters.push((came, wait(&pool)));
        sleep(Duration::from_millis(1)).await;
    }
    let mut late = Vec::new();
    for (came, waiter) in waiters {
        let (outcome, ended) = waiter.await.unwrap();
        assert!(waited(outcome) >= LIMIT, "it says so, too");
        late.push((ended - came).checked_sub(LIMIT).expect("nobody is refused early"));
    }
    assert!(late[..32].iter().all(|late| late.is_zero()), "{late:?}: exact, as long as few wait");
    assert!(late[32..].iter().all(|late| *late <= TICK), "{late:?}: a tick at most");
    assert!(late.iter().any(|late| !late.is_zero()), "{late:?}: the queue was busy");
    assert!(late.is_sorted_by(|one, next| *one <= *next + Duration::from_millis(1)), "{late:?}: in their order");
}

/// All come at once, and nobody after them: each is on time, although most have no stamp at first.
#[tokio::test(start_paused = true)]
async fn many_that_come_at_once_run_out_of_time_together() {
    let pool = pool();
    let _lease = get(&pool);
    let began = Instant::now();
    let waiters: Vec<_> = (0..1000).map(|_| wait(&pool)).collect();
    for waiter in waiters {
        let (outcome, ended) = waiter.await.unwrap();
        assert_eq!((waited(outcome), ended - began), (LIMIT, LIMIT));
    }
    assert_eq!(pool.status().waiting, 0);
}

/// A busy queue's alarm ticks while somebody comes, and then rests until a time is up.
#[test]
fn an_alarm_does_not_tick_for_those_who_wait_already() {
    const SECOND: Duration = Duration::from_secs(1);
    let parks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&parks);
    let parked = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).on_thread_park(parked).build().unwrap();
    runtime.block_on(async {
        let (pool, _) = pool_with(10 * SECOND);
        let _lease = get(&pool);
        let waiters: Vec<_> = (0..40).map(|_| wait(&pool)).collect();
        sleep(SECOND).await;
        assert_eq!(pool.status().waiting, 40);
        let before = parks.load(Ordering::SeqCst);
        sleep(8 * SECOND).await;
        let times = parks.load(Ordering::SeqCst) - before;
        // A timer of long ahead wakes the runtime now and then; ticks would do so 800 times.
        assert!(times <= 10, "{times} times something happened while nobody came");
        for waiter in waiters {
            assert_eq!(waited(waiter.await.unwrap().0), 10 * SECOND);
        }
    });
}

/// An alarm is set once, however often those who wait are served before it goes off.
#[tokio::test(start_paused = true)]
async fn waiters_that_are_served_soon_need_one_alarm_together() {
    let pool = pool();
    let (mut held, mut alarms) = (get(&pool), Vec::new());
    for _ in 0..10 {
        let mut waiter = task::spawn(pool.get());
        assert_pending!(waiter.poll());
        drop(held);
        held = assert_ready_ok!(waiter.poll());
        let_tasks_run().await;
        alarms.push(alive_tasks());
        sleep(LIMIT / 20).await;
    }
    assert_eq!(alarms, [1; 10], "the first goes on");
}

#[test]
fn waiters_without_a_stamp_whose_runtime_stops_run_out_of_time_in_another() {
    let (stops, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    let mut waiters: Vec<_> = (0..40).map(|_| task::spawn(pool.get())).collect();
    stops.block_on(async {
        for waiter in &mut waiters {
            assert_pending!(waiter.poll());
        }
    });
    drop(stops);
    assert!(waiters.iter().all(|waiter| waiter.is_woken()), "called to set another alarm");
    goes_on.block_on(async {
        assert_pending!(waiters[39].poll());
        sleep(LIMIT + 2 * TICK).await;
        assert!(waiters[39].is_woken(), "its time is up");
    });
    assert_eq!(pool.status().waiting, 0, "and so is that of those whom nobody polled");
}

#[tokio::test(start_paused = true)]
async fn waiters_that_are_served_or_give_up_do_not_disturb_the_others_times() {
    let pool = pool();
    let mut lease = Some(get(&pool));
    let began = Instant::now();
    let mut waiters = Vec::new();
    for place in 0..10 {
        waiters.push(wait(&pool));
        sleep(Duration::from_millis(10)).await;
        match place {
            // The first, for which the alarm is set, is served; so is the second, which keeps what it gets.
            4 => drop(lease.take()),
            5 => lease = waiters.remove(0).await.unwrap().0.ok(),
            6 => drop(lease.take()),
            7 => lease = waiters.remove(0).await.unwrap().0.ok(),
            // The third gives up.
            8 => waiters.remove(0).abort(),
            _ => {}
        }
    }
    assert!(lease.is_some(), "two were served");
    for (place, waiter) in (3..).zip(waiters) {
        let (outcome, ended) = waiter.await.unwrap();
        assert_eq!(waited(outcome), LIMIT, "waiter {place}");
        assert_eq!(ended - began, place * Duration::from_millis(10) + LIMIT, "waiter {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_all_the_others_ran_out_of_time_has_an_alarm() {
    let pool = pool();
    let _lease = get(&pool);
    for pause in [0, 1, 99, 100, 101, 1000] {
        assert_eq!(waited(ends(pool.get()).await), LIMIT);
        sleep(Duration::from_millis(pause)).await;
    }
}

#[test]
fn a_runtime_that_shuts_down_does_not_take_anothers_alarm_along() {
    let (stops, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    stops.block_on(async {
        tokio::spawn({
            let pool = pool.clone();
            async move { drop(pool.get().await) }
        });
        let_tasks_run().await;
    });
    let mut waiter = pin!(pool.get());
    assert!(goes_on.block_on(poll_once(waiter.as_mut())).is_pending());
    assert_eq!(pool.status().waiting, 2, "one in each runtime, and the first has set an alarm");
    drop(stops);
    assert_eq!(pool.status().waiting, 1);
    assert_eq!(waited(goes_on.block_on(ends(waiter))), LIMIT);
}

/// The same where both runtimes are at work when one stops.
#[test]
fn a_busy_runtime_that_shuts_down_does_not_take_anothers_alarm_along() {
    let [stops, goes_on] =
        [(); 2].map(|()| Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap());
    let pool = pool();
    let _lease = get(&pool);
    let (send, ended) = channel();
    for _ in 0..10 {
        let [here, there] = [(); 2].map(|()| pool.clone());
        let send = send.clone();
        stops.spawn(async move { drop(here.get().await) });
        goes_on.spawn(async move { send.send(waited(there.get().await)) });
    }
    let began = std::time::Instant::now();
    while pool.status().waiting < 20 && began.elapsed() < LIMIT {
        thread::yield_now();
    }
    drop(stops);
    for _ in 0..10 {
        assert!(receive(&ended) >= LIMIT, "nobody's time is up early");
    }
}

#[test]
fn a_runtime_that_nobody_drives_does_not_keep_another_from_running_out_of_time() {
    let (rests, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    let mut resting = pin!(pool.get());
    assert!(rests.block_on(poll_once(resting.as_mut())).is_pending());
    for _ in 0..3 {
        assert_eq!(waited(goes_on.block_on(ends(pool.get()))), LIMIT, "although the oldest waiter's alarm is silent");
    }
    assert!(waited(rests.block_on(ends(resting))) <= LIMIT, "its time was up when the other's was, by another clock");
}

#[test]
fn a_waiter_that_moves_to_another_runtime_when_its_own_stops_still_runs_out_of_time() {
    let (stops, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    let mut waiter = pin!(pool.get());
    assert!(stops.block_on(poll_once(waiter.as_mut())).is_pending());
    assert!(goes_on.block_on(poll_once(waiter.as_mut())).is_pending());
    drop(stops);
    let began = goes_on.block_on(async { Instant::now() });
    waited(goes_on.block_on(ends(waiter)));
    let took = goes_on.block_on(async { Instant::now() }) - began;
    assert!(took <= LIMIT + Duration::from_millis(1), "it took {took:?}");
}

#[test]
fn a_waiter_that_moves_and_was_not_told_of_it_is_called() {
    let (stops, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    let mut waiter = task::spawn(pool.get());
    stops.block_on(async { assert_pending!(waiter.poll()) });
    drop(stops);
    assert!(waiter.is_woken(), "called to set another alarm");
    goes_on.block_on(async { assert_pending!(waiter.poll()) });
    goes_on.block_on(async { sleep(2 * LIMIT).await });
    assert!(waiter.is_woken(), "its time is up");
}

#[test]
fn the_older_of_two_that_move_is_not_late_though_the_younger_moves_first() {
    let (stops, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    let (mut older, mut younger) = (pin!(pool.get()), pin!(pool.get()));
    stops.block_on(async {
        assert!(poll_once(older.as_mut()).await.is_pending());
        sleep(LIMIT / 2).await;
        assert!(poll_once(younger.as_mut()).await.is_pending());
    });
    drop(stops);
    goes_on.block_on(async {
        assert!(poll_once(younger.as_mut()).await.is_pending(), "it sets the alarm");
        let (older_ended, younger_ended) = tokio::join!(
            async {
                waited(ends(older).await);
                Instant::now()
            },
            async {
                waited(ends(younger).await);
                Instant::now()
            },
        );
        assert_eq!(younger_ended - older_ended, LIMIT / 2, "each at its own time");
    });
}

#[test]
fn a_waiter_outside_a_runtime_panics_and_costs_the_others_nothing() {
    panics_and_costs_nothing(|pool| drop(task::spawn(pool.get()).poll()), "there is no reactor running");
}

#[test]
fn a_waiter_in_a_runtime_without_a_timer_panics_and_costs_the_others_nothing() {
    let without_timer = Builder::new_current_thread().build().unwrap();
    panics_and_costs_nothing(|pool| drop(without_timer.block_on(poll_once(pin!(pool.get())))), "timers are disabled");
}

fn panics_and_costs_nothing(wait: impl Fn(&Pool<Manager>), message: &str) {
    let panics = |pool: &Pool<Manager>| {
        let panic = catch_unwind(AssertUnwindSafe(|| wait(pool))).expect_err("it waits without an alarm");
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        assert!(said.is_some_and(|said| said.contains(message)), "{said:?}");
    };
    let runtime = paused();
    let pool = pool();
    let lease = get(&pool);
    panics(&pool);
    assert_eq!(pool.status().waiting, 0, "it left the queue");
    let mut before = pin!(pool.get());
    assert!(runtime.block_on(poll_once(before.as_mut())).is_pending());
    panics(&pool);
    assert_eq!(pool.status().waiting, 1, "it left the queue");
    assert_eq!(waited(runtime.block_on(ends(before))), LIMIT);
    assert_eq!(waited(runtime.block_on(ends(pool.get()))), LIMIT);
    drop(lease);
    drop(get(&pool));
    assert_eq!(pool.status().idle, 1, "the connection is whole");
}

#[test]
fn a_limit_beyond_the_clock_needs_no_alarm_and_no_runtime() {
    let (pool, _) = pool_with(Duration::MAX);
    let lease = get(&pool);
    let mut outside = task::spawn(pool.get());
    assert_pending!(outside.poll());
    let runtime = paused();
    let mut inside = task::spawn(pool.get());
    runtime.block_on(async {
        assert_pending!(inside.poll());
        assert_eq!(alive_tasks(), 0, "nothing to call anybody for");
        sleep(Duration::from_secs(1_000_000)).await;
    });
    assert!(!outside.is_woken() && !inside.is_woken());
    drop(lease);
    drop(assert_ready_ok!(outside.poll()));
    drop(assert_ready_ok!(inside.poll()));
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_everything_along() {
    let (pool, server) = pool_with(LIMIT);
    let server = {
        let weak = Arc::downgrade(&server);
        drop(server);
        weak
    };
    let lease = get(&pool);
    let mut waiter = task::spawn(pool.get());
    assert_pending!(waiter.poll());
    assert_eq!(alive_tasks(), 1, "the alarm");
    drop(waiter);
    drop(lease);
    drop(pool);
    assert!(server.upgrade().is_none(), "the alarm keeps nothing of the pool alive");
    let began = Instant::now();
    let_tasks_run().await;
    assert_eq!((alive_tasks(), began.elapsed()), (0, Duration::ZERO), "the alarm ended with the pool");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_outlives_the_last_handle_takes_everything_along() {
    let (pool, server) = pool_with(LIMIT);
    let server = {
        let weak = Arc::downgrade(&server);
        drop(server);
        weak
    };
    let lease = get(&pool);
    assert!(poll_once(pin!(pool.get())).await.is_pending());
    drop(pool);
    let_tasks_run().await;
    drop(lease);
    assert!(server.upgrade().is_none(), "the alarm keeps nothing of the pool alive");
    let_tasks_run().await;
    assert_eq!(alive_tasks(), 0, "the alarm ended with the pool");
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_leaves_no_alarm_behind() {
    let pool = pool();
    let lease = get(&pool);
    let waiter = wait(&pool);
    let_tasks_run().await;
    assert_eq!(alive_tasks(), 2, "the waiter and the alarm");
    let began = Instant::now();
    let mut closing = task::spawn(pool.close());
    assert_pending!(closing.poll());
    assert!(matches!(waiter.await.unwrap().0, Err(AcquireError::Closed)));
    drop(lease);
    closing.await;
    let_tasks_run().await;
    assert_eq!((alive_tasks(), began.elapsed()), (0, Duration::ZERO), "the alarm ended with the pool");
}

#[tokio::test(start_paused = true)]
async fn an_alarm_ends_when_nobody_waits_any_more() {
    let pool = pool();
    let lease = get(&pool);
    let waiter = wait(&pool);
    let_tasks_run().await;
    drop(lease);
    assert!(waiter.await.unwrap().0.is_ok());
    sleep(LIMIT).await;
    let_tasks_run().await;
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waits_leave_one_alarm_at_most() {
    let pool = pool();
    let _lease = get(&pool);
    for count in 0..1000 {
        assert_eq!(waited(ends(pool.get()).await), LIMIT);
        assert!(alive_tasks() <= 1, "{} alarms after {count} waits", alive_tasks());
    }
}

/// The same where the waiters are served, and the next one always comes in the moment in which the alarm goes off.
#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_that_come_when_the_alarm_goes_off_leave_one_alarm_at_most() {
    let pool = pool();
    for count in 0..1000 {
        let lease = get(&pool);
        let mut waiter = task::spawn(pool.get());
        assert_pending!(waiter.poll());
        let_tasks_run().await;
        assert!(alive_tasks() <= 1, "{} alarms after {count} waits", alive_tasks());
        drop(lease);
        drop(assert_ready_ok!(waiter.poll()));
        sleep(LIMIT).await;
    }
}

/// Pending once, and at the end of the runtime's queue again.
async fn to_the_back() {
    let mut back = false;
    std::future::poll_fn(|context: &mut Context<'_>| {
        if std::mem::replace(&mut back, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A thousand tasks are always ready. The alarm must not queue behind them only to let the waiter queue behind them again.
#[test]
fn time_is_up_although_the_runtime_is_busy() {
    const TASKS: usize = 1000;
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let pool = pool();
        let _lease = get(&pool);
        let (deadline, late, done) = (OnceLock::new(), AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new((deadline, late, done));
        for _ in 0..TASKS {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let (deadline, late, done) = &*shared;
                while !done.load(Ordering::Relaxed) {
                    // Long enough that a turn of all takes far longer than the clock's millisecond.
                    let end = std::time::Instant::now() + Duration::from_micros(10);
                    while std::time::Instant::now() < end {}
                    let is_late = deadline.get().is_some_and(|deadline| Instant::now() >= *deadline);
                    late.fetch_add(usize::from(is_late), Ordering::Relaxed);
                    to_the_back().await;
                }
            });
        }
        let waiter = tokio::spawn(async move {
            let (deadline, late, done) = &*shared;
            let mut waiter = pin!(pool.get());
            assert!(poll_once(waiter.as_mut()).await.is_pending());
            deadline.get_or_init(|| Instant::now() + LIMIT);
            assert!(waited(ends(waiter).await) >= LIMIT);
            done.store(true, Ordering::Relaxed);
            late.load(Ordering::Relaxed)
        });
        let late = waiter.await.unwrap();
        assert!(late <= TASKS * 3 / 2, "{late} turns of {TASKS} tasks after its time was up");
    });
}

#[tokio::test(start_paused = true)]
async fn waiters_that_nobody_polls_do_not_keep_others_from_running_out_of_time() {
    let pool = pool();
    let _lease = get(&pool);
    let mut parked = Vec::new();
    for _ in 0..3 {
        let mut waiter = task::spawn(pool.get());
        assert_pending!(waiter.poll());
        parked.push(waiter);
        assert_eq!(waited(ends(pool.get()).await), LIMIT);
    }
    assert!(parked.iter().all(|waiter| waiter.is_woken()), "they were called, too");
    assert_eq!(pool.status().waiting, 0);
}

#[test]
fn a_waiter_that_nobody_polls_does_not_keep_the_alarm_of_a_runtime_that_stopped_to_itself() {
    let (stops, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    let (mut parked, mut moves) = (task::spawn(pool.get()), pin!(pool.get()));
    stops.block_on(async {
        assert_pending!(parked.poll());
        assert!(poll_once(moves.as_mut()).await.is_pending());
    });
    drop(stops);
    let took = goes_on.block_on(async {
        let began = Instant::now();
        waited(ends(moves).await);
        began.elapsed()
    });
    assert!(took <= LIMIT + Duration::from_millis(1), "it took {took:?}");
}

/// The outcome, unless it comes much too late.
async fn ends<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(MUCH_TOO_LATE, future).await.expect("waits for ever")
}

fn receive<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(MUCH_TOO_LATE).expect("waits for ever")
}

#[test]
fn a_waiter_that_moves_away_from_a_runtime_that_rests_runs_out_of_time_by_its_new_one() {
    let (rests, goes_on) = (paused(), paused());
    let pool = pool();
    let _lease = get(&pool);
    let mut waiter = pin!(pool.get());
    assert!(rests.block_on(poll_once(waiter.as_mut())).is_pending());
    waited(goes_on.block_on(ends(waiter)));
    drop(rests);
}
