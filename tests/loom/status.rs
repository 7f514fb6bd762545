//! Status: in every state that another thread can see, the numbers fit.
//!
//! A thread looks while others are at work. It looks once: the exploration puts that look between any two of their steps.

use std::sync::Arc;
use std::task::Poll;

use crate::core::Census;
use crate::world::Clock::Here;
use crate::world::{
    Pool, Sometimes, Wakes, acquire, assert_at_rest, assert_closed, block_on, connect, explore, failure,
};
use crate::world::{resizable, ring, set_alarm, spawn, visit, waiter_at};

/// How a census is taken.
#[derive(Clone, Copy)]
enum Look {
    /// As the core does: under one lock.
    Once,
    /// What is idle first, then the rest: the mutant that the model must catch.
    Twice,
}

impl Look {
    fn at(self, pool: &Pool) -> Census {
        match self {
            Look::Once => pool.census(),
            Look::Twice => Census { idle: pool.census().idle, ..pool.census() },
        }
    }
}

fn assert_consistent(census: Census, most: usize) {
    let Census { max, open, most_open, idle, waiting, closed, .. } = census;
    assert!(idle <= open, "{census:?}: more are idle than are open");
    assert!(idle == 0 || waiting == 0, "{census:?}: an idle connection and a waiter coexist");
    assert!(waiting == 0 || open >= max, "{census:?}: somebody waits although there is room");
    assert!(max <= most && open <= most_open && most_open <= most, "{census:?}: more than there ever was room for");
    assert!(!closed || (idle == 0 && waiting == 0), "{census:?}: somebody is idle or waits in a closed pool");
}

/// Explores `work` while another thread looks at the pool, which has a first connection; gives `[idle, waiting, closed]` as
/// they were sometimes seen.
fn seen_by_another(name: &str, look: Look, [max, most]: [usize; 2], work: fn(&Arc<Pool>)) -> [Sometimes; 3] {
    let sometimes = [(); 3].map(|()| Sometimes::default());
    let saw = sometimes.clone();
    explore(&format!("status versus {name}"), move || {
        let pool = resizable(max, most);
        visit(&pool);
        let observer = spawn(&pool, move |pool| look.at(pool));
        work(&pool);
        let census = observer.join().unwrap();
        assert_consistent(census, most);
        let Census { idle, waiting, open, closed, .. } = census;
        saw[0].seen_if(idle > 0);
        saw[1].seen_if(waiting > 0);
        saw[2].seen_if(closed && open > 0);
        let end = pool.census();
        assert!(end.handed_over >= census.handed_over && end.most_open >= census.most_open, "{census:?}, then {end:?}");
        if end.closed { assert_closed(&pool) } else { assert_at_rest(&pool) }
    });
    sometimes
}

/// Released, queued, handed over, given up.
fn hand_over_and_give_up(pool: &Arc<Pool>) {
    let wakes = Arc::new(Wakes::default());
    let lease = acquire(pool).unwrap();
    let user = spawn(pool, visit);
    let mut waiter = waiter_at(pool, 1, Here);
    assert!(wakes.poll(&mut waiter).is_pending());
    drop(lease);
    drop(waiter);
    user.join().unwrap();
}

#[test]
fn status_fits_while_connections_are_handed_over() {
    let [idle, waiting, _] = seen_by_another("hand-off and cancel", Look::Once, [1, 1], hand_over_and_give_up);
    idle.assert("idle");
    waiting.assert("somebody waits");
}

#[test]
fn status_fits_while_time_is_up() {
    let [idle, waiting, _] = seen_by_another("an alarm and a release", Look::Once, [1, 1], |pool| {
        let [early, late] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let lease = acquire(pool).unwrap();
        let (mut first, mut second) = (waiter_at(pool, 1, Here), waiter_at(pool, 2, Here));
        assert!(early.poll(&mut first).is_pending() && late.poll(&mut second).is_pending());
        set_alarm(pool, &mut first);
        let alarm = spawn(pool, |pool| ring(pool, Here, 1));
        drop(lease);
        drop(early.poll(&mut first));
        alarm.join().unwrap();
        drop(first);
        assert!(matches!(late.poll(&mut second), Poll::Ready(Ok(_))));
    });
    idle.assert("idle");
    waiting.assert("somebody waits");
}

#[test]
fn status_fits_while_the_pool_is_resized() {
    let [idle, waiting, _] = seen_by_another("resize", Look::Once, [2, 2], |pool| {
        let leases = [acquire(pool).unwrap(), acquire(pool).unwrap()];
        let resizer = spawn(pool, |pool| {
            pool.resize(1);
            pool.resize(2);
        });
        let wakes = Arc::new(Wakes::default());
        let mut waiter = waiter_at(pool, 1, Here);
        assert!(wakes.poll(&mut waiter).is_pending());
        drop(leases);
        drop(waiter);
        resizer.join().unwrap();
    });
    idle.assert("idle");
    waiting.assert("somebody waits");
}

#[test]
fn status_fits_while_connections_are_inspected() {
    let [idle, waiting, _] = seen_by_another("inspection", Look::Once, [1, 1], |pool| {
        let inspector = spawn(pool, |pool| {
            drop(pool.take_idle());
            pool.take_due(|_, _| true).iter_mut().for_each(|lease| *lease.connection() = None);
            pool.reserve(crate::world::Holder).iter_mut().for_each(connect);
        });
        visit(pool);
        inspector.join().unwrap();
    });
    idle.assert("idle");
    waiting.assert("somebody waits");
}

#[test]
fn status_fits_while_the_pool_closes() {
    let [idle, waiting, closed] = seen_by_another("close", Look::Once, [1, 1], |pool| {
        let lease = acquire(pool).unwrap();
        let user = spawn(pool, |pool| drop(acquire(pool)));
        pool.close();
        drop(lease);
        block_on(pool.closed());
        user.join().unwrap();
    });
    idle.assert("idle");
    waiting.assert("somebody waits");
    closed.assert("closed, and not everybody is gone");
}

#[test]
fn the_model_notices_a_status_of_two_moments() {
    let look_twice = || drop(seen_by_another("hand-off and cancel", Look::Twice, [1, 1], hand_over_and_give_up));
    let failure = failure(look_twice);
    assert!(failure.contains("an idle connection and a waiter coexist"), "{failure}");
}
