//! The pool's core under every interleaving of two or three threads.
//!
//! This crate compiles the very source of the core that ships; only `crate::sync` is another. Each model is named after its
//! hazard, most of them a bug that some pool once shipped, and asserts the core's invariants: never more alive than `max`,
//! every slot back in the end, everybody served or refused (a lost wake-up is a deadlock, and loom finds it), nothing alive
//! once close has resolved. Two models at the end are broken on purpose and must fail: they test the tests.
//!
//! `ci/loom` explores further than plain `cargo test` does, and prints how far.

#[path = "../src/pool/core/mod.rs"]
#[allow(dead_code, reason = "the models need no lease that is only looked at")]
mod core;
#[path = "loom/sync.rs"]
mod sync;
#[path = "loom/world.rs"]
mod world;

use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::core::Refused;
use crate::world::{Sometimes, Wakes, acquire, assert_at_rest, assert_closed, block_on, connect, explore, failure};
use crate::world::{pool, spawn, visit, waiter};

#[test]
fn two_acquire_one_slot() {
    explore("two acquire one slot", || {
        let pool = pool(1);
        let other = spawn(&pool, visit);
        visit(&pool);
        other.join().unwrap();
        assert_eq!(pool.census().idle, 1, "the second was handed what the first had opened");
        assert_at_rest(&pool);
    });
}

#[test]
fn three_share_two_slots() {
    explore("three share two slots", || {
        let pool = pool(2);
        let others = [spawn(&pool, visit), spawn(&pool, visit)];
        visit(&pool);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_at_rest(&pool);
    });
}

/// bb8 issue 122: a release between "nothing is free" and "wait" must not be missed.
///
/// ```text
/// newcomer              holder
/// finds nothing
///                       releases: nobody is queued
/// queues, for good
/// ```
#[test]
fn a_release_and_an_enqueue_never_miss_each_other() {
    let (waited, met) = (Sometimes::default(), Sometimes::default());
    let (saw_wait, saw_meet) = (waited.clone(), met.clone());
    explore("release versus enqueue", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let holder = loom::thread::spawn(move || drop(lease));
        let wakes = Arc::new(Wakes::default());
        let mut newcomer = waiter(&pool);
        let first = wakes.poll(&mut newcomer);
        holder.join().unwrap();
        match first {
            Poll::Ready(lease) => {
                saw_meet.seen_if(true);
                drop(lease);
            }
            Poll::Pending => {
                saw_wait.seen_if(true);
                assert_eq!(wakes.count(), 1, "woken once, and not again");
                assert!(wakes.poll(&mut newcomer).is_ready(), "woken, so there is something to take");
            }
        }
        drop(newcomer);
        assert_at_rest(&pool);
    });
    waited.assert("queued, then handed the connection");
    met.assert("found the connection at once");
}

/// How a waiter that gives up leaves the queue.
#[derive(Clone, Copy)]
enum Leaving {
    /// As the core does when the future is dropped.
    PassesOn,
    /// Without passing on what it was handed: sqlx PR 1211, and the mutant that the model must catch.
    Swallows,
}

/// ```text
/// waiter 1                holder                 waiter 2
/// queued                                         queued
///                         releases: to waiter 1
/// dropped, never polled
///                                                must be handed it
/// ```
fn cancelled_waiter(leaving: Leaving, empty: bool) -> (Sometimes, Sometimes) {
    let (before, after) = (Sometimes::default(), Sometimes::default());
    let (saw_before, saw_after) = (before.clone(), after.clone());
    let what = if empty { "an empty slot" } else { "a connection" };
    explore(&format!("a waiter cancelled before or after it is handed {what}"), move || {
        let pool = pool(1);
        let mut lease = acquire(&pool).unwrap();
        let first = spawn(&pool, move |pool| {
            let wakes = Arc::new(Wakes::default());
            let mut waiter = waiter(&pool);
            assert!(wakes.poll(&mut waiter).is_pending(), "the only slot is leased, or granted to the second");
            match leaving {
                Leaving::PassesOn => drop(waiter),
                Leaving::Swallows => drop(waiter.leave()),
            }
            wakes
        });
        let wakes = Arc::new(Wakes::default());
        let mut second = waiter(&pool);
        assert!(wakes.poll(&mut second).is_pending(), "the only slot is leased");
        if empty {
            *lease.connection() = None;
        }
        drop(lease);
        let cancelled = first.join().unwrap();
        saw_before.seen_if(cancelled.count() == 0);
        saw_after.seen_if(cancelled.count() == 1);
        let woken = wakes.count();
        let served = wakes.poll(&mut second).map(|lease| connect(&mut lease.unwrap())).is_ready();
        drop(second);
        assert!(served, "the slot was lost with the cancelled waiter");
        assert_eq!(woken, 1, "the second waiter is woken once");
        assert_at_rest(&pool);
    });
    (before, after)
}

