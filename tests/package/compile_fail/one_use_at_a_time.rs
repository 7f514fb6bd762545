//! Two statements at once on one connection: the engine refuses the second at run time, or worse.

fn main() {}

async fn both(guard: &mut poolproof::PooledConnection) -> poolproof::Result<()> {
    let mut rows = guard.query("SELECT 1", ()).await?;
    guard.execute("DELETE FROM t", ()).await?; //~ E0499
    rows.next().await?;
    Ok(())
}
