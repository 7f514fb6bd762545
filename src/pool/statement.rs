//! What can be told from the text of a statement: where it ends, whether it is a query, whether it leaves something behind
//! on its connection, whether it begins or ends a transaction.
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

/// Whether the statement reads or writes rows and does nothing else, so that it will come again, and its prepared form is
/// worth keeping.
pub(crate) fn is_worth_keeping(sql: &str) -> bool {
    is_one_of(word(skip_to_word(sql)).0, &REPEATED)
}

/// Whether the statement writes, or may, and is no more than that: it neither begins nor ends anything.
pub(super) fn may_write(sql: &str) -> bool {
    writes_rows(sql) || is_one_of(word(skip_to_word(sql)).0, &["CREATE", "ALTER", "DROP", "REINDEX", "ANALYZE"])
}

/// Whether the statement certainly writes: one that begins with `WITH` may only read.
pub(super) fn certainly_writes(sql: &str) -> bool {
    let first = word(skip_to_word(sql)).0;
    match is_one_of(first, &["WITH"]) {
        true => tokens(sql).any(|token| is_one_of(token, &["INTO", "UPDATE", "DELETE"])),
        false => may_write(sql),
    }
}

/// Whether the statement begins a transaction that takes no lock yet.
pub(super) fn begins_deferred(sql: &str) -> bool {
    let (first, rest) = word(skip_to_word(sql));
    is_one_of(first, &["BEGIN"]) && !is_one_of(word(skip_to_word(rest)).0, &["IMMEDIATE", "EXCLUSIVE", "CONCURRENT"])
}

/// Whether a statement of the batch is about savepoints.
pub(super) fn has_savepoints(batch: &str) -> bool {
    statements(batch).any(is_about_savepoints)
}

/// Whether the statement writes rows, or may: a `WITH` can do either.
pub(crate) fn writes_rows(sql: &str) -> bool {
    is_one_of(word(skip_to_word(sql)).0, &["INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"])
}

/// Statements that change the schema.
const SCHEMA: [&str; 8] = ["CREATE", "ALTER", "DROP", "ANALYZE", "REINDEX", "VACUUM", "ATTACH", "DETACH"];

/// Statements that begin or end a transaction.
const BOUNDARY: [&str; 4] = ["BEGIN", "COMMIT", "END", "ROLLBACK"];

/// Whether something comes after the first statement. The engine would run the first, and silently drop the rest.
pub(super) fn has_a_tail(sql: &str) -> bool {
    !skip_to_word(&sql[first_end(sql)..]).is_empty()
}

/// Whether a statement of the batch changes the schema.
pub(super) fn changes_the_schema(batch: &str) -> bool {
    statements(batch).any(|statement| is_one_of(word(statement).0, &SCHEMA))
}

/// The statements of a batch, each without what is before its first word.
fn statements(mut batch: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let statement = skip_to_word(batch);
        let (first, rest) = statement.split_at(first_end(statement));
        batch = rest;
        (!first.is_empty()).then_some(first)
    })
}

/// Whether the statement begins or ends a transaction. `ROLLBACK TO` a savepoint does neither.
pub(crate) fn is_boundary(statement: &str) -> bool {
    let (first, rest) = word(skip_to_word(statement));
    is_one_of(first, &BOUNDARY) && !word(skip_to_word(rest)).0.eq_ignore_ascii_case("TO")
}

/// Whether the statement is about savepoints: sets one, or goes back to one, or gives it up.
pub(super) fn is_about_savepoints(statement: &str) -> bool {
    is_one_of(word(skip_to_word(statement)).0, &["SAVEPOINT", "ROLLBACK", "RELEASE"])
}

/// Whether a statement of the batch begins or ends a transaction.
pub(super) fn bounds_a_transaction(batch: &str) -> bool {
    statements(batch).any(is_boundary)
}

/// Whether the batch mentions a name, in whatever letters.
pub(super) fn mentions(batch: &str, name: &str) -> bool {
    batch.as_bytes().windows(name.len()).any(|window| window.eq_ignore_ascii_case(name.as_bytes()))
}

