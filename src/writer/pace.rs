//! Whether a closure joins the writes in the open transaction, or lets them be committed first.
//!
//! Whoever shares a commit is answered after it, and so waits for all that come behind it in the batch. Beside statements
//! that is nothing. A closure may wait for something else, though, and to share a commit saves no more than a commit: so one
//! that probably takes much longer than that, as the last closure did, waits for those before it to be committed, and is a
//! commit of its own. A short write then waits for the rest of one closure at most, and not for the whole of another, too.
//!
//! Where all writes are alike, nobody is spared anything: long closures share their commits with each other.

use std::time::Duration;

use super::job::Kind;

/// A commit of its own costs a closure at most this part of its own time.
const PART: u32 = 4;

/// How long things took lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    commit: Duration,
    closure: Duration,
    /// Of those in the open transaction.
    quickest: Option<Duration>,
}

impl Pace {
    /// A batch begins.
    pub(super) fn begins(&mut self) {
        self.quickest = None;
    }

    /// One of its writes ran for so long.
    pub(super) fn ran(&mut self, kind: &Kind, took: Duration) {
        self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        if let Kind::Work(_) = kind {
            self.closure = took;
        }
    }

    /// It was committed.
    pub(super) fn committed(&mut self, took: Duration) {
        self.commit = took;
    }

    /// A write that was alone took so long with its commit.
    pub(super) fn ran_alone(&mut self, kind: &Kind, took: Duration) {
        if let Kind::Work(_) = kind {
            self.closure = took.saturating_sub(self.commit);
        }
    }

    /// Whether this write would keep those in the open transaction for longer than sharing their commit is worth.
    pub(super) fn keeps_others(&self, kind: &Kind) -> bool {
        let is_long = !self.commit.is_zero() && self.closure > self.commit * PART;
        let is_longer = self.quickest.is_some_and(|quickest| quickest < self.closure / PART);
        matches!(kind, Kind::Work(_)) && is_long && is_longer
    }
}

#[cfg(test)]
mod tests {
    use turso::params::Params;

    use super::super::job::{Closure, Statement};
    use super::*;
    use crate::error::Error;
    use crate::pool::Transaction;

    const QUICK: Duration = Duration::from_micros(10);
    const COMMIT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_millis(10);

    fn closure() -> Kind {
        let work = async |_: &mut Transaction<'_>| Ok::<_, Error>(());
        Kind::Work(Box::new(Closure::new(work).0))
    }

    fn statement() -> Kind {
        Kind::Statement(Statement::new("INSERT INTO t VALUES (1)".into(), Params::None).0)
    }

    /// After a commit, and a closure that took so long.
    fn after(closure_took: Duration) -> Pace {
        let mut pace = Pace::default();
        pace.ran(&closure(), closure_took);
        pace.committed(COMMIT);
        pace.begins();
        pace
    }

    #[test]
    fn a_long_closure_keeps_a_short_write() {
        let mut pace = after(LONG);
        assert!(!pace.keeps_others(&closure()), "there is nobody");
        pace.ran(&statement(), QUICK);
        assert!(pace.keeps_others(&closure()));
        assert!(!pace.keeps_others(&statement()));
        // By itself it is still long; and once it is quick, it is one of them again.
        pace.ran_alone(&closure(), COMMIT + LONG);
        assert!(pace.keeps_others(&closure()));
        pace.ran_alone(&closure(), COMMIT + QUICK);
        assert!(!pace.keeps_others(&closure()));
    }

    #[test]
    fn closures_that_are_all_as_long_share_a_commit() {
        let mut pace = after(LONG);
        pace.ran(&closure(), LONG);
        assert!(!pace.keeps_others(&closure()));
    }

    #[test]
    fn one_that_takes_no_longer_than_a_few_commits_keeps_nobody() {
        let mut pace = after(COMMIT * PART);
        pace.ran(&statement(), QUICK);
        assert!(!pace.keeps_others(&closure()));
    }

    #[test]
    fn while_nothing_was_committed_nobody_knows() {
        let mut pace = Pace::default();
        pace.ran(&closure(), LONG);
        pace.ran(&statement(), QUICK);
        assert!(!pace.keeps_others(&closure()));
    }
}
