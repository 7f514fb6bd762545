//! What only the database can say of a query: which of its names are tables, what its views read, and which other tables a
//! write reaches by a foreign key or a trigger.
//!
//! Read in the snapshot of the query that is to be kept, and used again until something of unknown tables, as every change of
//! the schema is, was committed.

use std::collections::HashMap;

use super::tables::slot;
use super::versions::Slots;
use crate::sql::{Reads, object};

/// What a name of the schema stands for.
enum Kind {
    /// A table, and the tables whose writes reach it by the actions of its foreign keys.
    Table(Vec<String>),
    /// A view that gives the same rows as long as what it reads stays the same.
    View(Reads),
    /// A virtual table, a materialized view, a name twice: nothing is known of it.
    Other,
}

/// Whether it may be one of the engine's tables that are in no schema (0.8.3): where a name of a subquery does not reach, it is that.
fn may_be_virtual(name: &str) -> bool {
    const NAMED: [&str; 5] = ["json_each", "json_tree", "generate_series", "btree_dump", "turso_types"];
    name.starts_with("pragma_") || name.starts_with("sqlite_") || NAMED.contains(&name)
}

/// The schema of the database.
#[derive(Default)]
pub(crate) struct Schema {
    names: HashMap<String, Kind>,
    /// Any write may reach any table.
    has_triggers: bool,
    /// What a column gives is computed by expressions that are not looked into.
    has_types: bool,
}

impl Schema {
    /// The query that gives what [`add`](Schema::add) takes.
    pub(crate) const SQL: &str = "SELECT type, name, sql FROM sqlite_schema";

    /// One row of the schema. `sql` is empty for an index that the engine made itself.
    pub(crate) fn add(&mut self, kind: &str, name: &str, sql: &str) {
        let kind = match kind {
            "table" => object::table(sql).map_or(Kind::Other, Kind::Table),
            "view" => object::view(sql).map_or(Kind::Other, Kind::View),
            "index" => return,
            // A trigger, or what no release so far has.
            _ => {
                self.has_triggers = true;
                return;
            }
        };
        self.has_types |= name == "__turso_internal_types";
        // The engine's own tables change along with others.
        let is_twice = self.names.insert(name.to_ascii_lowercase(), kind).is_some();
        if is_twice || name.starts_with("__turso_internal_") {
            self.names.insert(name.to_ascii_lowercase(), Kind::Other);
        }
    }

    /// The slots that an answer depends on; `None` if that cannot be told, and it must not be kept.
    pub(crate) fn depends(&self, reads: &Reads) -> Option<Slots> {
        if self.has_types {
            return None;
        }
        let mut found = Vec::new();
        let mut any = self.has_triggers;
        self.collect(reads, &mut found, &mut any, 0)?;
        if any {
            return Some(Slots::EVERY);
        }
        let tables = found.iter().fold(Slots::NONE, |slots, name| slots.and(slot(name)));
        Some(tables.and(Slots::UNKNOWN))
    }

    /// Adds the tables that are read, through views and up along foreign keys.
    fn collect<'s>(&'s self, reads: &'s Reads, found: &mut Vec<&'s str>, any: &mut bool, depth: usize) -> Option<()> {
        // The engine refuses a view of itself; whether that is so is not ours to find out.
        if depth > 32 {
            return None;
        }
        for name in &reads.names {
            match self.names.get(name) {
                // The schema itself, statistics, counters: the engine writes them along with others.
                _ if name.starts_with("sqlite_") => *any = true,
                Some(Kind::Table(_)) => self.collect_table(name, found),
                Some(Kind::View(inner)) => self.collect(inner, found, any, depth + 1)?,
                Some(Kind::Other) => return None,
                None if reads.own.contains(name) && !may_be_virtual(name) => {}
                None => return None,
            }
        }
        Some(())
    }

    fn collect_table<'s>(&'s self, name: &'s str, found: &mut Vec<&'s str>) {
        if !found.contains(&name) {
            found.push(name);
            if let Some(Kind::Table(parents)) = self.names.get(name) {
                parents.iter().for_each(|parent| self.collect_table(parent, found));
            }
        }
    }
}
