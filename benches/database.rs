//! The database that is written and read: a file of its own for each subject, all alike, on the disk that the benches were
//! built on (a temporary folder may be memory, where an fsync costs nothing).
//!
//! It is made by SQLite, in WAL mode. Every commit is durable (`synchronous = FULL`), and the automatic checkpoint is left as
//! each engine has it: after 1,000 pages of WAL.

use std::env;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Adds a row.
pub const INSERT: &str = "INSERT INTO entries (value) VALUES (?1)";
/// A row by its key.
pub const BY_KEY: &str = "SELECT value FROM entries WHERE id = ?1";
/// All rows.
pub const SCAN: &str = "SELECT SUM(value) FROM entries";

/// A database on disk, gone when dropped.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    _folder: TempDir,
}

impl Database {
    /// With `rows` rows, whose keys count from 1 and are their values too.
    #[must_use]
    pub fn new(rows: u64) -> Self {
        let program = env::current_exe().expect("this program is somewhere");
        let folder = tempfile::tempdir_in(program.parent().expect("in a folder")).expect("beside it is room");
        let path = folder.path().join("bench.db");
        fill(&path, rows).expect("SQLite can make a database");
        Self { path, _folder: folder }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn fill(path: &Path, rows: u64) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE entries (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)",
    )?;
    connection.execute(
        "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers)
         INSERT INTO entries SELECT number, number FROM numbers LIMIT ?1",
        [rows as i64],
    )?;
    connection.close().map_err(|(_, error)| error)
}

/// A connection of Turso's with nothing around it, set as the pool sets its own.
pub async fn connect(path: &Path) -> turso::Connection {
    let name = path.to_str().expect("a name in UTF-8");
    let database = turso::Builder::new_local(name).build().await.expect("the file opens");
    let connection = database.connect().expect("a connection");
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY").await.expect("it can be set");
    connection
}
