//! The one seam between real locks and loom.
//!
//! The pool's core and the writer's queue take their locks, the queue's bound what its callers wait on, and the cache's versions
//! their counters, from `crate::sync` and from nowhere else. In this crate the lock is `parking_lot`'s, which the
//! engine brings with it: a third of the instructions of the standard library's, whose poisoning nothing here needs.
//! `tests/loom/main.rs` compiles the very same source of them in a crate whose own `crate::sync` is made of loom's, so the
//! model checker explores the code that ships and no other file ever mentions loom. (`Arc` is the standard library's there
//! too: methods take `self: &Arc<Self>`, which only the standard type allows.)

pub(crate) use std::sync::Arc;
#[cfg(feature = "cache")]
pub(crate) use std::sync::atomic::AtomicU64;

pub(crate) use tokio::sync::{Notify, Semaphore, TryAcquireError, oneshot};

/// A mutex without poisoning: nothing that can panic runs while the core holds its lock.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Runs `f` on the value. A closure instead of a guard, so that no lock can be held longer than a glance shows.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock())
    }
}
