//! The nesting depth of views, triggers and foreign key actions. The engine compiles each of them inside the statement, view or
//! trigger that uses it, so a short statement is nested as deeply as all that it uses together.

use std::collections::{HashMap, HashSet};
use std::slice::from_ref;

use turso_parser::ast::{
    AlterTable, AlterTableBody, ColumnConstraint, CreateTableBody, ForeignKeyClause, RefAct, RefArg, Stmt,
    TableConstraint,
};

use super::TooDeep;
use super::read::{first_statement, lower};
use super::tokens::each_name;
use crate::stack::{Room, with_room};

/// Maximum nesting depth.
const LIMIT: usize = 24;

/// Maximum number of names, and of what leads from one to another, that are told apart.
const NAMES: usize = 16 * 1024;

/// From a name to others, in lower case.
type Names = HashMap<String, HashSet<String>>;

/// The names that each view reads, and that a write to each table reaches by triggers and foreign key actions.
#[derive(Debug, Default)]
pub(crate) struct Nesting {
    all: Names,
    /// Of these the foreign key actions: from a table to those that refer to it.
    actions: Names,
    /// There are some of those, or were.
    has_cycle: bool,
    /// The tables whose actions come back to a table again. Not so a trigger's, which the engine does not run inside itself.
    cyclic: HashSet<String>,
    /// A foreign key may be deferred.
    has_deferred: bool,
    /// There are more names than are told apart.
    is_too_much: bool,
}

impl Nesting {
    /// The query for the texts that [`add`](Nesting::add) takes.
    pub(crate) const SQL: &str = "SELECT sql FROM sqlite_schema \
        WHERE type IN ('view', 'trigger') OR (type = 'table' AND sql LIKE '%references%')";

    /// The same, of what is temporary.
    pub(crate) const TEMPORARY_SQL: &str = "SELECT sql FROM temp.sqlite_schema \
        WHERE type IN ('view', 'trigger') OR (type = 'table' AND sql LIKE '%references%')";

    /// Of a schema, and then of statements that are about to change it; what nests nothing has no effect.
    pub(crate) fn of(texts: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let mut nesting = Self::default();
        with_room(true, || texts.into_iter().for_each(|sql| nesting.add(sql.as_ref())));
        nesting.cyclic = cyclic(&nesting.actions);
        nesting.has_cycle = !nesting.cyclic.is_empty();
        nesting
    }

    fn add(&mut self, sql: &str) {
        self.has_deferred |= may_defer(sql);
        let Some(statement) = first_statement(sql) else { return };
        match &statement {
            Stmt::CreateView { view_name: name, .. } | Stmt::CreateTrigger { tbl_name: name, .. } => {
                let others = self.all.entry(lower(&name.name)).or_default();
                each_name(&statement, |name| {
                    others.insert(name);
                });
            }
            Stmt::AlterTable(AlterTable { name, body: AlterTableBody::RenameTo(new) }) => {
                let (old, new) = (lower(&name.name), lower(new));
                for names in [&mut self.all, &mut self.actions] {
                    // What led to the old name leads to the new one.
                    for others in names.values_mut().filter(|others| others.contains(&old)) {
                        others.insert(new.clone());
                    }
                    if let Some(others) = names.get(&old).cloned() {
                        names.entry(new.clone()).or_default().extend(others);
                    }
                }
            }
            Stmt::CreateTable { tbl_name: name, .. } | Stmt::AlterTable(AlterTable { name, .. }) => {
                for parent in acting_parents(&statement) {
                    self.all.entry(parent.clone()).or_default().insert(lower(&name.name));
                    self.actions.entry(parent).or_default().insert(lower(&name.name));
                }
            }
            _ => {}
        }
    }

