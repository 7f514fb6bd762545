//! Whether a database's files are still where they were opened.
//!
//! The engine keeps them open, and to the operating system a file that was removed, or that another took the place of, is a
//! file as good as any until the last handle is closed: writes succeed, and are lost with it. So the lane looks before a
//! batch and before it acknowledges one, and so does each write in MVCC mode: two calls of some microseconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::Mode;
use super::executor::Executor;
use crate::error::Error;
use crate::pool::ConnectionPool;
use crate::pool::file::{Identity, logical_log_of, wal_of};

/// A database's two files, and which they were when they were first seen.
#[derive(Debug)]
pub(super) struct Files {
    executor: Arc<dyn Executor>,
    files: [(PathBuf, Option<Identity>); 2],
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
        let mut files = Self { executor: Arc::clone(executor), files };
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
        for (path, known) in &mut self.files {
            let found = self.executor.file(path).map(|file| file.identity);
            match known {
                None if found.is_some() || !has_log || !is_of_files => *known = found,
                Some(_) if *known == found => {}
                _ => {
                    let problem =
                        "it was removed or replaced while it was open; restore it, and open it again".to_owned();
                    return Err(Error::Open { path: path.clone(), problem });
                }
            }
        }
        Ok(())
    }
}
