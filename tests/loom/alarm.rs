//! The alarm that waiters share: whoever waits has one, and nobody's time-out costs another anything.
//!
//! The models have no time. A waiter's stamp is a number, and an alarm goes off when a model calls `ring`.

use std::sync::Arc;
use std::task::Poll;

use crate::core::Refused;
use crate::world::Clock::{Here, There};
use crate::world::{
    Sometimes, Wakes, acquire, assert_at_rest, assert_closed, block_on, connect, explore, failure, pool,
};
use crate::world::{spawn, waiter_at};

/// bb8 issue 155, deadpool issue 168: time is up in the moment in which the connection comes. Either will do, both or
/// neither will not; and the waiter behind has an alarm and its turn all the same.
///
/// ```text
/// alarm                    holder                 waiters 1 and 2
///                                                 queued
///                          takes waiter 1
/// refuses waiter 1
///                          hands it the connection
/// ```
#[test]
fn a_waiter_is_handed_something_or_out_of_time_never_both() {
    let (served, expired) = (Sometimes::default(), Sometimes::default());
    let (saw_service, saw_expiry) = (served.clone(), expired.clone());
    explore("an alarm versus a release", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [early, late] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let (mut first, mut second) = (waiter_at(&pool, 1, Here), waiter_at(&pool, 2, Here));
        assert!(early.poll(&mut first).is_pending() && late.poll(&mut second).is_pending());
        assert!(first.unwatched().is_some() && second.unwatched().is_none(), "the first sets the alarm for both");
        first.is_watched();
        let mut third = waiter_at(&pool, 3, Here);
        assert!(late.poll(&mut third).is_pending());

        let holder = loom::thread::spawn(move || drop(lease));
        let next = pool.ring(Here, |came| came <= 1);
        holder.join().unwrap();

        assert_eq!(next, Some(2), "the alarm is set for the second next");
        assert_eq!(early.count(), 1, "the first is woken once");
        let Poll::Ready(outcome) = early.poll(&mut first) else { panic!("woken for nothing") };
        saw_service.seen_if(outcome.is_ok());
        saw_expiry.seen_if(outcome.as_ref().is_err_and(|why| *why == Refused::Expired));
        assert_eq!(late.count(), usize::from(outcome.is_err()), "the second waits for the first");
        drop(outcome);
        assert!(matches!(late.poll(&mut second), Poll::Ready(Ok(_))), "the second has its turn");
        drop((first, second, third));
        assert_at_rest(&pool);
    });
    served.assert("handed the connection");
    expired.assert("out of time");
}

/// The same, while the waiter is polled by another task: its new waker must not be put where nobody will look for it.
///
/// ```text
/// waiter                   alarm or holder
/// sees that it is queued
///                          takes it out of the queue, wakes its old waker
/// leaves its new waker
/// ```
#[test]
fn a_waiter_that_changes_its_waker_hears_that_time_is_up() {
    let [at_once, woken, served] = [(); 3].map(|()| Sometimes::default());
    let saw = [at_once.clone(), woken.clone(), served.clone()];
    explore("an alarm versus a release versus a waker replaced", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [old, new] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let mut waiter = waiter_at(&pool, 1, Here);
        assert!(old.poll(&mut waiter).is_pending());
        let holder = loom::thread::spawn(move || drop(lease));
        let alarm = spawn(&pool, |pool| pool.ring(Here, |came| came <= 1));
        let mut outcome = new.poll(&mut waiter);
        saw[0].seen_if(outcome.is_ready());
        holder.join().unwrap();
        assert_eq!(alarm.join().unwrap(), None);
        if outcome.is_pending() {
            saw[1].seen_if(true);
            assert_eq!((old.count(), new.count()), (0, 1), "the latest waker is the one woken");
            outcome = new.poll(&mut waiter);
        }
        assert!(outcome.is_ready(), "handed something or out of time");
        saw[2].seen_if(matches!(outcome, Poll::Ready(Ok(_))));
        drop((outcome, waiter));
        assert_at_rest(&pool);
    });
    at_once.assert("found its answer when it left its waker");
    woken.assert("woken by its new waker");
    served.assert("served");
}

