//! What the lane does for the write-ahead log: checkpoints, and repair after a commit that the disk refused.
//!
//! # Checkpoints
//! A checkpoint copies what is committed from the log into the database, and syncs that; a log that is copied to its end
//! starts over with the next write. The lane checkpoints when nobody waits: once the log has grown by
//! [`checkpoint_bytes`](super::WriterConfig::checkpoint_bytes), and when it has rested for
//! [`checkpoint_idle`](super::WriterConfig::checkpoint_idle); and though others wait once the log has grown by twice as much, or by
//! 900 pages. It is always `PASSIVE`, for in 0.8.3 `RESTART` and `TRUNCATE` forget the log before the database is synced: if that
//! sync fails, the next commit overwrites what was acknowledged. A checkpoint that fails loses nothing and is made again. The
//! engine makes one itself, inside the commit that brings the log to 1,000 pages more than are copied; that cannot be switched off,
//! but the lane comes first unless [`checkpoint_bytes`](super::WriterConfig::checkpoint_bytes) is more than that.
//!
//! A reader keeps the log from being copied beyond the moment that it reads, and from starting over; the status counts the
//! pages that are pinned so.
//!
//! # Repair
//! If writing or syncing the log fails in a commit, the engine rolls back: in this process nobody sees the batch, and the
//! next commit overwrites it in the log. Until then it is on the disk, perhaps: whoever opens the file anew, after a crash or
//! an orderly end, may find it there, and would append behind pages that were never synced, which a power failure takes
//! away with everything behind them. So the lane makes such a commit at once, before it acknowledges anything else:
//! `PRAGMA user_version`, set to what it was. If that is synced, the batch is gone for certain; until it is, the outcome is
//! unknown and nothing else is written.
//!
//! If that fails, too, and the process ends, the next writer finds a log of which nobody knows whether it is on the disk. So
//! before its first commit the lane copies a log that was there into the database, syncs that, and commits once: the log
//! starts over, and nothing that is acknowledged stands behind what may be lost. (The copy costs some milliseconds, once, and
//! only if there is a log and something is written. It leaves two holes: a power failure between the copy and that commit
//! may tear the commit that was in doubt; and while a reader of this process pins the log, or reads while the disk refuses the
//! copy, which looks the same, it does not start over; nor does it, for as long as the file stays open, after a connection could not
//! be opened for the disk, whose read lock the engine leaves (FINDINGS.md). That is tried again before the 2nd, 4th, 8th batch and
//! so on, at last before every 64th, until it does.)
//!
//! A checkpoint that fails beside somebody who writes past the lane can lose pages of theirs in its own sync, while theirs
//! succeeds (FINDINGS.md). Whatever is committed then would stand behind those. So the log is left behind first, as one that was
//! found, and a reader that is in the way is waited for as for the write lock. (It shows only where the engine tells of the
//! failure: beside a reader, and by an error of the call itself, it does not. And it is forgotten with the lane: the next writer
//! finds a log like any other.)
//!
//! An error of a commit may also be one of the checkpoint that the engine made inside it, if its I/O fails by a completion:
//! after the commit, which nothing overwrites then. From a log of 1,000 pages on, where it makes them, an error of the disk
//! tells nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::door::Shared;
use super::executor::Executor;
use super::lane::discard;
use super::retry::{Backoff, Tries};
use crate::error::{Error, Result};
use crate::pool::control::Control;
use crate::pool::file::wal_of;
use crate::pool::{PooledConnection, clock};
use crate::sync::Mutex;

/// Pages in the log from which on the engine makes a checkpoint inside a commit.
const ENGINE_CHECKPOINTS: u64 = 1000;

/// Pages by which it grows at most, with some to spare, before the lane makes one though others wait.
const LATEST: u64 = ENGINE_CHECKPOINTS * 9 / 10;

/// How often a checkpoint is tried that did not run though nobody seems to read.
const COPIES: u32 = 5;

