//! Which file a database is, determined once, before the engine opens anything; and the state that all pools of the process on
//! that file share.
//!
//! The engine names its WAL after the path that it is given. Through a symbolic link it would write a WAL beside the link, which is
//! not found when the file itself is opened; and a relative path names another file after `chdir`. So the path is made absolute
//! and symbolic links are followed. A hard link is another name, with a WAL of its own, so a file of several names is not opened; nor is
//! another file opened by a name whose former file is still open, for the two would share a WAL.
//!
//! The engine keeps other processes out by a POSIX lock, which a process loses as soon as it closes any descriptor of the file
//! (fcntl(2)): SQLite's integrity check does that, or a copy of the file. So the process also holds a lock by flock(2), on a
//! descriptor that is opened before the engine's first and closed after its last.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::activity::Doing;
use super::manage::Activity;
use super::schema::Schema;
use crate::error::{Error, IN_A_TRANSACTION, Result};
use crate::sync::Mutex;

/// Which file it is, among all of the machine; the same for all where the operating system does not tell.
pub(crate) type Identity = (u64, u64);

/// Which files the logs of a database are: the WAL, and that of MVCC mode.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logs {
    pub(crate) wal: Option<Identity>,
    pub(crate) logical: Option<Identity>,
}

/// What is no file.
pub(crate) const MEMORY: &str = ":memory:";

/// The databases that pools of this process have open.
static OPEN: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    path: PathBuf,
    identity: Identity,
    read_only: bool,
    /// A writer keeps it in MVCC mode, and so its log is taken.
    mvcc: bool,
    /// Pools, and connections that outlive theirs.
    users: usize,
    shared: Arc<Shared>,
    /// Closed when the last of them is gone.
    lock: File,
}

impl Entry {
    /// Counts one more pool on the file, opened by this name.
    ///
    /// # Errors
    /// [`Error::Open`], if the file is open by another name, or with another `read_only`.
    fn join(&mut self, path: &Path, read_only: bool) -> Result<Arc<Opened>> {
        let refused = |problem: String| Err(Error::Open { path: path.to_owned(), problem });
        if self.path != path {
            // Which would have a WAL of its own.
            let name = self.path.display();
            return refused(format!("this process has the same file open as {name}: open it by that name"));
        }
        // The engine would give one the other's handle.
        if self.read_only != read_only {
            let how = if self.read_only { "only to be read" } else { "to be written" };
            return refused(format!("this process has it open {how}: close that first, or open it the same way"));
        }
        self.users += 1;
        Ok(Arc::new(Opened { identity: Some(self.identity), shared: Arc::clone(&self.shared) }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Closed alone, it would be held on by a process that was forked meanwhile.
        let _ = self.lock.unlock();
    }
}

/// What all connections of this process to one database share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) schema: Arc<Schema>,
    /// The engine's handle; the lock is held by whoever opens it. A second handle would open the file once more and, when it is
    /// dropped, take the engine's POSIX lock with it.
    database: tokio::sync::Mutex<Option<turso::Database>>,
    /// Its logs, as the engine found or made them.
    logs: OnceLock<Logs>,
    /// What each of them is doing, whatever pool it is of; some are gone.
    connections: Mutex<Vec<Weak<Doing>>>,
    /// One could not be opened, for the disk, and its read lock may be left: then no checkpoint runs any more (FINDINGS.md).
    has_stray_lock: AtomicBool,
}

impl Shared {
    /// The engine's handle, which the first opens.
    ///
    /// # Cancel safety
    /// Dropped half-way, it is not open, and the next opens it.
    pub(super) async fn database(
        &self,
        opens: impl Future<Output = Result<turso::Database>>,
    ) -> Result<turso::Database> {
        let mut database = self.database.lock().await;
        match &*database {
            Some(database) => Ok(database.clone()),
            None => Ok(database.insert(opens.await?).clone()),
        }
    }

    /// Another connection.
    pub(super) fn joins(&self, doing: &Arc<Doing>) {
        self.connections.with(|all| {
            all.retain(|doing| doing.strong_count() > 0);
            all.push(Arc::downgrade(doing));
        });
    }