/// A waiter that gives up in the moment in which it is handed something and its time is up: whatever comes first, the
/// connection goes to the one behind, whose time is not up.
///
/// ```text
/// alarm                    holder                 waiter 1
///                                                 queued
///                          releases: to waiter 1
/// refuses waiter 1
///                                                 dropped: has nothing to pass on
/// ```
#[test]
fn a_waiter_that_gives_up_when_its_time_is_up_takes_nothing_with_it() {
    let [untouched, called] = [(); 2].map(|()| Sometimes::default());
    let saw = [untouched.clone(), called.clone()];
    explore("an alarm versus a cancelled waiter versus a release", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [early, late] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let (mut first, mut second) = (waiter_at(&pool, 1, Here), waiter_at(&pool, 2, Here));
        assert!(early.poll(&mut first).is_pending() && late.poll(&mut second).is_pending());
        first.is_watched();

        let holder = loom::thread::spawn(move || drop(lease));
        let alarm = spawn(&pool, |pool| pool.ring(Here, |came| came <= 1));
        drop(first);
        let next = alarm.join().unwrap();
        holder.join().unwrap();

        saw[0].seen_if(early.count() == 0);
        saw[1].seen_if(early.count() == 1);
        assert!(early.count() <= 1, "handed something or out of time, not both");
        assert_eq!(late.count(), 1, "the second is woken once");
        let Poll::Ready(Ok(lease)) = late.poll(&mut second) else { panic!("the second has its turn") };
        drop((lease, second));
        // Whoever waits next has an alarm: the one that is still set, or a new one.
        let lease = acquire(&pool).unwrap();
        let mut third = waiter_at(&pool, 3, Here);
        assert!(late.poll(&mut third).is_pending());
        assert_eq!(third.unwatched().is_some(), next.is_none(), "one alarm for those who wait");
        drop((third, lease));
        assert_at_rest(&pool);
    });
    untouched.assert("gave up before anybody called it");
    called.assert("gave up after it was called");
}

/// The alarm ends when it finds that nobody waits; a newcomer relies on an alarm that is set. One of the two must know
/// better.
///
/// ```text
/// alarm                    newcomer
/// finds that nobody waits
///                          queues: an alarm is set
/// ends
/// ```
#[test]
fn a_newcomer_has_the_alarm_that_rings_or_sets_its_own() {
    let (kept, own) = (Sometimes::default(), Sometimes::default());
    let (saw_kept, saw_own) = (kept.clone(), own.clone());
    explore("an alarm versus an enqueue", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let wakes = Arc::new(Wakes::default());
        let mut old = [waiter_at(&pool, 1, Here), waiter_at(&pool, 1, Here)];
        assert!(old.iter_mut().all(|waiter| wakes.poll(waiter).is_pending()));
        old[0].is_watched();
        let alarm = spawn(&pool, |pool| pool.ring(Here, |came| came <= 1));
        let mut newcomer = waiter_at(&pool, 2, Here);
        assert!(wakes.poll(&mut newcomer).is_pending());
        let next = alarm.join().unwrap();
        saw_kept.seen_if(next == Some(2));
        saw_own.seen_if(newcomer.unwatched().is_some());
        assert_ne!(next.is_some(), newcomer.unwatched().is_some(), "the newcomer has no alarm, or two");
        for waiter in &mut old {
            assert!(matches!(wakes.poll(waiter), Poll::Ready(Err(Refused::Expired))), "all are refused who are due");
        }
        drop((old, newcomer, lease));
        assert_at_rest(&pool);
    });
    kept.assert("the alarm goes on for the newcomer");
    own.assert("the newcomer sets its own");
}

/// What a waiter does that was told to set the alarm and is dropped before it did.
#[derive(Clone, Copy)]
enum Duty {
    /// As the core does: it tells the others.
    PassedOn,
    /// The mutant that the model must catch.
    Lost,
}

