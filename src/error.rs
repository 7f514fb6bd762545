//! What can go wrong, each in one sentence that says what, where and the mend.
//!
//! An error is shown in full by its `Display`, whatever it was caused by included, for most people print nothing else. So
//! [`source`](std::error::Error::source) goes on behind what was said already, and who prints the whole chain reads nothing
//! twice. Programs look at [`Error::cause`], [`Error::constraint`] and [`Error::is_contention`].

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::catch::message;
use crate::constraint::Constraint;
use crate::pool::{AcquireTimeout, HolderReport, HookError};
use crate::sql::{Text, TooDeep};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the pool or the writer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work.
    Config {
        /// The setting's name in the builder.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The database could not be opened.
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the mend.
        problem: String,
    },
    /// No connection became free, or could be opened, in time.
    AcquireTimeout(Box<AcquireTimeout>),
    /// A hook turned a new connection down.
    Hook(HookError),
    /// The pool or the writer is closed.
    Closed,
    /// Something that cannot work, and what to do instead. It had no effect.
    Misuse(Cow<'static, str>),
    /// A statement is nested so deeply that the engine might overflow the stack, which aborts the process. It was not run.
    TooDeep {
        /// What exceeds its limit: nested subqueries, for example.
        what: &'static str,
        /// How many there are, at least.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A constraint refused a statement. It had no effect (see [`Constraint`] for `OR FAIL`); a transaction that it was part of
    /// is still open.
    Constraint(Constraint),
    /// A write certainly had no effect, and can be tried again.
    RolledBack {
        /// Why.
        cause: Arc<Error>,
    },
    /// A commit failed in a way that does not tell whether it is durable. The write took effect wholly or not at all; it must
    /// not be tried again before that was looked up.
    Unknown {
        /// What went wrong in the commit.
        cause: Arc<Error>,
    },
    /// Others held the write lock for as long as the writer tried for it.
    Locked {
        /// How long it tried: [`WriterConfig::retry_timeout`](crate::WriterConfig::retry_timeout).
        tried: Duration,
        /// Who had a transaction open on a connection of the writer's pool at the end; nobody, if it was somebody else.
        holders: Vec<HolderReport>,
    },
    /// A write did not get its turn, or did not come to its end, in the time that it had.
    Deadline {
        /// What took so long.
        stage: WriteStage,
        /// The time that it had.
        limit: Duration,
    },
    /// A read took longer than [`WriterConfig::read_timeout`](crate::WriterConfig::read_timeout), which this is.
    ReadTimeout(Duration),
    /// The writer's queue has no room.
    Full(usize),
    /// The engine's own error.
    Engine(turso::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config { field, problem } => write!(f, "{field} {problem}"),
            Error::Open { path, problem } => write!(f, "cannot open database {}: {problem}", path.display()),
            Error::AcquireTimeout(timeout) => timeout.fmt(f),
            Error::Hook(error) => write!(f, "a hook turned a new connection down: {error}"),
            Error::Closed => f.write_str("the pool, or its writer, is closed: open the database again to go on"),
            Error::Misuse(why) => f.write_str(why),
            Error::TooDeep { what, found, limit } => write!(
                f,
                "at least {found} {what}, and {limit} is the limit, beyond which the engine may overflow the stack: split the \
                 statement, or store intermediate results in a table; it was not run"
            ),
            Error::Constraint(constraint) => constraint.fmt(f),
            Error::RolledBack { cause } => write!(f, "{cause}; nothing was written"),
            Error::Unknown { cause } => write!(f, "it is unknown whether this was written: {cause}"),
            Error::Locked { tried, holders } => {
                write!(
                    f,
                    "the lane tried for {tried:.1?} to get the write lock, which others held (WriterConfig::retry_timeout)"
                )?;
                match holders.is_empty() {
                    true => f.write_str(", by nobody of this pool; open a file by one pool only")?,
                    false => f.write_str("; let the writer write, or end these transactions sooner")?,
                }
                holders.iter().take(3).try_for_each(|holder| write!(f, "; a transaction at {holder}"))
            }
            Error::Deadline { stage, limit } => write!(f, "{stage} took longer than {limit:?}; {}", stage.mend()),
            Error::ReadTimeout(limit) => {
                write!(f, "the read took longer than {limit:?}; read less at once, or raise WriterConfig::read_timeout")
            }
            Error::Full(queue) => write!(
                f,
                "the writer's queue is full: {queue} writes wait; wait for room, as execute and write do, or raise \
                 WriterConfig::queue"
            ),
            // The pool's own.
            Error::Engine(turso::Error::Busy(text)) if text == UNCOPIED => f.write_str(text),
            Error::Engine(turso::Error::Busy(text)) => write!(
                f,
                "{text}: another connection is writing; write through one PooledDatabaseWriter, where writes queue, and \
                 ask ConnectionPool::holders who is in a transaction"
            ),
            // The pool's own, of a value that is read as what it is not.
            Error::Engine(turso::Error::ConversionFailure(text)) => f.write_str(text),
            Error::Engine(error) => {
                error.fmt(f)?;
                f.write_str(instead_of_an_experiment(&error.to_string()))
            }
        }
    }
}

