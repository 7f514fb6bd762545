//! What is swept on the engine.

use std::time::Duration;

use poolproof::{Behavior, Connection, ConnectionPool, ConnectionPoolBuilder, Error, Hooks, PoolConfig};

use super::engine::{Hands, MAX, Scenario, Start, Work};
use crate::server::yield_once;

/// Everything else is said by a scenario where it differs.
pub const WORK: Scenario = Scenario {
    name: "nothing",
    polls: (1, 1),
    start: Start::Guard,
    builder: |builder| builder,
    leaves: &[0],
    waits_for_the_lock: false,
    may_stay_open: false,
    operation: |_| Box::pin(async { Ok(()) }),
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "ConnectionPool::get: an idle connection", start: Start::Idle, operation: get, ..WORK },
    Scenario { name: "ConnectionPool::get: a new connection", start: Start::Empty, operation: get, ..WORK },
    Scenario {
        name: "ConnectionPool::get: a new connection, and hooks that run statements",
        polls: (2, 2),
        start: Start::Empty,
        builder: |builder| builder.hooks(hooks()),
        operation: get,
        ..WORK
    },
    Scenario {
        name: "ConnectionPool::get: an idle connection, a test, and hooks that run statements",
        polls: (3, 3),
        start: Start::Idle,
        builder: |builder| {
            let config = PoolConfig { test_after: Some(Duration::ZERO), max_connections: MAX, ..PoolConfig::default() };
            builder.config(config).hooks(hooks())
        },
        operation: get,
        ..WORK
    },
    Scenario { name: "ConnectionPool::try_get: a new connection", start: Start::Empty, operation: try_get, ..WORK },
    Scenario { name: "ConnectionPool::get: a waiter", polls: (2, 2), start: Start::Full, operation: get, ..WORK },
    Scenario { name: "ConnectionPoolBuilder::build: a new file", start: Start::Idle, operation: build, ..WORK },
    Scenario { name: "ConnectionPool::open: another pool's file", start: Start::Idle, operation: open, ..WORK },
    Scenario { name: "ConnectionPool::close", polls: (2, 2), start: Start::Full, operation: close, ..WORK },
    Scenario {
        name: "ConnectionPool::close_within",
        polls: (2, 2),
        start: Start::Full,
        operation: close_within,
        ..WORK
    },
    Scenario {
        name: "Connection::execute: one row",
        leaves: &[0, 1],
        operation: |hands| Box::pin(execute(hands, ONE)),
        ..WORK
    },
    Scenario {
        name: "Connection::execute: many rows, when the lock is free",
        builder: patient,
        leaves: &[0, 300],
        waits_for_the_lock: true,
        operation: |hands| Box::pin(execute(hands, MANY)),
        ..WORK
    },
    Scenario {
        name: "Connection::execute: a new table, when the lock is free",
        builder: patient,
        waits_for_the_lock: true,
        operation: |hands| Box::pin(execute(hands, "CREATE TABLE u (x PRIMARY KEY)")),
        ..WORK
    },
    Scenario {
        name: "Connection::execute_batch: two statements, when the lock is free",
        builder: patient,
        leaves: &[0, 1, 301],
        waits_for_the_lock: true,
        operation: |hands| {
            Box::pin(async {
                let batch = format!("{ONE}; {MANY}");
                hands.guard().execute_batch(&batch).await
            })
        },
        ..WORK
    },
    Scenario {
        name: "Connection::execute_batch: a transaction, when the lock is free",
        builder: patient,
        leaves: &[0, 301],
        waits_for_the_lock: true,
        operation: |hands| {
            Box::pin(async {
                let batch = format!("BEGIN; {ONE}; {MANY}; COMMIT");
                hands.guard().execute_batch(&batch).await
            })
        },
        ..WORK
    },
    Scenario { name: "Connection::query and Rows::next", polls: (5, 5), operation: read, ..WORK },
    Scenario {
        name: "Connection::query and Rows::next: a write, when the lock is free",
        polls: (3, 3),
        builder: patient,
        leaves: &[0, 2],
        waits_for_the_lock: true,
        operation: write_by_query,
        ..WORK
    },
    Scenario {
        name: "Connection::run, when the lock is free",
        builder: patient,
        leaves: &[0, 1],
        waits_for_the_lock: true,
        operation: |hands| Box::pin(async { hands.guard().run(ONE).await }),
        ..WORK
    },
    Scenario {
        name: "Connection::begin: deferred",
        polls: (2, 2),
        operation: |hands| Box::pin(begin(hands, Behavior::Deferred)),
        ..WORK
    },
    Scenario {
        name: "Connection::begin: immediate",
        polls: (2, 2),
        operation: |hands| Box::pin(begin(hands, Behavior::Immediate)),
        ..WORK
    },
    Scenario {
        name: "Connection::begin: immediate, when the lock is free",
        polls: (2, 2),
        builder: patient,
        waits_for_the_lock: true,
        operation: |hands| Box::pin(begin(hands, Behavior::Immediate)),
        ..WORK
    },
    Scenario {
        name: "Connection::execute: a transaction of statements",
        polls: (3, 3),
        leaves: &[0, 1],
        may_stay_open: true,
        operation: |hands| {
            Box::pin(async {
                for sql in ["BEGIN", ONE] {
                    hands.guard().execute(sql, ()).await?;
                    yield_once().await;
                }
                hands.guard().execute("COMMIT", ()).await.map(drop)
            })
        },
        ..WORK
    },
    Scenario {
        name: "Transaction::execute and commit",
        polls: (4, 4),
        leaves: &[0, 301],
        operation: |hands| Box::pin(commit(hands, Behavior::Immediate)),
        ..WORK
    },
    Scenario {
        name: "Transaction::execute and commit, when the lock is free",
        polls: (4, 4),
        builder: patient,
        leaves: &[0, 301],
        waits_for_the_lock: true,
        operation: |hands| Box::pin(commit(hands, Behavior::Deferred)),
        ..WORK
    },
    Scenario { name: "Transaction::execute_batch, query and rollback", polls: (4, 4), operation: roll_back, ..WORK },
];

