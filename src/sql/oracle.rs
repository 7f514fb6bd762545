//! Whether what a text says of itself is true: the oracle of generated texts and of the fuzzer (feature `harness`).
//!
//! The reader looks at the parser's tree, statement by statement, each with a parser of its own. The oracle lets one parser go through
//! the whole text, and looks at nothing but the tokens that the tree is written with. Where the reader has read several statements, each
//! has to say the same when it is alone; and what stands around a text, or whether its letters are capital, has to change nothing.

use std::fmt::Debug;
use std::panic::catch_unwind;
use std::sync::Arc;

use turso_parser::ast::{Cmd, Stmt};
use turso_parser::lexer::Lexer;
use turso_parser::parser::Parser;
use turso_parser::token::TokenType::{self, *};

use super::depth::Most;
use super::pragma::{self, About};
use super::tokens::{each_name, each_token, unquoted};
use super::{Effects, Kind, Nesting, Reads, SAVEPOINTS, Text, asks_outside, variables};
use crate::stack::with_room;

/// Who reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The library.
    Library,
    /// A control, which has to be found out: of a text that can be read to its end, each semicolon ends a statement.
    Semicolons,
}

impl Reader {
    fn read(self, sql: &str) -> Arc<Text> {
        let text = Text::of(sql);
        let can_be_read = || text.statements(sql).all(|statement| !Text::of(statement).is_refused());
        match self {
            Reader::Semicolons if can_be_read() => {
                Arc::new(Text { ends: ends_at_semicolons(sql), ..Arc::into_inner(text).unwrap_or_default() })
            }
            Reader::Library | Reader::Semicolons => text,
        }
    }
}

fn ends_at_semicolons(sql: &str) -> Vec<usize> {
    let (mut ends, mut has_begun, mut is_over) = (Vec::new(), false, false);
    for (place, letter) in sql.char_indices() {
        match letter {
            ';' => is_over = has_begun,
            _ if letter.is_whitespace() => {}
            _ => {
                if std::mem::replace(&mut is_over, false) {
                    ends.push(place);
                }
                has_begun = true;
            }
        }
    }
    if !ends.is_empty() {
        ends.push(sql.len());
    }
    ends
}

/// What of a text is read wrongly, in words.
#[must_use]
pub fn disagreement(sql: &str, reader: Reader) -> Option<String> {
    holds(sql, &reader.read(sql)).err()
}

/// The text as often behind itself as 64 KiB hold: what takes time by the square of its length takes seconds.
#[must_use]
pub fn long(sql: &str) -> String {
    sql.repeat((64 << 10) / sql.len().max(1))
}

fn holds(sql: &str, text: &Text) -> Result<(), String> {
    has_the_same_in_other_surroundings(sql, text)?;
    // These are asked of any text, and must not panic.
    let _ = (variables(sql).len(), asks_outside(sql));
    if text.too_deep.is_some() {
        // Nobody hands it to the parser.
        return Ok(());
    }
    let Ok(commands) = catch_unwind(|| with_room(text.is_deep, || commands(sql))) else {
        return same("whether the parser panics", text.panics_the_parser(), true);
    };
    same("whether the parser panics", text.panics_the_parser(), false)?;
    // Nor must these, of what the schema may have.
    let _ = Nesting::of([sql]);
    #[cfg(feature = "cache")]
    let _ = (super::object::view(sql), super::object::table(sql));

    same("the statements", text.statements(sql).collect(), pieces(sql, &commands))?;
    same("the kind", text.kind, commands.first().map_or(Kind::Nothing, Command::kind))?;
    let Effects { bounds, savepoints, our_savepoints, writes, schema, session, .. } = text.effects;
    let any = |does: fn(&Command) -> bool| commands.iter().any(does);
    same("whether it bounds a transaction", bounds, any(Command::bounds))?;
    same("whether it has to do with savepoints", savepoints, any(|command| command.savepoint().is_some()))?;
    let is_ours = |command: &Command| command.savepoint().is_some_and(|name| SAVEPOINTS.contains(&&*name));
    same("whether they are the library's", our_savepoints, any(is_ours))?;
    same("whether it writes", writes, if writes { any(Command::may_write) } else { any(Command::writes) })?;
    same("whether it changes the schema", schema, any(|command| command.kind() == Kind::Schema))?;
    same("whether it changes its connection", session, any(Command::changes_its_connection))?;
    let written = commands.iter().filter_map(Command::written).collect::<Vec<_>>();
    same("the tables that it writes", text.written.iter().map(|name| name.to_string()).collect(), written)?;

    let all = pieces(sql, &commands);
    for (command, piece) in commands.iter().zip(&all) {
        command.has_the_words_of(piece)?;
    }
    if let ([command], Some(reads)) = (&commands[..], &text.reads) {
        command.gives_the_same_again(&reads.names, &reads.own)?;
    }
    match all.len() {
        1 => same("whether it has a parameter", text.has_parameters(sql), commands.iter().any(Command::has_parameters)),
        _ => is_the_sum_of(sql, text, &all),
    }
}

