//! `crate::sync` of the models: every taking of the lock is a place where another thread may come first.
//!
//! The reference count is the standard library's: stable Rust takes no other `Arc` as a receiver (`self: &Arc<Self>`), and
//! the core never asks for the count, so it is not worth interleavings. That no reference is lost is asserted at rest.

use std::cell::Cell;
pub(crate) use std::sync::Arc;
use std::sync::PoisonError;

pub(crate) use loom::sync::atomic::AtomicU64;

std::thread_local! {
    /// How often the operating system's thread, on which loom runs all of a model's, took a lock.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// How often `work` takes a lock; for models of one thread.
pub(crate) fn locks_taken(work: impl FnOnce()) -> usize {
    let before = TAKEN.get();
    work();
    TAKEN.get() - before
}

/// Loom's lock decides whose turn it is, the standard library's holds the value.
pub(crate) struct Mutex<T> {
    turn: loom::sync::Mutex<()>,
    value: std::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { turn: loom::sync::Mutex::new(()), value: std::sync::Mutex::new(value) }
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        TAKEN.set(TAKEN.get() + 1);
        let _turn = in_model().then(|| self.turn.lock());
        f(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether loom may be called. A model that failed unwinds past an execution that is over; what is dropped on the way must
/// leave loom alone, or the process aborts before the failure can be read.
pub(crate) fn in_model() -> bool {
    !std::thread::panicking()
}
