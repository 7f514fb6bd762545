//! A larger stack for what recurses.
//!
//! The engine's parser and compiler recurse for each level of a statement, and an unoptimised build of them (0.8.3) needs more than
//! the 2 MiB of a tokio worker for 49 terms with AND between them; a stack overflow aborts the process. So deeply nested SQL is
//! parsed, compiled and run with [`ROOM`], on whatever thread; what needs more is refused before (`sql/depth.rs`,
//! `sql/nesting.rs`). Growing the stack takes some microseconds, so shallow SQL runs without.

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