fn same<T: PartialEq + Debug>(what: &str, told: T, truth: T) -> Result<(), String> {
    match told == truth {
        true => Ok(()),
        false => Err(format!("{what}: told {told:?}, and it is {truth:?}")),
    }
}

/// Blanks and empty statements before it, behind it; capital letters.
fn has_the_same_in_other_surroundings(sql: &str, text: &Text) -> Result<(), String> {
    const BEFORE: &str = ";/*/ ' /*/ -- \"\n";
    const BEHIND: &str = "\n;";
    let moved = |ends: fn(usize) -> usize| Text {
        ends: text.ends.iter().copied().map(ends).collect(),
        written: text.written.clone(),
        reads: text.reads.as_ref().map(|reads| Reads { names: reads.names.clone(), own: reads.own.clone() }),
        ..*text
    };
    let differs = |what: &str, other: &str, expected: Text| {
        let told = Text::of(other);
        // A text that is short enough is not deep, whatever it is.
        same(what, &Text { is_deep: told.is_deep, ..expected }, &*told)
    };
    differs("behind blanks", &format!("{BEFORE}{sql}"), moved(|end| end + BEFORE.len()))?;
    let mut longer = moved(|end| end);
    longer.ends.last_mut().into_iter().for_each(|end| *end += BEHIND.len());
    differs("before blanks", &format!("{sql}{BEHIND}"), longer)?;
    differs("in capital letters", &sql.to_ascii_uppercase(), moved(|end| end))
}

/// Each statement by itself says what it adds to the whole.
fn is_the_sum_of(sql: &str, text: &Text, pieces: &[&str]) -> Result<(), String> {
    let alone: Vec<_> = pieces.iter().map(|piece| Text::of(piece)).collect();
    let mut effects = alone.first().map_or(Effects::default(), |first| first.effects);
    for (piece, own) in pieces.iter().zip(&alone) {
        same("whether something comes after one", own.has_a_tail(), false)?;
        same("whether it panics the parser alone", own.panics_the_parser(), false)?;
        same("whether it is too deep alone", own.too_deep, None)?;
        let is_deep = own.is_deep && !text.is_deep;
        same("whether it is deep alone", is_deep.then_some(piece), None)?;
        effects = effects.and(own.effects);
    }
    same("the first", text.kind, alone.first().map_or(Kind::Nothing, |first| first.kind))?;
    same("the effects of each", text.effects, effects)?;
    same(
        "the tables of each",
        text.written.iter().collect(),
        alone.iter().flat_map(|own| &own.written).collect::<Vec<_>>(),
    )?;
    let mut each = pieces.iter().zip(&alone);
    same("a parameter of one", text.has_parameters(sql), each.any(|(piece, own)| own.has_parameters(piece)))
}

