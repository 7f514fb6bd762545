//! The parameters that a text has, by their names. In brackets, which may be around a name, they are not told from others.

use turso_parser::lexer::Lexer;
use turso_parser::token::TokenType;

/// Them, as `?1` or `:name`; one without a name is `?`.
pub(super) fn variables(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = Lexer::new(sql.as_bytes());
    std::iter::from_fn(move || {
        loop {
            let token = rest.next()?.ok()?;
            if token.token_type == TokenType::TK_VARIABLE {
                // The lexer leaves the question mark out.
                let offset = token.value.as_ptr().addr().wrapping_sub(sql.as_ptr().addr());
                let begin = if sql.as_bytes().get(offset.wrapping_sub(1)) == Some(&b'?') { offset - 1 } else { offset };
                return sql.get(begin..offset + token.value.len());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_as_it_is_written() {
        let found: Vec<_> = variables("SELECT ?1, ?22, :a, @b, $c, '?3' -- ?5").collect();
        assert_eq!(found, ["?1", "?22", ":a", "@b", "$c"]);
        assert_eq!(variables("SELECT ?, 1").collect::<Vec<_>>(), ["?"]);
    }
}
