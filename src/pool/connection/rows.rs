//! The rows of a query, and what of it stays with the connection.

use std::collections::VecDeque;
use std::fmt;

use super::Connection;
use crate::error::{Error, Result};
use crate::pool::engine::engine;
use crate::pool::row::Row;
use crate::pool::statements::Prepared;
use crate::stack::{Room, await_with_more_room, with_room};

/// What a query left open.
pub(super) struct Open {
    pub(super) rows: turso::Rows,
    /// Goes back to the cache with the rows.
    pub(super) prepared: Box<Prepared>,
    /// The engine may go deep to give a row.
    pub(super) needs_room: Room,
    /// The first row, which was fetched when it began.
    pub(super) ahead: Option<Result<Option<Row>>>,
    /// Of a statement that does more than read: all of its rows, for it has run.
    pub(super) fetched: Option<VecDeque<turso::Row>>,
    /// A row could not be fetched: the statement is not kept.
    pub(super) failed: bool,
}

/// The rows of a query. They borrow the connection: nothing else can run on it until they are dropped.
#[must_use = "a query gives rows; a statement of which nobody wants any is executed"]
pub struct Rows<'c> {
    pub(super) connection: &'c mut Connection,
}

impl Rows<'_> {
    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// The engine's error.
    ///
    /// # Cancel safety
    /// Dropped half-way, the connection is discarded when its guard comes back.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        if let Some(first) = self.connection.open.as_mut().and_then(|open| open.ahead.take()) {
            return first;
        }
        self.connection.give_way().await;
        let Connection { open: Some(open), cut, in_flight, doing, opened, .. } = &mut *self.connection else {
            return Ok(None);
        };
        if let Some(fetched) = &mut open.fetched {
            return Ok(fetched.pop_front().map(Row::new));
        }
        *cut |= *in_flight;
        *in_flight = true;
        doing.moves(true);
        let next = engine(open.rows.next());
        let row = await_with_more_room(&mut open.needs_room, || opened.shared.schema.room(), next).await;
        *in_flight = false;
        doing.moves(false);
        open.failed |= row.is_err();
        let row = self.connection.noted(row)?;
        Ok(row.map(Row::new))
    }

    /// Fetches the first row. The engine compiles a statement anew when it begins, if the schema has changed by then, and gives it other
    /// columns: whoever has the rows has the columns that they are of.
    pub(super) async fn begin(mut self) -> Self {
        let first = self.next().await;
        if let Some(open) = &mut self.connection.open {
            open.ahead = Some(first);
        }
        self
    }

    /// Runs the statement to its end.
    pub(super) async fn fetch_all(mut self) -> Result<Open> {
        let mut fetched = VecDeque::new();
        while let Some(row) = self.next().await? {
            fetched.push_back(row.into_engines());
        }
        self.connection.settled();
        let open = self.connection.open.take().ok_or(NOT_OPEN)?;
        Ok(Open { fetched: Some(fetched), ..open })
    }

    /// How many columns each row has.
    #[must_use]
    pub fn column_count(&self) -> usize {
        self.connection.open.as_ref().map_or(0, |open| open.rows.column_count())
    }

    /// The names of the columns.
    #[must_use]
    pub fn column_names(&self) -> Vec<String> {
        self.connection.open.as_ref().map_or_else(Vec::new, |open| open.rows.column_names())
    }
}

const NOT_OPEN: Error = Error::misuse("the rows of the statement are gone");

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        let Some(Open { rows, prepared, needs_room, failed, .. }) = self.connection.open.take() else { return };
        // The rows first: they are another handle to the statement, and an operation of the connection.
        let prepared = match needs_room {
            Room::Most => {
                with_room(Room::Most, || drop((rows, prepared)));
                None
            }
            _ => {
                drop(rows);
                Some(prepared)
            }
        };
        // The statement ran as its rows were fetched; only now is it known whether it began or ended a transaction.
        self.connection.settled_after(failed);
        if let Some(prepared) = prepared.filter(|_| !failed && !self.connection.in_flight) {
            self.connection.statements.put(prepared);
        }
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("columns", &self.column_names()).finish_non_exhaustive()
    }
}
