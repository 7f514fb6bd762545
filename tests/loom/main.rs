//! The pool's core, and the queue of the writer's lane with its bound, under every interleaving of two or three threads.
//!
//! This crate compiles the very source of them that ships; only `crate::sync` is another. Each model is named after its
//! hazard, most of them a bug that some pool once shipped, and asserts the core's invariants: never more alive than `max`,
//! every slot back in the end, everybody served or refused (a lost wake-up is a deadlock, and loom finds it), nothing alive
//! once close has resolved. The models that end with `the_model_notices` are broken on purpose and must fail: they test the
//! tests. Here is the pool's queue; `alarm`, `close`, `inspect`, `resize` and `status` have a file each, and so have the `lane`,
//! the `room` in its queue, callers that are `leaving`, and `cache`, the protocol that tells the read cache of commits.
//!
//! `ci/loom` explores further than plain `cargo test` does, and prints how far.

mod alarm;
mod cache;
#[path = "../../src/catch.rs"]
#[allow(dead_code, reason = "nobody's future is awaited here")]
mod catch;
mod close;
#[path = "../../src/pool/core/mod.rs"]
#[allow(dead_code, reason = "the models need no lease that is only looked at")]
mod core;
mod inspect;
mod lane;
mod leaving;
mod resize;
mod room;
mod stand_ins;
mod status;
mod sync;
#[path = "../../src/changes/versions.rs"]
#[allow(dead_code, reason = "who tracks a connection needs more of the slots than a model does")]
mod versions;
mod world;
#[allow(dead_code, reason = "the models do not ask how many wait, nor take out some of those")]
#[path = "."]
mod writer {
    #[path = "../../src/writer/bounded.rs"]
    pub(crate) mod bounded;
    #[path = "../../src/writer/queue.rs"]
    pub(crate) mod queue;
}

use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::core::Seen;
use crate::sync::locks_taken;
use crate::world::{
    Holder, Sometimes, Wakes, acquire, assert_at_rest, block_on, connect, explore, failure, pool, spawn,
};
use crate::world::{visit, waiter};

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

/// What the core's documentation says of its cost: one lock to take an idle connection, one to give it back, one to queue
/// in a pool that is crowded, one to take what was handed over.
#[test]
fn each_step_takes_the_lock_once() {
    explore("locks", || {
        let pool = pool(1);
        visit(&pool);
        let mut lease = None;
        assert_eq!(locks_taken(|| lease = pool.take_idle_now(Holder)), 1, "to take an idle connection");
        assert_eq!(locks_taken(|| lease = None), 1, "to give it back");

        lease = pool.take_idle_now(Holder);
        let (wakes, mut first, mut second) = (Arc::<Wakes>::default(), waiter(&pool), waiter(&pool));
        assert!(wakes.poll(&mut first).is_pending());
        assert_eq!(locks_taken(|| assert!(wakes.poll(&mut second).is_pending())), 1, "to queue behind others");
        assert_eq!(locks_taken(|| lease = None), 1, "to hand it over");
        let mut outcome = Poll::Pending;
        assert_eq!(locks_taken(|| outcome = wakes.poll(&mut first)), 1, "to take what was handed over");
        drop((outcome, second, first, lease));
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
            let mut waiter = waiter(pool);
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

/// A waiter notes how many are before it and how many were served; both numbers must be of the moment in which it queues,
/// or the report of its time-out is wrong.
///
/// ```text
/// newcomer                 holder
/// one waits before it
///                          releases: to that one
/// one has been served
/// ```
#[test]
fn a_waiter_sees_one_moment_when_it_queues() {
    let (before, after) = (Sometimes::default(), Sometimes::default());
    let (saw_before, saw_after) = (before.clone(), after.clone());
    explore("what a newcomer sees versus a release", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let wakes = Arc::new(Wakes::default());
        let mut first = waiter(&pool);
        assert!(wakes.poll(&mut first).is_pending());
        let holder = loom::thread::spawn(move || drop(lease));
        let mut newcomer = waiter(&pool);
        assert!(wakes.poll(&mut newcomer).is_pending(), "one is before it");
        let Seen { ahead, served: handed_over } = newcomer.seen();
        saw_before.seen_if((ahead, handed_over) == (1, 0));
        saw_after.seen_if((ahead, handed_over) == (0, 1));
        assert_eq!(ahead as u64 + handed_over, 1, "the one before it waits or was served");
        holder.join().unwrap();
        drop((first, newcomer));
        assert_at_rest(&pool);
    });
    before.assert("queued before the release");
    after.assert("queued after the release");
}

/// deadpool issue 205 (33 connections of at most 24), bb8 issue 167: a slot whose connection could not be opened is
/// neither lost nor there twice.
#[test]
fn a_connect_that_fails_gives_its_slot_to_the_next() {
    explore("a connect that fails versus waiters", || {
        let pool = pool(1);
        let fails = spawn(&pool, |pool| {
            let mut lease = block_on(waiter(pool)).unwrap();
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

#[test]
fn the_model_notices_a_cancelled_waiter_that_passes_nothing_on() {
    for empty in [false, true] {
        let failure = failure(|| drop(cancelled_waiter(Leaving::Swallows, empty)));
        assert!(failure.contains("the slot was lost with the cancelled waiter"), "{failure}");
    }
}
