//! What the texts of the schema say of its tables and views, for who keeps answers of queries.

use turso::core::{Dialect, SqliteDialect};
use turso_parser::ast::{
    Cmd, ColumnConstraint, CreateTableBody, ForeignKeyClause, RefAct, RefArg, Stmt, TableConstraint,
};

use super::Reads;
use super::read::lower;
use super::walk::{Walked, walk};
use crate::stack::with_room;

/// What a view reads, if it gives the same rows as long as that stays the same.
pub(crate) fn view(sql: &str) -> Option<Reads> {
    with_room(sql, || read_view(sql))
}

fn read_view(sql: &str) -> Option<Reads> {
    let Some(Stmt::CreateView { select, .. }) = statement(sql) else { return None };
    match walk(&select) {
        Walked { reads, same_again: true, acts: false } => Some(reads),
        _ => None,
    }
}

/// The tables whose writes act on this one by a foreign key of it; `None` if it is no plain table.
pub(crate) fn table(sql: &str) -> Option<Vec<String>> {
    with_room(sql, || read_table(sql))
}

fn read_table(sql: &str) -> Option<Vec<String>> {
    // The schema has the columns of a table that was made of a query, too.
    let Some(Stmt::CreateTable { body: CreateTableBody::ColumnsAndConstraints { columns, constraints, .. }, .. }) =
        statement(sql)
    else {
        return None;
    };
    let mut parents = Vec::new();
    for column in &columns {
        for constraint in &column.constraints {
            if let ColumnConstraint::ForeignKey { clause, .. } = &constraint.constraint {
                parents.extend(acting(clause));
            }
        }
    }
    for constraint in &constraints {
        if let TableConstraint::ForeignKey { clause, .. } = &constraint.constraint {
            parents.extend(acting(clause));
        }
    }
    Some(parents)
}

fn statement(sql: &str) -> Option<Stmt> {
    match SqliteDialect.parse(sql) {
        Ok((Some(Cmd::Stmt(statement)), _)) => Some(statement),
        _ => None,
    }
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
