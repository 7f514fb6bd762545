//! kill -9: a process that writes is killed at any moment, and what it had acknowledged must be there.
//!
//! A child process writes through the lane for many callers at once, rows by themselves and transactions of several, and
//! prints each write's id once it was acknowledged (`victim`). The parent kills it after some acknowledgements and some
//! microseconds more (`round`), and looks at the file with the engine and, in a copy, with SQLite (`look`). Every
//! printed write must be there, none twice, each wholly or not at all, none that was rolled back, both must see the same,
//! and `integrity_check` must be content (`judge`). The next child goes on with that very file, so what is recovered is in
//! its turn what another recovers from; now and then a fresh file begins.
//!
//! What a killed process alone cannot show: the operating system keeps what was written, synced or not, and outlives the
//! process. So a writer that never syncs, `PRAGMA synchronous = OFF`, passes this as well as one that does, although a power
//! failure would take its acknowledged writes. Two subjects therefore write to a disk of the harness's own that keeps in the
//! process's memory what was not synced (`volatile`): the writer itself, which must lose nothing there either, and the
//! writer with synchronous OFF, which must be caught.

mod judge;
mod look;
mod report;
mod round;
mod victim;
mod volatile;
mod work;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::runtime::{Builder, Runtime};

use self::judge::Ledger;
pub use self::report::KillReport;
use self::round::Moment;
pub use self::victim::{Orders, write_until_killed};
use super::drive::Control;
pub use super::stress::CannotRun;
use super::subjects::ENGINE;
use crate::error::Error;
use crate::pool::ConnectionPool;
use crate::pool::file::wal_of;

/// Rounds that a file lives for, at most.
const LONGEST_LIFE: u32 = 8;
/// Ids that a round leaves room for.
const IDS: i64 = 1 << 32;

/// Who writes in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The pool and the writer.
    Writer,
    /// The same, on a disk that forgets what was not synced.
    Forgetful,
    /// Control: a lane that acknowledges before it commits.
    EarlyAck,
    /// Control: a lane whose transactions commit statement by statement.
    Pieces,
    /// Control: the writer on a disk that forgets what was not synced, and that does not sync the log.
    Unsynced,
}

impl Subject {
    /// All of them.
    pub const ALL: [Subject; 5] =
        [Subject::Writer, Subject::Forgetful, Subject::EarlyAck, Subject::Pieces, Subject::Unsynced];

    /// The name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Subject::Writer => "writer",
            Subject::Forgetful => "forgetful-disk",
            Subject::EarlyAck => "early-ack",
            Subject::Pieces => "pieces",
            Subject::Unsynced => "unsynced",
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Kill {
    /// The `poolproof` program, which the children run.
    pub program: PathBuf,
    /// Who writes.
    pub subject: Subject,
    /// Children to kill.
    pub rounds: u32,
    /// Decides what is written and when children are killed.
    pub seed: u64,
    /// Children at once, each on a file of its own.
    pub at_once: usize,
    /// Gives a child up after this time without an acknowledgement.
    pub watchdog: Duration,
}

impl Kill {
    /// 50 rounds on the writer, as many at once as this machine does well.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let watchdog = Duration::from_secs(60);
        Self { program, subject: Subject::Writer, rounds: 50, seed: 1, at_once: (2 * cores).min(16), watchdog }
    }

