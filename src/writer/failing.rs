//! The statements of a lane that have failed half-way, so that the next one of the same text runs in a savepoint of its own, and
//! harms no neighbour. The first one costs its batch a second run; a savepoint for every statement would cost each a few
//! microseconds. Where the engine ends the transaction at a failure (`INSERT ... VALUES (json(?1))`) no savepoint helps, and each failure
//! costs that; to run the text alone from then on would cost all who write with it their shared commits.

use std::collections::HashSet;
use std::sync::Arc;

/// As many are remembered. A text that has its values in it will not come again.
const MOST: usize = 256;

/// A longer text is not remembered.
const LONGEST: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Failing(HashSet<Arc<str>>);

impl Failing {
    pub(super) fn has(&self, sql: &str) -> bool {
        !self.0.is_empty() && self.0.contains(sql)
    }

    pub(super) fn add(&mut self, sql: &Arc<str>) {
        if sql.len() > LONGEST {
            return;
        }
        if self.0.len() >= MOST {
            // Those that fail again come back.
            self.0.clear();
        }
        self.0.insert(Arc::clone(sql));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_remembered_and_no_more_than_that() {
        let mut failing = Failing::default();
        assert!(!failing.has("DELETE FROM t"));
        failing.add(&"DELETE FROM t".into());
        assert!(failing.has("DELETE FROM t") && !failing.has("DELETE FROM u"));
        for number in 0..10 * MOST {
            failing.add(&format!("DELETE FROM t{number}").into());
            assert!(failing.0.len() <= MOST && failing.has(&format!("DELETE FROM t{number}")));
        }
        failing.add(&" ".repeat(LONGEST + 1).into());
        assert!(!failing.has(&" ".repeat(LONGEST + 1)));
    }
}
