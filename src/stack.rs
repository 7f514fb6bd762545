//! Room on the stack for who calls itself.
//!
//! The engine's parser and compiler do, for each level of a statement, and an unoptimised build of them (0.8.3) needs more than the
//! 2 MiB of a worker of tokio's for 49 terms with AND between them: the process would end. So what may be deep is parsed, compiled
//! and run with [`ROOM`], on whatever thread; what needs more than that is refused before (`sql/depth.rs`, `sql/links.rs`). It
//! costs some microseconds where the thread has less, so what is shallow goes without.

use std::future::poll_fn;
use std::pin::pin;

/// The stack that a thread of ours has, and what others get for as long as they need it. Only what is touched takes memory.
pub(crate) const ROOM: usize = 16 << 20;

/// With so much left a thread needs no more.
const ENOUGH: usize = 12 << 20;

/// Calls `work`, with room if it may be deep.
pub(crate) fn with_room<T>(is_deep: bool, work: impl FnOnce() -> T) -> T {
    match is_deep {
        true => stacker::maybe_grow(ENOUGH, ROOM, work),
        false => work(),
    }
}

/// Awaits `work`, with room if it may be deep.
///
/// # Cancel safety
/// That of `work`.
pub(crate) async fn await_with_room<T>(is_deep: bool, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    match is_deep {
        true => poll_fn(|context| with_room(true, || work.as_mut().poll(context))).await,
        false => work.await,
    }
}
