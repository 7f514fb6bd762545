//! Whether a database's files are still where they were opened.
//!
//! The engine keeps them open, and to the operating system a file that was removed, or that another took the place of, is a
//! file as good as any until the last handle is closed: writes succeed, and are lost with it. So the lane looks before a
//! batch and before it acknowledges one, and so does each write in MVCC mode: two calls of some microseconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::executor::Executor;
use crate::error::Error;
use crate::pool::ConnectionPool;
use crate::pool::file::Identity;

/// A database's two files, and which they were when they were first seen.
#[derive(Debug)]
pub(super) struct Files {
    executor: Arc<dyn Executor>,
    files: [(PathBuf, Option<Identity>); 2],
}

impl Files {
    /// The database of a pool, which counts from when that was opened, and its log.
    ///
    /// # Errors
    /// [`Error::Open`] if the database is not there any more.
    pub(super) fn of(pool: &ConnectionPool, log: PathBuf, executor: &Arc<dyn Executor>) -> Result<Self, Error> {
        let seen = |path: &Path| executor.file(path).map(|file| file.identity);
        let database = pool.identity().or_else(|| seen(pool.path()));
        let identity = seen(&log);
        let files = [(pool.path().to_owned(), database), (log, identity)];
        let mut files = Self { executor: Arc::clone(executor), files };
        files.look()?;
        Ok(files)
    }

    /// What is wrong, if one of the files is not where it was. The log counts from when it is first seen.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        for (path, known) in &mut self.files {
            let found = self.executor.file(path).map(|file| file.identity);
            match known {
                None => *known = found,
                Some(_) if *known == found => {}
                Some(_) => {
                    let problem =
                        "it was removed or replaced while it was open; restore it, and open it again".to_owned();
                    return Err(Error::Open { path: path.clone(), problem });
                }
            }
        }
        Ok(())
    }
}

/// The write-ahead log of a database.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}
