//! A write lock that somebody outside the lane holds: the lane tries again, with pauses that grow, and not for ever.

use std::time::{Duration, Instant};

use poolproof::{Ack, Error, PooledDatabaseWriter, Result, WriteStage, WriterConfig};
use tokio::task::JoinHandle;

use crate::world::{
    column, commit_of, hold, insert, lock, locked, patient, queue, queue_row, unlock, until, writer, writer_of,
};

/// How many tries there can have been since then: the pauses are 0.25, 0.5, 1, 2, 4 ms at least, and then 8.
fn most_retries(began: Instant) -> u64 {
    7 + began.elapsed().as_millis() as u64 / 8
}

/// The kinds of writes: a statement that may share a commit, one that has to be alone, a closure.
const KINDS: usize = 3;

async fn write(db: PooledDatabaseWriter, kind: usize) -> Result<Ack<u64>> {
    match kind {
        0 => insert(db, 1).await,
        1 => db.execute("CREATE TABLE v (x)", ()).await,
        _ => db.write(async |tx| tx.execute("INSERT INTO t VALUES (1)", ()).await).await,
    }
}

#[tokio::test]
async fn the_lane_tries_again_with_pauses_that_grow_and_succeeds_once_the_lock_is_free() {
    let (db, _folder) = writer().await;
    for kind in 0..KINDS {
        let before = db.status();
        let (guard, began) = (lock(&db).await, Instant::now());
        let waiting = tokio::spawn(write(db.clone(), kind));
        until(|| db.status().retries >= before.retries + 12).await;
        assert!(!waiting.is_finished());
        unlock(guard).await;
        assert_eq!(commit_of(waiting).await, before.commits + 1);
        let retries = db.status().retries - before.retries;
        println!("{retries} retries in {:?}", began.elapsed());
        assert!(retries <= most_retries(began), "{retries} in {:?}", began.elapsed());
    }
    assert_eq!(column(&db, "t").await, [1, 1]);
}

#[tokio::test]
async fn a_batch_waits_for_the_lock_as_one() {
    let (db, _folder) = writer().await;
    let (before, began) = (db.status(), Instant::now());
    let guard = lock(&db).await;
    // A lone one that keeps the lane until the others are queued.
    let lone = tokio::spawn(insert(db.within(Duration::from_millis(300)), 0));
    until(|| db.status().retries > before.retries).await;
    let mut writes = Vec::new();
    for x in 1..=20 {
        writes.push(queue_row(&db, x).await);
    }
    assert!(lone.await.unwrap().is_err());
    let retries = db.status().retries;
    until(|| db.status().retries >= retries + 5).await;
    unlock(guard).await;
    for write in writes {
        assert_eq!(commit_of(write).await, before.commits + 1);
    }
    let retries = db.status().retries - before.retries;
    assert!(retries <= 7 + most_retries(began), "{retries}: each of the two begins with short pauses");
    assert_eq!(column(&db, "t").await, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_waits_for_the_lock_too_long_is_told_that_nothing_was_written() {
    let retry_timeout = Duration::from_millis(60);
    let (db, _folder) = writer_of(WriterConfig { retry_timeout, ..patient() }).await;
    for kind in 0..KINDS {
        let (before, guard, began) = (db.status(), lock(&db).await, Instant::now());
        let error = write(db.clone(), kind).await.unwrap_err();
        assert!(matches!(error, Error::RolledBack { .. }) && error.is_contention(), "{error:?}");
        println!("refused after {:?}, {} retries", began.elapsed(), db.status().retries - before.retries);
        assert!(began.elapsed() >= retry_timeout);
        let after = db.status();
        assert!(after.retries - before.retries <= most_retries(began));
        assert_eq!((after.rolled_back - before.rolled_back, after.commits), (1, before.commits));
        unlock(guard).await;
    }
    // Nothing was written; the lane goes on.
    for kind in 0..KINDS {
        write(db.clone(), kind).await.unwrap();
    }
    assert_eq!(column(&db, "t").await, [1, 1]);
}

/// Those for whom the lane tried are refused as one; whoever came meanwhile has tries of their own.
#[tokio::test]
async fn a_batch_that_waits_for_the_lock_too_long_is_refused_as_one() {
    let retry_timeout = Duration::from_millis(60);
    let (db, _folder) = writer_of(WriterConfig { retry_timeout, ..patient() }).await;
    let (guard, lone) = locked(&db).await;
    let mut writes = Vec::new();
    for x in 1..=20 {
        writes.push(queue_row(&db, x).await);
    }
    let mut refused = vec![lone];
    refused.append(&mut writes);
    for write in refused {
        let error = write.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::RolledBack { .. }) && error.is_contention(), "{error:?}");
    }
    unlock(guard).await;
    insert(db.clone(), 7).await.unwrap();
    assert_eq!((column(&db, "t").await, db.status().rolled_back), (vec![7], 21));
}

