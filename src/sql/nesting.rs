//! The nesting depth of views, triggers and foreign key actions. The engine compiles each of them inside the statement, view or
//! trigger that uses it, so a short statement is nested as deeply as all that it uses together.

use std::collections::{HashMap, HashSet};
use std::slice::from_ref;

use turso_parser::ast::{
    AlterTable, AlterTableBody, ColumnConstraint, CreateTableBody, ForeignKeyClause, RefAct, RefArg, Stmt,
    TableConstraint,
};
use turso_parser::lexer::Lexer;
use turso_parser::token::TokenType;

use super::TooDeep;
use super::read::{first_statement, lower};
use crate::stack::with_room;

/// Maximum nesting depth.
const LIMIT: usize = 24;

/// The names that each view reads, and that a write to each table reaches by triggers and foreign key actions, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Nesting {
    all: HashMap<String, Vec<String>>,
    /// Of these the foreign key actions: from a table to those that refer to it.
    actions: HashMap<String, Vec<String>>,
}

impl Nesting {
    /// The query for the texts that [`add`](Nesting::add) takes.
    pub(crate) const SQL: &str = "SELECT sql FROM sqlite_schema \
        WHERE type IN ('view', 'trigger') OR (type = 'table' AND sql LIKE '%references%')";

    /// The same, of what is temporary.
    pub(crate) const TEMPORARY_SQL: &str = "SELECT sql FROM temp.sqlite_schema WHERE type IN ('view', 'trigger')";

    /// Adds a statement, of a batch or of the schema; one that nests nothing has no effect.
    pub(crate) fn add(&mut self, sql: &str) {
        with_room(true, || self.add_read(sql));
    }

