//! What is swept of the writer: every public operation that is awaited.

use std::time::Duration;

use poolproof::{ConnectionPool, Error, PooledDatabaseWriter, Priority, WriterConfig};

use super::lane::{Hands, Scenario, Start, Work};

const EVERYWHERE: &[Start] = &[Start::Free, Start::Busy, Start::Full, Start::Locked];
const READS: &[Start] = &[Start::Free, Start::Lent];

/// Everything else is said by a scenario where it differs.
pub const WRITE: Scenario = Scenario {
    name: "nothing",
    starts: EVERYWHERE,
    polls: (1, 3),
    leaves: 0,
    ends_it: false,
    places: 0,
    operation: |_| Box::pin(async { Ok(()) }),
};

pub const TWO: &str = "INSERT INTO t VALUES (1, 'x'), (2, 'y')";

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "PooledDatabaseWriter::execute",
        leaves: 2,
        operation: |hands| Box::pin(async move { hands.db.execute(TWO, ()).await.map(drop) }),
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::execute: a statement that has to be alone",
        operation: |hands| {
            Box::pin(async move { hands.db.execute("CREATE TABLE IF NOT EXISTS u (x)", ()).await.map(drop) })
        },
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::execute: within a time, in the background",
        polls: (1, 4),
        leaves: 2,
        operation: |hands| {
            Box::pin(async move {
                let db = hands.db.within(Duration::from_secs(600)).priority(Priority::Background);
                db.execute(TWO, ()).await.map(drop)
            })
        },
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::try_execute",
        leaves: 2,
        operation: |hands| Box::pin(async move { hands.db.try_execute(TWO, ()).await.map(drop) }),
        ..WRITE
    },
    Scenario { name: "PooledDatabaseWriter::execute_batch", leaves: 2, operation: batch, ..WRITE },
    Scenario {
        name: "PooledDatabaseWriter::write",
        leaves: 2,
        places: 3,
        operation: |hands| write(hands, true),
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::try_write",
        starts: &[Start::Free, Start::Busy, Start::Locked],
        leaves: 2,
        places: 3,
        operation: |hands| write(hands, false),
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::try_write: a full queue",
        starts: &[Start::Full],
        polls: (1, 1),
        leaves: 2,
        operation: |hands| write(hands, false),
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::prepare and Prepared::execute",
        leaves: 2,
        polls: (2, 4),
        operation: |hands| prepared(hands, true),
        ..WRITE
    },
    Scenario {
        name: "Prepared::try_execute",
        leaves: 2,
        polls: (2, 4),
        operation: |hands| prepared(hands, false),
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::prepare: when a connection is free",
        starts: READS,
        operation: |hands| Box::pin(async move { hands.db.prepare::<()>(TWO).await.map(drop) }),
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::read",
        starts: READS,
        places: 2,
        operation: |hands| {
            Box::pin(async move {
                let Hands { db, user, .. } = hands;
                db.read(async move |snapshot| {
                    user.comes_by().await;
                    let mut rows = snapshot.query("SELECT x FROM seed", ()).await?;
                    rows.next().await?;
                    user.comes_by().await;
                    rows.next().await.map(drop)
                })
                .await
            })
        },
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::read_after",
        starts: READS,
        places: 1,
        operation: |hands| {
            Box::pin(async move {
                let Hands { db, user, token, .. } = hands;
                db.read_after(token, async move |snapshot| {
                    let mut rows = snapshot.query("SELECT x FROM later", ()).await?;
                    assert!(rows.next().await?.is_some(), "what it was told of is there");
                    user.comes_by().await;
                    Ok(())
                })
                .await
            })
        },
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::query_cached: read, and kept",
        starts: READS,
        polls: (2, 5),
        operation: |hands| {
            Box::pin(async move {
                for _ in 0..2 {
                    let rows = hands.db.query_cached("SELECT x FROM later", ()).await?;
                    assert_eq!(rows.len(), 1);
                    crate::server::yield_once().await;
                }
                Ok(())
            })
        },
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::query_cached: while another reads the same",
        starts: READS,
        polls: (1, 4),
        operation: |hands| {
            Box::pin(async move {
                let read = || hands.db.query_cached("SELECT x FROM later", ());
                let (one, other) = tokio::join!(read(), read());
                assert_eq!((one?.len(), other?.len()), (1, 1));
                Ok(())
            })
        },
        ..WRITE
    },
    Scenario { name: "PooledDatabaseWriter::stop", ends_it: true, operation: stop, ..WRITE },
    Scenario {
        name: "PooledDatabaseWriter::close",
        starts: &[Start::Free, Start::Busy, Start::Full, Start::Lent],
        ends_it: true,
        operation: close,
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::close_within",
        starts: &[Start::Free, Start::Busy, Start::Full, Start::Lent],
        ends_it: true,
        operation: close_within,
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::open",
        starts: &[Start::Free],
        polls: (2, 2),
        operation: |hands| {
            Box::pin(async move {
                let second = PooledDatabaseWriter::open(hands.path).await?;
                crate::server::yield_once().await;
                drop(second);
                Ok(())
            })
        },
        ..WRITE
    },
    Scenario {
        name: "PooledDatabaseWriter::new and with_config",
        starts: &[Start::Free],
        polls: (4, 9),
        operation: |hands| {
            Box::pin(async move {
                let pool = ConnectionPool::builder(hands.path).max_connections(2).build().await?;
                crate::server::yield_once().await;
                let first = PooledDatabaseWriter::new(pool.clone()).await?;
                crate::server::yield_once().await;
                first.stop().await;
                let second = PooledDatabaseWriter::with_config(pool, WriterConfig::default()).await?;
                crate::server::yield_once().await;
                drop(second);
                Ok(())
            })
        },
        ..WRITE
    },
];