/// ```text
/// waiter 1                 waiter 2
/// queued: told to set
/// the alarm
///                          queued: an alarm is set, or will be
/// dropped
/// ```
fn dropped_before_it_set_the_alarm(duty: Duty) -> (Sometimes, Sometimes) {
    let (passed_on, found) = (Sometimes::default(), Sometimes::default());
    let (saw_pass, saw_none) = (passed_on.clone(), found.clone());
    explore("a waiter dropped before it set the alarm versus an enqueue", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let first = spawn(&pool, move |pool| {
            let mut waiter = waiter_at(pool, 1, Here);
            assert!(Arc::new(Wakes::default()).poll(&mut waiter).is_pending());
            if let Duty::Lost = duty {
                waiter.is_watched();
            }
        });
        let wakes = Arc::new(Wakes::default());
        let mut second = waiter_at(&pool, 2, Here);
        assert!(wakes.poll(&mut second).is_pending());
        let told_at_once = second.unwatched().is_some();
        first.join().unwrap();
        saw_none.seen_if(told_at_once);
        if wakes.count() > 0 {
            saw_pass.seen_if(!told_at_once);
            assert!(wakes.poll(&mut second).is_pending());
        }
        assert!(second.unwatched().is_some(), "nobody sets the alarm for the second");
        drop((second, lease));
        assert_at_rest(&pool);
    });
    (passed_on, found)
}

#[test]
fn a_waiter_dropped_before_it_set_the_alarm_leaves_that_to_another() {
    let (passed_on, found) = dropped_before_it_set_the_alarm(Duty::PassedOn);
    passed_on.assert("told when the first was dropped");
    found.assert("told when it queued");
}

/// All are woken to look for who sets the alarm. A connection that is handed to one of them in that moment finds no waker
/// to wake, and must not be forgotten.
///
/// ```text
/// waiter 1                 holder                   waiter 2
///                                                   queued
/// dropped: takes all wakers
///                          releases: to waiter 2,
///                          which has no waker
/// wakes all
/// ```
#[test]
fn a_waiter_woken_for_the_alarm_misses_no_hand_off() {
    let handed = Sometimes::default();
    let saw = handed.clone();
    explore("a waiter dropped before it set the alarm versus a release", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let first = spawn(&pool, |pool| {
            let mut waiter = waiter_at(pool, 1, Here);
            drop(Arc::new(Wakes::default()).poll(&mut waiter));
        });
        let holder = loom::thread::spawn(move || drop(lease));
        let mut lease = block_on(waiter_at(&pool, 2, Here)).unwrap();
        connect(&mut lease);
        saw.seen_if(pool.census().handed_over == 2);
        drop(lease);
        first.join().unwrap();
        holder.join().unwrap();
        assert_at_rest(&pool);
    });
    handed.assert("handed to the one that gave up, then to the one behind it");
}

/// A runtime stops, and its alarm with it, while another's goes off and the waiter is polled: who waited by the clock that
/// is lost, and still waits, sets another, once.
///
/// ```text
/// alarm of there           waiter of there           alarm of here
///                          queued
/// lost: takes all wakers
///                                                    refuses waiter 1, goes on
///                                                    for the waiter of there
///                          looks: sets another
/// wakes all
///                          looks: it is set
/// ```
#[test]
fn a_lost_alarm_is_set_again_though_another_goes_off() {
    let [at_once, woken] = [(); 2].map(|()| Sometimes::default());
    let saw = [at_once.clone(), woken.clone()];
    explore("an alarm versus another one that is lost", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [early, late] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let (mut first, mut second) = (waiter_at(&pool, 1, Here), waiter_at(&pool, 2, There));
        assert!(early.poll(&mut first).is_pending() && late.poll(&mut second).is_pending());
        assert!(first.unwatched().is_some() && second.unwatched().is_some(), "each clock has an alarm of its own");
        first.is_watched();
        second.is_watched();
        let lost = spawn(&pool, |pool| pool.unwatch(There));
        let here = spawn(&pool, |pool| pool.ring(Here, |came| came <= 1));
        let mut times_set = 0;
        let mut look = || {
            assert!(late.poll(&mut second).is_pending());
            times_set += usize::from(second.unwatched().is_some());
            second.is_watched();
            times_set
        };
        let set_at_once = look() == 1;
        saw[0].seen_if(set_at_once);
        lost.join().unwrap();
        assert_eq!(here.join().unwrap(), Some(2), "this alarm goes on, for the other's waiter");
        assert!(late.count() == 1 || set_at_once, "the second is not called to set another");
        saw[1].seen_if(!set_at_once);
        assert_eq!(look(), 1, "it sets its clock's alarm again, once");
        assert_eq!(early.count(), 1, "the first is called once");
        assert!(matches!(early.poll(&mut first), Poll::Ready(Err(Refused::Expired))));
        drop((first, second, lease));
        assert_at_rest(&pool);
    });
    at_once.assert("saw that the alarm was lost when it looked");
    woken.assert("called to set another");
}

