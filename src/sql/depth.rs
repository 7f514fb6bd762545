//! The nesting depth of a statement, measured before it is parsed.
//!
//! The engine's parser and compiler (0.8.3) recurse for each level of a query, and a stack overflow aborts the process. The engine
//! limits the depth of an expression (100) and the number of joined tables (63), and nothing else. The limits here cover the rest,
//! so that even an unoptimised build of the engine stays within the [`ROOM`](crate::stack::ROOM) that it is given
//! (`tests/pool/depth.rs`). Measured by the lexer alone, which does not recurse.

use turso_parser::lexer::Lexer;
use turso_parser::token::TokenType;

/// A limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooDeep {
    pub(crate) what: &'static str,
    pub(crate) found: usize,
    pub(crate) limit: usize,
}

/// Maximum number of nested parentheses, those of expressions included.
const PARENTHESES: usize = 100;
/// Maximum number of nested subqueries.
const QUERIES: usize = 24;
/// Maximum number of terms of compound queries (UNION, EXCEPT, INTERSECT) in one statement.
const TERMS: usize = 200;
/// Maximum number of common table expressions in one statement: each may read the one before.
const NAMED: usize = 100;
/// Maximum number of `ON CONFLICT` clauses of an INSERT: the parser calls itself for each.
const UPSERTS: usize = 100;

/// Number of nested parentheses, and half the number of operators, up to which 2 MiB of stack are enough for any build of the
/// engine.
const SHALLOW: usize = 10;

/// Length of a text, in bytes, below which it cannot be deep.
const SHORT: usize = 2 * SHALLOW;

/// The nesting depth of the statements of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// The first limit that one of them exceeds.
    pub(super) too_deep: Option<TooDeep>,
    /// One of them wants more stack than any thread has.
    pub(super) is_deep: bool,
    /// About how many subqueries deep one of them is, as far as its stack goes.
    pub(super) weight: usize,
}

pub(super) fn measure(sql: &str) -> Depth {
    if sql.len() < SHORT {
        return Depth::default();
    }
    let as_names = scan(sql, true);
    // The parser alone knows what a bracket is: around a name, of which no token counts, or around an array.
    match sql.contains('[') && as_names.too_deep.is_none() {
        true => {
            let as_arrays = scan(sql, false);
            let (is_deep, weight) = (as_names.is_deep || as_arrays.is_deep, as_names.weight.max(as_arrays.weight));
            Depth { is_deep, weight, ..as_arrays }
        }
        false => as_names,
    }
}

fn scan(sql: &str, names: bool) -> Depth {
    let mut depth = Depth::default();
    each_level(sql, names, |level| {
        depth.is_deep |= level.is_deep();
        depth.weight = depth.weight.max(level.weight());
        depth.too_deep = level.exceeds();
        depth.too_deep.is_none()
    });
    Depth { is_deep: depth.is_deep || depth.too_deep.is_some(), ..depth }
}

/// Calls `see` after each token, until it has seen enough. `names`: what is in brackets is passed over, as the parser does it, unread:
/// it may hold half of a quoted text. Otherwise it is read, and nothing is taken back there: what closes or ends may be of a name.
fn each_level(sql: &str, names: bool, mut see: impl FnMut(&Level) -> bool) {
    let mut level = Level::default();
    let mut last = TokenType::TK_NONE;
    let (mut place, mut bracket) = (0, None);
    // Whether any is closed from here on: a text of nothing but open ones is looked through once.
    let mut are_closed = true;
    let mut tokens = Lexer::new(sql.as_bytes());
    while let Some(Ok(token)) = tokens.next() {
        if token.token_type == TokenType::TK_NONE {
            continue;
        }
        // Some tokens are not slices of the text; they are where the last one was.
        let offset = token.value.as_ptr().addr().wrapping_sub(sql.as_ptr().addr());
        place = if offset < sql.len() { offset } else { place };
        if let Some((end, depth)) = bracket
            && place >= end
        {
            level.open.truncate(depth);
            bracket = None;
        }
        level.take(last, token.token_type, bracket.is_some());
        level.calls_json |= token.token_type == TokenType::TK_ID && is_of_json(token.value);
        last = token.token_type;
        if last == TokenType::TK_LBRACKET && bracket.is_none() && are_closed {
            let end = sql.as_bytes()[place..].iter().position(|&letter| letter == b']').map(|end| place + end);
            are_closed = end.is_some();
            match end {
                Some(end) if names => tokens = Lexer::new(&sql.as_bytes()[end + 1..]),
                Some(end) => bracket = Some((end, level.open.len())),
                None => {}
            }
        }
        if !see(&level) {
            return;
        }
    }
}

