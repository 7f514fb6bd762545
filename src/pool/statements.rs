//! Prepared statements of one connection, kept for the next time the same SQL comes.
//!
//! A statement in use is taken out of the cache and put back when it is done with, so a busy one is never handed out twice.
//! The engine prepares a statement again by itself when the schema has changed, but not well (0.8.3): it counts the columns
//! of the first row before, it takes a schema that was rolled back for a later one with the same number, and in a
//! transaction that began before the change it fails. So none is kept over a change that anybody makes through a pool
//! of this process, and while somebody is changing it none is kept at all.

use std::sync::Arc;

use turso::params::Params;
use turso::{Statement, Value};

use super::parameters::Parameters;
use super::schema::Schema;
use crate::error::Result;
use crate::sql::{Kind, Text};
use crate::stack::Room;

/// A longer text is not kept: it has its values in it and will not come again.
const LONGEST: usize = 8 * 1024;

/// So long may all of those be together that a connection keeps. What is prepared of them takes 5 to 150 times as many bytes (the
/// most if they name many values, each of which is three instructions), so at most some MiB.
const ALL: usize = 32 * 1024;

/// With parameters of more bytes a statement is not kept: it would hold them until it runs again, and to prepare it anew costs less
/// than to do something with so many.
const HEAVY: usize = 64 * 1024;

/// A statement, outside the cache: it is about to run, or runs.
pub(super) struct Prepared {
    pub(super) sql: String,
    pub(super) text: Arc<Text>,
    pub(super) statement: Statement,
    pub(super) parameters: Parameters,
    /// It was given more than it may hold until it runs again.
    pub(super) is_heavy: bool,
    /// When it was prepared, or ran last; at another [generation](super::connection) the engine prepares it anew as it runs.
    pub(super) generation: u32,
    /// To run it.
    room: Room,
}

impl Prepared {
    /// One that was prepared just now.
    pub(super) fn new(
        sql: &str,
        text: Arc<Text>,
        statement: Statement,
        parameters: Parameters,
        schema: &Schema,
        generation: u32,
    ) -> Self {
        let room = schema.room_to_run(&text);
        Self { sql: sql.to_owned(), text, statement, parameters, is_heavy: false, generation, room }
    }

    /// What it needs to run now, to be prepared anew included. `is_current`: the schema is as it was.
    pub(super) fn room(&mut self, schema: &Schema, generation: u32, is_current: bool) -> Room {
        match std::mem::replace(&mut self.generation, generation) == generation && is_current {
            true => self.room,
            false => schema.room_to_run(&self.text).max(schema.room_to_prepare(&self.text)),
        }
    }

    /// Whether it can run with these parameters, and notes how much they are.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) says how many there are, and how many were given.
    pub(super) fn is_given(&mut self, params: &Params) -> Result<()> {
        self.is_heavy = bytes_of(params) > HEAVY;
        self.parameters.are_given(params)?;
        self.parameters.are_given_by_number(params, &self.sql)
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
    #[expect(clippy::vec_box, reason = "each goes in and out for every use, through the futures of a statement")]
    kept: Vec<Box<Prepared>>,
    /// The lengths of their texts.
    bytes: usize,
    schema: Arc<Schema>,
    /// The schema for which those that are kept were prepared.
    seen: Option<u64>,
    /// This connection is changing it, until that is committed or rolled back.
    changing: bool,
}

impl Statements {
    pub(super) fn new(capacity: usize, schema: Arc<Schema>) -> Self {
        Self { capacity, kept: Vec::new(), bytes: 0, schema, seen: None, changing: false }
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

    /// Drops what was prepared before the schema was changed. `autocommit`: a transaction that is open may see the schema as
    /// it was, so what is prepared in it after a change is not for later.
    pub(super) fn refresh(&mut self, autocommit: impl FnOnce() -> bool) {
        let schema = self.schema.at_rest();
        if schema.is_none() || schema != self.seen {
            self.kept.clear();
            self.bytes = 0;
            self.seen = schema.filter(|_| autocommit());
        }
    }

    /// Whether the schema is what the last [`refresh`](Statements::refresh) found.
    pub(super) fn is_current(&self) -> bool {
        self.seen.is_some() && self.seen == self.schema.at_rest()
    }

    /// The statement for `sql`, if it is kept.
    pub(super) fn take(&mut self, sql: &str, autocommit: impl FnOnce() -> bool) -> Option<Box<Prepared>> {
        self.refresh(autocommit);
        let place = self.kept.iter().rposition(|kept| kept.sql == sql)?;
        Some(self.remove(place))
    }

    fn remove(&mut self, place: usize) -> Box<Prepared> {
        let prepared = self.kept.remove(place);
        self.bytes -= prepared.sql.len();
        prepared
    }

    /// Puts a statement back that ran without an error. The engine resets it only when it runs again: until then it would hold its
    /// last row.
    pub(super) fn put(&mut self, prepared: Box<Prepared>) {
        let Prepared { sql, text, statement, is_heavy, .. } = &*prepared;
        if self.capacity > 0
            && self.is_current()
            && sql.len() <= LONGEST
            && text.repeats()
            && !is_heavy
            && statement.reset().is_ok()
        {
            self.bytes += sql.len();
            while self.kept.len() >= self.capacity || self.bytes > ALL {
                drop(self.remove(0));
            }
            self.kept.push(prepared);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

/// The bytes of their texts and blobs.
fn bytes_of(params: &Params) -> usize {
    let bytes = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
        _ => 0,
    };
    match params {
        Params::None => 0,
        Params::Positional(values) => values.iter().map(bytes).sum(),
        Params::Named(values) => values.iter().map(|(_, value)| bytes(value)).sum(),
    }
}

impl Drop for Statements {
    /// A change that was cut short may have been committed.
    fn drop(&mut self) {
        self.ended(true);
    }
}
