//! How deep a statement goes, before anybody goes there.
//!
//! The engine's parser and compiler (0.8.3) call themselves for each level of a query, and a stack that overflows ends the
//! process. It bounds the depth of an expression (at 100) and the number of joined tables (63), and nothing else; the limits here
//! bound the rest, so that an unoptimised build of the engine stays within the [`ROOM`](crate::stack::ROOM) that it is given
//! (`tests/pool/depth.rs`). Found by the lexer alone, which calls nobody.

use turso_parser::lexer::Lexer;
use turso_parser::token::TokenType;

/// What goes too deep, and the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooDeep {
    pub(crate) what: &'static str,
    pub(crate) found: usize,
    pub(crate) limit: usize,
}

/// Parentheses in each other, those of expressions among them.
const PARENTHESES: usize = 100;
/// Queries in each other.
pub(crate) const QUERIES: usize = 24;
/// Queries that UNION, EXCEPT and INTERSECT put together in one statement.
const TERMS: usize = 200;
/// Queries with a name (WITH) in one statement: each may read the one before.
const NAMED: usize = 100;
/// Views that read each other, and triggers and foreign keys that set each other off.
pub(crate) const LINKS: usize = 24;

/// A shorter text goes nowhere near.
const SHORT: usize = 2 * QUERIES;

/// The first limit that a statement of the text exceeds.
pub(super) fn too_deep(sql: &str) -> Option<TooDeep> {
    if sql.len() < SHORT {
        return None;
    }
    let mut depth = Depth::default();
    let mut last = TokenType::TK_NONE;
    for token in Lexer::new(sql.as_bytes()).map_while(Result::ok) {
        if token.token_type == TokenType::TK_NONE {
            continue;
        }
        depth.take(last, token.token_type);
        last = token.token_type;
        if let Some(too_deep) = depth.exceeds() {
            return Some(too_deep);
        }
    }
    None
}

/// Of the statement that is read.
#[derive(Default)]
struct Depth {
    /// The open parentheses; those around a query are true.
    open: Vec<bool>,
    queries: usize,
    terms: usize,
    named: usize,
}

impl Depth {
    fn take(&mut self, last: TokenType, token: TokenType) {
        use TokenType::{
            TK_AS, TK_EXCEPT, TK_INTERSECT, TK_LP, TK_MATERIALIZED, TK_RP, TK_SELECT, TK_SEMI, TK_UNION, TK_VALUES,
            TK_WITH,
        };
        match token {
            TK_SEMI => *self = Self::default(),
            TK_LP => {
                self.open.push(false);
                self.named += usize::from(matches!(last, TK_AS | TK_MATERIALIZED));
            }
            TK_RP => self.queries -= usize::from(self.open.pop() == Some(true)),
            TK_SELECT | TK_VALUES | TK_WITH if last == TK_LP => {
                if let Some(is_query) = self.open.last_mut() {
                    *is_query = true;
                    self.queries += 1;
                }
            }
            TK_UNION | TK_EXCEPT | TK_INTERSECT => self.terms += 1,
            _ => {}
        }
    }

    fn exceeds(&self) -> Option<TooDeep> {
        let found = [
            ("parentheses in each other", self.open.len(), PARENTHESES),
            ("queries in each other", self.queries, QUERIES),
            ("queries put together by UNION, EXCEPT and INTERSECT", self.terms + 1, TERMS),
            ("queries named by WITH", self.named, NAMED),
        ];
        let exceeded = found.into_iter().find(|(_, found, limit)| found > limit)?;
        Some(TooDeep { what: exceeded.0, found: exceeded.1, limit: exceeded.2 })
    }
}
