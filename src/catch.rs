//! Running somebody else's code without going down with it.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Awaits `future`; if it panics, its locals are dropped and the panic's payload is returned.
pub(crate) async fn catch<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // A future that panicked is never polled again: it is dropped when this function returns.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await
}

/// The same, of a future whose panic is nobody's to hear of: `None`.
pub(crate) async fn outlive<T>(future: impl Future<Output = T>) -> Option<T> {
    catch(future).await.map_err(std::mem::forget).ok()
}

/// Calls `work`; `None` if it panics. The payload is not even dropped: it may panic in its turn.
pub(crate) fn contain<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).map_err(std::mem::forget).ok()
}

/// Drops what somebody else made. Should that panic, whoever calls this goes on.
pub(crate) fn drop_contained<T>(value: T) {
    contain(|| drop(value));
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}
