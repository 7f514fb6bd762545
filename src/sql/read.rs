//! From the parser's tree to what is asked of a text.

use std::iter;
use std::panic::catch_unwind;

use turso::core::{Dialect, SqliteDialect};
use turso_parser::ast::{AlterTableBody, Cmd, Name, PragmaBody, QualifiedName, Stmt, TransactionType};
use turso_parser::lexer::Lexer;
use turso_parser::token::TokenType;

use super::nesting::acting_parents;
use super::pragma::{self, About};
use super::tokens::each_token;
use super::walk::walk;
use super::{Effects, JournalMode, Kind, SAVEPOINTS, Text};
use crate::stack::with_room;

pub(super) fn read(sql: &str) -> Text {
    // The parser asserts. A text at which it panics is not handed to the engine, which would do so, too.
    catch_unwind(|| statements(sql)).unwrap_or_else(|_| Text { effects: ANYTHING, ..Text::default() })
}

/// Whether a statement that can be read has a parameter. The lexer does not tell a name in brackets, which may have a question
/// mark, from an array; so the tokens are those of the parser's tree.
pub(super) fn has_parameters(sql: &str) -> bool {
    let mut tokens = Lexer::new(sql.as_bytes()).map_while(Result::ok);
    // The tree has none that the text has not.
    tokens.any(|token| token.token_type == TokenType::TK_VARIABLE)
        && catch_unwind(|| commands(sql).any(|(command, _)| has_variables(&command))).unwrap_or_default()
}

fn has_variables(command: &Cmd) -> bool {
    let mut found = false;
    each_variable(command, |_| found = true);
    found
}

/// The parameters of a statement that can be read, each by its name, or else by its number, as `?3`: one without either has a number
/// all the same.
pub(super) fn variables(sql: &str) -> Vec<String> {
    let of_first = || {
        let mut found: Vec<String> = Vec::new();
        if let Some((command, _)) = commands(sql).next() {
            each_variable(&command, |name| {
                if found.iter().all(|known| known != name) {
                    found.push(name.to_owned());
                }
            });
        }
        found
    };
    catch_unwind(|| with_room(true, of_first)).unwrap_or_default()
}

fn each_variable(command: &Cmd, mut see: impl FnMut(&str)) {
    let (Cmd::Stmt(statement) | Cmd::Explain(statement) | Cmd::ExplainQueryPlan { stmt: statement, .. }) = command;
    each_token(statement, |kind, text| {
        if kind == TokenType::TK_VARIABLE {
            see(text.unwrap_or_default());
        }
    });
}

/// The statements of a text, each with what is behind it, as the engine goes through a batch: one after the other, until one
/// cannot be read.
fn commands(sql: &str) -> impl Iterator<Item = (Cmd, &str)> {
    let mut rest = sql;
    iter::from_fn(move || {
        // That this compiles says that its parser is the engine's own, and of the same release.
        let (command, end) = SqliteDialect.parse(rest).ok()?;
        rest = rest.get(end..).unwrap_or_default();
        Some((command?, rest))
    })
}

fn statements(sql: &str) -> Text {
    let mut commands = commands(sql).map(|(command, rest)| match command {
        Cmd::Stmt(statement) => (of(&statement), rest),
        // The engine carries out a pragma while it compiles it, even one that is only explained.
        Cmd::Explain(pragma @ Stmt::Pragma { .. })
        | Cmd::ExplainQueryPlan { stmt: pragma @ Stmt::Pragma { .. }, .. } => (of(&pragma), rest),
        Cmd::Explain(_) | Cmd::ExplainQueryPlan { .. } => (plain(Kind::Explain), rest),
    });
    let Some((first, rest)) = commands.next() else { return Text::default() };
    if rest.is_empty() {
        return first;
    }
    let several = Text { ends: vec![sql.len() - rest.len()], reads: None, ..first };
    let mut all = commands.fold(several, |mut all, (one, rest)| {
        all.effects = all.effects.and(one.effects);
        all.written.extend(one.written);
        all.ends.push(sql.len() - rest.len());
        all
    });
    if all.ends.last() != Some(&sql.len()) {
        all.ends.push(sql.len());
    }
    all
}

/// Whatever a statement can do to tables, and to how far its connection is to be believed.
const ANYTHING: Effects = Effects { strange: true, ..SOMEWHERE };

/// It writes, and to which tables cannot be told.
const SOMEWHERE: Effects = Effects { writes_anything: true, may_commit: true, ..NOTHING };

/// It does nothing, and so nothing to its connection alone.
const NOTHING: Effects = Effects {
    bounds: false,
    savepoints: false,
    our_savepoints: false,
    writes: false,
    writes_anything: false,
    schema: false,
    nests: false,
    session: false,
    beyond_session: true,
    journal_mode: JournalMode::Untouched,
    denied: None,
    may_commit: false,
    strange: false,
};

