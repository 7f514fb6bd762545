//! The engines that are asked the same: the one that the library pools, and SQLite.

use rusqlite::types::ValueRef;
use turso::Value;

use super::oracle::Engine;
use super::table::{rows, shown};
use super::{memory, name};

const FOREIGN_KEYS: &str = "PRAGMA foreign_keys = ON";

/// The engine that the library pools, on a database in memory.
pub(super) struct Bare {
    database: turso::Database,
    pub(super) connection: turso::Connection,
    mvcc: bool,
}

impl Bare {
    /// # Panics
    /// If the engine opens no new database.
    pub(super) async fn open(mvcc: bool) -> Self {
        let built = turso::Builder::new_local(&name()).with_io_impl(memory()).build().await;
        let database = built.expect("the engine opens a new file");
        let connection = database.connect().expect("the engine connects");
        let mut bare = Self { database, connection, mvcc };
        bare.connect_anew().await;
        if mvcc {
            bare.rows("PRAGMA journal_mode = 'mvcc'", &[]).await.expect("the engine has that mode");
        }
        bare
    }
}

impl Engine for Bare {
    async fn rows(&self, sql: &str, params: &[Value]) -> Result<Vec<String>, String> {
        rows(&self.connection, sql, params.to_vec()).await.map_err(|error| error.to_string())
    }

    async fn execute(&self, sql: &str, params: &[Value]) -> Result<u64, String> {
        self.connection.execute(sql, params.to_vec()).await.map_err(|error| error.to_string())
    }

    fn begin_beside(&self) -> &'static str {
        if self.mvcc { "BEGIN CONCURRENT" } else { "BEGIN IMMEDIATE" }
    }

    fn is_autocommit(&self) -> bool {
        self.connection.is_autocommit().unwrap_or(true)
    }

    async fn connect_anew(&mut self) {
        self.connection = self.database.connect().expect("the engine connects");
        self.execute(FOREIGN_KEYS, &[]).await.expect("the engine knows this");
    }
}

/// SQLite, on a file of its own.
pub(super) struct Sqlite {
    connection: rusqlite::Connection,
    folder: tempfile::TempDir,
}

impl Sqlite {
    /// # Panics
    /// If there is no room for a file.
    pub(super) async fn open() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a file");
        let connection = rusqlite::Connection::open_in_memory().expect("SQLite opens a database in memory");
        let mut sqlite = Self { connection, folder };
        sqlite.connect_anew().await;
        sqlite
    }
}

impl Engine for Sqlite {
    async fn rows(&self, sql: &str, params: &[Value]) -> Result<Vec<String>, String> {
        let mut statement = self.connection.prepare(sql).map_err(|error| error.to_string())?;
        let columns = statement.column_count();
        let params = rusqlite::params_from_iter(params.iter().map(of_turso));
        let found = statement.query_map(params, |row| {
            let values: rusqlite::Result<Vec<Value>> = (0..columns).map(|at| row.get_ref(at).map(to_turso)).collect();
            Ok(shown(values?))
        });
        found.and_then(Iterator::collect).map_err(|error| error.to_string())
    }

    async fn execute(&self, sql: &str, params: &[Value]) -> Result<u64, String> {
        let params = rusqlite::params_from_iter(params.iter().map(of_turso));
        // Of what changes no rows it says what the statement before it changed.
        let before = self.connection.total_changes();
        let changed = self.connection.execute(sql, params).map_err(|error| error.to_string())?;
        Ok(if self.connection.total_changes() == before { 0 } else { changed as u64 })
    }

    fn begin_beside(&self) -> &'static str {
        "BEGIN IMMEDIATE"
    }

    fn is_autocommit(&self) -> bool {
        self.connection.is_autocommit()
    }

    async fn connect_anew(&mut self) {
        let file = self.folder.path().join("sqlite.db");
        self.connection = rusqlite::Connection::open(file).expect("SQLite opens a file of its own");
        let settings = format!("{FOREIGN_KEYS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
        self.connection.execute_batch(&settings).expect("SQLite knows these");
    }
}

fn of_turso(value: &Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(letters) => letters.clone().into(),
        Value::Blob(bytes) => bytes.clone().into(),
    }
}

fn to_turso(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(letters) => Value::Text(String::from_utf8_lossy(letters).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
