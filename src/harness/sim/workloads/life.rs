//! One life of the database: it is opened, clients work, and it is closed. Each of these may be cut short.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::client::{Client, Scene};
use super::tables::NOTE;
use super::{CLIENTS, NAME, OPERATIONS, RETRIES, Workload, kept};
use crate::error::Result;
use crate::harness::sim::{Excuse, Joined, Ledger, World};
use crate::pool::{Hooks, PoolConfig};
use crate::writer::{Mode, PooledDatabaseWriter, WriterConfig};

/// One life.
pub(super) struct Life<'a> {
    pub(super) workload: Workload,
    pub(super) world: &'a World,
    pub(super) ledger: &'a Ledger,
    /// Connections that were opened.
    pub(super) opened: Arc<AtomicUsize>,
}

impl Life<'_> {
    /// From its opening to its end.
    pub(super) async fn is_lived(&self) -> std::result::Result<(), String> {
        let scene = self.begins().await?;
        let clients: Vec<Joined<_>> = (1..=self.world.up_to(CLIENTS))
            .map(|client| {
                let (name, world) = (format!("client-{client}"), self.world.clone());
                let mut client = Client::new(scene.clone());
                self.world.spawn(name, async move {
                    for _ in 0..world.up_to(OPERATIONS) {
                        world.may_panic(client.operates()).await?;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap_or(Ok(()))?;
        }
        serves_still(&scene).await?;
        self.looks_back(&scene.db);
        ends(&scene).await
    }

    /// Opens the database. If that fails or is cut short, whoever tries again on a disk that works gets in.
    async fn begins(&self) -> std::result::Result<Scene, String> {
        let judge = self.world.judge();
        let opens = judge.hears("opening", &[Excuse::Acquire], self.opens());
        let opened = self.world.cancellable(opens).await.transpose()?;
        if opened.is_none() {
            self.world.sometimes("an open that is cut short");
        }
        let db = match opened.and_then(Result::ok) {
            Some(db) => db,
            None => self
                .world
                .calmly(self.opens())
                .await
                .map_err(|error| format!("nothing fails any more, and opening does: {error}"))?,
        };
        let (workload, world, ledger) = (self.workload, self.world.clone(), self.ledger.clone());
        Ok(Scene { workload, world, db, ledger, judge })
    }

    async fn opens(&self) -> Result<PooledDatabaseWriter> {
        // Of another pool, if this is the second time.
        self.opened.store(0, Ordering::Relaxed);
        let connects = Arc::clone(&self.opened);
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
        let writer = kept::with_room(WriterConfig {
            queue: 2,
            batch_jobs: 4,
            retry_timeout: RETRIES,
            checkpoint_bytes: 64 * 1024,
            mode: self.workload.mode(),
            ..WriterConfig::default()
        });
        let pool = self.world.pool(NAME).config(config).hooks(hooks).build().await?;
        self.world.writer(pool, writer).await
    }

    /// What was seen in it.
    fn looks_back(&self, db: &PooledDatabaseWriter) {
        let status = db.status();
        let retry = match self.workload.mode() {
            Mode::Wal => "a retry",
            Mode::Mvcc => "a conflict",
        };
        let seen = [
            (status.pool.handed_over > 0, "a connection handed over"),
            (status.retries > 0, retry),
            (status.broken_batches > 0, "a batch that is run again"),
            (status.largest_batch > 1, "writes that share a commit"),
            (status.wal.checkpoints > 0, "a checkpoint"),
            (kept::was_found(&status), "an answer that was kept"),
            (self.opened.load(Ordering::Relaxed) > status.pool.most_open, "a discarded connection"),
        ];
        seen.into_iter().filter(|(is_so, _)| *is_so).for_each(|(_, what)| self.world.sometimes(what));
    }
}

/// Once nothing fails any more, whatever failed before, writes are made and readers read.
async fn serves_still(scene: &Scene) -> std::result::Result<(), String> {
    let Scene { world, db, ledger, .. } = scene;
    // From now on there is no excuse.
    let scene = Scene { judge: world.judge(), ..scene.clone() };
    world
        .calmly(async {
            let number = ledger.issue();
            let wrote = db.execute(NOTE, (number as i64,)).await;
            ledger.told(world, number, Some(&wrote));
            wrote.map_err(|error| format!("nothing fails any more, and a write does: {error}"))?;
            scene.reads().await
        })
        .await
}

/// Closes the database. If that is cut short, whoever writes then is refused or was in time, and closing again ends.
async fn ends(scene: &Scene) -> std::result::Result<(), String> {
    let Scene { world, db, ledger, .. } = scene;
    if world.cancellable(db.close()).await.is_none() {
        world.sometimes("a close that is cut short");
        let number = ledger.issue();
        let wrote = db.execute(NOTE, (number as i64,));
        let told = scene.hears("a write after a close", &[Excuse::Closed], wrote).await?;
        ledger.told(world, number, Some(&told));
        db.close().await;
    }
    Ok(())
}