/// Where it can be held up in MVCC mode.
const BESIDE: &[Start] = &[Start::Free, Start::Lent, Start::Locked];

/// In MVCC mode: those that go another way there.
pub const SIDE_BY_SIDE: &[Scenario] = &[
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::execute",
        starts: BESIDE,
        leaves: 2,
        operation: |hands| Box::pin(async move { hands.db.execute(TWO, ()).await.map(drop) }),
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::execute: within a time",
        starts: BESIDE,
        polls: (1, 4),
        leaves: 2,
        operation: |hands| {
            Box::pin(async move { hands.db.within(Duration::from_secs(600)).execute(TWO, ()).await.map(drop) })
        },
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::try_execute",
        starts: BESIDE,
        leaves: 2,
        operation: |hands| Box::pin(async move { hands.db.try_execute(TWO, ()).await.map(drop) }),
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::write",
        starts: BESIDE,
        leaves: 2,
        places: 3,
        operation: |hands| write(hands, true),
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::execute: what changes the schema",
        starts: &[Start::Free, Start::Lent],
        operation: |hands| {
            Box::pin(async move { hands.db.execute("CREATE TABLE IF NOT EXISTS u (x)", ()).await.map(drop) })
        },
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::execute_batch",
        starts: BESIDE,
        leaves: 2,
        operation: batch,
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::try_write",
        starts: BESIDE,
        leaves: 2,
        places: 3,
        operation: |hands| write(hands, false),
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::prepare and Prepared::execute",
        starts: BESIDE,
        leaves: 2,
        polls: (2, 4),
        operation: |hands| prepared(hands, true),
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, Prepared::try_execute",
        starts: BESIDE,
        leaves: 2,
        polls: (2, 4),
        operation: |hands| prepared(hands, false),
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::stop",
        starts: &[Start::Free, Start::Lent],
        ends_it: true,
        operation: stop,
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::close",
        starts: &[Start::Free, Start::Lent],
        ends_it: true,
        operation: close,
        ..WRITE
    },
    Scenario {
        name: "in MVCC mode, PooledDatabaseWriter::close_within",
        starts: &[Start::Free, Start::Lent],
        ends_it: true,
        operation: close_within,
        ..WRITE
    },
];

fn stop(hands: Hands) -> Work {
    Box::pin(async move {
        hands.db.stop().await;
        Ok(())
    })
}

fn close(hands: Hands) -> Work {
    Box::pin(async move {
        hands.db.close().await;
        Ok(())
    })
}

fn close_within(hands: Hands) -> Work {
    Box::pin(async move {
        let report = hands.db.close_within(Duration::from_secs(600)).await;
        assert!(report.is_clean(), "{report}");
        Ok(())
    })
}

fn batch(hands: Hands) -> Work {
    Box::pin(async move {
        let batch = "INSERT INTO t VALUES (1, 'x'); INSERT INTO t VALUES (2, 'y')";
        hands.db.execute_batch(batch).await.map(drop)
    })
}

/// Prepares a statement and runs it.
fn prepared(hands: Hands, waits: bool) -> Work {
    Box::pin(async move {
        let prepared = hands.db.prepare::<(&str,)>("INSERT INTO t VALUES (1, ?1), (2, ?1)").await?;
        crate::server::yield_once().await;
        match waits {
            true => prepared.execute(("x",)).await.map(drop),
            false => prepared.try_execute(("x",)).await.map(drop),
        }
    })
}

/// A closure that stops at each of its awaits.
fn write(hands: Hands, waits: bool) -> Work {
    Box::pin(async move {
        let Hands { db, user, .. } = hands;
        let work = async move |tx: &mut poolproof::Transaction<'_>| {
            user.comes_by().await;
            tx.execute("INSERT INTO t VALUES (1, 'x')", ()).await?;
            user.comes_by().await;
            tx.execute("INSERT INTO t VALUES (2, 'y')", ()).await?;
            user.comes_by().await;
            Ok::<_, Error>(())
        };
        match waits {
            true => db.write(work).await.map(drop),
            false => db.try_write(work).await.map(drop),
        }
    })
}
