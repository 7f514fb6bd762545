//! What generated statements ask for, and what became of those that did: a feature that no statement has, or that never succeeds, is not
//! tested, however many programs are.

use std::collections::BTreeMap;

use serde::Serialize;

use super::program::Program;
use super::table::Told;
use super::{FAILED, REFUSED};

/// The words that a feature is known by.
const WORDS: [&str; 59] = [
    "STRICT",
    "AUTOINCREMENT",
    "PRIMARY KEY",
    "NOT NULL",
    "CHECK (",
    "DEFAULT",
    "COLLATE NOCASE",
    "UNIQUE (a",
    "FOREIGN KEY",
    "REFERENCES",
    "DEFERRABLE",
    "ON DELETE CASCADE",
    "ON DELETE SET NULL",
    "ON UPDATE CASCADE",
    "ON CONFLICT ABORT",
    "ON CONFLICT FAIL",
    "ON CONFLICT IGNORE",
    "ON CONFLICT REPLACE",
    "ON CONFLICT ROLLBACK",
    "OR ABORT",
    "OR FAIL",
    "OR IGNORE",
    "OR REPLACE",
    "OR ROLLBACK",
    "DO NOTHING",
    "DO UPDATE",
    "excluded.",
    "RETURNING",
    "DEFAULT VALUES",
    "INTO",
    "SET rowid",
    "AS o WHERE",
    "DELETE FROM",
    "CREATE TABLE",
    "CREATE UNIQUE INDEX",
    " DESC)",
    "CREATE VIEW",
    "CREATE TRIGGER",
    "UPDATE OF",
    "RAISE(ABORT",
    "RAISE(FAIL",
    "RAISE(IGNORE",
    "RAISE(ROLLBACK",
    "ADD COLUMN",
    "DROP COLUMN",
    "RENAME COLUMN",
    "RENAME TO",
    "DROP TABLE",
    "DROP VIEW",
    "DROP INDEX",
    "DROP TRIGGER",
    "ANALYZE",
    "REINDEX",
    "WITH ",
    "UNION",
    "LEFT JOIN",
    "OVER (",
    "LIMIT",
    "EXISTS (",
];

/// The same, of what the library refuses, or the engine does not take: there is no more to it than that nothing comes of it.
const REFUSED_WORDS: [&str; 13] = [
    "TEMP",
    "PRAGMA",
    "VACUUM",
    "ATTACH",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "END TRANSACTION",
    "SAVEPOINT own",
    "RELEASE own",
    "ROLLBACK TO own",
    "INSTEAD OF",
    "WITHOUT ROWID",
    "made AS (",
];

/// What became of the statements with a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uses {
    /// They did what they were for.
    pub done: u64,
    /// They failed, as they do on the engine alone.
    pub failed: u64,
    /// The library refused them.
    pub refused: u64,
}

/// By feature, what became of the statements that have it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Features(BTreeMap<&'static str, Uses>);

impl Features {
    /// Those that no statement had; and those with which none succeeded, unless they are refused everywhere.
    #[must_use]
    pub fn untested(&self) -> Vec<&'static str> {
        let uses = |word: &str| self.0.get(word).copied().unwrap_or_default();
        let never_done = WORDS.into_iter().filter(|word| uses(word).done == 0);
        never_done.chain(REFUSED_WORDS.into_iter().filter(|word| uses(word).refused + uses(word).failed == 0)).collect()
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Uses)> {
        self.0.iter().map(|(word, uses)| (*word, *uses))
    }

    /// Counts what a program asked for. Of a batch all statements came to the same.
    pub(super) fn count(&mut self, program: &Program, told: &[Told]) {
        for (call, told) in program.calls().zip(told) {
            for (place, statement) in call.statements.iter().enumerate() {
                let (done, failed, refused) = match told {
                    Told::Failed(_) => (0, 1, 0),
                    Told::Refused(_) => (0, 0, 1),
                    Told::Done(of_each) => match of_each.get(place).map_or("", String::as_str) {
                        FAILED => (0, 1, 0),
                        text if text.starts_with(REFUSED) => (0, 0, 1),
                        _ => (1, 0, 0),
                    },
                };
                let sql = statement.sql.split_whitespace().collect::<Vec<_>>().join(" ");
                for word in WORDS.into_iter().chain(REFUSED_WORDS).filter(|word| sql.contains(word)) {
                    let uses = self.0.entry(word).or_default();
                    uses.done += done;
                    uses.failed += failed;
                    uses.refused += refused;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Call, Environment, Statement, Way};
    use super::*;

    /// What an insert with an `OR` clause came to: whether that clause is tested then.
    fn is_tested(told: Told) -> bool {
        let statement = Statement { sql: "INSERT OR\nIGNORE INTO t".to_owned(), params: Vec::new(), gives_rows: false };
        let groups = vec![vec![Call { way: Way::Execute, statements: vec![statement] }]];
        let mut features = Features::default();
        features.count(&Program { environment: Environment::default(), groups }, &[told]);
        assert!(features.untested().contains(&"DO UPDATE") && features.iter().count() > 1, "{features:?}");
        !features.untested().contains(&"OR IGNORE")
    }

    #[test]
    fn what_never_succeeds_is_not_tested() {
        assert!(is_tested(Told::Done(vec!["1".to_owned()])));
        assert!(!is_tested(Told::Done(vec![FAILED.to_owned()])));
        assert!(!is_tested(Told::Done(vec![format!("{REFUSED}: why")])));
        assert!(!is_tested(Told::Failed("why".to_owned())));
        assert!(!is_tested(Told::Refused("why".to_owned())));
    }
}
