//! When waiting has taken too long: one alarm for all who wait, not a timer for each.
//!
//! All waiters of a pool have the same patience, so they run out of it in the order in which they came, and an alarm that
//! is set for the oldest serves everybody behind it: it is set again when it goes off, not whenever somebody is served.
//! A runtime may stop while another goes on, so each runtime in which somebody waits has an alarm of its own, a task that
//! lives while anybody waits. It holds no strong reference; it ends with the pool, and when its runtime drops it, those who
//! still wait set another.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use super::clock::{self, Runtime};
use super::core::{Acquire, Core};
use super::manage::Manage;
use super::upkeep::Kind;
use crate::sync::Arc;

/// The alarms of one pool. Dropping them ends their tasks.
#[derive(Default)]
pub(super) struct Alarms {
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Alarms {
    /// Sets an alarm in this runtime, of which somebody who waits was told that it has none.
    ///
    /// # Panics
    /// Outside a runtime, or if the runtime has no timer or is shutting down.
    pub(super) fn watch<M: Manage>(&self, waiter: &mut Acquire<'_, Kind<M>>) {
        let (core, runtime) = (waiter.core(), waiter.clock());
        if let Some(deadline) = core.context().config.end_of_waiting(waiter.stamp()) {
            let alarm = Arc::new(Alarm { core: Arc::downgrade(core), runtime, task: Mutex::default() });
            let mut sleep = Box::pin(clock::sleep_until(deadline));
            // Registered here, so that a runtime without a timer panics in front of who waits, not in the task.
            let bell = Waker::from(Arc::clone(&alarm));
            let _pending = sleep.as_mut().poll(&mut Context::from_waker(&bell));
            let task = Handle::current().spawn(Watch { alarm, sleep }).abort_handle();
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(|task| !task.is_finished());
            tasks.push(task);
        }
        waiter.is_watched();
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The alarm of one pool in one runtime. As a waker it is what the timer calls: those whose time is over are refused
/// there and then, however busy the runtime's tasks are. The task then sets the timer again.
struct Alarm<M: Manage> {
    core: Weak<Core<Kind<M>>>,
    runtime: Runtime,
    task: Mutex<Option<Waker>>,
}

impl<M: Manage> Alarm<M> {
    /// Refuses those whose time is over; says when the next one's is.
    fn ring(&self) -> Option<Instant> {
        let core = self.core.upgrade()?;
        let config = &core.context().config;
        let now = clock::now();
        let is_old = |came| config.end_of_waiting(came).is_some_and(|end| end <= now);
        core.ring(self.runtime, is_old).and_then(|came| config.end_of_waiting(came))
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Manage> Wake for Alarm<M> {
    fn wake(self: Arc<Self>) {
        self.ring();
        let task = self.task().take();
        task.into_iter().for_each(Waker::wake);
    }
}

/// Sets the timer until nobody waits.
struct Watch<M: Manage> {
    alarm: Arc<Alarm<M>>,
    sleep: Pin<Box<Sleep>>,
}

impl<M: Manage> Future for Watch<M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        *self.alarm.task() = Some(context.waker().clone());
        let bell = Waker::from(Arc::clone(&self.alarm));
        while self.sleep.as_mut().poll(&mut Context::from_waker(&bell)).is_ready() {
            match self.alarm.ring() {
                Some(deadline) => self.sleep.as_mut().reset(deadline),
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

impl<M: Manage> Drop for Watch<M> {
    fn drop(&mut self) {
        // Nothing is lost if nobody waits; otherwise the runtime has dropped it half-way.
        if let Some(core) = self.alarm.core.upgrade() {
            core.unwatch(self.alarm.runtime);
        }
    }
}
