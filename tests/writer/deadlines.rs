//! Deadlines: whoever is not started in time is told so at that time; whoever is started is waited for.

use std::task::Poll;
use std::time::{Duration, Instant};

use poolproof::{Error, Mode, Priority, WriteStage, WriterConfig};
use tokio::sync::watch;
use tokio_test::task;

use crate::world::{column, hold, insert, lock, patient, queue, queue_row, rows, unlock, until, writer, writer_of};

/// Its limit is over: in a paused runtime to the millisecond.
fn is_late(error: &Error, limit: Duration) -> bool {
    matches!(error, Error::RolledBack { .. })
        && matches!(error.cause(), Error::Deadline { stage: WriteStage::Waiting, limit: told } if *told == limit)
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_for_the_wait_for_room_and_for_the_turn_together() {
    let (db, _folder) = writer_of(WriterConfig { queue: 1, ..patient() }).await;
    let held = hold(&db).await;
    let queued = queue_row(&db, 1).await;
    // For room: it is never in the queue.
    let (began, limit) = (tokio::time::Instant::now(), Duration::from_millis(300));
    let error = insert(db.within(limit), 2).await.unwrap_err();
    assert!(is_late(&error, limit), "{error:?}");
    assert!(began.elapsed() - limit <= Duration::from_millis(2), "{:?}", began.elapsed());
    // For room first, for 200 ms, and for the rest of its time for its turn.
    let began = tokio::time::Instant::now();
    let waiting = tokio::spawn(insert(db.within(limit), 3));
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    queued.abort();
    assert!(queued.await.unwrap_err().is_cancelled());
    until(|| db.status().queued == 1).await;
    let error = waiting.await.unwrap().unwrap_err();
    assert!(is_late(&error, limit), "{error:?}");
    assert!(began.elapsed() - limit <= Duration::from_millis(2), "{:?}", began.elapsed());
    assert_eq!((db.status().queued, db.status().skipped), (0, 1));
    // Its room is free again.
    let last = queue_row(&db, 4).await;
    held.let_go().await;
    last.await.unwrap().unwrap();
    assert_eq!(column(&db, "t").await, [4]);
}

#[tokio::test]
async fn a_write_that_started_in_time_is_waited_for() {
    let (db, _folder) = writer().await;
    let limit = Duration::from_millis(30);
    let (release, held) = watch::channel(false);
    let (started, mut begun) = watch::channel(false);
    let began = Instant::now();
    let long = tokio::spawn({
        let db = db.within(limit);
        async move {
            db.write(async move |tx| {
                started.send_replace(true);
                let _ = held.clone().wait_for(|released| *released).await;
                tx.execute("INSERT INTO t VALUES (1)", ()).await
            })
            .await
        }
    });
    begun.wait_for(|begun| *begun).await.unwrap();
    until(|| began.elapsed() > 2 * limit).await;
    assert!(!long.is_finished());
    release.send_replace(true);
    long.await.unwrap().unwrap();
    assert_eq!(column(&db, "t").await, [1]);
}

/// The long one ends only when all the short ones have been told: had one to wait for it, this would not end.
#[tokio::test]
async fn a_long_closure_keeps_nobody_from_being_told_in_time() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let mut writes = Vec::new();
    for number in 0..60 {
        let limit = Duration::from_millis(5 + number);
        let began = Instant::now();
        writes.push((
            limit,
            tokio::spawn({
                let db = db.within(limit);
                async move {
                    let error = match number % 3 {
                        0 => insert(db, 1).await.unwrap_err(),
                        1 => db.write(async |tx| tx.execute("INSERT INTO t VALUES (2)", ()).await).await.unwrap_err(),
                        _ => db.try_execute("INSERT INTO t VALUES (3)", ()).await.unwrap_err(),
                    };
                    (error, began.elapsed())
                }
            }),
        ));
    }
    let mut lateness = Vec::new();
    for (limit, write) in writes {
        let (error, took) = write.await.unwrap();
        assert!(is_late(&error, limit), "{error:?}");
        assert!(took >= limit, "{took:?} of {limit:?}");
        lateness.push(took - limit);
    }
    lateness.sort();
    println!("told late by {:?} in the middle, {:?} at most", lateness[30], lateness[59]);
    // Some are late when the machine is busy. All of them would be if a timer looked once a second, or one after the other.
    assert!(lateness[30] < Duration::from_millis(500), "told late by {:?} in the middle", lateness[30]);
    assert!(lateness[59] < Duration::from_secs(10), "told late by {:?} at most", lateness[59]);
    assert_eq!(db.status().queued, 0);
    held.let_go().await;
    insert(db.clone(), 9).await.unwrap();
    assert_eq!(column(&db, "t").await, [9]);
}

#[tokio::test]
async fn a_limit_of_no_time_is_refused_behind_others() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let error = insert(db.within(Duration::ZERO), 1).await.unwrap_err();
    assert!(is_late(&error, Duration::ZERO), "{error:?}");
    held.let_go().await;
    assert_eq!(rows(&db).await, 0);
}

