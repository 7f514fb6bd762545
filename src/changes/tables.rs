//! What the text of a statement says of the tables that it reads and writes, by the engine's own parser.
//!
//! A write names its table itself; what it does beyond that (triggers, foreign keys) is the schema's, and the schema is asked
//! by whoever reads ([`Schema`](super::Schema)): writing needs to know only the text. Whatever is not plainly an INSERT,
//! UPDATE or DELETE counts as a write to any table, unless it is known to write nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::catch_unwind;

use turso_parser::ast::{Cmd, Name, QualifiedName, Stmt};
use turso_parser::parser::Parser;

use super::versions::Slots;
use super::walk::walk;

/// Pragmas that change neither a table nor what later statements of the connection write.
const HARMLESS: [&str; 29] = [
    "application_id",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "data_sync_retry",
    "database_list",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "fullfsync",
    "function_list",
    "i_am_a_dummy",
    "ignore_check_constraints",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "page_count",
    "page_size",
    "query_only",
    "quick_check",
    "require_where",
    "synchronous",
    "table_info",
    "table_list",
    "table_xinfo",
    "temp_store",
    "user_version",
    "wal_checkpoint",
];

/// What a text says of itself: one statement, or several.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// The tables that it writes.
    pub(crate) writes: Slots,
    /// It may end a transaction, and so make visible what others before it wrote.
    pub(crate) may_commit: bool,
    /// After it, statements of the same connection may write more than they say.
    pub(crate) is_strange: bool,
    /// What it reads, if it is one query that gives the same rows as long as its tables stay the same.
    pub(crate) reads: Option<Reads>,
}

/// The tables of a query, in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Where a table may stand: tables and views, and its own names of subqueries.
    pub(crate) names: Vec<String>,
    /// Its own names of subqueries (WITH). They may hide a table, or not reach where the name stands.
    pub(crate) own: Vec<String>,
}

impl Text {
    pub(crate) fn of(sql: &str) -> Self {
        // The engine's parser asserts; a text that it cannot bear is the engine's to refuse, not the cache's.
        catch_unwind(|| parse(sql)).ok().flatten().unwrap_or_else(Self::unknown)
    }

    /// It may do anything.
    fn unknown() -> Self {
        Self { writes: Slots::UNKNOWN, may_commit: true, is_strange: true, reads: None }
    }

    fn writes(writes: Slots) -> Self {
        Self { writes, ..Self::default() }
    }

    /// This statement and, after it, another.
    fn then(self, other: Self) -> Self {
        Self {
            writes: self.writes.and(other.writes),
            may_commit: self.may_commit || other.may_commit,
            is_strange: self.is_strange || other.is_strange,
            reads: None,
        }
    }
}

/// The slot of a table, by its name in lower case.
pub(super) fn slot(name: &str) -> Slots {
    // The same in every process and release is not needed; the same for all users of one `Changes` is.
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let reserved = 2;
    Slots::one(reserved + (hasher.finish() % (Slots::COUNT as u64 - reserved as u64)) as usize)
}

/// As the engine folds it: by ASCII alone.
pub(super) fn lower(name: &Name) -> String {
    name.as_str().to_ascii_lowercase()
}

/// Whether the name is of the database that the pool opened.
pub(super) fn is_ours(name: &QualifiedName) -> bool {
    name.db_name.as_ref().is_none_or(|database| lower(database) == "main")
}

fn parse(sql: &str) -> Option<Text> {
    let mut parser = Parser::new(sql.as_bytes());
    let mut all: Option<Text> = None;
    while let Some(command) = parser.next_cmd().ok()? {
        let text = match command {
            Cmd::Explain(_) | Cmd::ExplainQueryPlan { .. } => Text::default(),
            Cmd::Stmt(statement) => of(&statement),
        };
        all = Some(match all {
            None => text,
            Some(before) => before.then(text),
        });
    }
    Some(all.unwrap_or_default())
}