/// Whether it may be a function of JSON, which recurse as deep as a path that they are given: 812 levels of one overflow the 2 MiB of
/// a worker in an unoptimised build of the engine (0.8.3), which refuses some 1,000 to 2,000.
fn is_of_json(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"\"").or_else(|| name.strip_prefix(b"`")).unwrap_or(name);
    cfg!(debug_assertions) && name.len() > 4 && name[..4].eq_ignore_ascii_case(b"json")
}

/// Where the scan is, in the statement that it reads.
#[derive(Default)]
struct Level {
    /// The open parentheses; those around a query are true.
    open: Vec<bool>,
    terms: usize,
    named: usize,
    upserts: usize,
    /// The parenthesis that was opened last is around a common table expression, if a query is in it: not a window, nor what
    /// a column is generated from.
    may_be_named: bool,
    /// Operators, and words other than names: of those, each level of an expression has one at least.
    operators: usize,
    calls_json: bool,
}

impl Level {
    fn take(&mut self, last: TokenType, token: TokenType, in_brackets: bool) {
        use TokenType::{
            TK_AS, TK_BLOB, TK_COMMA, TK_CONFLICT, TK_DO, TK_DOT, TK_EXCEPT, TK_FLOAT, TK_ID, TK_INTEGER, TK_INTERSECT,
            TK_LP, TK_MATERIALIZED, TK_RP, TK_SELECT, TK_SEMI, TK_STRING, TK_UNION, TK_VALUES, TK_VARIABLE, TK_WITH,
        };
        // Of a constraint there comes what is done.
        self.upserts += usize::from(last == TK_CONFLICT && matches!(token, TK_LP | TK_DO));
        match token {
            TK_SEMI | TK_RP if in_brackets => {}
            TK_SEMI => *self = Self::default(),
            TK_LP => {
                self.open.push(false);
                self.may_be_named = matches!(last, TK_AS | TK_MATERIALIZED);
            }
            TK_RP => drop(self.open.pop()),
            TK_ID | TK_STRING | TK_INTEGER | TK_FLOAT | TK_BLOB | TK_VARIABLE | TK_COMMA | TK_DOT => {}
            _ => {
                self.operators += 1;
                self.terms += usize::from(matches!(token, TK_UNION | TK_EXCEPT | TK_INTERSECT));
                if matches!(token, TK_SELECT | TK_VALUES | TK_WITH)
                    && last == TK_LP
                    && let Some(is_query) = self.open.last_mut()
                {
                    *is_query = true;
                    self.named += usize::from(self.may_be_named);
                }
            }
        }
    }

    /// Of an unoptimised build of the engine, measured: 24 views of 12 nested subqueries each overflow [`ROOM`](crate::stack::ROOM),
    /// as 24 of 120 terms do.
    fn weight(&self) -> usize {
        1 + self.open.len().max(self.terms / 8).max(self.operators / 8)
    }

    fn is_deep(&self) -> bool {
        self.open.len() > SHALLOW || self.operators > 2 * SHALLOW || self.calls_json
    }

    fn queries(&self) -> usize {
        self.open.iter().filter(|is_query| **is_query).count()
    }

    fn exceeds(&self) -> Option<TooDeep> {
        // Each of them is one of the parentheses.
        let queries = if self.open.len() > QUERIES { self.queries() } else { 0 };
        let found = [
            ("nested parentheses", self.open.len(), PARENTHESES),
            ("nested subqueries", queries, QUERIES),
            ("terms of compound queries", self.terms + 1, TERMS),
            ("common table expressions", self.named, NAMED),
            ("ON CONFLICT clauses", self.upserts, UPSERTS),
        ];
        let exceeded = found.into_iter().find(|(_, found, limit)| found > limit)?;
        Some(TooDeep { what: exceeded.0, found: exceeded.1, limit: exceeded.2 })
    }
}

/// The most of each of what is limited, at any place of a text: for the oracle, which has it of the parser's tree, too.
#[cfg(feature = "harness")]
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) parentheses: usize,
    pub(super) queries: usize,
    pub(super) terms: usize,
    pub(super) named: usize,
}

#[cfg(feature = "harness")]
impl Most {
    fn see(&mut self, level: &Level) {
        self.parentheses = self.parentheses.max(level.open.len());
        self.queries = self.queries.max(level.queries());
        self.terms = self.terms.max(level.terms);
        self.named = self.named.max(level.named);
    }

    /// As [`measure`] finds it.
    pub(super) fn of(sql: &str) -> Self {
        let mut most = Self::default();
        for names in [true, false] {
            each_level(sql, names, |level| {
                most.see(level);
                true
            });
        }
        most
    }

