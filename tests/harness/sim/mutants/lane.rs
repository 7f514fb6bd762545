//! A lane of one's own, as it is written in an hour: a queue, and a task that writes what comes in, several jobs to a
//! commit. What is broken is broken in one place.
//!
//! ```text
//! acknowledges first    acknowledges all for a part    commits in pieces
//! BEGIN                 BEGIN                          BEGIN
//! 1 and 2               1                              half of 1
//! tells 1 and 2         COMMIT                         COMMIT
//! (power failure)       tells 1 and 2                  (power failure)
//!                       (power failure)
//! ```

use poolproof::harness::sim::{Ledger, World};
use poolproof::{Behavior, Error, PooledConnection, Result};
use tokio::sync::{mpsc, oneshot};

use crate::sim::clients::{HALF, NOTES, ROWS, agrees, each, prepares};
use crate::sim::hunt::Hunt;

/// What is wrong with a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Nothing.
    None,
    /// Clients are told before the commit.
    EarlyAck,
    /// A batch is committed in two parts, and everybody told after the first.
    PartOfABatch,
    /// A job's statements are committed each for itself.
    Pieces,
}

struct Job {
    number: u64,
    /// Dropped if nobody knows.
    reply: oneshot::Sender<()>,
}

/// Jobs in one commit, at most.
const BATCH: usize = 8;

async fn run(mut connection: PooledConnection, mut jobs: mpsc::Receiver<Job>, flaw: Flaw) {
    let mut batch = Vec::new();
    while jobs.recv_many(&mut batch, BATCH).await > 0 {
        // Whoever was not told by then is told nothing.
        let _ = one_batch(&mut connection, std::mem::take(&mut batch), flaw).await;
    }
}

async fn one_batch(connection: &mut PooledConnection, batch: Vec<Job>, flaw: Flaw) -> Result<()> {
    let (numbers, replies): (Vec<u64>, Vec<_>) = batch.into_iter().map(|job| (job.number, job.reply)).unzip();
    let tell = || {
        for reply in replies {
            // Whoever does not wait any more need not know.
            let _ = reply.send(());
        }
    };
    match flaw {
        Flaw::None => {
            commit(connection, &numbers, ROWS).await?;
            tell();
        }
        Flaw::EarlyAck => {
            tell();
            commit(connection, &numbers, ROWS).await?;
        }
        Flaw::PartOfABatch => {
            let (first, rest) = numbers.split_at(numbers.len().div_ceil(2));
            commit(connection, first, ROWS).await?;
            tell();
            commit(connection, rest, ROWS).await?;
        }
        Flaw::Pieces => {
            for _ in 0..ROWS {
                commit(connection, &numbers, 1).await?;
            }
            tell();
        }
    }
    Ok(())
}

/// So many rows of each of them.
async fn commit(connection: &mut PooledConnection, numbers: &[u64], rows: u64) -> Result<()> {
    let mut tx = connection.begin(Behavior::Immediate).await?;
    for number in numbers {
        for _ in 0..rows {
            tx.execute(HALF, (*number as i64,)).await?;
        }
    }
    tx.commit().await
}

/// Clients write, each once, until the power fails.
async fn writes(world: World, flaw: Flaw) -> Result<(), String> {
    prepares(&world).await?;
    let ledger = Ledger::default();
    // Whether it fails or not, what counts is what is there after it.
    let _ = world.until_crash(lives(&world, &ledger, flaw)).await;
    agrees(&world, &ledger).await
}

async fn lives(world: &World, ledger: &Ledger, flaw: Flaw) -> Result<()> {
    let pool = world.pool(NOTES).max_connections(1).build().await?;
    let (queue, jobs) = mpsc::channel(BATCH);
    let lane = world.spawn("lane", run(pool.get().await?, jobs, flaw));
    each(world, 3, |_| {
        let (world, ledger, queue) = (world.clone(), ledger.clone(), queue.clone());
        async move {
            let number = ledger.issue();
            let (reply, answer) = oneshot::channel();
            if queue.send(Job { number, reply }).await.is_ok() {
                let told = answer.await.ok().map(|()| Ok::<_, Error>(()));
                ledger.told(&world, number, told.as_ref());
            }
            Ok::<_, Error>(())
        }
    })
    .await?;
    drop(queue);
    let _ = lane.await;
    pool.close().await;
    Ok(())
}

const LOST: &str = "was acknowledged and is lost";

/// A flaw is found, and the lane without it passes.
fn hunt(name: &'static str, says: &'static [&'static str], flaw: Flaw) {
    Hunt::new(name, says)
        .faults("crash=50000")
        .finds(async |world| writes(world, flaw).await)
        .but_not(async |world| writes(world, Flaw::None).await);
}

#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    hunt("the early acknowledgement", &[LOST], Flaw::EarlyAck);
}

#[test]
fn an_acknowledgement_of_a_part_of_a_batch_is_found() {
    hunt("the part of a batch", &[LOST], Flaw::PartOfABatch);
}

#[test]
fn a_write_in_pieces_is_found() {
    hunt("the write in pieces", &["is there in part"], Flaw::Pieces);
}
