//! Connections that are taken out for inspection, and slots that are reserved to fill them: nobody asked for these, and
//! whoever comes meanwhile must not pay for it.

use std::sync::Arc;

use crate::world::{Lease, Pool, Sometimes, acquire, assert_at_rest, assert_closed, block_on, connect, explore, pool};
use crate::world::{spawn, visit};

/// What is taken out of the pool.
#[derive(Clone, Copy, Debug)]
enum Take {
    /// One that is due.
    Due,
    /// All that are idle.
    Idle,
    /// Room for another.
    Room,
}

impl Take {
    fn out(self, pool: &Arc<Pool>) -> Vec<Lease> {
        match self {
            Take::Due => pool.take_due(|_, idle| idle > 0).into_iter().collect(),
            Take::Idle => pool.take_idle(),
            Take::Room => pool.reserve(crate::world::Holder).into_iter().collect(),
        }
    }
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Keep,
    Discard,
}

impl Verdict {
    fn on(self, mut lease: Lease) {
        match self {
            Verdict::Keep => connect(&mut lease),
            Verdict::Discard => *lease.connection() = None,
        }
    }
}

/// Who does this: the one that closes what is too old, `retain`, and the one that keeps `min_idle` open.
const INSPECTIONS: [(Take, Verdict); 3] =
    [(Take::Due, Verdict::Discard), (Take::Idle, Verdict::Keep), (Take::Room, Verdict::Keep)];

/// ```text
/// inspector                user
/// takes the only one out
///                          finds nothing: queued
/// puts it back             must be handed it
/// ```
#[test]
fn nobody_starves_while_a_connection_is_inspected() {
    for (take, verdict) in INSPECTIONS {
        let (waited, missed) = (Sometimes::default(), Sometimes::default());
        let (saw_wait, saw_miss) = (waited.clone(), missed.clone());
        explore(&format!("{take:?}, {verdict:?} versus two acquires"), move || {
            let pool = pool(1);
            if !matches!(take, Take::Room) {
                visit(&pool);
            }
            let inspector = spawn(&pool, move |pool| {
                let taken = take.out(pool);
                let (count, waiting) = (taken.len(), pool.census().waiting);
                taken.into_iter().for_each(|lease| verdict.on(lease));
                (count, waiting)
            });
            let user = spawn(&pool, visit);
            visit(&pool);
            user.join().unwrap();
            let (taken, waiting) = inspector.join().unwrap();
            saw_wait.seen_if(taken == 1 && waiting > 0);
            saw_miss.seen_if(taken == 0);
            assert!(pool.census().most_open <= 1);
            assert_at_rest(&pool);
        });
        waited.assert("somebody waited while it was out");
        missed.assert("there was nothing to take out");
    }
}

/// Close waits for what is out for inspection, too, and it does not come back to a closed pool.
///
/// ```text
/// inspector                closer
/// takes it out
///                          nothing is idle
/// puts it to the idle ones
/// ```
#[test]
fn close_waits_for_what_is_inspected() {
    for (take, verdict) in INSPECTIONS {
        let (out, late) = (Sometimes::default(), Sometimes::default());
        let (saw_out, saw_late) = (out.clone(), late.clone());
        explore(&format!("{take:?}, {verdict:?} versus close versus acquire"), move || {
            let pool = pool(1);
            if !matches!(take, Take::Room) {
                visit(&pool);
            }
            let inspector = spawn(&pool, move |pool| {
                let taken = take.out(pool);
                let (count, closed) = (taken.len(), pool.census().closed);
                taken.into_iter().for_each(|lease| verdict.on(lease));
                (count, closed)
            });
            let user = spawn(&pool, |pool| drop(acquire(pool)));
            pool.close();
            block_on(pool.closed());
            assert_eq!(pool.context().alive(), 0, "close resolved while a connection was alive");
            user.join().unwrap();
            let (taken, closed) = inspector.join().unwrap();
            saw_out.seen_if(taken == 1 && closed);
            saw_late.seen_if(taken == 0 && closed);
            assert_closed(&pool);
        });
        out.assert("closed while it was out");
        late.assert("came to a closed pool");
    }
}