/// While a reader pins a log that was found, it is tried again before one in so many batches at least: each try costs some
/// commits.
const SELDOM: u32 = 64;

/// What comes before each page in the log.
const FRAME_HEADER: u64 = 24;

/// The log: its file, and how it was at one moment.
#[derive(Debug)]
pub(super) struct Wal {
    file: PathBuf,
    page_size: u64,
    checkpoints: AtomicU64,
    failed: AtomicU64,
    /// Pages in it at the last checkpoint, and those that a reader kept from being copied.
    pages: AtomicU64,
    pinned: AtomicU64,
    /// A commit failed and is not known to be overwritten.
    in_doubt: AtomicBool,
    found: Mutex<Found>,
}

/// A log that was there when the lane began, or of which a copy failed.
#[derive(Clone, Copy, Debug, Default)]
enum Found {
    /// There was none, or nothing is behind it any more.
    #[default]
    Nothing,
    /// Nobody knows whether all of it is on the disk. It is to be left behind before the batch that is so many from now; if a
    /// reader is in the way, so many later.
    Waits { batches: u32, then: u32 },
    /// A copy of it failed, beside somebody who may have written: those pages may be lost, and their sync said nothing. It has to
    /// be left behind before anything is acknowledged that would stand behind them.
    Suspect,
}

impl Found {
    /// A batch begins. Whether the log is to be left behind now.
    fn is_due(&mut self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Waits { batches, .. } => {
                *batches = batches.saturating_sub(1);
                *batches == 0
            }
            Self::Suspect => true,
        }
    }

    /// A reader is in the way. Whether it can wait.
    fn postpone(&mut self) -> bool {
        if let Self::Waits { batches, then } = self {
            (*batches, *then) = (*then, (*then * 2).min(SELDOM));
        }
        !matches!(self, Self::Suspect)
    }
}

/// The log as the last checkpoint left it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalStatus {
    /// Checkpoints that the lane made, and those that a reader kept from copying anything. The engine says the same of a disk
    /// that refuses one while somebody reads.
    pub checkpoints: u64,
    /// Those that failed, as far as the engine tells: nothing that the lane acknowledged is lost, and they are made again.
    pub failed_checkpoints: u64,
    /// Pages in the log at the last one.
    pub pages: u64,
    /// Those of them that it could not copy since a reader still reads an older moment (or, which the engine does not tell
    /// apart, since the disk refuses the copy while somebody reads). The log grows until that ends.
    pub pinned_pages: u64,
    /// A commit failed, or a copy of the log beside somebody else's commit, and what the disk may lack of it is not overwritten
    /// or left behind yet: nothing else is written until it is.
    pub in_doubt: bool,
}

impl Wal {
    /// The log of `database`.
    pub(super) fn new(database: &Path, page_size: u64) -> Self {
        let zero = AtomicU64::default;
        Self {
            file: wal_of(database),
            page_size,
            checkpoints: zero(),
            failed: zero(),
            pages: zero(),
            pinned: zero(),
            in_doubt: AtomicBool::new(false),
            found: Mutex::default(),
        }
    }

    /// Looks whether somebody has left a log.
    pub(super) fn look(&self, executor: &dyn Executor) {
        let is_there = self.bytes(executor).is_some_and(|bytes| bytes > 0);
        self.found.with(|found| *found = if is_there { Found::Waits { batches: 1, then: 1 } } else { Found::Nothing });
    }

    /// Whether there is a log.
    pub(super) fn has_something(&self, executor: &dyn Executor) -> bool {
        self.bytes(executor).is_some_and(|bytes| bytes > 0)
    }

    fn bytes(&self, executor: &dyn Executor) -> Option<u64> {
        Some(executor.file(&self.file)?.len)
    }

    /// How long a log of so many pages is.
    fn bytes_of(&self, pages: u64) -> u64 {
        pages * (self.page_size + FRAME_HEADER)
    }

