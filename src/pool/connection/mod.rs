//! One engine connection as the pool lends it.
//!
//! The engine's `Connection` is `Clone`, its `Rows` are `'static`, and a transaction that is dropped rolls back only at
//! some later statement. So nothing here lets the raw connection out, rows and transactions borrow, and the connection
//! remembers what it is in the middle of: a future that is dropped half-way, rows that are leaked, a transaction that is
//! neither committed nor rolled back. `is_reusable` is asked when it comes back.
//!
//! Its rooms: `rows` (what a query gives), `pragmas` (what the pool itself asks of the database), `hindrance` (why a
//! statement failed that would succeed another time).

mod hindrance;
mod pragmas;
mod rows;

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use turso::IntoParams;
use turso::params::Params;

pub(crate) use self::hindrance::Hindrance;
use self::rows::Open;
pub use self::rows::Rows;
use super::activity::Doing;
use super::clock;
use super::control::{Control, Controls};
use super::engine::engine;
use super::file::Opened;
use super::parameters::Parameters;
use super::schema::Schema;
use super::statements::{Prepared, Statements};
use super::transaction::{Behavior, Transaction};
use crate::changes::{Changes, Tracker};
use crate::error::{Error, Result};
use crate::sql::{EMPTIES_THE_LOG, JournalMode, Kind, Nesting, Text, may_defer};
use crate::stack::{Room, await_with_more_room, await_with_room, with_room};

/// A connection of a [`ConnectionPool`](super::ConnectionPool), and what it is in the middle of.
pub struct Connection {
    /// Rows that were handed out and not dropped. They are kept here and not in what borrows them: that can be leaked, and
    /// would take with it a statement that keeps the transaction open, and the write lock taken, for good.
    open: Option<Open>,
    /// Before the raw connection, as the rows are, so that it is dropped first: each statement holds a handle to that.
    statements: Statements,
    controls: Controls,
    raw: turso::Connection,
    /// After the raw connection: whatever that still does when it is dropped is reported as over.
    changes: Tracker,
    doing: Arc<Doing>,
    /// A statement was started and its future has not ended: it may have been dropped at any of its awaits.
    in_flight: bool,
    /// That happened to an earlier statement, or the engine panicked in it.
    cut: bool,
    /// The disk failed under it: what the engine keeps of that call may fail the next statement, too.
    disk_failed: bool,
    /// A statement changed the connection rather than the database.
    altered: bool,
    /// A hook did that, and so may have set how commits are synced.
    hooked: bool,
    /// A transaction was dropped without commit or rollback: the next statement rolls back first.
    pub(super) rollback_due: bool,
    query_only: QueryOnly,
    /// What stood in the way of a statement.
    hindrance: Option<Hindrance>,
    /// The last statement that was executed was prepared, and ran.
    has_begun: bool,
    /// A deferred transaction has begun, and nothing has run in it.
    is_fresh: bool,
    /// Its user has begun a transaction by a statement, and has not ended it: if none is open now, a failure has ended it.
    has_begun_one: bool,
    /// A statement has begun that is to be undone if it fails, and its future has not ended.
    undo_due: bool,
    /// A statement failed and no transaction is open: the engine may still count its violations of deferred foreign keys.
    violations_due: bool,
    /// Statements and rows so far.
    calls: u32,
    /// Until when a snapshot or a closure may use it. Whoever sets it cuts that off.
    deadline: Option<Instant>,
    /// Settings that were changed so far: after each, the engine prepares the kept statements anew.
    generation: u32,
    /// After the raw connection, which keeps the file open.
    opened: Arc<Opened>,
}

/// Whether `PRAGMA query_only` is on. The engine prepares every statement anew that was prepared before it changed; so it
/// stays on from one snapshot to the next, and is switched off when something else is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryOnly {
    Off,
    /// For the snapshot that is open.
    Needed,
    /// From the snapshot before.
    Left,
    /// Switching it began, and nobody knows whether it ended.
    InDoubt,
}

impl QueryOnly {
    /// Whether the next user finds it in order.
    fn is_settled(self) -> bool {
        matches!(self, QueryOnly::Off | QueryOnly::Left)
    }
}

/// A statement that is about to run: what the engine prepared of it, if that is kept, or else what its text says of it.
enum Found {
    Kept(Box<Prepared>),
    New(Arc<Text>),
}

