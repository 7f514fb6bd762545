//! What one client does: operations of every kind, each with what may go wrong with it, and what it tells the ledger.

use std::time::Duration;

use super::tables::{self, ALL_ROWS, BROKEN, ITS_ROWS, NOTE};
use super::{RETRIES, ROWS, THINGS, Workload, kept};
use crate::error::{Error, Result};
use crate::harness::sim::{Excuse, Judge, Ledger, World};
use crate::pool::Transaction;
use crate::writer::{Ack, CommitToken, PooledDatabaseWriter, Priority};

/// What the clients of one life share.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) workload: Workload,
    pub(super) world: World,
    pub(super) db: PooledDatabaseWriter,
    pub(super) ledger: Ledger,
    pub(super) judge: Judge,
}

/// One client.
pub(super) struct Client {
    scene: Scene,
    /// Its last write that was acknowledged.
    last: Option<(u64, CommitToken)>,
}

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One statement.
    Note,
    /// A closure of several.
    Whole,
    /// Several statements without a closure.
    Batch,
    /// One statement that does not wait for long.
    Hasty,
    /// One that does not wait for room.
    Now,
    /// A closure that lets others go first.
    Late,
    /// A closure that breaks the transaction of whoever shares it.
    Breaks,
    /// A transaction past the writer.
    Guarded,
    /// A statement that is prepared first.
    Prepared,
    /// A closure that panics.
    Panics,
    Reads,
    /// A read that sees what the client wrote last.
    ReadsAfter,
    /// A read by the cache.
    ReadsKept,
    /// A read whose closure panics.
    ReadPanics,
}

/// What the seed's number means. Schedules that are kept name it: new ones come last.
const KINDS: [Kind; 17] = [
    Kind::Note,
    Kind::Note,
    Kind::Whole,
    Kind::Batch,
    Kind::Hasty,
    Kind::Now,
    Kind::Late,
    Kind::Breaks,
    Kind::Guarded,
    Kind::Reads,
    Kind::Reads,
    Kind::Reads,
    Kind::Prepared,
    Kind::Panics,
    Kind::ReadsAfter,
    Kind::ReadsKept,
    Kind::ReadPanics,
];

impl Kind {
    fn is_a_write(self) -> bool {
        !matches!(self, Kind::Reads | Kind::ReadsAfter | Kind::ReadsKept | Kind::ReadPanics)
    }
}

/// As long as a hasty write waits.
const HASTE: Duration = Duration::from_millis(2);

/// What a write came to, as far as its client knows, and its commit.
type Told = Option<Result<Option<CommitToken>>>;

impl Client {
    pub(super) fn new(scene: Scene) -> Self {
        Self { scene, last: None }
    }

    /// One operation, of whatever kind the seed says.
    pub(super) async fn operates(&mut self) -> std::result::Result<(), String> {
        let Scene { world, ledger, .. } = &self.scene;
        let kind = KINDS[world.random(KINDS.len() as u64) as usize];
        let number = if kind.is_a_write() { ledger.issue() } else { 0 };
        let things = (world.random(THINGS), world.random(THINGS));
        match kind {
            Kind::Reads => world.cancellable(self.scene.reads()).await.unwrap_or(Ok(())),
            Kind::ReadsAfter => self.reads_after().await,
            Kind::ReadsKept => world.cancellable(self.scene.reads_kept()).await.unwrap_or(Ok(())),
            Kind::ReadPanics => self.scene.read_panics().await,
            kind => {
                let told = self.scene.writes(kind, number, things).await?;
                if let Some(Ok(Some(token))) = told {
                    self.last = Some((number, token));
                }
                ledger.told(world, number, told.as_ref());
                Ok(())
            }
        }
    }