/// bb8 issue 67, sqlx PR 918 and PR 1211: a waiter that is gone takes nothing with it.
#[test]
fn a_cancelled_waiter_takes_nothing_with_it() {
    for empty in [false, true] {
        let (before, after) = cancelled_waiter(Leaving::PassesOn, empty);
        before.assert("cancelled before it was handed anything");
        after.assert("cancelled after it was handed something, before it was polled");
    }
}

/// A task may be polled by another executor each time: only the latest waker counts.
#[test]
fn the_latest_waker_is_the_one_woken() {
    let pending_twice = Sometimes::default();
    let saw = pending_twice.clone();
    explore("a waker replaced versus a release", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let (early, late) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let mut waiter = waiter(&pool);
        assert!(early.poll(&mut waiter).is_pending());
        let holder = loom::thread::spawn(move || drop(lease));
        let again = late.poll(&mut waiter);
        holder.join().unwrap();
        if again.is_pending() {
            saw.seen_if(true);
            assert_eq!((early.count(), late.count()), (0, 1));
            assert!(late.poll(&mut waiter).is_ready());
        }
        drop((again, waiter));
        assert_at_rest(&pool);
    });
    pending_twice.assert("released after the second poll");
}

/// mobc issue 52, and bb8's `notify_one`: nobody is overtaken, neither by whoever came later nor by whoever comes while a
/// slot is on its way.
#[test]
fn three_threads_are_served_first_come_first_served() {
    explore("three threads, first come, first served", || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let wakes = Arc::new(Wakes::default());
        let (mut first, mut second) = (waiter(&pool), waiter(&pool));
        assert!(wakes.poll(&mut first).is_pending() && wakes.poll(&mut second).is_pending());

        let holder = loom::thread::spawn(move || drop(lease));
        let newcomer = spawn(&pool, {
            let order = Arc::clone(&order);
            move |pool| {
                let lease = acquire(pool).unwrap();
                order.lock().unwrap().push("newcomer");
                drop(lease);
            }
        });
        for (name, waiter) in [("first", first), ("second", second)] {
            let lease = block_on(waiter).unwrap();
            order.lock().unwrap().push(name);
            drop(lease);
        }
        holder.join().unwrap();
        newcomer.join().unwrap();
        assert_eq!(*order.lock().unwrap(), ["first", "second", "newcomer"]);
        assert_at_rest(&pool);
    });
}

/// deadpool issue 205 (33 connections of at most 24), bb8 issue 167: a slot whose connection could not be opened is
/// neither lost nor there twice.
#[test]
fn a_connect_that_fails_gives_its_slot_to_the_next() {
    explore("a connect that fails versus waiters", || {
        let pool = pool(1);
        let fails = spawn(&pool, |pool| {
            let mut lease = block_on(waiter(&pool)).unwrap();
            // If it was handed a connection, that one breaks instead.
            drop(lease.connection().take());
        });
        let other = spawn(&pool, visit);
        visit(&pool);
        fails.join().unwrap();
        other.join().unwrap();
        assert_at_rest(&pool);
    });
}

/// bb8 PR 225 and deadpool issue 205: whoever is handed the slot of a discarded connection opens the next one only when
/// the old one is gone (`World::connect` counts).
#[test]
fn a_discarded_connection_is_gone_before_its_slot_is_used() {
    explore("a discarded connection versus the next connect", || {
        let pool = pool(1);
        let mut lease = acquire(&pool).unwrap();
        let next = spawn(&pool, visit);
        *lease.connection() = None;
        drop(lease);
        next.join().unwrap();
        assert_eq!(pool.census().most_open, 1);
        assert_at_rest(&pool);
    });
}

/// In what order a lease that comes back to a closed pool lets go.
#[derive(Clone, Copy)]
enum Release {
    /// As the core does: the connection is dropped, then its slot is free.
    ConnectionFirst,
    /// The mutant that the model must catch.
    SlotFirst,
}

/// ```text
/// closer                      holder
///                             its slot is free
/// close resolves
/// unlinks the file
///                             its connection is dropped
/// ```
fn release_versus_close(release: Release) -> Sometimes {
    let waited = Sometimes::default();
    let saw = waited.clone();
    explore("release versus close", move || {
        let pool = pool(2);
        let mut lease = acquire(&pool).unwrap();
        visit(&pool);
        let holder = loom::thread::spawn(move || match release {
            Release::ConnectionFirst => drop(lease),
            Release::SlotFirst => {
                let connection = lease.connection().take();
                drop(lease);
                drop(connection);
            }
        });
        pool.close();
        saw.seen_if(pool.census().open - pool.census().idle == 1);
        block_on(pool.closed());
        let alive = pool.context().alive();
        holder.join().unwrap();
        assert_eq!(alive, 0, "close resolved while a connection was alive");
        assert_closed(&pool);
    });
    waited
}