pub const ONE: &str = "INSERT INTO t VALUES (1, 'x')";
pub const MANY: &str = "INSERT INTO t SELECT x, text FROM seed";

/// Statements wait for the write lock, instead of being refused.
pub fn patient(builder: ConnectionPoolBuilder) -> ConnectionPoolBuilder {
    builder.hooks(Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA busy_timeout = 10000").await?) })
    }))
}

/// One is in the middle of a transaction when it may be cut short.
fn hooks() -> Hooks<Connection> {
    Hooks::new()
        .after_connect(|connection: &mut Connection| {
            Box::pin(async move { Ok(connection.run("PRAGMA cache_size = -4000").await?) })
        })
        .before_acquire(|connection: &mut Connection| {
            Box::pin(async move {
                connection.run("BEGIN").await?;
                connection.run("SELECT COUNT(*) FROM seed").await?;
                for _ in 0..3 {
                    yield_once().await;
                }
                Ok(connection.run("ROLLBACK").await?)
            })
        })
        .after_release(|connection: &mut Connection| Box::pin(async move { Ok(connection.run("SELECT 1").await?) }))
}

fn get(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        hands.guard = Some(hands.pool.get().await?);
        Ok(())
    })
}

fn try_get(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        hands.guard = hands.pool.try_get().await?;
        Ok(())
    })
}

fn build(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        let path = hands.pool.path().with_extension("second");
        hands.second = Some(ConnectionPool::builder(path).max_connections(MAX).build().await?);
        Ok(())
    })
}

fn open(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        hands.second = Some(ConnectionPool::open(hands.pool.path()).await?);
        Ok(())
    })
}

fn close(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        hands.pool.close().await;
        Ok(())
    })
}

fn close_within(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        hands.pool.close_within(Duration::from_secs(10)).await.expect("the clock stands still");
        Ok(())
    })
}

async fn execute(hands: &mut Hands, sql: &str) -> Result<(), Error> {
    hands.guard().execute(sql, ()).await.map(drop)
}

fn read(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        let mut rows = hands.guard().query("SELECT x FROM seed ORDER BY text, x DESC", ()).await?;
        for _ in 0..4 {
            yield_once().await;
            rows.next().await?;
        }
        Ok(())
    })
}

fn write_by_query(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        let mut rows = hands.guard().query("INSERT INTO t VALUES (1, 'x'), (2, 'y') RETURNING x", ()).await?;
        while rows.next().await?.is_some() {
            yield_once().await;
        }
        Ok(())
    })
}

async fn begin(hands: &mut Hands, behavior: Behavior) -> Result<(), Error> {
    let transaction = hands.guard().begin(behavior).await?;
    yield_once().await;
    drop(transaction);
    Ok(())
}

async fn commit(hands: &mut Hands, behavior: Behavior) -> Result<(), Error> {
    let mut transaction = hands.guard().begin(behavior).await?;
    for sql in [ONE, MANY] {
        yield_once().await;
        transaction.execute(sql, ()).await?;
    }
    yield_once().await;
    transaction.commit().await
}

fn roll_back(hands: &mut Hands) -> Work<'_> {
    Box::pin(async {
        let mut transaction = hands.guard().begin(Behavior::Deferred).await?;
        yield_once().await;
        transaction.execute_batch("INSERT INTO t VALUES (1, 'x'); INSERT INTO t VALUES (2, 'y')").await?;
        let mut rows = transaction.query("SELECT x FROM t", ()).await?;
        rows.next().await?;
        yield_once().await;
        while rows.next().await?.is_some() {}
        drop(rows);
        yield_once().await;
        transaction.rollback().await
    })
}
