//! Panics inside a world are findings: not printed, but kept with the place where they happened.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

use crate::harness::panics::portable;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
    static FIRST: RefCell<Option<First>> = const { RefCell::new(None) };
}

/// The first panic.
pub(super) struct First {
    /// What it said, and in which line.
    pub(super) message: String,
    /// The place, with its column.
    pub(super) at: Option<String>,
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
                    let text = info.payload_as_str().unwrap_or("a panic without a text");
                    let line = info.location().map(|at| format!("{}:{}", portable(at.file()), at.line()));
                    let at = info.location().zip(line.as_ref()).map(|(at, line)| format!("{line}:{}", at.column()));
                    let message = line.map_or(text.to_owned(), |line| format!("{text} at {line}"));
                    First { message, at }
                });
            }),
            false => before(info),
        }));
    });
    FIRST.set(None);
    Quiet(IS_INSIDE.replace(true))
}

/// The first panic since [`record`].
pub(super) fn first() -> Option<First> {
    FIRST.take()
}
