//! What is in a file that a killed process left: as the engine sees it, and as SQLite does.

use std::fs;
use std::io;
use std::path::Path;

use super::block_on;
use super::judge::View;
use crate::error::Error;
use crate::pool::ConnectionPool;
use crate::pool::file::wal_of;

const PIECES: &str = "SELECT write_id, part, content FROM pieces ORDER BY write_id, part, rowid";
const TALLY: &str = "SELECT written FROM tally";
const INTEGRITY: &str = "PRAGMA integrity_check";

/// Opens the file with the pool, which recovers what the log holds, and reads all of it.
pub(super) fn by_engine(path: &Path) -> Result<View, Error> {
    block_on(async {
        let pool = ConnectionPool::builder(path).max_connections(1).build().await?;
        let mut guard = pool.get().await?;
        let mut view = View::default();
        let mut rows = guard.query(PIECES, ()).await?;
        while let Some(row) = rows.next().await? {
            view.pieces.entry(row.get(0)?).or_default().push((row.get(1)?, row.get(2)?));
        }
        drop(rows);
        let mut rows = guard.query(TALLY, ()).await?;
        while let Some(row) = rows.next().await? {
            view.tally += row.get::<i64>(0)?;
        }
        drop(rows);
        let mut rows = guard.query(INTEGRITY, ()).await?;
        while let Some(row) = rows.next().await? {
            add_line(&mut view.integrity, &row.get::<String>(0)?);
        }
        drop(rows);
        drop(guard);
        pool.close().await;
        Ok(view)
    })
}

/// The same by SQLite. It recovers and empties the log, so ask it of a copy.
pub(super) fn by_sqlite(path: &Path) -> Result<View, rusqlite::Error> {
    let sqlite = rusqlite::Connection::open(path)?;
    let mut view = View::default();
    let mut statement = sqlite.prepare(PIECES)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        view.pieces.entry(row.get(0)?).or_default().push((row.get(1)?, row.get(2)?));
    }
    view.tally = sqlite.query_row(TALLY, (), |row| row.get(0))?;
    let mut statement = sqlite.prepare(INTEGRITY)?;
    for line in statement.query_map((), |row| row.get::<_, String>(0))? {
        add_line(&mut view.integrity, &line?);
    }
    Ok(view)
}

fn add_line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push_str("; ");
    }
    text.push_str(line);
}

/// Copies a database and its log to where nobody else looks.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    match fs::copy(wal_of(from), wal_of(to)) {
        Ok(_) => Ok(()),
        // A file whose log was emptied and removed needs none; an older copy's must not stay.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::remove_file(wal_of(to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Err(error) => Err(error),
    }
}
