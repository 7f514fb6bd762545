//! Rows read from a connection that somebody else has by now.

fn main() {}

async fn late(mut guard: poolproof::PooledConnection) -> poolproof::Result<()> {
    let mut rows = guard.query("SELECT 1", ()).await?;
    drop(guard); //~ E0505
    rows.next().await?;
    Ok(())
}