/// Functions that write, or change the connection.
const ACTING: [&str; 5] = ["attach", "detach", "load_extension", "nextval", "setval"];

/// A statement, as the parser's tree writes it.
struct Command {
    is_explained: bool,
    statement: Stmt,
    tokens: Vec<(TokenType, String)>,
    /// Where what is behind it begins.
    end: usize,
}

/// One parser goes through all of them.
fn commands(sql: &str) -> Vec<Command> {
    let mut parser = Parser::new(sql.as_bytes());
    let mut commands = Vec::new();
    while let Ok(Some(command)) = parser.next_cmd() {
        let (statement, is_explained) = match command {
            Cmd::Stmt(statement) => (statement, false),
            Cmd::Explain(statement) | Cmd::ExplainQueryPlan { stmt: statement, .. } => (statement, true),
        };
        let mut tokens = Vec::new();
        each_token(&statement, |kind, text| tokens.push((kind, text.unwrap_or_default().to_owned())));
        commands.push(Command { is_explained, statement, tokens, end: parser.offset() });
    }
    commands
}

/// The texts of them, and what cannot be read.
fn pieces<'t>(sql: &'t str, commands: &[Command]) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for command in commands {
        pieces.push(&sql[start..command.end]);
        start = command.end;
    }
    if pieces.is_empty() || start < sql.len() {
        pieces.push(&sql[start..]);
    }
    pieces
}

impl Command {
    fn token(&self, place: usize) -> TokenType {
        self.tokens.get(place).map_or(TK_EOF, |(kind, _)| *kind)
    }

    /// A name, without its quotes and in lower case.
    fn name(&self, place: usize) -> Option<String> {
        let (kind, text) = self.tokens.get(place)?;
        (*kind == TK_ID).then(|| unquoted(text).to_ascii_lowercase())
    }

    /// Where its verb is: behind the common table expressions.
    fn verb(&self) -> usize {
        if self.token(0) != TK_WITH {
            return 0;
        }
        let mut open = 0;
        let verb = self.tokens.iter().position(|(kind, _)| {
            match kind {
                TK_LP => open += 1,
                TK_RP => open -= 1,
                _ => {}
            }
            open == 0 && matches!(kind, TK_SELECT | TK_VALUES | TK_INSERT | TK_REPLACE | TK_UPDATE | TK_DELETE)
        });
        verb.unwrap_or_default()
    }

    fn kind(&self) -> Kind {
        if self.is_explained && self.token(0) != TK_PRAGMA {
            return Kind::Explain;
        }
        match self.token(self.verb()) {
            TK_SELECT | TK_VALUES => Kind::Query,
            TK_INSERT | TK_REPLACE | TK_UPDATE | TK_DELETE => Kind::Rows,
            TK_BEGIN if matches!(self.token(1), TK_IMMEDIATE | TK_EXCLUSIVE | TK_CONCURRENT) => Kind::Begin,
            TK_BEGIN => Kind::BeginDeferred,
            TK_COMMIT => Kind::Commit,
            TK_ROLLBACK if self.tokens.iter().any(|(kind, _)| *kind == TK_TO) => Kind::RollbackTo,
            TK_ROLLBACK => Kind::Rollback,
            TK_SAVEPOINT => Kind::Savepoint,
            TK_RELEASE => Kind::Release,
            TK_PRAGMA => match (self.pragma(), self.is_given_something()) {
                (About::Telling | About::Acting, _) | (_, false) => Kind::Telling,
                (_, true) => Kind::Pragma,
            },
            _ => Kind::Schema,
        }
    }

    fn pragma(&self) -> About {
        let name = if self.token(2) == TK_DOT { 3 } else { 1 };
        pragma::about(&self.name(name).unwrap_or_default()).0
    }

    fn is_given_something(&self) -> bool {
        self.tokens.iter().any(|(kind, _)| matches!(kind, TK_EQ | TK_LP))
    }

