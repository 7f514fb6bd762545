//! The same for the writer: its callers leave, or panic, at any moment of any operation.
//!
//! The lane is a thread of its own, so an operation waits in three places: for room in the queue, for its turn, and for its
//! answer while it runs; a read waits for a connection, and for its answer. In each the others hold it up, and let it go on
//! one step after the other. Each poll and each of their steps is a moment at which the operation can end: dropped, unwound,
//! or by a panic of its own at any place where the user's code runs.
//!
//! In MVCC mode there is no lane: an operation waits for room, for a connection, and while it runs or conflicts.
//!
//! Afterwards: what was acknowledged is there, once; what was rolled back is not; what nobody was told of is there wholly or
//! not at all. The lane serves, its connection is the only one in use and in no transaction, and there is as much room as at
//! first.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use poolproof::{CommitToken, ConnectionPool, Error, Mode, PooledConnection, PooledDatabaseWriter, WriterConfig};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_test::task::{self, Spawn};

use super::file::{database, open_below, read_by_sqlite};
use super::world::{closes, of_every_status};

/// How many connections the pools have: the lane's, and these for readers.
const READERS: usize = 2;
/// No operation takes longer, on the slowest machine.
const FOREVER: Duration = Duration::from_secs(60);

/// What an operation has in hand.
#[derive(Clone)]
pub struct Hands {
    pub db: PooledDatabaseWriter,
    /// Of a commit that was.
    pub token: CommitToken,
    /// A fresh file.
    pub path: std::path::PathBuf,
    pub user: Arc<User>,
}

/// The user's own code: it says where it is, may be held there, and may panic there.
pub struct User {
    reached: watch::Sender<usize>,
    /// How many places it may pass.
    may_pass: watch::Sender<usize>,
    panics_at: usize,
}

impl User {
    fn new(panics_at: usize) -> Arc<Self> {
        Arc::new(Self { reached: watch::Sender::new(0), may_pass: watch::Sender::new(0), panics_at })
    }

    /// A place where the user's code runs, and waits.
    pub async fn comes_by(&self) {
        let place = *self.reached.borrow();
        self.reached.send_replace(place + 1);
        if place == self.panics_at {
            resume_unwind(Box::new("the user panics"));
        }
        let _ = self.may_pass.subscribe().wait_for(|places| *places > place).await;
    }

    fn panicked(&self) -> bool {
        *self.reached.borrow() > self.panics_at
    }
}

pub type Work = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// What holds the operation up at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Free,
    /// The lane runs another's closure.
    Busy,
    /// And its queue, of two, is full.
    Full,
    /// All connections but the lane's are lent.
    Lent,
    /// Somebody outside the lane has the write lock.
    Locked,
}

pub struct Scenario {
    pub name: &'static str,
    /// Where it can be held up.
    pub starts: &'static [Start],
    /// How many polls it takes at least, so that the sweep cannot become empty, and at most.
    pub polls: (usize, usize),
    /// How many rows of `t` it leaves.
    pub leaves: i64,
    /// It ends the writer.
    pub ends_it: bool,
    /// Places of the user's code in it.
    pub places: usize,
    pub operation: fn(Hands) -> Work,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Dropped,
    Unwound,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    mode: Mode,
    start: Start,
    end: End,
    moment: usize,
    panics_at: usize,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    pub cases: usize,
    pub most_polls: usize,
    pub panics: usize,
}

/// What one operation came to.
struct Came {
    complete: bool,
    polls: usize,
    panicked: bool,
}

