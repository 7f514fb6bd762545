//! A second checker, which searches for nothing: it knows the order of commits, and goes through it once.
//!
//! The idea is that of CHRONOS ("Online Timestamp-based Transactional Isolation Checking of Database Systems", arXiv 2504.01477):
//! with the order in which transactions took effect, isolation is checked in linear time by doing them one after the other. Here that order is
//! what the library tells of each write: the number of its commit, and its position in that. What strict serializability demands:
//!
//! 1. Real time: of two writes of which one had ended before the other was asked for, that one is before in the order.
//! 2. Each write reads what the writes before it, and itself, had written.
//! 3. For each transaction that only reads there is one place between two commits where it reads what was written until there;
//!    behind all that had ended when it was asked for, and behind what others had read by then; before all that was asked for after it
//!    had ended; and, if the library told which commits a snapshot includes, between those.
//!
//! For the last, the first such place is taken for each in the order of their ends, which leaves most room for those that come
//! later. What is not known is not judged, and counted: a key that somebody wrote whose place is not known (a transaction of a
//! guard, one of which nobody knows whether it is committed), and every transaction that reads it. It shares no code with the first
//! checker (`judge`), and knows nothing of dependencies.

use std::collections::{HashMap, HashSet};

use super::history::{Event, History, Kind, MicroOp, Place, Shape};
use super::picture::short;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordered {
    /// Transactions of which every operation was judged.
    pub judged: usize,
    /// Committed transactions that were not, or not wholly, since their order is not known.
    pub not_judged: usize,
    /// What speaks against strict serializability, in the order in which it was found.
    pub violations: Vec<Violation>,
}

/// Something that cannot be in the order that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The events by which the transactions ended, the accused one first.
    pub ends: Vec<usize>,
    /// In words.
    pub what: String,
}

/// A transaction that is committed.
struct Committed<'a> {
    /// The events of its beginning and its end.
    invoked: usize,
    ended: usize,
    event: &'a Event,
}

/// A write in the order.
struct Write<'a> {
    transaction: Committed<'a>,
    /// How many writes there are when its commit is done.
    commit_ends: usize,
}

/// What was written to one key: by which write of the order, and what.
type Versions = HashMap<i64, Vec<(usize, i64)>>;

/// Judges a history whose writes have places.
#[must_use]
pub fn judge_by_order(history: &History) -> Ordered {
    history.with(|events| {
        let mut ordered = Ordered::default();
        let (writes, reads, unknown) = sort(events, &mut ordered);
        let judge = Judge { shape: history.shape, events, writes, unknown };
        judge.real_time(&mut ordered);
        let versions = judge.replay(&mut ordered);
        judge.reads(reads, &versions, &mut ordered);
        ordered
    })
}

/// The writes in their order, those that only read, and the keys of which not everything is known.
fn sort<'a>(events: &'a [Event], ordered: &mut Ordered) -> (Vec<Write<'a>>, Vec<Committed<'a>>, HashSet<i64>) {
    let mut open: HashMap<i64, usize> = HashMap::new();
    let (mut writes, mut reads, mut unknown) = (Vec::new(), Vec::new(), HashSet::new());
    let written = |event: &Event| -> Vec<i64> {
        event.value.iter().filter(|operation| operation.written().is_some()).map(MicroOp::key).collect()
    };
    for (index, event) in events.iter().enumerate() {
        if event.kind == Kind::Invoke {
            // One that never ended, if it is not the process's first.
            unknown.extend(open.insert(event.process, index).into_iter().flat_map(|before| written(&events[before])));
            continue;
        }
        // Without a beginning it may have begun at any time.
        let began = open.remove(&event.process);
        let invoked = began.unwrap_or(0);
        let mut keys = written(event);
        if event.kind == Kind::Info {
            // Whatever is noted at its end, it may have written what it was asked to.
            keys.extend(began.into_iter().flat_map(|began| written(&events[began])));
        }
        match (event.kind, event.place) {
            (Kind::Ok, Some(Place::Commit(..))) => writes.push(Committed { invoked, ended: index, event }),
            (Kind::Ok, _) if keys.is_empty() => reads.push(Committed { invoked, ended: index, event }),
            (Kind::Ok, _) => {
                ordered.not_judged += 1;
                unknown.extend(keys);
            }
            (Kind::Info, _) => unknown.extend(keys),
            (Kind::Fail | Kind::Invoke, _) => {}
        }
    }
    // Those that never ended.
    unknown.extend(open.values().flat_map(|index| written(&events[*index])));
    let place = |write: &Committed<'_>| match write.event.place {
        Some(Place::Commit(writer, number, position)) => (writer, number, position),
        _ => Default::default(),
    };
    writes.sort_by_key(place);
    let mut ends = vec![0; writes.len()];
    for index in (0..writes.len()).rev() {
        let is_last = writes.get(index + 1).is_none_or(|next| {
            let (one, other) = (place(&writes[index]), place(next));
            (one.0, one.1) != (other.0, other.1)
        });
        ends[index] = if is_last { index + 1 } else { ends[index + 1] };
    }
    let writes = writes.into_iter().zip(ends);
    (writes.map(|(transaction, commit_ends)| Write { transaction, commit_ends }).collect(), reads, unknown)
}

