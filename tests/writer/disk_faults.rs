//! The writer on a disk that fails: whoever was told that a write is committed finds it, whatever happens later.
//!
//! `disk` is the disk, `ledger` who was told what and the oracle over it, `story` the writers, `sweep` every single call
//! that fails in turn, `controls` what shows that the oracle can fail.

mod controls;
mod disk;
mod ledger;
mod story;
mod sweep;

use std::io::ErrorKind::{self, Other, StorageFull};

use disk::{Call, Fault, Style, Which};
use ledger::Told;
use poolproof::{Error, Mode, WriterConfig};
use story::{Story, Write, with_checkpoints, without_checkpoints};

/// The ways in which the disk refuses a commit.
const REFUSALS: [(Call, Style, ErrorKind); 9] = [
    (Call::Sync, Style::Inline, Other),
    (Call::Sync, Style::Inline, StorageFull),
    (Call::Sync, Style::Completion, Other),
    (Call::Write, Style::Inline, Other),
    (Call::Write, Style::Inline, StorageFull),
    (Call::Write, Style::HalfWay, Other),
    (Call::Write, Style::HalfWay, StorageFull),
    (Call::Write, Style::Completion, Other),
    (Call::Write, Style::Completion, StorageFull),
];

fn refusals() -> impl Iterator<Item = Fault> {
    REFUSALS.into_iter().map(|(call, style, kind)| Fault { which: Which::Log, call, after: 0, times: 1, style, kind })
}

/// Whether the disk says, of a write to the log, that it is full. By a completion it can say nothing but that it failed: the
/// engine keeps no more of it.
fn is_full(fault: Fault) -> bool {
    (fault.call, fault.kind) == (Call::Write, StorageFull) && fault.style != Style::Completion
}

#[tokio::test]
async fn a_batch_whose_commit_the_disk_refuses_has_no_effect_and_the_lane_goes_on() {
    let mut looked = 0;
    for fault in refusals() {
        let mut story = Story::begin(without_checkpoints()).await;
        story.write(Write::Statement, 100, None).await.unwrap();
        let outcomes = story.together(5, 3000, Some(fault)).await;
        assert_eq!(story.disk.is_mended(), 1, "{fault:?}");
        // A disk that says it is full has certainly not written the last page, the one that commits: all are made again, each
        // by itself, for some of them may find room.
        let told = if is_full(fault) { Told::Committed } else { Told::RolledBack };
        for outcome in &outcomes {
            assert_eq!(Told::of(outcome), told, "{fault:?}: {outcome:?}");
        }
        let status = story.db.status();
        assert!(!status.wal.in_doubt && status.warning().is_none(), "{fault:?}: {status:?}");
        story.is_seen().await.unwrap_or_else(|wrong| panic!("{fault:?}: {wrong}"));
        looked += story.holds().await.unwrap_or_else(|wrong| panic!("{fault:?}: {wrong}"));
        for write in [Write::Statement, Write::Closure] {
            story.write(write, 3000, None).await.unwrap();
        }
        looked += story.holds().await.unwrap_or_else(|wrong| panic!("{fault:?}, and later: {wrong}"));
    }
    println!("{looked} disks");
}

#[tokio::test]
async fn a_write_by_itself_whose_commit_the_disk_refuses_has_no_effect_and_the_lane_goes_on() {
    let mut looked = 0;
    for (fault, write) in refusals().flat_map(|fault| [(fault, Write::Statement), (fault, Write::Closure)]) {
        let what = format!("{write:?}, {fault:?}");
        let mut story = Story::begin(without_checkpoints()).await;
        story.write(write, 100, None).await.unwrap();
        let outcome = story.write(write, 3000, Some(fault)).await;
        assert_eq!(story.disk.is_mended(), 1, "{what}");
        assert_eq!(Told::of(&outcome), Told::RolledBack, "{what}: {outcome:?}");
        assert!(!story.db.status().wal.in_doubt, "{what}");
        story.is_seen().await.unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        looked += story.holds().await.unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        story.write(write, 3000, None).await.unwrap();
        looked += story.holds().await.unwrap_or_else(|wrong| panic!("{what}, and later: {wrong}"));
    }
    println!("{looked} disks");
}

#[test]
fn whichever_call_fails_everybody_finds_what_they_were_told() {
    let swept = sweep::all(sweep::EVERYDAY, sweep::KINDS);
    println!("{swept}");
    for (which, call) in [
        (Which::Log, Call::Write),
        (Which::Log, Call::Sync),
        (Which::Database, Call::Write),
        (Which::Database, Call::Sync),
    ] {
        let runs = swept.runs_of(which, call);
        assert!(runs >= 5, "{runs} runs in which a {call:?} of the {which:?} failed");
    }
    for told in [Told::Committed, Told::RolledBack, Told::Unknown] {
        assert!(swept.told(told) > 0, "nobody was told {told:?}");
    }
}

