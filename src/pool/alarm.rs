//! When waiting has taken too long: one alarm for all who wait, not a timer for each.
//!
//! All waiters of a pool have the same patience, so they run out of it in the order in which they came, and an alarm that
//! is set for the oldest serves everybody behind it: it is set again when it goes off, not whenever somebody is served.
//! Who comes to a long queue does not even read the clock: while somebody does so, the alarm ticks, and each tick is the time
//! from which those count who came since the last. That is later than they came, so nobody is refused early, and nobody more
//! than a tick late.
//!
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
    /// Sets an alarm in this runtime: a waiter was told that there is none.
    ///
    /// # Panics
    /// Outside a runtime, or if the runtime has no timer or is shutting down.
    pub(super) fn watch<M: Manage>(&self, waiter: &mut Acquire<'_, Kind<M>>) {
        let (core, runtime, now) = (waiter.core(), waiter.clock(), clock::now());
        let config = &core.context().config;
        if config.end_of_waiting(now).is_some() {
            let alarm = Arc::new(Alarm { core: Arc::downgrade(core), runtime, task: Mutex::default() });
            // The task looks for whom to set it, when it begins; should that take long, it goes off before.
            let mut sleep = Box::pin(clock::sleep_until(now + config.tick()));
            // Registered here, so that a runtime without a timer panics in front of who waits, not in the task.
            let bell = Waker::from(Arc::clone(&alarm));
            let _pending = sleep.as_mut().poll(&mut Context::from_waker(&bell));
            let task = Handle::current().spawn(Watch { alarm, sleep, is_over: false }).abort_handle();
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(|task| !task.is_finished());
            tasks.push(task);
        } else {
            // A limit beyond the clock needs no alarm, and nobody who would take it off the list.
            core.forget(runtime, clock::now);
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
    /// Refuses those whose time is over, and sees to it that everybody's time counts.
    fn expire(&self) {
        let Some(core) = self.core.upgrade() else { return };
        let config = &core.context().config;
        core.expire(clock::now, |came, now| config.is_over(came, now));
    }

    /// The same, and says when to go off next: when the next one's time will be over, or with the next tick. If nobody waits
    /// and nobody has for long, this alarm is none any more.
    ///
    /// Until the timer goes off nobody is refused: whoever gives something back in time comes first.
    fn ring(&self, bell: Waker, is_due: bool) -> Option<Instant> {
        let core = self.core.upgrade()?;
        let config = &core.context().config;
        let next = core.ring(self.runtime, bell, clock::now, |came, now| is_due && config.is_over(came, now))?;
        let deadline = config.end_of_waiting(next.oldest)?;
        Some(if next.ticks { deadline.min(clock::now() + config.tick()) } else { deadline })
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
        let mut is_due = self.sleep.as_mut().poll(&mut Context::from_waker(&bell)).is_ready();
        // Each poll counts: it begins, the timer went off, or somebody came who has no stamp.
        loop {
            let Some(deadline) = self.alarm.ring(bell.clone(), is_due) else {
                self.is_over = true;
                return Poll::Ready(());
            };
            self.sleep.as_mut().reset(deadline);
            is_due = self.sleep.as_mut().poll(&mut Context::from_waker(&bell)).is_ready();
            if !is_due {
                return Poll::Pending;
            }
        }
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;

    use super::*;
    use crate::pool::config::PoolConfig;
    use crate::pool::forensics::Holder;
    use crate::pool::hooks::Hooks;
    use crate::pool::upkeep;

    struct Numbers;

    impl Manage for Numbers {
        type Connection = u32;
        type Error = Infallible;

        async fn connect(&self) -> Result<u32, Infallible> {
            Ok(7)
        }

        fn is_reusable(&self, _: &mut u32) -> bool {
            true
        }
    }

    #[tokio::test(start_paused = true)]
    async fn alarms_that_ended_are_not_kept() {
        let config = PoolConfig::default();
        let limit = config.acquire_timeout;
        let core = Arc::new(Core::<Kind<Numbers>>::new(1, upkeep::Context::new(Numbers, config, Hooks::new())));
        let _held = core.reserve(Holder::pool()).expect("nobody has it");
        for _ in 0..10 {
            let mut waiter = core.acquire(Holder::pool(), clock::runtime());
            let waits = poll_fn(|context| Poll::Ready(waiter.poll(context, clock::now).is_pending())).await;
            assert!(waits && waiter.unwatched(), "the one before ended, for nobody waited");
            core.context().alarms().watch(&mut waiter);
            drop(waiter);
            clock::sleep(2 * limit).await;
        }
        let kept = core.context().alarms().tasks.lock().unwrap().len();
        assert!(kept <= 2, "{kept} handles of alarms, all but one of which ended");
    }
}
