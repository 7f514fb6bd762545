//! Transactions with random keys and lengths, by every way in, at the same time: on real threads and in a simulated world.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::flaws::{Broken, Common, Flaw};
use super::history::{History, Kind, MicroOp, Place, Shape};
use super::ways::{Done, SCHEMA, Told, Way, perform};
use crate::error::{Error, Result};
use crate::harness::drive::Control;
use crate::harness::sim::World;
use crate::pool::PoolConfig;
use crate::writer::{Mode, PooledDatabaseWriter, WriterConfig};

/// The workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What transactions do.
    pub shape: Shape,
    /// The mode that its writer is in. In MVCC mode nobody is told the order of commits.
    pub mode: Mode,
    /// Callers at the same time.
    pub processes: i64,
    /// Lists or registers. Guards write a quarter of them, so that the others are written in an order that is known.
    pub keys: u64,
    /// Transactions of each caller.
    pub transactions: u64,
    /// Operations of a transaction, at most.
    pub operations: u64,
    /// What decides them.
    pub seed: u64,
    /// What is broken on purpose.
    pub flaw: Option<Flaw>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            shape: Shape::ListAppend,
            mode: Mode::Wal,
            processes: 8,
            keys: 6,
            transactions: 100,
            operations: 4,
            seed: 0,
            flaw: None,
        }
    }
}

/// What the callers share.
struct Shared {
    workload: Workload,
    history: Arc<History>,
    next: AtomicI64,
    common: Common,
    control: Arc<Control>,
}

impl Shared {
    fn new(workload: &Workload, history: Arc<History>, control: Arc<Control>) -> Arc<Self> {
        let (workload, next, common) = (workload.clone(), AtomicI64::new(1), Common::default());
        Arc::new(Self { workload, history, next, common, control })
    }
}

impl Workload {
    /// The settings of a writer for it.
    #[must_use]
    pub fn config(&self) -> WriterConfig {
        WriterConfig {
            mode: self.mode,
            #[cfg(feature = "cache")]
            cache: 1 << 20,
            ..WriterConfig::default()
        }
    }

    /// Runs it in the caller's runtime, up to its end or until it is stopped; every caller is a task of that.
    ///
    /// # Errors
    /// If the table cannot be made, or a caller panics.
    ///
    /// # Cancel safety
    /// Dropped half-way, what the callers have begun goes on.
    pub async fn run(&self, db: &PooledDatabaseWriter, control: &Arc<Control>) -> Result<History> {
        db.execute(SCHEMA, ()).await?;
        let history = Arc::new(History::new(self.shape));
        let shared = Shared::new(self, Arc::clone(&history), Arc::clone(control));
        let callers: Vec<_> = (0..self.processes)
            .map(|process| {
                let dice = Dice::Seeded(Box::new(ChaCha8Rng::seed_from_u64(self.seed ^ (process as u64) << 32)));
                let mut caller = Caller::new(process, 0, dice, Arc::clone(&shared), db.clone());
                tokio::spawn(async move { caller.run().await })
            })
            .collect();
        for caller in callers {
            caller.await.map_err(|_| Error::misuse("a caller panicked"))?;
        }
        drop(shared);
        Ok(Arc::into_inner(history).unwrap_or_else(|| History::off(self.shape)))
    }

    /// Runs it in a simulated world: a few lives of the database, each opened anew, in which clients may be cut short, and which
    /// power failures may end. In the end everything is read.
    ///
    /// # Errors
    /// If the database cannot be opened though nothing fails.
    ///
    /// # Cancel safety
    /// Dropped half-way, so is the world's work.
    pub async fn run_in(&self, world: &World, history: Arc<History>) -> std::result::Result<(), String> {
        const LIVES: u64 = 2;
        let shared = Shared::new(self, history, Arc::default());
        let lives = world.up_to(LIVES);
        for life in 0..lives {
            // The power may fail in it, and that ends a life as well as anything.
            let _ = world.until_crash(self.lives(world, &shared, life)).await;
        }
        let looks = async {
            let db = self.opens(world).await?;
            let reads: Vec<_> = (0..self.keys as i64).map(|key| MicroOp::Read(key, None)).collect();
            perform(&db, Way::Snapshot, reads.clone()).await?;
            let dice = Dice::World(world.clone());
            let mut caller = Caller::new((lives * 100) as i64, lives as u32, dice, Arc::clone(&shared), db.clone());
            caller.makes(Way::Snapshot, reads).await;
            db.close().await;
            Ok::<_, Error>(())
        };
        world.calmly(looks).await.map_err(|error| format!("the database cannot be read any more: {error}"))
    }

    async fn opens(&self, world: &World) -> Result<PooledDatabaseWriter> {
        let config = PoolConfig { max_connections: 4, ..PoolConfig::default() };
        let pool = world.pool("isolation.db").config(config).build().await?;
        let db = world.writer(pool, WriterConfig { retry_timeout: Duration::from_secs(1), ..self.config() }).await?;
        db.execute(SCHEMA, ()).await?;
        Ok(db)
    }

    async fn lives(&self, world: &World, shared: &Arc<Shared>, life: u64) {
        let Ok(db) = world.calmly(self.opens(world)).await else { return };
        let callers: Vec<_> = (0..self.processes)
            .map(|process| {
                // One of whose transactions nobody knows anything is another process from then on: as all are after a life.
                let process = (life * 100) as i64 + process;
                let dice = Dice::World(world.clone());
                let mut caller = Caller::new(process, life as u32, dice, Arc::clone(shared), db.clone());
                world.spawn(format!("client-{}", process + 1), async move { caller.run().await })
            })
            .collect();
        for caller in callers {
            let _ = caller.await;
        }
        db.close().await;
    }
}