/// Where the first statement ends: behind its semicolon, or at the end of the text. The body of a trigger has semicolons
/// of its own; behind the last of them is its `END`. (An `END` elsewhere is one of `CASE`, or a name.)
fn first_end(sql: &str) -> usize {
    let is_trigger = is_trigger(sql);
    let mut at = 0;
    let (mut before_last, mut last) = ("", "");
    while let Some(token) = token(&sql[at..]) {
        at += token.len();
        if token == ";" && (!is_trigger || before_last == ";" && last.eq_ignore_ascii_case("END")) {
            return at;
        }
        let is_between = token.starts_with("--") || token.starts_with("/*") || token.trim().is_empty();
        if !is_between {
            (before_last, last) = (last, token);
        }
    }
    sql.len()
}

/// Whether a statement of the batch has a parameter: `?`, `?1`, `:name`, `@name` or `$name`.
pub(super) fn has_parameters(mut batch: &str) -> bool {
    while let Some(token) = token(batch) {
        batch = &batch[token.len()..];
        if token == "?" || matches!(token, ":" | "@" | "$") && batch.starts_with(is_of_a_word) {
            return true;
        }
    }
    false
}

/// The first word, comment, quoted text or letter of anything else.
fn token(sql: &str) -> Option<&str> {
    let letter = sql.chars().next()?;
    let length = match letter {
        '\'' | '"' | '`' => quoted(sql, letter),
        '[' => quoted(sql, ']'),
        '-' if sql.starts_with("--") => sql.find('\n').map_or(sql.len(), |end| end + 1),
        // Its end is looked for behind its beginning: "/*/" only begins a comment.
        '/' if sql.starts_with("/*") => sql[2..].find("*/").map_or(sql.len(), |end| end + 4),
        _ if is_of_a_word(letter) => {
            sql.find(|letter: char| !is_of_a_word(letter) && letter != '$').unwrap_or(sql.len())
        }
        _ => letter.len_utf8(),
    };
    Some(&sql[..length])
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// How long a quoted text is, its quotes included. A doubled quote ends one and begins another, which comes to the same.
fn quoted(text: &str, end: char) -> usize {
    let quote = text.chars().next().map_or(0, char::len_utf8);
    text[quote..].find(end).map_or(text.len(), |found| quote + found + end.len_utf8())
}

fn is_trigger(sql: &str) -> bool {
    let (first, rest) = word(skip_to_word(sql));
    let (second, rest) = word(skip_to_word(rest));
    let (third, _) = word(skip_to_word(rest));
    let kind = if is_one_of(second, &["TEMP", "TEMPORARY"]) { third } else { second };
    is_one_of(first, &["CREATE"]) && is_one_of(kind, &["TRIGGER"])
}

/// Whether the statement changes its connection.
pub(super) fn changes_the_session(sql: &str) -> bool {
    let (first, rest) = word(explained(sql));
    let (second, _) = word(skip_to_word(rest));
    is_one_of(first, &CHANGING) || is_one_of(first, &["CREATE"]) && is_one_of(second, &["TEMP", "TEMPORARY"])
}

/// Whether one of several statements may: any mention of such a word counts.
pub(super) fn may_change_the_session(batch: &str) -> bool {
    let mut words = batch.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.any(|word| is_one_of(word, &CHANGING) || is_one_of(word, &["TEMP", "TEMPORARY"]))
}

/// Pragmas that write what they are given into the database, or hand it to all connections of the process, and those that are
/// only asked about it. Whatever else is given something sets it for one connection.
const OF_THE_DATABASE: [&str; 18] = [
    "application_id",
    "user_version",
    "journal_mode",
    "auto_vacuum",
    "wal_checkpoint",
    "mvcc_checkpoint_threshold",
    "mvcc_gc_threshold",
    "mvcc_group_commit",
    "integrity_check",
    "quick_check",
    "database_list",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Whether all that the batch changes is its connection, by a setting or something temporary: after it, nothing is left.
pub(crate) fn changes_only_the_session(batch: &str) -> bool {
    let changes = |statement: &str| sets_its_connection(statement) || is_temporary(statement);
    statements(batch).next().is_some() && statements(batch).all(changes)
}

/// Whether the statement is a pragma that sets something of its connection. One that is given nothing only asks.
fn sets_its_connection(statement: &str) -> bool {
    let mut words = tokens(explained(statement));
    if !words.next().is_some_and(|first| is_one_of(first, &["PRAGMA"])) {
        return false;
    }
    let mut name = words.next().unwrap_or_default();
    let mut given = words.next();
    if given == Some(".") {
        name = words.next().unwrap_or_default();
        given = words.next();
    }
    let quotes = ['"', '`', '[', ']', '\''];
    matches!(given, Some("=" | "(")) && !is_one_of(name.trim_matches(quotes), &OF_THE_DATABASE)
}

fn is_temporary(statement: &str) -> bool {
    let mut words = tokens(statement);
    words.next().is_some_and(|first| is_one_of(first, &["CREATE"]))
        && words.next().is_some_and(|second| is_one_of(second, &["TEMP", "TEMPORARY"]))
}

/// The words, quoted texts and letters of anything else, without the blanks and comments between them.
fn tokens(mut sql: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        sql = skip_blanks(sql);
        let token = token(sql)?;
        sql = &sql[token.len()..];
        Some(token)
    })
}