/// However long the lane's thread takes to wake up, or to rest after the write before this.
#[tokio::test]
async fn a_limit_of_no_time_is_enough_where_nobody_is_before_it() {
    let (db, _folder) = writer().await;
    let at_once = db.within(Duration::ZERO);
    for x in 0..100 {
        match x % 2 {
            0 => insert(at_once.clone(), x).await.unwrap(),
            _ => at_once.try_execute("INSERT INTO t VALUES (?1)", (x,)).await.unwrap(),
        };
    }
    assert_eq!(rows(&db).await, 100);
}

/// There, "at once" means that a connection is free.
#[tokio::test]
async fn a_limit_of_no_time_is_enough_side_by_side_where_a_connection_is_free() {
    let (db, _folder) = writer_of(WriterConfig { mode: Mode::Mvcc, ..patient() }).await;
    let at_once = db.within(Duration::ZERO);
    for x in 0..20 {
        insert(at_once.clone(), x).await.unwrap();
    }
    let mut guards = Vec::new();
    for _ in 0..4 {
        guards.push(db.pool().get().await.unwrap());
    }
    assert!(is_late(&insert(at_once, 20).await.unwrap_err(), Duration::ZERO));
    drop(guards);
    assert_eq!(rows(&db).await, 20);
}

#[tokio::test]
async fn of_two_with_no_time_one_is_refused_and_so_is_whoever_comes_while_a_write_runs() {
    let (db, _folder) = writer().await;
    let at_once = db.within(Duration::ZERO);
    let (first, second) = tokio::join!(insert(at_once.clone(), 1), insert(at_once.clone(), 2));
    first.unwrap();
    assert!(is_late(&second.unwrap_err(), Duration::ZERO));
    let held = hold(&db).await;
    assert!(is_late(&insert(at_once.clone(), 3).await.unwrap_err(), Duration::ZERO));
    // Whoever is refused, or leaves, is not before anybody.
    let leaves = queue_row(&db, 4).await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    held.let_go().await;
    insert(at_once, 5).await.unwrap();
    assert_eq!(column(&db, "t").await, [1, 5]);
}

/// ```text
/// caller                     lane
/// queued, within 5 ms        at work
/// (does not look)            5 ms are over; takes it out
///                            not started: its time is over
/// looks: told so
/// ```
#[tokio::test]
async fn a_write_whose_time_is_over_is_not_started_though_its_caller_has_not_looked() {
    let (db, _folder) = writer().await;
    let limit = Duration::from_millis(5);
    // Alone, and beside others.
    for others in [0, 3] {
        let held = hold(&db).await;
        let began = Instant::now();
        let mut late = task::spawn(insert(db.within(limit), 1));
        assert!(late.poll().is_pending());
        let mut beside = Vec::new();
        for _ in 0..others {
            beside.push(queue_row(&db, 2).await);
        }
        while began.elapsed() <= limit {
            std::thread::yield_now();
        }
        held.let_go().await;
        for other in beside {
            other.await.unwrap().unwrap();
        }
        // Whatever was before it is done.
        db.execute("DELETE FROM t WHERE x = 3", ()).await.unwrap();
        let error = late.await.unwrap_err();
        assert!(is_late(&error, limit), "{error:?}");
    }
    assert_eq!(column(&db, "t").await, [2, 2, 2]);
}

/// A handle with a limit is another handle: it takes nothing from the one it was made of, and gives its priority on.
#[tokio::test]
async fn a_limit_is_of_its_handle_alone() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let waits = queue(&db, |db| async move {
        let _impatient = db.within(Duration::ZERO);
        insert(db, 1).await
    });
    let waits = waits.await;
    assert!(insert(db.within(Duration::ZERO), 2).await.is_err());
    held.let_go().await;
    waits.await.unwrap().unwrap();
    assert_eq!(column(&db, "t").await, [1]);
}

/// By a guard of the pool. Alone; after a batch, when the lane begins before it takes anybody out; and beside one who waits.
#[tokio::test]
async fn a_limit_of_no_time_is_refused_at_once_where_somebody_holds_the_write_lock() {
    let minute = Duration::from_secs(60);
    let (db, _folder) = writer_of(WriterConfig { retry_timeout: minute, ..patient() }).await;
    let at_once = db.within(Duration::ZERO);
    for (after_a_batch, priority) in [(false, Priority::Normal), (true, Priority::Normal), (true, Priority::Background)]
    {
        if after_a_batch {
            let held = hold(&db).await;
            let batch = [queue_row(&db, 1).await, queue_row(&db, 1).await];
            held.let_go().await;
            for write in batch {
                write.await.unwrap().unwrap();
            }
        }
        let guard = lock(&db).await;
        let refused = insert(at_once.priority(priority), 2);
        let error = tokio::time::timeout(minute / 2, refused).await.expect("at once").unwrap_err();
        assert!(is_late(&error, Duration::ZERO), "{error:?}");
        // One who may wait comes right behind it.
        let mut refused = task::spawn(insert(at_once.priority(priority), 2));
        // The lane may be as fast as this.
        let at_its_first_poll = refused.poll();
        let waits = queue_row(&db, 3).await;
        let outcome = match at_its_first_poll {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => tokio::time::timeout(minute / 2, refused).await.expect("at once"),
        };
        let error = outcome.unwrap_err();
        assert!(is_late(&error, Duration::ZERO), "{error:?}");
        unlock(guard).await;
        waits.await.unwrap().unwrap();
    }
    assert_eq!(column(&db, "t").await, [3, 1, 1, 3, 1, 1, 3]);
}
