//! A lane that runs closures of others and dies of the first that panics: whoever comes next is told nothing.
//!
//! ```text
//! client-1                     lane                     client-2
//! its closure panics half-way
//!                              (is gone)
//!                                                       writes, and hears nothing
//! ```

use poolproof::harness::sim::World;
use poolproof::{Behavior, Error, PooledConnection, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::clients::{HALF, NOTE, NOTES, each, prepares};
use crate::hunt::Hunt;

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

async fn run(mut connection: PooledConnection, mut jobs: mpsc::Receiver<Job>, world: World, is_mortal: bool) {
    while let Some(job) = jobs.recv().await {
        let writes = async {
            let mut tx = connection.begin(Behavior::Immediate).await?;
            work(&mut tx, &world, &job).await?;
            tx.commit().await
        };
        let outcome = match is_mortal {
            true => Some(writes.await),
            false => world.catches(writes).await,
        };
        // Whoever does not wait any more need not know.
        let _ = job.reply.send(matches!(outcome, Some(Ok(()))));
    }
}

async fn two_write(world: World, is_mortal: bool) -> Result<(), String> {
    prepares(&world).await?;
    let opens = async { world.pool(NOTES).max_connections(1).build().await?.get().await };
    let connection = opens.await.map_err(|error: Error| error.to_string())?;
    let (queue, jobs) = mpsc::channel(1);
    let lane = world.spawn("lane", run(connection, jobs, world.clone(), is_mortal));
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

#[test]
fn a_lane_that_dies_of_a_closure_is_found() {
    Hunt::new("the mortal lane", &["write 1 is told Err", "write 2 is told Err"])
        .finds(async |world| two_write(world, true).await)
        .but_not(async |world| two_write(world, false).await);
}