    /// Adds what is, or was, nested elsewhere in the same file.
    pub(crate) fn join(&mut self, other: Self) {
        self.has_deferred |= other.has_deferred;
        self.has_cycle |= other.has_cycle;
        self.cyclic.extend(other.cyclic);
        other.all.into_iter().for_each(|(name, others)| self.all.entry(name).or_default().extend(others));
        self.is_too_much |=
            other.is_too_much || self.all.values().map(|others| 1 + others.len()).sum::<usize>() > NAMES;
        if self.is_too_much {
            (self.all, self.cyclic) = Default::default();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && !self.is_too_much
    }

    /// Whether a foreign key may be deferred.
    pub(crate) fn has_deferred(&self) -> bool {
        self.has_deferred
    }

    /// What a statement needs that writes to these tables, or (`None`) to any.
    pub(crate) fn room<'t>(&self, tables: Option<impl Iterator<Item = &'t str>>) -> Room {
        let may_be_any = if self.has_cycle { Room::Most } else { (!self.is_empty()).into() };
        let Some(tables) = tables.filter(|_| !self.is_too_much) else { return may_be_any };
        let tables: Vec<_> = tables.filter_map(|table| Some(self.all.get_key_value(table)?.0.as_str())).collect();
        match tables.is_empty() {
            true => Room::Usual,
            false if reached(&self.all, tables).iter().any(|name| self.cyclic.contains(*name)) => Room::Most,
            false => Room::More,
        }
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

/// The names that lead to a name again: all that are left when those that lead to none of the rest were taken away as often as the
/// longest chain may be.
fn cyclic(names: &Names) -> HashSet<String> {
    let mut left: HashSet<&String> = names.keys().collect();
    for _ in 0..=LIMIT {
        left = left.iter().copied().filter(|name| names[*name].iter().any(|other| left.contains(other))).collect();
    }
    left.into_iter().cloned().collect()
}

/// These names, and all that they lead to.
fn reached<'n>(names: &'n Names, mut next: Vec<&'n str>) -> HashSet<&'n str> {
    let mut reached = HashSet::new();
    while let Some(name) = next.pop() {
        if reached.insert(name) {
            next.extend(names.get(name).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}

/// Whether a text of the schema may defer a foreign key.
pub(crate) fn may_defer(sql: &str) -> bool {
    sql.to_ascii_lowercase().contains("deferred")
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
        Nesting::of(texts).too_deep().map(|too_deep| too_deep.found)
    }

    #[test]
    fn a_chain_is_as_deep_as_it_is_long_whatever_it_is_made_of() {
        let makes: [fn(usize) -> String; 6] = [
            |i| format!("CREATE VIEW \"V{}\" AS SELECT x FROM v{i} WHERE y IN (SELECT 1)", i + 1),
            |i| format!("CREATE TRIGGER r{i} AFTER INSERT ON v{} BEGIN INSERT INTO V{i} VALUES (1); END", i + 1),
            |i| format!("CREATE TABLE v{i} (x REFERENCES `v{}` ON DELETE CASCADE)", i + 1),
            |i| format!("ALTER TABLE v{i} ADD COLUMN x REFERENCES v{} ON UPDATE SET NULL", i + 1),
            |i| format!("CREATE VIEW [V{}] AS SELECT x FROM u JOIN 'v{i}'", i + 1),
            |i| format!("CREATE TRIGGER r{i} AFTER INSERT ON 'v{}' BEGIN DELETE FROM [v{i}]; END", i + 1),
        ];
        for make in makes {
            assert_eq!(deep((0..LIMIT).map(make)), None);
            assert_eq!(deep((0..=LIMIT).map(make)), Some(LIMIT + 1));
            assert_eq!(deep((0..5_000).map(make)), Some(LIMIT + 1));
        }
        let mixed = |i: usize| makes[i % makes.len()](i);
        assert_eq!(deep((0..=LIMIT).map(mixed)), Some(LIMIT + 1));
        let quoted = |i: usize| format!("CREATE VIEW \"v\"\"{}\" AS SELECT x FROM \"v\"\"{i}\"", i + 1);
        assert_eq!(deep((0..=LIMIT).map(quoted)), Some(LIMIT + 1));
    }

    #[test]
    fn a_table_keeps_what_is_nested_below_it_when_it_is_renamed() {
        let upper = (0..LIMIT).map(|i| format!("CREATE TABLE v{i} (x REFERENCES v{} ON DELETE CASCADE)", i + 1));
        let lower = "CREATE TABLE v24 (x REFERENCES z ON DELETE CASCADE)".to_owned();
        assert_eq!(deep(upper.clone().chain([lower.clone()])), Some(LIMIT + 1));
        let below = "CREATE TRIGGER r AFTER DELETE ON v0 BEGIN DELETE FROM u; END".to_owned();
        let rename = "ALTER TABLE v0 RENAME TO w".to_owned();
        let above = "CREATE TRIGGER s AFTER DELETE ON q BEGIN DELETE FROM w; END".to_owned();
        let nesting = Nesting::of([below, rename, above]);
        assert!(nesting.all["w"].contains("u") && nesting.too_deep().is_none());
        // And what led to it leads to its new name, whatever comes below that.
        let trigger =
            |from: String, to: String| format!("CREATE TRIGGER r AFTER DELETE ON {from} BEGIN DELETE FROM {to}; END");
        let down = (0..LIMIT).map(|i| trigger(format!("t{}", i + 1), format!("t{i}")));
        let rename = "ALTER TABLE t0 RENAME TO w".to_owned();
        let on = trigger("w".to_owned(), "x".to_owned());
        assert_eq!(deep(down.chain([rename, on])), Some(LIMIT + 1));
        let cycle = [
            "CREATE TABLE c (p REFERENCES p ON DELETE CASCADE)",
            "ALTER TABLE c RENAME TO d",
            "ALTER TABLE p ADD COLUMN d REFERENCES d ON DELETE CASCADE",
        ];
        assert_eq!(Nesting::of(cycle).room(Some(["p"].into_iter())), Room::Most);
    }

    #[test]
    fn a_write_needs_the_room_of_what_it_reaches() {
        let own = "CREATE TABLE t (id, up REFERENCES T (id) ON DELETE CASCADE)";
        let to_u = "CREATE TABLE t (id, u REFERENCES u ON UPDATE SET NULL)";
        let to_t = "CREATE TABLE u (id, t REFERENCES t ON DELETE CASCADE)";
        let trigger = "CREATE TRIGGER r AFTER DELETE ON w BEGIN DELETE FROM [T]; END";
        let plain = "CREATE TABLE t (id, up REFERENCES t)";
        let room = |texts: &[&str], table: &str| {
            let nesting = Nesting::of(texts);
            let any = nesting.room(None::<std::iter::Empty<&str>>);
            assert!(any >= nesting.room(Some([table].into_iter())), "{texts:?}");
            let mut joined = Nesting::default();
            joined.join(nesting);
            joined.room(Some([table].into_iter()))
        };
        for (texts, table, needs) in [
            (&[own][..], "t", Room::Most),
            (&[own, trigger], "w", Room::Most),
            (&[own, trigger], "x", Room::Usual),
            (&[to_u, to_t], "u", Room::Most),
            (&[to_u], "u", Room::More),
            (&[to_u], "t", Room::Usual),
            (&[to_t, plain], "t", Room::More),
            (&[plain, trigger], "w", Room::More),
            (&["CREATE TRIGGER r AFTER DELETE ON t BEGIN DELETE FROM t; END"], "t", Room::More),
            (&[plain], "t", Room::Usual),
        ] {
            assert_eq!(room(texts, table), needs, "{texts:?}, {table}");
        }
    }

    #[test]
    fn what_is_too_much_to_be_told_apart_takes_no_more_memory_and_needs_the_most() {
        let cycle = "CREATE TABLE u (x REFERENCES u ON DELETE CASCADE)".to_owned();
        for one_name in [false, true] {
            let mut all = Nesting::of([cycle.clone()]);
            for i in 0..NAMES / 1000 + 1 {
                let name = |j| if one_name { "v".to_owned() } else { format!("v{i}_{j}") };
                all.join(Nesting::of((0..1000).map(|j| format!("CREATE VIEW {} AS SELECT x FROM t{i}_{j}", name(j)))));
            }
            assert_eq!((all.all.len(), all.is_too_much, all.room(Some(["t"].into_iter()))), (0, true, Room::Most));
        }
        // The same once more is no more.
        let (mut all, views) =
            (Nesting::default(), |_| Nesting::of((0..3000).map(|i| format!("CREATE VIEW v{i} AS SELECT x FROM t"))));
        (0..3).map(views).for_each(|views| all.join(views));
        assert_eq!((all.is_too_much, all.room(Some(["t"].into_iter()))), (false, Room::Usual));
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