/// # Errors
/// What is wrong, of which case.
pub async fn sweep(scenario: &Scenario, mode: Mode) -> Result<Swept, String> {
    let mut swept = Swept::default();
    for start in scenario.starts {
        for end in [End::Dropped, End::Unwound] {
            for moment in 0.. {
                let case = Case { mode, start: *start, end, moment, panics_at: usize::MAX };
                let came = run(scenario, case).await?;
                swept.cases += 1;
                if came.complete {
                    let (least, most) = scenario.polls;
                    let polls = came.polls;
                    ensure!((least..=most).contains(&polls), "{}: {polls} polls, not {least} to {most}", scenario.name);
                    swept.most_polls = swept.most_polls.max(polls);
                    break;
                }
            }
        }
        for panics_at in 0..scenario.places {
            let case = Case { mode, start: *start, end: End::Dropped, moment: usize::MAX, panics_at };
            let came = run(scenario, case).await?;
            ensure!(came.panicked, "{}, {case:?}: it does not panic", scenario.name);
            swept.panics += 1;
        }
    }
    Ok(swept)
}

async fn run(scenario: &Scenario, case: Case) -> Result<Came, String> {
    run_in_words(scenario, case).await.map_err(|wrong| format!("{}, {case:?}: {wrong}", scenario.name))
}

type Output = Result<Result<(), Error>, Box<dyn Any + Send>>;

async fn run_in_words(scenario: &Scenario, case: Case) -> Result<Came, String> {
    let (mut world, hands) = World::begin(case).await?;
    let mut operation = task::spawn((scenario.operation)(hands));
    let (mut polls, mut output): (usize, Option<Output>) = (0, None);
    for moment in 0.. {
        if output.is_some() || moment == case.moment {
            break;
        }
        if polls == 0 || operation.is_woken() {
            polls += 1;
            match catch_unwind(AssertUnwindSafe(|| operation.poll())) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(outcome)) => output = Some(Ok(outcome)),
                Err(panic) => output = Some(Err(panic)),
            }
        } else {
            world.goes_on(|| operation.is_woken()).await?;
        }
        of_every_status(&world.db.status().pool)?;
    }
    if case.end == End::Unwound {
        unwind(operation);
    } else {
        drop(operation);
    }
    let complete = output.is_some();
    let panicked = matches!(output, Some(Err(_)));
    ensure!(!panicked || world.user.panicked(), "it panics, and the user does not");
    let left = world.ends(scenario.ends_it && polls > 0).await?;
    let all = scenario.leaves;
    match output {
        Some(Ok(Ok(()))) => ensure!(left == all, "it succeeded, and left {left} rows of {all}"),
        Some(Ok(Err(error))) => {
            let expected = matches!(error.cause(), Error::Full(_)) && case.start == Start::Full;
            ensure!(expected, "it failed: {error}");
            ensure!(left == 0, "it was rolled back, and left {left} rows");
        }
        Some(Err(_)) => ensure!(left == 0, "it panicked, and left {left} rows"),
        None => ensure!(left == 0 || left == all && polls > 0, "it is torn: it left {left} rows of {all}"),
    }
    Ok(Came { complete, polls, panicked })
}

fn unwind(held: Spawn<Work>) {
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _dropped_by_the_panic = held;
        resume_unwind(Box::new("whoever held it panics"));
    }));
    assert!(unwound.is_err());
}

struct World {
    folder: TempDir,
    mode: Mode,
    db: PooledDatabaseWriter,
    user: Arc<User>,
    /// Lets the one that keeps the lane end.
    release: Option<watch::Sender<bool>>,
    /// Those that were before it in the queue, and the one that keeps the lane.
    others: Vec<JoinHandle<Result<(), Error>>>,
    readers: Vec<PooledConnection>,
    /// The one that has the write lock.
    locks: Option<PooledConnection>,
    /// Rows of `others` and `later` that somebody was told are there.
    written: i64,
    later: i64,
}

