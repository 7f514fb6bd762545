//! Whether the caller is inside a closure that a writer runs, which holds a connection of its pool: what waits there for the end
//! of the lane or of the pool would wait for itself.
//!
//! A closure is polled in place, so a mark on the thread tells, set while it is polled and no longer: elsewhere, others are polled
//! on the same thread. A task that the closure spawns is not inside it.

use std::cell::Cell;

/// Which kind of closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    Read,
    /// One whose answer others may wait for. What it waits for must not be such an answer: that may be its own.
    #[cfg(feature = "cache")]
    CachedRead,
    Write,
}

thread_local! {
    static INSIDE: Cell<Option<Inside>> = const { Cell::new(None) };
}

/// What the caller is inside of.
pub(crate) fn inside() -> Option<Inside> {
    INSIDE.get()
}

/// Polls, or drops, a closure.
pub(crate) fn within<T>(inside: Inside, poll: impl FnOnce() -> T) -> T {
    struct Before(Option<Inside>);

    impl Drop for Before {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }

    let _before = Before(INSIDE.replace(Some(inside)));
    poll()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn the_mark_is_as_it_was_after_a_closure_that_panics() {
        within(Inside::Write, || {
            let ended = catch_unwind(|| within(Inside::Read, || panic!("inside {:?}", inside())));
            assert_eq!(ended.unwrap_err().downcast_ref::<String>().unwrap(), "inside Some(Read)");
            assert_eq!(inside(), Some(Inside::Write));
        });
        assert_eq!(inside(), None);
    }
}