impl Effects {
    /// Of this and another statement.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            bounds: self.bounds || other.bounds,
            savepoints: self.savepoints || other.savepoints,
            our_savepoints: self.our_savepoints || other.our_savepoints,
            writes: self.writes || other.writes,
            writes_anything: self.writes_anything || other.writes_anything,
            schema: self.schema || other.schema,
            nests: self.nests || other.nests,
            session: self.session || other.session,
            beyond_session: self.beyond_session || other.beyond_session,
            journal_mode: self.journal_mode.and(other.journal_mode),
            denied: self.denied.or(other.denied),
            may_commit: self.may_commit || other.may_commit,
            strange: self.strange || other.strange,
        }
    }
}

/// What a pragma is given, without its quotes.
fn said(body: &PragmaBody) -> String {
    let (PragmaBody::Equals(value) | PragmaBody::Call(value)) = body;
    value.to_string().trim_matches(['\'', '"', '`', '[', ']']).to_owned()
}

impl JournalMode {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (JournalMode::Untouched, mode) | (mode, JournalMode::Untouched) => mode,
            (one, other) if one == other => one,
            _ => JournalMode::Other,
        }
    }

    fn of(body: &PragmaBody) -> Self {
        let said = said(body);
        match (said.eq_ignore_ascii_case("wal"), said.eq_ignore_ascii_case("mvcc")) {
            (true, _) => JournalMode::Wal,
            (_, true) => JournalMode::Mvcc,
            _ => JournalMode::Other,
        }
    }
}

fn plain(kind: Kind) -> Text {
    with(kind, NOTHING)
}

fn with(kind: Kind, effects: Effects) -> Text {
    Text { kind, effects, ..Text::default() }
}

/// A statement of the database, or of something temporary: that is its connection's, and gone with it.
fn temporary_or(is_temporary: bool, text: Text) -> Text {
    let Text { effects, .. } = text;
    let session = effects.session || is_temporary;
    Text { effects: Effects { session, beyond_session: !is_temporary, ..effects }, ..text }
}

fn of(statement: &Stmt) -> Text {
    match statement {
        Stmt::Select(select) => {
            let walked = walk(select);
            match walked.acts {
                true => with(Kind::Query, Effects { writes: true, ..ANYTHING }),
                false => Text { reads: walked.same_again.then_some(walked.reads), ..plain(Kind::Query) },
            }
        }
        Stmt::Insert { tbl_name: table, .. } | Stmt::Delete { tbl_name: table, .. } => rows(table),
        Stmt::Update(update) => rows(&update.tbl_name),
        Stmt::Begin { typ: None | Some(TransactionType::Deferred), .. } => boundary(Kind::BeginDeferred),
        Stmt::Begin { .. } => boundary(Kind::Begin),
        Stmt::Commit { .. } => with(Kind::Commit, Effects { bounds: true, may_commit: true, ..NOTHING }),
        Stmt::Rollback { savepoint_name: Some(name), .. } => savepoint(Kind::RollbackTo, name, false),
        Stmt::Rollback { savepoint_name: None, .. } => boundary(Kind::Rollback),
        Stmt::Savepoint { name } => savepoint(Kind::Savepoint, name, false),
        Stmt::Release { name } => savepoint(Kind::Release, name, true),
        Stmt::Pragma { name, body } => of_pragma(&lower(&name.name), body.as_ref()),
        Stmt::CreateTable { temporary, tbl_name: name, .. } => {
            schema(name, *temporary, Effects { nests: !acting_parents(statement).is_empty(), ..SOMEWHERE })
        }
        Stmt::CreateTrigger { temporary, trigger_name: name, .. } => {
            schema(name, *temporary, Effects { nests: true, ..SOMEWHERE })
        }
        Stmt::CreateView { temporary, view_name: name, select, .. } => {
            let denied = walk(select).acts.then_some(ACTING_VIEW);
            schema(name, *temporary, Effects { nests: true, denied, ..SOMEWHERE })
        }
        Stmt::AlterTable(alter) => {
            let denied = matches!(alter.body, AlterTableBody::AlterColumn { .. }).then_some(ALTER_COLUMN);
            // What is nested below a table is then below its new name.
            let nests = matches!(alter.body, AlterTableBody::RenameTo(_)) || !acting_parents(statement).is_empty();
            schema(&alter.name, false, Effects { nests, denied, ..SOMEWHERE })
        }
        Stmt::CreateIndex { idx_name: name, .. }
        | Stmt::DropIndex { idx_name: name, .. }
        | Stmt::DropTable { tbl_name: name, .. }
        | Stmt::DropTrigger { trigger_name: name, .. }
        | Stmt::DropView { view_name: name, .. } => schema(name, false, SOMEWHERE),
        Stmt::Analyze { name: Some(name) } | Stmt::Reindex { name: Some(name) } => schema(name, false, SOMEWHERE),
        Stmt::Analyze { name: None } | Stmt::Reindex { name: None } => whole(SOMEWHERE),
        // The rest is rare, or new: whatever it is, nothing is taken for granted after it.
        Stmt::CreateMaterializedView { view_name: name, .. }
        | Stmt::CreateSequence { seq_name: name, .. }
        | Stmt::DropSequence { seq_name: name, .. }
        | Stmt::Optimize { idx_name: Some(name) } => schema(name, false, ANYTHING),
        Stmt::CreateVirtualTable(table) => schema(&table.tbl_name, false, ANYTHING),
        Stmt::CreateType { .. }
        | Stmt::DropType { .. }
        | Stmt::CreateDomain { .. }
        | Stmt::DropDomain { .. }
        | Stmt::Optimize { idx_name: None } => whole(ANYTHING),
        // It runs in no transaction, and so in no savepoint.
        Stmt::Vacuum { .. } => with(Kind::Schema, Effects { schema: true, ..SOMEWHERE }),
        Stmt::Attach { .. } | Stmt::Detach { .. } => {
            with(Kind::Schema, Effects { schema: true, session: true, ..ANYTHING })
        }
    }
}

