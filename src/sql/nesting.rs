//! The nesting depth of views, triggers and foreign key actions. The engine compiles each of them inside the statement, view or
//! trigger that uses it, so a short statement is nested as deeply as all that it uses together.

use std::collections::{HashMap, HashSet};
use std::slice::from_ref;

use turso_parser::ast::{
    AlterTable, AlterTableBody, ColumnConstraint, CreateTableBody, ForeignKeyClause, RefAct, RefArg, Stmt,
    TableConstraint,
};

use super::TooDeep;
use super::depth::{Depth, measure};
use super::read::{first_statement, lower};
use super::tokens::each_name;
use crate::stack::{Room, with_room};

/// Maximum nesting depth.
const LIMIT: usize = 24;

/// Maximum number of names, and of what leads from one to another, that are told apart.
const NAMES: usize = 16 * 1024;

/// From a name to others, in lower case.
type Names = HashMap<String, HashSet<String>>;

/// So many subqueries, in all the views and triggers of a chain, may be nested in [`ROOM`](crate::stack::ROOM).
const HEAVY: usize = 150;

/// The names that each view reads, and that a write to each table reaches by triggers and foreign key actions.
#[derive(Debug, Default)]
pub(crate) struct Nesting {
    all: Names,
    /// Of these the foreign key actions: from a table to those that refer to it.
    actions: Names,
    /// How many triggers each table has.
    triggers: HashMap<String, usize>,
    /// The tables whose writes come to a foreign key action again and again, once for each row perhaps, or to many triggers. A
    /// trigger alone the engine does not run inside itself.
    cyclic: HashSet<String>,
    /// There are some of those, or were; or what is nested is heavy.
    needs_most: bool,
    /// The nesting depth, as far as the limit and one more.
    depth: usize,
    /// The heaviest text of a view or trigger.
    weight: usize,
    /// The text of a table or an index is deep: who writes it compiles its expressions.
    has_deep: bool,
    /// A foreign key may be deferred.
    has_deferred: bool,
    /// There are more names than are told apart.
    is_too_much: bool,
}

impl Nesting {
    /// The query for the texts that [`add`](Nesting::add) takes.
    pub(crate) const SQL: &str = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL";

    /// The same, of what is temporary.
    pub(crate) const TEMPORARY_SQL: &str = "SELECT sql FROM temp.sqlite_schema WHERE sql IS NOT NULL";

    /// Of a schema, and then of statements that are about to change it; what nests nothing has no effect.
    pub(crate) fn of(texts: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let mut nesting = Self::default();
        with_room(true, || texts.into_iter().for_each(|sql| nesting.add(sql.as_ref())));
        nesting.look_for_cycles();
        nesting
    }

    fn look_for_cycles(&mut self) {
        self.depth = self.deepest();
        let come_back = cyclic(&self.all);
        let triggers: usize = come_back.iter().filter_map(|name| self.triggers.get(name)).sum();
        // What is too deep is refused, unless it was found in halves.
        if self.depth > LIMIT || triggers > LIMIT || self.actions_come_back(&come_back) {
            self.cyclic = come_back;
        }
        self.needs_most |= !self.cyclic.is_empty() || self.depth > LIMIT || self.depth * self.weight > HEAVY;
    }

    /// Whether a foreign key action comes back to its table, by others or by triggers. `come_back`: the names that lead to a circle.
    fn actions_come_back(&self, come_back: &HashSet<String>) -> bool {
        self.actions.iter().filter(|(name, _)| come_back.contains(*name)).any(|(name, others)| {
            let others = others.iter().filter(|other| come_back.contains(*other)).map(String::as_str);
            reached(&self.all, others.collect()).contains(&**name)
        })
    }

    fn add(&mut self, sql: &str) {
        let letters = sql.to_ascii_lowercase();
        self.has_deferred |= letters.contains(DEFERRED);
        let Depth { is_deep, weight, .. } = measure(sql);
        let mut words = ["view", "trigger", "references", "rename"].into_iter();
        let may_nest = words.any(|word| letters.contains(word));
        let Some(statement) = may_nest.then(|| first_statement(sql)).flatten() else {
            self.has_deep |= is_deep;
            return;
        };
        match &statement {
            Stmt::CreateView { view_name: name, .. } | Stmt::CreateTrigger { tbl_name: name, .. } => {
                self.weight = self.weight.max(weight);
                if let Stmt::CreateTrigger { .. } = statement {
                    *self.triggers.entry(lower(&name.name)).or_default() += 1;
                }
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
                self.has_deep |= is_deep;
                for parent in acting_parents(&statement) {
                    self.all.entry(parent.clone()).or_default().insert(lower(&name.name));
                    self.actions.entry(parent).or_default().insert(lower(&name.name));
                }
            }
            _ => self.has_deep |= is_deep,
        }
    }

