//! Isolation flaws that are planted in the workload: the checkers have to find each of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::history::MicroOp;
use super::ways::{Done, Way, in_transaction, perform, replace};
use crate::error::{Error, Result};
use crate::writer::PooledDatabaseWriter;

/// How the workload breaks what it records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A transaction that only reads takes a snapshot for each of its reads: it is of two moments.
    TwoSnapshots,
    /// A transaction that only reads sees a snapshot that somebody took before it began.
    OldSnapshot,
    /// A caller remembers the first answer to each question, and answers with that for ever.
    StaleAnswers,
    /// A write puts back the list that it has read before its transaction, with one value more.
    LostUpdate,
    /// After a write a caller's next answer is that of before.
    BeforeOwnWrite,
    /// Of half of the lists each caller sees an old snapshot: two callers see two writes in either order.
    LongFork,
    /// What a write reads, of lists that it does not write, it has read before its transaction: as a closure that is run again with what it
    /// read the first time.
    ReadsBefore,
    /// Whoever reads sees what others have appended, though that is rolled back.
    UncommittedReads,
    /// A write is told as done, and rolled back.
    Unwritten,
    /// A write that was done is done again, as after a commit of which nobody knew.
    DoneTwice,
    /// The operations of a write are transactions, each by itself.
    InPieces,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Flaw; 11] = [
        Flaw::TwoSnapshots,
        Flaw::OldSnapshot,
        Flaw::StaleAnswers,
        Flaw::BeforeOwnWrite,
        Flaw::LongFork,
        Flaw::LostUpdate,
        Flaw::ReadsBefore,
        Flaw::UncommittedReads,
        Flaw::Unwritten,
        Flaw::DoneTwice,
        Flaw::InPieces,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Flaw::TwoSnapshots => "two-snapshots",
            Flaw::OldSnapshot => "old-snapshot",
            Flaw::StaleAnswers => "stale-answers",
            Flaw::BeforeOwnWrite => "before-own-write",
            Flaw::LongFork => "long-fork",
            Flaw::LostUpdate => "lost-update",
            Flaw::ReadsBefore => "reads-before",
            Flaw::UncommittedReads => "uncommitted-reads",
            Flaw::Unwritten => "unwritten",
            Flaw::DoneTwice => "done-twice",
            Flaw::InPieces => "in-pieces",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the callers of a broken workload share.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// What is appended and not committed.
    uncommitted: Mutex<HashMap<i64, Vec<i64>>>,
    /// What a snapshot read, now and then.
    old: Mutex<HashMap<i64, Vec<i64>>>,
}

/// One caller's part in it.
pub(super) struct Broken<'a> {
    pub(super) flaw: Flaw,
    pub(super) process: i64,
    pub(super) common: &'a Common,
    /// What it was answered first, for [`Flaw::StaleAnswers`]; what there was before its write, for [`Flaw::BeforeOwnWrite`].
    pub(super) answers: &'a mut HashMap<i64, Vec<i64>>,
    /// Whether it is one of eight, by the seed.
    pub(super) now_and_then: bool,
    pub(super) keys: u64,
}

