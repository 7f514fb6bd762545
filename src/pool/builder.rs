//! Opening a database: what a pool of its connections is made of, and how each is set up.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::config::PoolConfig;
use super::connection::Connection;
use super::database::ConnectionPool;
use super::engine::engine;
use super::file::{self, Opened};
use super::generic::Pool;
use super::hooks::Hooks;
use super::manage::{Activity, Manage};
use crate::changes::Changes;
use crate::error::{Error, IN_A_TRANSACTION, IN_ANOTHER_PROCESS, Result};
use crate::stack::await_with_room;
use crate::sync::Mutex;

/// What every connection runs first, and why.
pub(crate) const PRAGMAS: [&str; 4] = [
    // A commit is durable when it returns; NORMAL and OFF can lose acknowledged commits in a crash.
    "PRAGMA synchronous = FULL",
    // Without it every BEGIN IMMEDIATE creates a temporary database on disk: two writes and two fsyncs.
    "PRAGMA temp_store = MEMORY",
    "PRAGMA foreign_keys = ON",
    // A sync that fails is an error, however it is reported. Otherwise the engine panics if it is by a completion, as from
    // io_uring: in the middle of a commit, which nobody could then overwrite. (That it is not simply tried again is the lane's.)
    "PRAGMA data_sync_retry = 1",
    // No busy_timeout: the engine's never sleeps, it polls (500 ms of it took 360 ms of CPU). Writers queue instead.
];

/// Prepared statements that a connection keeps, unless set otherwise.
const STATEMENT_CACHE: usize = 64;

/// Settings of a [`ConnectionPool`].
#[derive(Debug)]
#[must_use = "a builder opens nothing until build is called"]
pub struct ConnectionPoolBuilder {
    path: PathBuf,
    config: PoolConfig,
    hooks: Hooks<Connection>,
    statement_cache: usize,
    read_only: bool,
    open_timeout: Duration,
    io: Option<Io>,
}

/// How the engine reaches its files.
struct Io(Arc<dyn turso::core::IO>);

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

impl ConnectionPoolBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            config: PoolConfig::default(),
            hooks: Hooks::new(),
            statement_cache: STATEMENT_CACHE,
            read_only: false,
            open_timeout: Duration::ZERO,
            io: None,
        }
    }

    /// Connections alive or being opened at once, at most. 10 unless set.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.config.max_connections = max;
        self
    }

    /// How long [`ConnectionPool::get`] may take, waiting and connecting together. 30 s unless set. The
    /// [limit for waiting alone](PoolConfig::wait_timeout) is raised to it if it is lower.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.config.acquire_timeout = timeout;
        self.config.wait_timeout = self.config.wait_timeout.max(timeout);
        self
    }

    /// All settings at once, as read from a file for example. Replaces what was set before.
    pub fn config(mut self, config: PoolConfig) -> Self {
        self.config = config;
        self
    }

    /// What is done to connections when they are opened, lent and given back.
    pub fn hooks(mut self, hooks: Hooks<Connection>) -> Self {
        self.hooks = hooks;
        self
    }

    /// How many prepared statements each connection keeps, the least recently used making room: 64 unless set, 0 for none, and no
    /// more than 32 KiB of text in all. None holds its last row, and one that was given more than 64 KiB is not kept.
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.statement_cache = statements;
        self
    }

    /// Opens the database read-only, for a file or a folder that this user may not write. The engine refuses writes, a writer cannot
    /// be opened on the pool, and a missing file is an error. It keeps no process of SQLite from writing, and reads what is torn or old while
    /// one does. `false` unless set.
    ///
    /// All pools of a process on one file have the same setting.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// How long to wait for another process to close the database, as in a rolling restart. Zero unless set.
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// How the engine reaches its files, instead of the operating system's calls: a disk that fails on purpose, for example.
    ///
    /// The path is its own affair then, even if it is a real file's: links are not followed, nothing is locked, and what another pool does
    /// (a second writer, a change of the schema) this one does not know. Give a database to one pool.
    pub fn io(mut self, io: Arc<dyn turso::core::IO>) -> Self {
        self.io = Some(Io(io));
        self
    }

    /// Opens the database, creating the file if there is none, and reads it once, so that a wrong path or a file that is
    /// no database is an error here and not in the first user's hands. The pool itself has opened no connection yet.
    ///
    /// The engine opens files with blocking calls, for some tens of microseconds.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot work, an empty path among them; [`Error::Open`] if the file cannot be opened.
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing stays open.
    pub async fn build(self) -> Result<ConnectionPool> {
        self.config.validate()?;
        if self.path.as_os_str().is_empty() {
            return Err(Error::Config { field: "path", problem: "is empty: name the database's file".to_owned() });
        }
        #[cfg(feature = "harness")]
        if self.io.is_none() && crate::simulated::is_simulated() {
            let problem = "names a real file, in a simulated world: open it by World::open or World::pool".to_owned();
            return Err(Error::Config { field: "path", problem });
        }
        let path = match &self.io {
            None => file::locate(&self.path)?,
            Some(_) => self.path.clone(),
        };
        let began = clock::now();
        let (turso, opened) = loop {
            match self.open(&path).await {
                Err(error) if is_elsewhere(&error) && began.elapsed() < self.open_timeout => {
                    clock::sleep(OPEN_PAUSE).await;
                }
                outcome => break outcome?,
            }
        };
        let handle = Arc::clone(&turso.handle);
        #[cfg(feature = "cache")]
        let changes = Arc::clone(&turso.changes);
        let mut config = self.config;
        config.name = config.name.or_else(|| Some(self.path.file_name()?.to_string_lossy().into_owned()));
        let pool = Pool::with_hooks(turso, config, self.hooks.then(Connection::keep_changes))?;
        Ok(ConnectionPool {
            pool,
            is_of_a_file: self.io.is_none(),
            is_read_only: self.read_only,
            identity: opened.identity(),
            logs: opened.logs(&path),
            path,
            handle,
            has_lane: Arc::default(),
            #[cfg(feature = "cache")]
            changes,
        })
    }

    /// Opens it once.
    async fn open(&self, path: &Path) -> Result<(Turso, Arc<Opened>)> {
        let Some(name) = path.to_str() else {
            let problem = "its name is not UTF-8, which the engine needs; rename it".to_owned();
            return Err(Error::Open { path: path.to_owned(), problem });
        };
        let opened = match &self.io {
            None => Opened::open(path, self.read_only)?.ok_or_else(|| Error::open_in_another_process(path))?,
            Some(_) => Opened::alone(),
        };
        let failed = |error: &turso::Error| match &self.io {
            None => Error::open(path, error),
            Some(_) => Error::open_elsewhere(path, error),
        };
        let mut builder = turso::Builder::new_local(name).read_only(self.read_only);
        if let Some(Io(io)) = &self.io {
            builder = builder.with_io_impl(Arc::clone(io));
        }
        // It parses the whole schema.
        let opens = opened.shared.database(engine(await_with_room(true, builder.build())));
        let database = opens.await.map_err(|error| match (error, &self.io) {
            // The engine calls the database corrupt then.
            (Error::Engine(error), None) if error.to_string().contains("MVCC logical log file exists") => {
                file::other_in_mvcc_mode(path).unwrap_or_else(|| failed(&error))
            }
            (Error::Engine(error), _) => failed(&error),
            (error, _) => error,
        })?;
        let handle = Arc::new(Mutex::new(Some(Handle { database, opened: Arc::clone(&opened) })));
        let turso = Turso { handle, statement_cache: self.statement_cache, changes: Changes::of(path) };
        match turso.connect().await {
            Ok(mut connection) => match connection.check_nesting(std::iter::empty()).await {
                Ok(()) => {}
                Err(Error::TooDeep { what, found, limit }) => {
                    let problem = format!(
                        "it has at least {found} {what}, and {limit} is the limit, beyond which the engine may overflow the \
                         stack; drop some of them with another tool"
                    );
                    return Err(Error::Open { path: path.to_owned(), problem });
                }
                Err(Error::Engine(error)) => return Err(failed(&error)),
                Err(error) => return Err(error),
            },
            Err(Error::Engine(error)) => return Err(failed(&error)),
            Err(error) => return Err(error),
        }
        let is_there = std::fs::metadata(path).map(|file| file::identity_of(&file)).ok();
        if opened.identity().is_some() && opened.identity() != is_there {
            let problem = "it was removed or replaced while it was opened; open it again".to_owned();
            return Err(Error::Open { path: path.to_owned(), problem });
        }
        Ok((turso, opened))
    }
}

