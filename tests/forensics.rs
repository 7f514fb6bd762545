//! Who holds my connection, and why did I get none: what an acquire that runs out of time says.

use std::time::Duration;

use poolproof::{AcquireTimeout, Behavior, ConnectionPool, Error, PooledConnection, Verdict};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(5);

async fn pool(max: usize) -> (ConnectionPool, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let builder = ConnectionPool::builder(folder.path().join("t.db"));
    (builder.max_connections(max).acquire_timeout(LIMIT).build().await.unwrap(), folder)
}

/// Asks in a task of its own, so that it is not the holder that asks.
async fn out_of_time(pool: &ConnectionPool) -> AcquireTimeout {
    let pool = pool.clone();
    let asking = tokio::spawn(async move { timed_out(pool.get().await) });
    asking.await.unwrap()
}

fn timed_out(outcome: Result<PooledConnection, Error>) -> AcquireTimeout {
    match outcome {
        Err(Error::AcquireTimeout(timeout)) => *timeout,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_out_names_the_line_that_holds_the_connection() {
    let (pool, _folder) = pool(1).await;
    let (_held, line) = (pool.get().await.unwrap(), line!());
    let timeout = out_of_time(&pool).await;
    assert_eq!((timeout.verdict, timeout.holders.len()), (Verdict::Leak, 1), "{timeout}");
    assert_eq!((timeout.holders[0].site.file(), timeout.holders[0].site.line()), (file!(), line));
    assert!(timeout.holders[0].held_up.unwrap() >= LIMIT, "it has held others up all the time: {timeout}");
    assert!(timeout.to_string().contains(&format!("{}:{line}", file!())), "{timeout}");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_shows_the_last_statement_without_parameters_and_whether_a_transaction_is_open() {
    let (pool, _folder) = pool(1).await;
    let mut held = pool.get().await.unwrap();
    held.execute("CREATE TABLE t (secret TEXT)", ()).await.unwrap();
    let mut transaction = held.begin(Behavior::Immediate).await.unwrap();
    transaction.execute("INSERT INTO t VALUES (?1)", ("hunter2",)).await.unwrap();
    let timeout = out_of_time(&pool).await;
    let holder = &timeout.holders[0];
    assert_eq!((holder.last_sql.as_deref(), holder.in_transaction), (Some("INSERT INTO t VALUES (?1)"), true));
    assert!(!format!("{timeout} {timeout:?}").contains("hunter2"));
    transaction.rollback().await.unwrap();
    let long = format!("SELECT '{}'", "x".repeat(500));
    let _rows = held.query(&long, ()).await.unwrap();
    let timeout = out_of_time(&pool).await;
    assert!(timeout.holders[0].last_sql.as_ref().unwrap().len() < 200, "{timeout}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_itself_is_told_so() {
    let (pool, _folder) = pool(1).await;
    let asking = tokio::spawn(async move {
        let _held = pool.get().await.unwrap();
        timed_out(pool.get().await)
    });
    let timeout = asking.await.unwrap();
    assert_eq!(timeout.verdict, Verdict::HoldsOneItself, "{timeout}");
    assert!(timeout.to_string().contains("you hold one yourself"), "{timeout}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_too_small_is_told_from_a_leak() {
    let (pool, _folder) = pool(1).await;
    let held = pool.get().await.unwrap();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move {
            let guard = pool.get().await.unwrap();
            tokio::time::sleep(10 * LIMIT).await;
            drop(guard);
        }
    });
    while pool.status().waiting == 0 {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { timed_out(pool.get().await) }
    });
    while pool.status().waiting < 2 {
        tokio::task::yield_now().await;
    }
    // The first in the queue is served while the second waits.
    drop(held);
    let timeout = second.await.unwrap();
    assert_eq!((timeout.verdict, timeout.place), (Verdict::TooSmall, 1), "{timeout}");
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_time_out_says_how_many_waited_before_it() {
    let (pool, _folder) = pool(1).await;
    let _held = pool.get().await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { timed_out(pool.get().await).place })
        })
        .collect();
    let mut places = Vec::new();
    for task in waiting {
        places.push(task.await.unwrap());
    }
    assert_eq!(places, [0, 1, 2], "each says how many waited when it came");
}
