//! The same on the engine: a real file, and what is in it afterwards.
//!
//! However an operation ends, the next users find no open transaction and no lock, the database holds all that a
//! transaction wrote or nothing of it, and nothing stays open once the pool is closed. SQLite reads the file as well.
//!
//! The engine does its I/O inside `poll`: a statement completes at its first poll, unless the lock is taken and a
//! `busy_timeout` lets it wait for that. So these operations are suspended in two places: between their statements, where
//! they yield, and inside a statement that waits for another connection to commit.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::Poll;

use poolproof::{ConnectionPool, ConnectionPoolBuilder, Error, PooledConnection};
use tempfile::TempDir;
use tokio_test::task::{self, Spawn};

use super::file::{database, open_below, read_by_sqlite};
use super::world::{closes, of_every_status};

/// How many connections the pools have.
pub const MAX: usize = 2;
/// The other connection commits after so many polls of an operation that waits for it.
const PATIENCE: usize = 3;
/// No operation takes more polls, even one that waits for a lock: the engine polls instead of sleeping.
const MOST_POLLS: usize = 50_000_000;

/// What an operation has in hand.
pub struct Hands {
    pub pool: ConnectionPool,
    pub guard: Option<PooledConnection>,
    /// Another pool, if it opens one.
    pub second: Option<ConnectionPool>,
}

impl Hands {
    pub fn guard(&mut self) -> &mut PooledConnection {
        self.guard.as_mut().expect("the scenario begins with a guard")
    }
}

pub type Work<'h> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'h>>;

/// What the operation begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It holds a connection.
    Guard,
    /// It has to get one if it wants one, and one is idle.
    Idle,
    /// None is open that it could get.
    Empty,
    /// Others hold all of them, and give them back one after another while it waits.
    Full,
}

pub struct Scenario {
    pub name: &'static str,
    /// How many polls it takes at least if nobody else writes, and at most.
    pub polls: (usize, usize),
    pub start: Start,
    pub builder: fn(ConnectionPoolBuilder) -> ConnectionPoolBuilder,
    /// How many rows of `t` it may leave, from none to all.
    pub leaves: &'static [i64],
    /// It waits for the write lock if another connection has it.
    pub waits_for_the_lock: bool,
    /// It begins a transaction by a statement: whoever goes on with its guard is still in it.
    pub may_stay_open: bool,
    pub operation: for<'h> fn(&'h mut Hands) -> Work<'h>,
}

/// What others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Nothing,
    /// They hold the other connection, and one more waits for any.
    Wait,
    /// One of them is in the middle of a transaction that writes.
    Write,
}

/// How the operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its future is dropped. Its guard is used once more before it goes back.
    Dropped,
    /// Its future is dropped, and its guard right after it.
    DroppedWithGuard,
    /// A panic unwinds through its future and its guard.
    Unwound,
}

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub others: Others,
    pub end: End,
    /// After so many polls.
    pub moment: usize,
}

/// How far it came.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    pub polls: usize,
    pub complete: bool,
}

/// How it went, and what it has in hand if that is its own.
type Output = (Result<(), Error>, Option<Hands>);
type Operation<'h> = Spawn<Pin<Box<dyn Future<Output = Output> + 'h>>>;
type Waiter = Spawn<Pin<Box<dyn Future<Output = Result<PooledConnection, Error>>>>>;

/// # Errors
/// What is wrong, of which case.
pub async fn run(scenario: &Scenario, case: Case) -> Result<Came, String> {
    run_in_words(scenario, case).await.map_err(|wrong| format!("{}, {case:?}: {wrong}", scenario.name))
}

