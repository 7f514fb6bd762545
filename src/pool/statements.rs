//! Prepared statements of one connection, kept for the next time the same SQL comes.
//!
//! A statement in use is taken out of the cache and put back when it is done with, so a busy one is never handed out twice.
//! The engine prepares a statement again by itself when the schema has changed.

use std::num::NonZeroUsize;

use lru::LruCache;
use turso::Statement;

use super::statement::is_worth_keeping;

/// At most so many statements; the one unused longest makes room. `None` keeps none.
pub(super) struct Statements {
    kept: Option<LruCache<String, Statement>>,
}

impl Statements {
    pub(super) fn new(capacity: usize) -> Self {
        Self { kept: NonZeroUsize::new(capacity).map(LruCache::new) }
    }

    /// The statement for `sql`, with the key to put it back by.
    pub(super) fn take(&mut self, sql: &str) -> Option<(String, Statement)> {
        self.kept.as_mut()?.pop_entry(sql)
    }

    /// Puts a statement back that ran without an error.
    pub(super) fn put(&mut self, sql: String, statement: Statement) {
        if let Some(kept) = &mut self.kept
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