    /// Whether the engine may have made a checkpoint inside the last commit. If that failed, the commit did not.
    pub(super) fn may_be_checkpointed_inside(&self, executor: &dyn Executor) -> bool {
        self.bytes(executor).is_none_or(|bytes| bytes / (self.page_size + FRAME_HEADER) >= ENGINE_CHECKPOINTS)
    }

    /// Whether the log may lack pages of somebody else's.
    fn is_suspect(&self) -> bool {
        self.found.with(|found| matches!(found, Found::Suspect))
    }

    pub(super) fn status(&self) -> WalStatus {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WalStatus {
            checkpoints: count(&self.checkpoints),
            failed_checkpoints: count(&self.failed),
            pages: count(&self.pages),
            pinned_pages: count(&self.pinned),
            in_doubt: self.in_doubt.load(Ordering::Relaxed) || self.is_suspect(),
        }
    }
}

/// When the lane of one database checkpoints.
#[derive(Default)]
pub(super) struct Checkpoints {
    /// How long the log was at the last one.
    bytes: u64,
    /// Something was committed that is not copied.
    is_due: bool,
}

impl Checkpoints {
    /// Something was committed. Whether the log has grown enough for a checkpoint: if somebody waits, by twice as much, for
    /// a lane that never rests must make one, too.
    pub(super) fn committed(&mut self, shared: &Shared) -> bool {
        self.is_due = true;
        let Some(bytes) = shared.wal.bytes(&*shared.executor) else { return false };
        // It has started over.
        self.bytes = self.bytes.min(bytes);
        let bound = shared.config.checkpoint_bytes;
        let bound = match shared.queue.is_empty() {
            true => bound,
            // Before the engine does.
            false => bound.saturating_mul(2).min(shared.wal.bytes_of(LATEST).max(bound)),
        };
        bytes - self.bytes >= bound
    }

    /// Whether there is something to copy when the lane rests.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Copies what can be copied.
    pub(super) async fn run(&mut self, shared: &Shared, connection: &mut PooledConnection) {
        let wal = &shared.wal;
        self.bytes = wal.bytes(&*shared.executor).unwrap_or(0);
        let outcome = match connection.renew().await {
            Ok(()) => copy(shared, connection).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok((pages, copied)) => {
                let pinned = pages.saturating_sub(copied);
                self.is_due = pinned > 0;
                wal.checkpoints.fetch_add(1, Ordering::Relaxed);
                wal.pages.store(pages, Ordering::Relaxed);
                if wal.is_suspect() {
                    // Now or when somebody writes: nobody waits for it.
                    let _ = make_safe(shared, connection).await;
                }
                if wal.pinned.swap(pinned, Ordering::Relaxed) == 0 && pinned > 0 {
                    let why = "a reader keeps the log from being copied, or the disk does while somebody reads";
                    tracing::warn!(target: "poolproof", pages, pinned, "{why}");
                }
            }
            Err(error) => {
                wal.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(target: "poolproof", %error, "a checkpoint failed; it will be made again");
            }
        }
    }
}

/// Copies what can be copied: how many pages the log has, and how many of them are in the database now.
///
/// To whoever began to read when all was copied the log was empty, and as long as that goes on the engine copies nothing.
/// It answers as it does if the disk fails, so that is told by whether somebody else reads; and, since that one may just have
/// ended, by trying again for some milliseconds. While somebody reads, a disk that fails is taken for that.
async fn copy(shared: &Shared, connection: &mut PooledConnection) -> Result<(u64, u64)> {
    let was_free = is_free(connection).await?;
    let bytes = shared.wal.bytes(&*shared.executor);
    let outcome = try_to_copy(shared, connection).await;
    // What the lane wrote was synced before. What others were writing may be what the sync lost.
    if outcome.is_err() && !(was_free && shared.wal.bytes(&*shared.executor) == bytes) {
        shared.wal.found.with(|found| *found = Found::Suspect);
    }
    outcome
}

