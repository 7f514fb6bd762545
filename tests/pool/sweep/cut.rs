//! Statements that are cut short while what they belong to goes on: a transaction, rows, a snapshot.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use poolproof::{Behavior, ConnectionPool, Error, PooledConnection, PooledDatabaseWriter};
use tempfile::TempDir;

use super::engine::MAX;
use super::engine_table::{MANY, ONE, patient};
use super::file::database;

/// While another connection writes, a statement that waits for the lock is polled so often, and then dropped.
const CUTS: [usize; 4] = [0, 1, 2, 5];

/// Polls so often, and then drops. The output, if it came.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
    }
    None
}

/// A pool whose statements wait for the lock, one user of it, and one that has the lock.
async fn while_another_writes() -> (ConnectionPool, TempDir, PooledConnection, PooledConnection) {
    let (folder, path) = database();
    let pool = patient(ConnectionPool::builder(path).max_connections(MAX)).build().await.unwrap();
    let (user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
    other.execute("INSERT INTO others VALUES (1)", ()).await.unwrap();
    (pool, folder, user, other)
}

async fn rows_of_t(connection: &mut PooledConnection) -> i64 {
    let mut rows = connection.query("SELECT COUNT(*) FROM t", ()).await.unwrap();
    rows.next().await.unwrap().expect("a count").get(0).unwrap()
}

#[tokio::test]
async fn a_transaction_with_a_statement_that_was_cut_cannot_be_committed() {
    for polls in CUTS {
        let (pool, _folder, mut user, mut other) = while_another_writes().await;
        let mut transaction = user.begin(Behavior::Deferred).await.unwrap();
        assert!(cut(transaction.execute(MANY, ()), polls).await.is_none(), "{polls} polls: it waits for the lock");
        other.execute("COMMIT", ()).await.unwrap();
        let committed = match transaction.execute(ONE, ()).await {
            Ok(_) => transaction.commit().await,
            Err(error) => {
                drop(transaction);
                Err(error)
            }
        };
        // One that was never polled has not begun.
        let expected = i64::from(polls == 0);
        assert_eq!(committed.is_ok(), polls == 0, "{polls} polls: {committed:?}");
        assert_eq!(rows_of_t(&mut other).await, expected, "{polls} polls");
        drop(user);
        assert_eq!(pool.status().open, if polls == 0 { 2 } else { 1 }, "{polls} polls: it is discarded");
        other.execute(ONE, ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_that_gives_rows_and_was_cut_is_not_there_and_its_connection_is_discarded() {
    for polls in CUTS {
        let (pool, _folder, mut user, mut other) = while_another_writes().await;
        let sql = "INSERT INTO t VALUES (1, 'x'), (2, 'y') RETURNING x";
        assert!(cut(user.query(sql, ()), polls).await.is_none(), "{polls} polls: it waits for the lock");
        other.execute("COMMIT", ()).await.unwrap();
        drop(user);
        assert_eq!(pool.status().open, if polls == 0 { 2 } else { 1 }, "{polls} polls");
        assert_eq!(rows_of_t(&mut other).await, 0, "{polls} polls");
    }
}

/// `Snapshot` has no other operation than `query`; it never waits for a lock, so it is dropped before its only poll, and its
/// rows after none, after some and after all of theirs.
#[tokio::test]
async fn a_snapshot_goes_on_and_its_connection_is_as_new_whatever_is_dropped_in_it() {
    let (_folder, path) = database();
    let pool = ConnectionPool::builder(path).max_connections(3).build().await.unwrap();
    let writer = PooledDatabaseWriter::new(pool.clone()).await.unwrap();
    let slots = pool.status().in_use;
    for taken in [None, Some(0), Some(1), Some(300), Some(301)] {
        let other = writer.clone();
        let read = writer.read(async move |snapshot| {
            let before = count(snapshot.query("SELECT COUNT(*) FROM t", ()).await?).await?;
            match taken {
                None => drop(snapshot.query("SELECT x FROM seed", ())),
                Some(rows_taken) => {
                    let mut rows = snapshot.query("SELECT x FROM seed", ()).await?;
                    for _ in 0..rows_taken {
                        // Now and then it gives way before it asks the engine, and can be dropped there.
                        while cut(rows.next(), 1).await.is_none() {}
                    }
                    drop(rows.next());
                }
            }
            other.execute(ONE, ()).await?;
            let after = count(snapshot.query("SELECT COUNT(*) FROM t", ()).await?).await?;
            assert_eq!(before, after, "one moment");
            Ok::<_, Error>(())
        });
        read.await.unwrap();
        assert_eq!(pool.status().in_use, slots, "{taken:?}");
        let mut next = pool.get().await.unwrap();
        assert!(next.is_autocommit(), "{taken:?}");
        next.execute("INSERT INTO later VALUES (1)", ()).await.unwrap();
    }
}

async fn count(mut rows: poolproof::Rows<'_>) -> Result<i64, Error> {
    rows.next().await?.expect("a count").get(0)
}
