//! One connection in the state of a web service: what each handler takes for its own transaction is everybody's.
//!
//! ```text
//! client-1    client-2
//! BEGIN
//!             BEGIN: a transaction within a transaction
//! ```

use poolproof::harness::sim::World;
use poolproof::{Error, Transaction};

use crate::sim::clients::each;
use crate::sim::hunt::Hunt;

const INSERT: &str = "INSERT INTO notes VALUES (?1)";

pub async fn shared(world: World) -> Result<(), turso::Error> {
    let database = turso::Builder::new_local(&world.path("shared.db")).with_io_impl(world.io()).build().await?;
    let connection = database.connect()?;
    connection.execute("CREATE TABLE notes (n INTEGER)", ()).await?;
    each(&world, 2, |client| {
        let (connection, world) = (connection.clone(), world.clone());
        async move {
            connection.execute("BEGIN IMMEDIATE", ()).await?;
            world.note("has begun");
            connection.execute(INSERT, (client,)).await?;
            world.note("has written");
            connection.execute("COMMIT", ()).await?;
            Ok(())
        }
    })
    .await
}

async fn lane(world: World) -> Result<(), Error> {
    let db = world.open("shared.db").await?;
    db.execute("CREATE TABLE notes (n INTEGER)", ()).await?;
    each(&world, 2, |client| {
        let db = db.clone();
        let inserts = async move |tx: &mut Transaction<'_>| tx.execute(INSERT, (client,)).await;
        async move { db.write(inserts).await.map(drop) }
    })
    .await
}

#[test]
fn a_shared_connection_is_found() {
    Hunt::new("the shared connection", &["end_write_tx called while write lock not held", "within a transaction"])
        .finds(shared)
        .but_not(lane);
}
