//! Prepared statements of one connection, kept for the next time the same SQL comes.
//!
//! A statement in use is taken out of the cache and put back when it is done with, so a busy one is never handed out twice.
//! The engine prepares a statement again by itself when the schema has changed, but not well (0.8.3): it counts the columns
//! of the first row before, it takes a schema that was rolled back for a later one with the same number, and in a
//! transaction that began before the change it fails. So none is kept over a change that anybody makes through the same
//! pool, and while somebody is changing it none is kept at all.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use turso::Statement;

use super::statement::is_worth_keeping;

/// A longer text is not kept: it has its values in it and will not come again, and what is prepared of it is five times
/// as long.
const LONGEST: usize = 16 * 1024;

/// The changes of the schema that are made through one pool.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// How often it was changed, times [`CHANGE`], and how many are changing it now.
    changes: AtomicU64,
}

/// One change, over. There are never as many connections changing it at once.
const CHANGE: u64 = 1 << 32;

impl Schema {
    fn changes(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn changed(&self) {
        self.changes.fetch_add(CHANGE - 1, Ordering::AcqRel);
    }

    /// What it is now; `None` while somebody is changing it.
    fn at_rest(&self) -> Option<u64> {
        Some(self.changes.load(Ordering::Acquire)).filter(|changes| changes % CHANGE == 0)
    }
}

/// At most so many statements; the one unused longest makes room. `None` keeps none.
pub(super) struct Statements {
    kept: Option<LruCache<String, Statement>>,
    schema: Arc<Schema>,
    /// The schema for which those that are kept were prepared.
    seen: Option<u64>,
    /// This connection is changing it, until that is committed or rolled back.
    changing: bool,
}

impl Statements {
    pub(super) fn new(capacity: usize, schema: Arc<Schema>) -> Self {
        Self { kept: NonZeroUsize::new(capacity).map(LruCache::new), schema, seen: None, changing: false }
    }

    /// A statement is about to change the schema.
    pub(super) fn changes(&mut self) {
        if !std::mem::replace(&mut self.changing, true) {
            self.schema.changes();
        }
    }

    /// A statement has ended. If no transaction is open, what was changed is changed for all, or for nobody.
    pub(super) fn ended(&mut self, autocommit: bool) {
        if self.changing && autocommit {
            self.changing = false;
            self.schema.changed();
        }
    }

    /// The statement for `sql`, with the key to put it back by. `autocommit`: a transaction that is open may see the schema
    /// as it was, so what is prepared in it after a change is not for later.
    pub(super) fn take(&mut self, sql: &str, autocommit: bool) -> Option<(String, Statement)> {
        let kept = self.kept.as_mut()?;
        let schema = self.schema.at_rest();
        if schema.is_none() || schema != self.seen {
            kept.clear();
            self.seen = schema.filter(|_| autocommit);
        }
        kept.pop_entry(sql)
    }

    /// Puts a statement back that ran without an error.
    pub(super) fn put(&mut self, sql: String, statement: Statement) {
        if let Some(kept) = &mut self.kept
            && self.seen.is_some()
            && self.seen == self.schema.at_rest()
            && sql.len() <= LONGEST
            && is_worth_keeping(&sql)
            && statement.reset().is_ok()
        {
            kept.put(sql, statement);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.as_ref().map_or(0, LruCache::len)
    }
}

impl Drop for Statements {
    /// A change that was cut short may have been committed.
    fn drop(&mut self) {
        self.ended(true);
    }
}
