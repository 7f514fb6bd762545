//! The alarm that waiters share: whoever waits has one, and nobody's time-out costs another anything.
//!
//! The models have no time. A waiter's stamp is a number, and an alarm goes off when a model calls `ring`.

use std::sync::Arc;
use std::task::Poll;

use crate::core::{Parts, Refused};
use crate::world::Clock::{Here, There};
use crate::world::{
    Model, Pool, Sometimes, Waiter, Wakes, acquire, assert_at_rest, assert_closed, block_on, connect, explore, failure,
};
use crate::world::{pool, ring, ring_at, set_alarm, spawn, waiter_at};

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
        assert!(first.unwatched() && !second.unwatched(), "the first sets the alarm for both");
        set_alarm(&pool, &mut first);
        let mut third = waiter_at(&pool, 3, Here);
        assert!(late.poll(&mut third).is_pending());

        let holder = loom::thread::spawn(move || drop(lease));
        let next = ring(&pool, Here, 1);
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
        set_alarm(&pool, &mut waiter);
        let holder = loom::thread::spawn(move || drop(lease));
        let alarm = spawn(&pool, |pool| ring(pool, Here, 1));
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
        set_alarm(&pool, &mut first);

        let holder = loom::thread::spawn(move || drop(lease));
        let alarm = spawn(&pool, |pool| ring(pool, Here, 1));
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
        assert_eq!(third.unwatched(), next.is_none(), "one alarm for those who wait");
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
        set_alarm(&pool, &mut old[0]);
        let alarm = spawn(&pool, |pool| ring(pool, Here, 1));
        let mut newcomer = waiter_at(&pool, 2, Here);
        assert!(wakes.poll(&mut newcomer).is_pending());
        let next = alarm.join().unwrap();
        saw_kept.seen_if(next == Some(2));
        saw_own.seen_if(newcomer.unwatched());
        assert_ne!(next.is_some(), newcomer.unwatched(), "the newcomer has no alarm, or two");
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
        let told_at_once = second.unwatched();
        first.join().unwrap();
        saw_none.seen_if(told_at_once);
        if wakes.count() > 0 {
            saw_pass.seen_if(!told_at_once);
            assert!(wakes.poll(&mut second).is_pending());
        }
        assert!(second.unwatched(), "nobody sets the alarm for the second");
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
        assert!(first.unwatched() && second.unwatched(), "each clock has an alarm of its own");
        set_alarm(&pool, &mut first);
        set_alarm(&pool, &mut second);
        let lost = spawn(&pool, |pool| pool.unwatch(There));
        let here = spawn(&pool, |pool| ring(pool, Here, 1));
        let mut times_set = 0;
        let mut look = || {
            assert!(late.poll(&mut second).is_pending());
            times_set += usize::from(second.unwatched());
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
        set_alarm(&pool, &mut first);
        set_alarm(&pool, &mut second);
        let here = spawn(&pool, |pool| ring(pool, Here, 2));
        let there = spawn(&pool, |pool| ring(pool, There, 2));
        let mut newcomer = waiter_at(&pool, 3, There);
        assert!(Arc::new(Wakes::default()).poll(&mut newcomer).is_pending());
        here.join().unwrap();
        let next = there.join().unwrap();
        saw[0].seen_if(next == Some(3));
        saw[1].seen_if(newcomer.unwatched());
        assert_ne!(next.is_some(), newcomer.unwatched(), "the newcomer has no alarm, or two");
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
        set_alarm(&pool, &mut first);
        let alarm = spawn(&pool, |pool| ring(pool, Here, 1));
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
        assert_eq!(ring(&pool, Here, 0), None, "the alarm ends");
        drop((first, second));
        assert_closed(&pool);
    });
    expired.assert("out of time");
    closed.assert("refused by close");
}

/// So many wait, with stamps from 1 on, that the next one brings none. Their alarm has gone off once, and rests.
fn busy<'a>(pool: &'a Arc<Pool>, wakes: &Arc<Wakes>, bell: &Arc<Wakes>) -> Vec<Waiter<'a>> {
    let mut waiters: Vec<_> = (1..=Model::BUSY as u64).map(|came| waiter_at(pool, came, Here)).collect();
    assert!(waiters.iter_mut().all(|waiter| wakes.poll(waiter).is_pending()));
    waiters[0].is_watched();
    assert_eq!(ring_at(pool, Here, bell, 4, 0).map(|next| (next.oldest, next.ticks)), Some((1, false)));
    waiters
}

/// What an alarm does that has nobody to tick for.
#[derive(Clone, Copy)]
enum Rest {
    /// As the pool's does: it leaves its bell.
    LeavesItsBell,
    /// The mutant that the model must catch.
    LeavesNothing,
}

