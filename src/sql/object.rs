//! What the SQL of the schema says of its tables and views, for the read cache.

use turso_parser::ast::{CreateTableBody, Stmt};

use super::Reads;
use super::nesting::acting_parents;
use super::read::first_statement;
use super::walk::{Walked, walk};
use crate::stack::with_room;

/// What a view reads, if it gives the same rows as long as that stays the same.
pub(crate) fn view(sql: &str) -> Option<Reads> {
    with_room(true, || {
        let Stmt::CreateView { select, .. } = first_statement(sql)? else { return None };
        match walk(&select) {
            Walked { reads, same_again: true, acts: false } => Some(reads),
            _ => None,
        }
    })
}

/// The tables whose writes act on this one by a foreign key of it; `None` if it is no plain table.
pub(crate) fn table(sql: &str) -> Option<Vec<String>> {
    with_room(true, || match first_statement(sql)? {
        // The schema has the columns of a table that was made of a query, too.
        table @ Stmt::CreateTable { body: CreateTableBody::ColumnsAndConstraints { .. }, .. } => {
            Some(acting_parents(&table))
        }
        _ => None,
    })
}
