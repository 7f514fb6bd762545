//! A seed's program, or that of given choices: statements by a weighted grammar, most of which succeed.
//!
//! The grammar knows the names that it has made, and not whether making them succeeded, so some statements fail for their names;
//! others for their values, at a row in the middle if they write several. Nothing asks the clock or for chance: both sides have to
//! come to the same.

use turso::Value;

use super::choices::{Choices, Part};
use super::program::{Call, Environment, Program, Statement, Way};

/// Groups of a program, at most.
const GROUPS: u64 = 14;
/// Calls at the same time, at most.
const TOGETHER: u64 = 6;
/// Statements of a call, at most.
const SEVERAL: u64 = 5;

/// Comments that change nothing, before a statement and behind it.
const BEFORE: [&str; 2] = ["/* ' ; \" */ ", "/*/ ' /*/ "];
const BEHIND: &str = " -- ; COMMIT";

/// A table that was made, perhaps.
#[derive(Clone)]
struct Table {
    name: String,
    columns: Vec<String>,
    /// Its first column says which row is meant, perhaps.
    key: bool,
    /// Some of its constraints replace: a build of the engine with its own checks panics at an upsert there (FINDINGS.md).
    replaces: bool,
}

impl Table {
    fn plain(name: String, columns: &[&str]) -> Self {
        Self { name, columns: columns.iter().map(|&column| column.to_owned()).collect(), key: false, replaces: false }
    }
}

/// What a program has much of: what goes wrong only where several of a kind meet is met by programs that are one-sided ("swarm
/// testing", Groce et al., ISSTA 2012), and hardly ever by those that have a little of everything.
#[derive(Clone, Copy, Default)]
struct Theme {
    /// Foreign keys.
    keys: bool,
    /// `OR` clauses.
    conflicts: bool,
    /// `RETURNING`.
    returning: bool,
    /// Values that meet.
    few_values: bool,
    /// Statements that were asked before, word for word: what is kept of them may be out of date.
    repeats: bool,
    /// `ANALYZE`, after which the engine may read rows in another order beside others than alone: what reads and writes says in which.
    statistics: bool,
}

pub(super) struct Grammar {
    choices: Choices,
    theme: Theme,
    tables: Vec<Table>,
    /// Indexes and triggers that were made, perhaps.
    others: [Vec<String>; 2],
    /// What was asked before: what writes, and queries.
    asked: [Vec<Statement>; 2],
    /// Names that were given so far: none is given twice by accident.
    names: u64,
    /// There may be a savepoint of the call's own.
    savepoint: bool,
    /// The engine numbers rows there as it likes: what was rolled back has used numbers up.
    mvcc: bool,
}

impl Grammar {
    pub(super) fn new(seed: u64) -> Self {
        Self::of(Choices::of_seed(seed))
    }

    pub(super) fn of(choices: Choices) -> Self {
        let (theme, none) = (Theme::default(), [const { Vec::new() }; 2]);
        Self {
            choices,
            theme,
            tables: Vec::new(),
            others: none,
            asked: [const { Vec::new() }; 2],
            names: 0,
            savepoint: false,
            mvcc: false,
        }
    }

    pub(super) fn program(self) -> Program {
        self.program_and_choices().0
    }

    /// And the bytes that make it again.
    pub(super) fn program_and_choices(mut self) -> (Program, Vec<u8>) {
        let program = self.choose();
        (program, self.choices.bytes())
    }