/// A commit of so many pages that the engine makes a checkpoint inside it.
#[test]
fn whichever_call_fails_in_the_engines_own_checkpoint_everybody_finds_what_they_were_told() {
    let swept = sweep::all(sweep::LARGE, sweep::OF_A_CHECKPOINT);
    println!("{swept}");
    assert!(swept.runs_of(Which::Database, Call::Sync) > 0, "the engine made none");
}

#[tokio::test]
async fn while_the_disk_keeps_failing_nothing_is_written_and_reads_go_on() {
    for style in [Style::Inline, Style::Completion] {
        let mut story = Story::begin(without_checkpoints()).await;
        story.write(Write::Statement, 100, None).await.unwrap();
        // The commit, its repair, and the repairs that the next two writes wait for.
        let fault = Fault { which: Which::Log, call: Call::Sync, after: 0, times: 4, style, kind: Other };
        let first = story.write(Write::Closure, 3000, Some(fault)).await;
        assert_eq!(Told::of(&first), Told::Unknown, "{first:?}");
        for write in [Write::Statement, Write::Closure] {
            let status = story.db.status();
            let warning = status.warning().expect("a warning");
            assert!(status.wal.in_doubt && warning.contains("nothing is written"), "{warning}: {status:?}");
            story.is_seen().await.unwrap();
            story.holds_in_doubt().await.unwrap_or_else(|wrong| panic!("{style:?}: {wrong}"));
            let refused = story.write(write, 100, None).await;
            assert_eq!(Told::of(&refused), Told::RolledBack, "{refused:?}");
        }
        assert_eq!(story.disk.failed(), 4, "each of them tried to repair it, once");
        story.holds().await.unwrap_or_else(|wrong| panic!("{style:?}: {wrong}"));
        story.write(Write::Statement, 100, None).await.unwrap();
        let status = story.db.status();
        assert!(!status.wal.in_doubt && status.warning().is_none(), "{status:?}");
        story.is_seen().await.unwrap();
        story.holds().await.unwrap_or_else(|wrong| panic!("{style:?}, mended: {wrong}"));
    }
}

#[tokio::test]
async fn those_who_share_a_commit_of_which_nobody_knows_are_all_told_so() {
    let mut story = Story::begin(without_checkpoints()).await;
    let (which, call, style) = (Which::Log, Call::Sync, Style::Inline);
    let fault = Fault { which, call, after: 0, times: 2, style, kind: Other };
    for outcome in story.together(5, 100, Some(fault)).await {
        assert_eq!(Told::of(&outcome), Told::Unknown, "{outcome:?}");
    }
    story.holds_in_doubt().await.unwrap_or_else(|wrong| panic!("{wrong}"));
    story.write(Write::Closure, 100, None).await.unwrap();
    story.holds().await.unwrap_or_else(|wrong| panic!("mended: {wrong}"));
}

#[tokio::test]
async fn a_checkpoint_that_fails_loses_nothing_and_is_made_again() {
    for (call, style, is_lent) in [
        (Call::Sync, Style::Inline),
        (Call::Sync, Style::Completion),
        (Call::Write, Style::Inline),
        (Call::Write, Style::HalfWay),
        (Call::Write, Style::Completion),
    ]
    .into_iter()
    // Who has a connection and does not read is not taken for what is in the way.
    .flat_map(|(call, style)| [(call, style, false), (call, style, true)])
    {
        let what = format!("{call:?}, {style:?}, {}", if is_lent { "beside one who rests" } else { "alone" });
        let mut story = Story::begin(with_checkpoints()).await;
        story.checkpoint().await;
        let mut rests = None;
        if is_lent {
            let mut guard = story.db.pool().get().await.unwrap();
            guard.query("SELECT 1", ()).await.unwrap().next().await.unwrap();
            rests = Some(guard);
        }
        story.disk.fails(Fault { which: Which::Database, call, after: 0, times: usize::MAX, style, kind: Other });
        for _ in 0..20 {
            story.write(Write::Statement, 1500, None).await.unwrap();
        }
        let checkpoints = story.db.status().wal.checkpoints;
        story.checkpoint().await;
        let wal = story.db.status().wal;
        assert!(wal.failed_checkpoints > 0 && wal.checkpoints == checkpoints, "{what}: {wal:?}");
        assert_eq!(story.db.status().warning().filter(|told| told.contains("reader")), None, "{what}");
        drop(rests);
        story.write(Write::Closure, 1500, None).await.unwrap();
        story.is_seen().await.unwrap();
        story.holds().await.unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        assert!(story.disk.is_mended() > 0, "{what}");
        story.checkpoint().await;
        let wal = story.db.status().wal;
        assert!(wal.checkpoints > checkpoints && wal.pinned_pages == 0, "{what}: {wal:?}");
        story.holds().await.unwrap_or_else(|wrong| panic!("{what}, mended: {wrong}"));
        // It begins the log anew.
        story.write(Write::Closure, 1500, None).await.unwrap();
        story.holds().await.unwrap_or_else(|wrong| panic!("{what}, in a new log: {wrong}"));
    }
}

