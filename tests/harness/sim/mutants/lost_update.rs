//! Code that reads, computes and writes loses updates unless all of it is one transaction.
//!
//! ```text
//! client-1    client-2
//! read 0
//!             read 0
//! write 1
//!             write 1
//! ```

use poolproof::harness::sim::World;
use poolproof::{Error, PooledDatabaseWriter, Transaction};

use crate::sim::clients::{counter, number};
use crate::sim::hunt::Hunt;

const READ: &str = "SELECT n FROM counter";
const WRITE: &str = "UPDATE counter SET n = ?1";

/// The broken way: what was read may be old by the time it is written.
async fn apart(world: &World, db: &PooledDatabaseWriter) -> Result<(), Error> {
    let n = number(db, READ).await?;
    world.note(format!("read {n}"));
    db.execute(WRITE, (n + 1,)).await?;
    Ok(())
}

/// The right way: nobody writes between the two.
async fn together(world: &World, db: &PooledDatabaseWriter) -> Result<(), Error> {
    let world = world.clone();
    let counts = async move |tx: &mut Transaction<'_>| {
        let n: i64 = {
            let mut rows = tx.query(READ, ()).await?;
            rows.next().await?.expect("a row").get(0)?
        };
        world.note(format!("read {n}"));
        tx.execute(WRITE, (n + 1,)).await?;
        Ok::<_, Error>(())
    };
    db.write(counts).await?;
    Ok(())
}

pub async fn two_count(world: World, is_broken: bool) -> Result<(), String> {
    let db = counter(&world).await.map_err(|error| error.to_string())?;
    let clients = [1, 2].map(|client| {
        let (db, world) = (db.clone(), world.clone());
        world.clone().spawn(format!("client-{client}"), async move {
            match is_broken {
                true => apart(&world, &db).await,
                false => together(&world, &db).await,
            }
        })
    });
    for client in clients {
        client.await.expect("nothing panics").map_err(|error| error.to_string())?;
    }
    match number(&db, READ).await.map_err(|error| error.to_string())? {
        2 => Ok(()),
        n => Err(format!("two counted to {n}")),
    }
}

#[test]
fn a_lost_update_is_found() {
    Hunt::new("the lost update", &["two counted to 1"])
        .finds(async |world| two_count(world, true).await)
        .but_not(async |world| two_count(world, false).await);
}
