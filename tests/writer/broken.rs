//! Jobs that break the transaction of a whole batch: it is undone, and they run again, in their order, fewer at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use poolproof::{Ack, ConstraintKind, Error, PooledDatabaseWriter, Result, Transaction, WriterConfig};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::world::{column, commit_of, hold, patient, queue, queue_row, rows, unlock, writer, writer_of};

type Breaks = fn(PooledDatabaseWriter) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// What breaks the transaction, and what `u`, which is unique and has 1, has afterwards. `c` refers to a row of `u`.
const BREAKS: &[(&str, &[i64], Breaks)] = &[
    ("a conflict that rolls back", &[1], |db| {
        Box::pin(async move {
            let error = db.execute("INSERT OR ROLLBACK INTO u VALUES (7), (1)", ()).await.unwrap_err();
            assert!(error.constraint().is_some_and(|constraint| constraint.kind == ConstraintKind::Unique), "{error}");
        })
    }),
    ("a conflict that rolls back in a closure, which fails", &[1], |db| {
        Box::pin(async move {
            let outcome: Result<Ack<u64>> = db
                .write(async |tx| {
                    tx.execute("INSERT INTO u VALUES (7)", ()).await?;
                    tx.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await
                })
                .await;
            assert!(outcome.unwrap_err().constraint().is_some());
        })
    }),
    ("a conflict that rolls back in a closure, which goes on", &[1], |db| {
        Box::pin(async move {
            let outcome: Result<Ack<()>> = db
                .write(async |tx| {
                    tx.execute("INSERT INTO u VALUES (7)", ()).await?;
                    let _ = tx.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await;
                    Ok(())
                })
                .await;
            assert!(matches!(outcome.as_ref().unwrap_err(), Error::RolledBack { .. }), "{outcome:?}");
        })
    }),
    ("a pragma in a closure", &[1, 7], |db| {
        Box::pin(async move {
            let outcome: Result<Ack<u64>> = db
                .write(async |tx| {
                    tx.execute("PRAGMA synchronous = OFF", ()).await?;
                    tx.execute("INSERT INTO u VALUES (7)", ()).await
                })
                .await;
            outcome.unwrap();
        })
    }),
    ("a query whose rows are leaked before the first", &[1], |db| Box::pin(leaks(db, "SELECT x FROM u", 0))),
    ("a query whose rows are leaked half-way", &[1], |db| Box::pin(leaks(db, "SELECT x FROM u", 1))),
    ("a write whose rows are leaked half-way", &[1], |db| {
        Box::pin(leaks(db, "INSERT INTO u VALUES (8), (9) RETURNING x", 1))
    }),
];

async fn leaks(db: PooledDatabaseWriter, sql: &'static str, taken: usize) {
    let outcome: Result<Ack<()>> = db
        .write(async move |tx| {
            tx.execute("INSERT INTO u VALUES (7)", ()).await?;
            let mut rows = tx.query(sql, ()).await?;
            for _ in 0..taken {
                rows.next().await?;
            }
            std::mem::forget(rows);
            Ok(())
        })
        .await;
    assert!(matches!(outcome.as_ref().unwrap_err(), Error::RolledBack { .. }), "{outcome:?}");
}

const TABLES: &str = "CREATE TABLE u (x INTEGER PRIMARY KEY);
                      CREATE TABLE c (x INTEGER REFERENCES u (x));
                      INSERT INTO u VALUES (1)";

/// Queues a closure that writes `x` and counts its runs.
async fn queue_counted(db: &PooledDatabaseWriter, x: i64) -> (Arc<AtomicUsize>, JoinHandle<Result<Ack<usize>>>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&runs);
    let write = queue(db, |db| async move {
        db.write(async move |tx| {
            tx.execute("INSERT INTO t VALUES (?1)", (x,)).await?;
            Ok::<_, Error>(counts.fetch_add(1, Ordering::SeqCst) + 1)
        })
        .await
    });
    (runs, write.await)
}

