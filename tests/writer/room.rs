//! The queue is bounded: whoever comes when it is full waits for room, in order, or is told so.

use std::pin::Pin;
use std::task::Poll;

use poolproof::{Ack, Error, PooledDatabaseWriter, Priority, Result, WriterConfig};
use tokio_test::task::{self, Spawn};

use crate::world::{column, hold, insert, patient, queue_row, rows, writer_of};

type Waiting = Spawn<Pin<Box<dyn Future<Output = Result<Ack<u64>>>>>>;

fn is_full(outcome: Result<Ack<u64>>) -> bool {
    let error = outcome.unwrap_err();
    matches!(error, Error::RolledBack { .. }) && matches!(error.cause(), Error::Full(2))
}

/// A write that was polled once.
fn comes(db: &PooledDatabaseWriter, x: i64) -> Waiting {
    let future: Pin<Box<dyn Future<Output = _>>> = Box::pin(insert(db.clone(), x));
    let mut waiting = task::spawn(future);
    assert!(waiting.poll().is_pending());
    waiting
}

/// Goes on when it was woken. Whether it is done.
fn goes_on(waiting: &mut Waiting) -> bool {
    match waiting.is_woken().then(|| waiting.poll()) {
        Some(Poll::Ready(outcome)) => outcome.map(|_| true).unwrap(),
        Some(Poll::Pending) | None => false,
    }
}

#[tokio::test]
async fn a_full_queue_says_so_to_whoever_does_not_wait() {
    let (db, _folder) = writer_of(WriterConfig { queue: 2, ..patient() }).await;
    // Room for two: the one that holds the lane takes none.
    let held = hold(&db).await;
    let mut queued = vec![queue_row(&db, 1).await, queue_row(&db, 2).await];
    assert!(is_full(db.try_execute("INSERT INTO t VALUES (3)", ()).await));
    assert!(is_full(db.try_write(async |tx| tx.execute("INSERT INTO t VALUES (4)", ()).await).await));
    // One that leaves makes room for one.
    let leaves = queued.remove(0);
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    let tries = tokio::spawn({
        let db = db.clone();
        async move { db.try_write(async |tx| tx.execute("INSERT INTO t VALUES (5)", ()).await).await }
    });
    crate::world::until(|| db.status().queued == 2).await;
    assert!(is_full(db.try_execute("INSERT INTO t VALUES (6)", ()).await));
    held.let_go().await;
    tries.await.unwrap().unwrap();
    queued.remove(0).await.unwrap().unwrap();
    for x in 7..20 {
        db.try_execute("INSERT INTO t VALUES (?1)", (x,)).await.unwrap();
    }
    assert_eq!(column(&db, "t").await[..3], [2, 5, 7]);
}

