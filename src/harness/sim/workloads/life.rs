//! One life of the database: it is opened, clients work, and it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::client::note;
use super::{CLIENTS, NAME, OPERATIONS, Workload};
use crate::harness::sim::{Joined, Ledger, World};
use crate::pool::{Hooks, PoolConfig};
use crate::writer::{PooledDatabaseWriter, WriterConfig};

impl Workload {
    /// One life: opens the database, and lets the clients work.
    pub(super) async fn lives(
        self,
        world: &World,
        ledger: &Ledger,
        opened: &Arc<AtomicUsize>,
    ) -> std::result::Result<(), String> {
        let connects = Arc::clone(opened);
        let hooks = Hooks::new().after_connect(move |_| {
            connects.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        });
        let config = PoolConfig {
            max_connections: 3,
            wait_timeout: Duration::from_millis(200),
            idle_timeout: Some(Duration::from_secs(5)),
            ..PoolConfig::default()
        };
        let writer = WriterConfig { queue: 2, checkpoint_bytes: 64 * 1024, ..WriterConfig::default() };
        let pool = world.pool(NAME).config(config).hooks(hooks).build();
        let opens = async { world.writer(pool.await?, writer).await };
        // A disk that fails may not let anybody in.
        let Ok(db) = opens.await else { return Ok(()) };
        let clients: Vec<Joined<_>> = (1..=world.up_to(CLIENTS))
            .map(|client| {
                let (db, world, ledger) = (db.clone(), world.clone(), ledger.clone());
                let name = format!("client-{client}");
                world.clone().spawn(name, async move {
                    for _ in 0..world.up_to(OPERATIONS) {
                        world.may_panic(self.operates(&world, &db, &ledger)).await?;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap_or(Ok(()))?;
        }
        self.serves_still(world, &db, ledger).await?;
        let status = db.status();
        let seen = [
            (status.pool.handed_over > 0, "a connection handed over"),
            (status.retries > 0, "a retry"),
            (status.broken_batches > 0, "a batch that is run again"),
            (status.largest_batch > 1, "writes that share a commit"),
            (status.wal.checkpoints > 0, "a checkpoint"),
            (opened.load(Ordering::Relaxed) > status.pool.most_open, "a discarded connection"),
        ];
        seen.into_iter().filter(|(is_so, _)| *is_so).for_each(|(_, what)| world.sometimes(what));
        db.close().await;
        Ok(())
    }

    /// Once nothing fails any more, whatever failed before, the lane writes and readers read.
    async fn serves_still(
        self,
        world: &World,
        db: &PooledDatabaseWriter,
        ledger: &Ledger,
    ) -> std::result::Result<(), String> {
        world
            .calmly(async {
                let number = ledger.issue();
                let wrote = note(db, number).await;
                ledger.told(world, number, Some(&wrote));
                wrote.map_err(|error| format!("nothing fails any more, and a write does: {error}"))?;
                self.reads(world, db).await
            })
            .await
    }
}