/// sqlx issue 3217: close resolves when the last connection is dropped, not before.
#[test]
fn close_resolves_when_no_connection_is_alive() {
    release_versus_close(Release::ConnectionFirst).assert("closed while a connection was out");
}

/// puddle issue 8 and the ABBA deadlock of pools that hold a lock while they connect.
#[test]
fn a_connection_opened_while_the_pool_closes_does_not_outlive_close() {
    let (opened, refused) = (Sometimes::default(), Sometimes::default());
    let (saw_open, saw_refusal) = (opened.clone(), refused.clone());
    explore("connect versus close", move || {
        let pool = pool(1);
        let user = spawn(&pool, |pool| acquire(pool).map(drop));
        pool.close();
        block_on(pool.closed());
        assert_eq!(pool.context().alive(), 0, "close resolved while a connection was alive");
        assert_closed(&pool);
        let outcome = user.join().unwrap();
        saw_open.seen_if(outcome.is_ok());
        saw_refusal.seen_if(outcome == Err(Refused::Closed));
    });
    opened.assert("served");
    refused.assert("refused");
}

/// A waiter on a pool that closes is refused at once; it does not wait for those who hold what it wanted.
#[test]
fn a_closed_pool_refuses_who_waits_and_who_comes() {
    explore("a waiter versus close", || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let queued = spawn(&pool, |pool| acquire(pool).map(drop));
        pool.close();
        assert_eq!(queued.join().unwrap(), Err(Refused::Closed), "refused while the only slot is still leased");
        assert_eq!(block_on(waiter(&pool)).map(drop), Err(Refused::Closed));
        drop(lease);
        block_on(pool.closed());
        assert_eq!(pool.context().alive(), 0);
        assert_closed(&pool);
    });
}

/// What a waiter was handed before the pool closed, and never took, is dropped with the waiter; or close would hang.
#[test]
fn a_grant_in_flight_does_not_outlive_close() {
    let in_flight = Sometimes::default();
    let saw = in_flight.clone();
    explore("a cancelled waiter versus close", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let wakes = Arc::new(Wakes::default());
        let mut waiter = waiter(&pool);
        assert!(wakes.poll(&mut waiter).is_pending());
        let holder = loom::thread::spawn(move || drop(lease));
        let closer = spawn(&pool, |pool| {
            pool.close();
            block_on(pool.closed());
            pool.context().alive()
        });
        saw.seen_if(pool.census().closed && pool.census().handed_over == 1);
        drop(waiter);
        holder.join().unwrap();
        assert_eq!(closer.join().unwrap(), 0, "close resolved while a connection was alive");
        assert_closed(&pool);
    });
    in_flight.assert("closed while a grant was in flight");
}

#[test]
fn everybody_who_waits_for_close_is_told() {
    explore("two closers versus a release", || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let close = |pool: &Arc<world::Pool>| {
            pool.close();
            block_on(pool.closed());
            assert_eq!(pool.context().alive(), 0, "close resolved while a connection was alive");
        };
        let closer = spawn(&pool, close);
        let holder = loom::thread::spawn(move || drop(lease));
        close(&pool);
        closer.join().unwrap();
        holder.join().unwrap();
        assert_closed(&pool);
    });
}

/// A close that is no longer awaited leaves nothing behind, and the next one resolves.
#[test]
fn a_cancelled_close_does_not_keep_the_next_from_resolving() {
    explore("a cancelled close versus a release", || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let holder = loom::thread::spawn(move || drop(lease));
        pool.close();
        let mut given_up = pool.closed();
        let _ = Arc::new(Wakes::default()).poll(&mut given_up);
        drop(given_up);
        block_on(pool.closed());
        holder.join().unwrap();
        assert_closed(&pool);
    });
}

#[test]
fn the_model_notices_a_cancelled_waiter_that_passes_nothing_on() {
    for empty in [false, true] {
        let failure = failure(|| drop(cancelled_waiter(Leaving::Swallows, empty)));
        assert!(failure.contains("the slot was lost with the cancelled waiter"), "{failure}");
    }
}

#[test]
fn the_model_notices_a_slot_freed_before_its_connection_is_dropped() {
    let failure = failure(|| drop(release_versus_close(Release::SlotFirst)));
    assert!(failure.contains("close resolved while a connection was alive"), "{failure}");
}