impl Found {
    fn text(&self) -> &Text {
        match self {
            Found::Kept(prepared) => &prepared.text,
            Found::New(text) => text,
        }
    }
}

/// Whether somebody lets a text run.
type Judge = fn(&Text) -> Result<()>;

/// What a text may do to the transaction that it is run in, or to none.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// It may begin or end one.
    may: bool,
    /// It does nothing but end one.
    ends: bool,
    /// One was open before.
    was_open: bool,
}

/// How a statement that fails is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    /// By the engine, or by whoever runs it.
    Elsewhere,
    /// By going back to a savepoint.
    ToSavepoint,
    /// It is the first of a deferred transaction, which has read nothing yet: by beginning that again. A savepoint would pin the
    /// snapshot before the statement has the lock.
    BeginAgain,
}

/// Of so many calls of the engine one gives way to others: each takes some microseconds.
const OFTEN: u32 = 64;

impl Connection {
    pub(super) fn new(
        raw: turso::Connection,
        statement_cache: usize,
        opened: Arc<Opened>,
        changes: Arc<Changes>,
    ) -> Self {
        let doing = Arc::default();
        opened.shared.joins(&doing);
        Self {
            open: None,
            statements: Statements::new(statement_cache, Arc::clone(&opened.shared.schema)),
            controls: Controls::default(),
            raw,
            changes: Tracker::new(changes),
            doing,
            in_flight: false,
            cut: false,
            disk_failed: false,
            altered: false,
            hooked: false,
            rollback_due: false,
            query_only: QueryOnly::Off,
            hindrance: None,
            has_begun: false,
            is_fresh: false,
            has_begun_one: false,
            undo_due: false,
            violations_due: false,
            calls: 0,
            deadline: None,
            generation: 0,
            opened,
        }
    }

    /// One that no pool has: what the harness's controls share.
    #[cfg(feature = "cli")]
    pub(crate) fn unpooled(raw: turso::Connection) -> Self {
        Self::new(raw, 0, Opened::alone(), Arc::default())
    }

    /// Whether any other connection of this process to the same database reads, whatever pool it is of.
    pub(super) fn do_others_read(&self) -> bool {
        self.opened.shared.do_others_read(&self.doing)
    }

    /// Runs a statement that gives no rows; returns how many rows it changed. Its prepared form is kept for the next time.
    ///
    /// # Errors
    /// The engine's error; `Busy` if another connection is writing. A statement that gives rows, `RETURNING` among them, is
    /// an error: use [`query`](Connection::query). [`Error::Misuse`] for more than one statement: use
    /// [`execute_batch`](Connection::execute_batch); and for another number of parameters than it has.
    ///
    /// # Cancel safety
    /// Dropped half-way, the statement may or may not have taken effect, wholly or not at all; the connection is
    /// discarded when the guard comes back. Outside a transaction it may take effect later, when the database is opened anew: if it was
    /// cut off in its sync, it stands in the log, and nobody sees it until the log is read again, or the next commit replaces it.
    pub async fn execute(&mut self, sql: &str, params: impl IntoParams) -> Result<u64> {
        self.execute_if(sql, params, anybody).await
    }

    /// The same, if `judge` lets it.
    pub(super) async fn execute_if(&mut self, sql: &str, params: impl IntoParams, judge: Judge) -> Result<u64> {
        let params = params.into_params()?;
        self.give_way().await;
        self.settle().await?;
        let found = self.find(sql);
        self.admit(sql, found.text(), judge).await?;
        if self.goes_on(found.text(), false)? {
            return Ok(0);
        }
        let undo = self.prepare_undo(found.text().effects().writes).await?;
        let (begins, bounds) = (found.text().kind() == Kind::BeginDeferred, self.bounds(found.text()));
        let outcome = self.execute_found(sql, found, params).await;
        self.is_fresh = begins && outcome.is_ok() && !self.is_autocommit();
        self.bounded(bounds, outcome.is_err());
        self.undo_if_failed(undo, outcome).await
    }