    fn add_read(&mut self, sql: &str) {
        let Some(statement) = first_statement(sql) else { return };
        match &statement {
            Stmt::CreateView { view_name: name, .. } | Stmt::CreateTrigger { tbl_name: name, .. } => {
                let owner = lower(&name.name);
                self.all.entry(owner).or_default().extend(words(sql));
            }
            Stmt::CreateTable { tbl_name: name, .. } | Stmt::AlterTable(AlterTable { name, .. }) => {
                for parent in acting_parents(&statement) {
                    self.all.entry(parent.clone()).or_default().push(lower(&name.name));
                    self.actions.entry(parent).or_default().push(lower(&name.name));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a foreign key action reaches its own table again. Not so a trigger, which the engine does not run inside itself.
    pub(crate) fn has_cycle(&self) -> bool {
        self.actions.keys().any(|start| {
            let (mut reached, mut next) = (HashSet::new(), vec![start]);
            while let Some(table) = next.pop() {
                for other in self.actions.get(table).into_iter().flatten() {
                    if other == start {
                        return true;
                    }
                    if reached.insert(other) {
                        next.push(other);
                    }
                }
            }
            false
        })
    }

    /// The nesting depth, if it is over the limit.
    pub(crate) fn too_deep(&self) -> Option<TooDeep> {
        let mut known = HashMap::new();
        let found = self.all.keys().map(|name| self.depth(name, LIMIT + 1, &mut known)).max()?.min(LIMIT + 1);
        let what = "nested views, triggers and foreign key actions";
        (found > LIMIT).then_some(TooDeep { what, found, limit: LIMIT })
    }

    /// The depth below this name, `most` at most. A cycle ends where it closes: the engine does not run a trigger inside itself.
    fn depth<'l>(&'l self, name: &'l str, most: usize, known: &mut HashMap<&'l str, usize>) -> usize {
        if let Some(depth) = known.get(name) {
            return *depth;
        }
        let Some(others) = self.all.get(name).filter(|_| most > 0) else { return 0 };
        known.insert(name, 0);
        let beyond = others.iter().map(|other| self.depth(other, most - 1, known)).max().unwrap_or(0);
        known.insert(name, 1 + beyond);
        1 + beyond
    }
}

/// The words of a text that may be names. A column that is called like a view makes the depth too large, at worst.
fn words(sql: &str) -> impl Iterator<Item = String> {
    let tokens = Lexer::new(sql.as_bytes()).map_while(Result::ok);
    let words = tokens.filter(|token| !matches!(token.token_type, TokenType::TK_NONE | TokenType::TK_STRING));
    words.map(|token| String::from_utf8_lossy(token.value).trim_matches(['"', '`', '[', ']']).to_ascii_lowercase())
}

/// The tables whose writes act on this one by a foreign key that the statement gives it.
pub(super) fn acting_parents(statement: &Stmt) -> Vec<String> {
    let (columns, constraints) = match statement {
        Stmt::CreateTable { body: CreateTableBody::ColumnsAndConstraints { columns, constraints, .. }, .. } => {
            (&columns[..], &constraints[..])
        }
        Stmt::AlterTable(AlterTable {
            body: AlterTableBody::AddColumn(column) | AlterTableBody::AlterColumn { new: column, .. },
            ..
        }) => (from_ref(column), &[][..]),
        _ => return Vec::new(),
    };
    let of_columns =
        columns.iter().flat_map(|column| &column.constraints).filter_map(|named| match &named.constraint {
            ColumnConstraint::ForeignKey { clause, .. } => acting(clause),
            _ => None,
        });
    let of_table = constraints.iter().filter_map(|named| match &named.constraint {
        TableConstraint::ForeignKey { clause, .. } => acting(clause),
        _ => None,
    });
    of_columns.chain(of_table).collect()
}

/// The table whose writes act on this one by this foreign key.
fn acting(clause: &ForeignKeyClause) -> Option<String> {
    let acts = clause.args.iter().any(|arg| match arg {
        RefArg::OnDelete(act) | RefArg::OnUpdate(act) | RefArg::OnInsert(act) => {
            matches!(act, RefAct::SetNull | RefAct::SetDefault | RefAct::Cascade)
        }
        RefArg::Match(_) => false,
    });
    acts.then(|| lower(&clause.tbl_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(texts: impl IntoIterator<Item = String>) -> Option<usize> {
        let mut nesting = Nesting::default();
        texts.into_iter().for_each(|sql| nesting.add(&sql));
        nesting.too_deep().map(|too_deep| too_deep.found)
    }

    #[test]
    fn a_chain_is_as_deep_as_it_is_long_whatever_it_is_made_of() {
        let makes: [fn(usize) -> String; 4] = [
            |i| format!("CREATE VIEW \"V{}\" AS SELECT x FROM v{i} WHERE y IN (SELECT 1)", i + 1),
            |i| format!("CREATE TRIGGER r{i} AFTER INSERT ON v{} BEGIN INSERT INTO V{i} VALUES (1); END", i + 1),
            |i| format!("CREATE TABLE v{i} (x REFERENCES `v{}` ON DELETE CASCADE)", i + 1),
            |i| format!("ALTER TABLE v{i} ADD COLUMN x REFERENCES v{} ON UPDATE SET NULL", i + 1),
        ];
        for make in makes {
            assert_eq!(deep((0..LIMIT).map(make)), None);
            assert_eq!(deep((0..=LIMIT).map(make)), Some(LIMIT + 1));
            assert_eq!(deep((0..5_000).map(make)), Some(LIMIT + 1));
        }
        let mixed = |i: usize| makes[i % makes.len()](i);
        assert_eq!(deep((0..=LIMIT).map(mixed)), Some(LIMIT + 1));
    }

    #[test]
    fn an_action_that_reaches_its_own_table_is_a_cycle() {
        let has_cycle = |texts: &[&str]| {
            let mut nesting = Nesting::default();
            texts.iter().for_each(|sql| nesting.add(sql));
            nesting.has_cycle()
        };
        let (own, to_u, to_t) = (
            "CREATE TABLE t (id, up REFERENCES T (id) ON DELETE CASCADE)",
            "CREATE TABLE t (id, u REFERENCES u ON UPDATE SET NULL)",
            "CREATE TABLE u (id, t REFERENCES t ON DELETE CASCADE)",
        );
        assert!(has_cycle(&[own]) && has_cycle(&[to_u, to_t]));
        assert!(!has_cycle(&[to_u]) && !has_cycle(&[to_t, "CREATE TABLE t (id, up REFERENCES t)"]));
        assert!(!has_cycle(&["CREATE TRIGGER r AFTER DELETE ON t BEGIN DELETE FROM t; END"]));
    }

    #[test]
    fn what_comes_back_to_itself_and_what_lies_beside_is_not_deep() {
        let own = "CREATE TRIGGER r AFTER UPDATE ON t BEGIN UPDATE t SET x = 1; UPDATE u SET x = 1; END".to_owned();
        let back = "CREATE TRIGGER s AFTER UPDATE ON u BEGIN UPDATE t SET x = 1; END".to_owned();
        assert_eq!(deep([own, back]), None);
        assert_eq!(deep((0..500).map(|i| format!("CREATE VIEW v{i} AS SELECT * FROM t"))), None);
        assert_eq!(
            deep((0..500).map(|i| format!("CREATE TABLE t{i} (x REFERENCES t{})", i + 1))),
            None,
            "without actions"
        );
        assert_eq!(deep(["CREATE TABLE t (x)".to_owned(), "and then what?".to_owned()]), None);
    }
}
