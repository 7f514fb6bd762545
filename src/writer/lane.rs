//! The lane: one thread, one connection, one job after the other.
//!
//! A WAL database has one write lock. Whoever wants to write queues here instead of fighting for it, so nobody ever sees
//! `database is locked`. The engine does its I/O inside `poll` (a COMMIT of 2,000 rows was measured at up to 134 ms), so
//! the lane has a thread of its own, and no async worker ever waits for its disk.
//!
//! The queue is bounded and first come, first served. A job whose caller is gone before it starts is skipped; once
//! started it runs to its end, whether or not anybody still waits for it: nothing is ever half applied.

use std::future::Future;
use std::pin::Pin;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::error::{Error, Result};
use crate::pool::{ConnectionPool, PooledConnection};

/// Jobs that may wait; whoever comes when it is full waits for room, in order.
const QUEUE: usize = 1024;

/// What a job does with the lane's connection, or with the reason why there is none. It answers its own caller and does
/// not panic.
pub(crate) type Job =
    Box<dyn for<'c> FnOnce(Result<&'c mut PooledConnection>) -> Pin<Box<dyn Future<Output = ()> + 'c>> + Send>;

enum Message {
    Run(Job),
    Stop,
}

/// The way into a lane. The lane ends when it is stopped or its last handle is dropped, after what is queued.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    queue: mpsc::Sender<Message>,
    /// Its sender is dropped when the lane's thread has let go of its connection.
    ended: watch::Receiver<()>,
}

impl Lane {
    /// Starts a lane that writes through `connection`, and through another of `pool` should that one have to be
    /// discarded.
    ///
    /// # Errors
    /// [`Error::Config`] if the operating system gives no thread.
    pub(crate) fn start(pool: ConnectionPool, connection: PooledConnection) -> Result<Self> {
        let no_thread = |error: std::io::Error| Error::Config {
            field: "the writer's thread",
            problem: format!("cannot be started: {error}; allow this process more threads"),
        };
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (alive, ended) = watch::channel(());
        let runtime = Builder::new_current_thread().enable_time().build().map_err(no_thread)?;
        thread::Builder::new()
            .name("poolproof-lane".to_owned())
            .spawn(move || {
                work(&runtime, pool, connection, jobs);
                drop(alive);
            })
            .map_err(no_thread)?;
        Ok(Self { queue, ended })
    }

    /// Queues a job, waiting for room.
    ///
    /// # Errors
    /// [`Error::Closed`] once the lane was stopped.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the job is not queued.
    pub(crate) async fn queue(&self, job: Job) -> Result<()> {
        self.queue.send(Message::Run(job)).await.map_err(|_| Error::Closed)
    }

    /// Lets the lane finish what is queued, refuses what comes later, and resolves when its connection is back in the
    /// pool.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the lane may or may not have been told; it may be called again.
    pub(crate) async fn stop(&self) {
        // Fails only if the lane has ended already.
        let _ = self.queue.send(Message::Stop).await;
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Jobs that wait for the lane.
    pub(crate) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

fn work(runtime: &Runtime, pool: ConnectionPool, connection: PooledConnection, mut jobs: mpsc::Receiver<Message>) {
    runtime.block_on(async move {
        let mut connection = Some(connection);
        while let Some(message) = jobs.recv().await {
            match message {
                Message::Run(job) => run(job, &pool, &mut connection).await,
                Message::Stop => jobs.close(),
            }
        }
    });
}

/// Runs one job; a connection that it leaves in the middle of something is replaced.
async fn run(job: Job, pool: &ConnectionPool, connection: &mut Option<PooledConnection>) {
    let held = match connection.take() {
        Some(held) => Ok(held),
        None => pool.get().await,
    };
    match held {
        Ok(mut held) => {
            job(Ok(&mut held)).await;
            // Otherwise dropped here, which discards it: its transaction is rolled back and the lock is free.
            if held.is_reusable() {
                *connection = Some(held);
            }
        }
        Err(error) => job(Err(error)).await,
    }
}
