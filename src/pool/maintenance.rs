//! What a pool does when nobody asks it to: keep `min_idle` connections open, close those that nobody uses any more.
//!
//! Connections in use are looked at when they are taken and given back. Only a pool that rests needs a task, and only if a
//! setting asks for it. The task holds no strong reference while it waits, and ends with the last handle to the pool, even
//! in the middle of connecting.

use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::clock::{self, Stopwatch};
use super::config::PoolConfig;
use super::core::Core;
use super::forensics::Holder;
use super::manage::Manage;
use super::upkeep::{Kind, open_in, reap_one};
use crate::catch::catch;
use crate::sync::Arc;

/// The bounds of how often a pool is looked after.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(30);

/// The task of one pool, if it needs one. Dropping it ends the task.
#[derive(Default)]
pub(super) struct Maintenance {
    task: Mutex<Option<AbortHandle>>,
}

impl Maintenance {
    /// Starts the task if the pool needs one, none runs (any more: it ends with its runtime), and a runtime is there.
    pub(super) fn start<M: Manage>(&self, core: &Arc<Core<Kind<M>>>) {
        let Some(period) = period(&core.context().config) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(AbortHandle::is_finished) && !core.is_closed() {
            *task = Some(runtime.spawn(maintain(Arc::downgrade(core), period)).abort_handle());
        }
    }

    /// Ends the task, even in the middle of connecting.
    pub(super) fn stop(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How often the pool has to be looked after; `None` if never.
fn period(config: &PoolConfig) -> Option<Duration> {
    let limits = [config.idle_timeout, config.max_lifetime, (config.min_idle > 0).then_some(LONGEST)];
    limits.into_iter().flatten().min().map(|limit| (limit / 4).clamp(SHORTEST, LONGEST))
}

async fn maintain<M: Manage>(core: Weak<Core<Kind<M>>>, period: Duration) {
    loop {
        match core.upgrade() {
            // A panic of somebody else's code costs the connection it was about, and nothing else.
            Some(core) if !core.is_closed() => drop(catch(look_after(&core)).await),
            _ => return,
        }
        clock::sleep(period).await;
    }
}

async fn look_after<M: Manage>(core: &Arc<Core<Kind<M>>>) {
    let now = clock::now();
    while reap_one(core, now) {}
    refill(core).await;
}

/// Opens connections until `min_idle` are idle, there is no room, somebody waits, or one cannot be opened: then the next
/// acquire will say why.
async fn refill<M: Manage>(core: &Arc<Core<Kind<M>>>) {
    let context = core.context();
    while core.census().idle < context.config.min_idle
        && let Some(mut lease) = core.reserve(Holder::pool())
    {
        let limit = context.config.connect_timeout;
        let error = match Stopwatch::new(None, limit).run(limit, open_in(&mut lease, false)).await {
            Some(Ok(())) => continue,
            Some(Err(error)) => error.to_string(),
            None => format!("connecting took longer than {limit:?}"),
        };
        return context.observer().refill_failed(&error);
    }
}
