//! What is told of texts of all kinds.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

fn written(text: &Text) -> Vec<&str> {
    text.written.iter().map(|name| &**name).collect()
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
        let text = Text::of(sql);
        assert_eq!(written(&text), *names, "{sql}");
        assert!(!text.effects.writes_anything && !text.effects.strange, "{sql}");
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
        let effects = Text::of(sql).effects;
        assert!(effects.writes_anything && !effects.strange, "{sql}");
    }
}

#[test]
fn what_changes_the_connection_makes_it_one_that_is_not_believed() {
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
    ] {
        let Text { effects, reads, .. } = &*Text::of(sql);
        assert!(effects.strange && effects.may_commit && effects.writes_anything && reads.is_none(), "{sql}");
    }
}

#[test]
fn what_may_end_a_transaction_is_seen() {
    for sql in ["COMMIT", "END", "RELEASE s", "BEGIN; INSERT INTO t VALUES (1); COMMIT", "VACUUM"] {
        assert!(Text::of(sql).effects.may_commit, "{sql}");
    }
    for sql in ["BEGIN", "SAVEPOINT s", "ROLLBACK", "INSERT INTO t VALUES (1)", "SELECT 1", "PRAGMA query_only = 1"] {
        assert!(!Text::of(sql).effects.may_commit, "{sql}");
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
        ("SELECT a FROM t WHERE a NOT IN (SELECT a FROM u) AND b BETWEEN 1 AND (SELECT 2 FROM v)", &["t", "u", "v"]),
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
        let text = Text::of(sql);
        let reads = text.reads().unwrap_or_else(|| panic!("{sql}"));
        assert_eq!(reads.names, *names, "{sql}");
        assert!(reads.own.is_empty(), "{sql}");
    }
    let with = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n, t), m AS (SELECT * FROM u) SELECT * FROM m, n";
    let text = Text::of(with);
    let reads = text.reads().unwrap();
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
        assert_eq!(Text::of(sql).reads(), None, "{sql}");
    }
}

#[test]
fn what_outlives_its_statement_is_recognised_behind_blanks_and_comments() {
    for sql in [
        "PRAGMA synchronous = OFF",
        "  pragma foreign_keys(1)",
        "PRAGMA nobody_knows_this",
        "PRAGMA main.wal_checkpoint",
        "-- a remark\nATTACH 'x' AS y",
        "/* a remark */ ; detach y",
        "CREATE TEMP TABLE t (x)",
        "create /* so */ temporary view v AS SELECT 1",
        "EXPLAIN PRAGMA synchronous = OFF",
        "explain/**/query plan -- so\n pragma foreign_keys = 0",
    ] {
        assert!(Text::of(sql).effects.session, "{sql}");
    }
    for sql in [
        "SELECT 'PRAGMA'",
        "INSERT INTO pragma VALUES (1)",
        "CREATE TABLE temp_log (x)",
        "EXPLAIN SELECT pragma FROM t",
        "EXPLAIN",
        "",
    ] {
        assert!(!Text::of(sql).effects.session, "{sql}");
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
        assert!(Text::of(sql).changes_only_the_session(), "{sql}");
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
        assert!(!Text::of(sql).changes_only_the_session(), "{sql}");
    }
}

#[test]
fn a_tail_is_seen_and_what_only_looks_like_one_is_not() {
    for sql in [
        "SELECT 1; SELECT 2",
        "INSERT INTO t VALUES (';') ; x",
        "SELECT 1;/* so */ -- and\n SELECT 2",
        "SELECT 1; and then what?",
        "INSERT INTO a VALUES ('one') /*/ ' /*/ ; INSERT INTO a VALUES ('two')",
        "CREATE TRIGGER g AFTER INSERT ON s BEGIN SELECT 1; END; SELECT 2",
    ] {
        assert!(Text::of(sql).has_a_tail(), "{sql}");
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
        assert!(!Text::of(sql).has_a_tail(), "{sql}");
    }
}

#[test]
fn what_begins_or_ends_a_transaction_is_seen_in_a_batch_too() {
    for sql in ["BEGIN", " commit ;", "INSERT INTO t VALUES (1); ROLLBACK", "/**/END", "SELECT 1;;COMMIT"] {
        assert!(Text::of(sql).effects.bounds, "{sql}");
    }
    for sql in [
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "RELEASE s",
        "SELECT CASE x WHEN 1 THEN 2 END; SELECT 'COMMIT'",
        "CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
    ] {
        assert!(!Text::of(sql).effects.bounds, "{sql}");
    }
}

