//! One run of the story's work on one subject, checked from every side, with SQLite as an outside oracle.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::check::{self, RowCounts};
use super::drive::{Control, Plan, Settings, Subject};
use super::run::RunReport;
use super::subjects::{Kind, Pooled};
use super::workload::{Failure, MAX_CONCURRENCY, Spec};
use crate::pool::PoolConfig;

/// What to run.
#[derive(Clone, Debug)]
pub struct Stress {
    /// Who is put to the work.
    pub subject: Kind,
    /// The work.
    pub spec: Spec,
    /// Ends the work after this time even if operations are left.
    pub duration: Option<Duration>,
    /// Threads of the runtime.
    pub workers: usize,
    /// Connections at most.
    pub pool_size: u32,
    /// Whether all connections are opened before the first operation.
    pub warm: bool,
    /// Gives the run up after this time without an operation that ended.
    pub watchdog: Duration,
    /// The file to use, which must not exist; a temporary one if `None`.
    pub database: Option<PathBuf>,
}

impl Default for Stress {
    /// The story: 20 operations at once, on a pool of 10.
    fn default() -> Self {
        Self {
            subject: Kind::Pool,
            spec: Spec::default(),
            duration: None,
            workers: 4,
            pool_size: 10,
            warm: false,
            watchdog: Duration::from_secs(60),
            database: None,
        }
    }
}

/// More threads than this are a mistake.
pub const MAX_WORKERS: usize = 256;

/// Why a run could not be made: what, where and the mend, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotRun(pub(super) String);

impl CannotRun {
    pub(super) fn new(why: String) -> Self {
        Self(why)
    }
}

impl Stress {
    /// Runs it to the end, or until `control` stops it, and looks at what it left.
    ///
    /// # Errors
    /// What kept the run from being made: settings that cannot work, a file that cannot be used, a full disk. What the
    /// run itself found is in the report.
    pub fn run(&self, control: &Arc<Control>) -> Result<RunReport, CannotRun> {
        self.validate()?;
        let (path, _folder) = self.file()?;
        let settings = Settings { path: path.clone(), pool_size: self.pool_size, warm: self.warm };
        let plan =
            Plan { spec: self.spec, workers: self.workers, duration: self.duration, watchdog: self.watchdog, settings };
        let drive = self.subject.drive(&plan, control);
        let mut report = drive.map_err(|failure| {
            if is_full(&failure.message) { full_disk(&path, 0, &failure.message) } else { CannotRun(failure.message) }
        })?;
        report.repeat = self.repeat();
        if let Some(most) = report.max_open.filter(|most| *most > u64::from(self.pool_size)) {
            report.finding(|| format!("{most} connections were open at once, of at most {}", self.pool_size));
        }
        if let Some(error) = report.errors.keys().find(|error| is_full(error))
            && report.faults_beside_failures().is_empty()
            && report.findings.is_empty()
        {
            return Err(full_disk(&path, report.acknowledged, error));
        }
        if !report.hung {
            look_from_outside(&path, &mut report);
        }
        Ok(report.conclude())
    }

    fn validate(&self) -> Result<(), CannotRun> {
        let Spec { operations, concurrency, write_every, .. } = self.spec;
        let problem = if self.pool_size == 0 || self.pool_size as usize > PoolConfig::MAX_CONNECTIONS {
            format!("pool_size is {}: choose 1 to {}", self.pool_size, PoolConfig::MAX_CONNECTIONS)
        } else if self.subject == Kind::Pool && self.pool_size < 2 {
            "pool_size is 1: a writer needs at least 2, one for the lane and one for readers".to_owned()
        } else if self.duration == Some(Duration::ZERO) {
            "duration is 0: nothing would be tried; ask for at least 1".to_owned()
        } else if self.watchdog.is_zero() {
            "watchdog is 0: every run would be given up at once; ask for at least 1".to_owned()
        } else if operations == 0 {
            "operations is 0: nothing would be tried; ask for at least 1".to_owned()
        } else if write_every == 0 {
            "write_every is 0: nothing is every 0th; ask for 1 to write only".to_owned()
        } else if concurrency == 0 || concurrency > MAX_CONCURRENCY {
            format!("concurrency is {concurrency}: choose 1 to {MAX_CONCURRENCY}")
        } else if self.workers == 0 || self.workers > MAX_WORKERS {
            format!("workers is {}: choose 1 to {MAX_WORKERS}", self.workers)
        } else {
            return Ok(());
        };
        Err(CannotRun(problem))
    }

