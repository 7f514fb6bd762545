//! A program: what is called, how, and what at the same time.

use std::fmt;

use turso::Value;

/// How statements are given to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One, by the writer's `execute`.
    Execute,
    /// One, prepared by the writer.
    Prepared,
    /// Several, by the writer's `execute_batch`.
    Batch,
    /// Several, in a closure of the writer's that ends at the first that fails.
    Closure,
    /// Several, in one that goes on after those that fail, and is committed.
    HeedlessClosure,
    /// Several, in one that returns an error of its own at its end.
    FailingClosure,
    /// One, on a guard without a transaction.
    Guard,
    /// The same; if it gives rows, the first is looked at, and the rest is dropped.
    Glance,
    /// Several, in a transaction of a guard, which goes on after those that fail and is committed.
    GuardTransaction,
    /// The same, rolled back.
    GuardRollback,
    /// One query, in a snapshot.
    Read,
    /// One query, through the cache, twice.
    Cached,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 12] = [
        Way::Execute,
        Way::Prepared,
        Way::Batch,
        Way::Closure,
        Way::HeedlessClosure,
        Way::FailingClosure,
        Way::Guard,
        Way::Glance,
        Way::GuardTransaction,
        Way::GuardRollback,
        Way::Read,
        Way::Cached,
    ];

    /// Whether it is in the lane's queue from its first poll on, so that several at the same time have an order that is known.
    #[must_use]
    pub fn is_queued(self) -> bool {
        use Way::{Batch, Closure, Execute, FailingClosure, HeedlessClosure};
        matches!(self, Execute | Batch | Closure | HeedlessClosure | FailingClosure)
    }

    /// Whether it only reads.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Way::Read | Way::Cached)
    }

    /// Whether it takes one statement.
    #[must_use]
    pub fn takes_one(self) -> bool {
        matches!(self, Way::Execute | Way::Prepared | Way::Guard | Way::Glance | Way::Read | Way::Cached)
    }
}

/// A statement and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// Its parameters, in their order.
    pub params: Vec<Value>,
    /// Whether it gives rows, so that it is asked as a query is.
    pub gives_rows: bool,
}

impl Statement {
    /// Behind a comment. (A trigger's text has words for the end of a transaction elsewhere.)
    fn first_word(&self) -> &str {
        let undressed = self.sql.rsplit("*/").next().unwrap_or_default();
        undressed.split([' ', '\t', '\n', ';']).find(|word| !word.is_empty()).unwrap_or_default()
    }

    /// Whether it begins or ends a whole transaction.
    pub(super) fn bounds_a_transaction(&self) -> bool {
        match self.first_word() {
            "BEGIN" | "COMMIT" | "END" => true,
            "ROLLBACK" => !self.sql.contains("own"),
            _ => false,
        }
    }

    /// Whether the documentation names a rule by which the library may refuse it: it changes its connection, bounds a transaction,
    /// gives rows, is too deep, or is none; and what is prepared must write rows.
    pub(super) fn may_be_refused(&self, way: Way) -> bool {
        let sql = self.sql.to_uppercase();
        if way == Way::Prepared
            && ["CREATE", "ALTER", "DROP", "ANALYZE", "REINDEX", "SELEC 1"].iter().any(|word| sql.contains(word))
        {
            return true;
        }
        let word = |word: &str| sql.contains(word);
        let rules = ["TEMP", "PRAGMA", "VACUUM", "ATTACH", "DETACH", "UNION ALL", "FROM (SELECT", "WITH C0"];
        let is_bound = ["SAVEPOINT", "RELEASE", "ROLLBACK"].contains(&self.first_word()) || self.bounds_a_transaction();
        let cannot_give_rows = matches!(way, Way::Execute | Way::Prepared | Way::Batch);
        (self.gives_rows && cannot_give_rows)
            || is_bound
            || rules.into_iter().any(word)
            || sql.replace(';', "").trim().is_empty()
    }
}

/// One call of the library.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// How.
    pub way: Way,
    /// What.
    pub statements: Vec<Statement>,
}