    /// Of the tokens of a tree.
    pub(super) fn of_tokens(tokens: impl IntoIterator<Item = TokenType>) -> Self {
        let (mut most, mut level, mut last) = (Self::default(), Level::default(), TokenType::TK_NONE);
        for token in tokens {
            level.take(last, token, false);
            last = token;
            most.see(&level);
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_hides_nothing_whatever_it_is_around() {
        let nested = |name: &str| format!("SELECT * FROM (SELECT {name} FROM ").repeat(300);
        for name in
            ["x", "[x]", "[)]", "[;]", "[);)]", "['] ,[)]", "[\"] ,[;]", "[/*] ,[)]", "[--] ,[)]", "ARRAY[1, 2]"]
        {
            assert!(measure(&nested(name)).too_deep.is_some(), "{name}");
        }
        let array = format!("SELECT ARRAY[{}1{}]", "(".repeat(200), ")".repeat(200));
        assert!(measure(&array).too_deep.is_some());
        let names = format!("SELECT {}1", "[(x], ".repeat(300));
        assert_eq!(measure(&names).too_deep, None, "a name has no depth");
    }

    /// It would take hours if each were looked for to the end of the text.
    #[test]
    fn open_brackets_are_looked_through_once() {
        assert!(measure(&format!("SELECT {}", "[".repeat(1_000_000))).too_deep.is_none());
        assert!(measure(&format!("SELECT {}", "[x], ".repeat(200_000))).too_deep.is_none());
    }

    #[test]
    fn what_names_a_function_of_json_is_deep() {
        for sql in
            ["SELECT json_set(x, ?1, 2) FROM t", "SELECT \"JSONB_insert\"(x, ?1, 2)", "SELECT `json_set`(?1, ?2, 1)"]
        {
            assert_eq!(measure(sql).is_deep, cfg!(debug_assertions), "{sql}: an optimised engine does without");
        }
        assert!(!measure("SELECT son, 'json_set' FROM document -- json_set").is_deep);
    }

    #[test]
    fn a_window_and_a_generated_column_are_no_common_table_expressions() {
        let many = |n: usize, each: &str| vec![each; n].join(", ");
        for sql in [
            format!("CREATE TABLE t (x, {})", many(2 * NAMED, "c AS (x + 1)")),
            format!("SELECT sum(x) OVER w FROM t WINDOW {}", many(2 * NAMED, "w AS (ORDER BY x)")),
        ] {
            assert_eq!(measure(&sql).too_deep, None, "{sql}");
        }
        for each in
            ["c AS (SELECT 1)", "c (x) AS NOT MATERIALIZED (VALUES (1))", "c AS (WITH d AS (SELECT 1) SELECT 1)"]
        {
            let too_deep = measure(&format!("WITH {} SELECT 1", many(NAMED + 1, each))).too_deep;
            assert_eq!(too_deep.map(|too_deep| too_deep.what), Some("common table expressions"), "{each}");
        }
    }

    #[test]
    fn the_clauses_of_an_upsert_are_limited_and_those_of_constraints_are_not() {
        for each in [
            " ON CONFLICT (x) DO NOTHING",
            " ON CONFLICT DO NOTHING",
            " on conflict(x) where x > 1 do update set x = 2",
        ] {
            let found = |count: usize| measure(&format!("INSERT INTO t VALUES (1){}", each.repeat(count))).too_deep;
            assert_eq!(found(UPSERTS), None, "{each}");
            assert_eq!(found(UPSERTS + 1).map(|too_deep| too_deep.what), Some("ON CONFLICT clauses"), "{each}");
        }
        let columns: Vec<String> = (0..300).map(|column| format!("c{column} UNIQUE ON CONFLICT REPLACE")).collect();
        assert_eq!(measure(&format!("CREATE TABLE t ({})", columns.join(", "))).too_deep, None);
    }

    #[test]
    fn what_is_usual_is_not_deep() {
        for sql in [
            "INSERT INTO t (a, b, c, d, e, f, g) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            "SELECT a.x, count(*) FROM a JOIN b ON a.id = b.a WHERE a.x > ?1 AND b.y IN (1, 2, 3) GROUP BY 1 ORDER BY 2 LIMIT 5",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b TEXT, c INTEGER NOT NULL DEFAULT (0))",
        ] {
            let Depth { too_deep, is_deep, weight } = measure(sql);
            assert_eq!((too_deep, is_deep), (None, false), "{sql}");
            assert!(weight < 4, "{weight}: {sql}");
        }
        assert!(measure(&format!("SELECT {}1", "1 AND ".repeat(30))).is_deep);
        assert!(measure(&format!("SELECT {}1{}", "(".repeat(11), ")".repeat(11))).is_deep);
    }
}
