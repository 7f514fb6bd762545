//! The one place where time is read and waited for. It is tokio's clock, so a paused runtime controls it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep, timeout_at};

/// Whose timer is used; `None` outside a runtime.
pub(crate) type Runtime = Option<Id>;

/// The runtime that this is polled in.
#[inline]
pub(crate) fn runtime() -> Runtime {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// The present.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits.
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `deadline`.
pub(crate) fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline)
}

/// Lets others run on this processor, and other tasks on this thread.
pub(crate) async fn give_way() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}

/// A limit for a whole operation of several steps. The clock is read only once something has to be waited for.
pub(crate) struct Stopwatch {
    began: Option<Instant>,
    limit: Duration,
}

impl Stopwatch {
    /// For an operation that began then, or begins when it first has to wait.
    pub(crate) fn new(began: Option<Instant>, limit: Duration) -> Self {
        Self { began, limit }
    }

    /// When the operation first had to wait, if it had to.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// The future's output; `None` once the step has taken `step`, or the whole operation its limit.
    pub(crate) async fn run<F: Future>(&mut self, step: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
            return Some(output);
        }
        let now = now();
        let began = *self.began.get_or_insert(now);
        // A limit too long for the clock is none.
        let deadlines = [began.checked_add(self.limit), now.checked_add(step)];
        match deadlines.into_iter().flatten().min() {
            Some(deadline) => timeout_at(deadline, future).await.ok(),
            None => Some(future.await),
        }
    }
}

/// The future's output, or `None` once it has taken `limit` from `began` on.
pub(crate) async fn within_from<F: Future>(began: Instant, limit: Duration, future: F) -> Option<F::Output> {
    Stopwatch::new(Some(began), limit).run(limit, future).await
}

/// The future's output, or `None` once it has taken `limit`, from when it first has to wait.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    Stopwatch::new(None, limit).run(limit, future).await
}