    /// Whether any but this one reads, in a transaction or between two rows, or the engine may take one for that.
    pub(super) fn do_others_read(&self, doing: &Arc<Doing>) -> bool {
        let reads = |other: &Weak<Doing>| {
            other.upgrade().is_some_and(|other| !Arc::ptr_eq(&other, doing) && other.is_reading())
        };
        self.has_stray_lock.load(Ordering::Relaxed) || self.connections.with(|all| all.iter().any(reads))
    }

    pub(super) fn leaves_a_lock(&self) {
        self.has_stray_lock.store(true, Ordering::Relaxed);
    }
}

/// A database that is open, for as long as a handle of the engine's on it exists.
#[derive(Debug)]
pub(super) struct Opened {
    /// `None`: no file of the operating system's.
    identity: Option<Identity>,
    pub(super) shared: Arc<Shared>,
}

impl Opened {
    /// One that no other pool can have: on a disk of the caller's own, or in memory.
    pub(super) fn alone() -> Arc<Self> {
        Arc::new(Self { identity: None, shared: Arc::default() })
    }

    /// The database at `path`, which is [located](locate). `None` if another process has it open. A file that is not there is
    /// made, unless it is only read.
    ///
    /// # Errors
    /// [`Error::Open`], if another database of this process would share its log.
    pub(super) fn open(path: &Path, read_only: bool) -> Result<Option<Arc<Self>>> {
        if path == Path::new(MEMORY) {
            return Ok(Some(Self::alone()));
        }
        OPEN.with(|open| {
            let found = fs::metadata(path).ok();
            match &found {
                // The engine says so.
                Some(file) if file.is_dir() => return Ok(Some(Self::alone())),
                Some(file) if !file.is_file() => {
                    let problem = "it is a device, a socket or a pipe; name a file".to_owned();
                    return Err(Error::Open { path: path.to_owned(), problem });
                }
                None if read_only => {
                    let problem = "there is no such file, and read_only makes none; name one that exists".to_owned();
                    return Err(Error::Open { path: path.to_owned(), problem });
                }
                _ => {}
            }
            let known = found.and_then(|file| {
                let identity = identity_of(&file);
                open.iter_mut().find(|entry| is_same(entry, identity, path))
            });
            if let Some(entry) = known {
                return entry.join(path, read_only).map(Some);
            }
            if open.iter().any(|entry| entry.path == path) {
                let problem = "this process still has the file open that had this name before, and its log with it: drop that pool first";
                return Err(Error::Open { path: path.to_owned(), problem: problem.to_owned() });
            }
            check_what_is_beside(path)?;
            let has_log = |entry: &Entry| entry.mvcc || logical_log_of(path).exists();
            if let Some(other) = open.iter().find(|entry| share_a_log(path, &entry.path) && has_log(entry)) {
                return Err(shares_its_log(path, &other.path));
            }
            // What cannot be opened is for the engine to say.
            let opened = match read_only {
                true => File::open(path),
                false => OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path),
            };
            let Ok(file) = opened.or_else(|_| File::open(path)) else { return Ok(Some(Self::alone())) };
            let Ok(metadata) = file.metadata() else { return Ok(Some(Self::alone())) };
            if !read_only && has_auto_vacuum(&file) {
                let problem = "it has auto_vacuum, and the engine cannot write such a database; open it with read_only, or run PRAGMA \
                               auto_vacuum = NONE and VACUUM in SQLite";
                return Err(Error::Open { path: path.to_owned(), problem: problem.to_owned() });
            }
            if let names @ 2.. = names_of(&metadata) {
                let problem = format!(
                    "the file has {names} names (hard links), and a log for each: by one nobody sees what was written by another; remove the \
                     others, or copy the file"
                );
                return Err(Error::Open { path: path.to_owned(), problem });
            }
            if !locks(&file, read_only) {
                return Ok(None);
            }
            let (identity, shared) = (identity_of(&metadata), Arc::default());
            let opened = Arc::new(Self { identity: Some(identity), shared: Arc::clone(&shared) });
            open.push(Entry { path: path.to_owned(), identity, read_only, mvcc: false, users: 1, shared, lock: file });
            Ok(Some(opened))
        })
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Its logs, as they were when the engine had opened it first.
    pub(super) fn logs(&self, path: &Path) -> Logs {
        if self.identity.is_none() {
            return Logs::default();
        }
        let identity = |log: &Path| fs::metadata(log).ok().map(|file| identity_of(&file));
        let look = || Logs { wal: identity(&wal_of(path)), logical: identity(&logical_log_of(path)) };
        *self.shared.logs.get_or_init(look)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Closed before another can open it: it would find its own process's lock.
        OPEN.with(|open| {
            let place = open.iter().position(|entry| Arc::ptr_eq(&entry.shared, &self.shared));
            let Some(place) = place else { return };
            open[place].users -= 1;
            if open[place].users == 0 {
                // Before the lock: its descriptors are the engine's last. Nobody opens it, for who does has it open.
                drop(self.shared.database.try_lock().ok().and_then(|mut database| database.take()));
                open.swap_remove(place);
            }
        });
    }
}

/// Refuses what the engine would read past, or could not open again.
///
/// # Errors
/// [`Error::Open`].
fn check_what_is_beside(path: &Path) -> Result<()> {
    let refused = |problem: String| Err(Error::Open { path: path.to_owned(), problem });
    if logical_log_of(path) == path {
        return refused("its log in MVCC mode would have the same name: choose another than .db-log".to_owned());
    }
    let text = path.to_string_lossy();
    if text.strip_suffix("-wal").is_some_and(|database| Path::new(database).exists()) {
        return refused("it is the WAL of another database; name that".to_owned());
    }
    let journal = beside(path, "-journal");
    let mut first = [0; JOURNAL.len()];
    let is_hot = open_file(&journal).is_some_and(|mut file| file.read_exact(&mut first).is_ok() && first == JOURNAL);
    if is_hot {
        return refused(format!(
            "{IN_A_TRANSACTION} ({}): open it once with sqlite3, which rolls that back",
            journal.display()
        ));
    }
    Ok(())
}

/// Opens what is a file: a pipe, for example, would keep whoever opens it waiting for its other end.
fn open_file(path: &Path) -> Option<File> {
    let is_file = fs::metadata(path).is_ok_and(|file| file.is_file());
    is_file.then(|| File::open(path).ok()).flatten()
}

/// What SQLite's rollback journal begins with, as long as it is needed ("Hot journals" in SQLite's file format).
const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

fn is_same(entry: &Entry, identity: Identity, path: &Path) -> bool {
    entry.identity == identity && (identity != (0, 0) || entry.path == path)
}

/// Takes the lock, as far as there is one.
fn locks(file: &File, shared: bool) -> bool {
    // Where the two kinds of lock are one, it would keep the engine itself out (flock(2) of the BSDs and macOS).
    let outcome = match (cfg!(any(target_os = "linux", target_os = "android")), shared) {
        (false, _) => return true,
        (true, true) => file.try_lock_shared(),
        (true, false) => file.try_lock(),
    };
    // A file system without locks has none to offer.
    !matches!(outcome, Err(TryLockError::WouldBlock))
}

/// How many names a file has, as far as that can be told.
fn names_of(file: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.nlink()
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        1
    }
}