fn of(statement: &Stmt) -> Text {
    let unknown = |is_strange| Text { is_strange, ..Text::unknown() };
    match statement {
        Stmt::Select(select) => {
            let walked = walk(select);
            match walked.acts {
                true => unknown(true),
                false => Text { reads: walked.same_again.then_some(walked.reads), ..Text::default() },
            }
        }
        Stmt::Insert { tbl_name: table, .. } | Stmt::Delete { tbl_name: table, .. } => Text::writes(written(table)),
        Stmt::Update(update) => Text::writes(written(&update.tbl_name)),
        Stmt::Begin { .. } | Stmt::Savepoint { .. } | Stmt::Rollback { .. } => Text::default(),
        Stmt::Commit { .. } | Stmt::Release { .. } => Text { may_commit: true, ..Text::default() },
        Stmt::Pragma { name, .. } if HARMLESS.contains(&lower(&name.name).as_str()) => Text::default(),
        // Asked for, and not set.
        Stmt::Pragma { name, body: None } if lower(&name.name) == "journal_mode" => Text::default(),
        Stmt::CreateTable { temporary, tbl_name: name, .. }
        | Stmt::CreateTrigger { temporary, trigger_name: name, .. }
        | Stmt::CreateView { temporary, view_name: name, .. } => unknown(*temporary || !is_ours(name)),
        Stmt::AlterTable(alter) => unknown(!is_ours(&alter.name)),
        Stmt::CreateIndex { idx_name: name, .. }
        | Stmt::DropIndex { idx_name: name, .. }
        | Stmt::DropTable { tbl_name: name, .. }
        | Stmt::DropTrigger { trigger_name: name, .. }
        | Stmt::DropView { view_name: name, .. } => unknown(!is_ours(name)),
        Stmt::Analyze { .. } | Stmt::Reindex { .. } | Stmt::Vacuum { .. } => unknown(false),
        // The rest is rare, new, or changes the connection: whatever it is, nothing is taken for granted after it.
        _ => unknown(true),
    }
}