/// What to do instead of what the engine has as an experiment only, which it tells to be turned on.
fn instead_of_an_experiment(text: &str) -> &'static str {
    let experiment = [
        " is an experimental feature",
        " are an experimental feature",
        " require --experimental",
        " Use --experimental",
    ];
    match experiment.iter().find_map(|words| text.split_once(words)) {
        None => "",
        Some((what, _)) if what.ends_with("VACUUM") => {
            "; a pool leaves that off: VACUUM INTO 'another.db' writes a compact copy"
        }
        Some((what, _)) if what.ends_with("TTACH") => {
            "; a pool leaves that off: open the other database by a pool of its own"
        }
        Some(_) => "; a pool leaves that off",
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::RolledBack { cause } | Error::Unknown { cause } => cause.source(),
            Error::Hook(error) => error.source(),
            Error::Engine(error) => error.source(),
            _ => None,
        }
    }
}

/// What is wrong with a file that another process has.
pub(crate) const IN_ANOTHER_PROCESS: &str = "another process has it open; stop that process, wait for it \
    (ConnectionPoolBuilder::open_timeout), or name another file";

/// SQLite's journal is there, and needed: one that goes on looks like one that was cut short.
pub(crate) const IN_A_TRANSACTION: &str =
    "SQLite is in a transaction, which ConnectionPoolBuilder::open_timeout waits for, or was cut short in one";

/// Why a checkpoint that nobody known is in the way of did not run.
pub(crate) const UNCOPIED: &str = "the WAL could not be checkpointed: a connection that was opened past poolproof reads it, or the disk \
    refuses the copy; open every connection through a pool";

const PANICKED: &str = "the engine panicked: ";

/// A part of a write that has a limit in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteStage {
    /// Waiting for its turn.
    Waiting,
    /// Running: its closure was dropped and undone.
    Running,
}

impl WriteStage {
    /// What gives it more time.
    fn mend(self) -> &'static str {
        match self {
            WriteStage::Waiting => {
                "give it more by within, write less at once, or end a transaction that a guard holds open"
            }
            WriteStage::Running => "shorten it, or raise WriterConfig::write_timeout",
        }
    }
}

impl fmt::Display for WriteStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteStage::Waiting => "waiting for the lane",
            WriteStage::Running => "the write",
        })
    }
}

impl From<turso::Error> for Error {
    fn from(error: turso::Error) -> Self {
        match error {
            turso::Error::Constraint(message) => Error::Constraint(Constraint::read(message)),
            // What `OR FAIL` makes of it inside a transaction.
            turso::Error::Error(message) if Constraint::is_one(&message) => {
                Error::Constraint(Constraint::read(message))
            }
            error => Error::Engine(error),
        }
    }
}

impl Error {
    /// What is behind [`RolledBack`](Error::RolledBack) and [`Unknown`](Error::Unknown); any other error is its own cause.
    #[must_use]
    pub fn cause(&self) -> &Error {
        match self {
            Error::RolledBack { cause } | Error::Unknown { cause } => cause.cause(),
            error => error,
        }
    }

    /// The constraint that refused it, if one did.
    #[must_use]
    pub fn constraint(&self) -> Option<&Constraint> {
        match self.cause() {
            Error::Constraint(constraint) => Some(constraint),
            _ => None,
        }
    }

    /// # Errors
    /// [`Error::TooDeep`], if the text is.
    pub(crate) fn check_depth(text: &Text) -> Result<()> {
        text.too_deep().map_or(Ok(()), |too_deep| Err(Error::too_deep(too_deep)))
    }

    pub(crate) fn too_deep(TooDeep { what, found, limit }: TooDeep) -> Self {
        Error::TooDeep { what, found, limit }
    }

    /// Something that cannot work, told by a fixed sentence.
    pub(crate) const fn misuse(why: &'static str) -> Self {
        Error::Misuse(Cow::Borrowed(why))
    }

    /// The outcome of a write that had no effect.
    pub(crate) fn rolled_back(cause: impl Into<Arc<Error>>) -> Self {
        Error::RolledBack { cause: cause.into() }
    }

