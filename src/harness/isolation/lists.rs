//! Transactions that append to lists and read them, by every way in.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::flaws::Flaw;
use super::history::{History, Kind, MicroOp};
use crate::error::{Error, Result};
use crate::pool::{Behavior, Row, Rows, Snapshot, Transaction};
use crate::writer::PooledDatabaseWriter;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS lists (key INTEGER PRIMARY KEY, content TEXT NOT NULL)";
const APPEND: &str = "INSERT INTO lists VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET content = content || ' ' || ?2";
const REPLACE: &str = "INSERT INTO lists VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET content = ?2";
const READ: &str = "SELECT content FROM lists WHERE key = ?1";

/// How a transaction is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// A closure of the writer's.
    Write,
    /// One append, by the writer's `execute`.
    Execute,
    /// A transaction of a guard, which takes its locks as it needs them.
    Deferred,
    /// A transaction of a guard, which takes the write lock at once.
    Immediate,
    /// Reads, on a snapshot.
    Snapshot,
    /// One read, through the cache.
    #[cfg(feature = "cache")]
    Cached,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Write => "write",
            Way::Execute => "execute",
            Way::Deferred => "guard, deferred",
            Way::Immediate => "guard, immediate",
            Way::Snapshot => "snapshot",
            #[cfg(feature = "cache")]
            Way::Cached => "cached",
        }
    }
}

/// The workload.
#[derive(Clone, Debug)]
pub struct Lists {
    /// Callers at the same time.
    pub processes: i64,
    /// Lists.
    pub keys: u64,
    /// Transactions of each.
    pub transactions: u64,
    /// Operations of a transaction, at most.
    pub operations: u64,
    /// What decides them.
    pub seed: u64,
    /// What is broken on purpose.
    pub flaw: Option<Flaw>,
}

impl Default for Lists {
    fn default() -> Self {
        Self { processes: 8, keys: 4, transactions: 100, operations: 4, seed: 0, flaw: None }
    }
}

/// What the callers share.
struct Shared {
    db: PooledDatabaseWriter,
    history: History,
    lists: Lists,
    next: AtomicI64,
    /// For [`Flaw::UncommittedReads`]: what is appended and not committed.
    uncommitted: Mutex<HashMap<i64, Vec<i64>>>,
    /// For [`Flaw::OldSnapshot`]: what a snapshot read, now and then.
    old: Mutex<HashMap<i64, Vec<i64>>>,
}

impl Lists {
    /// Runs it in the caller's runtime; every caller is a task of that.
    ///
    /// # Errors
    /// If the table cannot be made, or a caller panics.
    ///
    /// # Cancel safety
    /// Dropped half-way, what the callers have begun goes on.
    pub async fn run(&self, db: &PooledDatabaseWriter) -> Result<History> {
        db.execute(SCHEMA, ()).await?;
        let shared = Arc::new(Shared {
            db: db.clone(),
            history: History::default(),
            lists: self.clone(),
            next: AtomicI64::new(1),
            uncommitted: Mutex::default(),
            old: Mutex::default(),
        });
        let callers: Vec<_> = (0..self.processes)
            .map(|process| {
                let mut caller = Caller {
                    rng: ChaCha8Rng::seed_from_u64(self.seed ^ (process as u64) << 32),
                    process,
                    shared: Arc::clone(&shared),
                    answers: HashMap::new(),
                };
                tokio::spawn(async move { caller.run().await })
            })
            .collect();
        for caller in callers {
            caller.await.map_err(|_| Error::misuse("a caller panicked"))?;
        }
        Ok(Arc::into_inner(shared).map(|shared| shared.history).unwrap_or_default())
    }
}

/// One that has a transaction at a time.
struct Caller {
    rng: ChaCha8Rng,
    process: i64,
    shared: Arc<Shared>,
    /// For [`Flaw::StaleAnswers`].
    answers: HashMap<i64, Vec<i64>>,
}

impl Caller {
    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    async fn run(&mut self) {
        for _ in 0..self.shared.lists.transactions {
            let (way, operations) = self.transaction();
            self.shared.history.note(Kind::Invoke, self.process, way.name(), operations.clone());
            let outcome = match self.shared.lists.flaw {
                Some(flaw) => self.flawed(flaw, way, operations.clone()).await,
                None => perform(&self.shared.db, way, operations.clone()).await,
            };
            let (kind, value) = match outcome {
                Ok(operations) => (Kind::Ok, operations),
                Err(Error::Unknown { .. }) => (Kind::Info, operations),
                Err(_) => (Kind::Fail, operations),
            };
            self.shared.history.note(kind, self.process, way.name(), value);
        }
    }