    /// Whether what its user has begun is over, and this ends it: then there is nothing to run.
    ///
    /// # Errors
    /// It is over, and this would be committed by itself, or is more than one end.
    fn goes_on(&mut self, text: &Text, in_a_batch: bool) -> Result<bool> {
        if !self.has_begun_one || !self.is_autocommit() {
            return Ok(false);
        }
        let begins = matches!(text.kind(), Kind::Begin | Kind::BeginDeferred);
        let ends = matches!(text.kind(), Kind::Rollback | Kind::Commit);
        // In a batch what follows a BEGIN is in a transaction.
        if !(begins && (in_a_batch || !text.has_a_tail()) || ends && !text.has_a_tail()) {
            return Err(Error::misuse(
                "a statement that failed has rolled the transaction back, and what it was to hold would be committed by itself: it was not \
                 run; ROLLBACK, and begin anew",
            ));
        }
        self.has_begun_one = false;
        Ok(text.kind() == Kind::Rollback)
    }

    /// After a statement, or several, that may have begun a transaction, or ended one that was open before. What failed, and is no end
    /// itself, has not ended it for its user.
    fn bounded(&mut self, bounds: Bounds, failed: bool) {
        let Bounds { may, ends, was_open } = bounds;
        if may {
            self.has_begun_one = match self.is_autocommit() {
                true => self.has_begun_one && failed && !ends,
                false => self.has_begun_one || !was_open,
            };
        }
    }

    fn bounds(&self, text: &Text) -> Bounds {
        let ends = matches!(text.kind(), Kind::Rollback | Kind::Commit) && !text.has_a_tail();
        Bounds { may: text.effects().bounds_a_transaction(), ends, was_open: !self.is_autocommit() }
    }

    /// The same for whom a statement that fails ends its transaction, so that it needs no savepoint: the engine may leave the
    /// first rows of one that fails half-way.
    pub(crate) async fn execute_in_one(&mut self, sql: &str, params: Params) -> Result<u64> {
        self.give_way().await;
        self.settle().await?;
        let found = self.find(sql);
        self.admit(sql, found.text(), anybody).await?;
        self.execute_found(sql, found, params).await
    }

    async fn execute_found(&mut self, sql: &str, found: Found, params: Params) -> Result<u64> {
        self.alters(found.text());
        let _flight = self.take_off(sql, found.text());
        let outcome = self.execute_prepared(sql, found, params).await;
        self.ended(outcome)
    }

    async fn execute_prepared(&mut self, sql: &str, found: Found, params: Params) -> Result<u64> {
        self.has_begun = false;
        let mut prepared = self.prepared(sql, found, &params).await?;
        // The engine would write the rows, and then fail on the first one that it gives.
        if prepared.gives_rows() {
            return Err(GIVES_ROWS);
        }
        prepared.is_given(&params)?;
        self.has_begun = true;
        if prepared.text.kind() == Kind::Pragma {
            // One that sets something may tell what it is now.
            let mut rows = engine(prepared.statement.query(params)).await?;
            while engine(rows.next()).await?.is_some() {}
            return Ok(0);
        }
        let mut needs_room = prepared.room(self.schema(), self.generation, self.statements.is_current());
        let runs = engine(prepared.statement.execute(params));
        let changed = await_with_more_room(&mut needs_room, || self.schema().room(), runs).await;
        match (&changed, needs_room) {
            // It has statements in it as deep as it went, and drops them as deep.
            (_, Room::Most) => with_room(Room::Most, || drop(prepared)),
            (Ok(_), _) => self.statements.put(prepared),
            (Err(_), _) => {}
        }
        changed
    }

    /// Sets a savepoint for a statement if that may write and a transaction is open. Alone, a statement is undone by the engine; in
    /// a transaction only where the engine expects that it can fail half-way (`stmt_journal` in its source), which it does not for
    /// a type that a STRICT table refuses, a key that is updated onto another, or a function that fails.
    async fn prepare_undo(&mut self, may_write: bool) -> Result<Undo> {
        if !may_write || self.is_autocommit() {
            return Ok(Undo::Elsewhere);
        }
        let undo = match self.is_fresh {
            true => Undo::BeginAgain,
            false => {
                self.around(Control::StatementSavepoint).await?;
                Undo::ToSavepoint
            }
        };
        self.undo_due = true;
        Ok(undo)
    }

    /// Gives the savepoint up, or undoes the statement if it failed.
    async fn undo_if_failed<T>(&mut self, undo: Undo, outcome: Result<T>) -> Result<T> {
        let outcome = self.give_up_or_undo(undo, outcome).await;
        self.undo_due = false;
        outcome
    }

