//! Prepared statements of one connection, kept for the next time the same SQL comes.
//!
//! A statement in use is taken out of the cache and put back when it is done with, so a busy one is never handed out twice.
//! The engine prepares a statement again by itself when the schema has changed, but not well (0.8.3): it counts the columns
//! of the first row before, it takes a schema that was rolled back for a later one with the same number, and in a
//! transaction that began before the change it fails. So none is kept over a change that anybody makes through a pool
//! of this process, and while somebody is changing it none is kept at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use turso::Statement;

use super::parameters::Parameters;
use crate::sql::{Kind, Text};

/// A longer text is not kept: it has its values in it and will not come again, and what is prepared of it is five times
/// as long.
const LONGEST: usize = 16 * 1024;

/// The changes of a file's schema that are made through pools of this process.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// How often it was changed, times [`CHANGE`], and how many are changing it now.
    changes: AtomicU64,
    /// It has, or had, views, triggers or foreign key actions, so that a short statement may be deeply nested.
    has_nesting: AtomicBool,
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

    pub(super) fn mark_nesting(&self) {
        self.has_nesting.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_nesting(&self) -> bool {
        self.has_nesting.load(Ordering::Relaxed)
    }

    /// What it is now; `None` while somebody is changing it.
    fn at_rest(&self) -> Option<u64> {
        Some(self.changes.load(Ordering::Acquire)).filter(|changes| changes % CHANGE == 0)
    }
}

/// A statement, outside the cache: it is about to run, or runs.
pub(super) struct Prepared {
    pub(super) sql: String,
    pub(super) text: Arc<Text>,
    pub(super) statement: Statement,
    pub(super) parameters: Parameters,
    /// When it was prepared, or ran last; at another [generation](super::connection) the engine prepares it anew as it runs.
    pub(super) generation: u32,
}

impl Prepared {
    /// One that was prepared just now.
    pub(super) fn new(
        sql: &str,
        text: Arc<Text>,
        statement: Statement,
        parameters: Parameters,
        generation: u32,
    ) -> Self {
        Self { sql: sql.to_owned(), text, statement, parameters, generation }
    }

    /// Whether whoever runs it wants its rows. (A pragma that sets something may have columns and give none.)
    pub(super) fn gives_rows(&self) -> bool {
        self.statement.column_count() > 0 && (self.text.repeats() || self.text.kind() == Kind::Telling)
    }
}

/// The statements of one connection that wait to be used again.
pub(super) struct Statements {
    /// How many may be kept.
    capacity: usize,
    /// From the one unused longest to the one used last. A statement that comes again soon is found at once, any other by
    /// the length of its text, mostly; to tell them apart by a hash costs more than to run some of them.
    kept: Vec<Prepared>,
    schema: Arc<Schema>,
    /// The schema for which those that are kept were prepared.
    seen: Option<u64>,
    /// This connection is changing it, until that is committed or rolled back.
    changing: bool,
}

impl Statements {
    pub(super) fn new(capacity: usize, schema: Arc<Schema>) -> Self {
        Self { capacity, kept: Vec::new(), schema, seen: None, changing: false }
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

    /// The statement for `sql`, if it is kept. `autocommit`: a transaction that is open may see the schema as it was, so what
    /// is prepared in it after a change is not for later.
    pub(super) fn take(&mut self, sql: &str, autocommit: bool) -> Option<Prepared> {
        let schema = self.schema.at_rest();
        if schema.is_none() || schema != self.seen {
            self.kept.clear();
            self.seen = schema.filter(|_| autocommit);
        }
        let place = self.kept.iter().rposition(|kept| kept.sql == sql)?;
        Some(self.kept.remove(place))
    }

    /// Puts a statement back that ran without an error. `at_end`: there is nothing left of its run.
    pub(super) fn put(&mut self, prepared: Prepared, at_end: bool) {
        let Prepared { sql, text, statement, .. } = &prepared;
        if self.capacity > 0
            && self.seen.is_some()
            && self.seen == self.schema.at_rest()
            && sql.len() <= LONGEST
            && text.repeats()
            && (at_end || statement.reset().is_ok())
        {
            if self.kept.len() == self.capacity {
                self.kept.remove(0);
            }
            self.kept.push(prepared);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

impl Drop for Statements {
    /// A change that was cut short may have been committed.
    fn drop(&mut self) {
        self.ended(true);
    }
}
