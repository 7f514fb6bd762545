//! What a text of SQL says of itself, by the engine's own parser: where its first statement ends, whether it is a query,
//! what it does to the transaction, to its connection and to the schema, which tables it reads and writes.
//!
//! The only place that names the parser. A text is read once, into a [`Text`], which is kept with what the engine prepared of
//! it; connections, transactions, the lane and the read cache ask that. Modules: `depth` and `nesting` (what would overflow the
//! stack, by itself or with what it names), `read` (from the parser's tree to a [`Text`]), `walk` (through the expressions of a
//! query), `tokens` (of the parser's tree), `pragma` (what each pragma does), `outside` (what
//! asks the real clock, for the simulation), `texts` (a bounded cache), `object` (what the schema's own texts say, for the read
//! cache), `oracle` (whether all of that is true, for tests and the fuzzer).
//!
//! What cannot be read the engine cannot either, for it reads with the same parser: it is refused there, and did nothing.

mod depth;
mod nesting;
#[cfg(feature = "cache")]
pub(crate) mod object;
#[cfg(feature = "harness")]
pub(crate) mod oracle;
#[cfg(feature = "harness")]
mod outside;
mod pragma;
mod read;
#[cfg(test)]
mod tests;
mod texts;
mod tokens;
mod walk;

use std::mem;
use std::sync::Arc;

use self::depth::Depth;
pub(crate) use self::depth::TooDeep;
pub(crate) use self::nesting::{Nesting, may_defer};
pub(crate) use self::read::EMPTIES_THE_LOG;
pub(crate) use self::texts::Texts;
use crate::stack::with_room;

/// The savepoints that a writer's closure, and a statement in a transaction, run in. Nobody else may use their names.
pub(crate) const SAVEPOINTS: [&str; 2] = ["poolproof_write", "poolproof_statement"];

/// The first word or function of a text that asks the real clock or the operating system for random numbers, and the text's
/// beginning.
#[cfg(feature = "harness")]
pub(crate) fn asks_outside(sql: &str) -> Option<String> {
    let word = outside::asks_outside(sql)?;
    let beginning: String = sql.chars().take(100).collect();
    Some(format!("{word} in {beginning:?}"))
}

/// The parameters that a text has, by their names: `?1` or `:name`; one without a name is `?`.
pub(crate) fn variables(sql: &str) -> Vec<String> {
    read::variables(sql)
}

/// What a text says of itself: one statement, or several, or none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// Of its only statement, or of the first of several.
    kind: Kind,
    /// Where each of several statements ends; whatever the engine cannot read is the last. Empty if there is nothing behind the
    /// first statement.
    ends: Vec<usize>,
    /// Of all of its statements together.
    effects: Effects,
    /// The tables whose rows it writes by name.
    written: Vec<Box<str>>,
    /// The limit of nesting that it exceeds; then nothing else is known of it.
    too_deep: Option<TooDeep>,
    /// Whoever reads, compiles or runs it needs [room](crate::stack).
    is_deep: bool,
    /// What it reads, if it is one query that gives the same rows as long as its tables stay the same.
    reads: Option<Reads>,
}

/// What a statement is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No statement, or none that can be read.
    #[default]
    Nothing,
    /// `SELECT` or `VALUES`, a `WITH` before it or not.
    Query,
    /// The plan of another statement, which is not run.
    Explain,
    /// `INSERT`, `REPLACE`, `UPDATE` or `DELETE`.
    Rows,
    /// Whatever changes the schema or the file as a whole.
    Schema,
    /// A pragma that tells something, or what became of it.
    Telling,
    /// A pragma that sets something, and may tell what it is now.
    Pragma,
    /// `BEGIN`, with no lock taken yet.
    BeginDeferred,
    Begin,
    Commit,
    Rollback,
    Savepoint,
    RollbackTo,
    Release,
}

/// What a statement, or several, may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Begins or ends a transaction.
    pub(crate) bounds: bool,
    /// Sets, releases or goes back to a savepoint.
    pub(crate) savepoints: bool,
    /// Does so with one of the library's own.
    pub(crate) our_savepoints: bool,
    /// Writes into the database.
    pub(crate) writes: bool,
    /// Writes to tables that cannot be told.
    pub(crate) writes_anything: bool,
    /// Changes the schema.
    pub(crate) schema: bool,
    /// Creates a view, a trigger or a foreign key action, which may be nested in others, or gives a table another name.
    pub(crate) nests: bool,
    /// Changes something of its connection, which the next statement, or the next user, finds changed.
    pub(crate) session: bool,
    /// Does something that is not of its connection alone.
    pub(crate) beyond_session: bool,
    /// Sets how the database's log is kept.
    pub(crate) journal_mode: JournalMode,
    /// Why it is not run, whoever asks.
    pub(crate) denied: Option<&'static str>,
    /// Makes visible what others before it wrote in the same transaction.
    pub(crate) may_commit: bool,
    /// After it, statements of the same connection may write more than they say.
    pub(crate) strange: bool,
}

