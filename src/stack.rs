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

/// For foreign key actions that reach their own table again: the engine recurses for each row that refers to another, some 3 KiB in
/// an optimised build. Only what is touched takes memory.
const MOST: usize = 512 << 20;

/// How much stack something needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// What any thread has.
    Usual,
    /// Nested SQL.
    More,
    /// As deep as the rows of a table refer to each other.
    Most,
}

impl From<bool> for Room {
    fn from(is_deep: bool) -> Self {
        if is_deep { Room::More } else { Room::Usual }
    }
}

/// Calls `work`, with room if it may be deep.
pub(crate) fn with_room<T>(room: impl Into<Room>, work: impl FnOnce() -> T) -> T {
    match room.into() {
        Room::Usual => work(),
        Room::More => stacker::maybe_grow(ENOUGH, ROOM, work),
        Room::Most => stacker::maybe_grow(MOST / 2, MOST, work),
    }
}

/// Awaits `work`, with room if it may be deep.
///
/// # Cancel safety
/// That of `work`.
pub(crate) async fn await_with_room<T>(room: impl Into<Room>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    match room.into() {
        Room::Usual => work.await,
        room => poll_fn(|context| with_room(room, || work.as_mut().poll(context))).await,
    }
}

/// The same for what runs a statement. One that has to wait, for a lock, may find another schema when it goes on: from then on it has
/// what `later` says, too, which `room` has afterwards.
///
/// # Cancel safety
/// That of `work`.
pub(crate) async fn await_with_more_room<T>(
    room: &mut Room,
    later: impl Fn() -> Room,
    work: impl Future<Output = T>,
) -> T {
    let (mut work, mut has_waited) = (pin!(work), false);
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            *room = later().max(*room);
        }
        with_room(*room, || work.as_mut().poll(context))
    })
    .await
}
