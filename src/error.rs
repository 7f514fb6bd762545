//! What can go wrong, each in one sentence that says what, where and the mend.

use std::path::{Path, PathBuf};

use crate::pool::{AcquireTimeout, HookError};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the pool or the writer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work.
    #[error("{field} {problem}")]
    Config {
        /// The setting's name in the builder.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The database could not be opened.
    #[error("cannot open database {}: {problem}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the mend.
        problem: String,
    },
    /// No connection became free, or could be opened, in time.
    #[error("{0}")]
    AcquireTimeout(Box<AcquireTimeout>),
    /// A hook turned a new connection down.
    #[error("a hook turned a new connection down: {0}")]
    Hook(#[source] HookError),
    /// The pool or the writer is closed.
    #[error("the pool, or its writer, is closed")]
    Closed,
    /// Something that cannot work, and what to do instead. It had no effect.
    #[error("{0}")]
    Misuse(&'static str),
    /// A commit failed: whether its writes are durable cannot be told. They are applied wholly or not at all.
    #[error("the outcome is unknown, the commit failed: {0}")]
    OutcomeUnknown(turso::Error),
    /// The engine's own error.
    #[error(transparent)]
    Engine(#[from] turso::Error),
}

impl Error {
    /// Whether the engine refused for what another connection, or another user of this one, was doing at the time.
    #[must_use]
    pub fn is_contention(&self) -> bool {
        match self {
            Error::Engine(turso::Error::Busy(_) | turso::Error::BusySnapshot(_)) => true,
            // The engine's word for a wrong column too, which no second try would mend.
            Error::Engine(turso::Error::Misuse(text)) => text.contains("concurrent use") || text.contains("busy"),
            _ => false,
        }
    }

    /// The engine's error while opening `path`, with the mend where the cause can be told.
    pub(crate) fn open(path: &Path, source: &turso::Error) -> Self {
        Error::Open { path: path.to_owned(), problem: why_not_open(path, source) }
    }
}

fn why_not_open(path: &Path, source: &turso::Error) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return format!("the folder {} does not exist; create it first", folder.display());
    }
    if path.is_dir() {
        return "it is a folder; name a file".to_owned();
    }
    let text = source.to_string();
    match source {
        turso::Error::NotAdb(_) => "the file is no database; name another file".to_owned(),
        turso::Error::DatabaseFull(_) | turso::Error::IoError(std::io::ErrorKind::StorageFull, _) => {
            "the disk is full; free some room".to_owned()
        }
        turso::Error::IoError(std::io::ErrorKind::PermissionDenied, _) => {
            "permission denied; allow this user to write the file and its folder".to_owned()
        }
        _ if text.contains("locked by another process") => {
            "another process has it open; stop that process, or name another file".to_owned()
        }
        _ => text,
    }
}
