//! Group commit: writes that wait at the same time share a commit, and whoever fails among them is undone alone.

use std::pin::Pin;
use std::time::{Duration, Instant};

use poolproof::{Ack, Error, PooledDatabaseWriter, Result, WriterConfig};
use tokio::sync::watch;

use crate::world::{
    column, commit_of, hold, insert, locked, patient, queue, queue_row, rows, unlock, until, writer, writer_of,
};

#[tokio::test]
async fn writes_that_wait_at_the_same_time_share_a_commit() {
    let (db, _folder) = writer().await;
    let prepared = db.prepare::<(i64,)>("INSERT INTO t VALUES (?1)").await.unwrap();
    let (before, held) = (db.status(), hold(&db).await);
    let mut values = Vec::new();
    let mut units = Vec::new();
    for x in 0..12 {
        match x % 4 {
            0 => values.push(queue_row(&db, x).await),
            1 => values.push(queue(&db, |db| async move { write_row(&db, x).await }).await),
            2 => {
                let prepared = prepared.clone();
                values.push(queue(&db, |_| async move { prepared.execute((x,)).await }).await);
            }
            _ => {
                let sql = format!("INSERT INTO t VALUES ({x}); UPDATE t SET x = x");
                units.push(queue(&db, |db| async move { db.execute_batch(sql).await }).await);
            }
        }
    }
    let own = held.let_go().await.token.number();
    for write in values {
        assert_eq!(commit_of(write).await, own + 1);
    }
    for write in units {
        assert_eq!(commit_of(write).await, own + 1);
    }
    let after = db.status();
    assert_eq!(after.commits - before.commits, 2, "the one that held the lane, and the twelve");
    assert_eq!((after.committed - before.committed, after.largest_batch), (13, 12));
    assert_eq!(column(&db, "t").await, (0..12).collect::<Vec<_>>());
}

async fn write_row(db: &PooledDatabaseWriter, x: i64) -> Result<Ack<u64>> {
    db.write(async move |tx| tx.execute("INSERT INTO t VALUES (?1)", (x,)).await).await
}

#[tokio::test]
async fn position_is_the_place_of_a_write_in_its_commit() {
    let (db, _folder) = writer().await;
    db.execute("CREATE TABLE ordered (place INTEGER PRIMARY KEY AUTOINCREMENT, x INTEGER UNIQUE)", ()).await.unwrap();
    let held = hold(&db).await;
    let mut writes = Vec::new();
    // The third one fails, alone.
    for x in [10, 11, 10, 12] {
        let write = async move |db: PooledDatabaseWriter| db.execute("INSERT INTO ordered (x) VALUES (?1)", (x,)).await;
        writes.push(queue(&db, write).await);
    }
    assert_eq!(held.let_go().await.position, 0);
    let mut told = Vec::new();
    for write in writes {
        told.push(write.await.unwrap().ok().map(|ack| (ack.token.number(), ack.position)));
    }
    assert!(told[2].is_none(), "{told:?}");
    let told: Vec<_> = told.into_iter().flatten().collect();
    assert_eq!((told[0].1, told[1]), (0, (told[0].0, 1)), "two of one commit");
    assert!(told.is_sorted() && told.len() == 3, "{told:?}");
    assert_eq!(column(&db, "ordered").await, [10, 11, 12], "as their places say");
    assert_eq!(insert(db.clone(), 1).await.unwrap().position, 0, "in a commit of its own");
}

#[tokio::test]
async fn a_lone_write_is_a_commit_of_its_own() {
    let (db, _folder) = writer().await;
    for x in 0..6 {
        let before = db.status().commits;
        let ack = if x % 2 == 0 { insert(db.clone(), x).await } else { write_row(&db, x).await };
        assert_eq!(ack.unwrap().token.number(), before + 1);
        assert_eq!(db.status().commits, before + 1);
    }
    assert_eq!(db.status().largest_batch, 1);
}