    /// The outcome of a write of which nobody knows.
    pub(crate) fn unknown(cause: impl Into<Arc<Error>>) -> Self {
        Error::Unknown { cause: cause.into() }
    }

    /// What a panic of the engine's is told as.
    pub(crate) fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        let said = message(&*payload);
        let text = format!("{PANICKED}{said}; PRAGMA integrity_check tells whether the file is damaged");
        // Not even dropped: a payload may panic in its turn.
        std::mem::forget(payload);
        Error::Engine(turso::Error::Corrupt(text))
    }

    /// What the panic of a hook is told as, where it is nobody's own call that it would go on in.
    pub(crate) fn of_a_hooks_panic(payload: Box<dyn Any + Send>) -> Self {
        let text = format!("it panicked: {}", message(&*payload));
        std::mem::forget(payload);
        Error::Hook(text.into())
    }

    /// Whether it is one of the engine's.
    pub(crate) fn is_panic(&self) -> bool {
        matches!(self, Error::Engine(turso::Error::Corrupt(text)) if text.starts_with(PANICKED))
    }

    /// Whether a commit that failed with this may have taken effect all the same: the disk failed, or nobody knows.
    pub(crate) fn may_have_committed(&self) -> bool {
        use turso::Error::{Corrupt, DatabaseFull, Interrupt, IoError};
        let is_of_the_disk = matches!(self, Error::Engine(Corrupt(_) | DatabaseFull(_) | Interrupt(_) | IoError(..)));
        is_of_the_disk && !self.is_full()
    }

    /// Whether the disk failed.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Error::Engine(turso::Error::IoError(..)))
    }

    /// Whether there was no room for a page. A commit whose last page was not written is none.
    pub(crate) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let full = [StorageFull, FileTooLarge, QuotaExceeded];
        matches!(self, Error::Engine(turso::Error::IoError(kind, "pwrite" | "pwritev")) if full.contains(kind))
    }

    /// Whether another transaction was faster; the engine has rolled this one back.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Error::Engine(turso::Error::Error(text)) => {
                text.contains("Write-write conflict") || text.contains("Database schema conflict")
            }
            Error::Engine(turso::Error::BusySnapshot(_)) => true,
            _ => false,
        }
    }

    /// Whether the engine refused for what another connection, or another user of this one, was doing at the time.
    #[must_use]
    pub fn is_contention(&self) -> bool {
        match self.cause() {
            Error::Locked { .. } | Error::Engine(turso::Error::Busy(_) | turso::Error::BusySnapshot(_)) => true,
            // The engine's word for a wrong column too, which no second try would mend.
            Error::Engine(turso::Error::Misuse(text)) => text.contains("concurrent use") || text.contains("busy"),
            _ => false,
        }
    }

    /// The engine's error while opening `path`, with the mend where the cause can be told.
    pub(crate) fn open(path: &Path, source: &turso::Error) -> Self {
        Error::Open { path: path.to_owned(), problem: nothing_to_open(path).unwrap_or_else(|| why_not_open(source)) }
    }

    pub(crate) fn open_in_another_process(path: &Path) -> Self {
        Error::Open { path: path.to_owned(), problem: IN_ANOTHER_PROCESS.to_owned() }
    }

    /// The same, of a file on a disk of the caller's own, which the operating system knows nothing of.
    pub(crate) fn open_elsewhere(path: &Path, source: &turso::Error) -> Self {
        Error::Open { path: path.to_owned(), problem: why_not_open(source) }
    }
}

fn nothing_to_open(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Some(format!("the folder {} does not exist; create it first", folder.display()));
    }
    path.is_dir().then(|| "it is a folder; name a file".to_owned())
}

fn why_not_open(source: &turso::Error) -> String {
    let text = source.to_string();
    use std::io::ErrorKind;
    match source {
        turso::Error::NotAdb(_) => "the file is no database; name another file".to_owned(),
        turso::Error::DatabaseFull(_)
        | turso::Error::IoError(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge, _) => {
            "the disk is full; free some room".to_owned()
        }
        turso::Error::IoError(ErrorKind::ReadOnlyFilesystem, _) => {
            "the file system is mounted read-only; mount it for writing, or copy the file elsewhere".to_owned()
        }
        _ if text.contains("short read") => {
            format!("the file is cut off ({text}); restore it from a copy, or name another file")
        }
        turso::Error::IoError(std::io::ErrorKind::PermissionDenied, _) => {
            "permission denied; allow this user to write the file and its folder".to_owned()
        }
        _ if text.contains("locked by another process") => IN_ANOTHER_PROCESS.to_owned(),
        _ => text,
    }
}
