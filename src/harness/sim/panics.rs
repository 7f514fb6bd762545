//! Panics inside a world are findings: not printed, but kept with the place where they happened.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

use crate::harness::panics::portable;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
    /// What the first one said, and where.
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// As long as it lives, panics of this thread are kept and not printed.
pub(super) struct Quiet(bool);

impl Drop for Quiet {
    fn drop(&mut self) {
        IS_INSIDE.set(self.0);
    }
}

/// The panics of this thread are findings from now on.
pub(super) fn record() -> Quiet {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match IS_INSIDE.get() {
            true => FIRST.with_borrow_mut(|first| {
                first.get_or_insert_with(|| {
                    let message = info.payload_as_str().unwrap_or("a panic without a text");
                    let at = info.location().map(|at| format!(" at {}:{}", portable(at.file()), at.line()));
                    format!("{message}{}", at.unwrap_or_default())
                });
            }),
            false => before(info),
        }));
    });
    FIRST.set(None);
    Quiet(IS_INSIDE.replace(true))
}

/// What the first panic since [`record`] said, and where it was.
pub(super) fn first() -> Option<String> {
    FIRST.take()
}