    fn bounds(&self) -> bool {
        matches!(self.kind(), Kind::Begin | Kind::BeginDeferred | Kind::Commit | Kind::Rollback)
    }

    /// The name of the savepoint that it sets, releases or goes back to.
    fn savepoint(&self) -> Option<String> {
        match self.kind() {
            Kind::Savepoint | Kind::Release | Kind::RollbackTo => self.name(self.tokens.len() - 1),
            _ => None,
        }
    }

    fn writes(&self) -> bool {
        match self.kind() {
            Kind::Rows => true,
            Kind::Schema => !matches!(self.token(0), TK_VACUUM | TK_ATTACH | TK_DETACH),
            Kind::Query => self.calls(&ACTING, &[]),
            _ => false,
        }
    }

    /// It writes, or calls something by the name of what does, where a table may stand.
    fn may_write(&self) -> bool {
        let names = |place| self.name(place).is_some_and(|name| ACTING.contains(&&*name));
        self.writes() || (0..self.tokens.len()).any(|place| names(place) && self.token(place + 1) == TK_LP)
    }

    /// Whether a function of these names is called: not where a table or a type may stand.
    fn calls(&self, names: &[&str], own: &[String]) -> bool {
        const NOT_BEHIND: [TokenType; 8] = [TK_DOT, TK_AS, TK_WITH, TK_RECURSIVE, TK_IN, TK_FROM, TK_JOIN, TK_COMMA];
        (0..self.tokens.len()).any(|place| {
            let is_called = self.token(place + 1) == TK_LP && !NOT_BEHIND.contains(&self.token(place.wrapping_sub(1)));
            is_called && self.name(place).is_some_and(|name| names.contains(&&*name) && !own.contains(&name))
        })
    }

    /// Where the name of what it writes, creates, changes or drops is.
    fn object(&self) -> Option<usize> {
        let verb = self.verb();
        let mut place = match self.token(verb) {
            TK_INSERT | TK_REPLACE | TK_UPDATE | TK_DELETE => verb + 1,
            TK_CREATE | TK_ALTER | TK_DROP | TK_ANALYZE | TK_REINDEX | TK_OPTIMIZE => 1,
            _ => return None,
        };
        // What stands before it is no name, but for the words that the lexer does not know.
        if let Some("sequence" | "domain") = self.name(place).as_deref()
            && matches!(self.token(0), TK_CREATE | TK_DROP)
        {
            place += 1;
        }
        (place..self.tokens.len()).find(|place| self.token(*place) == TK_ID)
    }

    /// The name of its database, if it has one, and its own.
    fn qualified(&self) -> Option<(Option<String>, String)> {
        let place = self.object()?;
        match self.token(place + 1) {
            TK_DOT => Some((self.name(place), self.name(place + 2)?)),
            _ => Some((None, self.name(place)?)),
        }
    }

    fn changes_its_connection(&self) -> bool {
        match self.kind() {
            Kind::Rows | Kind::Schema => {
                let is_temporary = self.token(0) == TK_CREATE && self.token(1) == TK_TEMP
                    || self.qualified().is_some_and(|(database, _)| database.as_deref() == Some("temp"));
                is_temporary || matches!(self.token(0), TK_ATTACH | TK_DETACH)
            }
            Kind::Telling => matches!(self.pragma(), About::Acting | About::Unknown),
            Kind::Pragma => true,
            _ => false,
        }
    }

    /// The table that it writes rows of, if nothing else can be meant.
    fn written(&self) -> Option<String> {
        let (database, name) = self.qualified().filter(|_| self.kind() == Kind::Rows)?;
        let is_of_the_engine = ["sqlite_", "__turso_internal_"].iter().any(|own| name.starts_with(own));
        (database.is_none_or(|database| database == "main") && !is_of_the_engine).then_some(name)
    }