/// Two runtimes' alarms go off at once: nobody is refused twice, and neither takes the other's newcomer for its own.
///
/// ```text
/// alarm of here            alarm of there           newcomer of there
/// finds that nobody waits
///                                                   queues: its alarm is set
///                          goes on for it
/// ends, and forgets here only
/// ```
#[test]
fn two_alarms_that_go_off_at_once_leave_nobody_without() {
    let [kept, own] = [(); 2].map(|()| Sometimes::default());
    let saw = [kept.clone(), own.clone()];
    explore("two alarms versus an enqueue", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [early, late] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let (mut first, mut second) = (waiter_at(&pool, 1, Here), waiter_at(&pool, 2, There));
        assert!(early.poll(&mut first).is_pending() && late.poll(&mut second).is_pending());
        first.is_watched();
        second.is_watched();
        let here = spawn(&pool, |pool| pool.ring(Here, |came| came <= 2));
        let there = spawn(&pool, |pool| pool.ring(There, |came| came <= 2));
        let mut newcomer = waiter_at(&pool, 3, There);
        assert!(Arc::new(Wakes::default()).poll(&mut newcomer).is_pending());
        here.join().unwrap();
        let next = there.join().unwrap();
        saw[0].seen_if(next == Some(3));
        saw[1].seen_if(newcomer.unwatched().is_some());
        assert_ne!(next.is_some(), newcomer.unwatched().is_some(), "the newcomer has no alarm, or two");
        assert_eq!((early.count(), late.count()), (1, 1), "each is called once");
        for (wakes, waiter) in [(early, &mut first), (late, &mut second)] {
            assert!(matches!(wakes.poll(waiter), Poll::Ready(Err(Refused::Expired))));
        }
        drop((first, second, newcomer, lease));
        assert_at_rest(&pool);
    });
    kept.assert("the newcomer's alarm goes on for it");
    own.assert("the newcomer sets its own");
}

/// The pool closes in the moment in which time is up: a waiter hears one of the two, and an alarm has nobody to go on for.
#[test]
fn a_waiter_is_out_of_time_or_refused_by_close_never_neither() {
    let [expired, closed] = [(); 2].map(|()| Sometimes::default());
    let saw = [expired.clone(), closed.clone()];
    explore("an alarm versus close", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [early, late] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let (mut first, mut second) = (waiter_at(&pool, 1, Here), waiter_at(&pool, 2, Here));
        assert!(early.poll(&mut first).is_pending() && late.poll(&mut second).is_pending());
        first.is_watched();
        let alarm = spawn(&pool, |pool| pool.ring(Here, |came| came <= 1));
        let holder = loom::thread::spawn(move || drop(lease));
        pool.close();
        alarm.join().unwrap();
        assert_eq!((early.count(), late.count()), (1, 1), "each is called once");
        for (wakes, waiter) in [(early, &mut first), (late, &mut second)] {
            match wakes.poll(waiter) {
                Poll::Ready(Err(Refused::Expired)) => saw[0].seen_if(true),
                Poll::Ready(Err(Refused::Closed)) => saw[1].seen_if(true),
                Poll::Ready(Ok(_)) => panic!("a closed pool gave something"),
                Poll::Pending => panic!("woken for nothing"),
            }
        }
        block_on(pool.closed());
        assert_eq!(pool.context().alive(), 0, "close resolved while a connection was alive");
        holder.join().unwrap();
        assert_eq!(pool.ring(Here, |_| false), None, "the alarm ends");
        drop((first, second));
        assert_closed(&pool);
    });
    expired.assert("out of time");
    closed.assert("refused by close");
}

#[test]
fn the_model_notices_a_waiter_that_takes_the_alarm_with_it() {
    let failure = failure(|| drop(dropped_before_it_set_the_alarm(Duty::Lost)));
    assert!(failure.contains("nobody sets the alarm for the second"), "{failure}");
}
