//! Waiting for the end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Core, Parts};

/// Resolves when a closed core has no slot.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Close<'a, P: Parts> {
    core: &'a Core<P>,
    key: Option<usize>,
}

impl<'a, P: Parts> Close<'a, P> {
    pub(super) fn new(core: &'a Core<P>) -> Self {
        Self { core, key: None }
    }
}

impl<P: Parts> Future for Close<'_, P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let known = self.key;
        let (key, _unused) = self.core.state.with(|state| {
            if state.closed && state.slots.is_empty() {
                // The last release has drained the closers, this one among them.
                return (None, Some(waker));
            }
            match known {
                Some(key) => (Some(key), Some(std::mem::replace(&mut state.closers[key], waker))),
                None => (Some(state.closers.insert(waker)), None),
            }
        });
        self.key = key;
        if key.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<P: Parts> Drop for Close<'_, P> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let _waker = self.core.state.with(|state| state.closers.try_remove(key));
        }
    }
}
