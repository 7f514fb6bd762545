//! The story's service: benchmarks are run while browsers poll, all of it on one [`PooledDatabaseWriter`].
//!
//! The rooms: `agent` (what the built-in agent does, from a seed), `executions` (runs while they go on), `view` (what is
//! shown of a session), `problem` (what a caller is told when something cannot be done), `gauges` (what `/metrics` says),
//! `page` (what a browser shows), `routes` (the addresses), `listen` (from the first request to the last), and this face.
//!
//! A running execution and a completed one are separate cases everywhere: a log asked for during a run is what there is so
//! far. What is asked for and cannot be done now is answered by 503 and a `Retry-After`, within the pool's own time-outs.

mod agent;
mod executions;
mod gauges;
mod listen;
mod page;
mod problem;
mod routes;
mod view;

use std::sync::Arc;

pub use executions::{Executions, MOST_AT_ONCE};
pub use listen::{MOST_CONNECTIONS, serve};
pub use routes::{Hosts, router};

use crate::runs::{Result, Runs, Store};
use crate::writer::PooledDatabaseWriter;
use gauges::Gauges;

/// As many bytes of answers that browsers poll are kept, unless somebody says otherwise ([`WriterConfig::cache`]).
///
/// [`WriterConfig::cache`]: crate::WriterConfig::cache
pub const CACHE: usize = 16 << 20;

/// What the handlers share. How agents work ([`Runs::agent_configs`]) is in the database, beside what they do.
///
/// A clone is another handle to the same; every request makes some.
#[derive(Debug)]
pub struct ApiState<S = PooledDatabaseWriter>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    db: Runs<S>,
    executions: Executions<S>,
    gauges: Arc<Gauges>,
}

impl<S> Clone for ApiState<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Store> ApiState<S> {
    /// Over these runs. Sessions that a process which is gone left running are marked as interrupted: they can be resumed.
    ///
    /// # Errors
    /// What [`Runs::interrupt_all`] returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, all are marked or none.
    pub async fn new(db: Runs<S>) -> Result<Self> {
        let interrupted = db.interrupt_all().await?;
        if interrupted > 0 {
            tracing::warn!(target: "poolproof", interrupted, "sessions of a process that is gone were marked as interrupted");
        }
        let gauges = Arc::new(Gauges::new(db.db().clone()));
        Ok(Self(Arc::new(Shared { executions: Executions::new(db.clone()), db, gauges })))
    }

    /// The runs.
    #[must_use]
    pub fn db(&self) -> &Runs<S> {
        &self.0.db
    }

    /// Those that go on.
    #[must_use]
    pub fn executions(&self) -> &Executions<S> {
        &self.0.executions
    }

    fn gauges(&self) -> &Arc<Gauges> {
        &self.0.gauges
    }
}