type Fails = fn(PooledDatabaseWriter) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Writes that fail, each after it has done something. `u` is unique and has 1, 2 and 3.
const FAILS: &[(&str, Fails)] = &[
    ("a statement against a constraint", |db| {
        Box::pin(async move { is_of_a_constraint(db.execute("INSERT INTO u VALUES (1)", ()).await) })
    }),
    ("a statement whose second row is against a constraint", |db| {
        Box::pin(async move { is_of_a_constraint(db.execute("INSERT INTO u VALUES (7), (1), (8)", ()).await) })
    }),
    ("an update whose last row is against a constraint", |db| {
        Box::pin(async move {
            is_of_a_constraint(db.execute("UPDATE u SET x = CASE x WHEN 3 THEN 4 ELSE x + 3 END", ()).await)
        })
    }),
    ("a statement that does not parse", |db| {
        Box::pin(async move { assert!(matches!(db.execute("INSERT INTO", ()).await, Err(Error::RolledBack { .. }))) })
    }),
    ("a statement that gives rows", |db| {
        Box::pin(async move {
            let error = db.execute("INSERT INTO u VALUES (7) RETURNING x", ()).await.unwrap_err();
            assert!(matches!(error.cause(), Error::Misuse(_)), "{error}");
        })
    }),
    ("a batch whose last statement fails", |db| {
        Box::pin(async move {
            is_of_a_constraint(
                db.execute_batch("INSERT INTO u VALUES (7); DELETE FROM t; INSERT INTO u VALUES (1)").await,
            );
        })
    }),
    ("a closure that returns an error", |db| {
        Box::pin(async move {
            let outcome: Result<Ack<()>> = db
                .write(async |tx| {
                    tx.execute("INSERT INTO u VALUES (7)", ()).await?;
                    tx.execute("DELETE FROM t", ()).await?;
                    Err(Error::Closed)
                })
                .await;
            assert!(matches!(outcome, Err(Error::Closed)), "its own error, as it is: {outcome:?}");
        })
    }),
    ("a closure whose statement fails", |db| {
        Box::pin(async move {
            let outcome: Result<Ack<u64>> = db
                .write(async |tx| {
                    tx.execute("DELETE FROM t", ()).await?;
                    tx.execute("INSERT INTO u VALUES (7), (1)", ()).await
                })
                .await;
            is_of_a_constraint(outcome);
        })
    }),
    ("a closure that panics", |db| {
        Box::pin(async move {
            let write = tokio::spawn(async move {
                db.write(async |tx| -> Result<()> {
                    tx.execute("INSERT INTO u VALUES (7)", ()).await?;
                    std::panic::resume_unwind(Box::new("its own panic"))
                })
                .await
            });
            let panic = write.await.unwrap_err().into_panic();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"its own panic"));
        })
    }),
    ("a closure with savepoints of its own", |db| {
        Box::pin(async move {
            let outcome: Result<Ack<()>> = db
                .write(async |tx| {
                    tx.execute("SAVEPOINT a", ()).await?;
                    tx.execute("INSERT INTO u VALUES (7)", ()).await?;
                    tx.execute("SAVEPOINT b", ()).await?;
                    tx.execute("INSERT INTO u VALUES (8)", ()).await?;
                    tx.execute("ROLLBACK TO a", ()).await?;
                    tx.execute("INSERT INTO u VALUES (9)", ()).await?;
                    tx.execute("RELEASE a", ()).await?;
                    tx.execute("SAVEPOINT left_open", ()).await?;
                    tx.execute("INSERT INTO u VALUES (10)", ()).await?;
                    Err(Error::Closed)
                })
                .await;
            assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
        })
    }),
    ("a closure that changes the schema", |db| {
        Box::pin(async move {
            let outcome: Result<Ack<()>> = db
                .write(async |tx| {
                    tx.execute("CREATE TABLE w (x)", ()).await?;
                    tx.execute("INSERT INTO w VALUES (1)", ()).await?;
                    tx.execute("ALTER TABLE u ADD COLUMN y", ()).await?;
                    Err(Error::Closed)
                })
                .await;
            assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
            let looks = db.read(async |snapshot| snapshot.query("SELECT * FROM w", ()).await.map(drop));
            assert!(looks.await.is_err());
        })
    }),
];

fn is_of_a_constraint<R: std::fmt::Debug>(outcome: Result<Ack<R>>) {
    let error = outcome.unwrap_err();
    assert!(error.constraint().is_some(), "{error}");
}

#[tokio::test]
async fn whoever_fails_in_the_middle_of_a_batch_is_undone_alone() {
    for (name, fails) in FAILS {
        let (db, _folder) = writer().await;
        db.execute_batch("CREATE TABLE u (x INTEGER UNIQUE); INSERT INTO u VALUES (1), (2), (3)").await.unwrap();
        // The first statement of its text that fails costs its neighbours another run: `broken`.
        fails(db.clone()).await;
        let (before, held) = (db.status(), hold(&db).await);
        let neighbour = queue_row(&db, 1).await;
        let fails = queue(&db, fails).await;
        let neighbours = [queue(&db, |db| async move { write_row(&db, 2).await }).await, queue_row(&db, 3).await];
        let own = held.let_go().await.token.number();
        fails.await.unwrap_or_else(|panic| panic!("{name}: {panic}"));
        assert_eq!(commit_of(neighbour).await, own + 1, "{name}");
        for neighbour in neighbours {
            assert_eq!(commit_of(neighbour).await, own + 1, "{name}");
        }
        assert_eq!((column(&db, "t").await, column(&db, "u").await), (vec![1, 2, 3], vec![1, 2, 3]), "{name}");
        let after = db.status();
        assert_eq!((after.commits - before.commits, after.broken_batches), (2, 0), "{name}");
        assert!(after.rolled_back > before.rolled_back, "{name}");
    }
}