#[tokio::test]
async fn a_job_that_breaks_the_transaction_harms_only_itself() {
    for (name, leaves, breaks) in BREAKS {
        let (db, _folder) = writer().await;
        db.execute_batch(TABLES).await.unwrap();
        let (before, held) = (db.status(), hold(&db).await);
        let (runs, early) = queue_counted(&db, 1).await;
        let first = queue_row(&db, 2).await;
        let breaks = queue(&db, breaks).await;
        let last = queue_row(&db, 3).await;
        let (_, late) = queue_counted(&db, 4).await;
        held.let_go().await;
        breaks.await.unwrap_or_else(|panic| panic!("{name}: {panic}"));
        let early = early.await.unwrap().unwrap();
        assert_eq!((early.value, runs.load(Ordering::SeqCst)), (2, 2), "{name}: its second run is the one that counts");
        let commits = [early.token.number(), commit_of(first).await, commit_of(last).await];
        assert!(commits.is_sorted(), "{name}: {commits:?}");
        assert!(late.await.unwrap().unwrap().token.number() >= commits[2], "{name}");
        assert_eq!(column(&db, "t").await, [1, 2, 3, 4], "{name}: each of them once");
        assert_eq!((column(&db, "u").await, column(&db, "c").await), (leaves.to_vec(), vec![]), "{name}");
        let after = db.status();
        let broken = after.broken_batches - before.broken_batches;
        assert!((1..=3).contains(&broken), "{name}: {broken}, and five can be halved twice");
        assert_eq!((after.committed + after.rolled_back) - (before.committed + before.rolled_back), 6, "{name}");
        assert_eq!(after.retries, before.retries, "{name}: the lock is free, and nobody waited for it");
    }
}

#[tokio::test]
async fn a_job_that_breaks_its_own_transaction_leaves_the_lock_free_for_whoever_is_told() {
    for (name, leaves, breaks) in BREAKS {
        let (db, _folder) = writer().await;
        db.execute_batch(TABLES).await.unwrap();
        tokio::spawn(breaks(db.clone())).await.unwrap_or_else(|panic| panic!("{name}: {panic}"));
        // Not through the lane: were its transaction still open, this would be refused.
        let mut guard = db.pool().get().await.unwrap();
        guard.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        drop(guard);
        assert_eq!((rows(&db).await, column(&db, "u").await), (1, leaves.to_vec()), "{name}");
    }
}

/// Those before it run again together, then it alone, then the rest.
#[tokio::test]
async fn a_batch_that_breaks_costs_a_few_commits_and_not_one_for_each() {
    const ALL: i64 = 256;
    for place in [0, 100, ALL - 1] {
        let (db, _folder) = writer().await;
        db.execute_batch(TABLES).await.unwrap();
        let held = hold(&db).await;
        let before = db.status();
        let mut writes = Vec::new();
        for x in 0..ALL {
            let write = match x == place {
                true => {
                    queue(&db, |db| async move { db.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await }).await
                }
                false => queue_row(&db, x).await,
            };
            writes.push(write);
        }
        held.let_go().await;
        for (x, write) in (0..).zip(writes) {
            assert_eq!(write.await.unwrap().is_err(), x == place, "{x}");
        }
        let after = db.status();
        let (commits, broken) = (after.commits - before.commits, after.broken_batches - before.broken_batches);
        println!("breaks at {place}: {commits} commits, {broken} times broken");
        assert!((1..=18).contains(&commits), "{commits}: twice the logarithm, and those that hold the lane");
        assert!((1..=9).contains(&broken), "{broken}");
        assert_eq!(column(&db, "t").await, (0..ALL).filter(|x| *x != place).collect::<Vec<_>>(), "in their order");
    }
}

