//! The tokens of a statement, by the parser's tree: unlike the lexer, that tells a name in brackets from an array.

use std::convert::Infallible;

use turso_parser::ast::Stmt;
use turso_parser::ast::fmt::{BlankContext, ToTokens, TokenStream};
use turso_parser::token::TokenType;

/// Calls `see` for each of them, with its text if it is a name or a literal.
pub(super) fn each_token(statement: &Stmt, see: impl FnMut(TokenType, Option<&str>)) {
    let Ok(()) = statement.to_tokens(&mut Tokens(see), &BlankContext);
}

/// Calls `see` for each name among them, in lower case and without its quotes.
pub(super) fn each_name(statement: &Stmt, mut see: impl FnMut(String)) {
    each_token(statement, |kind, text| {
        if let (TokenType::TK_ID, Some(text)) = (kind, text) {
            see(unquoted(text).to_ascii_lowercase());
        }
    });
}

struct Tokens<F>(F);

impl<F: FnMut(TokenType, Option<&str>)> TokenStream for Tokens<F> {
    type Error = Infallible;

    fn append(&mut self, kind: TokenType, text: Option<&str>) -> Result<(), Infallible> {
        (self.0)(kind, text);
        Ok(())
    }
}

/// A name as it is without its quotes, if it has some.
pub(super) fn unquoted(name: &str) -> String {
    let within = |quote: char, end: char| name.strip_prefix(quote)?.strip_suffix(end);
    for quote in ['"', '\'', '`'] {
        if let Some(within) = within(quote, quote) {
            return within.replace(&format!("{quote}{quote}"), &quote.to_string());
        }
    }
    within('[', ']').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::read::first_statement;

    #[test]
    fn a_name_is_the_same_however_it_is_quoted() {
        for name in ["\"a b\"", "'a b'", "`a b`", "[a b]", "\"A B\""] {
            let statement = first_statement(&format!("CREATE VIEW v AS SELECT x FROM {name} JOIN u")).unwrap();
            let mut names = Vec::new();
            each_name(&statement, |name| names.push(name));
            assert_eq!(names, ["v", "x", "a b", "u"], "{name}");
        }
        assert_eq!(["\"a\"\"b\"", "'", "\"a\" b", "[]", ""].map(unquoted), ["a\"b", "'", "\"a\" b", "", ""]);
    }
}