impl World {
    async fn begin(case: Case) -> Result<(Self, Hands), String> {
        let (folder, path) = database();
        let wrong = |error: Error| error.to_string();
        let pool = ConnectionPool::builder(&path).max_connections(1 + READERS).build().await.map_err(wrong)?;
        let config = WriterConfig { queue: 2, mode: case.mode, cache: 1 << 16, ..WriterConfig::default() };
        let db = PooledDatabaseWriter::with_config(pool, config).await.map_err(wrong)?;
        let token = db.execute("INSERT INTO later VALUES (0)", ()).await.map_err(wrong)?.token;
        let user = User::new(case.panics_at);
        let hands = Hands { db: db.clone(), token, path: path.with_extension("second"), user: Arc::clone(&user) };
        let (release, others, readers, locks) = (None, Vec::new(), Vec::new(), None);
        let mut world =
            Self { folder, mode: case.mode, db, user, release, others, readers, locks, written: 0, later: 1 };
        if matches!(case.start, Start::Busy | Start::Full) {
            world.keep_the_lane().await?;
        }
        if case.start == Start::Full {
            for _ in 0..2 {
                let (db, queued) = (world.db.clone(), world.db.status().queued);
                world
                    .others
                    .push(tokio::spawn(async move { db.execute("INSERT INTO others VALUES (1)", ()).await.map(drop) }));
                world.written += 1;
                until(|| world.db.status().queued > queued).await?;
            }
        }
        if case.start == Start::Lent {
            world.lend().await?;
        }
        if case.start == Start::Locked {
            let mut guard = world.db.pool().get().await.map_err(wrong)?;
            guard.execute("BEGIN IMMEDIATE", ()).await.map_err(wrong)?;
            world.locks = Some(guard);
        }
        Ok((world, hands))
    }

    /// Connections that the lane keeps.
    fn kept(&self) -> usize {
        if self.mode == Mode::Wal { 1 } else { 0 }
    }