/// ```text
/// guard        A        B        lane
/// has the lock
///              queued
///                                tries for A
///                       queued
///              is refused
/// lets go
///                                tries for B
///                       is told
/// ```
/// Were it tried for on behalf of nobody, the lane would not end before the lock is free, which is after its end.
#[tokio::test]
async fn a_lock_is_tried_for_no_longer_than_somebody_waits_for_it() {
    let retry_timeout = Duration::from_secs(3600);
    let (db, _folder) = writer_of(WriterConfig { retry_timeout, ..patient() }).await;
    let guard = lock(&db).await;
    for limit in [Duration::ZERO, Duration::from_millis(20)] {
        assert!(insert(db.within(limit), 1).await.is_err());
    }
    tokio::time::timeout(Duration::from_secs(60), db.stop()).await.expect("the lane ends");
    unlock(guard).await;
}

#[tokio::test]
async fn a_snapshot_that_is_stale_is_refused_to_a_guard_and_never_met_by_the_lane() {
    let (db, _folder) = writer().await;
    let mut guard = db.pool().get().await.unwrap();
    guard.execute("BEGIN", ()).await.unwrap();
    guard.query("SELECT COUNT(*) FROM t", ()).await.unwrap().next().await.unwrap();
    insert(db.clone(), 1).await.unwrap();
    let error = guard.execute("INSERT INTO t VALUES (2)", ()).await.unwrap_err();
    assert!(matches!(error.cause(), Error::Engine(turso::Error::BusySnapshot(_))), "{error:?}");
    assert!(error.is_contention());
    unlock(guard).await;

    // The lane has the lock before it reads: whoever commits while it waits for that is in what it sees.
    for kind in 0..KINDS {
        let (mut guard, before) = (lock(&db).await, db.status());
        let waiting = tokio::spawn(write(db.clone(), kind));
        until(|| db.status().retries > before.retries).await;
        guard.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
        guard.execute("COMMIT", ()).await.unwrap();
        drop(guard);
        assert_eq!(commit_of(waiting).await, before.commits + 1);
        assert_eq!(db.status().rolled_back, before.rolled_back);
    }
    assert_eq!(column(&db, "t").await, [1, 3, 1, 3, 3, 1]);
}

#[tokio::test]
async fn whoever_came_while_the_lane_tried_for_others_has_tries_of_its_own() {
    let retry_timeout = Duration::from_millis(500);
    let (db, _folder) = writer_of(WriterConfig { retry_timeout, ..patient() }).await;
    let guard = lock(&db).await;
    let lone = tokio::spawn(insert(db.clone(), 0));
    until(|| db.status().retries > 0).await;
    let others = [queue_row(&db, 1).await, queue_row(&db, 2).await];
    assert!(lone.await.unwrap().is_err());
    let retries = db.status().retries;
    until(|| db.status().retries > retries).await;
    let late = queue_row(&db, 3).await;
    for other in others {
        assert!(other.await.unwrap().unwrap_err().is_contention());
    }
    unlock(guard).await;
    late.await.unwrap().unwrap();
    assert_eq!(column(&db, "t").await, [3]);
}

/// ```text
/// guard            caller                    lane
/// has the lock
///                  within 40 ms: queued
///                                            takes it out; the lock is taken: tries again
///                  40 ms are over: is told
/// lets go
/// ```
#[tokio::test]
async fn a_deadline_holds_while_the_lane_waits_for_the_lock() {
    let (db, _folder) = writer().await;
    let limit = Duration::from_millis(40);
    for kind in 0..KINDS {
        let (before, guard, began) = (db.status(), lock(&db).await, Instant::now());
        // The lock is not freed before it is told: were the deadline ignored, it would be refused after 10 s as busy.
        is_late(tokio::spawn(write(db.within(limit), kind)), began, limit).await;
        let after = db.status();
        assert_eq!((after.queued, after.commits), (0, before.commits));
        unlock(guard).await;
    }
    let ack = insert(db.clone(), 7).await.unwrap();
    assert_eq!((ack.value, column(&db, "t").await), (1, vec![7]), "nothing that was refused is written later");
}

