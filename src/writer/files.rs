//! Whether a database's files are still where they were opened.
//!
//! The engine keeps them open, and to the operating system a file that was removed, or that another took the place of, is a
//! file as good as any until the last handle is closed: writes succeed, and are lost with it. So the lane looks before a
//! batch and before it acknowledges one, and so does each write in MVCC mode: two calls of some microseconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::executor::Executor;
use crate::error::Error;

/// Which file it is, among all of the machine.
pub(super) type Identity = (u64, u64);

/// A database's two files, and which they were when they were first seen.
#[derive(Debug)]
pub(super) struct Files {
    executor: Arc<dyn Executor>,
    files: [(PathBuf, Option<Identity>); 2],
}

impl Files {
    pub(super) fn of(files: [PathBuf; 2], executor: &Arc<dyn Executor>) -> Self {
        let files = files.map(|path| {
            let identity = executor.file(&path).map(|file| file.identity);
            (path, identity)
        });
        Self { executor: Arc::clone(executor), files }
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

/// The log of a database in MVCC mode, which the engine names so whatever the database is called.
pub(super) fn logical_log_of(database: &Path) -> PathBuf {
    database.with_extension("db-log")
}
