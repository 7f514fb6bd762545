//! What must hold of a file whose writer was killed, as a function of what is in it and what is known of it.

use std::collections::{BTreeMap, BTreeSet};

use super::KillReport;
use super::work::Write;

/// What one reader found in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    /// By write, its rows: part and content, in that order.
    pub pieces: BTreeMap<i64, Vec<(i64, String)>>,
    /// What all transactions added up.
    pub tally: i64,
    /// What `PRAGMA integrity_check` says.
    pub integrity: String,
}

impl View {
    /// How what SQLite sees differs from what the engine saw.
    pub(super) fn differs(&self, engine: &View) -> String {
        if self.integrity != engine.integrity {
            return format!("integrity_check by SQLite says {}, by the engine {}", self.integrity, engine.integrity);
        }
        if self.tally != engine.tally {
            return format!("SQLite sees {} counted, the engine {}", self.tally, engine.tally);
        }
        let ids: BTreeSet<_> = self.pieces.keys().chain(engine.pieces.keys()).collect();
        let ids: Vec<_> = ids.into_iter().filter(|id| self.pieces.get(id) != engine.pieces.get(id)).collect();
        format!("SQLite sees {} writes otherwise than the engine, the first is {:?}", ids.len(), ids.first())
    }
}

/// What is known of a file, over all of its rounds.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeSet<i64>,
    /// Writes that a reader found after some round: from then on they must stay, acknowledged or not.
    seen: BTreeSet<i64>,
}

impl Ledger {
    /// Adds what a child printed.
    pub(super) fn acknowledge(&mut self, ids: impl IntoIterator<Item = i64>) {
        self.acknowledged.extend(ids);
    }

    /// Adds what speaks against `view` to the report, each thing at the place `at`; remembers what is there.
    pub(super) fn judge(&mut self, view: &View, seed: u64, report: &mut KillReport, at: &str) {
        if view.integrity != "ok" {
            report.unsound += 1;
            report.finding(|| format!("{at}: integrity_check says {}", view.integrity));
        }
        // Each is lost once, however many rounds the file goes on for.
        let missing = |id: &i64| !view.pieces.contains_key(id);
        let lost: BTreeSet<_> = self.acknowledged.union(&self.seen).copied().filter(missing).collect();
        for id in &lost {
            report.lost += 1;
            let how = if self.acknowledged.remove(id) { "was acknowledged" } else { "was there after a round before" };
            report.finding(|| format!("{at}: write {id} {how} and is not there"));
            self.seen.remove(id);
        }
        let mut counted = 0;
        for (id, pieces) in &view.pieces {
            let write = Write::of(seed, *id);
            if write.is_transaction() {
                counted += pieces.len() as i64;
            }
            judge_write(&write, pieces, report, at);
        }
        if counted != view.tally {
            report.torn += 1;
            report.finding(|| format!("{at}: transactions left {counted} rows and counted {}", view.tally));
        }
        report.found +=
            self.acknowledged.iter().filter(|id| view.pieces.contains_key(id) && !self.seen.contains(id)).count()
                as u64;
        report.unacknowledged +=
            view.pieces.keys().filter(|id| !self.acknowledged.contains(id) && !self.seen.contains(id)).count() as u64;
        self.seen.extend(view.pieces.keys());
    }
}