/// While it waits the lock is held, not the lane: `write_timeout` is short here.
#[tokio::test]
async fn a_closure_that_runs_out_of_time_in_the_middle_of_a_batch_is_undone_alone() {
    let write_timeout = Duration::from_millis(50);
    let (db, _folder) = writer_of(WriterConfig { write_timeout, ..WriterConfig::default() }).await;
    let (guard, lone) = locked(&db).await;
    let first = queue_row(&db, 1).await;
    let never = queue(&db, |db| async move {
        db.write(async |tx| {
            tx.execute("INSERT INTO t VALUES (77)", ()).await?;
            std::future::pending::<Result<()>>().await
        })
        .await
    })
    .await;
    let last = queue_row(&db, 2).await;
    unlock(guard).await;
    // While the lane waits for the lock nobody is taken out: all of them are in one batch.
    let own = commit_of(lone).await;
    let error = never.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
    assert!(
        matches!(error.cause(), Error::Deadline { stage: poolproof::WriteStage::Running, limit } if *limit == write_timeout)
    );
    assert_eq!((commit_of(first).await, db.status().broken_batches), (own, 0));
    // It used up the time of its batch.
    assert_eq!(commit_of(last).await, own + 1);
    assert_eq!(column(&db, "t").await, [0, 1, 2]);
}

#[tokio::test]
async fn a_closure_that_goes_on_after_a_failed_statement_keeps_the_rest() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE u (x INTEGER UNIQUE); INSERT INTO u VALUES (1)").await.unwrap();
    let held = hold(&db).await;
    let first = queue_row(&db, 1).await;
    let goes_on = queue(&db, |db| async move {
        db.write(async |tx| {
            tx.execute("INSERT INTO u VALUES (2)", ()).await?;
            assert!(tx.execute("INSERT INTO u VALUES (3), (1)", ()).await.is_err());
            tx.execute("SAVEPOINT left_open", ()).await?;
            tx.execute("INSERT INTO u VALUES (4)", ()).await
        })
        .await
    })
    .await;
    held.let_go().await;
    assert_eq!(commit_of(first).await, commit_of(goes_on).await);
    assert_eq!((column(&db, "t").await, column(&db, "u").await), (vec![1], vec![1, 2, 4]));
}

#[tokio::test]
async fn a_write_sees_what_its_neighbours_wrote_before_it_in_the_same_batch() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let mut looks = Vec::new();
    let mut writes = Vec::new();
    for x in 0..5 {
        writes.push(queue_row(&db, x).await);
        let look = queue(&db, |db| async move {
            db.write(async |tx| {
                let mut rows = tx.query("SELECT COUNT(*), MAX(x) FROM t", ()).await?;
                let row = rows.next().await?.expect("COUNT gives a row");
                Ok::<(i64, i64), Error>((row.get(0)?, row.get(1)?))
            })
            .await
        });
        looks.push(look.await);
    }
    let own = held.let_go().await.token.number();
    for (x, look) in (0..).zip(looks) {
        let Ack { value, token, .. } = look.await.unwrap().unwrap();
        assert_eq!((value, token.number()), ((x + 1, x), own + 1));
    }
}

/// ```text
/// A: fails    B: succeeds    C            lane
/// queued      queued         queued
///                                         runs A, B
///                            is running
/// still waits, still waits
///                            ends         commits
/// is told     is told
/// ```
#[tokio::test]
async fn nobody_is_told_before_the_commit() {
    let (db, _folder) = writer().await;
    db.execute_batch("CREATE TABLE u (x INTEGER UNIQUE); INSERT INTO u VALUES (1)").await.unwrap();
    // From now on it is known to fail, and runs in a savepoint.
    db.execute("INSERT INTO u VALUES (1)", ()).await.unwrap_err();
    let held = hold(&db).await;
    let fails = queue(&db, |db| async move { db.execute("INSERT INTO u VALUES (1)", ()).await }).await;
    let succeeds = queue_row(&db, 1).await;
    let (started, mut begun) = watch::channel(false);
    let (release, blocked) = watch::channel(false);
    let last = queue(&db, |db| async move {
        db.write(async move |_| {
            started.send_replace(true);
            let _ = blocked.clone().wait_for(|released| *released).await;
            Ok::<_, Error>(())
        })
        .await
    })
    .await;
    held.let_go().await;
    begun.wait_for(|begun| *begun).await.unwrap();
    // Had they been told, they would have been woken before this test was, and run by now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!fails.is_finished() && !succeeds.is_finished(), "told before the commit");
    assert_eq!(rows(&db).await, 0, "nor does anybody see it");
    release.send_replace(true);
    assert_eq!(commit_of(succeeds).await, commit_of(last).await);
    assert!(fails.await.unwrap().unwrap_err().constraint().is_some());
}

