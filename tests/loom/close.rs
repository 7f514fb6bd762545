//! Closing: nobody gets anything from a closed pool, and close resolves when the last connection is gone.

use std::sync::Arc;
use std::task::Poll;

use crate::core::{Grant, Refused};
use crate::world::{
    Pool, Sometimes, Wakes, acquire, assert_closed, block_on, explore, failure, pool, spawn, visit, waiter,
};

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
        let close = |pool: &Arc<Pool>| {
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

/// What a waiter that was handed something does with it.
#[derive(Clone, Copy)]
enum Look {
    /// As the pool does: the core has the last word.
    Polls,
    /// Takes it without asking whether the pool is still open: the mutant that the model must catch.
    Grabs,
}

/// A connection that went out before close may be used to its end. One that was handed over before close and is looked at
/// after it went to nobody yet, and must go.
///
/// ```text
/// holder                   closer                  waiter
///                                                  queued
/// releases: to the waiter
///                          closes
///                                                  looks: gets nothing
/// ```
fn granted_waiter_versus_close(look: Look) -> (Sometimes, Sometimes) {
    let (served, refused) = (Sometimes::default(), Sometimes::default());
    let (saw_service, saw_refusal) = (served.clone(), refused.clone());
    explore("a waiter that was handed something versus close", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let wakes = Arc::new(Wakes::default());
        let mut waiter = waiter(&pool);
        assert!(wakes.poll(&mut waiter).is_pending());
        drop(lease);
        let closer = spawn(&pool, |pool| pool.close());
        let closed = pool.census().closed;
        let served = match look {
            Look::Polls => match wakes.poll(&mut waiter) {
                Poll::Ready(outcome) => outcome.is_ok(),
                Poll::Pending => panic!("it was handed something"),
            },
            Look::Grabs => matches!(waiter.leave(), Some(Grant::Slot { .. })),
        };
        assert!(!closed || !served, "a closed pool gave something");
        closer.join().unwrap();
        saw_service.seen_if(served);
        saw_refusal.seen_if(!served);
        if let Look::Polls = look {
            block_on(pool.closed());
            assert_eq!(pool.context().alive(), 0, "close resolved while a connection was alive");
            assert_closed(&pool);
        }
    });
    (served, refused)
}

#[test]
fn a_waiter_gets_nothing_from_a_closed_pool_though_it_was_handed_something() {
    let (served, refused) = granted_waiter_versus_close(Look::Polls);
    served.assert("looked before close");
    refused.assert("looked after close");
}

#[test]
fn the_model_notices_a_slot_freed_before_its_connection_is_dropped() {
    let failure = failure(|| drop(release_versus_close(Release::SlotFirst)));
    assert!(failure.contains("close resolved while a connection was alive"), "{failure}");
}

#[test]
fn the_model_notices_a_waiter_that_takes_something_from_a_closed_pool() {
    let failure = failure(|| drop(granted_waiter_versus_close(Look::Grabs)));
    assert!(failure.contains("a closed pool gave something"), "{failure}");
}
