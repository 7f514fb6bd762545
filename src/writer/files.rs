//! Whether a database's files are still where they were opened.
//!
//! The engine keeps them open, and to the operating system a file that was removed, or that another took the place of, is a
//! file as good as any until the last handle is closed: writes succeed, and are lost with it. The same is true of a log that was emptied
//! where it is, and of a database that was cut short. So the lane looks before a batch and before it acknowledges one, and so does
//! each write in MVCC mode: two calls of some microseconds. What is written over the files in their place, or a log that is cut in its
//! middle, is not seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::Mode;
use super::executor::Executor;
use crate::error::Error;
use crate::pool::ConnectionPool;
use crate::pool::file::{Identity, logical_log_of, wal_of};

/// What a write-ahead log begins with, in bytes (<https://www.sqlite.org/fileformat2.html#walformat>).
const WAL_HEADER: u64 = 32;

/// A database's two files, and which they were when they were first seen.
#[derive(Debug)]
pub(super) struct Files {
    executor: Arc<dyn Executor>,
    files: [(PathBuf, Option<Identity>); 2],
    /// So long they were, as far as the engine never makes them shorter (but in MVCC mode): the database, for the pool lets nobody
    /// vacuum, and of the log the header, with which each round of it begins.
    longest: Option<[u64; 2]>,
}

impl Files {
    /// The database of a pool and its log, which count from when that was opened. In MVCC mode the log is another, which is there
    /// from the switch on.
    ///
    /// # Errors
    /// [`Error::Open`] if one of them is not there any more.
    pub(super) fn of(pool: &ConnectionPool, mode: Mode, executor: &Arc<dyn Executor>) -> Result<Self, Error> {
        let seen = |path: &Path| executor.file(path).map(|file| file.identity);
        let database = pool.identity().or_else(|| seen(pool.path()));
        let (log, opened) = match mode {
            Mode::Wal => (wal_of(pool.path()), pool.logs().wal),
            Mode::Mvcc => (logical_log_of(pool.path()), pool.logs().logical),
        };
        let identity = opened.or_else(|| seen(&log));
        let files = [(pool.path().to_owned(), database), (log, identity)];
        let longest = (mode == Mode::Wal).then_some([0; 2]);
        let mut files = Self { executor: Arc::clone(executor), files, longest };
        files.look()?;
        Ok(files)
    }

    /// What is wrong, if one of the files is not where it was. If there was no log, it counts from when it is first seen.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        self.looks(false)
    }

    /// The same after a commit, which is in a log.
    pub(super) fn look_after_commit(&mut self) -> Result<(), Error> {
        self.looks(true)
    }

    fn looks(&mut self, has_log: bool) -> Result<(), Error> {
        let is_of_files = self.files[0].1.is_some();
        for (place, (path, known)) in self.files.iter_mut().enumerate() {
            let file = self.executor.file(path);
            let found = file.map(|file| file.identity);
            let problem = match known {
                None if found.is_some() || !has_log || !is_of_files => {
                    *known = found;
                    None
                }
                Some(_) if *known == found => None,
                _ => Some("it was removed or replaced while it was open; restore it, and open it again"),
            };
            let is_cut = self.longest.as_mut().is_some_and(|longest| {
                let most = [u64::MAX, WAL_HEADER][place];
                let (len, longest) = (file.map_or(0, |file| file.len).min(most), &mut longest[place]);
                *longest = len.max(*longest);
                len < *longest
            });
            let problem =
                problem.or(is_cut.then_some("it was cut short while it was open; restore it, and open it again"));
            if let Some(problem) = problem {
                return Err(Error::Open { path: path.clone(), problem: problem.to_owned() });
            }
        }
        Ok(())
    }
}
