//! The museum: twenty concurrency bugs that pools of others once shipped, each put to ours.
//!
//! An exhibit names the original, draws the interleaving that went wrong there (one column an actor, time downward),
//! and replays it here step by step: futures are polled by hand, the clock is paused, and where transactions are the
//! hazard the engine is real. What is asserted is what the other pool did not do.
//!
//! Many of these are also explored under every interleaving in `tests/loom/main.rs`; there the core is alone, here it is the
//! whole pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use poolproof::{Connection, ConnectionPool, Hooks, Pool, PoolConfig, Pooled, PooledConnection};
use tempfile::TempDir;

use crate::server::{self, Manager, Server, get, numbers, queue};

mod eleven_to_nineteen;
mod number_twenty;
mod one_to_ten;
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A pool of at most so many make-believe connections.
fn pool(max_connections: usize) -> (Pool<Manager>, Arc<Server>) {
    server::pool(PoolConfig { max_connections, ..PoolConfig::default() })
}

/// Gives a connection back that its user broke.
fn give_back_broken(guard: Pooled<Manager>) {
    guard.broken.store(true, Ordering::SeqCst);
}

/// A database of one table `t (x)`. The folder goes when it is dropped.
async fn database(max_connections: usize) -> (ConnectionPool, TempDir) {
    database_with(max_connections, Hooks::new()).await
}

async fn database_with(max_connections: usize, hooks: Hooks<Connection>) -> (ConnectionPool, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let builder = ConnectionPool::builder(folder.path().join("t.db")).max_connections(max_connections);
    let pool = builder.hooks(hooks).build().await.unwrap();
    pool.get().await.unwrap().execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    (pool, folder)
}

async fn sum(connection: &mut PooledConnection) -> i64 {
    let mut rows = connection.query("SELECT COALESCE(SUM(x), 0) FROM t", ()).await.unwrap();
    rows.next().await.unwrap().expect("one row").get(0).unwrap()
}