    async fn give_up_or_undo<T>(&mut self, undo: Undo, outcome: Result<T>) -> Result<T> {
        match outcome {
            Ok(value) => {
                if undo == Undo::ToSavepoint
                    && let Err(error) = self.around(Control::StatementRelease).await
                {
                    // It is told that nothing is left of it.
                    self.cut = true;
                    return Err(error);
                }
                Ok(value)
            }
            // A conflict rolled back all of it, or no transaction was open.
            Err(error) if undo == Undo::Elsewhere || self.is_autocommit() => Err(error),
            Err(error) => {
                let steps = match undo {
                    Undo::BeginAgain => [Control::Rollback, Control::Begin],
                    _ => [Control::StatementUndo, Control::StatementRelease],
                };
                let undone = match self.around(steps[0]).await {
                    Ok(()) => self.around(steps[1]).await,
                    failed => failed,
                };
                self.is_fresh = undo == Undo::BeginAgain;
                // What may be half there is not committed.
                self.cut |= undone.is_err();
                Err(error)
            }
        }
    }

    /// The engine (0.8.3) goes on counting violations of deferred foreign keys after a failure that leaves no transaction open, and
    /// the next statement fails for them: `OR FAIL` outside a transaction keeps the rows before the failing one, and a query that
    /// fails in a transaction rolls it back. A transaction that is rolled back resets the count.
    async fn forget_violations(&mut self) {
        let forgotten = match self.around(Control::Begin).await {
            Ok(()) => self.around(Control::Rollback).await,
            failed => failed,
        };
        self.cut |= forgotten.is_err();
    }

    /// Runs what surrounds a statement. What others see of the connection is the statement.
    async fn around(&mut self, control: Control) -> Result<()> {
        self.cut |= self.in_flight;
        self.in_flight = true;
        let outcome = self.run_control(control).await;
        self.in_flight = false;
        self.noted(outcome)
    }

    /// Prepares a statement that writes and gives no rows, to see whether it could run.
    pub(crate) async fn check(&mut self, sql: &str) -> Result<()> {
        self.settle().await?;
        let found = Found::New(Text::of(sql));
        let _flight = self.take_off(sql, found.text());
        let outcome = self.prepared(sql, found, &Params::None).await;
        match self.ended(outcome)?.gives_rows() {
            true => Err(GIVES_ROWS),
            false => Ok(()),
        }
    }

    /// Runs several statements, separated by semicolons.
    ///
    /// # Errors
    /// The engine's error at the first statement that fails; those before it have taken effect, but in a transaction that was open
    /// before: there none of them did. A transaction that the batch began is rolled back before anything else runs.
    /// [`Error::Misuse`] for a statement with parameters; and, in a transaction that was begun by a statement, for one that writes and
    /// begins or ends a transaction or a savepoint.
    ///
    /// # Cancel safety
    /// Dropped half-way, some statements may have taken effect, and a transaction that the batch began is rolled back before
    /// anything else runs; the connection is discarded when the guard comes back.
    pub async fn execute_batch(&mut self, sql: &str) -> Result<()> {
        self.execute_batch_if(sql, anybody).await
    }

    /// The same, if `judge` lets it.
    pub(super) async fn execute_batch_if(&mut self, batch: &str, judge: Judge) -> Result<()> {
        self.give_way().await;
        self.settle().await?;
        let text = Text::of(batch);
        #[cfg(feature = "harness")]
        crate::simulated::leaks(|| crate::sql::asks_outside(batch));
        self.admit(batch, &text, judge).await?;
        takes_none(batch, &text)?;
        let (begins_in_one, effects) = (!self.is_autocommit(), text.effects());
        if self.has_begun_one && begins_in_one && effects.bounds_a_transaction() && effects.changes_content() {
            return Err(Error::misuse(
                "a transaction is open, and this batch would begin or end one: if it failed, nobody could tell what is left; run BEGIN, \
                 COMMIT, ROLLBACK and savepoints by execute: none was run",
            ));
        }
        if self.goes_on(&text, true)? {
            return Ok(());
        }
        let bounded = self.bounds(&text);
        self.alters(&text);
        let has_savepoints = effects.savepoints;
        // A savepoint outside a transaction begins one.
        let bounds = effects.bounds || has_savepoints && !begins_in_one;
        let undo = self.prepare_undo(!bounds && !has_savepoints).await?;
        let outcome = {
            let _flight = self.take_off(batch, &text);
            self.rollback_due = bounds && !begins_in_one;
            let outcome = match text.is_refused() {
                // Or there is none, which is fine.
                true => await_with_room(text.is_deep(), engine(self.raw.execute_batch(batch))).await,
                false => {
                    let schema = self.schema();
                    let room = schema.room_to_prepare(&text).max(schema.room_to_run(&text));
                    self.run_each(room, text.statements(batch)).await
                }
            };
            self.rollback_due = false;
            self.ended(outcome)
        };
        self.bounded(bounded, outcome.is_err());
        match outcome {
            outcome if undo != Undo::Elsewhere => self.undo_if_failed(undo, outcome).await,
            Err(error) => {
                // The statement that failed may be half there.
                self.cut |= begins_in_one && has_savepoints;
                self.rollback_due = !self.is_autocommit() && bounds && !begins_in_one;
                Err(error)
            }
            outcome => outcome,
        }
    }