pub(crate) fn identity_of(file: &fs::Metadata) -> Identity {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (file.dev(), file.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        (0, 0)
    }
}

/// Whether others would take it for a URI: it begins with a scheme (RFC 3986, 3.1), `sqlite:` as well as `file://`, or ends with
/// parameters such as `?mode=ro`. A drive has one letter.
fn is_address(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_of_it = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    let has_scheme = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(is_of_it);
    let is_parameter = |text: &str| {
        let name = text.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    has_scheme || text.contains("://") || text.rsplit_once('?').is_some_and(|(_, parameters)| is_parameter(parameters))
}

/// The path as the engine is given it: absolute, links followed, whether or not the file is there yet.
///
/// # Errors
/// [`Error::Config`] for an address, which would be taken for a name; [`Error::Open`] for a link that leads nowhere.
pub(super) fn locate(path: &Path) -> Result<PathBuf> {
    if path == Path::new(MEMORY) {
        return Ok(path.to_owned());
    }
    let text = path.to_string_lossy();
    if is_address(&text) {
        let problem = format!(
            "is \"{text}\", a URI: give the path of the file (./ before a name with a colon); ConnectionPoolBuilder::read_only \
             opens it read-only"
        );
        return Err(Error::Config { field: "path", problem });
    }
    if path.file_name().is_none() || text.ends_with(std::path::is_separator) {
        return Err(Error::Open { path: path.to_owned(), problem: "it names a folder; name a file".to_owned() });
    }
    let failed =
        |error: io::Error| Error::Open { path: path.to_owned(), problem: format!("it cannot be located: {error}") };
    let mut path = path.to_owned();
    // As many links as Linux follows.
    for _ in 0..40 {
        if let Ok(located) = path.canonicalize() {
            return Ok(located);
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => std::env::current_dir().map_err(failed)?,
        };
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => {
                // If the folder is not there, the engine's opening says so.
                let folder = folder.canonicalize().or_else(|_| std::path::absolute(&folder)).map_err(failed)?;
                return Ok(path.file_name().map_or_else(|| folder.clone(), |name| folder.join(name)));
            }
        }
    }
    Err(failed(io::Error::other("too many links lead to each other")))
}