/// Whether the statement is a query.
pub(super) fn is_query(sql: &str) -> bool {
    is_one_of(word(skip_to_word(sql)).0, &READING) && !changes_the_session(sql)
}

/// The statement that this one explains, or itself. The engine carries out a pragma while it compiles it, even one that is
/// only explained.
fn explained(sql: &str) -> &str {
    let statement = skip_to_word(sql);
    let (first, rest) = word(statement);
    if !is_one_of(first, &["EXPLAIN"]) {
        return statement;
    }
    let inner = skip_to_word(rest);
    match word(inner) {
        ("", _) => statement,
        (query, rest) if is_one_of(query, &["QUERY"]) => skip_to_word(word(skip_to_word(rest)).1),
        _ => inner,
    }
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn word(sql: &str) -> (&str, &str) {
    sql.split_at(sql.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(sql.len()))
}

/// The statement without the blanks, semicolons and comments before it.
fn skip_to_word(sql: &str) -> &str {
    skip(sql, |letter| letter.is_whitespace() || letter == ';')
}

/// The same, but for the semicolons.
fn skip_blanks(sql: &str) -> &str {
    skip(sql, char::is_whitespace)
}

/// The text without the comments before it, and the letters of which this holds.
fn skip(mut sql: &str, holds: impl Fn(char) -> bool) -> &str {
    loop {
        sql = sql.trim_start_matches(&holds);
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
            "EXPLAIN PRAGMA synchronous = OFF",
            "explain/**/query plan -- so\n pragma foreign_keys = 0",
        ] {
            assert!(changes_the_session(sql) && may_change_the_session(sql), "{sql}");
        }
        for sql in [
            "SELECT 'PRAGMA'",
            "INSERT INTO pragma VALUES (1)",
            "CREATE TABLE temp_log (x)",
            "EXPLAIN SELECT pragma FROM t",
            "EXPLAIN",
            "",
        ] {
            assert!(!changes_the_session(sql), "{sql}");
        }
    }

    #[test]
    fn what_sets_something_of_its_connection_only_is_told_from_what_the_database_keeps() {
        for sql in [
            "PRAGMA synchronous = OFF",
            "pragma/**/main . Synchronous(1)",
            "PRAGMA \"cache_size\" = 10; -- small\n PRAGMA busy_timeout = 5;",
            "PRAGMA nobody_knows_this = 1",
            "EXPLAIN QUERY PLAN PRAGMA synchronous = OFF",
            "CREATE TEMP TABLE t (x)",
        ] {
            assert!(changes_only_the_session(sql), "{sql}");
        }
        for sql in [
            "PRAGMA synchronous",
            "PRAGMA user_version = 7",
            "PRAGMA main.user_version(7)",
            "PRAGMA [User_Version] = 7",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA table_info(t)",
            "PRAGMA foreign_keys = OFF; DROP TABLE t",
            "CREATE TEMP TABLE t (x); INSERT INTO u SELECT x FROM t",
            "CREATE TABLE temp (x)",
            "INSERT INTO t VALUES ('PRAGMA synchronous = OFF')",
            " ; -- nothing",
            "",
        ] {
            assert!(!changes_only_the_session(sql), "{sql}");
        }
    }

    #[test]
    fn a_tail_is_seen_and_what_only_looks_like_one_is_not() {
        for sql in [
            "SELECT 1; SELECT 2",
            "INSERT INTO t VALUES (';') ; x",
            "SELECT 1;/* so */ -- and\n SELECT 2",
            "a;b;",
            "INSERT INTO a VALUES ('one') /*/ ' /*/ ; INSERT INTO a VALUES ('two')",
            "CREATE TRIGGER g AFTER INSERT ON s BEGIN SELECT 1; END; SELECT 2",
        ] {
            assert!(has_a_tail(sql), "{sql}");
        }
        for sql in [
            "SELECT 1",
            "SELECT 1;",
            "SELECT ';;', \";\", `;`, [;] ; -- SELECT 2",
            "SELECT 'it''s; fine' /* ; */ ;  ",
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET x = 1; DELETE FROM u; END;",
            "SELECT 'never closed; ",
            "CREATE TRIGGER g AFTER INSERT ON s BEGIN INSERT INTO r (start, end) VALUES (NEW.start, NEW.end); END",
            "CREATE TRIGGER g AFTER INSERT ON s BEGIN SELECT NEW.end; SELECT CASE WHEN 1 THEN 2 END; END -- ;\n ;",
            "SELECT 1 /*/ ; SELECT 2 /*/ ;",
            "",
        ] {
            assert!(!has_a_tail(sql), "{sql}");
        }
    }

    #[test]
    fn what_begins_or_ends_a_transaction_is_seen_in_a_batch_too() {
        for sql in ["BEGIN", " commit ;", "INSERT INTO t VALUES (1); ROLLBACK", "/**/END", "SELECT 1;;COMMIT"] {
            assert!(bounds_a_transaction(sql), "{sql}");
        }
        for sql in [
            "SAVEPOINT s",
            "ROLLBACK TO s",
            "RELEASE s",
            "SELECT CASE x WHEN 1 THEN 2 END; SELECT 'COMMIT'",
            "CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
        ] {
            assert!(!bounds_a_transaction(sql), "{sql}");
        }
    }

    #[test]
    fn a_parameter_of_a_batch_is_seen_and_what_only_looks_like_one_is_not() {
        for sql in ["INSERT INTO t VALUES (?)", "SELECT 1; SELECT ?2", "SELECT :a", "SELECT x,@a", "SELECT x=$a"] {
            assert!(has_parameters(sql), "{sql}");
        }
        for sql in [
            "SELECT '?', \":a\", `@a`, [$a] -- ?1",
            "/* ? */ SELECT a$b, x FROM t$1; SELECT '{}' -> '$.a'",
            "SELECT 1 : 2",
            "",
        ] {
            assert!(!has_parameters(sql), "{sql}");
        }
    }

    #[test]
    fn only_queries_are_queries() {
        for sql in ["SELECT 1", " with t AS (SELECT 1) SELECT * FROM t", "/**/values (1)", "EXPLAIN SELECT 1"] {
            assert!(is_query(sql), "{sql}");
        }
        for sql in [
            "COMMIT",
            "PRAGMA query_only = 0",
            "EXPLAIN PRAGMA query_only = 0",
            "INSERT INTO t VALUES (1) RETURNING x",
            "",
        ] {
            assert!(!is_query(sql), "{sql}");
        }
    }
}