/// How long to wait before another try at a database that another process has open.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// Whether another process has it open.
fn is_elsewhere(error: &Error) -> bool {
    matches!(error, Error::Open { problem, .. } if problem == IN_ANOTHER_PROCESS || problem.starts_with(IN_A_TRANSACTION))
}

/// The database, as long as a pool has it open.
#[derive(Clone)]
pub(super) struct Handle {
    database: turso::Database,
    /// After the engine's handle.
    opened: Arc<Opened>,
}

/// The manager of the engine's connections.
pub(super) struct Turso {
    /// `None` once the pool is closed: then the file is free for others, whoever still has a handle to the pool.
    handle: Arc<Mutex<Option<Handle>>>,
    statement_cache: usize,
    changes: Arc<Changes>,
}

impl Manage for Turso {
    type Connection = Connection;
    type Error = Error;

    async fn connect(&self) -> Result<Connection> {
        let Handle { database, opened } = self.handle.with(|handle| handle.clone()).ok_or(Error::Closed)?;
        let room = opened.shared.schema.room();
        let raw = await_with_room(room, engine(async { database.connect() })).await;
        if raw.as_ref().is_err_and(Error::is_io) {
            opened.shared.leaves_a_lock();
        }
        drop(database);
        let mut connection = Connection::new(raw?, self.statement_cache, opened, Arc::clone(&self.changes));
        for pragma in PRAGMAS {
            connection.run_as_is(pragma).await?;
        }
        connection.doing().forget();
        Ok(connection)
    }

    fn is_reusable(&self, connection: &mut Connection) -> bool {
        // The next user is not told, nor told off for, what this one ran.
        connection.doing().forget();
        connection.is_given_back();
        connection.is_reusable()
    }

    async fn test(&self, connection: &mut Connection) -> Result<()> {
        connection.run_as_is("SELECT 1").await
    }

    fn activity(&self, connection: &Connection) -> Option<Arc<dyn Activity>> {
        Some(Arc::clone(connection.doing()) as Arc<dyn Activity>)
    }
}
