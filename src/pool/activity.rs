//! What a Turso connection is doing, as others may see it while somebody holds it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::manage::Activity;

/// Of a statement, as much as a line of a report can bear, in letters.
const SHOWN: usize = 120;

/// Written by whoever holds the connection, read by whoever waits for it.
#[derive(Default)]
pub(super) struct Doing {
    sql: Mutex<String>,
    in_transaction: AtomicBool,
    in_flight: AtomicBool,
    /// A statement has begun and not ended; between two rows it is not in flight.
    is_open: AtomicBool,
}

impl Doing {
    pub(super) fn begins(&self, sql: &str) {
        let end = match sql.len() {
            // Most are, and their letters need not be counted.
            short if short <= SHOWN => short,
            _ => sql.char_indices().nth(SHOWN).map_or(sql.len(), |(end, _)| end),
        };
        let mut last = self.sql.lock().unwrap_or_else(PoisonError::into_inner);
        last.clear();
        last.push_str(&sql[..end]);
        if end < sql.len() {
            last.push_str("...");
        }
        self.is_open.store(true, Ordering::Relaxed);
        self.in_flight.store(true, Ordering::Relaxed);
    }

    /// Its next user has run nothing yet.
    pub(super) fn forget(&self) {
        self.sql.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// It goes on, or pauses until the next row is asked for.
    pub(super) fn moves(&self, in_flight: bool) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }

    pub(super) fn ends(&self, autocommit: bool) {
        self.in_transaction.store(!autocommit, Ordering::Relaxed);
        self.in_flight.store(false, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Relaxed);
    }
}

impl Activity for Doing {
    fn last_sql(&self) -> Option<String> {
        let last = self.sql.lock().unwrap_or_else(PoisonError::into_inner);
        (!last.is_empty()).then(|| last.clone())
    }

    fn in_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Relaxed)
    }

    fn in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn is_reading(&self) -> bool {
        self.in_transaction() || self.is_open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_pauses_between_two_rows_or_statements_still_reads() {
        let doing = Doing::default();
        assert!(!doing.is_reading());
        doing.begins("SELECT x FROM t");
        doing.moves(false);
        assert!(doing.is_reading() && !doing.in_flight(), "between two rows");
        doing.ends(true);
        assert!(!doing.is_reading());
        doing.begins("BEGIN");
        doing.ends(false);
        assert!(doing.is_reading() && !doing.in_flight(), "between two statements");
        doing.ends(true);
        assert!(!doing.is_reading());
    }
}
