//! A pool that takes a connection back as it is: inside the transaction of a user whose future was dropped.
//!
//! ```text
//! client-1          client-2
//! BEGIN
//! (is dropped)
//!                   INSERT: ok, in a transaction that nobody will commit
//! ```

use std::sync::Arc;

use parking_lot::Mutex;
use poolproof::harness::sim::{Ledger, World};
use poolproof::{Behavior, ConnectionPool, Error, IntoParams};
use tokio::sync::Semaphore;

use crate::sim::clients::{HALF, NOTE, NOTES, agrees, each, prepares};
use crate::sim::hunt::Hunt;

/// A pool of one connection.
#[derive(Clone)]
struct Toy {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Option<turso::Connection>>>,
}

struct Loan {
    toy: Toy,
    connection: Option<turso::Connection>,
}

impl Toy {
    async fn open(world: &World) -> turso::Result<Self> {
        let database = turso::Builder::new_local(&world.path(NOTES)).with_io_impl(world.io()).build().await?;
        let idle = Arc::new(Mutex::new(Some(database.connect()?)));
        Ok(Self { free: Arc::new(Semaphore::new(1)), idle })
    }

    async fn get(&self) -> Loan {
        self.free.acquire().await.expect("it is never closed").forget();
        Loan { toy: self.clone(), connection: self.idle.lock().take() }
    }
}

impl Loan {
    async fn execute(&self, sql: &str, params: impl IntoParams) -> turso::Result<()> {
        let connection = self.connection.as_ref().expect("it is there until it is given back");
        connection.execute(sql, params).await.map(drop)
    }
}

impl Drop for Loan {
    /// The flaw: whatever the connection is in the middle of.
    fn drop(&mut self) {
        *self.toy.idle.lock() = self.connection.take();
        self.toy.free.add_permits(1);
    }
}

/// Two statements in a transaction, or the same in one.
async fn by_the_toy(world: World, toy: Toy, number: i64, is_whole: bool) -> Result<(), Error> {
    let connection = toy.get().await;
    if is_whole {
        return Ok(connection.execute(NOTE, (number,)).await?);
    }
    connection.execute("BEGIN IMMEDIATE", ()).await?;
    world.note("has begun");
    connection.execute(HALF, (number,)).await?;
    connection.execute(HALF, (number,)).await?;
    Ok(connection.execute("COMMIT", ()).await?)
}

async fn by_the_pool(world: World, pool: ConnectionPool, number: i64, is_whole: bool) -> Result<(), Error> {
    let mut connection = pool.get().await?;
    if is_whole {
        return connection.execute(NOTE, (number,)).await.map(drop);
    }
    let mut tx = connection.begin(Behavior::Immediate).await?;
    world.note("has begun");
    tx.execute(HALF, (number,)).await?;
    tx.execute(HALF, (number,)).await?;
    tx.commit().await
}

/// The first client writes in a transaction, and may be dropped; the second in one statement.
async fn two_write<W>(world: &World, ledger: &Ledger, write: impl Fn(i64, bool) -> W) -> Result<(), String>
where
    W: Future<Output = Result<(), Error>> + Send + 'static,
{
    each(world, 2, |client| {
        let number = ledger.issue();
        let (world, ledger, write) = (world.clone(), ledger.clone(), write(number as i64, client == 2));
        async move {
            let told = if client == 1 { world.cancellable(write).await } else { Some(write.await) };
            ledger.told(&world, number, told.as_ref());
            told.unwrap_or(Ok(())).map_err(|error| error.to_string())
        }
    })
    .await
}

async fn toy(world: World) -> Result<(), String> {
    prepares(&world).await?;
    let ledger = Ledger::default();
    let toy = Toy::open(&world).await.map_err(|error| error.to_string())?;
    two_write(&world, &ledger, |number, is_whole| by_the_toy(world.clone(), toy.clone(), number, is_whole)).await?;
    drop(toy);
    agrees(&world, &ledger).await
}

async fn pool(world: World) -> Result<(), String> {
    prepares(&world).await?;
    let ledger = Ledger::default();
    let pool = world.pool(NOTES).max_connections(1).build().await.map_err(|error| error.to_string())?;
    two_write(&world, &ledger, |number, is_whole| by_the_pool(world.clone(), pool.clone(), number, is_whole)).await?;
    pool.close().await;
    agrees(&world, &ledger).await
}

#[test]
fn a_connection_given_back_inside_a_transaction_is_found() {
    Hunt::new("the dirty return", &["was acknowledged and is lost"]).faults("cancel=100000").finds(toy).but_not(pool);
}