/// Whether the database has auto_vacuum, full or incremental: its header then names the largest root page
/// (<https://www.sqlite.org/fileformat2.html#the_database_header>, offset 52).
fn has_auto_vacuum(mut file: &File) -> bool {
    let mut header = [0; 56];
    file.read_exact(&mut header).is_ok() && header.starts_with(b"SQLite format 3\0") && header[52..] != [0; 4]
}

/// The write-ahead log of a database.
pub(crate) fn wal_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The log of a database in MVCC mode, which the engine names so whatever the database is called.
pub(crate) fn logical_log_of(database: &Path) -> PathBuf {
    database.with_extension("db-log")
}

/// The database was not switched to MVCC mode after all.
pub(crate) fn give_back_logical_log(database: &Path) {
    OPEN.with(|open| open.iter_mut().filter(|entry| entry.path == database).for_each(|entry| entry.mvcc = false));
}

/// Reserves a database's log for MVCC mode. The engine (0.8.3) gives `shop.2024` and `shop.2025` the same, and the rows of one would
/// become the other's.
///
/// # Errors
/// [`Error::Open`] names the other database that has it.
pub(crate) fn reserve_logical_log(database: &Path) -> Result<()> {
    // With the lock: nobody opens meanwhile what is looked at.
    OPEN.with(|open| {
        if let Some(other) = open.iter().find(|entry| share_a_log(database, &entry.path)) {
            return Err(shares_its_log(database, &other.path));
        }
        if let Some(other) = other_in_mvcc_mode(database) {
            return Err(other);
        }
        open.iter_mut().filter(|entry| entry.path == database).for_each(|entry| entry.mvcc = true);
        Ok(())
    })
}

/// Why a database cannot have its log: another file in its folder is in MVCC mode and has the same one.
pub(super) fn other_in_mvcc_mode(database: &Path) -> Option<Error> {
    // A folder that cannot be read has nothing to say.
    let files = fs::read_dir(database.parent()?).ok()?.flatten().map(|file| file.path());
    let mut others = files.filter(|file| share_a_log(database, file) && is_in_mvcc_mode(file));
    others.next().map(|other| shares_its_log(database, &other))
}

fn share_a_log(database: &Path, other: &Path) -> bool {
    let log = logical_log_of(database);
    database != other && other != log && logical_log_of(other) == log
}

/// By its first bytes, of which two say how it is kept (255 in MVCC mode, 2 with a write-ahead log; a copy of such a one does not
/// count). None that this process has open is asked.
fn is_in_mvcc_mode(file: &Path) -> bool {
    let mut first = [0; 20];
    let is_read = open_file(file).is_some_and(|mut file| file.read_exact(&mut first).is_ok());
    is_read && first.starts_with(b"SQLite format 3\0") && first[18..] == [255, 255]
}

fn shares_its_log(path: &Path, other: &Path) -> Error {
    let (log, other) = (logical_log_of(path), other.display());
    let problem = format!("in MVCC mode {other} has the same log, {}: rename one of the two", log.display());
    Error::Open { path: path.to_owned(), problem }
}
