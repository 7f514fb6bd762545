//! What the checks share.

use poolproof::harness::sim::World;
use poolproof::{Error, PooledDatabaseWriter, Result};

/// One number of a database.
pub async fn number(db: &PooledDatabaseWriter, sql: &'static str) -> Result<i64> {
    db.read(async move |snapshot| {
        let mut rows = snapshot.query(sql, ()).await?;
        Ok::<_, Error>(rows.next().await?.expect("a row").get(0)?)
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
