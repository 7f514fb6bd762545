//! Reads: a snapshot on a connection of the pool, where nothing that it does holds up the runtime.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{Location, resume_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::oneshot;

use super::PooledDatabaseWriter;
use super::outcome::CommitToken;
use crate::catch::catch;
use crate::error::{Error, Result};
use crate::pool::{PooledConnection, Snapshot};

/// What a read came to, or the panic that ended it.
type Answer<R, E> = std::result::Result<Result<R, E>, Box<dyn Any + Send>>;

impl PooledDatabaseWriter {
    /// Runs `work` on a snapshot: everything it reads is of one moment, whatever is written meanwhile. It never waits for a
    /// write, only for a connection. `work` moves to a thread of the runtime's blocking pool, and is written like that of
    /// [`write`](PooledDatabaseWriter::write).
    ///
    /// # Errors
    /// What `work` returns, what [`ConnectionPool::get`](crate::ConnectionPool::get) returns, or the engine's error.
    ///
    /// # Panics
    /// If `work` panics, with the same payload. Outside a tokio runtime.
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
                return Err(Error::misuse("the token is of another writer: nothing is known of it here").into());
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
        let mut guard = self.pool.get_from(site).await?;
        let (mut reply, answer) = oneshot::channel::<Answer<R, E>>();
        self.way.shared().executor.read(Box::new(move || {
            Box::pin(async move {
                guard.moves_here(site);
                let outcome = {
                    let mut reading = pin!(catch(read_snapshot(&mut guard, work)));
                    poll_fn(|context| match reply.poll_closed(context) {
                        Poll::Ready(()) => Poll::Ready(None),
                        Poll::Pending => reading.as_mut().poll(context).map(Some),
                    })
                    .await
                };
                // Back in the pool before the caller knows that it is over.
                drop(guard);
                if let Some(outcome) = outcome {
                    // Fails only if the caller left just now.
                    let _ = reply.send(outcome);
                }
            })
        }));
        match answer.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => resume_unwind(panic),
            // Never run: the runtime is shutting down.
            Err(_) => Err(Error::Closed.into()),
        }
    }
}

async fn read_snapshot<F, R, E>(guard: &mut PooledConnection, work: F) -> Result<R, E>
where
    F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E>,
    E: From<Error>,
{
    let mut snapshot = guard.snapshot().await?;
    let outcome = work(&mut snapshot).await;
    // What was read is right whatever happens now; a connection that cannot leave the snapshot is discarded.
    let _ = snapshot.end().await;
    outcome
}
