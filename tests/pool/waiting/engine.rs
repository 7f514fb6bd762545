//! The same over the engine: what a guard leaves behind, the next user does not find, and the write lock is free at once.

use std::mem;

use poolproof::{Behavior, ConnectionPool, Error, PooledConnection, PooledDatabaseWriter};
use tempfile::TempDir;

/// A pool on a database of one table `t (x)`. The folder goes when it is dropped.
async fn pool(max: usize) -> (ConnectionPool, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).max_connections(max).build().await.unwrap();
    pool.get().await.unwrap().execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    (pool, folder)
}

async fn insert(connection: &mut PooledConnection, x: i64) -> Result<u64, Error> {
    connection.execute("INSERT INTO t VALUES (?1)", (x,)).await
}

async fn sum(connection: &mut PooledConnection) -> i64 {
    let mut rows = connection.query("SELECT COALESCE(SUM(x), 0) FROM t", ()).await.unwrap();
    rows.next().await.unwrap().expect("one row").get(0).unwrap()
}

/// What a user can leave a transaction in.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// `BEGIN` as a statement, and no end.
    Raw,
    /// A `Transaction` whose destructor never ran.
    Leaked,
    /// A `Transaction` that was dropped, and its guard right after it.
    Dropped,
}

/// sqlx issue 3932, diesel issue 2104: an open transaction goes back to the pool, and the next user commits it.
#[tokio::test]
async fn a_connection_that_comes_back_inside_a_transaction_is_discarded() {
    for left in [Left::Raw, Left::Leaked, Left::Dropped] {
        let (pool, _folder) = pool(2).await;
        let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        match left {
            Left::Raw => {
                user.execute("BEGIN IMMEDIATE", ()).await.unwrap();
                insert(&mut user, 1).await.unwrap();
            }
            Left::Leaked | Left::Dropped => {
                let mut transaction = user.begin(Behavior::Immediate).await.unwrap();
                transaction.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
                if let Left::Leaked = left { mem::forget(transaction) } else { drop(transaction) }
            }
        }
        assert!(!user.is_autocommit(), "{left:?}");
        assert!(insert(&mut other, 2).await.unwrap_err().is_contention(), "{left:?}: it holds the write lock");
        drop(user);
        assert_eq!(pool.status().open, 1, "{left:?}: discarded");
        insert(&mut other, 2).await.unwrap_or_else(|error| panic!("{left:?}: the lock is not free: {error}"));
        let mut next = pool.get().await.unwrap();
        assert!(next.is_autocommit());
        assert_eq!(sum(&mut next).await, 2, "{left:?}: rolled back");
    }
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_before_the_next_statement() {
    let (pool, _folder) = pool(2).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let mut transaction = user.begin(Behavior::Immediate).await.unwrap();
    transaction.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    drop(transaction);
    insert(&mut user, 2).await.unwrap();
    assert!(user.is_autocommit());
    assert_eq!(sum(&mut user).await, 2, "only what came after the transaction");
    insert(&mut other, 4).await.unwrap();
    drop(user);
    assert_eq!((pool.status().open, pool.status().idle), (2, 1), "it is as new: kept");
}

#[tokio::test]
async fn a_transaction_that_ended_leaves_its_connection_reusable() {
    let (pool, _folder) = pool(1).await;
    for commits in [true, false] {
        let mut user = pool.get().await.unwrap();
        let mut transaction = user.begin(Behavior::Deferred).await.unwrap();
        transaction.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        if commits {
            transaction.commit().await.unwrap()
        } else {
            transaction.rollback().await.unwrap()
        }
        assert_eq!(sum(&mut user).await, 1);
        drop(user);
        assert_eq!(pool.status().idle, 1);
    }
}

#[tokio::test]
async fn a_connection_with_leaked_rows_is_discarded() {
    let (pool, _folder) = pool(1).await;
    let mut user = pool.get().await.unwrap();
    insert(&mut user, 1).await.unwrap();
    let mut rows = user.query("SELECT x FROM t", ()).await.unwrap();
    rows.next().await.unwrap();
    mem::forget(rows);
    drop(user);
    assert_eq!(pool.status().open, 0);
    assert_eq!(sum(&mut pool.get().await.unwrap()).await, 1);
}

#[test]
fn a_guard_comes_back_after_its_runtime_is_gone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (pool, _folder) = runtime.block_on(pool(1));
    let held = runtime.block_on(pool.get()).unwrap();
    drop(runtime);
    drop(held);
    assert_eq!(pool.status().idle, 1);
}