    /// A read that has to see what this client wrote last.
    async fn reads_after(&self) -> std::result::Result<(), String> {
        let Some((number, token)) = self.last else { return self.scene.reads().await };
        let read = self
            .scene
            .db
            .read_after(token, async move |snapshot| tables::number(snapshot, ITS_ROWS, (number as i64,)).await);
        match self.scene.judge.hears("a read after a commit", &[Excuse::Acquire], read).await? {
            Ok(rows) if rows == ROWS as i64 => {
                self.scene.world.sometimes("a read after a commit");
                Ok(())
            }
            Ok(rows) => Err(format!("write {number} is committed, and a read after it sees {rows} of its rows")),
            Err(_) => Ok(()),
        }
    }
}

impl Scene {
    async fn writes(&self, kind: Kind, number: u64, things: (u64, u64)) -> std::result::Result<Told, String> {
        let (db, world, workload) = (&self.db, &self.world, self.workload);
        let whole = async move |tx: &mut Transaction<'_>| workload.writes(tx, number, things).await;
        let told = match kind {
            Kind::Whole => world.cancellable(self.hears("a transaction", &[Excuse::Deadline], db.write(whole))).await,
            Kind::Batch => {
                let sql = format!("INSERT INTO notes VALUES ({number}); INSERT INTO notes VALUES ({number})");
                let batch = db.execute_batch(sql);
                world.cancellable(self.hears("a batch", &[Excuse::Deadline], batch)).await
            }
            Kind::Hasty => {
                let hasty = db.within(HASTE);
                let writes = hasty.execute(NOTE, (number as i64,));
                Some(self.hears("a hasty write", &[Excuse::Deadline, Excuse::Locked(HASTE)], writes).await)
            }
            Kind::Now => Some(self.hears("try_execute", &[Excuse::Full], db.try_execute(NOTE, (number as i64,))).await),
            Kind::Late => {
                let late = db.priority(Priority::Background);
                Some(self.hears("a background write", &[Excuse::Deadline], late.write(whole)).await)
            }
            Kind::Breaks => return self.breaks(number).await.map(Some),
            Kind::Guarded => return self.by_a_guard(number).await.map(Some),
            Kind::Prepared => return self.prepares(number).await,
            Kind::Panics => return self.panics(number).await,
            _ => world.cancellable(self.hears("a write", &[], db.execute(NOTE, (number as i64,)))).await,
        };
        told.transpose()
    }

    async fn breaks(&self, number: u64) -> std::result::Result<Result<Option<CommitToken>>, String> {
        let work = async move |tx: &mut Transaction<'_>| tables::breaks(tx, number).await;
        let excuses = [Excuse::Deadline, Excuse::Own(BROKEN)];
        match self.hears("a write that breaks its transaction", &excuses, self.db.write(work)).await? {
            Ok(_) => Err(format!("write {number} broke its transaction and is told to be committed")),
            told => Ok(told),
        }
    }

    /// Somebody who writes past the writer, which then finds the lock taken, as may he.
    async fn by_a_guard(&self, number: u64) -> std::result::Result<Result<Option<CommitToken>>, String> {
        let writes = async { tables::guarded(&mut self.db.pool().get().await?, number).await };
        let excuses = [Excuse::Acquire, Excuse::Locked(Duration::ZERO)];
        let failures = self.world.failures();
        let told = self.judge.hears("a transaction by a guard", &excuses, writes).await?;
        Ok(match told {
            // FINDINGS.md: a sync of the log that fails meanwhile, of anybody's, may have lost it without a word.
            Ok(()) if self.world.failures() != failures => {
                Err(Error::unknown(Error::misuse("the disk failed beside it")))
            }
            told => told.map(|()| None),
        })
    }

    async fn prepares(&self, number: u64) -> std::result::Result<Told, String> {
        let prepares = self.db.prepare::<(i64,)>(NOTE);
        let prepares = self.judge.hears("preparing a statement", &[Excuse::Acquire], prepares);
        let note = match self.world.cancellable(prepares).await.transpose()? {
            Some(Ok(note)) => note,
            Some(Err(error)) => return Ok(Some(Err(Error::rolled_back(error)))),
            None => {
                self.world.sometimes("a statement whose preparing is cut short");
                return Ok(Some(Err(never_made())));
            }
        };
        let writes = self.hears("a prepared statement", &[], note.execute((number as i64,)));
        self.world.cancellable(writes).await.transpose()
    }