    fn choose(&mut self) -> Program {
        let file = self.one_in(4);
        let mut environment = Environment {
            file,
            two_pools: file && self.one_in(2),
            no_statement_cache: self.one_in(4),
            mvcc: self.one_in(8),
            ..Environment::default()
        };
        self.mvcc = environment.mvcc;
        self.theme = Theme {
            keys: self.one_in(4),
            conflicts: self.one_in(4),
            returning: self.one_in(4),
            few_values: self.one_in(4),
            repeats: self.one_in(4),
            statistics: self.one_in(8),
        };
        let mut groups = Vec::new();
        // Something to work on.
        for _ in 0..2 + self.choices.count(2) {
            let statements = vec![self.create_table()];
            self.choices.end(Part::Call);
            groups.push(vec![Call { way: Way::Execute, statements }]);
        }
        for _ in 0..3 + self.choices.count(GROUPS) {
            let first = self.call();
            let beside = first.way.is_queued() && self.one_in(2);
            let beside = if beside { self.choices.count(TOGETHER) } else { 0 };
            self.choices.end(Part::Call);
            let mut group = vec![first];
            for _ in 0..beside {
                let next = self.call();
                self.choices.end(Part::Call);
                if next.way.is_queued() {
                    group.push(next);
                }
            }
            groups.push(group);
        }
        if environment.mvcc {
            // Whoever changes the schema there is run twice, and the first time has used up numbers of rows.
            for call in groups.iter_mut().flatten().filter(|call| call.statements.len() > 1) {
                call.statements.retain(|statement| !changes_the_schema(&statement.sql));
            }
            groups.iter_mut().for_each(|group: &mut Vec<Call>| group.retain(|call| !call.statements.is_empty()));
        }
        environment.link = file && self.one_in(4);
        environment.relative = file && self.one_in(4);
        environment.odd_name = file && self.one_in(4);
        environment.hooks = self.one_in(4);
        environment.narrow = self.one_in(4);
        environment.threads = self.one_in(4);
        Program { environment, groups }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.choices.below(bound)
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn call(&mut self) -> Call {
        let way = self.one_of(&Way::ALL);
        let known = self.tables.clone();
        self.savepoint = false;
        let statements = match way {
            _ if way.reads() => vec![self.query()],
            Way::Glance if self.one_in(2) => vec![self.query()],
            _ if way.takes_one() => vec![self.statement(true)],
            Way::Batch => (0..1 + self.choices.count(SEVERAL)).map(|_| self.statement(false)).collect(),
            _ => (0..1 + self.choices.count(SEVERAL))
                .map(|_| if self.one_in(4) { self.query() } else { self.statement(true) })
                .collect(),
        };
        if matches!(way, Way::FailingClosure | Way::GuardRollback | Way::Prepared) {
            self.tables = known; // what it makes or drops is undone, or refused
        }
        Call { way, statements }
    }

    /// One that was asked before; in a batch, one without parameters.
    fn again(&mut self, queries: bool, params: bool) -> Option<Statement> {
        if !self.one_in(if self.theme.repeats { 3 } else { 16 }) {
            return None;
        }
        let undressed =
            |sql: &str| BEFORE.into_iter().fold(sql.replace(BEHIND, ""), |sql, words| sql.replace(words, ""));
        let is_none = |statement: &Statement| undressed(&statement.sql).replace(';', "").trim().is_empty();
        let fits = |statement: &&Statement| params || statement.params.is_empty() && !is_none(statement);
        let asked = &self.asked[usize::from(queries)];
        let count = asked.iter().filter(fits).count() as u64;
        if count == 0 {
            return None;
        }
        let place = self.choices.below(count) as usize;
        self.choices.end(Part::Statement);
        asked.iter().filter(fits).nth(place).cloned()
    }

    /// One that writes, or changes the schema. In a batch it has no parameters.
    fn statement(&mut self, params: bool) -> Statement {
        if let Some(again) = self.again(false, params) {
            return again;
        }
        let statement = self.new_statement(params);
        self.asked[0].push(statement.clone());
        statement
    }

    fn new_statement(&mut self, params: bool) -> Statement {
        let mut statement = match self.below(45) {
            _ if self.savepoint && self.one_in(3) => plain(self.one_of(&["RELEASE own", "ROLLBACK TO own"])),
            40 => self.temporary(),
            41 => self.setting(),
            42 => self.compound(),
            0..15 | 43 => self.insert(),
            15..22 => self.update(),
            22..27 => self.delete(),
            27..29 => self.create_table(),
            29..31 => self.create_index(),
            31..33 => self.create_trigger(),
            33 => self.create_view(),
            34..36 => self.alter(),
            36 => self.drop(),
            37 if self.theme.statistics => plain("ANALYZE"),
            37 => plain(self.one_of(&["REINDEX", "PRAGMA user_version = 7"])),
            44 => self.transaction(),
            38 => self.create_as(),
            _ => self.nonsense(params),
        };
        if params && self.one_in(2) {
            self.parameters(&mut statement);
        }
        self.dress(&mut statement);
        self.choices.end(Part::Statement);
        statement
    }

    /// A literal number becomes a parameter.
    fn parameters(&mut self, statement: &mut Statement) {
        let is_one = |word: &&str| word.parse::<i64>().is_ok();
        // In an order the engine drops it.
        if statement.sql.starts_with("CREATE") || statement.sql.contains("ORDER BY") {
            return;
        }
        if let Some(number) = statement.sql.split(' ').find(is_one).map(str::to_owned) {
            let number: i64 = number.parse().unwrap_or_default();
            statement.sql = statement.sql.replacen(&format!(" {number} "), " ?1 ", 1);
            if statement.sql.contains("?1") {
                statement.params = vec![Value::Integer(number)];
            }
        }
    }

    /// Comments and letters that change nothing.
    fn dress(&mut self, statement: &mut Statement) {
        match self.below(12) {
            0 => statement.sql.insert_str(0, BEFORE[0]),
            1 => statement.sql.push_str(BEHIND),
            2 => statement.sql.insert_str(0, BEFORE[1]),
            3 => statement.sql.push_str("; "),
            4 => statement.sql = statement.sql.replacen(' ', "\n\t", 1),
            _ => {}
        }
        // Behind it another statement of a batch may follow.
        if statement.sql.ends_with("COMMIT") {
            statement.sql.push('\n');
        }
    }

    /// It is gone, unless that failed; now and then it is asked for none the less.
    fn forget(&mut self, table: &Table) {
        if self.tables.len() > 2 && !self.one_in(4) {
            self.tables.retain(|known| known.name != table.name);
        }
    }

    fn table(&mut self) -> Table {
        let known = self.tables.len() as u64;
        match self.below(30) {
            0 => Table::plain("missing".to_owned(), &["a"]),
            _ => {
                let place = self.below(known) as usize;
                self.tables[place].clone()
            }
        }
    }

    fn column(&mut self, table: &Table) -> String {
        match self.below(40) {
            0 => "missing".to_owned(),
            _ => table.columns[self.below(table.columns.len() as u64) as usize].clone(),
        }
    }

    fn name(&mut self, of: &str) -> String {
        self.names += 1;
        let name = format!("{of}{}", self.names);
        match self.below(8) {
            0 => format!("\"{name} x\""),
            1 => format!("[{name}]"),
            2 => format!("`{name}`"),
            _ => name,
        }
    }

    /// Numbers from few, so that they meet; and what is at the edges.
    fn value(&mut self) -> String {
        if self.theme.few_values && !self.one_in(3) {
            return self.below(3).to_string();
        }
        match self.below(24) {
            0 => "NULL".to_owned(),
            1 => self
                // Behind the largest number of a row the engine, as SQLite, takes one by chance: that is left out.
                .one_of(&["4611686018427387904", "-9223372036854775808", "0", "-1", "1e308", "0.5", "-0.0"])
                .to_owned(),
            2 => self.one_of(&["x'00ff'", "x''", "zeroblob(3)"]).to_owned(),
            3 => self.one_of(&["''", "'n/a'", "'it''s'", "'\u{e9}\u{1f980}'", "'{\"a\":1}'", "'no json'"]).to_owned(),
            4 => format!("'{}'", self.below(6)),
            5 => format!("json({})", self.one_of(&["'[1]'", "'no json'", "NULL"])),
            6 => format!("abs({})", self.one_of(&["-3", "-9223372036854775807 - 1"])),
            _ => self.below(8).to_string(),
        }
    }

    fn condition(&mut self, table: &Table) -> String {
        let column = self.column(table);
        match self.below(8) {
            0 => "1".to_owned(),
            1 => format!("{column} IS NULL OR {column} = 9223372036854775807"),
            2 => format!("{column} IN ( {} , {} )", self.value(), self.value()),
            3 => {
                let other = self.table();
                let there = self.column(&other);
                format!("{column} IN (SELECT {there} FROM {})", other.name)
            }
            _ => format!("{column} {} {}", self.one_of(&["=", "<", ">=", "<>", "IS NOT"]), self.value()),
        }
    }

    fn or(&mut self) -> &'static str {
        match self.one_in(if self.theme.conflicts { 2 } else { 4 }) {
            true => self.one_of(&["OR ABORT ", "OR FAIL ", "OR IGNORE ", "OR REPLACE ", "OR ROLLBACK "]),
            false => "",
        }
    }