    /// Runs one after the other. Between two of them it may be cut short.
    async fn run_each(&mut self, mut room: Room, statements: impl Iterator<Item = &str>) -> Result<()> {
        for sql in statements {
            self.give_way().await;
            let mut statement = await_with_room(room, engine(self.raw.prepare(sql))).await?;
            let mut rows = engine(statement.query(())).await?;
            let outcome = loop {
                let next = engine(rows.next());
                match await_with_more_room(&mut room, || self.opened.shared.schema.room(), next).await {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            with_room(room, || drop((rows, statement)));
            outcome?;
        }
        Ok(())
    }

    /// Runs a query; its rows borrow the connection. Its prepared form is kept for the next time. A statement that does more than read
    /// has run to its end when this returns, its commit included if no transaction is open; the rows that it gives (`RETURNING`)
    /// are buffered until they are fetched. One that reads has begun: its columns, and what it sees, are those of this moment.
    ///
    /// # Errors
    /// The engine's error (what it says of the first row comes with that), or [`Error::Misuse`] for more than one statement or another number of parameters than it has.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when the guard comes back.
    pub async fn query(&mut self, sql: &str, params: impl IntoParams) -> Result<Rows<'_>> {
        self.query_if(sql, params, anybody).await
    }

    /// The same, if `judge` lets it.
    pub(super) async fn query_if(&mut self, sql: &str, params: impl IntoParams, judge: Judge) -> Result<Rows<'_>> {
        let params = params.into_params()?;
        self.give_way().await;
        self.settle().await?;
        let found = self.find(sql);
        self.admit(sql, found.text(), judge).await?;
        // A ROLLBACK the engine refuses here, for it has nothing to end.
        self.goes_on(found.text(), false)?;
        self.alters(found.text());
        let (effects, bounds) = (found.text().effects(), self.bounds(found.text()));
        if !effects.changes_something() {
            return Ok(self.query_as_is(sql, found, params).await?.begin().await);
        }
        if !effects.writes {
            let outcome = match self.query_as_is(sql, found, params).await {
                Ok(rows) => rows.fetch_all().await,
                Err(error) => Err(error),
            };
            self.bounded(bounds, outcome.is_err());
            self.open = Some(outcome?);
            return Ok(Rows { connection: self });
        }
        let undo = self.prepare_undo(true).await?;
        self.undo_due = true;
        let outcome = match self.query_as_is(sql, found, params).await {
            Ok(rows) => rows.fetch_all().await,
            Err(error) => Err(error),
        };
        self.open = Some(self.undo_if_failed(undo, outcome).await?);
        Ok(Rows { connection: self })
    }