#[tokio::test]
async fn deadlines_hold_in_a_queue_whose_lane_waits_for_the_lock() {
    let (db, _folder) = writer().await;
    let limit = Duration::from_millis(40);
    let (guard, lone) = locked(&db).await;
    let patient = queue_row(&db, 1).await;
    let began = Instant::now();
    let impatient: Vec<_> = (0..KINDS).map(|kind| tokio::spawn(write(db.within(limit), kind))).collect();
    for write in impatient {
        is_late(write, began, limit).await;
    }
    assert_eq!(db.status().queued, 2, "they have left the queue");
    assert!(!lone.is_finished() && !patient.is_finished());
    unlock(guard).await;
    assert_eq!(commit_of(lone).await, commit_of(patient).await);
    assert_eq!(column(&db, "t").await, [0, 1]);
}

async fn is_late(write: JoinHandle<Result<Ack<u64>>>, began: Instant, limit: Duration) {
    let error = write.await.unwrap().unwrap_err();
    println!("told {:?} after {limit:?} were over", began.elapsed().saturating_sub(limit));
    assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
    let cause = error.cause();
    assert!(
        matches!(cause, Error::Deadline { stage: WriteStage::Waiting, limit: told } if *told == limit),
        "{cause:?}"
    );
    assert!(began.elapsed() >= limit);
}

/// The engine refuses to switch the mode of its journal while somebody reads, by the word that it has for a lock: the lane would
/// try for it as long as it tries for a lock. It never gets so far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_of_the_journal_mode_is_refused_before_it_keeps_the_lane() {
    let (db, _folder) = writer_of(patient()).await;
    insert(db.clone(), 1).await.unwrap();
    let writing = db.clone();
    let refused = db.read(async move |snapshot| {
        let mut rows = snapshot.query("SELECT x FROM t", ()).await?;
        rows.next().await?;
        Ok::<_, Error>(writing.execute("PRAGMA journal_mode = 'mvcc'", ()).await)
    });
    let error = refused.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
    assert_eq!(db.status().retries, 0, "{error}");
    insert(db.clone(), 2).await.unwrap();
    assert_eq!(column(&db, "t").await, [1, 2]);
}

#[tokio::test]
async fn no_limit_is_too_long_for_the_clock() {
    let (retry_timeout, write_timeout) = (Duration::MAX, Duration::MAX);
    let config = WriterConfig { retry_timeout, write_timeout, batch_time: Duration::MAX, ..WriterConfig::default() };
    let (db, _folder) = writer_of(WriterConfig { checkpoint_idle: Duration::MAX, ..config }).await;
    let db = db.within(Duration::MAX);
    for kind in 0..KINDS {
        let retries = db.status().retries;
        let guard = lock(&db).await;
        let waiting = tokio::spawn(write(db.clone(), kind));
        until(|| db.status().retries > retries).await;
        unlock(guard).await;
        waiting.await.unwrap().unwrap();
    }
}

/// ```text
/// lane                            outside
/// undoes a batch of four
///                                 takes the lock
/// tries for the first one, in vain, until its time is over
/// tries once for each other
/// ```
#[tokio::test]
async fn those_of_a_batch_that_runs_again_try_for_the_lock_no_longer_than_one() {
    let timeout = Duration::from_millis(400);
    let (db, _folder) = writer_of(WriterConfig { retry_timeout: timeout, ..patient() }).await;
    db.execute_batch("CREATE TABLE u (x INTEGER PRIMARY KEY); INSERT INTO u VALUES (1)").await.unwrap();
    let guard = db.pool().get().await.unwrap();
    let held = hold(&db).await;
    let rows = [queue_row(&db, 1).await, queue_row(&db, 2).await, queue_row(&db, 3).await];
    let (locks, mut guard) = (std::sync::Arc::new(std::sync::Mutex::new(None)), Some(guard));
    let keeps = std::sync::Arc::clone(&locks);
    let breaks = queue(&db, |db| async move {
        let work = async move |tx: &mut poolproof::Transaction<'_>| {
            let failed = tx.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await.map(drop);
            // The first time: the lock is free now that all is undone.
            if let Some(mut guard) = guard.take() {
                guard.execute("BEGIN IMMEDIATE", ()).await?;
                *keeps.lock().unwrap() = Some(guard);
            }
            failed
        };
        db.write(work).await
    })
    .await;
    let began = Instant::now();
    held.let_go().await;
    for row in rows {
        let error = row.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::RolledBack { .. }) && error.is_contention(), "{error:?}");
    }
    assert!(breaks.await.unwrap().is_err());
    let took = began.elapsed();
    assert!(took >= timeout && took < 3 * timeout, "{took:?}");
    drop(locks.lock().unwrap().take());
    insert(db.clone(), 4).await.unwrap();
    assert_eq!(column(&db, "t").await, [4]);
}
