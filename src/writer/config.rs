//! The writer's settings, and the one place where they are checked.

use std::time::Duration;

use crate::error::{Error, Result};

/// Settings of a [`PooledDatabaseWriter`](crate::PooledDatabaseWriter). With the feature `serde` they are read and written
/// like those of [`PoolConfig`](crate::PoolConfig).
///
/// ```
/// use poolproof::WriterConfig;
///
/// let config = WriterConfig { queue: 100, ..WriterConfig::default() };
/// assert!(config.validate().is_ok());
/// let error = WriterConfig { batch_jobs: 0, ..config }.validate().unwrap_err();
/// assert_eq!(error.to_string(), "batch_jobs is 0: nothing could ever be written; choose at least 1");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct WriterConfig {
    /// Writes that may wait for the lane, of each priority; whoever comes when that is full waits for room, in order. 1,024
    /// unless set.
    pub queue: usize,
    /// Writes that share a commit, at most. 1,024 unless set.
    pub batch_jobs: usize,
    /// No further write joins a commit after this. 10 ms unless set. A closure that runs for longer is not cut short by it,
    /// see `write_timeout`.
    pub batch_time: Duration,
    /// How long one write may run. Then its closure is dropped, between two of its statements or rows, and undone; nobody else
    /// can write meanwhile. One statement that takes long cannot be cut. 5 s unless set.
    pub write_timeout: Duration,
    /// How long one read may run. Then its closure is dropped, between two of its statements or rows, and its caller told
    /// [`Error::ReadTimeout`]. One row that takes long (a sort, a sum of a large table) cannot be cut. `None` for no limit, unless
    /// set.
    pub read_timeout: Option<Duration>,
    /// How long the lane tries for a write lock that somebody else holds: a guard of the pool that writes itself. It tries for all who wait
    /// when it begins, so one that comes while it tries may wait for nearly twice as long. 10 s unless set.
    pub retry_timeout: Duration,
    /// The lane copies the log into the database when it has grown by so many bytes and nobody waits, or by twice as many if
    /// somebody always does, or by 900 pages. 2 MiB unless set; the engine does so by itself at 1,000, inside a commit.
    pub checkpoint_bytes: u64,
    /// The same when nobody has written for so long. 1 s unless set.
    pub checkpoint_idle: Duration,
    /// How writes run beside each other. Through the lane, unless set.
    pub mode: Mode,
    /// Bytes that [`query_cached`](crate::PooledDatabaseWriter::query_cached) may keep, about. 0 for none, unless set. With a
    /// cache each statement of every connection to the file is looked up by its text, and a new text is parsed once.
    #[cfg(feature = "cache")]
    pub cache: usize,
}

/// How the writes of a writer run beside each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// One after the other, in a lane; those that wait at the same time share a commit.
    #[default]
    Wal,
    /// Side by side, on connections of the pool, in the engine's experimental MVCC mode: with `BEGIN CONCURRENT`, and again
    /// when they conflict. The file is switched to that mode for good, and no other program can read it then (a connection of
    /// turso's own, alone on the file, switches it back: `PRAGMA journal_mode = 'wal'`); nor can it be opened read-only. The lane
    /// is faster for small writes, and safer on a disk that fails; this is for long closures that write in different places. Queue,
    /// deadlines, outcomes and retries are those of the lane, but there are no batches, priorities or checkpoints of its own,
    /// writes that run take room in the queue, too, and nothing is repaired after a commit that the disk refused: what is
    /// acknowledged after it can be lost with it if the power fails then. Under load a snapshot may read a write that then
    /// conflicts and is rolled back (a dirty read), and a snapshot beside a change of the schema may mix two schemas: change it
    /// while no snapshot is open. Foreign keys are not checked between writes that run at the same time, and a disk without room
    /// can make a commit go on for ever. Copy a file that matters before it is switched: if power or disk fail meanwhile, the
    /// engine may not open it any more.
    Mvcc,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            queue: 1024,
            batch_jobs: 1024,
            batch_time: Duration::from_millis(10),
            write_timeout: Duration::from_secs(5),
            read_timeout: None,
            retry_timeout: Duration::from_secs(10),
            checkpoint_bytes: 2 << 20,
            checkpoint_idle: Duration::from_secs(1),
            mode: Mode::default(),
            #[cfg(feature = "cache")]
            cache: 0,
        }
    }
}

/// What the clock can tell apart.
const SHORTEST: Duration = Duration::from_millis(1);

impl WriterConfig {
    /// A longer queue is a mistake: each write that waits takes some hundred bytes, and its caller's patience.
    pub const MAX_QUEUE: usize = 10_000_000;

    /// # Errors
    /// [`Error::Config`] names the first setting that cannot work, and says what would.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field, problem| Err(Error::Config { field, problem });
        for (field, count) in [("queue", self.queue), ("batch_jobs", self.batch_jobs)] {
            if count == 0 {
                return wrong(field, "is 0: nothing could ever be written; choose at least 1".to_owned());
            }
        }
        if self.queue > Self::MAX_QUEUE {
            let problem = format!("is {}: at most {} are allowed; choose some thousands", self.queue, Self::MAX_QUEUE);
            return wrong("queue", problem);
        }
        for (field, limit) in [
            ("batch_time", self.batch_time),
            ("write_timeout", self.write_timeout),
            ("read_timeout", self.read_timeout.unwrap_or(Duration::MAX)),
            ("retry_timeout", self.retry_timeout),
            ("checkpoint_idle", self.checkpoint_idle),
        ] {
            if limit < SHORTEST {
                let mend = match field {
                    "batch_time" => "choose at least 1 ms, or batch_jobs of 1 for a commit to each write",
                    _ => "choose at least 1 ms",
                };
                return wrong(field, format!("is {limit:?}: nothing could ever be done in that time; {mend}"));
            }
        }
        if self.checkpoint_bytes == 0 {
            return wrong(
                "checkpoint_bytes",
                "is 0: every write would wait for a checkpoint; choose some KiB".to_owned(),
            );
        }
        Ok(())
    }
}