impl Broken<'_> {
    /// Makes a transaction, broken if it is of the kind that this flaw breaks.
    pub(super) async fn perform(self, db: &PooledDatabaseWriter, way: Way, operations: Vec<MicroOp>) -> Result<Done> {
        let Broken { common, keys, now_and_then, process, .. } = self;
        let reads = operations.iter().all(|operation| operation.written().is_none());
        match self.flaw {
            Flaw::TwoSnapshots if reads => each_by_itself(db, Way::Snapshot, operations).await,
            Flaw::InPieces if !reads => each_by_itself(db, Way::Write, operations).await,
            Flaw::OldSnapshot if reads => {
                let old = common.old.lock().clone();
                let now = all_of(db, keys).await?;
                if old.is_empty() || now_and_then {
                    *common.old.lock() = now.clone();
                }
                Ok(Done::untold(answered(operations, if old.is_empty() { &now } else { &old })))
            }
            Flaw::StaleAnswers if reads => {
                let mut found = perform(db, Way::Snapshot, operations).await?.operations;
                for operation in &mut found {
                    if let MicroOp::Read(key, Some(list)) = operation {
                        *list = self.answers.entry(*key).or_insert_with(|| list.clone()).clone();
                    }
                }
                Ok(Done::untold(found))
            }
            Flaw::BeforeOwnWrite if !reads => {
                *self.answers = all_of(db, keys).await?;
                perform(db, way, operations).await
            }
            Flaw::BeforeOwnWrite if !self.answers.is_empty() => {
                Ok(Done::untold(answered(operations, &std::mem::take(self.answers))))
            }
            Flaw::LongFork if reads => {
                let now = all_of(db, keys).await?;
                let mut old = common.old.lock();
                if old.is_empty() || now_and_then {
                    *old = now.clone();
                }
                let sees = |(key, list): (i64, Vec<i64>)| {
                    let is_its_half = key % 2 == process % 2;
                    (key, if is_its_half { list } else { old.get(&key).cloned().unwrap_or_default() })
                };
                Ok(Done::untold(answered(operations, &now.into_iter().map(sees).collect())))
            }
            Flaw::LostUpdate if !reads => {
                let before = all_of(db, keys).await?;
                tokio::task::yield_now().await;
                let ack = db.write(async move |tx| {
                    let (mut lists, mut done) = (before.clone(), Vec::new());
                    for operation in &operations {
                        let list = lists.entry(operation.key()).or_default();
                        match operation.written() {
                            Some(value) => {
                                list.push(value);
                                replace(tx, operation.key(), list).await?;
                                done.push(operation.clone());
                            }
                            None => done.push(MicroOp::Read(operation.key(), Some(list.clone()))),
                        }
                    }
                    Ok::<_, Error>(done)
                });
                let ack = ack.await?;
                Ok(Done::acknowledged(&ack, ack.value.clone()))
            }
            Flaw::ReadsBefore if !reads => {
                let written: Vec<i64> =
                    operations.iter().filter(|one| one.written().is_some()).map(MicroOp::key).collect();
                let lists = all_of(db, keys).await?;
                tokio::task::yield_now().await;
                let Done { operations, told } = perform(db, Way::Write, operations).await?;
                let with_old = operations.into_iter().map(|operation| match operation {
                    MicroOp::Read(key, _) if !written.contains(&key) => MicroOp::Read(key, lists.get(&key).cloned()),
                    other => other,
                });
                Ok(Done { operations: with_old.collect(), told })
            }
            Flaw::UncommittedReads => {
                if !reads && now_and_then {
                    for operation in &operations {
                        common.uncommitted.lock().entry(operation.key()).or_default().extend(operation.written());
                    }
                    tokio::task::yield_now().await;
                    return Err(Error::Closed);
                }
                let mut done = perform(db, way, operations).await?;
                if reads {
                    for operation in &mut done.operations {
                        if let MicroOp::Read(key, Some(list)) = operation {
                            list.extend(common.uncommitted.lock().get(key).into_iter().flatten());
                        }
                    }
                }
                Ok(done)
            }
            Flaw::Unwritten if !reads && now_and_then => {
                let noted = Arc::new(Mutex::new(Vec::new()));
                let inside = Arc::clone(&noted);
                let rolled_back = db.write(async move |tx| {
                    *inside.lock() = in_transaction(tx, operations.clone()).await?;
                    Err::<(), _>(Error::Closed)
                });
                let _ = rolled_back.await;
                let done = noted.lock().clone();
                Ok(Done::untold(done))
            }
            Flaw::DoneTwice if !reads && now_and_then => {
                let done = perform(db, Way::Write, operations.clone()).await?;
                perform(db, Way::Write, operations).await?;
                Ok(done)
            }
            _ => perform(db, way, operations).await,
        }
    }
}

/// Each as a transaction by itself, with a pause between two. It is told where the last of them is.
async fn each_by_itself(db: &PooledDatabaseWriter, way: Way, operations: Vec<MicroOp>) -> Result<Done> {
    let mut all = Done::untold(Vec::new());
    for operation in operations {
        let done = perform(db, way, vec![operation]).await?;
        all.operations.extend(done.operations);
        all.told = done.told;
        // Time for others to commit in.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    Ok(all)
}

/// What everything holds.
async fn all_of(db: &PooledDatabaseWriter, keys: u64) -> Result<HashMap<i64, Vec<i64>>> {
    let reads = (0..keys as i64).map(|key| MicroOp::Read(key, None)).collect();
    let found = perform(db, Way::Snapshot, reads).await?.operations;
    Ok(found
        .into_iter()
        .filter_map(|operation| match operation {
            MicroOp::Read(key, list) => Some((key, list.unwrap_or_default())),
            MicroOp::Append(..) | MicroOp::Write(..) => None,
        })
        .collect())
}

/// Reads, answered with what was known.
fn answered(operations: Vec<MicroOp>, known: &HashMap<i64, Vec<i64>>) -> Vec<MicroOp> {
    let answer = |operation| match operation {
        MicroOp::Read(key, _) => MicroOp::Read(key, Some(known.get(&key).cloned().unwrap_or_default())),
        write => write,
    };
    operations.into_iter().map(answer).collect()
}
