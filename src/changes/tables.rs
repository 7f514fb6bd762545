//! The tables that a statement writes, as places among the versions.
//!
//! A write names its table itself; what it does beyond that (triggers, foreign keys) is the schema's, and the schema is asked
//! by whoever reads ([`Schema`](super::Schema)): writing needs to know only the text.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::versions::Slots;
use crate::sql::Text;

/// What a text writes. Whatever is not plainly an INSERT, UPDATE or DELETE counts as a write to any table, unless it is known
/// to write nothing.
pub(crate) fn written(text: &Text) -> Slots {
    let start = if text.effects().writes_anything { Slots::UNKNOWN } else { Slots::NONE };
    text.written().iter().fold(start, |slots, name| slots.and(slot(name)))
}

/// The slot of a table, by its name in lower case.
pub(super) fn slot(name: &str) -> Slots {
    // The same in every process and release is not needed; the same for all users of one `Changes` is.
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let reserved = 2;
    Slots::one(reserved + (hasher.finish() % (Slots::COUNT as u64 - reserved as u64)) as usize)
}