    /// Adds what is, or was, nested elsewhere in the same file.
    pub(crate) fn join(&mut self, other: Self) {
        let joined = |into: &mut Names, from: Names| {
            from.into_iter().for_each(|(name, others)| into.entry(name).or_default().extend(others));
        };
        self.has_deep |= other.has_deep;
        self.needs_most |= other.needs_most;
        self.weight = self.weight.max(other.weight);
        self.cyclic.extend(other.cyclic);
        for (name, count) in other.triggers {
            let known = self.triggers.entry(name).or_default();
            *known = count.max(*known);
        }
        joined(&mut self.all, other.all);
        joined(&mut self.actions, other.actions);
        self.is_too_much |=
            other.is_too_much || self.all.values().map(|others| 1 + others.len()).sum::<usize>() > NAMES;
        match self.is_too_much {
            true => (self.all, self.actions, self.triggers, self.cyclic) = Default::default(),
            // Half a cycle may be in either.
            false => self.look_for_cycles(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && !self.is_too_much
    }

    /// What it takes to prepare a statement that is not deep itself.
    pub(crate) fn room_to_prepare(&self) -> Room {
        if self.needs_most { Room::Most } else { (!self.is_empty() || self.has_deep).into() }
    }

    /// Whether a foreign key may be deferred.
    pub(crate) fn has_deferred(&self) -> bool {
        self.has_deferred
    }

    /// What a statement needs that writes to these tables, or (`None`) to any.
    pub(crate) fn room<'t>(&self, tables: Option<impl Iterator<Item = &'t str>>) -> Room {
        let may_be_any = if self.needs_most { Room::Most } else { (!self.is_empty()).into() };
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
        let (what, found) = ("nested views, triggers and foreign key actions", self.depth);
        (found > LIMIT).then_some(TooDeep { what, found, limit: LIMIT })
    }

    /// The nesting depth, as far as the limit and one more.
    fn deepest(&self) -> usize {
        let mut known = HashMap::new();
        let deepest = self.all.keys().map(|name| self.depth(name, LIMIT + 1, &mut known)).max();
        deepest.unwrap_or_default().min(LIMIT + 1)
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

/// The names that lead to one that leads to itself: those that remain when names that lead to none of the others are removed, as
/// often as the longest chain allows.
fn cyclic(names: &Names) -> HashSet<String> {
    let mut left: HashSet<&String> = names.keys().collect();
    for _ in 0..=LIMIT {
        let leads_on = |name: &&String| names[*name].iter().any(|other| left.contains(other));
        let fewer: HashSet<&String> = left.iter().copied().filter(leads_on).collect();
        if fewer.len() == left.len() {
            break;
        }
        left = fewer;
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

/// The word without which no text of the schema defers a foreign key.
const DEFERRED: &str = "deferred";

/// Whether a text of the schema may defer a foreign key.
pub(crate) fn may_defer(sql: &str) -> bool {
    sql.to_ascii_lowercase().contains(DEFERRED)
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
            (&[to_u, "CREATE TRIGGER r AFTER UPDATE ON t BEGIN DELETE FROM u; END"], "u", Room::Most),
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
    fn two_halves_of_a_cycle_are_one_whoever_made_them() {
        let halves = [
            "CREATE TABLE p (id, up REFERENCES q ON DELETE CASCADE)",
            "CREATE TABLE q (id, up REFERENCES p ON DELETE CASCADE)",
        ];
        let mut joined = Nesting::of([halves[0]]);
        assert_eq!(joined.room(Some(["q"].into_iter())), Room::More);
        joined.join(Nesting::of([halves[1]]));
        assert_eq!(joined.room(Some(["q"].into_iter())), Room::Most);
    }

    /// Of a table whose triggers set each other off, each of them once.
    #[test]
    fn many_triggers_of_one_table_need_the_most() {
        let trigger =
            |i| format!("CREATE TRIGGER r{i} AFTER UPDATE OF c{i} ON t BEGIN UPDATE t SET c{} = 1; END", i + 1);
        let few = Nesting::of((0..LIMIT).map(trigger));
        assert_eq!((few.too_deep(), few.room(Some(["t"].into_iter()))), (None, Room::More));
        let many = Nesting::of((0..=LIMIT).map(trigger));
        assert_eq!((many.room(Some(["t"].into_iter())), many.room_to_prepare()), (Room::Most, Room::Most));
    }

    #[test]
    fn views_that_are_deep_themselves_need_the_most() {
        let view = |i: usize, deep: usize| {
            let (open, close) = ("SELECT * FROM (".repeat(deep), ")".repeat(deep));
            format!("CREATE VIEW v{} AS {open}SELECT x FROM v{i}{close}", i + 1)
        };
        let chain = |long, deep| Nesting::of((0..long).map(|i| view(i, deep))).room_to_prepare();
        assert_eq!((chain(24, 1), chain(6, 23)), (Room::More, Room::More));
        assert_eq!((chain(24, 12), chain(12, 23)), (Room::Most, Room::Most));
        let terms = |i| format!("CREATE VIEW v{} AS SELECT x FROM v{i}{}", i + 1, " UNION ALL SELECT 1".repeat(120));
        assert_eq!(Nesting::of((0..24).map(terms)).room_to_prepare(), Room::Most);
        let check = format!("CREATE TABLE t (x CHECK ({}1))", "x + ".repeat(30));
        assert_eq!(
            (Nesting::of([check]).room_to_prepare(), Nesting::of(["CREATE TABLE t (x)"]).room_to_prepare()),
            (Room::More, Room::Usual)
        );
    }

    #[test]
    fn what_is_too_much_to_be_told_apart_takes_no_more_memory_and_needs_the_most() {
        let cycle = "CREATE TABLE u (x REFERENCES u ON DELETE CASCADE)".to_owned();
        for one_name in [false, true] {
            let mut all = Nesting::of([cycle.clone()]);
            for i in 0..NAMES / 8000 + 1 {
                let name = |j| if one_name { "v".to_owned() } else { format!("v{i}_{j}") };
                all.join(Nesting::of((0..8000).map(|j| format!("CREATE VIEW {} AS SELECT x FROM t{i}_{j}", name(j)))));
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