/// What the library runs a program in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// A file of the system's, instead of one in memory: SQLite checks it in the end.
    pub file: bool,
    /// Guards are of another pool on the same file.
    pub two_pools: bool,
    /// No prepared statement is kept.
    pub no_statement_cache: bool,
    /// In MVCC mode, one call after the other.
    pub mvcc: bool,
    /// The file is opened by a symbolic link; the other pool opens it by its own name.
    pub link: bool,
    /// It is opened by a path from the folder that the process is in.
    pub relative: bool,
    /// The file's name has blanks, dots, quotes, and letters of several scripts.
    pub odd_name: bool,
    /// A hook sets what the writer relies on.
    pub hooks: bool,
    /// As little room in the queue and in the cache, and as small commits, as can be.
    pub narrow: bool,
    /// On a runtime with worker threads.
    pub threads: bool,
}

impl Environment {
    /// All that can be said of it, each with its name.
    pub(super) fn all(&mut self) -> [(&mut bool, &'static str); 10] {
        let Self { file, two_pools, no_statement_cache, mvcc, link, relative, odd_name, hooks, narrow, threads } = self;
        [
            (two_pools, "guards of another pool"),
            (link, "opened by a link"),
            (relative, "by a relative path"),
            (odd_name, "of an odd name"),
            (file, "in a file"),
            (no_statement_cache, "no statement cache"),
            (mvcc, "MVCC mode"),
            (hooks, "hooks"),
            (narrow, "room for one"),
            (threads, "worker threads"),
        ]
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = *self;
        let words: Vec<&str> = said.all().into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
        if words.is_empty() { Ok(()) } else { writeln!(f, "-- {}", words.join(", ")) }
    }
}

/// Calls, one group after the other; those of a group at the same time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Where.
    pub environment: Environment,
    /// The groups.
    pub groups: Vec<Vec<Call>>,
}

impl Program {
    /// All calls, in the order in which they take effect.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.groups.iter().flatten()
    }

    /// Whether this word is in one of its statements.
    pub(super) fn asks_for(&self, word: &str) -> bool {
        self.calls().flat_map(|call| &call.statements).any(|asked| asked.sql.contains(word))
    }

    /// Whether some statement, constraint or trigger keeps its first rows when it fails.
    pub(super) fn fails_half_way(&self) -> bool {
        self.asks_for("FAIL")
    }

    /// How many statements there are.
    #[must_use]
    pub fn statements(&self) -> usize {
        self.calls().map(|call| call.statements.len()).sum()
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql)?;
        if !self.params.is_empty() {
            write!(f, " -- {:?}", self.params)?;
        }
        Ok(())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.way)?;
        self.statements.iter().try_for_each(|statement| write!(f, " {{ {statement} }}"))
    }
}

/// A value as SQL.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        Value::Text(letters) => format!("'{}'", letters.replace('\'', "''")),
        Value::Blob(bytes) => format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// SQL that runs, with how it is called in comments.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.environment)?;
        for group in &self.groups {
            for (place, call) in group.iter().enumerate() {
                let beside = if place > 0 { ", at the same time" } else { "" };
                writeln!(f, "-- {:?}{beside}", call.way)?;
                for Statement { sql, params, .. } in &call.statements {
                    let mut text = sql.clone();
                    for (place, value) in params.iter().enumerate() {
                        text = text.replace(&format!("?{}", place + 1), &literal(value));
                    }
                    let as_it_is = if params.is_empty() { "" } else { " -- its number is a parameter" };
                    writeln!(f, "{text};{as_it_is}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_printed_as_sql_that_runs() {
        let statement = Statement {
            sql: "INSERT INTO t VALUES ( ?1 , 2 )".to_owned(),
            params: vec![Value::Integer(-7)],
            gives_rows: false,
        };
        let groups = vec![vec![Call { way: Way::Prepared, statements: vec![statement] }]];
        let program = Program { environment: Environment::default(), groups };
        let shown = "-- Prepared\nINSERT INTO t VALUES ( -7 , 2 ); -- its number is a parameter\n";
        assert_eq!(program.to_string(), shown);
        assert_eq!(
            [Value::Null, Value::Real(1.0), Value::Blob(vec![0, 255])].each_ref().map(literal),
            ["NULL", "1.0", "x'00ff'"]
        );
        assert_eq!(literal(&Value::Text("it's".to_owned())), "'it''s'");
    }
}