#[test]
fn a_parameter_of_a_batch_is_seen_and_what_only_looks_like_one_is_not() {
    for sql in [
        "INSERT INTO t VALUES (?)",
        "SELECT 1; SELECT ?2",
        "SELECT :a",
        "SELECT x,@a",
        "SELECT x=$a",
        "SELECT ARRAY[$a]",
        "UPDATE t SET a = 1 WHERE b IN (SELECT 1 LIMIT ?)",
        "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = :a RETURNING b",
        "EXPLAIN SELECT ?",
    ] {
        assert!(Text::of(sql).has_parameters(sql), "{sql}");
    }
    for sql in [
        "SELECT '?', \":a\", `@a`, [$a] -- ?1",
        "CREATE TABLE [?] ([$a], [a b?] TEXT)",
        "/* ? */ SELECT a$b, x FROM t$1; SELECT '{}' -> '$.a'",
        "SELECT 1 : 2",
        "",
    ] {
        assert!(!Text::of(sql).has_parameters(sql), "{sql}");
    }
}

#[test]
fn only_queries_are_queries() {
    for sql in ["SELECT 1", " with t AS (SELECT 1) SELECT * FROM t", "/**/values (1)", "EXPLAIN SELECT 1"] {
        assert!(Text::of(sql).is_query(), "{sql}");
    }
    for sql in
        ["COMMIT", "PRAGMA query_only = 0", "EXPLAIN PRAGMA query_only = 0", "INSERT INTO t VALUES (1) RETURNING x", ""]
    {
        assert!(!Text::of(sql).is_query(), "{sql}");
    }
}