/// ```text
/// alarm                    newcomer
/// nobody came since the
/// last tick: rests
///                          queues without a stamp, relies on a tick
/// ```
fn comes_without_a_stamp_when_the_alarm_rests(rest: Rest) -> [Sometimes; 2] {
    let seen = [(); 2].map(|()| Sometimes::default());
    let saw = seen.clone();
    explore("an alarm that rests versus an enqueue without a stamp", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [wakes, bell, none] = [(); 3].map(|()| Arc::new(Wakes::default()));
        let left = match rest {
            Rest::LeavesItsBell => Arc::clone(&bell),
            Rest::LeavesNothing => none,
        };
        let others = busy(&pool, &Arc::default(), &left);
        let alarm = spawn(&pool, move |pool| ring_at(pool, Here, &left, 5, 0).unwrap());
        let mut newcomer = waiter_at(&pool, u64::MAX, Here);
        assert!(wakes.poll(&mut newcomer).is_pending());
        assert!(!newcomer.unwatched(), "an alarm is set");
        let ticked = alarm.join().unwrap().ticks;
        saw[0].seen_if(ticked);
        saw[1].seen_if(!ticked);
        assert_eq!(bell.count(), 1, "the alarm rests, and somebody waits without a stamp");

        // It ticks once for the newcomer, and rests again.
        let next = ring_at(&pool, Here, &bell, 6, 3).unwrap();
        assert_eq!((next.oldest, next.ticks), (if ticked { 5 } else { 6 }, !ticked), "the first tick is its stamp");
        assert_eq!(wakes.count(), 0, "nobody is refused early");
        ring_at(&pool, Here, &bell, 7, 6);
        assert!(matches!(wakes.poll(&mut newcomer), Poll::Ready(Err(Refused::Expired))), "nor forgotten");
        drop((newcomer, others, lease));
        assert_at_rest(&pool);
    });
    seen
}

#[test]
fn a_newcomer_without_a_stamp_has_an_alarm_that_ticks() {
    let [ticked, rang] = comes_without_a_stamp_when_the_alarm_rests(Rest::LeavesItsBell);
    ticked.assert("stamped when the alarm went off");
    rang.assert("the alarm rested, and was rung");
}

/// A tick, while a connection comes back and somebody without a stamp gives up: whoever is left has a stamp, is handed
/// something or refused, and those who hold others up are known to.
#[test]
fn a_tick_stamps_whoever_is_left() {
    let [served, refused] = [(); 2].map(|()| Sometimes::default());
    let saw = [served.clone(), refused.clone()];
    explore("a tick versus a release versus a cancelled waiter", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [early, late, bell] = [(); 3].map(|()| Arc::new(Wakes::default()));
        let mut others = busy(&pool, &early, &bell);
        let [mut leaves, mut last] = [(); 2].map(|()| waiter_at(&pool, u64::MAX, Here));
        assert!(late.poll(&mut leaves).is_pending() && late.poll(&mut last).is_pending());
        let holder = loom::thread::spawn(move || drop(lease));
        let alarm = spawn(&pool, |pool| ring_at(pool, Here, &Arc::default(), 5, 1).unwrap());
        drop(leaves);
        let next = alarm.join().unwrap();
        holder.join().unwrap();
        assert!(next.ticks && next.oldest <= 3, "{next:?}");
        let holds_up = pool.holders(|_, since, _| since);
        assert!(matches!(holds_up[..], [Some(3..=5)]), "{holds_up:?}: others wait for whoever was handed the slot");

        ring_at(&pool, Here, &bell, 6, 5);
        assert_eq!((early.count(), late.count()), (3, 1), "each is called once");
        let outcome = early.poll(&mut others[0]);
        saw[0].seen_if(matches!(outcome, Poll::Ready(Ok(_))));
        saw[1].seen_if(matches!(outcome, Poll::Ready(Err(Refused::Expired))));
        for waiter in &mut others[2..] {
            assert!(matches!(early.poll(waiter), Poll::Ready(Err(Refused::Expired))));
        }
        assert!(matches!(late.poll(&mut last), Poll::Ready(Err(Refused::Expired))));
        drop((outcome, others, last));
        assert_at_rest(&pool);
    });
    served.assert("handed the connection");
    refused.assert("out of time");
}

/// How an alarm is lost.
#[derive(Clone, Copy)]
enum Loss {
    /// As the pool's is: those who wait are told.
    Told,
    /// The mutant that the model must catch.
    Silent,
}

