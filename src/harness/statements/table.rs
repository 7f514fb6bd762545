//! What a call came to, and what a database holds, as text that can be compared.

use std::fmt::{self, Write};

use turso::{Connection, Value};

use super::program::Program;

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// So many rows were changed, or these rows were read: one text for each statement.
    Done(Vec<String>),
    /// It failed, and left nothing.
    Failed(String),
    /// The library refused it, and the engine was not asked.
    Refused(String),
}

impl Told {
    /// Whether the engine, asked the same, came to the same. Of what is refused nothing can be compared.
    pub(super) fn agrees_with(&self, truth: &Told) -> bool {
        match (self, truth) {
            (Told::Refused(_), Told::Refused(_)) => true,
            (Told::Failed(one), Told::Failed(other)) => gist(one) == gist(other),
            (Told::Done(one), Told::Done(other)) => one == other,
            _ => false,
        }
    }
}

/// An error of no kind that is known here.
pub(super) const ANOTHER: &str = "another error";

/// Of an error, what the library does not say in its own words.
pub(super) fn gist(error: &str) -> String {
    let letters = error.to_lowercase();
    for kind in
        ["unique", "not null", "check", "foreign key", "primary key", "datatype", "no such table", "no such column"]
    {
        if letters.contains(kind) {
            return kind.to_owned();
        }
    }
    ANOTHER.to_owned()
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Done(of_each) => write!(f, "done: {}", of_each.join(", ")),
            Told::Failed(why) => write!(f, "failed: {why}"),
            Told::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// A row, so that no two that differ look alike.
pub(super) fn shown(values: impl IntoIterator<Item = Value>) -> String {
    let mut text = String::new();
    for value in values {
        let _ = match value {
            Value::Null => write!(text, "|NULL"),
            Value::Integer(number) => write!(text, "|{number}"),
            // By its bits, so that -0.0 is not 0.0.
            Value::Real(number) => write!(text, "|{number:?}r{:x}", number.to_bits()),
            Value::Text(letters) => write!(text, "|{letters:?}"),
            Value::Blob(bytes) => write!(text, "|x{bytes:02x?}"),
        };
    }
    text
}

/// All rows of a query on a plain connection, in the query's order.
///
/// # Errors
/// The engine's.
pub(super) async fn rows(connection: &Connection, sql: &str, params: Vec<Value>) -> turso::Result<Vec<String>> {
    let mut rows = connection.query(sql, params).await?;
    let columns = rows.column_count();
    let mut all = Vec::new();
    while let Some(row) = rows.next().await? {
        let values: turso::Result<Vec<Value>> = (0..columns).map(|column| row.get_value(column)).collect();
        all.push(shown(values?));
    }
    Ok(all)
}

/// Everything that a database holds, one line for each row; and what its check of itself says. In MVCC mode without the numbers of
/// rows: what was rolled back has used some up.
pub(super) async fn digest(connection: &Connection, mvcc: bool) -> String {
    let mut text = String::new();
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2";
    for line in rows(connection, schema, Vec::new()).await.unwrap_or_else(|error| vec![error.to_string()]) {
        let _ = writeln!(text, "schema {line}");
    }
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1";
    let rowid = if mvcc { "" } else { "rowid," };
    for table in rows(connection, tables, Vec::new()).await.unwrap_or_default() {
        let table = table.trim_start_matches('|');
        let all = rows(connection, &format!("SELECT {rowid} * FROM {table} ORDER BY 1"), Vec::new()).await;
        let mut all = match all {
            Ok(all) => all,
            // A table without numbers of rows.
            Err(_) => rows(connection, &format!("SELECT * FROM {table}"), Vec::new())
                .await
                .unwrap_or_else(|error| vec![error.to_string()]),
        };
        all.sort_unstable();
        for line in all {
            let _ = writeln!(text, "{table} {line}");
        }
    }
    for number in ["PRAGMA user_version", "PRAGMA application_id"] {
        for line in rows(connection, number, Vec::new()).await.unwrap_or_else(|error| vec![error.to_string()]) {
            let _ = writeln!(text, "{number} {line}");
        }
    }
    for line in
        rows(connection, "PRAGMA integrity_check", Vec::new()).await.unwrap_or_else(|error| vec![error.to_string()])
    {
        let _ = writeln!(text, "check {line}");
    }
    text
}

/// The first line in which two digests differ: what the library's database holds, and the engine's.
pub(super) fn differs(held: &str, wanted: &str) -> Option<String> {
    let part = held.lines().zip(wanted.lines()).find(|(one, other)| one != other);
    let part = part.map_or("one has more".to_owned(), |(one, other)| format!("{one}, and the engine alone {other}"));
    (held != wanted).then(|| format!("the database holds {part}"))
}

/// What the engine's check of itself found, by this digest. Whoever asks for that may write what a CHECK forbids.
pub(super) fn damage(program: &Program, held: &str) -> Option<String> {
    let lines = || held.lines().filter_map(|line| line.strip_prefix("check "));
    let found = lines().find(|line| *line != "|\"ok\"")?;
    let is_asked_for = found.contains("CHECK constraint failed") && program.asks_for("ignore_check_constraints");
    (!is_asked_for).then(|| format!("the engine finds damage: {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_no_agreement() {
        let done = |text: &str| Told::Done(vec![text.to_owned()]);
        let failed = |text: &str| Told::Failed(text.to_owned());
        assert!(done("1").agrees_with(&done("1")));
        assert!(failed("UNIQUE constraint failed: t.a; nothing was written").agrees_with(&failed("unique: t.a (19)")));
        for (told, truth) in [
            (done("1"), done("2")),
            (done("1"), failed("no such table: t")),
            (failed("no such table: t"), done("1")),
            (failed("UNIQUE constraint failed: t.a"), failed("NOT NULL constraint failed: t.a")),
            (Told::Refused("why".to_owned()), done("1")),
        ] {
            assert!(!told.agrees_with(&truth), "{told}, {truth}");
        }
        assert_ne!(shown([Value::Real(0.0)]), shown([Value::Real(-0.0)]));
        assert_ne!(shown([Value::Text("1".to_owned())]), shown([Value::Integer(1)]));
    }
}
