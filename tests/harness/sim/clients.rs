//! What the checks share.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use poolproof::harness::sim::{Ledger, World};
use poolproof::{Error, PooledDatabaseWriter, Result};

/// One number of a database.
pub async fn number(db: &PooledDatabaseWriter, sql: &'static str) -> Result<i64> {
    db.read(async move |snapshot| {
        let mut rows = snapshot.query(sql, ()).await?;
        rows.next().await?.expect("a row").get(0)
    })
    .await
}

/// A counter that stands at 0.
pub async fn counter(world: &World) -> Result<PooledDatabaseWriter> {
    let db = world.open("counter.db").await?;
    db.execute("CREATE TABLE counter (n INTEGER)", ()).await?;
    db.execute("INSERT INTO counter VALUES (0)", ()).await?;
    Ok(db)
}

/// So many clients, from 1 on, each with the same work: the first error of one.
pub async fn each<W, E>(world: &World, clients: i64, work: impl Fn(i64) -> W) -> Result<(), E>
where
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let clients: Vec<_> = (1..=clients).map(|client| world.spawn(format!("client-{client}"), work(client))).collect();
    for client in clients {
        client.await.expect("no client panics")?;
    }
    Ok(())
}

/// The database of those who write under numbers of a [`Ledger`], and its one table.
pub const NOTES: &str = "notes.db";

/// Rows that each write leaves.
pub const ROWS: u64 = 2;

/// A write in one statement.
pub const NOTE: &str = "INSERT INTO notes VALUES (?1), (?1)";

/// Half of one.
pub const HALF: &str = "INSERT INTO notes VALUES (?1)";

/// Creates the table, before anything fails.
pub async fn prepares(world: &World) -> Result<(), String> {
    let prepares = async {
        let pool = world.pool(NOTES).build().await?;
        pool.get().await?.execute("CREATE TABLE notes (number INTEGER)", ()).await?;
        pool.close().await;
        Ok::<_, Error>(())
    };
    world.calmly(prepares).await.map_err(|error| format!("preparing: {error}"))
}

/// Opens the database anew, without any fault, and compares it with what clients were told.
pub async fn agrees(world: &World, ledger: &Ledger) -> Result<(), String> {
    let looks = async {
        let pool = world.pool(NOTES).build().await?;
        let mut connection = pool.get().await?;
        // If even the table is gone, so is whatever was in it.
        connection.execute("CREATE TABLE IF NOT EXISTS notes (number INTEGER)", ()).await?;
        let mut found = BTreeMap::new();
        let mut rows = connection.query("SELECT number, COUNT(*) FROM notes GROUP BY number", ()).await?;
        while let Some(row) = rows.next().await? {
            found.insert(row.get::<i64>(0)? as u64, row.get::<i64>(1)? as u64);
        }
        Ok::<_, Error>(found)
    };
    let found = world.calmly(looks).await.map_err(|error| format!("the database cannot be read any more: {error}"))?;
    ledger.check(&found, ROWS)
}

/// Lets the others go first.
pub async fn give_way() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if !has_waited {
            has_waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// The real pool, of one connection, by clients that may be cut short in their turns.
pub async fn one_connection(world: World) -> Result<(), Error> {
    let pool = world.pool(NOTES).max_connections(1).build().await?;
    world.watch(&pool);
    each(&world, 3, |_| {
        let (world, pool) = (world.clone(), pool.clone());
        async move {
            for _ in 0..2 {
                let holds = async {
                    let _connection = pool.get().await?;
                    give_way().await;
                    Ok::<_, Error>(())
                };
                world.cancellable(holds).await.unwrap_or(Ok(()))?;
            }
            pool.get().await.map(drop)
        }
    })
    .await
}
