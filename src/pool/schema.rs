//! What all connections of this process to one file know of its schema: how often it was changed through a pool, and how deep
//! its views, triggers and foreign key actions go.
//!
//! Nesting that any connection found is never removed: what one of them sees may be temporary, or not committed.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::sql::{Nesting, Text};
use crate::stack::Room;
use crate::sync::Mutex;

#[derive(Debug, Default)]
pub(super) struct Schema {
    /// How often it was changed, times [`CHANGE`], and how many are changing it now.
    changes: AtomicU64,
    nesting: Mutex<Nesting>,
    /// What that asks for a statement that is prepared: a short one may be deeply nested.
    to_prepare: AtomicU8,
    /// A foreign key is, or was, deferred.
    has_deferred: AtomicBool,
}

/// One change, over. There are never as many connections changing it at once.
const CHANGE: u64 = 1 << 32;

impl Schema {
    /// A connection begins to change it.
    pub(super) fn changes(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// A connection has changed it, for all or for nobody.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(CHANGE - 1, Ordering::AcqRel);
    }

    /// What it is now; `None` while somebody is changing it.
    pub(super) fn at_rest(&self) -> Option<u64> {
        Some(self.changes.load(Ordering::Acquire)).filter(|changes| changes % CHANGE == 0)
    }

    /// Adds what a connection has found, or is about to create.
    pub(super) fn add_nesting(&self, nesting: Nesting) {
        if nesting.has_deferred() {
            self.mark_deferred();
        }
        if nesting.room_to_prepare() > Room::Usual {
            self.nesting.with(|all| {
                all.join(nesting);
                self.to_prepare.fetch_max(all.room_to_prepare() as u8, Ordering::Relaxed);
            });
        }
    }

    pub(super) fn mark_deferred(&self) {
        self.has_deferred.store(true, Ordering::Relaxed);
    }

    /// A table or an index of which a text is deep: who writes to it compiles that.
    pub(super) fn mark_deep(&self) {
        self.to_prepare.fetch_max(Room::More as u8, Ordering::Relaxed);
    }

    pub(super) fn has_deferred(&self) -> bool {
        self.has_deferred.load(Ordering::Relaxed)
    }

    /// What it takes to prepare a statement that is not deep itself.
    pub(super) fn room(&self) -> Room {
        match self.to_prepare.load(Ordering::Relaxed) {
            0 => Room::Usual,
            1 => Room::More,
            _ => Room::Most,
        }
    }

    /// What it takes to prepare a text.
    pub(super) fn room_to_prepare(&self, text: &Text) -> Room {
        self.room().max(text.is_deep().into())
    }

    /// What it takes to run a text. What a write reaches is nested as it runs.
    pub(super) fn room_to_run(&self, text: &Text) -> Room {
        let own = Room::from(text.is_deep());
        let effects = text.effects();
        if !effects.writes || self.room() == Room::Usual {
            return own;
        }
        let tables = (!effects.writes_anything).then(|| text.written().iter().map(|table| &**table));
        own.max(self.nesting.with(|nesting| nesting.room(tables)))
    }
}