/// A future that is not `Send` would not compile here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_future_can_be_spawned() {
    let (pool, _folder) = pool(3).await;
    let user = pool.clone();
    tokio::spawn(async move {
        let mut connection = user.get().await?;
        connection.execute("INSERT INTO t VALUES (1)", ()).await?;
        connection.execute_batch("INSERT INTO t VALUES (2); INSERT INTO t VALUES (4)").await?;
        let mut rows = connection.query("SELECT x FROM t", ()).await?;
        while rows.next().await?.is_some() {}
        drop(rows);
        let mut transaction = connection.begin(Behavior::Immediate).await?;
        transaction.execute("INSERT INTO t VALUES (8)", ()).await?;
        transaction.query("SELECT x FROM t", ()).await?.next().await?;
        transaction.commit().await?;
        connection.begin(Behavior::Deferred).await?.rollback().await
    })
    .await
    .unwrap()
    .unwrap();

    let writer = tokio::spawn(PooledDatabaseWriter::new(pool)).await.unwrap().unwrap();
    let user = writer.clone();
    let total = tokio::spawn(async move {
        user.execute("INSERT INTO t VALUES (?1)", (16,)).await?;
        user.write(async |transaction| transaction.execute("INSERT INTO t VALUES (32)", ()).await).await?;
        user.read(async |snapshot| {
            let mut rows = snapshot.query("SELECT SUM(x) FROM t", ()).await?;
            rows.next().await?.expect("a sum").get::<i64>(0)
        })
        .await
    });
    assert_eq!(total.await.unwrap().unwrap(), 63);

    let user = writer.clone();
    tokio::spawn(async move {
        user.stop().await;
        user.close().await;
        user.pool().close().await;
    })
    .await
    .unwrap();
    assert_eq!(writer.pool().status().open, 0);
    let folder = tempfile::tempdir().unwrap();
    let pool = tokio::spawn(ConnectionPool::open(folder.path().join("other.db"))).await.unwrap().unwrap();
    let writer = tokio::spawn(PooledDatabaseWriter::open(folder.path().join("third.db"))).await.unwrap().unwrap();
    tokio::spawn(async move { (pool.close().await, writer.close().await) }).await.unwrap();
}

/// A pragma outlives its statement: without this the next user would write without sync, or not at all.
#[tokio::test]
async fn a_pragma_run_on_a_guard_does_not_reach_the_next_user() {
    let (pool, _folder) = pool(1).await;
    pool.get().await.unwrap().run("PRAGMA query_only = 1").await.unwrap();
    insert(&mut pool.get().await.unwrap(), 1).await.unwrap();
}

#[tokio::test]
async fn a_pragma_in_a_hook_stays_and_costs_no_connection_however_it_is_run() {
    let hooks = poolproof::Hooks::new().after_connect(|connection: &mut poolproof::Connection| {
        Box::pin(async move {
            connection.execute_batch("PRAGMA cache_size = -4000").await?;
            drop(connection.query("PRAGMA cache_size", ()).await?);
            Ok(connection.run("PRAGMA foreign_keys = OFF").await?)
        })
    });
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::builder(folder.path().join("t.db")).hooks(hooks).build().await.unwrap();
    for _ in 0..3 {
        let mut user = pool.get().await.unwrap();
        let mut rows = user.query("SELECT foreign_keys FROM pragma_foreign_keys", ()).await.unwrap();
        assert_eq!(rows.next().await.unwrap().expect("one row").get::<i64>(0).unwrap(), 0);
    }
    assert_eq!(pool.status().most_open, 1);
    assert_eq!(pool.status().idle, 1, "it is kept");
}