#[test]
fn the_statements_of_a_text_are_all_of_it_and_what_cannot_be_read_is_the_last() {
    let cases: &[(&str, &[&str])] = &[
        ("SELECT 1", &["SELECT 1"]),
        ("SELECT 1; -- so", &["SELECT 1; -- so"]),
        ("SELECT 1;;SELECT 2", &["SELECT 1;;", "SELECT 2"]),
        (" ; DELETE FROM t; /* ; */ SELECT ';' ;; ", &[" ; DELETE FROM t; /* ; */ ", "SELECT ';' ;; "]),
        ("SELECT 1; and then what? SELECT 2", &["SELECT 1; ", "and then what? SELECT 2"]),
        ("and then what?; SELECT 2", &["and then what?; SELECT 2"]),
        (
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END; SELECT 2",
            &["CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END; ", "SELECT 2"],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(Text::of(sql).statements(sql).collect::<Vec<_>>(), *expected, "{sql}");
    }
}

/// Statements, what each is, and whether it bounds a transaction, changes the schema, or its connection.
const STATEMENTS: &[(&str, Kind, [bool; 3])] = &[
    ("SELECT ';' AS \"a;b\", `c--d`, 'it''s /* */'", Kind::Query, [false, false, false]),
    ("VALUES (1), ('--')", Kind::Query, [false, false, false]),
    ("WITH a AS (SELECT 1) SELECT CASE 1 WHEN 1 THEN 2 END FROM a", Kind::Query, [false, false, false]),
    ("INSERT INTO t VALUES ('BEGIN; COMMIT', x'00')", Kind::Rows, [false, false, false]),
    ("REPLACE INTO [t;u] VALUES (1) RETURNING a", Kind::Rows, [false, false, false]),
    ("UPDATE t SET \"end\" = 1", Kind::Rows, [false, false, false]),
    ("WITH a AS (SELECT 1) DELETE FROM t", Kind::Rows, [false, false, false]),
    ("DELETE FROM temp.t", Kind::Rows, [false, false, true]),
    ("BEGIN", Kind::BeginDeferred, [true, false, false]),
    ("BEGIN DEFERRED TRANSACTION", Kind::BeginDeferred, [true, false, false]),
    ("BEGIN IMMEDIATE", Kind::Begin, [true, false, false]),
    ("COMMIT", Kind::Commit, [true, false, false]),
    ("END TRANSACTION", Kind::Commit, [true, false, false]),
    ("ROLLBACK", Kind::Rollback, [true, false, false]),
    ("ROLLBACK TRANSACTION TO SAVEPOINT s", Kind::RollbackTo, [false, false, false]),
    ("SAVEPOINT \"commit\"", Kind::Savepoint, [false, false, false]),
    ("RELEASE s", Kind::Release, [false, false, false]),
    ("CREATE TABLE t (\"temp\" TEXT)", Kind::Schema, [false, true, false]),
    ("CREATE TABLE \"temp\".t (a)", Kind::Schema, [false, true, true]),
    ("CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; DELETE FROM u; END", Kind::Schema, [false, true, true]),
    (
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO r (start, end) VALUES (1, 2); END",
        Kind::Schema,
        [false, true, false],
    ),
    ("ALTER TABLE temp.t ADD COLUMN b", Kind::Schema, [false, true, true]),
    ("DROP INDEX temp.i", Kind::Schema, [false, true, true]),
    ("ATTACH 'x' AS y", Kind::Schema, [false, true, true]),
    ("PRAGMA synchronous = OFF", Kind::Pragma, [false, false, true]),
    ("PRAGMA table_info('t;u')", Kind::Telling, [false, false, false]),
    ("EXPLAIN PRAGMA foreign_keys = 0", Kind::Pragma, [false, false, true]),
    ("EXPLAIN QUERY PLAN SELECT 1", Kind::Explain, [false, false, false]),
];

/// What may stand between two words, and between two statements.
const BLANKS: &[&str] =
    &[" ", "\n", "\t ", "/**/", "/*/ ' /*/", "/* ; COMMIT; */", " -- it's; BEGIN\n", " --\n", "/*\"*/ "];

/// As many texts as `POOLPROOF_TEXTS` says, made of one to four statements, with blanks and comments of all kinds between their
/// words: where each ends, what the first is and what all of them do is known from how they were made. The oracle of the fuzzer looks at
/// each of them, too.
#[test]
fn texts_of_any_statements_are_read_as_they_were_made() {
    let count = std::env::var("POOLPROOF_TEXTS").map_or(10_000, |count| count.parse().expect("a number"));
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut below = |limit: usize| (random.next_u64() % limit as u64) as usize;
    for number in 0..count {
        let (mut sql, mut ends, mut made) = (String::new(), Vec::new(), Vec::new());
        for _ in 0..=below(4) {
            let (statement, kind, does) = STATEMENTS[below(STATEMENTS.len())];
            // A blank inside a quoted text stays; so only one that comes before any quote is another blank.
            let plain = statement.find(['\'', '"', '`', '[']).unwrap_or(statement.len());
            let (words, rest) = statement.split_at(plain);
            for word in words.split_inclusive(' ') {
                let (word, is_apart) = word.strip_suffix(' ').map_or((word, false), |word| (word, true));
                let as_is = below(2) == 0;
                sql.extend(word.chars().map(|letter| if as_is { letter } else { letter.to_ascii_lowercase() }));
                sql.push_str(if is_apart { BLANKS[below(BLANKS.len())] } else { "" });
            }
            sql.push_str(rest);
            for _ in 0..below(3) {
                sql.push_str(BLANKS[below(BLANKS.len())]);
            }
            for _ in 0..=below(2) {
                sql.push(';');
                sql.push_str(BLANKS[below(BLANKS.len())]);
            }
            ends.push(sql.len());
            made.push((kind, does));
        }
        let text = Text::of(&sql);
        assert_eq!(text.kind(), made[0].0, "{number}: {sql}");
        let lengths = text.statements(&sql).scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        });
        assert_eq!(lengths.collect::<Vec<_>>(), ends, "{number}: {sql}");
        let any = |which: usize| made.iter().any(|(_, does)| does[which]);
        let Effects { bounds, schema, session, .. } = text.effects();
        assert_eq!([bounds, schema, session], [any(0), any(1), any(2)], "{number}: {sql}");
        assert_eq!(text.is_query(), matches!(made[0].0, Kind::Query | Kind::Explain), "{number}: {sql}");
        assert_eq!(oracle::disagreement(&sql, oracle::Reader::Library), None, "{number}: {sql}");
    }
}
