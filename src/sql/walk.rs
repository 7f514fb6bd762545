//! Through a query: every place where a table, a subquery or a function may stand.
//!
//! No arm is a wildcard over a kind of expression that the parser gives: what a new release adds does not compile here
//! until somebody has thought of it. Functions are taken for repeatable only by name; what is not in the list (the clock,
//! chance, counters of the connection, an extension's) is not.

use std::slice::from_ref;

use turso_parser::ast::{
    Expr, FrameBound, FrameClause, FromClause, FunctionTail, JoinConstraint, LikeOperator, Limit, Literal, Name,
    OneSelect, Over, QualifiedName, ResultColumn, Select, SelectTable, SortedColumn, Window, With,
};

use super::Reads;
use super::read::{is_ours, lower};

/// Functions, of one row, of many and of a window, that give the same for the same.
const REPEATABLE: &str = " abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos \
    cosh count cume_dist degrees dense_rank exp first_value floor format glob group_concat hex ifnull iif instr json \
    json_array json_array_length json_error_position json_extract json_group_array json_group_object json_insert \
    json_object json_patch json_pretty json_quote json_remove json_replace json_set json_type json_valid jsonb \
    jsonb_array jsonb_extract jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove \
    jsonb_replace jsonb_set lag last_value lead length like likelihood likely ln log log10 log2 lower ltrim max min mod \
    nth_value ntile nullif octet_length percent_rank pi pow power printf quote radians rank replace round row_number \
    rtrim sign sin sinh soundex sqrt string_agg substr substring sum tan tanh total trim trunc typeof unhex unicode \
    unlikely upper vector vector32 vector64 vector_concat vector_distance_cos vector_distance_dot vector_distance_l2 \
    vector_extract vector_slice zeroblob ";

/// Functions in the place of a table that do.
const REPEATABLE_TABLES: &str = " generate_series json_each json_tree ";

/// Functions that write, or change the connection, though a SELECT calls them.
const ACTING: &str = " attach detach load_extension nextval setval ";

/// What was found.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) reads: Reads,
    /// The query gives the same rows as long as the tables stay the same.
    pub(super) same_again: bool,
    /// A function does more than to give a value.
    pub(super) acts: bool,
}

pub(super) fn walk(query: &Select) -> Walked {
    let mut walked = Walked { same_again: true, ..Walked::default() };
    walked.select(query);
    walked
}

fn is_in(list: &str, name: &str) -> bool {
    !name.contains(' ') && list.contains(&format!(" {name} "))
}

impl Walked {
    fn select(&mut self, Select { with, body, order_by, limit }: &Select) {
        if let Some(With { recursive: _, ctes }) = with {
            for query in ctes {
                self.reads.own.push(lower(&query.tbl_name));
                self.select(&query.select);
            }
        }
        self.one_select(&body.select);
        body.compounds.iter().for_each(|compound| self.one_select(&compound.select));
        self.sorted(order_by);
        if let Some(Limit { expr, offset }) = limit {
            self.all([expr].into_iter().chain(offset));
        }
    }

    fn one_select(&mut self, select: &OneSelect) {
        match select {
            OneSelect::Values(rows) => self.all(rows.iter().flatten()),
            OneSelect::Select { distinctness: _, columns, from, where_clause, group_by, window_clause } => {
                for column in columns {
                    match column {
                        ResultColumn::Expr(expr, _) => self.expr(expr),
                        ResultColumn::Star | ResultColumn::TableStar(_) => {}
                    }
                }
                from.iter().for_each(|from| self.from(from));
                self.all(where_clause);
                if let Some(group) = group_by {
                    self.all(group.exprs.iter().chain(&group.having));
                }
                window_clause.iter().for_each(|definition| self.window(&definition.window));
            }
        }
    }

    fn from(&mut self, FromClause { select, joins }: &FromClause) {
        self.table(select);
        for join in joins {
            self.table(&join.table);
            match &join.constraint {
                Some(JoinConstraint::On(expr)) => self.expr(expr),
                Some(JoinConstraint::Using(_)) | None => {}
            }
        }
    }

    fn table(&mut self, table: &SelectTable) {
        match table {
            SelectTable::Table(name, _, _) => self.name(name),
            SelectTable::TableCall(name, args, _) => self.table_call(name, args),
            SelectTable::Select(select, _) => self.select(select),
            SelectTable::Sub(from, _) => self.from(from),
        }
    }

