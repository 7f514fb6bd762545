//! What of a text asks the real world: the clock, or the operating system's random numbers. For the simulation (feature `harness`),
//! which names it when a seed is not the same run twice.
//!
//! By the engine's lexer alone, in any statement, a column's DEFAULT included. SQL's own `random()` and `randomblob()` are asked of
//! the engine's `IO`, which a world has its own of, and so are not among them. A parameter that is `'now'` is not seen.

use turso_parser::lexer::Lexer;
use turso_parser::token::TokenType;

/// Functions of the date and time: they ask the clock if they are given nothing or `'now'`.
const OF_TIME: [&str; 7] = ["date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"];

/// Functions that ask the clock, or for random numbers, whatever they are given.
const ALWAYS: [&str; 8] =
    ["uuid4", "uuid4_str", "gen_random_uuid", "uuid7", "uuid7_str", "time_now", "now", "current_timestamp"];

/// The first word or function of a text that asks the real world, as it is written there.
pub(super) fn asks_outside(sql: &str) -> Option<String> {
    let tokens =
        Lexer::new(sql.as_bytes()).map_while(Result::ok).filter(|token| token.token_type != TokenType::TK_NONE);
    let tokens: Vec<_> =
        tokens.map(|token| (token.token_type, String::from_utf8_lossy(token.value).into_owned())).collect();
    tokens.iter().enumerate().find_map(|(place, (kind, word))| {
        let asks = match kind {
            // Not in brackets, which make a name of it.
            TokenType::TK_CTIME_KW => place == 0 || tokens[place - 1].0 != TokenType::TK_LBRACKET,
            _ if !matches!(tokens.get(place + 1), Some((TokenType::TK_LP, _))) => false,
            _ => {
                let name = word.to_ascii_lowercase();
                ALWAYS.contains(&name.as_str())
                    || OF_TIME.contains(&name.as_str()) && asks_the_clock(&name, &tokens[place + 2..])
            }
        };
        asks.then(|| word.clone())
    })
}

/// Whether a function of the date and time does, that is given what begins here.
fn asks_the_clock(name: &str, tokens: &[(TokenType, String)]) -> bool {
    let mut open = 1;
    let (mut given, mut commas) = (0, 0);
    for (kind, word) in tokens {
        match kind {
            TokenType::TK_LP => open += 1,
            TokenType::TK_RP => open -= 1,
            TokenType::TK_COMMA if open == 1 => commas += 1,
            TokenType::TK_STRING if word.trim_matches('\'').eq_ignore_ascii_case("now") => return true,
            _ => {}
        }
        if open == 0 {
            break;
        }
        given += 1;
    }
    given == 0 || name == "strftime" && commas == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_the_clock_or_for_chance_is_named() {
        for (sql, named) in [
            ("INSERT INTO t VALUES (1, CURRENT_TIMESTAMP)", Some("CURRENT_TIMESTAMP")),
            ("CREATE TABLE t (at TEXT DEFAULT current_date)", Some("current_date")),
            ("UPDATE t SET at = datetime('now', '-1 day')", Some("datetime")),
            ("SELECT (date())", Some("date")),
            ("SELECT strftime('%Y'), 1", Some("strftime")),
            ("SELECT unixepoch ( 'NOW' )", Some("unixepoch")),
            ("INSERT INTO t VALUES (uuid4_str())", Some("uuid4_str")),
            ("SELECT date(at), strftime('%Y', at), time(?1) FROM t", None),
            ("SELECT date, 'CURRENT_TIMESTAMP', [current_time] FROM t -- CURRENT_DATE", None),
            ("SELECT random(), hex(randomblob(8))", None),
            ("not SQL at all ''' (", None),
        ] {
            assert_eq!(asks_outside(sql).as_deref(), named, "{sql}");
        }
    }
}
