//! Reads: a snapshot on a connection of the pool, where nothing that it does holds up the runtime.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{Location, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::PooledDatabaseWriter;
use super::door::given_time;
use super::outcome::CommitToken;
use crate::catch::{catch, drop_contained};
use crate::error::{Error, Result};
use crate::pool::inside::{self, Inside};
use crate::pool::{PooledConnection, Snapshot, clock};

/// What a read came to, or the panic that ended it.
type Answer<R, E> = std::result::Result<Result<R, E>, Box<dyn Any + Send>>;

impl PooledDatabaseWriter {
    /// Runs `work` on a snapshot: everything it reads is of one moment, whatever is written meanwhile. It never waits for a
    /// write, only for a connection. `work` moves to a thread of the writer's own, in a runtime that has timers and nothing else,
    /// and is written like that of [`write`](PooledDatabaseWriter::write).
    ///
    /// A read that goes on keeps the WAL from being checkpointed; [`read_timeout`](crate::WriterConfig::read_timeout) limits it. A
    /// [`close`](PooledDatabaseWriter::close) inside it does not wait for it; one in a task that it spawns and waits for does, and neither
    /// ends without a `read_timeout`.
    ///
    /// # Errors
    /// What `work` returns, what [`ConnectionPool::get`](crate::ConnectionPool::get) returns, [`Error::ReadTimeout`],
    /// [`Error::Config`] if the operating system gives no thread, or the engine's error.
    ///
    /// # Panics
    /// If `work` panics, with the same payload. If it has to wait for a connection outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, `work` is dropped at its next await, and its connection goes back to the pool.
    #[track_caller]
    pub fn read<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>> + Send + '_
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.read_from(Location::caller(), work)
    }

    /// The same on a snapshot that has at least what the commit of `token` wrote.
    ///
    /// A snapshot is never older than the last commit that was acknowledged before the call, so this costs nothing; it says
    /// so, and it refuses a token of another writer, of which nothing is known here.
    ///
    /// # Errors
    /// As for [`read`](PooledDatabaseWriter::read), and [`Error::Misuse`] for a token that is not this writer's.
    ///
    /// # Panics
    /// As for [`read`](PooledDatabaseWriter::read).
    ///
    /// # Cancel safety
    /// As for [`read`](PooledDatabaseWriter::read).
    #[track_caller]
    pub fn read_after<F, R, E>(&self, token: CommitToken, work: F) -> impl Future<Output = Result<R, E>> + Send + '_
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let site = Location::caller();
        async move {
            let last = self.way.shared().last_commit();
            if last.writer != token.writer {
                return given_time(Err(
                    Error::misuse("the token is of another writer: nothing is known of it here").into()
                ))
                .await;
            }
            debug_assert!(token.number <= last.number, "a token is given out after its commit");
            self.read_from(site, work).await
        }
    }

    pub(super) async fn read_from<F, R, E>(&self, site: &'static Location<'static>, work: F) -> Result<R, E>
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let connection = self.pool.get_from(site).await?;
        let shared = self.way.shared();
        let limit = shared.config.read_timeout;
        let inside = inside::inside().unwrap_or_default();
        let (mut reply, answer) = oneshot::channel::<Answer<R, E>>();
        shared.executor.read(Box::new(move || {
            Box::pin(async move {
                let left = poll_fn(|context| reply.poll_closed(context));
                if let Some(outcome) = read_on(inside, site, connection, limit, left, work).await {
                    // Fails only if the caller left just now.
                    let _ = reply.send(outcome);
                }
            })
        }));
        match answer.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(not_read().into()),
        }
    }
}

/// Nothing came of a read: there was no thread for it.
pub(super) fn not_read() -> Error {
    Error::Config {
        field: "the writer's threads",
        problem: "could not be started for a read: allow this process more threads".to_owned(),
    }
}

/// Reads on a connection, which is back in the pool when this returns, for at most `limit` and for as long as somebody waits for
/// it. `None`: all of them `left`.
pub(super) async fn read_on<F, R, E>(
    inside: Inside,
    site: &'static Location<'static>,
    mut connection: PooledConnection,
    limit: Option<Duration>,
    left: impl Future<Output = ()>,
    work: F,
) -> Option<Answer<R, E>>
where
    F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E>,
    E: From<Error>,
{
    connection.moves_here(site);
    let outcome = {
        let mut reading = Box::pin(catch(read_snapshot(&mut connection, limit, work)));
        let outcome = until(left, poll_fn(|context| inside::within(inside, || reading.as_mut().poll(context)))).await;
        // What it captured is somebody else's, and may ask for the end of what it is in.
        inside::within(inside, || drop_contained(reading));
        outcome
    };
    // Whoever is handed it is woken here, by a waker of its own.
    drop_contained(connection);
    outcome
}

/// What `future` comes to; `None` if all `left` before.
pub(super) async fn until<F: Future>(left: impl Future<Output = ()>, future: F) -> Option<F::Output> {
    let (mut left, mut future) = (pin!(left), pin!(future));
    poll_fn(|context| match left.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Some),
    })
    .await
}

async fn read_snapshot<F, R, E>(guard: &mut PooledConnection, limit: Option<Duration>, work: F) -> Result<R, E>
where
    F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E>,
    E: From<Error>,
{
    let began = clock::now();
    let deadline = limit.and_then(|limit| began.checked_add(limit));
    let mut snapshot = guard.snapshot(deadline).await?;
    let outcome = match limit {
        None => work(&mut snapshot).await,
        Some(limit) => match clock::within_from(began, limit, work(&mut snapshot)).await {
            Some(outcome) => outcome,
            None => Err(Error::ReadTimeout(limit).into()),
        },
    };
    // What was read is right whatever happens now; a connection that cannot leave the snapshot is discarded.
    let _ = snapshot.end().await;
    outcome
}