    fn transaction(&mut self) -> (Way, Vec<MicroOp>) {
        let writes = self.below(3) > 0;
        let count = 1 + self.below(self.shared.lists.operations);
        let mut operations: Vec<MicroOp> = (0..count)
            .map(|_| {
                let key = self.below(self.shared.lists.keys) as i64;
                match writes && self.below(2) == 0 {
                    true => MicroOp::Append(key, self.shared.next.fetch_add(1, Ordering::Relaxed)),
                    false => MicroOp::Read(key, None),
                }
            })
            .collect();
        let appends = operations.iter().any(|operation| matches!(operation, MicroOp::Append(..)));
        let way = match (appends, self.below(4)) {
            (true, 0) => Way::Deferred,
            (true, 1) => Way::Immediate,
            (true, 2) => {
                operations.retain(|operation| matches!(operation, MicroOp::Append(..)));
                operations.truncate(1);
                Way::Execute
            }
            (true, _) => Way::Write,
            #[cfg(feature = "cache")]
            (false, 0 | 1) => {
                operations.truncate(1);
                Way::Cached
            }
            (false, 2) => Way::Deferred,
            (false, _) => Way::Snapshot,
        };
        (way, operations)
    }

    /// The same, broken.
    async fn flawed(&mut self, flaw: Flaw, way: Way, operations: Vec<MicroOp>) -> Result<Vec<MicroOp>> {
        let shared = Arc::clone(&self.shared);
        let db = &shared.db;
        let reads = operations.iter().all(|operation| matches!(operation, MicroOp::Read(..)));
        match flaw {
            Flaw::TwoSnapshots if reads => each_by_itself(db, Way::Snapshot, operations).await,
            Flaw::InPieces if !reads => each_by_itself(db, Way::Write, operations).await,
            Flaw::OldSnapshot if reads => {
                let old = shared.old.lock().clone();
                let now = all_of(db, shared.lists.keys).await?;
                if old.is_empty() || self.below(8) == 0 {
                    *shared.old.lock() = now.clone();
                }
                Ok(answered(operations, if old.is_empty() { &now } else { &old }))
            }
            Flaw::StaleAnswers if reads => {
                let mut found = perform(db, Way::Snapshot, operations).await?;
                for operation in &mut found {
                    if let MicroOp::Read(key, Some(list)) = operation {
                        *list = self.answers.entry(*key).or_insert_with(|| list.clone()).clone();
                    }
                }
                Ok(found)
            }
            Flaw::LostUpdate if !reads => {
                let before = all_of(db, shared.lists.keys).await?;
                tokio::task::yield_now().await;
                db.write(async move |tx| {
                    let (mut lists, mut done) = (before.clone(), Vec::new());
                    for operation in &operations {
                        match operation {
                            MicroOp::Append(key, value) => {
                                let list = lists.entry(*key).or_default();
                                list.push(*value);
                                tx.execute(REPLACE, (*key, text_of(list))).await?;
                                done.push(operation.clone());
                            }
                            MicroOp::Read(key, _) => {
                                done.push(MicroOp::Read(*key, Some(lists.get(key).cloned().unwrap_or_default())));
                            }
                        }
                    }
                    Ok::<_, Error>(done)
                })
                .await
                .map(|ack| ack.value)
            }
            Flaw::ReadsBefore if !reads => {
                let before = all_of(db, shared.lists.keys).await?;
                let done = perform(db, Way::Write, operations).await?;
                let own = |done: &[MicroOp], key| {
                    let own = done.iter().filter_map(|operation| match operation {
                        MicroOp::Append(of, value) if *of == key => Some(*value),
                        _ => None,
                    });
                    own.collect::<Vec<_>>()
                };
                let mut told: Vec<MicroOp> = Vec::new();
                for operation in done {
                    told.push(match operation {
                        MicroOp::Read(key, _) => {
                            let mut list = before.get(&key).cloned().unwrap_or_default();
                            list.extend(own(&told, key));
                            MicroOp::Read(key, Some(list))
                        }
                        append => append,
                    });
                }
                Ok(told)
            }
            Flaw::UncommittedReads => {
                let rolled_back = !reads && self.below(8) == 0;
                if rolled_back {
                    for operation in &operations {
                        if let MicroOp::Append(key, value) = operation {
                            shared.uncommitted.lock().entry(*key).or_default().push(*value);
                        }
                    }
                    tokio::task::yield_now().await;
                    return Err(Error::Closed);
                }
                let mut found = perform(db, way, operations).await?;
                if reads {
                    for operation in &mut found {
                        if let MicroOp::Read(key, Some(list)) = operation {
                            list.extend(shared.uncommitted.lock().get(key).into_iter().flatten());
                        }
                    }
                }
                Ok(found)
            }
            Flaw::Unwritten if !reads && self.below(8) == 0 => {
                let noted = Arc::new(Mutex::new(Vec::new()));
                let inside = Arc::clone(&noted);
                let rolled_back = db.write(async move |tx| {
                    *inside.lock() = in_transaction(tx, operations.clone()).await?;
                    Err::<(), _>(Error::Closed)
                });
                let _ = rolled_back.await;
                let done = noted.lock().clone();
                Ok(done)
            }
            Flaw::DoneTwice if !reads && self.below(8) == 0 => {
                let done = perform(db, Way::Write, operations.clone()).await?;
                perform(db, Way::Write, operations).await?;
                Ok(done)
            }
            _ => perform(db, way, operations).await,
        }
    }
}

