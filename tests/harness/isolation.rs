//! Isolation on real threads and a real file, judged by a checker that was not written here.

use poolproof::harness::isolation::{Flaw, Judged, Level, Lists, Shape, judge};
use poolproof::{ConnectionPool, Mode, PooledDatabaseWriter, WriterConfig};
use tokio::runtime::Builder;

/// Runs the workload on a new file; its history in Elle's format, and how many transactions were committed.
fn history(lists: &Lists, mode: Mode) -> (String, usize) {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let pool = ConnectionPool::open(folder.path().join("lists.db")).await.unwrap();
        let config = WriterConfig { mode, cache: 1 << 20, ..WriterConfig::default() };
        let db = PooledDatabaseWriter::with_config(pool, config).await.unwrap();
        let history = lists.run(&db).await.unwrap();
        db.close().await;
        (history.to_json_lines(), history.committed())
    })
}

fn judged(lists: &Lists, mode: Mode, level: Level) -> Judged {
    let (history, committed) = history(lists, mode);
    let all = lists.processes as usize * lists.transactions as usize;
    assert!(committed * 2 > all, "{committed} of {all} were committed: the history shows too little");
    judge(&history, Shape::ListAppend, level).unwrap()
}

#[test]
fn the_lane_snapshots_guards_and_the_cache_are_strict_serializable() {
    for seed in 0..3 {
        let lists = Lists { seed, transactions: 250, ..Lists::default() };
        assert_eq!(judged(&lists, Mode::Wal, Level::StrictSerializable), Judged::Holds, "seed {seed}");
    }
}

#[test]
fn mvcc_mode_keeps_snapshot_isolation_and_shows_write_skew() {
    let mut seen = false;
    for seed in 0..3 {
        let lists = Lists { seed, transactions: 250, ..Lists::default() };
        let (history, _) = history(&lists, Mode::Mvcc);
        let verdict = |level| judge(&history, Shape::ListAppend, level).unwrap();
        assert_eq!(verdict(Level::SnapshotIsolation), Judged::Holds, "seed {seed}");
        seen |= verdict(Level::Serializable) != Judged::Holds;
    }
    assert!(seen, "write skew is allowed there, and was never seen: the workload is too weak");
}

/// Each flaw is found by its first seeds.
#[test]
fn every_planted_flaw_is_found() {
    for flaw in Flaw::ALL {
        let found = (0..5).find_map(|seed| {
            let lists = Lists { seed, transactions: 100, flaw: Some(flaw), ..Lists::default() };
            let (history, _) = history(&lists, Mode::Wal);
            match judge(&history, Shape::ListAppend, Level::StrictSerializable).unwrap() {
                Judged::Violated { anomalies, proof } => Some((seed, anomalies, proof)),
                _ => None,
            }
        });
        let (seed, anomalies, proof) = found.unwrap_or_else(|| panic!("{flaw:?} is not found"));
        println!("{flaw:?}: seed {seed}: {}", anomalies.join(", "));
        assert!(!proof.is_empty(), "{flaw:?}");
    }
}
