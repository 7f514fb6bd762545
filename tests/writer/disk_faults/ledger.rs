//! Who was told what of which write, and whether a disk bears it out.
//!
//! Each write inserts [`ROWS`] rows under its own number. What was acknowledged is there, all of its rows and once; what was
//! rolled back is not; what is unknown is there wholly or not at all; nothing else is. Two engines say so, and that the
//! file is sound. The oracle returns what is wrong instead of panicking, so that the controls can ask what it says of a
//! database that loses commits.

use std::collections::BTreeMap;

use poolproof::{Error, Result};

use super::disk::{Disk, Survives};

/// Rows of each write.
pub const ROWS: i64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Committed,
    RolledBack,
    Unknown,
}

impl Told {
    pub fn of<T>(outcome: &Result<T>) -> Self {
        match outcome {
            Ok(_) => Told::Committed,
            Err(Error::Unknown { .. }) => Told::Unknown,
            // A closure's own error means the same as this.
            Err(_) => Told::RolledBack,
        }
    }
}

/// What the callers were told, by the number of the write.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    told: BTreeMap<i64, Told>,
}

pub type Found = BTreeMap<i64, i64>;

impl Ledger {
    /// The number for the next write. Until it is told anything, it may be there or not.
    pub fn next(&mut self) -> i64 {
        let number = self.told.len() as i64;
        self.told.insert(number, Told::Unknown);
        number
    }

    pub fn told(&mut self, number: i64, told: Told) {
        self.told.insert(number, told);
    }

    pub fn count(&self, told: Told) -> usize {
        self.told.values().filter(|this| **this == told).count()
    }

    /// Whether that was found which may be.
    pub fn bears_out(&self, found: &Found) -> Result<(), String> {
        for (number, told) in &self.told {
            let rows = found.get(number).copied().unwrap_or(0);
            let right = match told {
                Told::Committed => rows == ROWS,
                Told::RolledBack => rows == 0,
                Told::Unknown => rows == ROWS || rows == 0,
            };
            if !right {
                return Err(format!("write {number} was told {told:?}, and has {rows} of its {ROWS} rows"));
            }
        }
        match found.keys().find(|number| !self.told.contains_key(number)) {
            Some(number) => Err(format!("there are rows of {number}, which nobody wrote")),
            None => Ok(()),
        }
    }

    /// Whether the database bears the ledger out after a power failure at this moment, whatever it takes. How many ways
    /// were tried.
    pub async fn survives_power_failure(&self, disk: &Disk) -> Result<usize, String> {
        for survives in Survives::ALL {
            let wrong = |wrong| format!("after a power failure that {survives:?} survives: {wrong}");
            self.is_borne_out_after(disk, survives).await.map_err(wrong)?;
        }
        Ok(Survives::ALL.len())
    }

    /// The same for one of the ways.
    pub async fn is_borne_out_after(&self, disk: &Disk, survives: Survives) -> Result<(), String> {
        let by_turso = read_by_turso(&disk.after_power_failure(survives)).await?;
        // The same disk again: the first reader may have checkpointed.
        let by_sqlite = read_by_sqlite(&disk.after_power_failure(survives))?;
        if by_turso != by_sqlite {
            return Err(format!("Turso finds {by_turso:?}, and SQLite {by_sqlite:?}"));
        }
        self.bears_out(&by_turso)
    }
}

pub const COUNTS: &str = "SELECT number, COUNT(*) FROM t GROUP BY number";

async fn read_by_turso(disk: &Disk) -> Result<Found, String> {
    let read = async || -> turso::Result<(String, Found)> {
        let database = turso::Builder::new_local(disk.path().to_str().unwrap()).build().await?;
        let connection = database.connect()?;
        let mut rows = connection.query("PRAGMA integrity_check", ()).await?;
        let soundness = rows.next().await?.expect("a row").get(0)?;
        drop(rows);
        let (mut found, mut rows) = (Found::new(), connection.query(COUNTS, ()).await?);
        while let Some(row) = rows.next().await? {
            found.insert(row.get(0)?, row.get(1)?);
        }
        Ok((soundness, found))
    };
    sound(read().await.map_err(|error| format!("Turso: {error}"))?, "Turso")
}

fn read_by_sqlite(disk: &Disk) -> Result<Found, String> {
    let read = || -> rusqlite::Result<(String, Found)> {
        let connection = rusqlite::Connection::open(disk.path())?;
        // It checkpoints when it closes, and nobody looks at this copy again.
        connection.execute_batch("PRAGMA synchronous = OFF")?;
        let soundness = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
        let mut counts = connection.prepare(COUNTS)?;
        let found = counts.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<Found>>()?;
        Ok((soundness, found))
    };
    sound(read().map_err(|error| format!("SQLite: {error}"))?, "SQLite")
}

fn sound((soundness, found): (String, Found), engine: &str) -> Result<Found, String> {
    match soundness.as_str() {
        "ok" => Ok(found),
        wrong => Err(format!("{engine} says of the file: {wrong}")),
    }
}
