//! What can be told from a statement's first words: whether it leaves something behind on its connection.
//!
//! A pragma, an attached database or a temporary table outlives the statement and would be the next user's. Telling by the
//! first words errs on the safe side: a connection that only read a pragma is discarded too, which costs some tens of
//! microseconds.

/// Statements that change the connection rather than the database.
const CHANGING: [&str; 3] = ["PRAGMA", "ATTACH", "DETACH"];
/// Statements that only read, unless a `WITH` hides a write; that is the engine's to refuse.
const READING: [&str; 4] = ["SELECT", "VALUES", "WITH", "EXPLAIN"];

/// Statements that come again and again, and change neither the schema nor the connection.
const REPEATED: [&str; 7] = ["SELECT", "VALUES", "WITH", "INSERT", "UPDATE", "DELETE", "REPLACE"];

/// Whether the statement's prepared form is worth keeping.
pub(super) fn is_worth_keeping(sql: &str) -> bool {
    is_one_of(word(skip_to_word(sql)).0, &REPEATED)
}

/// Whether the statement changes its connection.
pub(super) fn changes_the_session(sql: &str) -> bool {
    let rest = skip_to_word(sql);
    let (first, rest) = word(rest);
    let (second, _) = word(skip_to_word(rest));
    is_one_of(first, &CHANGING) || is_one_of(first, &["CREATE"]) && is_one_of(second, &["TEMP", "TEMPORARY"])
}

/// Whether one of several statements may: any mention of such a word counts.
pub(super) fn may_change_the_session(batch: &str) -> bool {
    let mut words = batch.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.any(|word| is_one_of(word, &CHANGING) || is_one_of(word, &["TEMP", "TEMPORARY"]))
}

/// Whether the statement is a query.
pub(super) fn is_query(sql: &str) -> bool {
    is_one_of(word(skip_to_word(sql)).0, &READING)
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn word(sql: &str) -> (&str, &str) {
    sql.split_at(sql.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(sql.len()))
}

/// The statement without the blanks, semicolons and comments before it.
fn skip_to_word(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ';');
        sql = if let Some(comment) = sql.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = sql.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return sql;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_outlives_its_statement_is_recognised_behind_blanks_and_comments() {
        for sql in [
            "PRAGMA synchronous = OFF",
            "  pragma foreign_keys",
            "-- a remark\nATTACH 'x' AS y",
            "/* a remark */ ; detach y",
            "CREATE TEMP TABLE t (x)",
            "create /* so */ temporary view v AS SELECT 1",
        ] {
            assert!(changes_the_session(sql) && may_change_the_session(sql), "{sql}");
        }
        for sql in ["SELECT 'PRAGMA'", "INSERT INTO pragma VALUES (1)", "CREATE TABLE temp_log (x)", ""] {
            assert!(!changes_the_session(sql), "{sql}");
        }
    }

    #[test]
    fn only_queries_are_queries() {
        for sql in ["SELECT 1", " with t AS (SELECT 1) SELECT * FROM t", "/**/values (1)"] {
            assert!(is_query(sql), "{sql}");
        }
        for sql in ["COMMIT", "PRAGMA query_only = 0", "INSERT INTO t VALUES (1) RETURNING x", ""] {
            assert!(!is_query(sql), "{sql}");
        }
    }
}
