//! The numbers of a writer that a simulated world looks at after each of its steps.

use std::sync::Arc;

use super::PooledDatabaseWriter;
use super::config::Mode;
use super::door::Shared;

/// What has to add up, whatever the writer is in the middle of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Writes that ever were in the queue.
    pub(crate) accepted: u64,
    /// Those that are in it.
    pub(crate) queued: u64,
    /// Those that ended: committed, rolled back, unknown, and skipped.
    pub(crate) ended: [u64; 4],
    pub(crate) commits: u64,
    /// Those that may be started and not ended, at most.
    pub(crate) at_once: u64,
    /// Room in a line when nobody takes any, and what is left of it in each.
    pub(crate) room: usize,
    pub(crate) room_left: [usize; 2],
}

impl PooledDatabaseWriter {
    /// Its numbers, for as long as it lives; does not keep it alive.
    pub(crate) fn watched(&self) -> impl Fn() -> Option<Watched> + Send + 'static + use<> {
        let shared = Arc::downgrade(self.way.shared());
        let connections = self.pool.status().max;
        move || Some(shared.upgrade()?.watched(connections))
    }
}

impl Shared {
    fn watched(&self, connections: usize) -> Watched {
        let status = self.counts.status();
        Watched {
            accepted: self.queue.end(),
            queued: self.queue.len() as u64,
            ended: [status.committed, status.rolled_back, status.unknown, self.queue.skipped()],
            commits: self.last_commit().number(),
            at_once: match self.config.mode {
                Mode::Wal => self.config.batch_jobs,
                Mode::Mvcc => connections,
            } as u64,
            room: self.config.queue,
            room_left: self.queue.room_left(),
        }
    }
}