#[tokio::test]
async fn whoever_waits_for_room_gets_it_in_order() {
    let (db, _folder) = writer_of(WriterConfig { queue: 2, ..patient() }).await;
    let held = hold(&db).await;
    let mut waiting: Vec<Waiting> = (0..12).map(|x| comes(&db, x)).collect();
    assert_eq!(db.status().queued, 2);
    // One that is queued leaves, and one that waits for room: each makes room for the next in the order.
    drop(waiting.remove(1));
    drop(waiting.remove(4));
    assert_eq!(db.status().queued, 1, "the room is another's, who has not looked yet");
    assert!(waiting[1].is_woken() && waiting[2..].iter().all(|other| !other.is_woken()));
    assert!(!goes_on(&mut waiting[1]));
    assert_eq!(db.status().queued, 2);
    held.let_go().await;
    // In whatever order they look, they were given room in theirs: the last look first.
    let mut left = waiting;
    while !left.is_empty() {
        for place in (0..left.len()).rev() {
            if goes_on(&mut left[place]) {
                drop(left.remove(place));
            }
        }
        tokio::task::yield_now().await;
    }
    let mut order = column(&db, "t").await;
    assert_eq!(order[..2], [0, 2]);
    order.sort();
    assert_eq!(order, [0, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
    assert_eq!((db.status().skipped, db.status().queued), (1, 0), "who waits for room was never queued");
}

/// With a queue of one, room is the turn: tasks that poll when they are woken are served first come, first served.
#[tokio::test]
async fn a_queue_of_one_serves_first_come_first_served() {
    let (db, _folder) = writer_of(WriterConfig { queue: 1, ..patient() }).await;
    let held = hold(&db).await;
    let tasks: Vec<_> = (0..100).map(|x| tokio::spawn(insert(db.clone(), x))).collect();
    held.let_go().await;
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(column(&db, "t").await, (0..100).collect::<Vec<_>>());
}

/// Callers come, leave and time out in every way; afterwards there is as much room as at first, not less and not more.
#[tokio::test]
async fn no_room_is_lost_and_none_is_there_twice() {
    let (db, _folder) = writer_of(WriterConfig { queue: 2, ..patient() }).await;
    for round in 0..20 {
        let held = hold(&db).await;
        let mut waiting: Vec<Waiting> = (0..6).map(|x| comes(&db, x)).collect();
        // Leaves the queue, or the wait for room, or the moment between the two.
        drop(waiting.remove(round % 6));
        drop(waiting.remove(round % 5));
        if round % 2 == 0 {
            goes_on(&mut waiting[1]);
        }
        drop(waiting.pop());
        assert!(insert(db.within(std::time::Duration::ZERO), 9).await.is_err());
        held.let_go().await;
        assert!(db.execute("COMMIT", ()).await.is_err());
        while !waiting.is_empty() {
            waiting.retain_mut(|other| !goes_on(other));
            tokio::task::yield_now().await;
        }
        let held = hold(&db).await;
        let queued = [queue_row(&db, 1).await, queue_row(&db, 2).await];
        assert!(is_full(db.try_execute("INSERT INTO t VALUES (3)", ()).await), "more room than there was");
        held.let_go().await;
        for write in queued {
            write.await.unwrap().unwrap();
        }
    }
    assert_eq!(rows(&db).await, 20 * (3 + 2));
}

#[tokio::test]
async fn whoever_waits_for_room_is_refused_when_the_writer_is_closed() {
    let (db, _folder) = writer_of(WriterConfig { queue: 1, ..patient() }).await;
    let held = hold(&db).await;
    let queued = queue_row(&db, 1).await;
    let mut waiting = comes(&db, 2);
    let mut stop = task::spawn(db.stop());
    assert!(stop.poll().is_pending());
    assert!(waiting.is_woken());
    let Poll::Ready(Err(error)) = waiting.poll() else { panic!("the queue is closed") };
    assert!(matches!(error.cause(), Error::Closed) && matches!(error, Error::RolledBack { .. }), "{error:?}");
    drop(stop);
    held.let_go().await;
    queued.await.unwrap().unwrap();
    db.stop().await;
    assert_eq!(column(&db, "t").await, [1]);
}

/// ```text
/// background               normal
/// 2 in their line, full
/// 20 wait for room
///                          comes last: there is room
/// ```
#[tokio::test]
async fn a_crowd_in_the_background_takes_no_room_from_others() {
    let (db, _folder) = writer_of(WriterConfig { queue: 2, ..patient() }).await;
    let held = hold(&db).await;
    let background = db.priority(Priority::Background);
    let mut crowd: Vec<Waiting> = (0..22).map(|x| comes(&background, x)).collect();
    assert_eq!(db.status().queued, 2);
    let (mut waits, mut tries) = (comes(&db, 100), task::spawn(db.try_execute("INSERT INTO t VALUES (101)", ())));
    assert!(tries.poll().is_pending());
    assert_eq!(db.status().queued, 4, "both have room");
    assert!(is_full(db.try_execute("INSERT INTO t VALUES (102)", ()).await));
    assert!(is_full(background.try_execute("INSERT INTO t VALUES (103)", ()).await));
    held.let_go().await;
    tries.await.unwrap();
    crate::world::until(|| goes_on(&mut waits)).await;
    while !crowd.is_empty() {
        crowd.retain_mut(|other| !goes_on(other));
        tokio::task::yield_now().await;
    }
    let order = column(&db, "t").await;
    assert_eq!((&order[..2], order.len()), (&[100, 101][..], 24), "{order:?}");
    assert_eq!(db.status().refused, 2);
}

/// Whatever becomes of a write, it is counted once.
#[tokio::test]
async fn whoever_does_not_come_in_is_counted_apart() {
    let (db, _folder) = writer_of(WriterConfig { queue: 1, ..patient() }).await;
    let (before, held) = (db.status(), hold(&db).await);
    let queued = queue_row(&db, 1).await;
    assert!(db.try_execute("INSERT INTO t VALUES (2)", ()).await.is_err(), "it is full");
    let limit = std::time::Duration::from_millis(1);
    assert!(insert(db.within(limit), 3).await.is_err(), "there is no room in time");
    assert_eq!((db.status().refused, db.status().queued), (2, 1));
    queued.abort();
    assert!(queued.await.unwrap_err().is_cancelled());
    assert!(insert(db.within(limit), 4).await.is_err(), "it has room, and no turn in time");
    held.let_go().await;
    db.stop().await;
    assert!(insert(db.clone(), 5).await.is_err(), "it is closed");
    let after = db.status();
    let counts = (after.refused, after.skipped, after.rolled_back, after.committed - before.committed, after.unknown);
    assert_eq!(counts, (3, 1, 1, 1, 0));
}