#[tokio::test]
async fn a_statement_that_has_to_be_alone_keeps_its_place_in_the_queue() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let mut writes = vec![queue_row(&db, 1).await, queue_row(&db, 2).await];
    for sql in [
        "CREATE TABLE v (x)",
        "INSERT INTO v SELECT x FROM t",
        "PRAGMA user_version = 7",
        "ALTER TABLE t RENAME TO v2",
        "INSERT INTO v2 SELECT 10 + COUNT(*) FROM v",
        "ALTER TABLE v2 RENAME TO t",
    ] {
        writes.push(queue(&db, |db| async move { db.execute(sql, ()).await }).await);
    }
    writes.push(queue_row(&db, 3).await);
    held.let_go().await;
    let mut commits = Vec::new();
    for write in writes {
        commits.push(commit_of(write).await);
    }
    assert_eq!(commits[0], commits[1]);
    assert!(commits[1..].is_sorted_by(|earlier, later| earlier < later), "{commits:?}");
    assert_eq!((column(&db, "t").await, column(&db, "v").await), (vec![1, 2, 12, 3], vec![1, 2]));
    assert_eq!(db.status().broken_batches, 0);
}

#[tokio::test]
async fn no_more_than_batch_jobs_share_a_commit() {
    let (db, _folder) = writer_of(WriterConfig { batch_jobs: 3, ..patient() }).await;
    let held = hold(&db).await;
    let mut writes = Vec::new();
    for x in 0..10 {
        writes.push(queue_row(&db, x).await);
    }
    let own = held.let_go().await.token.number();
    for (place, write) in (0..).zip(writes) {
        assert_eq!(commit_of(write).await, own + 1 + place / 3, "{place}");
    }
    assert_eq!(db.status().largest_batch, 3);
}

#[tokio::test]
async fn nobody_joins_a_commit_whose_batch_time_is_over() {
    let batch_time = Duration::from_millis(20);
    let (db, _folder) = writer_of(WriterConfig { batch_time, ..patient() }).await;
    let held = hold(&db).await;
    let before = queue_row(&db, 0).await;
    let long = queue(&db, |db| async move {
        db.write(async move |_| {
            let began = Instant::now();
            while began.elapsed() < batch_time {
                std::hint::spin_loop();
            }
            Ok::<_, Error>(())
        })
        .await
    })
    .await;
    let after = [queue_row(&db, 1).await, queue_row(&db, 2).await];
    let own = held.let_go().await.token.number();
    assert!(commit_of(before).await <= own + 2, "with the long one, or before it");
    let long = commit_of(long).await;
    for write in after {
        assert!(commit_of(write).await > long);
    }
}

/// Those who were answered are back before the lane looks again, and so they share the next commit, too; a lone one that is
/// left over waits for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_come_again_and_again_share_commits_and_none_waits_for_another() {
    let (db, _folder) = writer().await;
    let before = db.status();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                for x in 0..50 {
                    insert(db.clone(), task * 50 + x).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let after = db.status();
    let (writes, commits) = (after.committed - before.committed, after.commits - before.commits);
    println!("{writes} writes in {commits} commits, {} at most", after.largest_batch);
    assert_eq!(writes, 800);
    assert!(commits < writes / 2, "{commits}");
    until(|| db.status().queued == 0).await;
}

/// What a closure left open ends with it: its name means nothing to the next one.
#[tokio::test]
async fn a_savepoint_of_one_write_is_out_of_reach_for_the_next() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let leaves_it_open = queue(&db, |db| async move {
        db.write(async |tx| {
            tx.execute("SAVEPOINT mine", ()).await?;
            tx.execute("INSERT INTO t VALUES (1)", ()).await
        })
        .await
    })
    .await;
    let reaches = queue(&db, |db| async move {
        db.write(async |tx| Ok::<_, Error>(tx.execute("ROLLBACK TO mine", ()).await.is_ok())).await
    })
    .await;
    held.let_go().await;
    leaves_it_open.await.unwrap().unwrap();
    assert!(!reaches.await.unwrap().unwrap().value, "there is no such savepoint");
    assert_eq!(column(&db, "t").await, [1]);
}