async fn run_in_words(scenario: &Scenario, case: Case) -> Result<Came, String> {
    let (mut world, mut hands) = World::begin(scenario, case.others).await.map_err(|error| error.to_string())?;
    let (polls, outcome);
    if case.end == End::Dropped {
        let work = async { ((scenario.operation)(&mut hands).await, None) };
        let mut operation: Operation<'_> = task::spawn(Box::pin(work));
        let (taken, output) = world.drive(&mut operation, case.moment).await?;
        (polls, outcome) = (taken, output.map(|(outcome, _)| outcome));
        drop(operation);
        world.use_once_more(scenario, &mut hands).await?;
        drop(hands);
    } else {
        let work = async move { ((scenario.operation)(&mut hands).await, Some(hands)) };
        let mut operation: Operation<'_> = task::spawn(Box::pin(work));
        let (taken, output) = world.drive(&mut operation, case.moment).await?;
        let (told, hands) = output.unzip();
        (polls, outcome) = (taken, told);
        if case.end == End::Unwound { unwind((operation, hands)) } else { drop((operation, hands)) }
    }
    world.let_go().await?;
    let left = world.serves_and_closes().await?;
    let whole = scenario.leaves.last().copied();
    match &outcome {
        Some(Ok(())) => ensure!(Some(left) == whole, "it succeeded, and left {left} rows"),
        Some(Err(error)) => {
            ensure!(case.others == Others::Write && error.is_contention(), "it failed: {error}");
            ensure!(left == 0, "it was refused, and left {left} rows");
        }
        None => ensure!(scenario.leaves.contains(&left) && (polls > 0 || left == 0), "it is torn: it left {left} rows"),
    }
    Ok(Came { polls, complete: outcome.is_some() })
}

fn unwind<T>(held: T) {
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _dropped_by_the_panic = held;
        resume_unwind(Box::new("whoever held it panics"));
    }));
    assert!(unwound.is_err());
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    pub cases: usize,
    /// The polls that it took with nobody else there, while others wait, and while another writes.
    pub polls: Vec<usize>,
}

/// Lets the operation end in every way after each of its polls, whatever others do.
///
/// # Errors
/// What is wrong, of which case; also if the operation has fewer polls, or more, than its scenario says.
pub async fn sweep(scenario: &Scenario) -> Result<Swept, String> {
    let mut swept = Swept::default();
    for others in [Others::Nothing, Others::Wait, Others::Write] {
        let to_its_end = Case { others, end: End::DroppedWithGuard, moment: MOST_POLLS };
        let Came { polls, complete } = run(scenario, to_its_end).await?;
        ensure!(complete, "{}, {others:?}: it does not end", scenario.name);
        let (least, most) = match others {
            Others::Write if scenario.waits_for_the_lock => (PATIENCE + 1, MOST_POLLS),
            // One that is refused ends where it is.
            Others::Write => (1, scenario.polls.1),
            Others::Nothing | Others::Wait => scenario.polls,
        };
        let name = scenario.name;
        ensure!((least..=most).contains(&polls), "{name}, {others:?}: {polls} polls, not {least} to {most}");
        swept.polls.push(polls);
        // While it waits for the lock one poll is like another.
        for moment in 0..=polls.min(PATIENCE + 3) {
            for end in [End::Dropped, End::DroppedWithGuard, End::Unwound] {
                run(scenario, Case { others, end, moment }).await?;
                swept.cases += 1;
            }
        }
    }
    Ok(swept)
}

struct World {
    folder: TempDir,
    pool: ConnectionPool,
    /// The first is the one that writes.
    others: Vec<PooledConnection>,
    writes: bool,
    /// Rows of `others` that it was told are there.
    committed: i64,
    waiter: Option<Waiter>,
    /// Rows of `later` that somebody was told are there.
    later: i64,
}