/// A write that is there is there wholly, once, as it was written, and was not given up.
fn judge_write(write: &Write, pieces: &[(i64, String)], report: &mut KillReport, at: &str) {
    let id = write.id;
    if write.given_up {
        report.undead += 1;
        report.finding(|| format!("{at}: write {id} was rolled back and is there"));
        return;
    }
    let mut times = vec![0_u64; write.contents.len()];
    for (part, content) in pieces {
        let expected = usize::try_from(*part).ok().and_then(|part| Some((part, write.contents.get(part)?)));
        match expected {
            Some((part, expected)) if expected == content => times[part] += 1,
            _ => {
                report.changed += 1;
                report.finding(|| format!("{at}: row {part} of write {id} is not what was written"));
            }
        }
    }
    if times.iter().any(|times| *times > 1) {
        report.duplicated += 1;
        report.finding(|| format!("{at}: write {id} is there more than once: its rows {times:?} times"));
    }
    if times.contains(&0) {
        report.torn += 1;
        let there = times.iter().filter(|times| **times > 0).count();
        report.finding(|| format!("{at}: write {id} is half there: {there} of its {} rows", times.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    /// The first writes of their kind: a row, a transaction, one that is given up.
    fn writes() -> [Write; 3] {
        let first = |kind: fn(&Write) -> bool| (1..).map(|id| Write::of(SEED, id)).find(kind).unwrap();
        [
            first(|write| !write.is_transaction()),
            first(|write| write.is_transaction() && !write.given_up),
            first(|write| write.given_up),
        ]
    }

    fn view<'w>(writes: impl IntoIterator<Item = &'w Write>) -> View {
        let mut view = View { integrity: "ok".to_owned(), ..View::default() };
        for write in writes {
            let pieces = view.pieces.entry(write.id).or_default();
            pieces.extend(write.parts().map(|(part, content)| (part, content.to_owned())));
            if write.is_transaction() {
                view.tally += write.len();
            }
        }
        view
    }

    fn judged(acknowledged: &[i64], view: &View) -> KillReport {
        let (mut ledger, mut report) = (Ledger::default(), KillReport::default());
        ledger.acknowledge(acknowledged.iter().copied());
        ledger.judge(view, SEED, &mut report, "here");
        report
    }

    #[test]
    fn what_was_acknowledged_and_is_there_is_no_finding() {
        let [row, transaction, given_up] = writes();
        let report = judged(&[row.id], &view([&row, &transaction]));
        assert_eq!((report.found, report.unacknowledged, report.findings.len()), (1, 1, 0), "{report:?}");
        assert!(!view([&row]).pieces.contains_key(&given_up.id));
    }

    #[test]
    fn an_acknowledged_write_that_is_missing_is_lost() {
        let [row, transaction, _] = writes();
        assert_eq!(judged(&[row.id, transaction.id], &view([&row])).lost, 1);
    }

    #[test]
    fn a_write_that_was_there_once_and_is_gone_is_lost() {
        let [row, ..] = writes();
        let (mut ledger, mut report) = (Ledger::default(), KillReport::default());
        ledger.judge(&view([&row]), SEED, &mut report, "here");
        assert_eq!((report.unacknowledged, report.lost), (1, 0));
        ledger.judge(&view([]), SEED, &mut report, "here");
        assert_eq!(report.lost, 1);
    }

    #[test]
    fn a_write_applied_twice_is_told_from_one_applied_once() {
        let [row, transaction, _] = writes();
        assert_eq!(judged(&[], &view([&row, &row])).duplicated, 1);
        assert_eq!(judged(&[], &view([&transaction, &transaction])).duplicated, 1);
    }

    #[test]
    fn a_transaction_without_one_of_its_rows_is_torn() {
        let [_, transaction, _] = writes();
        let mut view = view([&transaction]);
        view.pieces.get_mut(&transaction.id).unwrap().pop();
        view.tally -= 1;
        assert_eq!(judged(&[transaction.id], &view).torn, 1);
    }

    #[test]
    fn a_transaction_without_its_count_is_torn() {
        let [_, transaction, _] = writes();
        let mut view = view([&transaction]);
        view.tally = 0;
        assert_eq!(judged(&[transaction.id], &view).torn, 1);
    }

    #[test]
    fn what_was_rolled_back_must_not_be_seen() {
        let [_, _, given_up] = writes();
        assert_eq!(judged(&[], &view([&given_up])).undead, 1);
    }

    #[test]
    fn a_content_that_is_not_what_was_written_is_found() {
        let [row, ..] = writes();
        let mut view = view([&row]);
        view.pieces.get_mut(&row.id).unwrap()[0].1.push('!');
        assert_eq!(judged(&[row.id], &view).changed, 1);
    }

    #[test]
    fn a_file_that_is_not_sound_is_found() {
        let view = View { integrity: "row 1 missing from index".to_owned(), ..View::default() };
        assert_eq!(judged(&[], &view).unsound, 1);
    }
}