/// Each as a transaction by itself, with a pause between two.
async fn each_by_itself(db: &PooledDatabaseWriter, way: Way, operations: Vec<MicroOp>) -> Result<Vec<MicroOp>> {
    let mut done = Vec::new();
    for operation in operations {
        done.extend(perform(db, way, vec![operation]).await?);
        tokio::task::yield_now().await;
    }
    Ok(done)
}

/// What all lists hold.
async fn all_of(db: &PooledDatabaseWriter, keys: u64) -> Result<HashMap<i64, Vec<i64>>> {
    let reads = (0..keys as i64).map(|key| MicroOp::Read(key, None)).collect();
    let found = perform(db, Way::Snapshot, reads).await?;
    Ok(found
        .into_iter()
        .filter_map(|operation| match operation {
            MicroOp::Read(key, list) => Some((key, list.unwrap_or_default())),
            MicroOp::Append(..) => None,
        })
        .collect())
}

fn answered(operations: Vec<MicroOp>, lists: &HashMap<i64, Vec<i64>>) -> Vec<MicroOp> {
    let answer = |operation| match operation {
        MicroOp::Read(key, _) => MicroOp::Read(key, Some(lists.get(&key).cloned().unwrap_or_default())),
        append => append,
    };
    operations.into_iter().map(answer).collect()
}

/// Makes a transaction: its operations, with what was read.
async fn perform(db: &PooledDatabaseWriter, way: Way, operations: Vec<MicroOp>) -> Result<Vec<MicroOp>> {
    match way {
        Way::Write => db.write(async move |tx| in_transaction(tx, operations.clone()).await).await.map(|ack| ack.value),
        Way::Execute => {
            if let Some(MicroOp::Append(key, value)) = operations.first() {
                db.execute(APPEND, (*key, value.to_string())).await?;
            }
            Ok(operations)
        }
        Way::Deferred => on_a_guard(db, Behavior::Deferred, operations).await,
        Way::Immediate => on_a_guard(db, Behavior::Immediate, operations).await,
        Way::Snapshot => {
            db.read(async move |snapshot: &mut Snapshot<'_>| {
                let mut done = Vec::new();
                for operation in &operations {
                    if let MicroOp::Read(key, _) = operation {
                        done.push(MicroOp::Read(*key, Some(read(snapshot.query(READ, (*key,)).await?).await?)));
                    }
                }
                Ok::<_, Error>(done)
            })
            .await
        }
        #[cfg(feature = "cache")]
        Way::Cached => {
            let mut done = Vec::new();
            for operation in operations {
                if let MicroOp::Read(key, _) = operation {
                    let found = db.query_cached(READ, (key,)).await?;
                    done.push(MicroOp::Read(key, Some(list_of(found.rows().first())?)));
                }
            }
            Ok(done)
        }
    }
}

async fn on_a_guard(db: &PooledDatabaseWriter, behavior: Behavior, operations: Vec<MicroOp>) -> Result<Vec<MicroOp>> {
    let mut guard = db.pool().get().await?;
    let mut tx = guard.begin(behavior).await?;
    let done = in_transaction(&mut tx, operations).await?;
    // One that is refused for a lock has written nothing; of any other failure nobody knows.
    tx.commit().await.map_err(|error| match error.is_contention() {
        true => error,
        false => Error::unknown(error),
    })?;
    Ok(done)
}

async fn in_transaction(tx: &mut Transaction<'_>, operations: Vec<MicroOp>) -> Result<Vec<MicroOp>> {
    let mut done = Vec::new();
    for operation in operations {
        done.push(match operation {
            MicroOp::Append(key, value) => {
                tx.execute(APPEND, (key, value.to_string())).await?;
                operation
            }
            MicroOp::Read(key, _) => MicroOp::Read(key, Some(read(tx.query(READ, (key,)).await?).await?)),
        });
    }
    Ok(done)
}

fn text_of(list: &[i64]) -> String {
    list.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
}

async fn read(mut rows: Rows<'_>) -> Result<Vec<i64>> {
    list_of(rows.next().await?.as_ref())
}

/// The list of a row; it is empty where there is none.
fn list_of(row: Option<&Row>) -> Result<Vec<i64>> {
    let content = row.map(|row| row.get::<String>(0)).transpose()?.unwrap_or_default();
    let numbers = content.split_ascii_whitespace().map(str::parse);
    numbers.collect::<std::result::Result<_, _>>().map_err(|_| Error::misuse("a list holds what nobody appended"))
}