/// ```text
/// alarm of there           newcomer of there
///                          queues without a stamp: the alarm ticks
/// lost with its runtime
///                          waits for a tick, for ever
/// ```
fn an_alarm_that_ticks_is_lost(loss: Loss) -> [Sometimes; 2] {
    let seen = [(); 2].map(|()| Sometimes::default());
    let saw = seen.clone();
    explore("an alarm that ticks and is lost versus an enqueue without a stamp", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [wakes, bell] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let others = busy(&pool, &Arc::default(), &bell);
        let [mut first, mut second] = [(); 2].map(|()| waiter_at(&pool, u64::MAX, There));
        assert!(wakes.poll(&mut first).is_pending() && first.unwatched(), "each clock has an alarm of its own");
        first.is_watched();
        let lost = spawn(&pool, move |pool| match loss {
            Loss::Told => pool.unwatch(There),
            Loss::Silent => {}
        });
        assert!(wakes.poll(&mut second).is_pending());
        let told_at_once = second.unwatched();
        lost.join().unwrap();
        saw[0].seen_if(told_at_once);
        saw[1].seen_if(!told_at_once);
        assert!(wakes.poll(&mut first).is_pending() && wakes.poll(&mut second).is_pending());
        assert_ne!(first.unwatched(), second.unwatched(), "one of them sets another");
        first.is_watched();
        second.is_watched();

        let next = ring_at(&pool, There, &bell, 5, 0).unwrap();
        assert!(next.ticks, "the new alarm has somebody to tick for");
        ring_at(&pool, There, &bell, 6, 5);
        for waiter in [&mut first, &mut second] {
            assert!(matches!(wakes.poll(waiter), Poll::Ready(Err(Refused::Expired))));
        }
        ring_at(&pool, Here, &bell, 6, 5);
        drop((first, second, others, lease));
        assert_at_rest(&pool);
    });
    seen
}

#[test]
fn an_alarm_that_ticks_is_set_again_when_it_is_lost() {
    let [at_once, woken] = an_alarm_that_ticks_is_lost(Loss::Told);
    at_once.assert("lost before the second came, who sets another");
    woken.assert("lost after the second came");
}

/// A waiter without a stamp moves to a runtime whose alarm rests, while its old one's goes off.
///
/// ```text
/// alarm of there           waiter of there           alarm of here
///                          queued without a stamp    rests
///                          moves to here: rings it
/// stamps it                                          ticks
/// ```
#[test]
fn a_waiter_that_moves_without_a_stamp_rings_the_alarm_it_moves_to() {
    let [rung, stamped] = [(); 2].map(|()| Sometimes::default());
    let saw = [rung.clone(), stamped.clone()];
    explore("a waiter without a stamp that moves versus a tick", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let [wakes, bell] = [(); 2].map(|()| Arc::new(Wakes::default()));
        let others = busy(&pool, &Arc::default(), &bell);
        let mut moves = waiter_at(&pool, u64::MAX, There);
        assert!(wakes.poll(&mut moves).is_pending());
        moves.is_watched();
        let there = spawn(&pool, |pool| ring_at(pool, There, &Arc::default(), 5, 0).unwrap());
        moves.moves_to(Here);
        assert!(!moves.unwatched(), "an alarm is set here");
        assert!(there.join().unwrap().ticks);
        let is_rung = bell.count() == 1;
        saw[0].seen_if(is_rung);
        saw[1].seen_if(!is_rung);
        assert_eq!(ring_at(&pool, Here, &bell, 6, 0).unwrap().ticks, is_rung, "it ticks for who had no stamp");
        ring_at(&pool, Here, &bell, 7, 5);
        assert!(matches!(wakes.poll(&mut moves), Poll::Ready(Err(Refused::Expired))));
        drop((moves, others, lease));
        assert_at_rest(&pool);
    });
    rung.assert("moved without a stamp");
    stamped.assert("stamped before it moved");
}

/// Close refuses those without a stamp, too, whatever the alarm does.
#[test]
fn close_refuses_who_has_no_stamp() {
    let ticked = Sometimes::default();
    let saw = ticked.clone();
    explore("a tick versus close", move || {
        let pool = pool(1);
        let lease = acquire(&pool).unwrap();
        let wakes = Arc::new(Wakes::default());
        let others = busy(&pool, &Arc::default(), &Arc::default());
        let mut last = waiter_at(&pool, u64::MAX, Here);
        assert!(wakes.poll(&mut last).is_pending());
        let alarm = spawn(&pool, |pool| ring_at(pool, Here, &Arc::default(), 5, 0));
        pool.close();
        saw.seen_if(alarm.join().unwrap().is_some());
        assert_eq!(wakes.count(), 1);
        assert!(matches!(wakes.poll(&mut last), Poll::Ready(Err(Refused::Closed))));
        drop((last, others, lease));
        assert_closed(&pool);
    });
    ticked.assert("ticked before it was closed");
}

#[test]
fn the_model_notices_an_alarm_that_rests_and_leaves_no_bell() {
    let failure = failure(|| drop(comes_without_a_stamp_when_the_alarm_rests(Rest::LeavesNothing)));
    assert!(failure.contains("the alarm rests, and somebody waits without a stamp"), "{failure}");
}

#[test]
fn the_model_notices_an_alarm_that_is_lost_in_silence() {
    let failure = failure(|| drop(an_alarm_that_ticks_is_lost(Loss::Silent)));
    assert!(failure.contains("one of them sets another"), "{failure}");
}

#[test]
fn the_model_notices_a_waiter_that_takes_the_alarm_with_it() {
    let failure = failure(|| drop(dropped_before_it_set_the_alarm(Duty::Lost)));
    assert!(failure.contains("nobody sets the alarm for the second"), "{failure}");
}