    /// A query that is the pool's own.
    async fn query_own(&mut self, sql: &str) -> Result<Rows<'_>> {
        let found = self.find(sql);
        self.query_as_is(sql, found, Params::None).await
    }

    /// A query that is the pool's own, or known to change nothing but the database.
    async fn query_as_is(&mut self, sql: &str, found: Found, params: Params) -> Result<Rows<'_>> {
        let _flight = self.take_off(sql, found.text());
        let outcome = self.query_prepared(sql, found, params).await;
        let (rows, prepared, needs_room) = match outcome {
            Ok(rows) => rows,
            Err(error) => return self.ended(Err(error)),
        };
        // It has not begun: it runs as its rows are fetched, and ends with them.
        self.in_flight = false;
        self.open = Some(Open { rows, prepared, needs_room, ahead: None, fetched: None, failed: false });
        Ok(Rows { connection: self })
    }

    async fn query_prepared(
        &mut self,
        sql: &str,
        found: Found,
        params: Params,
    ) -> Result<(turso::Rows, Box<Prepared>, Room)> {
        let mut prepared = self.prepared(sql, found, &params).await?;
        prepared.is_given(&params)?;
        let rows = engine(prepared.statement.query(params)).await?;
        let needs_room = prepared.room(self.schema(), self.generation, self.statements.is_current());
        Ok((rows, prepared, needs_room))
    }

    /// The statement, if it is kept; what its text says of it, in any case.
    fn find(&mut self, sql: &str) -> Found {
        let kept = self.statements.take(sql, || self.raw.is_autocommit().unwrap_or_default());
        kept.map_or_else(|| Found::New(Text::of(sql)), Found::Kept)
    }

    async fn prepared(&mut self, sql: &str, found: Found, params: &Params) -> Result<Box<Prepared>> {
        match found {
            Found::Kept(prepared) => Ok(prepared),
            Found::New(text) => {
                #[cfg(feature = "harness")]
                crate::simulated::leaks(|| crate::sql::asks_outside(sql));
                Error::check_depth(&text)?;
                only_one(&text)?;
                let room = self.schema().room_to_prepare(&text);
                let mut statement = await_with_room(room, engine(self.raw.prepare(sql))).await?;
                let parameters = Parameters::of(&mut statement, params).await?;
                let prepared = Prepared::new(sql, text, statement, parameters, self.schema(), self.generation);
                Ok(Box::new(prepared))
            }
        }
    }

    fn schema(&self) -> &Schema {
        &self.opened.shared.schema
    }

    /// Whether a text may run here. How the log is kept is set for good when the database is opened, whatever becomes of the
    /// transaction that a pragma is in.
    async fn admit(&mut self, sql: &str, text: &Text, judge: Judge) -> Result<()> {
        if text.repeats() && !text.has_a_tail() {
            return judge(text);
        }
        Error::check_depth(text)?;
        if text.panics_the_parser() {
            return Err(Error::misuse("the engine's parser panics at this text: it was not run"));
        }
        judge(text)?;
        if let Some(why) = text.effects().denied {
            // In MVCC mode the engine has no other.
            if why != EMPTIES_THE_LOG || self.journal_mode().await? != "mvcc" {
                return Err(Error::misuse(why));
            }
        }
        if text.effects().nests {
            self.check_nesting(text.statements(sql)).await?;
        }
        let wanted = match text.effects().journal_mode {
            JournalMode::Untouched => return Ok(()),
            JournalMode::Wal => "wal",
            JournalMode::Mvcc => "mvcc",
            JournalMode::Other => "",
        };
        match self.journal_mode().await?.eq_ignore_ascii_case(wanted) {
            true => Ok(()),
            false => Err(Error::misuse(
                "the journal mode is WAL or, if the writer was opened so (WriterConfig::mode), MVCC: leave PRAGMA \
                 journal_mode out; it was not run",
            )),
        }
    }

    /// Checks the nesting of views, triggers and foreign key actions, of the schema and of these statements together.
    ///
    /// # Errors
    /// [`Error::TooDeep`].
    pub(super) async fn check_nesting(&mut self, statements: impl Iterator<Item = &str>) -> Result<()> {
        let temporary = (self.altered || self.hooked).then_some(Nesting::TEMPORARY_SQL);
        let mut texts = Vec::new();
        for sql in [Nesting::SQL].into_iter().chain(temporary) {
            let mut rows = self.query_own(sql).await?;
            while let Some(row) = rows.next().await? {
                texts.push(row.get::<String>(0)?);
            }
        }
        texts.extend(statements.map(str::to_owned));
        let nesting = Nesting::of(&texts);
        let too_deep = nesting.too_deep();
        self.schema().add_nesting(nesting);
        too_deep.map_or(Ok(()), |too_deep| Err(Error::too_deep(too_deep)))
    }

    /// Whether a foreign key is deferred: its violations are counted for a whole transaction, whoever shares it.
    pub(crate) fn has_deferred_keys(&self) -> bool {
        self.schema().has_deferred()
    }

    /// Runs a statement whose rows, if any, do not matter: a pragma, for example. In a [hook](super::Hooks) what it changes
    /// of the connection stays; on a guard it costs the connection, which is discarded when it comes back.
    ///
    /// # Errors
    /// The engine's error.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when it comes back.
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        self.give_way().await;
        self.settle().await?;
        let found = self.find(sql);
        self.admit(sql, found.text(), anybody).await?;
        if self.goes_on(found.text(), false)? {
            return Ok(());
        }
        self.alters(found.text());
        let undo = self.prepare_undo(found.text().effects().writes).await?;
        let bounds = self.bounds(found.text());
        let outcome = self.run_found(sql, found).await;
        self.bounded(bounds, outcome.is_err());
        self.undo_if_failed(undo, outcome).await
    }

    /// The same for what is the pool's own, or does not outlive its user.
    pub(crate) async fn run_as_is(&mut self, sql: &str) -> Result<()> {
        self.settle().await?;
        self.run_unsettled(sql).await
    }

    async fn run_unsettled(&mut self, sql: &str) -> Result<()> {
        let found = self.find(sql);
        self.run_found(sql, found).await
    }

    async fn run_found(&mut self, sql: &str, found: Found) -> Result<()> {
        let mut rows = self.query_as_is(sql, found, Params::None).await?;
        while rows.next().await?.is_some() {}
        Ok(())
    }

    /// Begins a transaction; it borrows the connection.
    ///
    /// # Errors
    /// The engine's error; `Busy` for [`Behavior::Immediate`] if another connection is writing.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when the guard comes back.
    pub async fn begin(&mut self, behavior: Behavior) -> Result<Transaction<'_>> {
        self.give_way().await;
        self.control(behavior.control()).await?;
        Ok(self.opened())
    }

    /// Begins or ends something. A transaction that it begins is given by [`Connection::opened`]: two steps, so that the
    /// first can be tried again.
    pub(crate) async fn control(&mut self, control: Control) -> Result<()> {
        self.settle().await?;
        // What it is about to begin sees the schema as it is now.
        self.statements.refresh(|| self.raw.is_autocommit().unwrap_or_default());
        let _flight = self.take_off(control.sql(), control.text());
        let outcome = self.run_control(control).await;
        self.is_fresh = outcome.is_ok() && control == Control::Begin;
        self.has_begun_one &= outcome.is_err();
        self.ended(outcome)
    }

    async fn run_control(&mut self, control: Control) -> Result<()> {
        let mut statement = match self.controls[control as usize].take() {
            Some(statement) => statement,
            None => engine(self.raw.prepare(control.sql())).await?,
        };
        engine(statement.execute(())).await?;
        self.controls[control as usize] = Some(statement);
        Ok(())
    }

    /// The transaction that is open already.
    pub(crate) fn opened(&mut self) -> Transaction<'_> {
        Transaction::new(self)
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        self.control(Control::Commit).await
    }

    /// Rolls back what is open, if anything is.
    pub(super) async fn roll_back(&mut self) -> Result<()> {
        self.rollback_due = true;
        self.settle().await
    }

    /// Whether no transaction is open.
    #[must_use]
    pub fn is_autocommit(&self) -> bool {
        self.raw.is_autocommit().unwrap_or(false)
    }

    /// The rowid of the last row inserted.
    #[must_use]
    pub fn last_insert_rowid(&self) -> i64 {
        self.raw.last_insert_rowid()
    }

    /// Prepared statements that it keeps.
    #[must_use]
    pub fn cached_statements(&self) -> usize {
        self.statements.len()
    }

    /// The engine does its I/O inside `poll` and is never pending: what awaits nothing but it would never notice that it was
    /// aborted, or that its time is over, and let nobody else run. So every so often this is pending; and once the time of a closure
    /// is over for good, for whoever limits that to cut it off.
    async fn give_way(&mut self) {
        if self.deadline.is_some_and(|deadline| clock::now() >= deadline) {
            std::future::pending::<()>().await;
        }
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(OFTEN) {
            tokio::task::yield_now().await;
        }
    }

    /// From now on only until then; whoever calls this cuts off what goes on.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// A statement is over, whatever it came to.
    fn ended<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.in_flight = false;
        self.settled_after(outcome.is_err());
        self.noted(outcome)
    }

    /// The same, of one that failed or did not.
    fn settled_after(&mut self, failed: bool) {
        self.settled();
        self.violations_due |= failed && self.has_deferred_keys() && self.is_autocommit();
    }

    /// What it did is done: now it is known whether a transaction is open.
    fn settled(&mut self) {
        let autocommit = self.is_autocommit();
        self.statements.ended(autocommit);
        self.changes.ended(autocommit);
        self.doing.ends(autocommit);
    }

    /// Remembers what stood in the way.
    fn noted<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.cut |= error.is_panic();
            self.disk_failed |= error.is_io();
            self.hindrance = Hindrance::of(error).or(self.hindrance);
        }
        outcome
    }

    /// What stood in the way of a statement since this was asked last.
    pub(crate) fn take_hindrance(&mut self) -> Option<Hindrance> {
        self.hindrance.take()
    }

    /// Whether the last statement that was executed got so far as to run.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Its user has given it back: what a failure has ended, they have nothing more to do in.
    pub(crate) fn is_given_back(&mut self) {
        self.has_begun_one &= !self.is_autocommit();
    }

    /// Whether the next user would find it as new. Synchronous, asks the engine for no I/O.
    pub(crate) fn is_reusable(&self) -> bool {
        self.is_untouched() && self.is_autocommit()
    }

    /// Whether a transaction is open and nothing else is amiss: more can run in it, and it can be committed.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.is_untouched() && !self.is_autocommit()
    }

    /// Whether a statement changed the connection rather than the database.
    pub(super) fn is_altered(&self) -> bool {
        self.altered
    }

    fn is_untouched(&self) -> bool {
        !self.is_cut() && !self.disk_failed && !self.altered && !self.rollback_due && self.query_only.is_settled()
    }

    /// What was changed of it so far is how it is meant to be.
    pub(super) fn keep_changes(&mut self) {
        self.hooked |= std::mem::take(&mut self.altered);
    }

    /// What it is doing, for others to see.
    pub(super) fn doing(&self) -> &Arc<Doing> {
        &self.doing
    }

    /// Whether a statement was dropped half-way since the connection was new, or the rows of one were leaked.
    pub(super) fn is_cut(&self) -> bool {
        self.cut || self.in_flight || self.undo_due || self.open.is_some()
    }

    /// A statement begins. If the one before it never ended, its future was dropped half-way.
    fn take_off(&mut self, sql: &str, text: &Text) -> Flight {
        // Rows borrow the connection: if they are still open here, they were leaked.
        self.cut |= self.in_flight || self.open.take().is_some();
        self.in_flight = true;
        self.is_fresh = false;
        if text.effects().schema {
            self.statements.changes();
            if may_defer(sql) {
                self.schema().mark_deferred();
            }
            if text.is_deep() {
                self.schema().mark_deep();
            }
        }
        self.generation = self.generation.wrapping_add(u32::from(text.kind() == Kind::Pragma));
        self.changes.begins(text, || self.raw.is_autocommit().unwrap_or(false));
        self.doing.begins(sql);
        Flight(Arc::clone(&self.doing))
    }

    /// A statement may be about to change the connection rather than the database.
    fn alters(&mut self, text: &Text) {
        if text.effects().session {
            self.altered = true;
            self.changes.alters(text);
        }
    }

    /// What a dropped transaction left behind is rolled back before anything else runs; and what is not a snapshot's may write.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        if self.rollback_due && !self.is_autocommit() {
            let _flight = self.take_off(Control::Rollback.sql(), Control::Rollback.text());
            let outcome = self.run_control(Control::Rollback).await;
            self.ended(outcome)?;
            self.has_begun_one = false;
        }
        self.rollback_due = false;
        if std::mem::take(&mut self.violations_due) && self.is_autocommit() {
            Box::pin(self.forget_violations()).await;
        }
        self.may_write().await
    }
}

/// However its future ends, the statement does not run any more.
#[must_use]
struct Flight(Arc<Doing>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.moves(false);
    }
}

const GIVES_ROWS: Error = Error::misuse(
    "a statement that gives rows runs by query: on a connection, in read, or in write if it writes (RETURNING); it was not run",
);

fn anybody(_: &Text) -> Result<()> {
    Ok(())
}

/// The engine would run the first statement and drop the rest without a word.
fn only_one(text: &Text) -> Result<()> {
    match text.has_a_tail() {
        true => Err(Error::misuse("only one statement runs at a time; use execute_batch for several: none was run")),
        false => Ok(()),
    }
}

/// The engine would take each parameter of a batch for NULL.
fn takes_none(batch: &str, text: &Text) -> Result<()> {
    match text.has_parameters(batch) {
        true => {
            Err(Error::misuse("execute_batch gives no parameters; use execute for a statement with some: none was run"))
        }
        false => Ok(()),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("autocommit", &self.is_autocommit()).finish_non_exhaustive()
    }
}