const ACTING_VIEW: &str = "a view that calls nextval or setval would write wherever it is read: call it in the statement itself; it was not run";

pub(crate) const EMPTIES_THE_LOG: &str = "RESTART and TRUNCATE empty the log before the database is synced, and a power failure then takes away what was \
    acknowledged: use PRAGMA wal_checkpoint(PASSIVE); it was not run";

const ALTER_COLUMN: &str = "ALTER COLUMN can leave a database that the engine (0.8.3) does not open any more: make another table, and \
    copy the rows; it was not run";

fn boundary(kind: Kind) -> Text {
    with(kind, Effects { bounds: true, ..NOTHING })
}

fn savepoint(kind: Kind, name: &Name, may_commit: bool) -> Text {
    let name = lower(name);
    let our_savepoints = SAVEPOINTS.contains(&name.as_str());
    with(kind, Effects { savepoints: true, our_savepoints, may_commit, ..NOTHING })
}

fn rows(table: &QualifiedName) -> Text {
    let name = lower(&table.name);
    let is_told = is_ours(table) && !name.starts_with("sqlite_") && !name.starts_with("__turso_internal_");
    let text = with(Kind::Rows, Effects { writes: true, writes_anything: !is_told, ..NOTHING });
    let written = if is_told { vec![name.into_boxed_str()] } else { Vec::new() };
    temporary_or(is_temporary(table), Text { written, ..text })
}

/// A change of the schema, of an object by that name.
fn schema(name: &QualifiedName, temporary: bool, effects: Effects) -> Text {
    let Text { effects, .. } = whole(effects);
    let strange = effects.strange || temporary || !is_ours(name);
    temporary_or(temporary || is_temporary(name), with(Kind::Schema, Effects { strange, ..effects }))
}

/// A change of the schema as a whole.
fn whole(effects: Effects) -> Text {
    with(Kind::Schema, Effects { writes: true, schema: true, ..effects })
}

fn of_pragma(name: &str, body: Option<&PragmaBody>) -> Text {
    let (about, is_harmless) = pragma::about(name);
    // Whether statements after it write what they say.
    let effects = if body.is_some() && !is_harmless { ANYTHING } else { NOTHING };
    let kind = match (about, body) {
        (About::Telling | About::Acting, _) | (_, None) => Kind::Telling,
        (_, Some(_)) => Kind::Pragma,
    };
    let denied = match (name, body) {
        ("wal_checkpoint", Some(body)) => {
            let said = said(body);
            ["restart", "truncate"].iter().any(|mode| said.eq_ignore_ascii_case(mode)).then_some(EMPTIES_THE_LOG)
        }
        _ => None,
    };
    let effects = match (about, body) {
        (About::Telling, _) | (About::Database | About::Connection | About::JournalMode, None) => NOTHING,
        (About::Acting, _) | (About::Database, Some(_)) => Effects { session: true, denied, ..effects },
        (About::Connection, Some(_)) => Effects { session: true, beyond_session: false, ..effects },
        (About::JournalMode, Some(body)) => Effects { session: true, journal_mode: JournalMode::of(body), ..effects },
        (About::Unknown, body) => Effects { session: true, beyond_session: body.is_none(), ..ANYTHING },
    };
    with(kind, effects)
}

/// The first statement of a text that can be read, if it is not explained.
pub(super) fn first_statement(sql: &str) -> Option<Stmt> {
    match commands(sql).next()? {
        (Cmd::Stmt(statement), _) => Some(statement),
        _ => None,
    }
}

/// As the engine folds it: by ASCII alone.
pub(super) fn lower(name: &Name) -> String {
    name.as_str().to_ascii_lowercase()
}

/// Whether the name is of the database that the pool opened.
pub(super) fn is_ours(name: &QualifiedName) -> bool {
    name.db_name.as_ref().is_none_or(|database| lower(database) == "main")
}

fn is_temporary(name: &QualifiedName) -> bool {
    name.db_name.as_ref().is_some_and(|database| lower(database) == "temp")
}
