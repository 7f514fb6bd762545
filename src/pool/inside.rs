//! Whether the caller is inside a closure that a writer runs, which holds a connection of its pool: what waits there for the end
//! of the lane or of the pool would wait for itself.
//!
//! A closure is polled in place, so a mark on the thread tells, set while it is polled and no longer: elsewhere, others are polled
//! on the same thread. What a closure waits for inherits its mark: a read inside a write is inside that write. A task that the
//! closure spawns is not inside it.

use std::cell::Cell;

/// What the caller is inside of, all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    /// A write: the lane waits for it.
    pub(crate) write: bool,
    /// A read whose answer others may wait for. What that waits for must not be such an answer: it may be its own.
    pub(crate) cached: bool,
}

impl Inside {
    /// A write alone.
    pub(crate) const WRITE: Self = Self { write: true, cached: false };

    /// Inside a read that others may wait for, too.
    #[cfg(feature = "cache")]
    pub(crate) fn and_a_cached_read(self) -> Self {
        Self { cached: true, ..self }
    }
}

thread_local! {
    static INSIDE: Cell<Option<Inside>> = const { Cell::new(None) };
}

/// What the caller is inside of, if it is inside a closure.
pub(crate) fn inside() -> Option<Inside> {
    INSIDE.get()
}

/// Whether the caller is inside a write.
pub(crate) fn is_inside_a_write() -> bool {
    inside().is_some_and(|inside| inside.write)
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
        within(Inside::WRITE, || {
            let ended = catch_unwind(|| within(Inside::default(), || panic!("{}", is_inside_a_write())));
            assert_eq!(ended.unwrap_err().downcast_ref::<String>().unwrap(), "false");
            assert!(is_inside_a_write());
        });
        assert_eq!(inside(), None);
    }
}