    /// Runs all rounds, or those begun until `control` stops it. `progress` is called after each.
    ///
    /// # Errors
    /// What kept it from being made: no room for the files, a program that cannot be started. What the rounds found is in
    /// the report.
    pub fn run(&self, control: &Control, progress: &(dyn Fn() + Sync)) -> Result<KillReport, CannotRun> {
        if self.rounds == 0 {
            return Err(CannotRun("rounds is 0: nothing would be tried; ask for at least 1".to_owned()));
        }
        let began = Instant::now();
        let lives = self.lives();
        let next = AtomicUsize::new(0);
        let report = Mutex::new(self.report());
        let trouble = Mutex::new(None);
        thread::scope(|scope| {
            for _ in 0..self.at_once.clamp(1, lives.len()) {
                scope.spawn(|| {
                    while let Some((number, moments)) = at(&lives, next.fetch_add(1, Ordering::Relaxed))
                        && !control.is_stopped()
                    {
                        let life = Life { kill: self, number, control, progress, report: &report };
                        if let Err(error) = life.live(moments) {
                            trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            next.store(lives.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        if let Some(error) = trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.seconds = began.elapsed().as_secs_f64();
        report.stopped = control.is_stopped() && report.rounds < u64::from(self.rounds);
        Ok(report.conclude())
    }

    /// The moments of each file's rounds, all rounds together as many as asked for.
    fn lives(&self) -> Vec<Vec<Moment>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let (mut lives, mut left) = (Vec::new(), self.rounds);
        while left > 0 {
            let rounds = (1 + rng.next_u32() % LONGEST_LIFE).min(left);
            lives.push((0..rounds).map(|_| Moment::draw(&mut rng)).collect());
            left -= rounds;
        }
        lives
    }

    fn report(&self) -> KillReport {
        let Self { subject, rounds, seed, .. } = self;
        let subject = subject.name();
        let repeat = format!("poolproof stress --kill={subject} --rounds {rounds} --seed {seed}");
        KillReport {
            engine: ENGINE.to_owned(),
            subject: subject.to_owned(),
            seed: *seed,
            repeat,
            ..KillReport::default()
        }
    }
}

fn at(lives: &[Vec<Moment>], index: usize) -> Option<(usize, &[Moment])> {
    lives.get(index).map(|moments| (index, moments.as_slice()))
}

/// One file, from its creation over all its rounds.
struct Life<'k> {
    kill: &'k Kill,
    number: usize,
    control: &'k Control,
    progress: &'k (dyn Fn() + Sync),
    report: &'k Mutex<KillReport>,
}

impl Life<'_> {
    fn live(&self, moments: &[Moment]) -> Result<(), CannotRun> {
        let no_room = |error: std::io::Error| {
            let place = std::env::temp_dir();
            CannotRun(format!("cannot keep files in {}: {error}; free some room, or set TMPDIR", place.display()))
        };
        let folder = tempfile::tempdir().map_err(no_room)?;
        let [database, for_engine, for_sqlite] =
            ["kill.db", "engine.db", "sqlite.db"].map(|name| folder.path().join(name));
        prepare(&database).map_err(|error| CannotRun(error.to_string()))?;
        self.add(|report| report.databases += 1);
        let mut ledger = Ledger::default();
        for (round, moment) in moments.iter().enumerate() {
            if self.control.is_stopped() {
                break;
            }
            let Kill { subject, seed, .. } = *self.kill;
            let first_id = 1 + round as i64 * IDS;
            let orders = Orders { subject, database: database.clone(), seed, first_id };
            let before = length(&database);
            let killed = round::run(self.kill, &orders, *moment)?;
            let (log, moved) = (length(&wal_of(&database)) > 0, length(&database) != before);
            // Each looks at what the kill left, not at what the other made of it.
            look::copy(&database, &for_sqlite).map_err(no_room)?;
            let confirmed = look::by_sqlite(&for_sqlite);
            let seen = if moment.in_place {
                look::by_engine(&database)
            } else {
                look::copy(&database, &for_engine).map_err(no_room)?;
                look::by_engine(&for_engine)
            };

            let at = format!("file {}, round {}", self.number + 1, round + 1);
            self.add(|report| {
                report.rounds += 1;
                report.interrupted_openings += u64::from(moment.acks == 0);
                report.logs_recovered += u64::from(log);
                report.checkpoints += u64::from(moved);
                report.acknowledged += killed.acknowledged.len() as u64;
                for complaint in &killed.complaints {
                    report.complaints += 1;
                    report.finding(|| format!("{at}: {complaint}"));
                }
                ledger.acknowledge(killed.acknowledged.iter().copied());
                let seen = match seen {
                    Ok(view) => view,
                    Err(error) => return report.unreadable(&at, "the engine", &error.to_string()),
                };
                ledger.judge(&seen, seed, report, &at);
                match confirmed {
                    Ok(view) if view == seen => {}
                    Ok(view) => {
                        report.disagreements += 1;
                        report.finding(|| format!("{at}: {}", view.differs(&seen)));
                    }
                    Err(error) => report.unreadable(&at, "SQLite", &error.to_string()),
                }
            });
            (self.progress)();
        }
        Ok(())
    }

    fn add(&self, what: impl FnOnce(&mut KillReport)) {
        what(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Creates the tables, with the engine, and lets go of the file.
fn prepare(path: &Path) -> Result<(), Error> {
    block_on(async {
        let pool = ConnectionPool::builder(path).max_connections(1).build().await?;
        let mut guard = pool.get().await?;
        for sql in work::SCHEMA {
            guard.execute(sql, ()).await?;
        }
        drop(guard);
        pool.close().await;
        Ok(())
    })
}

/// 0 for a file that is not there.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn multi_threaded(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).enable_time().build()
}

fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread().enable_time().build().map_err(|error| Error::Config {
        field: "a runtime",
        problem: format!("cannot be started: {error}; allow this process more threads"),
    })?;
    runtime.block_on(future)
}
