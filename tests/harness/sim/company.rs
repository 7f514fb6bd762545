//! Who shares a commit. Who is answered writes again at once, and the lane waits for that: callers in a loop share every
//! commit, and do not split into two halves that take turns. And a transaction that takes long keeps nobody who came before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolproof::harness::sim::{Faults, Sim};
use poolproof::{Error, PooledDatabaseWriter};
use tokio::time::Instant;

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

/// How long a transaction waits for something else.
const LONG: Duration = Duration::from_secs(1);

/// The longest that a short write takes, of some beside one transaction after the other.
fn longest(transactions: bool) -> Duration {
    let longest = Mutex::new(Duration::ZERO);
    Sim::new().seeds(0..SEEDS).faults(Faults { latency: 1_000_000, ..Faults::NONE }).check(async |world| {
        prepares(&world).await?;
        let db = world.open(NOTES).await.map_err(|error| error.to_string())?;
        let long = transactions.then(|| world.spawn("transactions", waits(db.clone())));
        let took = Arc::new(Mutex::new(Duration::ZERO));
        each(&world, 3, |client| times(db.clone(), client, Arc::clone(&took)))
            .await
            .map_err(|error| error.to_string())?;
        if let Some(long) = long {
            long.await.expect("it does not panic").map_err(|error| error.to_string())?;
        }
        db.close().await;
        let (mut longest, took) = (longest.lock().unwrap(), took.lock().unwrap());
        *longest = longest.max(*took);
        Ok::<_, String>(())
    });
    longest.into_inner().unwrap()
}

/// Short writes; `longest` becomes what the longest of them took. How long transactions take is learnt from the first.
async fn times(db: PooledDatabaseWriter, client: i64, longest: Arc<Mutex<Duration>>) -> Result<(), Error> {
    for round in 0..ROUNDS {
        let began = Instant::now();
        db.execute(NOTE, (client,)).await?;
        if round > 4 {
            let mut longest = longest.lock().unwrap();
            *longest = longest.max(began.elapsed());
        }
    }
    Ok(())
}

/// Writes by transactions that wait in the middle.
async fn waits(db: PooledDatabaseWriter) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        db.write(async |tx| {
            tx.execute(NOTE, (0,)).await?;
            tokio::time::sleep(LONG).await;
            Ok::<_, Error>(())
        })
        .await?;
    }
    Ok(())
}

#[test]
fn a_short_write_waits_for_the_rest_of_one_long_transaction_and_not_for_another() {
    let (beside_long, without) = (longest(true), longest(false));
    println!("the longest of a short write: {beside_long:?}, without long ones {without:?}");
    assert!(without < LONG / 2, "{without:?}: commits by themselves take too long to tell");
    assert!(beside_long > LONG / 2, "{beside_long:?}: none came while a long one ran, the check cannot tell");
    assert!(beside_long < LONG * 3 / 2, "{beside_long:?}");
}
