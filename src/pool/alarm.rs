//! When waiting has taken too long: one alarm for all who wait, not a timer for each.
//!
//! All waiters of a pool have the same patience, so they run out of it in the order in which they came, and an alarm that
//! is set for the oldest serves everybody behind it: it is set again when it goes off, not whenever somebody is served.
//! A runtime may stop while another goes on, so each runtime in which somebody waits has an alarm of its own, a task that
//! ends when it goes off and nobody waits. It holds no strong reference; it ends with the pool, and when its runtime drops
//! it, those who still wait set another.

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
    /// Sets an alarm in this runtime, for the oldest in the queue: a waiter was told that there is none.
    ///
    /// # Panics
    /// Outside a runtime, or if the runtime has no timer or is shutting down.
    pub(super) fn watch<M: Manage>(&self, waiter: &mut Acquire<'_, Kind<M>>, oldest: Instant) {
        let (core, runtime) = (waiter.core(), waiter.clock());
        if let Some(deadline) = core.context().config.end_of_waiting(oldest) {
            let alarm = Arc::new(Alarm { core: Arc::downgrade(core), runtime, task: Mutex::default() });
            let mut sleep = Box::pin(clock::sleep_until(deadline));
            // Registered here, so that a runtime without a timer panics in front of who waits, not in the task.
            let bell = Waker::from(Arc::clone(&alarm));
            let _pending = sleep.as_mut().poll(&mut Context::from_waker(&bell));
            let task = Handle::current().spawn(Watch { alarm, sleep, is_over: false }).abort_handle();
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(|task| !task.is_finished());
            tasks.push(task);
        } else {
            // A limit beyond the clock needs no alarm, and nobody who would take it off the list.
            core.forget(runtime);
        }
        waiter.is_watched();
    }

    /// Ends the alarms of a pool in which nobody waits any more.
    pub(super) fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        self.stop();
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
    /// Refuses those whose time is over.
    fn expire(&self) {
        let Some(core) = self.core.upgrade() else { return };
        core.expire(core.context().config.is_over(clock::now()));
    }

    /// The same, and says when the next one's time will be over. If nobody waits, this alarm is none any more.
    fn ring(&self) -> Option<Instant> {
        let core = self.core.upgrade()?;
        let config = &core.context().config;
        core.ring(self.runtime, config.is_over(clock::now())).and_then(|came| config.end_of_waiting(came))
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Manage> Wake for Alarm<M> {
    fn wake(self: Arc<Self>) {
        self.expire();
        let task = self.task().take();
        task.into_iter().for_each(Waker::wake);
    }
}

/// Sets the timer until nobody waits.
struct Watch<M: Manage> {
    alarm: Arc<Alarm<M>>,
    sleep: Pin<Box<Sleep>>,
    is_over: bool,
}

impl<M: Manage> Future for Watch<M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        *self.alarm.task() = Some(context.waker().clone());
        let bell = Waker::from(Arc::clone(&self.alarm));
        while self.sleep.as_mut().poll(&mut Context::from_waker(&bell)).is_ready() {
            match self.alarm.ring() {
                Some(deadline) => self.sleep.as_mut().reset(deadline),
                None => {
                    self.is_over = true;
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }
}

impl<M: Manage> Drop for Watch<M> {
    fn drop(&mut self) {
        // Dropped half-way: by the runtime that shuts down, or with the pool.
        if !self.is_over
            && let Some(core) = self.alarm.core.upgrade()
        {
            core.unwatch(self.alarm.runtime);
        }
    }
}