/// ```text
/// lane                               guard
/// A writes a key, B the same: refused
/// C breaks the batch: all undone
/// A again: holds its own end up
///                                    takes the lock between two of them
/// tries for the lock, in vain: A, B and C are told
/// ```
#[tokio::test]
async fn who_could_not_run_again_is_not_told_what_the_undone_run_came_to() {
    let retry_timeout = Duration::from_millis(50);
    let (db, _folder) = writer_of(WriterConfig { retry_timeout, ..patient() }).await;
    db.execute_batch(TABLES).await.unwrap();
    // From now on it is known to fail, and does so beside others.
    db.execute("INSERT INTO u VALUES (7)", ()).await.unwrap();
    db.execute("INSERT INTO u VALUES (7)", ()).await.unwrap_err();
    db.execute("DELETE FROM u WHERE x = 7", ()).await.unwrap();
    let held = hold(&db).await;
    let guard = db.pool().get().await.unwrap();
    // It runs where the lane does, so whoever wants the lock after the break finds it taken.
    let takes = Arc::new(Mutex::new(Some(guard)));
    let taken = Arc::clone(&takes);
    let first = queue(&db, |db| async move {
        let mut runs = 0;
        db.write(async move |tx| {
            runs += 1;
            tx.execute("INSERT INTO u VALUES (7)", ()).await?;
            Ok::<_, Error>(runs)
        })
        .await
    })
    .await;
    let same = queue(&db, |db| async move { db.execute("INSERT INTO u VALUES (7)", ()).await }).await;
    let breaks = queue(&db, |db| async move {
        let work = async move |tx: &mut Transaction<'_>| {
            // Ends the transaction, and takes the lock before anybody else can.
            let outcome = tx.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await;
            let mut guard = taken.lock().await;
            if let Some(guard) = guard.as_mut() {
                guard.execute("BEGIN IMMEDIATE", ()).await?;
            }
            outcome
        };
        db.write(work).await
    })
    .await;
    held.let_go().await;
    for outcome in [first.await.unwrap().map(drop), same.await.unwrap().map(drop), breaks.await.unwrap().map(drop)] {
        let error = outcome.unwrap_err();
        assert!(matches!(error.cause(), Error::Locked { .. }), "{error:?}");
    }
    unlock(takes.lock().await.take().unwrap()).await;
    assert_eq!(column(&db, "u").await, [1]);
}

#[tokio::test]
async fn what_a_run_that_was_undone_came_to_counts_for_nothing() {
    let (db, _folder) = writer().await;
    db.execute_batch(TABLES).await.unwrap();
    for succeeds_first in [false, true] {
        let held = hold(&db).await;
        let before = db.status();
        let mut is_first = true;
        let changes_its_mind = queue(&db, |db| async move {
            db.write(async move |tx| {
                tx.execute("INSERT INTO t VALUES (5)", ()).await?;
                match std::mem::replace(&mut is_first, false) == succeeds_first {
                    true => Ok(()),
                    false => Err(Error::Closed),
                }
            })
            .await
        })
        .await;
        let breaks = queue(&db, |db| async move { db.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await }).await;
        held.let_go().await;
        assert!(breaks.await.unwrap().is_err());
        let outcome = changes_its_mind.await.unwrap();
        assert_eq!(outcome.is_ok(), !succeeds_first, "{outcome:?}");
        assert_eq!(rows(&db).await, 1, "written by the first of the two loops, and not again by the second");
        let after = db.status();
        // With those that held the lane.
        let expected = if succeeds_first { (1, 2) } else { (2, 1) };
        assert_eq!((after.committed - before.committed, after.rolled_back - before.rolled_back), expected);
    }
}