    fn has_parameters(&self) -> bool {
        self.tokens.iter().any(|(kind, _)| *kind == TK_VARIABLE)
    }

    /// What the lexer finds in its text is in the tree, and the other way round. Only where no bracket is: the lexer does not know what
    /// that is. Of what a virtual table is given the tree has only the text.
    fn has_the_words_of(&self, piece: &str) -> Result<(), String> {
        if let Stmt::CreateVirtualTable(_) = self.statement {
            return Ok(());
        }
        let most = Most::of(piece);
        let of_tree = Most::of_tokens(self.tokens.iter().map(|(kind, _)| *kind));
        let is_less = most.queries < of_tree.queries || most.terms < of_tree.terms || most.named < of_tree.named;
        same("how deep it is", is_less.then_some(&most), is_less.then_some(&of_tree))?;
        if piece.contains('[') {
            return Ok(());
        }
        let is_less = most.parentheses < of_tree.parentheses;
        same("how deep its parentheses are", is_less.then_some(&most), is_less.then_some(&of_tree))?;
        let words = Lexer::new(piece.as_bytes()).map_while(Result::ok);
        let words: Vec<_> = words.filter(|token| token.token_type != TK_NONE).collect();
        let kinds: Vec<_> = words.iter().map(|token| token.token_type).collect();
        // The tree has nothing of what is asked to be in an empty list. What a CHECK is given it has as a text; the engine refuses
        // parameters there.
        if kinds.windows(3).any(|words| words == [TK_IN, TK_LP, TK_RP]) {
            return Ok(());
        }
        if !kinds.contains(&TK_CHECK) {
            same("whether the tree has a parameter", self.has_parameters(), kinds.contains(&TK_VARIABLE))?;
        }
        if let Stmt::CreateView { .. } | Stmt::CreateTrigger { .. } = self.statement {
            let mut names = Vec::new();
            each_name(&self.statement, |name| names.push(name));
            for word in words.iter().filter(|token| token.token_type == TK_ID) {
                let word = word.to_utf8();
                let is_quoted = word.starts_with(['"', '`']);
                // The name of a type may be several words.
                let is_there = names.contains(&unquoted(&word).to_ascii_lowercase())
                    || self.tokens.iter().any(|(_, text)| text.len() > word.len() && text.contains(&*word));
                same("a name that the tree has not", (is_quoted && !is_there).then_some(word), None)?;
            }
        }
        Ok(())
    }

