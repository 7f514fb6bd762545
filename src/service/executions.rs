//! Runs while they go on: each a task of its own, none of which a caller that goes away leaves half begun.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agent::{self, Planned};
use crate::runs::{AgentConfig, BenchmarkFile, BenchmarkId, Error, NewSession, Result, Runs, SessionId, Store};
use crate::writer::PooledDatabaseWriter;

/// As many go on at the same time; more are refused.
pub const MOST_AT_ONCE: usize = 64;

/// So often is a write tried that had no effect, or of which nobody knows: with the pauses between, some ten seconds.
const TRIES: u32 = 15;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The runs that go on. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Executions<S = PooledDatabaseWriter> {
    db: Runs<S>,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBegun {
    #[error(transparent)]
    Runs(#[from] Error),
    #[error("{MOST_AT_ONCE} runs go on already")]
    NoRoom,
    #[error("the service is stopping")]
    Stopping,
    #[error("session {0} is of another benchmark")]
    OtherBenchmark(SessionId),
}

impl<S: Store> Executions<S> {
    pub(super) fn new(db: Runs<S>) -> Self {
        let stop = CancellationToken::new();
        Self { db, room: Arc::new(Semaphore::new(MOST_AT_ONCE)), tasks: TaskTracker::new(), stop }
    }

    /// How many go on.
    #[must_use]
    pub fn running(&self) -> usize {
        MOST_AT_ONCE - self.room.available_permits()
    }

    /// A session begins. It is in the database when this returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, it begins and runs to its end, unobserved, or does not begin.
    pub(super) async fn run(
        &self,
        benchmark: BenchmarkId,
        agent: String,
        seed: Option<u64>,
    ) -> Result<SessionId, NotBegun> {
        let id = SessionId::fresh();
        let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let db = self.db.clone();
        self.start(id.clone(), async move {
            let plan = plan(&db, &benchmark, &agent, seed).await?;
            let new = NewSession { id: id.clone(), benchmark, agent, interface: "http".to_owned(), seed };
            if let Err(error) = db.create_session(new).await {
                if matches!(error, Error::Database(crate::Error::Unknown { .. })) {
                    // It may be there after all, and nobody runs it.
                    interrupt(&db, &id).await;
                }
                return Err(error.into());
            }
            Ok((plan, 0))
        })
        .await
    }

    /// A session that was interrupted goes on. It is noted so when this returns.
    ///
    /// # Cancel safety
    /// As of [`run`](Self::run).
    pub(super) async fn resume(&self, benchmark: BenchmarkId, id: SessionId) -> Result<SessionId, NotBegun> {
        let db = self.db.clone();
        self.start(id.clone(), async move {
            let log = db.session_log(id.clone()).await?;
            if log.session.benchmark_id != benchmark {
                return Err(NotBegun::OtherBenchmark(id));
            }
            let plan = plan(&db, &benchmark, &log.session.agent, log.session.seed).await?;
            db.resume_session(&id).await?;
            Ok((plan, log.chunks.len()))
        })
        .await
    }

    async fn start(
        &self,
        id: SessionId,
        begin: impl Future<Output = Result<(Vec<Planned>, usize), NotBegun>> + Send + 'static,
    ) -> Result<SessionId, NotBegun> {
        if self.stop.is_cancelled() {
            return Err(NotBegun::Stopping);
        }
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| NotBegun::NoRoom)?;
        let (told, answer) = oneshot::channel();
        let (db, stop, session) = (self.db.clone(), self.stop.clone(), id.clone());
        // In a task from the beginning on: a caller that goes away must not leave a session that nobody runs.
        self.tasks.spawn(async move {
            let room: OwnedSemaphorePermit = room;
            match begin.await {
                Ok((plan, from)) => {
                    // Whether anybody still listens does not matter.
                    let _ = told.send(Ok(()));
                    let work = tokio::spawn(perform(db.clone(), session.clone(), plan, from, stop));
                    if work.await.is_err() {
                        interrupt(&db, &session).await;
                    }
                }
                Err(error) => drop(told.send(Err(error))),
            }
            drop(room);
        });
        // Only a panic leaves it without an answer.
        answer.await.unwrap_or(Err(NotBegun::Stopping)).map(|()| id)
    }

    /// Ends all: each session is marked as interrupted after the step that it has written. No other begins.
    ///
    /// # Cancel safety
    /// They are told at the first poll, whether or not this is awaited to its end; it may be called again.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What the agent is going to do.
async fn plan<S: Store>(db: &Runs<S>, benchmark: &BenchmarkId, agent: &str, seed: u64) -> Result<Vec<Planned>> {
    let content = db.benchmark(benchmark).await?.content;
    // It was written by this program, from a file that had been checked.
    let file: BenchmarkFile = serde_json::from_str(&content)
        .map_err(|error| Error::File { path: format!("benchmark {benchmark}"), problem: error.to_string() })?;
    let said = db.agent_configs().await?.into_iter().find(|config| config.agent == agent);
    Ok(agent::plan(&file, &said.unwrap_or_else(|| AgentConfig::of(agent)), seed))
}

/// Does all from the step `from` on, and ends the session.
async fn perform<S: Store>(db: Runs<S>, id: SessionId, plan: Vec<Planned>, from: usize, stop: CancellationToken) {
    for planned in plan.iter().skip(from) {
        let stopped = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(planned.takes) => false,
        };
        if stopped {
            return interrupt(&db, &id).await;
        }
        let mut done = planned.done.clone();
        if let Some(call) = &mut done.call {
            call.at_ms = crate::runs::now_ms();
        }
        if let Err(error) = again(|| db.append_step(&id, done.clone())).await {
            tracing::error!(target: "poolproof", session = %id, %error, "a run cannot go on");
            return interrupt(&db, &id).await;
        }
    }
    let ended = agent::end(&plan);
    match again(|| db.complete_session(&id, ended.clone())).await {
        // The try before this one was written after all.
        Ok(()) | Err(Error::Over(_)) => {}
        Err(error) => {
            tracing::error!(target: "poolproof", session = %id, %error, "a run cannot end");
            interrupt(&db, &id).await;
        }
    }
}

/// Marks a session as interrupted. If even that cannot be written, whoever opens the database next does it.
async fn interrupt<S: Store>(db: &Runs<S>, id: &SessionId) {
    match again(|| db.interrupt_session(id)).await {
        Ok(()) | Err(Error::NoSession(_) | Error::Over(_)) => {}
        Err(error) => {
            tracing::error!(target: "poolproof", session = %id, %error, "a run that stopped cannot be marked as interrupted");
        }
    }
}

/// Writes something that may be written twice, until it is written or cannot be.
async fn again<F: Future<Output = Result<()>>>(write: impl Fn() -> F) -> Result<()> {
    let mut pause = Duration::from_millis(10);
    for _ in 1..TRIES {
        match write().await {
            Err(Error::Database(error)) if may_pass(&error) => {}
            outcome => return outcome,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    write().await
}

/// Whether the same write may succeed at another time.
fn may_pass(error: &crate::Error) -> bool {
    use crate::Error::{AcquireTimeout, Deadline, Full, Locked, Unknown};
    matches!(error, Unknown { .. })
        || matches!(error.cause(), AcquireTimeout(_) | Deadline { .. } | Full(_) | Locked { .. })
}