/// Pages of whoever writes past the lane may be lost by that, though its own sync succeeds: see FINDINGS.md.
#[tokio::test]
async fn a_log_whose_copy_fails_beside_one_who_writes_is_left_behind_before_anything_else_is_acknowledged() {
    let fault =
        Fault { which: Which::Database, call: Call::Sync, after: 0, times: 1, style: Style::Completion, kind: Other };
    let [short, idle] = [100, 200].map(std::time::Duration::from_millis);
    for writes_meanwhile in [false, true] {
        let config = WriterConfig { retry_timeout: short, checkpoint_idle: idle, ..with_checkpoints() };
        let mut story = Story::begin(config).await;
        story.write(Write::Statement, 100, None).await.unwrap();
        let mut guard = story.db.pool().get().await.unwrap();
        if writes_meanwhile {
            guard.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        }
        story.disk.fails(fault);
        while story.db.status().wal.failed_checkpoints == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(story.disk.is_mended(), 1);
        // The control: where nobody could have written, there is nothing to lose.
        assert_eq!(story.db.status().wal.in_doubt, writes_meanwhile);
        if writes_meanwhile {
            guard.execute("ROLLBACK", ()).await.unwrap();
        }
        // A reader keeps the log from starting over, and so keeps whoever would be acknowledged.
        guard.execute("BEGIN", ()).await.unwrap();
        guard.query("SELECT COUNT(*) FROM t", ()).await.unwrap().next().await.unwrap();
        let written = story.write(Write::Statement, 100, None).await;
        match &written {
            Err(error) => assert!(writes_meanwhile && error.is_contention(), "{error:?}"),
            Ok(_) => assert!(!writes_meanwhile, "it is acknowledged behind what may be lost"),
        }
        guard.execute("COMMIT", ()).await.unwrap();
        drop(guard);
        story.write(Write::Closure, 100, None).await.unwrap();
        assert!(!story.db.status().wal.in_doubt);
        story.holds().await.unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// The second of two finds what the first wrote, and fails for that; then neither is there.
#[tokio::test]
async fn whoever_failed_for_what_a_neighbour_wrote_is_not_told_so_if_that_is_gone() {
    let story = Story::begin(without_checkpoints()).await;
    let db = &story.db;
    db.execute("CREATE TABLE u (x INTEGER UNIQUE)", ()).await.unwrap();
    // From now on it is known to fail, and does so beside others.
    db.execute("INSERT INTO u VALUES (1)", ()).await.unwrap();
    db.execute("INSERT INTO u VALUES (1)", ()).await.unwrap_err();
    db.execute("DELETE FROM u", ()).await.unwrap();
    let (disk, all) = (story.disk.clone(), db.clone());
    let waits = db.write(async move |_| {
        while all.status().queued < 2 {
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(())
    });
    let sync = Fault { which: Which::Log, call: Call::Sync, after: 0, times: 1, style: Style::Inline, kind: Other };
    let first = db.write(async move |tx| {
        disk.fails(sync);
        tx.execute("INSERT INTO u VALUES (1)", ()).await
    });
    let second = db.execute("INSERT INTO u VALUES (1)", ());
    let (waits, first, second) = tokio::join!(waits, first, second);
    // Shares their commit, or not.
    let _: Result<poolproof::Ack<()>, Error> = waits;
    let (first, second) = (first.map(drop).unwrap_err(), second.unwrap_err());
    for error in [&first, &second] {
        assert!(matches!(error, Error::RolledBack { .. }) && error.constraint().is_none(), "{error}");
    }
    assert_eq!(db.execute("INSERT INTO u VALUES (1)", ()).await.unwrap().value, 1);
}

/// In MVCC mode nothing is repaired: whoever meets the fault is told that nobody knows, and readers find it whole or not.
#[tokio::test]
async fn in_mvcc_mode_a_commit_that_the_disk_refuses_is_told_to_be_unknown() {
    for (style, write) in [Style::Inline, Style::Completion]
        .into_iter()
        .flat_map(|style| [(style, Write::Statement), (style, Write::Closure)])
    {
        let what = format!("{style:?}, {write:?}");
        let mut story = Story::begin(WriterConfig { mode: Mode::Mvcc, ..WriterConfig::default() }).await;
        story.write(write, 100, None).await.unwrap();
        // Its log is not the one of the lane.
        let sync = Fault { which: Which::Database, call: Call::Sync, after: 0, times: 1, style, kind: Other };
        let outcome = story.write(write, 100, Some(sync)).await;
        assert_eq!(story.disk.is_mended(), 1, "{what}");
        assert_eq!(Told::of(&outcome), Told::Unknown, "{what}: {outcome:?}");
        story.is_seen().await.unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        story.write(write, 100, None).await.unwrap_or_else(|error| panic!("{what}: it does not go on: {error}"));
        story.is_seen().await.unwrap_or_else(|wrong| panic!("{what}, mended: {wrong}"));
        let status = story.db.status();
        assert_eq!((status.unknown, status.committed, status.pool.in_use), (1, 4, 0), "{what}: {status:?}");
    }
}