    async fn panics(&self, number: u64) -> std::result::Result<Told, String> {
        let world = self.world.clone();
        let work = async move |tx: &mut Transaction<'_>| tables::panics(tx, &world, number).await;
        let writes = self.hears("a write that panics", &[Excuse::Deadline], self.db.write(work));
        match self.world.catches(self.world.cancellable(writes)).await.map(Option::transpose) {
            // The panic came out of it.
            None => Ok(Some(Err(never_made()))),
            Some(Ok(Some(Ok(_)))) => Err(format!("write {number} panicked and is told to be committed")),
            Some(told) => told,
        }
    }

    async fn read_panics(&self) -> std::result::Result<(), String> {
        let (world, sql) = (self.world.clone(), self.workload.always_zero());
        let read = self.db.read(async move |snapshot| -> Result<()> {
            tables::number(snapshot, sql, ()).await?;
            world.panics()
        });
        let read = self.judge.hears("a read that panics", &[Excuse::Acquire], read);
        match self.world.catches(self.world.cancellable(read)).await.flatten().transpose()? {
            Some(Ok(())) => Err("a read panicked and is told to be right".to_owned()),
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// Makes a write of the writer's, which may fail for these and for what every write may.
    pub(super) async fn hears<T>(
        &self,
        what: &str,
        excuses: &[Excuse],
        work: impl Future<Output = Result<Ack<T>>>,
    ) -> std::result::Result<Result<Option<CommitToken>>, String> {
        let excuses = [excuses, self.workload.excuses()].concat();
        let told = self.judge.hears(what, &excuses, work).await?;
        Ok(told.map(|ack| Some(ack.token)))
    }

    /// A read in one snapshot: it sees what can be, and all that was acknowledged before.
    pub(super) async fn reads(&self) -> std::result::Result<(), String> {
        let (zero, known) = (self.workload.always_zero(), self.ledger.acknowledged());
        let read = self.db.read(async move |snapshot| {
            let first = tables::number(snapshot, zero, ()).await?;
            let rows = tables::number(snapshot, ALL_ROWS, ()).await?;
            Ok::<_, Error>((rows, [first, tables::number(snapshot, zero, ()).await?]))
        });
        let read = self.judge.hears("a read", &[Excuse::Acquire], read).await?;
        self.sees("a snapshot", known, read)
    }

    /// The same by the cache.
    async fn reads_kept(&self) -> std::result::Result<(), String> {
        let known = self.ledger.acknowledged();
        let read = async {
            let rows = kept::number(&self.db, ALL_ROWS).await?;
            Ok((rows, [kept::number(&self.db, self.workload.always_zero()).await?; 2]))
        };
        let read = self.judge.hears("a read by the cache", &[Excuse::Acquire], read).await?;
        self.sees("the cache", known, read)
    }

    fn sees(&self, who: &str, known: u64, read: Result<(i64, [i64; 2])>) -> std::result::Result<(), String> {
        match read {
            Ok((rows, [0, 0])) if rows >= (known * ROWS) as i64 => {
                self.world.note(format!("read {rows}"));
                Ok(())
            }
            Ok((rows, [0, 0])) => Err(format!("{who} shows {rows} rows, and {known} writes are acknowledged")),
            Ok((_, seen)) => Err(format!("{who} shows what cannot be: {} is {seen:?}", self.workload.always_zero())),
            Err(Error::AcquireTimeout(_)) => {
                self.world.sometimes("a time-out");
                Ok(())
            }
            // A disk that fails.
            Err(_) => Ok(()),
        }
    }
}

impl Workload {
    /// What any write of it may fail for though nothing else does.
    fn excuses(self) -> &'static [Excuse] {
        match self {
            // Each write has a connection of its own.
            Workload::Mvcc => &[Excuse::Locked(RETRIES), Excuse::Acquire],
            _ => &[Excuse::Locked(RETRIES)],
        }
    }
}

/// What is told of a write that did not come to its transaction, or not out of it.
fn never_made() -> Error {
    Error::rolled_back(Error::misuse("it was not made"))
}