fn written(table: &QualifiedName) -> Slots {
    let name = lower(&table.name);
    match is_ours(table) && !name.starts_with("sqlite_") && !name.starts_with("__turso_internal_") {
        true => slot(&name),
        false => Slots::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables that a text writes.
    fn writes(names: &[&str]) -> Slots {
        names.iter().fold(Slots::NONE, |slots, name| slots.and(slot(name)))
    }

    #[test]
    fn a_write_is_told_by_its_table_and_whatever_is_not_plain_is_one_to_any() {
        let cases: &[(&str, &[&str])] = &[
            ("INSERT INTO t VALUES (1)", &["t"]),
            ("INSERT INTO T (a) SELECT a FROM u", &["t"]),
            ("INSERT INTO main.t DEFAULT VALUES", &["t"]),
            ("INSERT OR IGNORE INTO \"t\" VALUES (1) ON CONFLICT DO UPDATE SET a = (SELECT 1 FROM u)", &["t"]),
            ("REPLACE INTO [t] VALUES (1) RETURNING a", &["t"]),
            ("WITH n AS (SELECT * FROM u) INSERT INTO t SELECT * FROM n", &["t"]),
            ("UPDATE t SET a = (SELECT a FROM u) WHERE b IN (SELECT b FROM v)", &["t"]),
            ("UPDATE OR REPLACE `t` AS u SET a = 1 FROM v", &["t"]),
            ("WITH n AS (SELECT 1) DELETE FROM t WHERE a IN n", &["t"]),
            ("DELETE FROM 't'", &["t"]),
            ("INSERT INTO t VALUES (1); DELETE FROM u;;", &["t", "u"]),
            ("BEGIN; UPDATE t SET a = 1; COMMIT", &["t"]),
            ("SELECT a FROM t", &[]),
            ("SELECT 1; SELECT 2", &[]),
            ("EXPLAIN DELETE FROM t", &[]),
            ("EXPLAIN QUERY PLAN DELETE FROM t", &[]),
            ("BEGIN IMMEDIATE", &[]),
            ("SAVEPOINT s", &[]),
            ("ROLLBACK TO s", &[]),
            ("PRAGMA query_only = 1", &[]),
            ("PRAGMA journal_mode", &[]),
            ("PRAGMA user_version = 3", &[]),
            ("PRAGMA main.table_info(t)", &[]),
            ("-- nothing", &[]),
        ];
        for (sql, names) in cases {
            assert_eq!(Text::of(sql).writes, writes(names), "{sql}");
            assert!(!Text::of(sql).is_strange, "{sql}");
        }
        for sql in [
            "INSERT INTO aux.t VALUES (1)",
            "DELETE FROM temp.t",
            "UPDATE sqlite_sequence SET seq = 0",
            "INSERT INTO __turso_internal_types VALUES (1)",
            "CREATE TABLE t (a)",
            "CREATE INDEX i ON t (a)",
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
            "ALTER TABLE t ADD COLUMN b",
            "DROP VIEW v",
            "VACUUM",
            "ANALYZE t",
        ] {
            assert_eq!(Text::of(sql).writes, Slots::UNKNOWN, "{sql}");
            assert!(!Text::of(sql).is_strange, "{sql}");
        }
    }

    #[test]
    fn what_changes_the_connection_or_cannot_be_read_makes_it_one_that_is_not_believed() {
        for sql in [
            "CREATE TEMP TABLE t (a)",
            "CREATE TABLE temp.t (a)",
            "CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE TRIGGER temp.r AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE TEMP VIEW v AS SELECT 1",
            "CREATE VIRTUAL TABLE t USING m (a)",
            "ATTACH 'x' AS a",
            "DETACH a",
            "PRAGMA journal_mode = 'wal'",
            "PRAGMA writable_schema = 1",
            "PRAGMA capture_data_changes_conn('full')",
            "SELECT nextval('s')",
            "INSERT INTO t VALUES (1); ATTACH 'x' AS a",
            "INSERT INTO t VALUES (1); and then what?",
            "SELEC 1",
            "\u{0}",
        ] {
            let text = Text::of(sql);
            assert!(text.is_strange && text.may_commit && text.reads.is_none(), "{sql}");
            assert_eq!(text.writes.and(Slots::UNKNOWN), text.writes, "{sql}");
        }
    }

    #[test]
    fn what_may_end_a_transaction_is_seen() {
        for sql in ["COMMIT", "END", "RELEASE s", "BEGIN; INSERT INTO t VALUES (1); COMMIT", "VACUUM"] {
            assert!(Text::of(sql).may_commit, "{sql}");
        }
        for sql in ["BEGIN", "SAVEPOINT s", "ROLLBACK", "INSERT INTO t VALUES (1)", "SELECT 1", "PRAGMA query_only = 1"]
        {
            assert!(!Text::of(sql).may_commit, "{sql}");
        }
    }

    #[test]
    fn a_query_reads_every_table_that_it_names_wherever_that_stands() {
        let cases: &[(&str, &[&str])] = &[
            ("SELECT 1", &[]),
            ("SELECT a FROM t", &["t"]),
            ("SELECT * FROM main.T AS x, \"u\" JOIN [v] ON x.a = v.a", &["t", "u", "v"]),
            ("SELECT t.*, (SELECT max(a) FROM u) FROM t", &["u", "t"]),
            ("SELECT a FROM (SELECT a FROM t UNION SELECT b FROM u)", &["t", "u"]),
            ("SELECT a FROM (t JOIN u USING (a))", &["t", "u"]),
            ("SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)", &["t", "u"]),
            ("SELECT a FROM t WHERE a IN u", &["t", "u"]),
            (
                "SELECT a FROM t WHERE a NOT IN (SELECT a FROM u) AND b BETWEEN 1 AND (SELECT 2 FROM v)",
                &["t", "u", "v"],
            ),
            ("SELECT a FROM t LEFT JOIN u ON t.a = (SELECT a FROM v)", &["t", "u", "v"]),
            ("SELECT a FROM t GROUP BY (SELECT 1 FROM u) HAVING count(*) > (SELECT 1 FROM v)", &["t", "u", "v"]),
            (
                "SELECT a FROM t ORDER BY (SELECT 1 FROM u) LIMIT (SELECT 1 FROM v) OFFSET (SELECT 1 FROM w)",
                &["t", "u", "v", "w"],
            ),
            (
                "SELECT CASE (SELECT 1 FROM t) WHEN (SELECT 1 FROM u) THEN (SELECT 1 FROM v) ELSE (SELECT 1 FROM w) END",
                &["u", "v", "t", "w"],
            ),
            ("SELECT CAST((SELECT 1 FROM t) AS TEXT) || -(SELECT 1 FROM u) COLLATE NOCASE", &["t", "u"]),
            ("SELECT coalesce((SELECT 1 FROM t), 2) IS NULL, (SELECT 1 FROM u) NOTNULL", &["t", "u"]),
            ("SELECT a LIKE (SELECT 'x' FROM t) ESCAPE (SELECT 'y' FROM u), ((SELECT 1 FROM v))", &["t", "u", "v"]),
            ("SELECT sum(a) FILTER (WHERE a IN (SELECT a FROM u)) FROM t", &["u", "t"]),
            ("SELECT sum(a) OVER (PARTITION BY (SELECT 1 FROM u) ORDER BY (SELECT 1 FROM v)) FROM t", &["u", "v", "t"]),
            ("SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY (SELECT 1 FROM u))", &["t", "u"]),
            ("SELECT group_concat(a ORDER BY (SELECT 1 FROM u)) FROM t", &["u", "t"]),
            ("SELECT a FROM t EXCEPT SELECT a FROM u INTERSECT SELECT a FROM v", &["t", "u", "v"]),
            ("VALUES (1), ((SELECT a FROM t))", &["t"]),
            ("SELECT value FROM t, json_each((SELECT a FROM u))", &["t", "u"]),
            ("SELECT a FROM sqlite_schema", &["sqlite_schema"]),
        ];
        for (sql, names) in cases {
            let reads = Text::of(sql).reads.unwrap_or_else(|| panic!("{sql}"));
            assert_eq!(reads.names, *names, "{sql}");
            assert!(reads.own.is_empty(), "{sql}");
        }
        let with = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n, t), m AS (SELECT * FROM u) SELECT * FROM m, n";
        let reads = Text::of(with).reads.unwrap();
        assert_eq!((reads.own.join(" "), reads.names.join(" ")), ("n m".to_owned(), "n t u m n".to_owned()));
    }

    #[test]
    fn a_query_whose_answer_depends_on_more_than_tables_is_never_kept() {
        for sql in [
            "SELECT random()",
            "SELECT RANDOM() FROM t",
            "SELECT \"random\"()",
            "SELECT abs(random())",
            "SELECT a FROM t ORDER BY random()",
            "SELECT sum(random()) OVER () FROM t",
            "SELECT sum(a) FILTER (WHERE a > random()) FROM t",
            "SELECT a FROM t LIMIT (SELECT random())",
            "WITH n AS (SELECT random()) SELECT * FROM n",
            "SELECT date('now')",
            "SELECT date(a) FROM t",
            "SELECT strftime('%Y', ?1)",
            "SELECT CURRENT_TIMESTAMP",
            "SELECT CURRENT_DATE, CURRENT_TIME",
            "SELECT last_insert_rowid()",
            "SELECT changes()",
            "SELECT total_changes()",
            "SELECT uuid4()",
            "SELECT sqlite_version()",
            "SELECT currval('s')",
            "SELECT an_extensions_own(a) FROM t",
            "SELECT count(*), is_autocommit() FROM t",
            "SELECT a FROM t WHERE a MATCH 'x'",
            "SELECT * FROM pragma_table_info('t')",
            "SELECT * FROM fsdir('.')",
            "SELECT a FROM other.t",
            "SELECT a FROM t WHERE a IN other.t",
            "SELECT a FROM t WHERE a IN fsdir('.')",
            "EXPLAIN SELECT a FROM t",
            "SELECT 1; SELECT 2",
            "INSERT INTO t VALUES (1) RETURNING a",
        ] {
            assert_eq!(Text::of(sql).reads, None, "{sql}");
        }
    }
}
