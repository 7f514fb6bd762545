//! Opening a database: what a pool of its connections is made of, and how each is set up.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::config::PoolConfig;
use super::connection::Connection;
use super::database::ConnectionPool;
use super::engine::engine;
use super::generic::Pool;
use super::hooks::Hooks;
use super::manage::{Activity, Manage};
use super::statements::Schema;
use crate::changes::Changes;
use crate::error::{Error, Result};

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

    /// How many prepared statements each connection keeps, the least recently used making room. 64 unless set; 0 for none.
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.statement_cache = statements;
        self
    }

    /// How the engine reaches its files, instead of the operating system's calls: a disk that fails on purpose, for example.
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
        let Some(name) = self.path.to_str() else {
            let problem = "its name is not UTF-8, which the engine needs; rename it".to_owned();
            return Err(Error::Open { path: self.path, problem });
        };
        let failed = |error: &turso::Error| match &self.io {
            None => Error::open(&self.path, error),
            Some(_) => Error::open_elsewhere(&self.path, error),
        };
        let mut builder = turso::Builder::new_local(name);
        if let Some(Io(io)) = &self.io {
            builder = builder.with_io_impl(Arc::clone(io));
        }
        let database = builder.build().await.map_err(|error| failed(&error))?;
        let changes = Changes::of(&self.path);
        let turso = Turso {
            database,
            statement_cache: self.statement_cache,
            schema: Arc::default(),
            changes: Arc::clone(&changes),
            stray: Arc::default(),
        };
        match turso.connect().await {
            Ok(mut connection) => match connection.run("SELECT COUNT(*) FROM sqlite_schema").await {
                Ok(()) => {}
                Err(Error::Engine(error)) => return Err(failed(&error)),
                Err(error) => return Err(error),
            },
            Err(Error::Engine(error)) => return Err(failed(&error)),
            Err(error) => return Err(error),
        }
        let mut config = self.config;
        config.name = config.name.or_else(|| Some(self.path.file_name()?.to_string_lossy().into_owned()));
        let pool = Pool::with_hooks(turso, config, self.hooks.then(Connection::keep_changes))?;
        Ok(ConnectionPool {
            pool,
            path: self.path,
            is_of_a_file: self.io.is_none(),
            has_lane: Arc::default(),
            #[cfg(feature = "cache")]
            changes,
        })
    }
}

/// The manager of the engine's connections.
pub(super) struct Turso {
    database: turso::Database,
    statement_cache: usize,
    schema: Arc<Schema>,
    changes: Arc<Changes>,
    stray: Arc<AtomicBool>,
}

impl Manage for Turso {
    type Connection = Connection;
    type Error = Error;

    async fn connect(&self) -> Result<Connection> {
        let (schema, changes) = (Arc::clone(&self.schema), Arc::clone(&self.changes));
        let raw = engine(async { self.database.connect() }).await;
        if raw.as_ref().is_err_and(Error::is_io) {
            self.stray.store(true, Ordering::Relaxed);
        }
        let mut connection = Connection::new(raw?, self.statement_cache, schema, changes, Arc::clone(&self.stray));
        for pragma in PRAGMAS {
            connection.run_as_is(pragma).await?;
        }
        connection.doing().forget();
        Ok(connection)
    }

    fn is_reusable(&self, connection: &mut Connection) -> bool {
        // The next user is not told, nor told off for, what this one ran.
        connection.doing().forget();
        connection.is_reusable()
    }

    async fn test(&self, connection: &mut Connection) -> Result<()> {
        connection.run_as_is("SELECT 1").await
    }

    fn activity(&self, connection: &Connection) -> Option<Arc<dyn Activity>> {
        Some(Arc::clone(connection.doing()) as Arc<dyn Activity>)
    }
}
