//! What must go wrong: without the lane's precautions acknowledged writes are lost, and the oracle says so.

use std::io::ErrorKind::Other;
use std::sync::Arc;

use poolproof::Result;
use turso::Connection;

use super::disk::{Call, Disk, Fault, Style, Survives, Which};
use super::ledger::{Ledger, ROWS, Told};
use super::story::{Story, Write, without_checkpoints};

const FAILS_ONCE: Fault =
    Fault { which: Which::Log, call: Call::Sync, after: 0, times: 1, style: Style::Inline, kind: Other };

/// The engine's own connection, as its users have it.
struct Raw {
    disk: Disk,
    connection: Connection,
    ledger: Ledger,
}

impl Raw {
    async fn open(disk: Disk, ledger: Ledger) -> Self {
        let builder = turso::Builder::new_local(disk.path().to_str().unwrap()).with_io_impl(Arc::new(disk.clone()));
        let connection = builder.build().await.unwrap().connect().unwrap();
        Self { disk, connection, ledger }
    }

    async fn begin() -> Self {
        let raw = Self::open(Disk::new(), Ledger::default()).await;
        raw.connection.execute("CREATE TABLE t (number INTEGER, row INTEGER, body BLOB)", ()).await.unwrap();
        raw
    }

    async fn write(&mut self, size: i64) -> Result<()> {
        let number = self.ledger.next();
        let sql = "INSERT INTO t VALUES (?1, 0, zeroblob(?2)), (?1, 1, zeroblob(?2))";
        let outcome = self.connection.execute(sql, (number, size)).await;
        self.ledger.told(number, if outcome.is_ok() { Told::Committed } else { Told::Unknown });
        outcome.map(|rows| assert_eq!(rows as i64, ROWS)).map_err(Into::into)
    }

    async fn checkpoint(&self, mode: &str) {
        let mut rows = self.connection.query(format!("PRAGMA wal_checkpoint({mode})"), ()).await.unwrap();
        while rows.next().await.unwrap().is_some() {}
    }
}

/// Why the lane repairs at once.
///
/// ```text
/// process A                 process B                   the log, by the page cache   on the disk
/// COMMIT 2; fsync fails                                 1 2                          1
/// ends                      opens: 2 is there           1 2                          1
///                           COMMIT 3, 4; fsync: Ok      1 2 3 4                      1 . 3 4
///                           the power fails             1                            1
/// ```
#[tokio::test]
async fn without_a_repair_a_commit_that_failed_takes_later_ones_with_it() {
    let mut raw = Raw::begin().await;
    raw.write(100).await.unwrap();
    raw.disk.fails(FAILS_ONCE);
    raw.write(3000).await.unwrap_err();
    let mut raw = Raw::open(raw.disk.after_process_end(), raw.ledger).await;
    for _ in 0..2 {
        raw.write(100).await.unwrap();
    }
    raw.ledger.is_borne_out_after(&raw.disk, Survives::Everything).await.unwrap();
    let wrong = raw.ledger.is_borne_out_after(&raw.disk, Survives::Nothing).await.unwrap_err();
    assert_eq!(wrong, "write 2 was told Committed, and has 0 of its 2 rows");
}

/// Why the lane never truncates or restarts the log by a checkpoint: the engine forgets the log before the database is
/// synced.
#[tokio::test]
async fn a_checkpoint_that_truncates_loses_what_was_acknowledged() {
    for (mode, loses) in [("PASSIVE", false), ("RESTART", true), ("TRUNCATE", true)] {
        let mut raw = Raw::begin().await;
        for _ in 0..20 {
            raw.write(1500).await.unwrap();
        }
        raw.disk.fails(Fault { which: Which::Database, ..FAILS_ONCE });
        raw.checkpoint(mode).await;
        assert_eq!(raw.disk.is_mended(), 1, "{mode}");
        raw.write(10).await.unwrap();
        let outcome = raw.ledger.is_borne_out_after(&raw.disk, Survives::Nothing).await;
        println!("{mode}: {outcome:?}");
        assert_eq!(outcome.is_err(), loses, "{mode}: {outcome:?}");
    }
}

#[tokio::test]
async fn without_syncs_acknowledged_writes_are_lost() {
    let mut raw = Raw::begin().await;
    raw.connection.execute("PRAGMA synchronous = OFF", ()).await.unwrap();
    raw.write(100).await.unwrap();
    raw.ledger.is_borne_out_after(&raw.disk, Survives::Nothing).await.unwrap_err();
}

#[tokio::test]
async fn a_disk_that_lies_about_its_syncs_loses_acknowledged_writes() {
    let mut story = Story::begin(without_checkpoints()).await;
    story.disk.lies();
    for write in [Write::Statement, Write::Closure] {
        story.write(write, 100, None).await.unwrap();
    }
    story.ledger.is_borne_out_after(&story.disk, Survives::Everything).await.unwrap();
    story.ledger.survives_power_failure(&story.disk).await.unwrap_err();
}