    /// The database's file, which is new; a temporary folder lives as long as what is returned.
    fn file(&self) -> Result<(PathBuf, Option<TempDir>), CannotRun> {
        let Some(path) = &self.database else {
            let folder = tempfile::tempdir().map_err(|error| {
                let place = std::env::temp_dir();
                CannotRun(format!("cannot make a folder in {}: {error}; set TMPDIR to another", place.display()))
            })?;
            return Ok((folder.path().join("stress.db"), Some(folder)));
        };
        let name = path.to_str().unwrap_or_default();
        if name.is_empty() || name == ":memory:" || name.starts_with("file:") {
            let path = path.display();
            return Err(CannotRun(format!("cannot use database {path}: the run needs a file; name one, in UTF-8")));
        }
        if path.exists() {
            return Err(CannotRun(match existing(path) {
                Some(trouble) => trouble,
                None => format!(
                    "cannot use database {}: it exists, and the run would write into it; name a file that does not",
                    path.display()
                ),
            }));
        }
        Ok((path.clone(), None))
    }

    /// The command line that makes this run again.
    #[must_use]
    pub fn repeat(&self) -> String {
        let Spec { operations, concurrency, seed, write_every } = self.spec;
        let mut line = format!(
            "poolproof stress --subject {} --operations {operations} --concurrency {concurrency} --workers {} \
             --pool-size {} --seed {seed}",
            self.subject.name(),
            self.workers,
            self.pool_size
        );
        if write_every != Spec::default().write_every {
            line.push_str(&format!(" --write-every {write_every}"));
        }
        if self.watchdog != Self::default().watchdog {
            line.push_str(&format!(" --watchdog {}", self.watchdog.as_secs().max(1)));
        }
        if self.warm {
            line.push_str(" --warm");
        }
        if let Some(duration) = self.duration {
            line.push_str(&format!(" --seconds {}", duration.as_secs().max(1)));
        }
        line
    }
}

/// What is wrong with a path that exists, beside that it does; found out without changing what is in it.
fn existing(path: &Path) -> Option<String> {
    let cannot = |problem: &str| Some(format!("cannot open database {}: {problem}", path.display()));
    if path.is_dir() {
        return cannot("it is a folder; name a file");
    }
    let mut start = Vec::new();
    if let Err(error) = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start)) {
        return cannot(&format!("{error}; name another file"));
    }
    if !start.is_empty() && !start.starts_with(MAGIC) {
        return cannot("the file is no database; name another file");
    }
    if is_locked(path) {
        return cannot("another process has it open; stop that process, or name another file");
    }
    None
}

/// Whether another process holds the lock that the engine takes on its files.
#[cfg(unix)]
fn is_locked(path: &Path) -> bool {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let Ok(file) = File::options().read(true).write(true).open(path) else { return false };
    // Given back when the file is closed; this process holds no other lock on it.
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

#[cfg(not(unix))]
fn is_locked(_path: &Path) -> bool {
    false
}

/// How a file of SQLite's format begins (<https://www.sqlite.org/fileformat2.html#the_database_header>).
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Whether the engine's words are those for a disk without room.
fn is_full(error: &str) -> bool {
    error.contains("no storage space") || error.contains("the disk is full")
}

fn full_disk(path: &Path, acknowledged: u64, error: &str) -> CannotRun {
    let path = path.display();
    CannotRun(format!(
        "the disk of {path} is full: {acknowledged} writes were acknowledged before ({error}); free some room, or name \
         another file"
    ))
}

/// Asks a fresh connection of the engine, and then real SQLite, whether the file is sound and how many rows it has.
fn look_from_outside(path: &Path, report: &mut RunReport) {
    let by_engine = block_on(async {
        let mut fresh = Pooled::fresh(path).await?;
        Ok::<_, Failure>((check::integrity(&mut fresh).await?, check::row_counts(&mut fresh).await?))
    });
    let engine_counts = match by_engine {
        Ok((integrity, counts)) => {
            report.integrity = integrity;
            Some(counts)
        }
        Err(failure) => {
            report.integrity = failure.message;
            None
        }
    };
    match by_sqlite(path) {
        Ok((integrity, counts)) => {
            report.sqlite_integrity = integrity;
            if let Some(engine_counts) = engine_counts.filter(|engine_counts| *engine_counts != counts) {
                report.finding(|| format!("SQLite counts {counts:?} rows, the engine {engine_counts:?}"));
            }
        }
        Err(error) => report.sqlite_integrity = error.to_string(),
    }
}

fn by_sqlite(path: &Path) -> Result<(String, RowCounts), rusqlite::Error> {
    let sqlite = rusqlite::Connection::open(path)?;
    let integrity = sqlite.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
    let mut counts = [0; 3];
    for (count, table) in counts.iter_mut().zip(check::TABLES) {
        *count = sqlite.query_row(&format!("SELECT COUNT(*) FROM {table}"), (), |row| row.get(0))?;
    }
    Ok((integrity, counts))
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.map_err(|error| Failure::unexpected(format!("cannot start a runtime: {error}")))?.block_on(future)
}