    fn name(&mut self, name: &QualifiedName) {
        self.same_again &= is_ours(name);
        self.reads.names.push(lower(&name.name));
    }

    fn table_call(&mut self, name: &QualifiedName, args: &[Box<Expr>]) {
        self.same_again &= name.db_name.is_none() && is_in(REPEATABLE_TABLES, &lower(&name.name));
        self.all(args);
    }

    fn function(&mut self, name: &Name, tail: &FunctionTail) {
        let name = lower(name);
        self.same_again &= is_in(REPEATABLE, &name);
        self.acts |= is_in(ACTING, &name);
        self.all(&tail.filter_clause);
        match &tail.over_clause {
            Some(Over::Window(window)) => self.window(window),
            Some(Over::Name(_)) | None => {}
        }
    }

    fn window(&mut self, Window { base: _, partition_by, order_by, frame_clause }: &Window) {
        self.all(partition_by);
        self.sorted(order_by);
        if let Some(FrameClause { mode: _, start, end, exclude: _ }) = frame_clause {
            for bound in from_ref(start).iter().chain(end) {
                match bound {
                    FrameBound::Following(expr) | FrameBound::Preceding(expr) => self.expr(expr),
                    FrameBound::CurrentRow | FrameBound::UnboundedFollowing | FrameBound::UnboundedPreceding => {}
                }
            }
        }
    }

    fn sorted(&mut self, columns: &[SortedColumn]) {
        self.all(columns.iter().map(|column| &column.expr));
    }

    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Box<Expr>>) {
        exprs.into_iter().for_each(|expr| self.expr(expr));
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Between { lhs, not: _, start, end } => self.all([lhs, start, end]),
            Expr::Binary(left, _, right) => self.all([left, right]),
            Expr::Case { base, when_then_pairs, else_expr } => {
                self.all(when_then_pairs.iter().flat_map(|(when, then)| [when, then]));
                self.all(base.iter().chain(else_expr));
            }
            Expr::Cast { expr, type_name: _ } | Expr::Collate(expr, _) => self.expr(expr),
            Expr::Unary(_, expr) | Expr::IsNull(expr) | Expr::NotNull(expr) => self.expr(expr),
            Expr::FieldAccess { base, field: _, resolved: _ } => self.expr(base),
            Expr::Subscript { base, index } => self.all([base, index]),
            Expr::Parenthesized(exprs) | Expr::Array { elements: exprs } => self.all(exprs),
            Expr::Exists(select) | Expr::Subquery(select) => self.select(select),
            Expr::FunctionCall { name, distinctness: _, args, order_by, within_group, filter_over } => {
                self.function(name, filter_over);
                self.all(args);
                self.sorted(order_by);
                self.sorted(within_group);
            }
            Expr::FunctionCallStar { name, filter_over } => self.function(name, filter_over),
            Expr::InList { lhs, not: _, rhs } => self.all(from_ref(lhs).iter().chain(rhs)),
            Expr::InSelect { lhs, not: _, rhs } => {
                self.expr(lhs);
                self.select(rhs);
            }
            Expr::InTable { lhs, not: _, rhs, args } => {
                self.expr(lhs);
                match args.as_slice() {
                    [] => self.name(rhs),
                    args => self.table_call(rhs, args),
                }
            }
            Expr::Like { lhs, not: _, op, rhs, escape } => {
                // MATCH is whatever an index or an extension makes of it.
                self.same_again &= !matches!(op, LikeOperator::Match);
                self.all([lhs, rhs].into_iter().chain(escape));
            }
            Expr::Literal(literal) => self.literal(literal),
            Expr::Id(_) | Expr::Name(_) | Expr::Qualified(..) | Expr::DoublyQualified(..) | Expr::Variable(_) => {}
            // Not in a query, or not from the parser.
            Expr::Raise(..) | Expr::Default | Expr::Register(_) | Expr::Column { .. } | Expr::RowId { .. } => {
                self.same_again = false;
            }
            Expr::SubqueryResult { .. } => self.same_again = false,
        }
    }

    fn literal(&mut self, literal: &Literal) {
        match literal {
            Literal::CurrentDate | Literal::CurrentTime | Literal::CurrentTimestamp => self.same_again = false,
            Literal::Keyword(_) => self.same_again = false,
            Literal::Numeric(_) | Literal::String(_) | Literal::Blob(_) => {}
            Literal::Null | Literal::True | Literal::False => {}
        }
    }
}