/// Whether nobody has the write lock, under which whatever is in the log is written and synced.
async fn is_free(connection: &mut PooledConnection) -> Result<bool> {
    match connection.control(Control::BeginImmediate).await {
        Ok(()) => connection.opened().rollback().await.map(|()| true),
        Err(error) if error.is_contention() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn try_to_copy(shared: &Shared, connection: &mut PooledConnection) -> Result<(u64, u64)> {
    let mut pauses = Backoff::new(0);
    for _ in 1..COPIES {
        match connection.checkpoint().await {
            Err(error) if error.is_contention() => {}
            outcome => return outcome,
        }
        if connection.others_read() {
            let bytes = shared.wal.bytes(&*shared.executor).unwrap_or(0);
            return Ok((bytes / (shared.wal.page_size + FRAME_HEADER), 0));
        }
        clock::sleep(pauses.pause()).await;
    }
    connection.checkpoint().await
}

/// Before the first acknowledgement, after a failed commit that is not overwritten yet, and after a copy that failed beside
/// somebody else's commit: makes what comes be behind nothing that can be lost.
pub(super) async fn make_safe(shared: &Shared, connection: &mut PooledConnection) -> Result<()> {
    let mut tries = Tries::for_those_who_wait(shared);
    while shared.wal.found.with(Found::is_due) {
        if leave_behind(shared, connection).await? {
            shared.wal.found.with(|found| *found = Found::Nothing);
            break;
        }
        if shared.wal.found.with(Found::postpone) {
            break;
        }
        tries.again(connection).await.map_err(|error| match error {
            Error::Locked { tried, .. } => Error::Locked { tried, holders: connection.others_who_read() },
            error => error,
        })?;
    }
    match is_in_doubt(shared) {
        true => repair(shared, connection).await,
        false => Ok(()),
    }
}

/// Copies the log and lets it start over, unless somebody reads it. Whether it does.
async fn leave_behind(shared: &Shared, connection: &mut PooledConnection) -> Result<bool> {
    let copied = copy(shared, connection).await;
    if copied.is_err() {
        shared.wal.failed.fetch_add(1, Ordering::Relaxed);
    }
    let (pages, copied) = copied?;
    if copied < pages {
        return Ok(false);
    }
    rewrite(shared, connection).await?;
    if pages == 0 {
        return Ok(true);
    }
    // A reader of its last moment lets it be copied, and not start over: then it has grown.
    let (now, _) = copy(shared, connection).await?;
    Ok(now <= pages)
}

/// A commit failed so that nobody can tell what the disk has of it. Overwrites that. Whether it is certainly gone.
pub(super) async fn repair(shared: &Shared, connection: &mut PooledConnection) -> Result<()> {
    doubt(shared);
    discard(connection);
    connection.renew().await?;
    rewrite(shared, connection).await?;
    shared.wal.in_doubt.store(false, Ordering::Relaxed);
    Ok(())
}

/// Commits what is there already.
async fn rewrite(shared: &Shared, connection: &mut PooledConnection) -> Result<()> {
    Tries::new(shared).begin(connection).await?;
    connection.rewrite_header().await?;
    connection.control(Control::Commit).await
}

/// What is committed is not known for certain.
pub(super) fn doubt(shared: &Shared) {
    shared.wal.in_doubt.store(true, Ordering::Relaxed);
}

/// Whether [`repair`] is still to be done.
pub(super) fn is_in_doubt(shared: &Shared) -> bool {
    shared.wal.in_doubt.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_a_reader_pins_is_tried_at_growing_distances() {
        let mut found = Found::Waits { batches: 1, then: 1 };
        let tries: Vec<u32> = (1..=300)
            .filter(|_| {
                let is_due = found.is_due();
                if is_due {
                    found.postpone();
                }
                is_due
            })
            .collect();
        assert_eq!(tries, [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]);
    }

    #[test]
    fn a_log_that_could_not_be_left_behind_is_tried_before_the_next_batch() {
        let mut found = Found::Waits { batches: 1, then: 1 };
        assert!(found.is_due() && found.is_due() && found.is_due(), "nothing is written until then");
        assert!(!Found::Nothing.is_due());
    }
}
