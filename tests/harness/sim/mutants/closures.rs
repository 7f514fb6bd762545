//! Lanes that run closures of others, and what they make of one that panics: they die of it, and whoever comes next is told
//! nothing; or they commit what it had written by then.
//!
//! ```text
//! dies of it                     forgives it
//! (client-1's closure panics)    (client-1's closure panics half-way)
//! is gone                        COMMIT
//! (client-2 hears nothing)       tells client-1
//! ```

use poolproof::harness::sim::World;
use poolproof::{Behavior, Error, PooledConnection, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::sim::clients::{HALF, NOTE, NOTES, each, prepares};
use crate::sim::hunt::Hunt;

/// What is wrong with a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    Dies,
    Forgives,
}

struct Job {
    number: i64,
    panics: bool,
    /// Whether it is committed. Dropped if nobody knows.
    reply: oneshot::Sender<bool>,
}

/// What the client wants to be done.
async fn work(tx: &mut Transaction<'_>, world: &World, job: &Job) -> Result<(), Error> {
    if job.panics {
        tx.execute(HALF, (job.number,)).await?;
        world.panics();
    }
    tx.execute(NOTE, (job.number,)).await.map(drop)
}

async fn run(mut connection: PooledConnection, mut jobs: mpsc::Receiver<Job>, world: World, flaw: Flaw) {
    while let Some(job) = jobs.recv().await {
        let writes = async {
            let mut tx = connection.begin(Behavior::Immediate).await?;
            match flaw {
                Flaw::Forgives => drop(world.catches(work(&mut tx, &world, &job)).await),
                _ => work(&mut tx, &world, &job).await?,
            }
            tx.commit().await
        };
        let outcome = match flaw {
            Flaw::Dies => Some(writes.await),
            _ => world.catches(writes).await,
        };
        // Whoever does not wait any more need not know.
        let _ = job.reply.send(matches!(outcome, Some(Ok(()))));
    }
}

async fn two_write(world: World, flaw: Flaw) -> Result<(), String> {
    prepares(&world).await?;
    let opens = async { world.pool(NOTES).max_connections(1).build().await?.get().await };
    let connection = opens.await.map_err(|error: Error| error.to_string())?;
    let (queue, jobs) = mpsc::channel(1);
    let lane = world.spawn("lane", run(connection, jobs, world.clone(), flaw));
    let told = each(&world, 2, |number| {
        let queue = queue.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            let panics = number == 1;
            // Gone or not, the answer says it.
            let _ = queue.send(Job { number, panics, reply }).await;
            match answer.await {
                Ok(committed) if committed != panics => Ok(()),
                answer => Err(format!("write {number} is told {answer:?}")),
            }
        }
    })
    .await;
    drop(queue);
    let _ = lane.await;
    told
}

/// A flaw is found, and the lane without it passes.
fn hunt(name: &'static str, says: &'static [&'static str], flaw: Flaw) {
    Hunt::new(name, says)
        .finds(async |world| two_write(world, flaw).await)
        .but_not(async |world| two_write(world, Flaw::None).await);
}

#[test]
fn a_lane_that_dies_of_a_closure_is_found() {
    hunt("the mortal lane", &["write 1 is told Err", "write 2 is told Err"], Flaw::Dies);
}

#[test]
fn a_lane_that_commits_half_a_closure_is_found() {
    hunt("the forgiving lane", &["write 1 is told Ok(true)"], Flaw::Forgives);
}
