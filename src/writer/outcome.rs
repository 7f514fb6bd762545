//! What a caller is told at the end of a write, and of a writer.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::pool::HolderReport;

/// A write is committed, and synced to disk under `synchronous = FULL`, which is what the pool sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack<R> {
    /// What the write returned: for a statement, how many rows it changed.
    pub value: R,
    /// Which commit it was part of.
    pub token: CommitToken,
    /// Its place among the writes that ran for that commit, from 0; those that failed have one, too. Of two writes that the lane made,
    /// the one whose commit's number, and then whose position, is smaller came first. 0 for each in MVCC mode.
    pub position: u32,
}

/// A commit of one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitToken {
    /// The writer.
    pub(super) writer: u64,
    pub(super) number: u64,
}

impl CommitToken {
    /// The number of the commit, counted from 1 since the writer was opened. Writes that share it were committed together. Of two
    /// that the lane made the later one is greater; in MVCC mode the numbers are those of who was counted first, and two commits
    /// at the same time may be counted in either order.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }
}

/// A write that was not done, or not to its end, when its writer was closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NotDone {
    /// Who asked for it.
    pub site: &'static Location<'static>,
    /// How long ago that was.
    pub waited: Duration,
    /// The statement, shortened, without its parameters; `None` for a closure.
    pub sql: Option<String>,
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, for {} ms: ", self.site, self.waited.as_millis())?;
        f.write_str(self.sql.as_deref().unwrap_or("a closure"))
    }
}

/// How a writer ended.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CloseReport {
    /// Writes that were still queued when the time was over, or were to run again since a neighbour had broken their batch. Their
    /// callers were told that nothing was written.
    pub not_done: Vec<NotDone>,
    /// Whether a write that had been started, or its commit, was still running when the time was over. It runs to its end. In
    /// MVCC mode there may be several; whose they are and what they run is said of the holders.
    pub is_running: bool,
    /// That write, or the last of those that it was committing; `None` where that cannot be told, as in MVCC mode.
    pub running: Option<NotDone>,
    /// Who still held a connection when the time was over.
    pub holders: Vec<HolderReport>,
}

impl CloseReport {
    /// Whether everything was done, and no connection is alive.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.not_done.is_empty() && !self.is_running && self.holders.is_empty()
    }
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("everything was done, and no connection is alive");
        }
        match self.not_done.len() {
            0 if self.is_running => f.write_str("nothing is left in the queue")?,
            0 => f.write_str("every write was done")?,
            1 => f.write_str("1 write was not done")?,
            more => write!(f, "{more} writes were not done")?,
        }
        match (self.is_running, &self.running) {
            (true, Some(_)) => f.write_str(", one is still running")?,
            (true, None) => f.write_str(", the writer is still at work")?,
            (false, _) => {}
        }
        if let Some(job) = &self.running {
            write!(f, "\n  running: {job}")?;
        }
        for job in &self.not_done {
            write!(f, "\n  not done: {job}")?;
        }
        for holder in &self.holders {
            write!(f, "\n  still open: {holder}")?;
        }
        Ok(())
    }
}
