//! The lane: one task, one connection, batches of writes.
//!
//! A WAL database has one write lock. Whoever wants to write queues here instead of fighting for it, so nobody ever sees
//! `database is locked`, and those who queue share a commit and its fsync ([`batch`](super::batch)). The lane runs where
//! its polls hold up nobody ([`executor`](super::executor)).

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::watch;

use super::batch::{self, Batch};
use super::door::Shared;
use super::files::Files;
use super::job::End;
use super::wal::{self, Checkpoints};
use crate::catch::contain;
use crate::error::{Error, Result};
use crate::pool::{ConnectionPool, LaneClaim, PooledConnection, clock};

/// The way into a lane. When the last one is dropped, the lane ends after what is queued.
#[derive(Debug)]
pub(super) struct Lane {
    shared: Arc<Shared>,
    /// Its sender is dropped when the lane has let go of its connection.
    ended: watch::Receiver<()>,
}

impl Lane {
    /// Starts the lane of `pool`, which writes through a connection of its own for as long as it lives.
    ///
    /// # Errors
    /// [`Error::Config`] if the operating system gives no thread; what
    /// [`ConnectionPool::get`] returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, a lane that was started ends by itself.
    pub(super) async fn start(pool: &ConnectionPool, shared: Arc<Shared>, claim: LaneClaim) -> Result<Self> {
        let connection = pool.get().await?;
        connection.is_the_pools();
        let (alive, ended) = watch::channel(());
        let works = Arc::clone(&shared);
        let files = Files::of(pool.path(), &shared.executor);
        let task = Box::new(move || {
            Box::pin(async move {
                // In this order when it ends: what is queued is refused, the connection is back, the pool may have another
                // lane, whoever waits knows.
                let (_alive, _claim) = (alive, claim);
                work(Works(works), connection, files).await;
            }) as _
        });
        shared.executor.lane(task).map_err(|error| Error::Config {
            field: "the writer's thread",
            problem: format!("cannot be started: {error}; allow this process more threads"),
        })?;
        Ok(Self { shared, ended })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Resolves when the lane's connection is back in the pool.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Whether the lane has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The lane's own hold on what is shared. However the lane ends, nobody waits for it any more.
struct Works(Arc<Shared>);

impl Drop for Works {
    fn drop(&mut self) {
        self.0.close();
        self.0.refuse_the_rest();
    }
}

async fn work(works: Works, mut connection: PooledConnection, files: Files) {
    let shared = &*works.0;
    let mut checkpoints = Checkpoints::default();
    let mut batches = Batch::new(shared, files);
    loop {
        let job = poll_fn(|context| shared.queue.poll_job(context));
        let there_is_one = match checkpoints.is_due() {
            true => clock::within(shared.config.checkpoint_idle, job).await,
            false => Some(job.await),
        };
        match there_is_one {
            Some(true) => {}
            // It ends. What is not copied is in the log, safe, for whoever opens the database next.
            Some(false) => break,
            None => {
                checkpoints.run(shared, &mut connection).await;
                continue;
            }
        }
        match connection.renew().await {
            Ok(()) => batches.run_caught(&mut connection).await,
            // One job learns of it; the next one tries again.
            Err(error) => {
                if let Some(job) = shared.next() {
                    shared.settle(job, End::RolledBack(Arc::new(error)));
                }
            }
        }
        batch::let_go(&mut connection);
        if checkpoints.committed(shared) && shared.queue.len() == 0 {
            checkpoints.run(shared, &mut connection).await;
        }
    }
    if wal::is_in_doubt(shared) {
        // A last time: whoever opens the file next could not know.
        let _ = wal::repair(shared, &mut connection).await;
    }
    if checkpoints.is_due() {
        checkpoints.run(shared, &mut connection).await;
    }
}

/// Drops the engine's connection; it is damaged if that panics, but so is nothing else.
pub(super) fn discard(connection: &mut PooledConnection) {
    contain(|| connection.discard());
}
