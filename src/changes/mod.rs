//! What is written, as far as a cache of reads must know it (feature `cache`).
//!
//! Every connection of a pool reports here, the lane's like any other: which tables the open transaction has written, and
//! when that may become visible. So nothing that commits needs to tell a cache, and nothing that goes around the lane is
//! missed. Rooms: `versions`, the protocol; `tables`, where in it a statement's tables are; `schema`, what only the database can
//! say: views, triggers, foreign keys.
//!
//! All pools of one process on one file share one [`Changes`]. A connection of the engine's own, made past this crate, is
//! the one writer that it does not hear of.

mod schema;
mod tables;
mod versions;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

pub(crate) use self::schema::Schema;
pub(crate) use self::tables::written;
pub(crate) use self::versions::{Photo, Slots, Versions};
use crate::sql::Text;
use crate::sync::Mutex;

/// The databases that pools of this process have open.
static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Changes>>>> = Mutex::new(None);

/// The writes to one database.
#[derive(Default)]
pub(crate) struct Changes {
    /// Empty until the first cache wants to know: until then a statement costs one look at it.
    watched: OnceLock<Versions>,
}

impl Changes {
    /// Those to the file at `path`, which exists by now; one of its own for a database that is no file.
    pub(crate) fn of(path: &Path) -> Arc<Self> {
        let Ok(file) = path.canonicalize() else { return Arc::default() };
        OPEN.with(|open| {
            let open = open.get_or_insert_default();
            open.retain(|_, changes| changes.strong_count() > 0);
            let known = open.get(&file).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let changes = Arc::default();
                open.insert(file, Arc::downgrade(&changes));
                changes
            })
        })
    }

    /// From now on connections report.
    pub(crate) fn watch(&self) -> &Versions {
        self.watched.get_or_init(|| Versions::new(Slots::COUNT))
    }
}

/// What one connection reports.
pub(crate) struct Tracker {
    changes: Arc<Changes>,
    /// Written by the open transaction, or by one that may be open.
    touched: Slots,
    /// Going on by this connection's doing.
    publishing: Slots,
    /// A statement of the open transaction ran while nobody watched.
    blind: bool,
    /// Something was done to this connection (a temporary trigger, an attached database, a log of changes) so that its
    /// statements may write more than they say.
    strange: bool,
}

impl Tracker {
    pub(crate) fn new(changes: Arc<Changes>) -> Self {
        Self { changes, touched: Slots::NONE, publishing: Slots::NONE, blind: false, strange: false }
    }

    /// A statement, or several, are about to run. A commit begins with whatever may make writes visible: a statement outside a
    /// transaction, COMMIT, the release of a savepoint.
    pub(crate) fn begins(&mut self, text: &Text, is_autocommit: impl FnOnce() -> bool) {
        let Some(versions) = self.changes.watched.get() else {
            self.blind = true;
            return;
        };
        let autocommit = is_autocommit();
        self.strange |= text.effects().strange;
        self.blind &= !autocommit;
        self.touched = self.touched.and(written(text));
        if self.blind || self.strange && !self.touched.is_none() {
            self.touched = self.touched.and(Slots::UNKNOWN);
        }
        self.touched = self.touched.with_every();
        if autocommit || text.effects().may_commit {
            publish(versions, &mut self.publishing, self.touched);
        }
    }

    /// The statement has ended; outside a transaction all that was written is visible, or gone.
    pub(crate) fn ended(&mut self, autocommit: bool) {
        let Some(versions) = self.changes.watched.get() else { return };
        if autocommit && self.blind {
            // It began before anybody watched, and may have become visible just now.
            publish(versions, &mut self.publishing, Slots::UNKNOWN.with_every());
        }
        versions.end(self.publishing);
        self.publishing = Slots::NONE;
        if autocommit {
            self.touched = Slots::NONE;
            self.blind = false;
        }
    }

    /// A statement is about to change the connection itself. Told whether or not anybody watches.
    pub(crate) fn alters(&mut self, text: &Text) {
        self.strange |= text.effects().strange;
    }
}

/// A commit of `slots` is going on from here until the statement has ended. One that was cut short is still going on, as far
/// as anybody can tell.
fn publish(versions: &Versions, publishing: &mut Slots, slots: Slots) {
    versions.begin(slots.without(*publishing));
    *publishing = publishing.and(slots);
}

impl Drop for Tracker {
    /// After the engine's connection: what it had not committed by now, it never will.
    fn drop(&mut self) {
        self.ended(true);
    }
}