/// An undone closure takes the violations that it caused with it.
#[tokio::test]
async fn a_deferred_foreign_key_of_a_closure_that_failed_breaks_nothing() {
    let (db, _folder) = writer().await;
    db.execute("CREATE TABLE u (x INTEGER PRIMARY KEY)", ()).await.unwrap();
    db.execute("CREATE TABLE c (x REFERENCES u (x) DEFERRABLE INITIALLY DEFERRED)", ()).await.unwrap();
    let held = hold(&db).await;
    let first = queue_row(&db, 1).await;
    let fails = queue(&db, |db| async move {
        let outcome: Result<Ack<()>> = db
            .write(async |tx| {
                tx.execute("INSERT INTO c VALUES (99)", ()).await?;
                Err(Error::Closed)
            })
            .await;
        outcome
    })
    .await;
    let last = queue_row(&db, 2).await;
    held.let_go().await;
    assert!(matches!(fails.await.unwrap(), Err(Error::Closed)));
    let (first, last) = (commit_of(first).await, commit_of(last).await);
    println!("the neighbours' commits: {first}, {last}; broken batches: {}", db.status().broken_batches);
    assert_eq!((column(&db, "t").await, column(&db, "c").await), (vec![1, 2], vec![]));
}

/// Nobody comes after it who would find the connection changed; the commit would be made as the pragma says.
#[tokio::test]
async fn a_pragma_in_the_last_write_of_a_batch_breaks_it_too() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let first = queue_row(&db, 1).await;
    let last = queue(&db, |db| async move {
        db.write(async |tx| {
            tx.execute("PRAGMA synchronous = OFF", ()).await?;
            tx.execute("INSERT INTO t VALUES (2)", ()).await
        })
        .await
    })
    .await;
    held.let_go().await;
    assert!(commit_of(first).await < commit_of(last).await);
    assert_eq!((db.status().broken_batches, column(&db, "t").await), (1, vec![1, 2]));
}

#[tokio::test]
async fn a_batch_of_one_whose_commit_is_refused_leaves_the_lock_free_for_whoever_is_told() {
    let (db, _folder) = writer().await;
    db.execute("CREATE TABLE u (x INTEGER PRIMARY KEY)", ()).await.unwrap();
    db.execute("CREATE TABLE c (x REFERENCES u (x) DEFERRABLE INITIALLY DEFERRED)", ()).await.unwrap();
    for _ in 0..20 {
        // After a batch of several the next one is a batch, too.
        let held = hold(&db).await;
        let several = [queue_row(&db, 1).await, queue_row(&db, 2).await];
        held.let_go().await;
        for write in several {
            commit_of(write).await;
        }
        let refused = db.execute("INSERT INTO c VALUES (99)", ()).await;
        assert!(matches!(refused, Err(Error::RolledBack { .. })), "{refused:?}");
        db.pool().get().await.unwrap().execute("DELETE FROM t", ()).await.unwrap();
        // A lone one, so that the next that holds the lane is one, too.
        db.execute("UPDATE u SET x = x", ()).await.unwrap();
    }
    assert_eq!((column(&db, "c").await, db.status().broken_batches, db.status().retries), (vec![], 0, 0));
}

/// A query that fails ends the transaction, and the engine goes on counting what that had violated: the next write is another's.
#[tokio::test]
async fn a_query_that_ends_a_transaction_leaves_no_violation_to_the_next() {
    let (db, _folder) = writer().await;
    db.execute_batch(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED); INSERT INTO child VALUES (NULL)",
    )
    .await
    .unwrap();
    let failing = "SELECT abs(-9223372036854775807 - 1) FROM child";
    for _ in 0..2 {
        let failed = db.write(async |tx| {
            tx.execute("INSERT INTO child VALUES (77)", ()).await?;
            let mut rows = tx.query(failing, ()).await?;
            rows.next().await.map(drop)
        });
        failed.await.unwrap_err();
        assert_eq!(db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap().value, 1);
    }
    // On a guard, by hand.
    let mut guard = db.pool().get().await.unwrap();
    guard.run("BEGIN").await.unwrap();
    guard.execute("INSERT INTO child VALUES (77)", ()).await.unwrap();
    guard.run(failing).await.unwrap_err();
    if guard.is_autocommit() {
        guard.run("ROLLBACK").await.unwrap();
        assert_eq!(guard.execute("INSERT INTO t VALUES (2)", ()).await.unwrap(), 1);
    }
    assert_eq!(rows(&db).await, 2 + i64::from(guard.is_autocommit()));
}
