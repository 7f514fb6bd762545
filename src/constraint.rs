//! Which constraint a statement violated. The engine says so in a text; this is the one place that reads it.

use std::fmt;

/// A constraint that a statement violated. The statement had no effect, unless it says `OR FAIL` on a connection of the
/// caller's own, outside a transaction: then the rows before the conflict are there, as in SQLite.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// use poolproof::{ConstraintKind, Error, PooledDatabaseWriter};
///
/// let db = PooledDatabaseWriter::open(folder.path().join("users.db")).await?;
/// db.execute("CREATE TABLE users (name TEXT UNIQUE)", ()).await?;
/// db.execute("INSERT INTO users VALUES ('ada')", ()).await?;
/// let error = db.execute("INSERT INTO users VALUES ('ada')", ()).await.unwrap_err();
/// let constraint = error.constraint().expect("a constraint");
/// assert_eq!(constraint.kind, ConstraintKind::Unique);
/// assert_eq!((constraint.table.as_deref(), constraint.columns.as_slice()), (Some("users"), &["name".to_owned()][..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Constraint {
    /// What kind it is of.
    pub kind: ConstraintKind,
    /// The table, where the engine tells: not for a foreign key or a check. It does not quote names, so one with a dot in it is
    /// cut short.
    pub table: Option<String>,
    /// The columns, where the engine tells.
    pub columns: Vec<String>,
    /// The engine's words.
    pub message: String,
}

/// Kinds of constraints, as far as the engine tells them apart: to it, a primary key is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConstraintKind {
    /// `UNIQUE` or `PRIMARY KEY`.
    Unique,
    /// `NOT NULL`.
    NotNull,
    /// `CHECK`.
    Check,
    /// A foreign key.
    ForeignKey,
    /// A type that the column of a `STRICT` table, or a row's number, cannot have.
    Datatype,
    /// Another.
    Other,
}

/// How the engine's words begin.
const KINDS: [(&str, ConstraintKind); 7] = [
    ("UNIQUE constraint failed", ConstraintKind::Unique),
    ("PRIMARY KEY constraint failed", ConstraintKind::Unique),
    ("NOT NULL constraint failed", ConstraintKind::NotNull),
    ("CHECK constraint failed", ConstraintKind::Check),
    ("FOREIGN KEY constraint failed", ConstraintKind::ForeignKey),
    ("cannot store ", ConstraintKind::Datatype),
    ("datatype mismatch", ConstraintKind::Datatype),
];

impl Constraint {
    /// Whether this is what the engine says of a constraint.
    pub(crate) fn is_one(message: &str) -> bool {
        KINDS.iter().any(|(text, _)| message.starts_with(text))
    }

    /// Reads what the engine says: `UNIQUE constraint failed: t.x`, with several columns `t.(x, y)` or `t.x, t.y`.
    pub(crate) fn read(message: String) -> Self {
        let found = KINDS.iter().find_map(|(text, kind)| Some((message.split_once(text)?.1, *kind)));
        let (rest, kind) = found.unwrap_or(("", ConstraintKind::Other));
        let (table, columns) = match kind {
            ConstraintKind::Unique | ConstraintKind::NotNull => place(rest.trim_start_matches(':').trim()),
            _ => (None, Vec::new()),
        };
        Self { kind, table, columns, message }
    }
}

/// The table and the columns of `t.x`, `t.(x, y)` or `t.x, t.y`, with or without the engine's number behind them.
fn place(text: &str) -> (Option<String>, Vec<String>) {
    let text = match text.rsplit_once(" (") {
        Some((place, number)) if number.trim_end_matches(')').parse::<u32>().is_ok() => place,
        _ => text,
    };
    let Some((table, columns)) = text.split_once('.') else { return (None, Vec::new()) };
    let columns = match columns.strip_prefix('(').and_then(|columns| columns.strip_suffix(')')) {
        Some(columns) => columns.split(", ").map(str::to_owned).collect(),
        None => {
            let qualified = format!("{table}.");
            let names = text.split(", ").map(|column| column.strip_prefix(&qualified).unwrap_or(column));
            names.map(str::to_owned).collect()
        }
    };
    (Some(table.to_owned()), columns)
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Constraint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_are_read() {
        for (message, kind, table, columns) in [
            ("UNIQUE constraint failed: t.x", ConstraintKind::Unique, Some("t"), vec!["x"]),
            ("UNIQUE constraint failed: t.(x, y)", ConstraintKind::Unique, Some("t"), vec!["x", "y"]),
            ("UNIQUE constraint failed: t.x, t.y (19)", ConstraintKind::Unique, Some("t"), vec!["x", "y"]),
            ("UNIQUE constraint failed: duplicate key", ConstraintKind::Unique, None, vec![]),
            ("NOT NULL constraint failed: t.x (19)", ConstraintKind::NotNull, Some("t"), vec!["x"]),
            ("CHECK constraint failed: x > 1.5", ConstraintKind::Check, None, vec![]),
            ("FOREIGN KEY constraint failed", ConstraintKind::ForeignKey, None, vec![]),
            ("UNIQUE constraint failed: t.lower (x)", ConstraintKind::Unique, Some("t"), vec!["lower (x)"]),
            ("cannot store TEXT value in INTEGER column t.x (19)", ConstraintKind::Datatype, None, vec![]),
            ("datatype mismatch", ConstraintKind::Datatype, None, vec![]),
            ("another", ConstraintKind::Other, None, vec![]),
        ] {
            let read = Constraint::read(message.to_owned());
            assert_eq!((read.kind, read.table.as_deref()), (kind, table), "{message}");
            assert_eq!(
                (read.columns.clone(), read.to_string()),
                (columns.into_iter().map(str::to_owned).collect(), message.to_owned())
            );
        }
    }
}
