//! Resizing: new room is for those who wait, room that is gone is gone as soon as nobody uses it.

use std::sync::Arc;

use crate::core::Refused;
use crate::world::{Sometimes, acquire, assert_at_rest, assert_closed, block_on, explore, resizable, spawn, visit};

/// deadpool issue 205: room that comes while somebody queues.
///
/// ```text
/// waiter                   resizer
/// finds no room
///                          makes room: nobody is queued
/// queues, for good
/// ```
#[test]
fn room_that_is_made_goes_to_who_waits() {
    let (admitted, handed) = (Sometimes::default(), Sometimes::default());
    let (saw_admitted, saw_handed) = (admitted.clone(), handed.clone());
    explore("resize up versus acquire versus release", move || {
        let pool = resizable(1, 2);
        let lease = acquire(&pool).unwrap();
        let resizer = spawn(&pool, |pool| pool.resize(2));
        let waiter = spawn(&pool, visit);
        drop(lease);
        resizer.join().unwrap();
        waiter.join().unwrap();
        let census = pool.census();
        saw_admitted.seen_if(census.most_open == 2);
        saw_handed.seen_if(census.most_open == 1 && census.handed_over == 1);
        assert_eq!(census.max, 2);
        assert_at_rest(&pool);
    });
    admitted.assert("used the new room");
    handed.assert("handed what was released");
}

/// Surplus connections go at once if they are idle, and when they come back if they are in use; nobody who waits is
/// forgotten over it.
///
/// ```text
/// holder                   resizer
/// is there too much? no
///                          less room; nothing is idle to close
/// puts its connection to
/// the idle ones
/// ```
#[test]
fn a_surplus_connection_goes_whether_it_is_idle_or_comes_back() {
    let (idle, back) = (Sometimes::default(), Sometimes::default());
    let (saw_idle, saw_back) = (idle.clone(), back.clone());
    explore("resize down versus release versus acquire", move || {
        let pool = resizable(2, 2);
        let (one, other) = (acquire(&pool).unwrap(), acquire(&pool).unwrap());
        let holder = loom::thread::spawn(move || drop(one));
        let resizer = spawn(&pool, |pool| {
            pool.resize(1);
            pool.census().open
        });
        drop(other);
        visit(&pool);
        holder.join().unwrap();
        let left = resizer.join().unwrap();
        saw_idle.seen_if(left <= 1);
        saw_back.seen_if(left == 2);
        assert!(pool.census().open <= 1, "two that come back at once may both see that there is one too many");
        assert_at_rest(&pool);
    });
    idle.assert("gone by the resize");
    back.assert("gone when it came back");
}

/// Down and up again while a connection comes back and somebody waits: the connection that was surplus for a moment, or the
/// room for it, goes to who waits.
///
/// ```text
/// resizer                  holder                   waiter
///                                                   queued
/// less room
///                          comes back: surplus, to be dropped
/// more room: but its slot
/// is still in use
///                          dropped, its slot is free
/// ```
#[test]
fn nobody_is_left_waiting_by_room_that_goes_and_comes() {
    let (handed, opened) = (Sometimes::default(), Sometimes::default());
    let (saw_handed, saw_opened) = (handed.clone(), opened.clone());
    explore("resize down and up versus acquire versus release", move || {
        let pool = resizable(2, 2);
        let (kept, lease) = (acquire(&pool).unwrap(), acquire(&pool).unwrap());
        let resizer = spawn(&pool, |pool| {
            pool.resize(1);
            pool.resize(2);
        });
        let holder = loom::thread::spawn(move || drop(lease));
        // `kept` stays out, so there must be a second connection for this one.
        visit(&pool);
        resizer.join().unwrap();
        holder.join().unwrap();
        saw_handed.seen_if(pool.census().handed_over > 0);
        saw_opened.seen_if(pool.census().handed_over == 0);
        drop(kept);
        assert_at_rest(&pool);
    });
    handed.assert("waited");
    opened.assert("came when there was room");
}

/// Room that is made in a pool that closes is for nobody.
#[test]
fn a_closed_pool_admits_nobody_to_new_room() {
    let (served, refused) = (Sometimes::default(), Sometimes::default());
    let (saw_service, saw_refusal) = (served.clone(), refused.clone());
    explore("resize up versus close versus acquire", move || {
        let pool = resizable(1, 2);
        let lease = acquire(&pool).unwrap();
        let waiter = spawn(&pool, |pool: &Arc<_>| acquire(pool).map(drop));
        let resizer = spawn(&pool, |pool| pool.resize(2));
        pool.close();
        drop(lease);
        block_on(pool.closed());
        assert_eq!(pool.context().alive(), 0, "close resolved while a connection was alive");
        resizer.join().unwrap();
        let outcome = waiter.join().unwrap();
        saw_service.seen_if(outcome.is_ok());
        saw_refusal.seen_if(outcome == Err(Refused::Closed));
        assert_closed(&pool);
    });
    served.assert("admitted before close");
    refused.assert("refused");
}
