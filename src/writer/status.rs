//! What a writer has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

use super::job::Ended;
use super::wal::WalStatus;
use crate::pool::Status;

/// A writer at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStatus {
    /// The pool below; the lane holds one of its connections.
    pub pool: Status,
    /// Writes that are accepted and not started.
    pub queued: usize,
    /// Writes that were committed.
    pub committed: u64,
    /// Writes that returned an error or panicked, or were not started in time, and had no effect.
    pub rolled_back: u64,
    /// Writes of which cannot be told whether they were committed.
    pub unknown: u64,
    /// Writes whose caller was gone before they started.
    pub skipped: u64,
    /// Writes that never were in the queue: there was no room, or none in time, or the writer was closed. Each that was in it is
    /// counted by one of the four above.
    pub refused: u64,
    /// Commits, each of a batch of writes.
    pub commits: u64,
    /// The most writes that ever shared a commit.
    pub largest_batch: u64,
    /// Tries that found the write lock taken, by somebody outside the lane; in MVCC mode, writes that were made again because they
    /// conflicted with others.
    pub retries: u64,
    /// Times that a batch was run again, fewer writes at a time, because one of them had broken its transaction.
    pub broken_batches: u64,
    /// The write-ahead log.
    pub wal: WalStatus,
    /// The read cache; `None` if it is off.
    #[cfg(feature = "cache")]
    pub cache: Option<super::CacheStatus>,
}

impl WriterStatus {
    /// What somebody should look at, in a sentence; `None` if all is well.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if self.wal.in_doubt {
            let why = "a commit, or a copy of the log beside one, failed and is not made up for: nothing is written until the disk \
                       lets it be, and no reader keeps the log";
            return Some(why.to_owned());
        }
        let (pinned, pages) = (self.wal.pinned_pages, self.wal.pages);
        (pinned > 0).then(|| {
            format!(
                "readers pin the log: at the last checkpoint {pinned} of its {pages} pages could not be copied, and it grows as long as one is \
                 open at every moment; pool().holders() says who reads"
            )
        })
    }
}

/// Counts since the writer was opened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
    largest_batch: AtomicU64,
    retries: AtomicU64,
    broken_batches: AtomicU64,
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub(super) fn ended(&self, ended: Ended) {
        one_more(match ended {
            Ended::Committed => &self.committed,
            Ended::RolledBack => &self.rolled_back,
            Ended::Unknown => &self.unknown,
        });
    }

    pub(super) fn refused(&self) {
        one_more(&self.refused);
    }

    pub(super) fn retried(&self) {
        one_more(&self.retries);
    }

    pub(super) fn broke(&self) {
        one_more(&self.broken_batches);
    }

    pub(super) fn batch_of(&self, jobs: usize) {
        self.largest_batch.fetch_max(jobs as u64, Ordering::Relaxed);
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// What it counts; the rest is for others to say.
    pub(super) fn status(&self) -> WriterStatus {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WriterStatus {
            committed: count(&self.committed),
            rolled_back: count(&self.rolled_back),
            unknown: count(&self.unknown),
            refused: count(&self.refused),
            largest_batch: count(&self.largest_batch),
            retries: count(&self.retries),
            broken_batches: count(&self.broken_batches),
            ..WriterStatus::default()
        }
    }
}
