//! Who is answered writes again at once, and the lane waits for that: callers in a loop share every commit, and do not split
//! into two halves that take turns.

use std::sync::atomic::{AtomicU64, Ordering};

use poolproof::harness::sim::{Faults, Sim};
use poolproof::{Error, PooledDatabaseWriter};

use super::clients::{NOTE, NOTES, each, prepares};

const CLIENTS: i64 = 8;
const ROUNDS: u64 = 20;
const SEEDS: u64 = 10;

/// The commits of all seeds, of as many rounds in which each client writes once.
fn commits(faults: Faults) -> u64 {
    let commits = AtomicU64::new(0);
    Sim::new().seeds(0..SEEDS).faults(faults).check(async |world| {
        prepares(&world).await?;
        let db = world.open(NOTES).await.map_err(|error| error.to_string())?;
        let before = db.status().commits;
        each(&world, CLIENTS, |client| writes(db.clone(), client)).await.map_err(|error| error.to_string())?;
        commits.fetch_add(db.status().commits - before, Ordering::Relaxed);
        db.close().await;
        Ok::<_, String>(())
    });
    commits.into_inner()
}

async fn writes(db: PooledDatabaseWriter, client: i64) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        db.execute(NOTE, (client,)).await?;
    }
    Ok(())
}

#[test]
fn callers_in_a_loop_share_every_commit() {
    let slow = commits(Faults { latency: 1_000_000, ..Faults::NONE });
    // The control: where a commit takes no time, nobody is waited for.
    let quick = commits(Faults::NONE);
    let rounds = ROUNDS * SEEDS;
    println!("{rounds} rounds of {CLIENTS} writes: {slow} commits, {quick} where a commit takes no time");
    assert!(slow <= rounds * 5 / 4, "{slow} commits in {rounds} rounds");
    assert!(quick >= rounds * 3 / 2, "{quick} commits in {rounds} rounds: the check cannot tell");
}
