//! The engine's file: made for a scenario, and read after it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Files of this process that are open in `folder`.
pub fn open_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let targets = descriptors.flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    targets.filter(|target| target.starts_with(folder)).collect()
}

/// How many rows of `t` SQLite sees, in a file that is sound and in which as many rows of `later` and `others` are as
/// somebody was told.
pub fn read_by_sqlite(path: &Path, later: i64, others: i64) -> Result<i64, String> {
    let read = || {
        let sqlite = rusqlite::Connection::open(path)?;
        let soundness: String = sqlite.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
        let count = |table: &str| sqlite.query_row(&format!("SELECT COUNT(*) FROM {table}"), (), |row| row.get(0));
        Ok((soundness, count("t")?, (count("later")?, count("others")?)))
    };
    let (soundness, rows, found): (String, i64, (i64, i64)) =
        read().map_err(|error: rusqlite::Error| error.to_string())?;
    ensure!(soundness == "ok", "{soundness}");
    let told = (later, others);
    ensure!(found == told, "{told:?} rows were acknowledged, and {found:?} are there");
    Ok(rows)
}

/// A database of the tables that the scenarios use, and the folder that it is alone in.
pub fn database() -> (TempDir, PathBuf) {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let file = FILE.get_or_init(|| {
        let tables = "CREATE TABLE t (x, text); CREATE TABLE seed (x, text);
                      CREATE TABLE others (x); CREATE TABLE later (x);
                      INSERT INTO seed WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300)
                      SELECT x, printf('%.200c', 'x') FROM n;";
        let template = path.with_extension("template");
        rusqlite::Connection::open(&template).unwrap().execute_batch(tables).unwrap();
        std::fs::read(template).unwrap()
    });
    std::fs::write(&path, file).unwrap();
    (folder, path)
}
