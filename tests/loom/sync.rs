//! `crate::sync` of the models: every taking of the lock is a place where another thread may come first.
//!
//! The reference count is the standard library's: stable Rust takes no other `Arc` as a receiver (`self: &Arc<Self>`), and
//! the core never asks for the count, so it is not worth interleavings. That no reference is lost is asserted at rest.

use std::cell::Cell;
pub(crate) use std::sync::Arc;
use std::sync::PoisonError;

pub(crate) use loom::sync::atomic::AtomicU64;

pub(crate) use crate::stand_ins::{Notify, Semaphore, TryAcquireError, oneshot};

std::thread_local! {
    /// How often the operating system's thread, on which loom runs all of a model's, took a lock.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    /// Whether it runs a model.
    static EXPLORING: Cell<bool> = const { Cell::new(false) };
}

/// How often `work` takes a lock; for models of one thread.
pub(crate) fn locks_taken(work: impl FnOnce()) -> usize {
    let before = TAKEN.get();
    work();
    TAKEN.get() - before
}

/// Loom's lock decides whose turn it is, the standard library's holds the value.
pub(crate) struct Mutex<T> {
    /// `None` outside a model.
    turn: Option<loom::sync::Mutex<()>>,
    value: std::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { turn: in_model().then(|| loom::sync::Mutex::new(())), value: std::sync::Mutex::new(value) }
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        TAKEN.set(TAKEN.get() + 1);
        let _turn = self.turn.as_ref().filter(|_| in_model()).map(loom::sync::Mutex::lock);
        f(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether loom may be called: in a model. (The unit tests of what is compiled here run as well, in none.) A model that failed
/// unwinds past an execution that is over; what is dropped on the way must leave loom alone, or the process aborts before the
/// failure can be read.
pub(crate) fn in_model() -> bool {
    EXPLORING.get() && !std::thread::panicking()
}

/// Explores a model on this thread.
pub(crate) fn exploring(explore: impl FnOnce()) {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            EXPLORING.set(false);
        }
    }

    EXPLORING.set(true);
    let _ends = Ends;
    explore();
}
