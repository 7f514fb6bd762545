//! The lane: one thread, one connection, one job after the other.
//!
//! A WAL database has one write lock. Whoever wants to write queues here instead of fighting for it, so nobody ever sees
//! `database is locked`. The engine does its I/O inside `poll` (a COMMIT of 2,000 rows was measured at up to 134 ms), so
//! the lane has a thread of its own, and no async worker ever waits for its disk.
//!
//! The queue is bounded and first come, first served. A job whose caller is gone before it starts is skipped; once
//! started it runs to its end, whether or not anybody still waits for it: nothing is ever half applied. A caller is
//! answered when the connection is settled: after the rollback, should there be one.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};

use crate::catch::catch;
use crate::error::{Error, Result};
use crate::pool::{ConnectionPool, PooledConnection};

/// Jobs that may wait; whoever comes when it is full waits for room, in order.
const QUEUE: usize = 1024;

/// Tells a job's caller how it ended.
pub(crate) type Reply = Box<dyn FnOnce() + Send>;

/// What a job does with the lane's connection, or with the reason why there is none.
pub(crate) type Job =
    Box<dyn for<'c> FnOnce(Result<&'c mut PooledConnection>) -> Pin<Box<dyn Future<Output = Reply> + 'c>> + Send>;

enum Message {
    Run(Job),
    Stop,
}

thread_local! {
    /// Whether this thread is a lane's.
    static IS_LANE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller runs on a lane's thread, that is inside a write.
pub(crate) fn is_here() -> bool {
    IS_LANE.get()
}

/// The way into a lane. The lane ends when it is stopped or its last handle is dropped, after what is queued.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    queue: mpsc::Sender<Message>,
    /// Its sender is dropped when the lane's thread has let go of its connection.
    ended: watch::Receiver<()>,
}

impl Lane {
    /// Starts the lane of `pool`, which writes through a connection of its own for as long as it lives.
    ///
    /// # Errors
    /// [`Error::Config`] if the pool has a lane already or the operating system gives no thread; what
    /// [`ConnectionPool::get`] returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, a thread that was started ends by itself.
    pub(crate) async fn start(pool: &ConnectionPool) -> Result<Self> {
        let Some(claim) = pool.claim_lane() else {
            let problem =
                "has a writer already: use a clone of that one, two would fight for the write lock".to_owned();
            return Err(Error::Config { field: "the pool", problem });
        };
        let connection = pool.get().await?;
        connection.is_the_pools();
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (alive, ended) = watch::channel(());
        let (started, starting) = oneshot::channel();
        let no_thread = |error: std::io::Error| Error::Config {
            field: "the writer's thread",
            problem: format!("cannot be started: {error}; allow this process more threads"),
        };
        thread::Builder::new()
            .name("poolproof-lane".to_owned())
            .spawn(move || {
                // In this order when it ends: the connection is back, the pool may have another lane, whoever waits knows.
                let (_alive, _claim) = (alive, claim);
                work(connection, jobs, started);
            })
            .map_err(no_thread)?;
        match starting.await {
            Ok(Ok(())) => Ok(Self { queue, ended }),
            Ok(Err(error)) => Err(no_thread(error)),
            Err(_) => Err(Error::Closed),
        }
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
        if is_here() {
            // Its end would wait for this. It is told, if there is room for that, and ends after this write.
            let _ = self.queue.try_send(Message::Stop);
            return;
        }
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

fn work(
    mut connection: PooledConnection,
    mut jobs: mpsc::Receiver<Message>,
    started: oneshot::Sender<std::io::Result<()>>,
) {
    IS_LANE.set(true);
    // Built here: a runtime must not be dropped inside another, as it would be if the thread could not be started.
    let runtime = match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    // Nobody listens any more if whoever started the lane was cancelled; then there will be no jobs either.
    let _ = started.send(Ok(()));
    runtime.block_on(async move {
        while let Some(message) = jobs.recv().await {
            match message {
                Message::Run(job) => run(job, &mut connection).await,
                Message::Stop => jobs.close(),
            }
        }
    });
}

/// Runs one job, settles the connection, answers. Nothing of the job's own, not even the drop of what it captured, may end
/// the lane by a panic.
async fn run(job: Job, connection: &mut PooledConnection) {
    let reply = match connection.renew().await {
        Ok(()) => catch(job(Ok(connection))).await,
        Err(error) => catch(job(Err(error))).await,
    };
    if connection.is_open() && !connection.is_reusable() {
        // Left in the middle of something: rolled back and unlocked by this, and replaced before the next job.
        connection.discard();
    }
    match reply {
        // A panic here is one of dropping an answer that nobody waits for.
        Ok(reply) => drop(catch_unwind(AssertUnwindSafe(reply)).map_err(std::mem::forget)),
        // Not even dropped: a payload may panic in its turn.
        Err(payload) => std::mem::forget(payload),
    }
}