struct Judge<'a> {
    shape: Shape,
    events: &'a [Event],
    writes: Vec<Write<'a>>,
    unknown: HashSet<i64>,
}

impl Judge<'_> {
    /// Whether all that it did is known.
    fn is_known(&self, event: &Event) -> bool {
        event.value.iter().all(|operation| !self.unknown.contains(&operation.key()))
    }

    fn count(&self, event: &Event, ordered: &mut Ordered) {
        match self.is_known(event) {
            true => ordered.judged += 1,
            false => ordered.not_judged += 1,
        }
    }

    /// The first demand.
    fn real_time(&self, ordered: &mut Ordered) {
        let mut latest: Option<&Committed<'_>> = None;
        for pair in self.writes.windows(2) {
            let (one, other) = (&pair[0].transaction, &pair[1].transaction);
            if one.event.place == other.event.place {
                let what = format!("{} and {} are told to be the same write", name(one), name(other));
                ordered.violations.push(Violation { ends: vec![one.ended, other.ended], what });
            }
        }
        for Write { transaction: write, .. } in &self.writes {
            if let Some(latest) = latest.filter(|latest| write.ended < latest.invoked) {
                let what = format!(
                    "{} is before {} in the order of commits, and was asked for when that had ended",
                    name(latest),
                    name(write)
                );
                ordered.violations.push(Violation { ends: vec![latest.ended, write.ended], what });
            }
            if latest.is_none_or(|latest| latest.invoked < write.invoked) {
                latest = Some(write);
            }
        }
    }

    /// The second demand: does what was written in its order. What each key was given, by which write.
    fn replay(&self, ordered: &mut Ordered) -> Versions {
        let mut versions: Versions = HashMap::new();
        for (index, Write { transaction: write, .. }) in self.writes.iter().enumerate() {
            for operation in &write.event.value {
                let known = versions.entry(operation.key()).or_default();
                match operation {
                    MicroOp::Append(_, value) | MicroOp::Write(_, value) => known.push((index, *value)),
                    MicroOp::Read(key, Some(found)) if !self.unknown.contains(key) => {
                        let is_so = match self.shape {
                            Shape::ListAppend => is_prefix(found, known) && found.len() == known.len(),
                            Shape::RwRegister => found.last() == known.last().map(|(_, value)| value),
                        };
                        if !is_so {
                            let (content, found) = (self.content(known), found.as_slice());
                            let same = content.iter().zip(found).take_while(|(one, other)| one == other).count();
                            let what = format!(
                                "{} reads {} of {key}, and until there was written {} (the first {same} are the same)",
                                name(write),
                                short(found),
                                short(&content)
                            );
                            ordered.violations.push(Violation { ends: vec![write.ended], what });
                        }
                    }
                    MicroOp::Read(..) => {}
                }
            }
            self.count(write.event, ordered);
        }
        versions
    }

    fn content(&self, known: &[(usize, i64)]) -> Vec<i64> {
        let from = if self.shape == Shape::RwRegister { known.len().saturating_sub(1) } else { 0 };
        known[from..].iter().map(|(_, value)| *value).collect()
    }

    /// The third demand.
    fn reads(&self, reads: Vec<Committed<'_>>, versions: &Versions, ordered: &mut Ordered) {
        let (at_least, at_most) = self.bounds();
        let registers = self.registers(versions);
        // How far somebody has seen, by the event at which that was known.
        let mut seen: Vec<(usize, usize)> = Vec::new();
        for read in reads {
            self.count(read.event, ordered);
            let others = match seen.partition_point(|(ended, _)| *ended < read.invoked) {
                0 => 0,
                before => seen[before - 1].1,
            };
            let (mut from, mut upto) = (at_least[read.invoked].max(others), at_most[read.ended]);
            if let Some(Place::Snapshot(writer, includes, not_behind)) = read.event.place {
                let number = |write: &Write<'_>| match write.transaction.event.place {
                    Some(Place::Commit(writer, number, _)) => (writer, number),
                    _ => Default::default(),
                };
                from = from.max(self.writes.partition_point(|write| number(write) <= (writer, includes)));
                upto = upto.min(self.writes.partition_point(|write| number(write) <= (writer, not_behind)));
            }
            let demanded = (from, upto);
            let mut unwritten = None;
            for operation in &read.event.value {
                let MicroOp::Read(key, Some(found)) = operation else { continue };
                if self.unknown.contains(key) {
                    continue;
                }
                let known = versions.get(key).map(Vec::as_slice).unwrap_or_default();
                let place = match self.shape {
                    Shape::ListAppend => is_prefix(found, known).then_some(found.len()),
                    Shape::RwRegister => match found.last() {
                        None => Some(0),
                        Some(value) => registers.get(&(*key, *value)).map(|place| place + 1),
                    },
                };
                match place {
                    Some(count) => {
                        from = from.max(count.checked_sub(1).map_or(0, |last| known[last].0 + 1));
                        upto = upto.min(known.get(count).map_or(self.writes.len(), |(next, _)| *next));
                    }
                    None => unwritten = Some((key, found)),
                }
            }
            // The first place from there on that is between two commits.
            let place = match from.checked_sub(1) {
                Some(last) => self.writes[last].commit_ends,
                None => 0,
            };
            if let Some((key, found)) = unwritten {
                let what = format!("{} reads {} of {key}, which never was so", name(&read), short(found));
                ordered.violations.push(Violation { ends: vec![read.ended], what });
            } else if place > upto {
                let (first, last) = (self.at(demanded.0), self.at(demanded.1));
                let what = format!(
                    "{} must have read between {first} and {last}, and reads this at no place between two commits there",
                    name(&read)
                );
                let ends = [Some(read.ended), self.before(place), self.before(upto + 1)];
                let mut ends: Vec<usize> = ends.into_iter().flatten().collect();
                ends.dedup();
                ordered.violations.push(Violation { ends, what });
            } else {
                let furthest = seen.last().map_or(0, |(_, place)| *place).max(place);
                seen.push((read.ended, furthest));
            }
        }
    }

    /// At each event: how many writes of the order had ended, the last of them and all before it; and before which write, at most, whoever ended
    /// there has to be, since that was asked for later.
    fn bounds(&self) -> (Vec<usize>, Vec<usize>) {
        let count = self.events.len();
        let (mut at_least, mut at_most) = (vec![0; count], vec![self.writes.len(); count]);
        for (index, Write { transaction, .. }) in self.writes.iter().enumerate() {
            at_least[transaction.ended] = index + 1;
            at_most[transaction.invoked] = index;
        }
        for event in 1..count {
            at_least[event] = at_least[event].max(at_least[event - 1]);
        }
        for event in (1..count).rev() {
            at_most[event - 1] = at_most[event - 1].min(at_most[event]);
        }
        (at_least, at_most)
    }

    /// Which version of a register a value is.
    fn registers(&self, versions: &Versions) -> HashMap<(i64, i64), usize> {
        let mut registers = HashMap::new();
        if self.shape == Shape::RwRegister {
            for (key, known) in versions {
                registers.extend(known.iter().enumerate().map(|(place, (_, value))| ((*key, *value), place)));
            }
        }
        registers
    }

    /// The end of the write that is the last of so many.
    fn before(&self, count: usize) -> Option<usize> {
        count.checked_sub(1).and_then(|index| self.writes.get(index)).map(|write| write.transaction.ended)
    }

    fn at(&self, count: usize) -> String {
        match count.checked_sub(1).and_then(|index| self.writes.get(index)) {
            Some(write) => name(&write.transaction),
            None => "the beginning".to_owned(),
        }
    }
}

fn is_prefix(found: &[i64], known: &[(usize, i64)]) -> bool {
    found.len() <= known.len() && found.iter().zip(known).all(|(one, (_, other))| one == other)
}

/// A transaction by the event of its end, as the first checker calls it.
fn name(transaction: &Committed<'_>) -> String {
    let place = match transaction.event.place {
        Some(Place::Commit(_, number, position)) => format!(" (commit {number}, position {position})"),
        _ => String::new(),
    };
    format!("T{}{place}", transaction.ended)
}
