//! Whether this thread runs a simulated world (feature `harness`), for those places of production code where something real
//! would get into one: a file of the operating system's, a thread, the real clock that an SQL function asks.
//!
//! A mark on the thread, set by the harness: production code must not know the harness.

use std::cell::RefCell;
use std::rc::Rc;

/// The world that a thread runs.
pub(crate) trait Simulated {
    /// Something real got in, and here is what.
    fn leaks(&self, what: String);
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn Simulated>>> = const { RefCell::new(None) };
}

/// As long as it lives, this thread runs a world.
pub(crate) struct Entered(Option<Rc<dyn Simulated>>);

/// This thread runs a world from now on.
pub(crate) fn enter(world: Rc<dyn Simulated>) -> Entered {
    Entered(WORLD.replace(Some(world)))
}

impl Drop for Entered {
    fn drop(&mut self) {
        WORLD.set(self.0.take());
    }
}

/// Whether this thread runs one.
pub(crate) fn is_simulated() -> bool {
    WORLD.with_borrow(Option::is_some)
}

/// Tells the world, if this thread runs one.
pub(crate) fn leaks(what: impl FnOnce() -> Option<String>) {
    let world = WORLD.with_borrow(Option::clone);
    if let Some(world) = world
        && let Some(what) = what()
    {
        world.leaks(what);
    }
}