impl World {
    async fn begin(scenario: &Scenario, others: Others) -> Result<(Self, Hands), Error> {
        let (folder, path) = database();
        let pool = (scenario.builder)(ConnectionPool::builder(path).max_connections(MAX)).build().await?;
        let mut held = vec![pool.get().await?, pool.get().await?];
        let mut guard = None;
        match scenario.start {
            Start::Guard => guard = held.pop(),
            Start::Idle => drop(held.pop()),
            Start::Empty => drop(held.pop().map(PooledConnection::detach)),
            Start::Full => {}
        }
        if others == Others::Nothing && scenario.start != Start::Full {
            drop(held.pop().map(PooledConnection::detach));
        }
        let writes = others == Others::Write;
        if writes {
            held[0].execute("BEGIN IMMEDIATE", ()).await?;
            held[0].execute("INSERT INTO others VALUES (1)", ()).await?;
        }
        let waiter = (others == Others::Wait && guard.is_some()).then(|| {
            let pool = pool.clone();
            let waiting: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move { pool.get().await });
            let mut waiter = task::spawn(waiting);
            assert!(waiter.poll().is_pending());
            waiter
        });
        let hands = Hands { pool: pool.clone(), guard, second: None };
        Ok((Self { folder, pool, others: held, writes, committed: 0, waiter, later: 0 }, hands))
    }

    /// Polls as long as it is woken, and lets others go on when it waits for them.
    async fn drive(&mut self, operation: &mut Operation<'_>, moment: usize) -> Result<(usize, Option<Output>), String> {
        let mut polls = 0;
        while polls < moment {
            ensure!(polls < MOST_POLLS, "it does not end");
            if polls > 0 && !operation.is_woken() {
                ensure!(!self.others.is_empty(), "nobody wakes it: {:?}", self.pool.status());
                self.release().await?;
                continue;
            }
            if polls == PATIENCE && self.writes {
                self.commit().await?;
            }
            polls += 1;
            if let Poll::Ready(output) = operation.poll() {
                return Ok((polls, Some(output)));
            }
            of_every_status(&self.pool.status())?;
        }
        Ok((polls, None))
    }

    /// Whatever happens to an operation, a transaction that another one is in is not touched.
    async fn commit(&mut self) -> Result<(), String> {
        self.writes = false;
        self.others[0].execute("COMMIT", ()).await.map_err(|error| format!("the other's commit: {error}"))?;
        self.committed = 1;
        Ok(())
    }

    async fn release(&mut self) -> Result<(), String> {
        if self.writes && self.others.len() == 1 {
            self.commit().await?;
        }
        drop(self.others.pop());
        Ok(())
    }

    /// Whoever holds the guard goes on with it, in no transaction. What they are told is written is.
    async fn use_once_more(&mut self, scenario: &Scenario, hands: &mut Hands) -> Result<(), String> {
        if scenario.waits_for_the_lock && self.writes {
            self.commit().await?;
        }
        let Some(guard) = &mut hands.guard else { return Ok(()) };
        match guard.execute("INSERT INTO later VALUES (1)", ()).await {
            Ok(_) if guard.is_autocommit() => self.later += 1,
            Ok(_) => ensure!(scenario.may_stay_open, "a statement after it runs inside a transaction"),
            Err(error) => ensure!(self.writes && error.is_contention(), "a statement after it: {error}"),
        }
        Ok(())
    }

    async fn let_go(&mut self) -> Result<(), String> {
        loop {
            of_every_status(&self.pool.status())?;
            if let Some(mut waiter) = self.waiter.take_if(|waiter| waiter.is_woken()) {
                match waiter.poll() {
                    Poll::Ready(Ok(guard)) => drop(guard),
                    wrong => return Err(format!("somebody else is refused: {wrong:?}")),
                }
            } else if !self.others.is_empty() {
                self.release().await?;
            } else {
                break;
            }
        }
        ensure!(self.waiter.is_none(), "a waiter is never served");
        let status = self.pool.status();
        ensure!(status.in_use == 0, "slots are lost: nobody holds anything, yet {status:?}");
        Ok(())
    }

    /// As many connections as there may be can be had at once, each can write, and all see the same; afterwards nothing is
    /// open. Returns how many rows of `t` are there.
    async fn serves_and_closes(self) -> Result<i64, String> {
        let Self { folder, pool, later, committed, .. } = self;
        let mut told = later;
        if !pool.status().closed {
            let mut all = Vec::new();
            for _ in 0..MAX {
                all.push(pool.get().await.map_err(|error| format!("after {}: {error}", all.len()))?);
            }
            ensure!(task::spawn(pool.get()).poll().is_pending(), "more than {MAX} can be had");
            for guard in &mut all {
                ensure!(guard.is_autocommit(), "a connection is lent inside a transaction");
                let written = guard.execute("INSERT INTO later VALUES (1)", ()).await;
                written.map_err(|error| format!("the next user cannot write: {error}"))?;
                told += 1;
            }
        }
        closes(pool.close()).await?;
        ensure!(pool.status().open == 0, "after the close {:?}", pool.status());
        let path = pool.path().to_owned();
        drop(pool);
        let open = open_below(folder.path());
        ensure!(open.is_empty(), "still open: {open:?}");
        read_by_sqlite(&path, told, committed)
    }
}