    /// Lends all connections but those.
    async fn lend(&mut self) -> Result<(), String> {
        for _ in 0..1 + READERS - self.kept() {
            self.readers.push(self.db.pool().get().await.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    /// Whoever writes waits.
    async fn keep_the_lane(&mut self) -> Result<(), String> {
        if self.mode == Mode::Mvcc {
            return self.lend().await;
        }
        let (release, held) = watch::channel(false);
        let (started, mut begun) = watch::channel(false);
        let db = self.db.clone();
        self.others.push(tokio::spawn(async move {
            let write = db.write(async move |tx| {
                started.send_replace(true);
                let _ = held.clone().wait_for(|released| *released).await;
                tx.execute("INSERT INTO others VALUES (1)", ()).await
            });
            write.await.map(drop)
        }));
        self.written += 1;
        let _ = begun.wait_for(|begun| *begun).await;
        self.release = Some(release);
        Ok(())
    }

    /// The next thing that others do for an operation that waits; if there is none, it is the lane's turn, or its reader's.
    async fn goes_on(&mut self, woken: impl Fn() -> bool) -> Result<(), String> {
        if let Some(release) = self.release.take() {
            release.send_replace(true);
            return Ok(());
        }
        if self.readers.pop().is_some() {
            return Ok(());
        }
        if let Some(mut guard) = self.locks.take() {
            return guard.execute("ROLLBACK", ()).await.map(drop).map_err(|error| error.to_string());
        }
        let user = Arc::clone(&self.user);
        let waits = || *user.reached.borrow() > *user.may_pass.borrow();
        until(|| woken() || waits()).await?;
        if !woken() {
            self.user.may_pass.send_modify(|places| *places += 1);
        }
        Ok(())
    }

    /// Everybody goes on; what is left is right, and as at first. How many rows of `t` there are.
    async fn ends(mut self, ended: bool) -> Result<i64, String> {
        self.user.may_pass.send_replace(usize::MAX);
        if let Some(release) = self.release.take() {
            release.send_replace(true);
        }
        self.readers.clear();
        self.locks = None;
        for other in std::mem::take(&mut self.others) {
            let told = tokio::time::timeout(FOREVER, other).await.map_err(|_| "another is never answered")?;
            told.map_err(|panic| panic.to_string())?.map_err(|error| format!("another is refused: {error}"))?;
        }
        if ended {
            let refused = self.db.execute("INSERT INTO later VALUES (1)", ()).await;
            ensure!(
                matches!(&refused, Err(error) if matches!(error.cause(), Error::Closed)),
                "it goes on: {refused:?}"
            );
        } else {
            self.serves().await?;
        }
        closes(self.db.close()).await?;
        let status = self.db.status();
        ensure!((status.queued, status.pool.open, status.unknown) == (0, 0, 0), "after the close {status:?}");
        let (path, folder) = (self.db.pool().path().to_owned(), self.folder);
        drop(self.db);
        // A second writer's lane ends by itself, once its last handle is gone.
        let all_closed = until(|| open_below(folder.path()).is_empty()).await;
        all_closed.map_err(|_| format!("still open: {:?}", open_below(folder.path())))?;
        if self.mode == Mode::Mvcc {
            switch_back(&path).await.map_err(|error| format!("it cannot be switched back: {error}"))?;
        }
        read_by_sqlite(&path, self.later, self.written)
    }

    /// The lane is in order, and so this is after all that was queued; there is room for two, and not for three.
    async fn serves(&mut self) -> Result<(), String> {
        let wrong = |error: Error| format!("the lane does not serve: {error}");
        self.db.execute("INSERT INTO later VALUES (1)", ()).await.map_err(wrong)?;
        self.db.write(async |tx| tx.execute("INSERT INTO later VALUES (1)", ()).await).await.map_err(wrong)?;
        self.later += 2;
        // A reader that was cancelled ends where it is, and gives its connection back a moment later.
        until(|| self.db.status().pool.in_use == self.kept())
            .await
            .map_err(|_| format!("slots are lost: {:?}", self.db.status()))?;
        self.keep_the_lane().await?;
        let pool = self.db.pool().clone();
        let three = || -> Vec<Spawn<Work>> {
            let work = |_| -> Work {
                let db = self.db.clone();
                Box::pin(async move { db.try_execute("DELETE FROM later WHERE x = 7", ()).await.map(drop) })
            };
            (0..3).map(work).map(task::spawn).collect()
        };
        // In MVCC mode the room of a write whose caller has left comes back a moment after its connection.
        let (mut room, mut refused) = (Vec::new(), 0);
        let bounded = until(|| {
            drop(std::mem::take(&mut room));
            room = three();
            refused = room.iter_mut().map(|work| work.poll()).filter(Poll::is_ready).count();
            refused == 1
        });
        bounded.await.map_err(|_| format!("{refused} of three are refused by a queue of two"))?;
        drop(room);
        ensure!(self.db.status().queued == 0, "they do not leave");
        if self.readers.is_empty() {
            self.lend().await?;
        }
        ensure!(self.readers.iter().all(|guard| guard.is_autocommit()), "a connection is lent inside a transaction");
        self.readers.clear();
        if self.release.is_some() {
            self.goes_on(|| true).await?;
        }
        for other in std::mem::take(&mut self.others) {
            other.await.map_err(|panic| panic.to_string())?.map_err(wrong)?;
        }
        // No transaction is open in the lane: anybody may write.
        let mut guard = pool.get().await.map_err(|error| error.to_string())?;
        let written = guard.execute("INSERT INTO later VALUES (1)", ()).await;
        written.map_err(|error| format!("the lane keeps the lock: {error}"))?;
        self.later += 1;
        Ok(())
    }
}

/// So that SQLite can read it.
async fn switch_back(path: &std::path::Path) -> Result<(), Error> {
    let database = turso::Builder::new_local(path.to_str().expect("a temporary file's name")).build().await?;
    let mut rows = database.connect()?.query("PRAGMA journal_mode = 'wal'", ()).await?;
    while rows.next().await?.is_some() {}
    Ok(())
}

/// Lets others go on until it holds.
async fn until(mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(FOREVER, waiting).await.map_err(|_| "nobody wakes it".to_owned())
}