/// Where random numbers come from.
enum Dice {
    Seeded(Box<ChaCha8Rng>),
    World(World),
}

/// One that has a transaction at a time.
struct Caller {
    process: i64,
    /// Which writer it has, counted from 0.
    writer: u32,
    dice: Dice,
    shared: Arc<Shared>,
    db: PooledDatabaseWriter,
    /// For flaws.
    answers: HashMap<i64, Vec<i64>>,
}

impl Caller {
    fn new(process: i64, writer: u32, dice: Dice, shared: Arc<Shared>, db: PooledDatabaseWriter) -> Self {
        Self { process, writer, dice, shared, db, answers: HashMap::new() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        match &mut self.dice {
            Dice::Seeded(rng) => rng.next_u64() % bound,
            Dice::World(world) => world.random(bound),
        }
    }

    async fn run(&mut self) {
        let count = match &self.dice {
            Dice::Seeded(_) => self.shared.workload.transactions,
            Dice::World(world) => world.up_to(self.shared.workload.transactions),
        };
        for _ in 0..count {
            let (way, operations) = self.transaction();
            if self.shared.control.is_stopped() || !self.makes(way, operations).await {
                return;
            }
        }
    }

    /// Makes a transaction, and notes what came of it. Whether it is known.
    async fn makes(&mut self, way: Way, operations: Vec<MicroOp>) -> bool {
        let (shared, process) = (Arc::clone(&self.shared), self.process);
        shared.history.note(Kind::Invoke, process, way.name(), operations.clone(), None);
        let outcome = self.outcome(way, operations.clone()).await;
        let (kind, value, told) = match outcome {
            Ok(Done { operations, told }) => (Kind::Ok, operations, told),
            Err(Error::Unknown { .. }) => (Kind::Info, operations, Told::Nothing),
            Err(_) => (Kind::Fail, operations, Told::Nothing),
        };
        let place = match told {
            _ if shared.workload.mode == Mode::Mvcc => None,
            Told::Nothing => None,
            Told::Commit(number, position) => Some(Place::Commit(self.writer, number, position)),
            Told::Snapshot(at_least, at_most) => Some(Place::Snapshot(self.writer, at_least, at_most)),
        };
        shared.history.note(kind, process, way.name(), value, place);
        shared.control.count_one();
        kind != Kind::Info
    }

    async fn outcome(&mut self, way: Way, operations: Vec<MicroOp>) -> Result<Done> {
        let (db, shared) = (self.db.clone(), Arc::clone(&self.shared));
        if let Dice::World(world) = &self.dice {
            let (world, failures) = (world.clone(), world.failures());
            let done = match shared.workload.flaw {
                Some(flaw) => self.broken(flaw, way, operations).await,
                None => match world.cancellable(perform(&db, way, operations)).await {
                    Some(done) => done,
                    None => Err(Error::unknown(Error::misuse("its caller left"))),
                },
            };
            // A sync of the log that fails meanwhile, of anybody's, may have lost what a guard wrote without a word (FINDINGS.md).
            return match done {
                Ok(_) if matches!(way, Way::Deferred | Way::Immediate) && world.failures() != failures => {
                    Err(Error::unknown(Error::misuse("the disk failed beside it")))
                }
                done => done,
            };
        }
        match shared.workload.flaw {
            Some(flaw) => self.broken(flaw, way, operations).await,
            None => perform(&db, way, operations).await,
        }
    }

    async fn broken(&mut self, flaw: Flaw, way: Way, operations: Vec<MicroOp>) -> Result<Done> {
        let (db, shared) = (self.db.clone(), Arc::clone(&self.shared));
        let (common, keys, now_and_then) = (&shared.common, shared.workload.keys, self.below(8) == 0);
        let (process, answers) = (self.process, &mut self.answers);
        Broken { flaw, process, common, answers, now_and_then, keys }.perform(&db, way, operations).await
    }

    fn transaction(&mut self) -> (Way, Vec<MicroOp>) {
        let Workload { shape, mode, keys, operations: most, .. } = self.shared.workload;
        let writes = self.below(3) > 0;
        let way = match (writes, self.below(4)) {
            // Only those are side by side there.
            (true, way) if mode == Mode::Mvcc && way < 3 => Way::Write,
            (true, 0) => Way::Deferred,
            (true, 1) => Way::Immediate,
            (true, 2) => Way::Execute,
            (true, _) => Way::Write,
            #[cfg(feature = "cache")]
            (false, 0 | 1) => Way::Cached,
            (false, 2) => Way::Deferred,
            (false, _) => Way::Snapshot,
        };
        let count = match way {
            Way::Execute => 1,
            #[cfg(feature = "cache")]
            Way::Cached => 1,
            _ => 1 + self.below(most),
        };
        let operation = |caller: &mut Self| {
            let key = caller.below(keys) as i64;
            if !(writes && (way == Way::Execute || caller.below(2) == 0)) {
                return MicroOp::Read(key, None);
            }
            // What guards write, they write into the last quarter.
            let (last, first) = (keys.div_ceil(4) as i64, (keys - keys.div_ceil(4)) as i64);
            let key = if matches!(way, Way::Deferred | Way::Immediate) { first + key % last } else { key };
            let value = caller.shared.next.fetch_add(1, Ordering::Relaxed);
            match shape {
                Shape::ListAppend => MicroOp::Append(key, value),
                Shape::RwRegister => MicroOp::Write(key, value),
            }
        };
        let operations = (0..count).map(|_| operation(self)).collect();
        (way, operations)
    }
}