    /// What a constraint of a column does, when nothing else is said.
    fn on_conflict(&mut self) -> &'static str {
        match self.one_in(if self.theme.conflicts { 2 } else { 6 }) {
            true => self.one_of(&[
                " ON CONFLICT ABORT",
                " ON CONFLICT FAIL",
                " ON CONFLICT IGNORE",
                " ON CONFLICT REPLACE",
                " ON CONFLICT ROLLBACK",
            ]),
            false => "",
        }
    }

    fn returning(&mut self, table: &Table, mut sql: String) -> Statement {
        let gives_rows = self.one_in(if self.theme.returning { 2 } else { 10 });
        if gives_rows {
            sql.push_str(&format!(" RETURNING {}", self.column(table)));
        }
        Statement { sql, params: Vec::new(), gives_rows }
    }

    fn insert(&mut self) -> Statement {
        let table = self.table();
        let (or, name) = (self.or(), table.name.clone());
        let columns = table.columns.join(", ");
        let mut sql = match self.below(6) {
            0 => format!("INSERT {or}INTO {name} DEFAULT VALUES"),
            1 => {
                let from = self.table();
                let picked: Vec<_> = table.columns.iter().map(|_| self.column(&from)).collect();
                let order: Vec<_> = (1..=picked.len()).map(|place| place.to_string()).collect();
                let order =
                    if self.theme.statistics { format!(" ORDER BY {}", order.join(", ")) } else { String::new() };
                format!(
                    "INSERT {or}INTO {name} SELECT {} FROM {} WHERE {}{order}",
                    picked.join(", "),
                    from.name,
                    self.condition(&from)
                )
            }
            2 => {
                let values: Vec<_> = table.columns.iter().map(|_| self.value()).collect();
                format!("WITH c AS (SELECT {}) INSERT {or}INTO {name} SELECT * FROM c", values.join(" , "))
            }
            _ => {
                let rows: Vec<String> = (0..1 + self.choices.count(3))
                    .map(|_| {
                        let values: Vec<_> = table.columns.iter().map(|_| self.value()).collect();
                        format!("( {} )", values.join(" , "))
                    })
                    .collect();
                format!("INSERT {or}INTO {name} ({columns}) VALUES {}", rows.join(", "))
            }
        };
        if or.is_empty() && !table.replaces && self.one_in(5) {
            let column = if table.key && !self.one_in(4) { table.columns[0].clone() } else { self.column(&table) };
            let target = if self.one_in(4) { String::new() } else { format!("({column}) ") };
            match self.one_in(3) {
                true => sql.push_str(&format!(" ON CONFLICT {target}DO NOTHING")),
                false if !target.is_empty() => {
                    let set = self.column(&table);
                    let value = match self.below(3) {
                        0 => format!("excluded.{set}"),
                        1 => format!("{set} + 1"),
                        _ => self.value(),
                    };
                    sql.push_str(&format!(" ON CONFLICT {target}DO UPDATE SET {set} = {value}"));
                    if self.one_in(4) {
                        sql.push_str(&format!(" WHERE {}", self.condition(&table)));
                    }
                }
                false => {}
            }
        }
        self.returning(&table, sql)
    }

    fn update(&mut self) -> Statement {
        let table = self.table();
        let (or, column) = (self.or(), self.column(&table));
        let value = match self.below(4) {
            0 => format!("{column} + 1"),
            1 => format!("json({column})"),
            _ => self.value(),
        };
        let name = &table.name;
        let sql = match self.below(8) {
            0 if !self.mvcc => format!("UPDATE {or}{name} SET rowid = rowid + {}", self.below(4)),
            1 => {
                let from = self.table();
                let there = self.column(&from);
                format!(
                    "UPDATE {or}{name} SET {column} = {value} FROM {} AS o WHERE o.{there} = {name}.{column}",
                    from.name
                )
            }
            // Of one that is set twice the engine forgets the first, and its parameter.
            2 => match self.column(&table) {
                other if other == column => format!("UPDATE {or}{name} SET {column} = {value}"),
                other => format!("UPDATE {or}{name} SET {column} = {value} , {other} = {}", self.value()),
            },
            _ => format!("UPDATE {or}{name} SET {column} = {value} WHERE {}", self.condition(&table)),
        };
        self.returning(&table, sql)
    }

    fn delete(&mut self) -> Statement {
        let table = self.table();
        let condition = self.condition(&table);
        let sql = format!("DELETE FROM {} WHERE {condition}", table.name);
        self.returning(&table, sql)
    }

    fn create_table(&mut self) -> Statement {
        let strict = self.one_in(4);
        let name = self.name("t");
        let keys = ["", "", " UNIQUE", " PRIMARY KEY", " PRIMARY KEY AUTOINCREMENT"];
        let fit = if self.theme.keys { 2 } else { 0 };
        let key = self.one_of(&keys[fit..if self.mvcc { 3 } else { 5 }]);
        let mut columns = vec!["a".to_owned()];
        let mut defined = vec![format!("a INTEGER{key}")];
        if matches!(key, " UNIQUE" | " PRIMARY KEY") {
            defined[0].push_str(self.on_conflict());
        }
        let names =
            self.one_of(&[["b", "c", "d"], ["end", "\"c ; d\"", "[d ' d]"], ["`begin`", "start", "\"x\"\"y\""]]);
        for column in names.into_iter().take(1 + self.choices.count(3) as usize) {
            let kind = if strict {
                self.one_of(&["INTEGER", "TEXT", "REAL", "BLOB", "ANY"])
            } else {
                self.one_of(&["INTEGER", "TEXT", "", "REAL"])
            };
            let mut text = format!("{column} {kind}");
            let refers = self.theme.keys && self.one_in(2);
            match if refers { 5 } else { self.below(12) } {
                0 => {
                    text.push_str(self.one_of(&[" UNIQUE", " COLLATE NOCASE UNIQUE"]));
                    text.push_str(self.on_conflict());
                }
                1 | 2 => {
                    text.push_str(" NOT NULL");
                    text.push_str(self.on_conflict());
                    text.push_str(self.one_of(&["", " DEFAULT 3"]));
                }
                3 => text.push_str(&format!(" CHECK ({column} < 6)")),
                4 => text.push_str(" DEFAULT 'x'"),
                5 if !self.tables.is_empty() => {
                    let to = self.table();
                    let deferred = if self.one_in(2) { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
                    let action =
                        self.one_of(&["", "", " ON DELETE CASCADE", " ON DELETE SET NULL", " ON UPDATE CASCADE"]);
                    text.push_str(&format!(" REFERENCES {} ({}){action}{deferred}", to.name, to.columns[0]));
                }
                _ => {}
            }
            columns.push(column.to_owned());
            defined.push(text);
        }
        let other = self.one_of(&columns.iter().map(String::as_str).collect::<Vec<_>>()).to_owned();
        match self.below(16) {
            0 => defined.push(format!("UNIQUE (a, {other}){}", self.on_conflict())),
            1 => defined.push(format!("CHECK (a IS NOT {other} OR a < 4)")),
            2 if !self.tables.is_empty() => {
                let to = self.table();
                defined.push(format!("FOREIGN KEY ({other}) REFERENCES {} ({})", to.name, to.columns[0]));
            }
            // The engine may refuse it.
            3 if self.one_in(4) => defined.push("made AS (a + 1)".to_owned()),
            _ => {}
        }
        let there = if self.one_in(6) { "IF NOT EXISTS " } else { "" };
        let options = match (strict, key == " PRIMARY KEY" && self.one_in(24)) {
            (true, true) => " STRICT, WITHOUT ROWID",
            (true, false) => " STRICT",
            (false, true) => " WITHOUT ROWID",
            (false, false) => "",
        };
        let sql = format!("CREATE TABLE {there}{name} ({}){options}", defined.join(", "));
        let replaces = sql.contains("ON CONFLICT REPLACE");
        self.tables.push(Table { name, columns, key: !key.is_empty(), replaces });
        plain(&sql)
    }

    /// What only its connection has, by every name for that.
    fn temporary(&mut self) -> Statement {
        let (table, name) = (self.table(), self.name("t"));
        let column = self.column(&table);
        let of = table.name.clone();
        // One that hides the table of everybody, or has a name of its own.
        let hiding = if self.one_in(2) { of.clone() } else { name.clone() };
        let temp = self.one_of(&["temp", "TEMP", "\"temp\"", "[Temp]", "`temp`"]);
        plain(&match self.below(8) {
            0 => format!("CREATE {} TABLE {hiding} (a, b)", self.one_of(&["TEMP", "TEMPORARY"])),
            1 => format!("CREATE TABLE {temp}.{hiding} (a, b)"),
            2 => format!("CREATE TABLE IF NOT EXISTS {temp} . {hiding} AS SELECT {column} AS a, 1 AS b FROM {of}"),
            3 => format!("CREATE TEMP VIEW {hiding} AS SELECT {column} AS a FROM {of}"),
            4 => format!("CREATE TEMP TRIGGER {name} AFTER INSERT ON {of} BEGIN DELETE FROM {of}; END"),
            5 => format!("DROP TABLE {temp}.{of}"),
            6 => format!("INSERT INTO {temp}.{of} ({column}) VALUES ( {} )", self.value()),
            _ => format!("ALTER TABLE {temp}.{of} ADD COLUMN e"),
        })
    }

    /// What changes its connection, or would change the database for good.
    fn setting(&mut self) -> Statement {
        plain(self.one_of(&[
            "PRAGMA foreign_keys = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA main.synchronous(0)",
            "PRAGMA journal_mode = 'mvcc'",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA query_only = 1",
            "PRAGMA ignore_check_constraints = ON",
            "PRAGMA cache_size = 20",
            "PRAGMA user_version = 9",
            "PRAGMA application_id = 5",
            "VACUUM",
            "ATTACH ':memory:' AS other",
            "DETACH other",
        ]))
    }

    /// What begins or ends a transaction, or a part of one. The oracle knows only those of savepoints that are its own.
    fn transaction(&mut self) -> Statement {
        self.savepoint = self.one_in(2);
        match self.savepoint {
            true => plain("SAVEPOINT own"),
            false => plain(self.one_of(&[
                "BEGIN",
                "BEGIN IMMEDIATE",
                "COMMIT",
                "END TRANSACTION",
                "ROLLBACK",
                "RELEASE own",
            ])),
        }
    }

    /// Of many terms, or deep: in the limits of the library, or over them.
    fn compound(&mut self) -> Statement {
        let table = self.table();
        let (name, column) = (table.name.clone(), self.column(&table));
        let terms = 2 + self.choices.count(220) as usize;
        let deep = 1 + self.choices.count(28) as usize;
        let query = match self.below(3) {
            0 => vec!["SELECT 7"; terms].join(" UNION ALL "),
            1 => format!("{}SELECT 7{}", "SELECT * FROM (".repeat(deep), ")".repeat(deep)),
            _ => {
                let chain: Vec<_> = (1..=deep).map(|i| format!("c{i} (a) AS (SELECT a FROM c{})", i - 1)).collect();
                format!("WITH c0 (a) AS (SELECT 7), {} SELECT a FROM c{deep}", chain.join(", "))
            }
        };
        plain(&format!("INSERT INTO {name} ({column}) {query}"))
    }

    fn create_as(&mut self) -> Statement {
        let (from, name) = (self.table(), self.name("t"));
        let (one, other) = (self.column(&from), self.column(&from));
        let sql = format!("CREATE TABLE {name} AS SELECT {one} AS a, {other} AS b FROM {}", from.name);
        self.tables.push(Table::plain(name, &["a", "b"]));
        plain(&sql)
    }

    fn create_index(&mut self) -> Statement {
        let (table, name) = (self.table(), self.name("i"));
        let unique = if self.one_in(2) { "UNIQUE " } else { "" };
        let (column, other) = (self.column(&table), self.column(&table));
        let of = match self.below(8) {
            0 => format!("{column} + 1"),
            // Of what the engine and SQLite both come to: they write a float in JSON differently (FINDINGS.md).
            1 => format!("typeof({column})"),
            2 => format!("{column}, {other} DESC"),
            3 => format!("{column} COLLATE NOCASE"),
            _ => column,
        };
        let part = if self.one_in(5) { format!(" WHERE {}", self.condition(&table)) } else { String::new() };
        self.others[0].push(name.clone());
        plain(&format!("CREATE {unique}INDEX {name} ON {} ({of}){part}", table.name))
    }

    fn create_trigger(&mut self) -> Statement {
        let (on, into, name) = (self.table(), self.table(), self.name("g"));
        let is_view = on.name.trim_start_matches(['"', '[', '`']).starts_with('v');
        let when = if is_view { "INSTEAD OF" } else { self.one_of(&["BEFORE", "AFTER"]) };
        let what = self.one_of(&["INSERT", "UPDATE", "DELETE", "UPDATE OF"]);
        let row = if what == "DELETE" { "OLD" } else { "NEW" };
        let (column, there) = (self.column(&on), self.column(&into));
        let what = if what == "UPDATE OF" { format!("UPDATE OF {column}") } else { what.to_owned() };
        let condition = match self.one_in(2) {
            true => format!(" WHEN {row}.{column} = {}", self.value()),
            false => String::new(),
        };
        let body = match self.below(6) {
            0 => "SELECT RAISE(ABORT, 'refused')".to_owned(),
            1 => self
                .one_of(&[
                    "SELECT RAISE(IGNORE)",
                    "SELECT RAISE(FAIL, 'failed')",
                    "SELECT RAISE(ROLLBACK, 'rolled back')",
                ])
                .to_owned(),
            2 => format!("DELETE FROM {} WHERE {there} = {row}.{column}", into.name),
            3 => format!("UPDATE {} SET {there} = {}", into.name, self.value()),
            _ => format!("INSERT INTO {} ({there}) VALUES ({row}.{column})", into.name),
        };
        self.others[1].push(name.clone());
        plain(&format!("CREATE TRIGGER {name} {when} {what} ON {}{condition} BEGIN {body}; END", on.name))
    }

    fn create_view(&mut self) -> Statement {
        let (of, name) = (self.table(), self.name("v"));
        let (column, condition) = (self.column(&of), self.condition(&of));
        let sql = format!("CREATE VIEW {name} AS SELECT {column} AS a FROM {} WHERE {condition}", of.name);
        self.tables.push(Table::plain(name, &["a"]));
        plain(&sql)
    }

    fn alter(&mut self) -> Statement {
        let table = self.table();
        let column = self.column(&table);
        plain(&match self.below(4) {
            0 => format!("ALTER TABLE {} ADD COLUMN e DEFAULT {}", table.name, self.below(9)),
            1 => format!("ALTER TABLE {} DROP COLUMN {column}", table.name),
            2 => format!("ALTER TABLE {} RENAME COLUMN {column} TO z", table.name),
            _ => {
                let name = self.name("t");
                let sql = format!("ALTER TABLE {} RENAME TO {name}", table.name);
                self.forget(&table);
                self.tables.push(Table { name, ..table });
                sql
            }
        })
    }

    fn drop(&mut self) -> Statement {
        let table = self.table();
        let kind = self.one_of(&["TABLE", "TABLE", "VIEW", "INDEX", "TRIGGER"]);
        let known = match kind {
            "INDEX" => &self.others[0][..],
            "TRIGGER" => &self.others[1][..],
            _ => &[],
        };
        let (count, known) = (known.len() as u64, known.to_vec());
        if known.is_empty() {
            self.forget(&table);
        }
        let name = if count == 0 { table.name } else { known[self.below(count) as usize].clone() };
        let there = if self.one_in(4) { "IF EXISTS " } else { "" };
        plain(&format!("DROP {kind} {there}{name}"))
    }

    /// What is no statement. In a batch one that is empty is none at all, and fails for nobody.
    fn nonsense(&mut self, alone: bool) -> Statement {
        let all = ["INSERT INTO", "SELEC 1", "DELETE FROM t WHERE (", "CREATE TABLE sqlite_x (a)", "", ";"];
        plain(self.one_of(&all[..if alone { all.len() } else { all.len() - 2 }]))
    }

    fn query(&mut self) -> Statement {
        if let Some(again) = self.again(true, true) {
            return again;
        }
        let query = self.new_query();
        self.asked[1].push(query.clone());
        query
    }

    fn new_query(&mut self) -> Statement {
        let table = self.table();
        let column = self.column(&table);
        let name = &table.name;
        let sql = match self.below(12) {
            0 => format!("SELECT count(*), sum({column}), max({column}) FROM {}", table.name),
            6 => {
                let limit = self.below(4);
                format!("SELECT DISTINCT {column} FROM {name} ORDER BY {column} DESC LIMIT {limit} OFFSET 1")
            }
            7 => {
                let (other, value) = (self.table(), self.value());
                let there = self.column(&other);
                format!(
                    "SELECT {column} FROM {name} x WHERE EXISTS (SELECT 1 FROM {} y WHERE y.{there} >= x.{column}) \
                     OR {column} = {value} ORDER BY 1",
                    other.name
                )
            }
            8 => format!(
                "SELECT CAST({column} AS TEXT), {column} LIKE '%1%', typeof({column}) FROM {name} ORDER BY 1, 2"
            ),
            9 => {
                let other = self.table();
                let there = self.column(&other);
                format!(
                    "SELECT x.{column}, y.{there} FROM {name} x LEFT JOIN {} y ON x.{column} = y.{there} ORDER BY 1, 2",
                    other.name
                )
            }
            10 => format!("SELECT {column}, row_number() OVER (ORDER BY {column}) FROM {name} ORDER BY 1, 2"),
            1 => {
                let other = self.table();
                let there = self.column(&other);
                format!(
                    "SELECT x.{column}, y.{there} FROM {} x, {} y WHERE x.{column} = y.{there} ORDER BY 1, 2",
                    table.name, other.name
                )
            }
            2 => format!("SELECT {column} FROM {} UNION SELECT {} ORDER BY 1", table.name, self.value()),
            3 => format!(
                "WITH c AS (SELECT {column} AS k FROM {}) SELECT k, count(*) FROM c GROUP BY k ORDER BY 1",
                table.name
            ),
            4 => format!("SELECT * FROM {} ORDER BY 1, 2", table.name),
            _ => {
                let condition = self.condition(&table);
                format!("SELECT {column} FROM {} WHERE {condition} ORDER BY 1", table.name)
            }
        };
        self.choices.end(Part::Statement);
        Statement { sql, params: Vec::new(), gives_rows: true }
    }
}

fn changes_the_schema(sql: &str) -> bool {
    ["CREATE", "ALTER", "DROP", "REINDEX", "ANALYZE"].iter().any(|word| sql.contains(word))
}

fn plain(sql: &str) -> Statement {
    Statement { sql: sql.to_owned(), params: Vec::new(), gives_rows: false }
}
