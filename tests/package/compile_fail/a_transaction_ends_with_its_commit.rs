//! A statement after COMMIT would be a transaction of its own.

fn main() {}

async fn late(guard: &mut poolproof::PooledConnection) -> poolproof::Result<()> {
    let mut transaction = guard.begin(poolproof::Behavior::Immediate).await?;
    transaction.commit().await?;
    transaction.execute("DELETE FROM t", ()).await?; //~ E0382
    Ok(())
}