    /// It has no word that makes an answer another one each time, and reads no table that is not told.
    fn gives_the_same_again(&self, names: &[String], own: &[String]) -> Result<(), String> {
        let asks = self.tokens.iter().find(|(kind, _)| *kind == TK_CTIME_KW);
        same("a word that asks the clock", asks, None)?;
        const OTHER_EACH_TIME: [&str; 12] = [
            "random",
            "randomblob",
            "date",
            "time",
            "datetime",
            "julianday",
            "unixepoch",
            "strftime",
            "changes",
            "total_changes",
            "last_insert_rowid",
            "nextval",
        ];
        same("a function that gives another value each time", self.calls(&OTHER_EACH_TIME, own), false)?;
        for place in 0..self.tokens.len() {
            if let (TK_FROM | TK_JOIN, Some(mut name)) = (self.token(place), self.name(place + 1)) {
                if self.token(place + 2) == TK_DOT {
                    name = self.name(place + 3).unwrap_or_default();
                }
                let is_told = names.contains(&name) || self.token(place + 2) == TK_LP;
                same("a table that it reads", (!is_told).then_some(name), None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str =
        "INSERT INTO t VALUES (';', ?1); SAVEPOINT s; CREATE TEMP TABLE u (a); BEGIN; SELECT a FROM t; and";

    #[test]
    fn what_is_true_is_not_objected_to() {
        for sql in [
            SQL,
            "",
            ";;",
            "and then what?",
            "SELECT 'never closed",
            "WITH n (i) AS (SELECT 1 UNION SELECT i + 1 FROM n) SELECT a[1], [b ' c], ARRAY[2] FROM n JOIN main.t WHERE i IN u",
            "WITH random (x) AS (SELECT 1) SELECT * FROM random",
            "SELECT nextval('s'); SELECT date('now'); SELECT * FROM t, nextval('s'); SELECT 1, setval('s', 1)",
            "CREATE TABLE t (a CHECK (a > ?1)); CREATE VIRTUAL TABLE temp.t USING m (a, b ?1, 'x;y'); CREATE VIRTUAL TABLE t USING m",
            "EXPLAIN PRAGMA synchronous = OFF; PRAGMA journal_mode = 'wal'; PRAGMA main.user_version(3); PRAGMA table_info(t)",
            "CREATE TRIGGER r AFTER INSERT ON \"t;\" BEGIN UPDATE `u` SET a = (SELECT 1 FROM \"v\"); DELETE FROM w; END;",
            "ROLLBACK TRANSACTION TO SAVEPOINT poolproof_write; RELEASE s; ROLLBACK; VACUUM; ATTACH 'x' AS y; REINDEX temp.i",
            "CREATE VIEW v AS SELECT CAST(\"x\" AS \"a type\" w) FROM t",
            "UPDATE OR IGNORE temp.t SET a = 1; DELETE FROM sqlite_sequence; REPLACE INTO [T] DEFAULT VALUES",
            "SELECT ?1 IN (); CREATE SEQUENCE temp.s; DROP SEQUENCE s; CREATE DOMAIN d AS text; OPTIMIZE INDEX",
        ] {
            assert_eq!(disagreement(sql, Reader::Library), None, "{sql}");
        }
        let deep = format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200));
        assert_eq!(disagreement(&deep, Reader::Library), None);
    }

    #[test]
    fn a_reader_that_ends_statements_at_semicolons_is_found_out() {
        for sql in ["; SELECT 1;; SELECT 2 ; ", "SELECT 1; and then; what?"] {
            assert_eq!(disagreement(sql, Reader::Semicolons), None, "{sql}");
        }
        for sql in
            ["SELECT ';'", "SELECT 1 -- ;\n + 2", "SELECT 1; /* ; */ SELECT 2", "SELECT \"a;b\"", "SELECT /* ; */ 1"]
        {
            assert!(disagreement(sql, Reader::Semicolons).is_some(), "{sql}");
        }
    }

    /// Each thing that is told of a text, told wrongly.
    #[test]
    fn whatever_is_told_wrongly_is_found_out() {
        type Flaw = (&'static str, fn(&mut Text));
        let flaws: [Flaw; 12] = [
            ("kind", |text| text.kind = Kind::Query),
            ("an end too late", |text| text.ends[0] += 1),
            ("an end too few", |text| text.ends.truncate(1)),
            ("bounds", |text| text.effects.bounds = false),
            ("savepoints", |text| text.effects.savepoints = false),
            ("our_savepoints", |text| text.effects.our_savepoints = true),
            ("writes", |text| text.effects.writes = false),
            ("schema", |text| text.effects.schema = false),
            ("session", |text| text.effects.session = false),
            ("may_commit", |text| text.effects.may_commit ^= true),
            ("a table too few", |text| text.written.clear()),
            ("a table too many", |text| text.written.push("u".into())),
        ];
        for (flaw, plant) in flaws {
            let mut text = Arc::into_inner(Text::of(SQL)).expect("it is new");
            assert_eq!(holds(SQL, &text), Ok(()));
            plant(&mut text);
            assert!(holds(SQL, &text).is_err(), "{flaw}");
        }
        let query = "SELECT a FROM t, (SELECT b FROM u)";
        let mut text = Arc::into_inner(Text::of(query)).expect("it is new");
        text.reads.as_mut().expect("it gives the same again").names.pop();
        assert!(holds(query, &text).is_err());
    }
}