impl Effects {
    /// Whether it does more than read: it has to be run to its end, whether or not its rows are fetched.
    pub(crate) fn changes_something(self) -> bool {
        self.bounds_a_transaction() || self.changes_content()
    }

    /// Whether it begins or ends a transaction, or a part of one.
    pub(crate) fn bounds_a_transaction(self) -> bool {
        self.bounds || self.savepoints
    }

    /// Whether it changes the database or its connection, whatever it does to transactions.
    pub(crate) fn changes_content(self) -> bool {
        self.writes || self.schema || self.session
    }
}

/// What `PRAGMA journal_mode` is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum JournalMode {
    #[default]
    Untouched,
    Wal,
    Mvcc,
    /// Something else, or different things one after the other.
    Other,
}

/// The tables of a query, in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Where a table may stand: tables and views, and its own names of subqueries.
    pub(crate) names: Vec<String>,
    /// Its own names of subqueries (WITH). They may hide a table, or not reach where the name stands.
    pub(crate) own: Vec<String>,
}

impl Text {
    pub(crate) fn of(sql: &str) -> Arc<Self> {
        let Depth { too_deep, is_deep, .. } = depth::measure(sql);
        Arc::new(match too_deep {
            Some(_) => Self { too_deep, ..Self::default() },
            None => Self { is_deep, ..with_room(is_deep, || read::read(sql)) },
        })
    }

    /// The limit of nesting that it exceeds.
    pub(crate) fn too_deep(&self) -> Option<TooDeep> {
        self.too_deep
    }

    pub(crate) fn is_deep(&self) -> bool {
        self.is_deep
    }

    /// Whether the parser panicked at it. So would the engine, perhaps behind a statement that it has run.
    pub(crate) fn panics_the_parser(&self) -> bool {
        self.kind == Kind::Nothing && self.effects.strange
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether something comes after the first statement, which the engine would drop without a word.
    pub(crate) fn has_a_tail(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The statements of `sql`, the text that this was made of.
    pub(crate) fn statements<'t>(&self, sql: &'t str) -> impl Iterator<Item = &'t str> {
        let only = self.ends.is_empty().then_some(sql.len());
        let mut start = 0;
        self.ends.iter().copied().chain(only).map(move |end| &sql[mem::replace(&mut start, end)..end])
    }

    /// Whether a statement of `sql`, the text that this was made of, has a parameter: `?`, `?1`, `:name`, `@name` or `$name`.
    pub(crate) fn has_parameters(&self, sql: &str) -> bool {
        self.too_deep.is_none() && with_room(self.is_deep, || read::has_parameters(sql))
    }

    /// Whether the engine refuses it before it runs: there is no statement, or none that can be read.
    pub(crate) fn is_refused(&self) -> bool {
        self.kind == Kind::Nothing && !self.effects.strange
    }

    pub(crate) fn effects(&self) -> Effects {
        self.effects
    }

    /// Whether the statement reads or writes rows and does nothing else, so that it will come again, and its prepared form is
    /// worth keeping.
    pub(crate) fn repeats(&self) -> bool {
        matches!(self.kind, Kind::Query | Kind::Rows)
    }

    /// Whether the statement only reads.
    pub(crate) fn is_query(&self) -> bool {
        matches!(self.kind, Kind::Query | Kind::Explain)
    }

    /// The tables that it writes by name, in lower case; those of [`Effects::writes_anything`] are not among them.
    pub(crate) fn written(&self) -> &[Box<str>] {
        &self.written
    }

    /// Whether all that the text changes is its connection, by a setting or something temporary: after it, nothing is left.
    pub(crate) fn changes_only_the_session(&self) -> bool {
        self.effects.session && !self.effects.beyond_session
    }
}

#[cfg(feature = "cache")]
impl Text {
    pub(crate) fn reads(&self) -> Option<&Reads> {
        self.reads.as_ref()
    }
}
