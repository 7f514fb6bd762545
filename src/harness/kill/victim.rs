//! The process that is going to be killed: many callers, each with one write after the other, and a line on stdout for each
//! write that was acknowledged.
//!
//! It ends by being killed, or when nobody reads its lines any more. Lines: `begin` before the file is opened, `ack ID` once
//! the writer has acknowledged that write, `error TEXT` for an error that nobody asked for. Each is one write to the pipe,
//! shorter than what a pipe takes whole, so a line that was begun is there to its end; what is in the pipe outlives the
//! process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use turso::core::LimboError;

use super::volatile::Volatile;
use super::work::{COUNT, INSERT, Write};
use super::{Subject, multi_threaded};
use crate::error::Error;
use crate::pool::{ConnectionPool, PRAGMAS};
use crate::writer::PooledDatabaseWriter;

/// Callers at once.
const CALLERS: i64 = 24;
/// Jobs that the controls' lane takes at once, as long as there are that many.
const BATCH: usize = 16;

/// What the child is told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Who writes.
    pub subject: Subject,
    /// The file, with its tables.
    pub database: PathBuf,
    /// Decides what is written.
    pub seed: u64,
    /// The least id; ids go up from here.
    pub first_id: i64,
}

/// Writes until it is killed; returns only if it could not even begin.
///
/// # Errors
/// Why it could not begin.
pub fn write_until_killed(orders: &Orders) -> Result<(), String> {
    say("begin");
    let runtime = multi_threaded(2).map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let hand = Arc::new(Hand::open(orders).await?);
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| tokio::spawn(call(Arc::clone(&hand), orders.seed, orders.first_id + caller)))
            .collect();
        for caller in callers {
            caller.await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// One caller: one write after the other, each told of when it is acknowledged, until one fails.
async fn call(hand: Arc<Hand>, seed: u64, first: i64) {
    for id in (first..).step_by(CALLERS as usize) {
        let write = Write::of(seed, id);
        let given_up = write.given_up;
        match hand.write(write).await {
            Ok(()) => say(&format!("ack {id}")),
            Err(Ended::GivenUp) if given_up => {}
            Err(Ended::GivenUp) => return say(&format!("error write {id} was given up by nobody")),
            Err(Ended::Failed(error)) => return say(&format!("error write {id}: {error}")),
        }
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).is_err() {
        // Nobody reads any more, so nobody will kill it either.
        std::process::exit(0);
    }
}

/// Why a write was not acknowledged.
enum Ended {
    GivenUp,
    Failed(String),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Ended::Failed(error.to_string())
    }
}

/// Whoever writes.
enum Hand {
    Lane(PooledDatabaseWriter),
    Broken(mpsc::Sender<(Write, oneshot::Sender<Result<(), turso::Error>>)>),
}

impl Hand {
    async fn open(orders: &Orders) -> Result<Self, String> {
        let Orders { subject, database, .. } = orders;
        let builder = ConnectionPool::builder(database).max_connections(2);
        let disk = |disk: Result<Volatile, LimboError>| disk.map(Arc::new).map_err(|error| error.to_string());
        let builder = match subject {
            Subject::Writer => builder,
            Subject::Forgetful => builder.io(disk(Volatile::new())?),
            Subject::Unsynced => builder.io(disk(Volatile::that_lies())?),
            Subject::EarlyAck => return broken(database, early_ack).await,
            Subject::Pieces => return broken(database, pieces).await,
        };
        let pool = builder.build().await.map_err(|error| error.to_string())?;
        PooledDatabaseWriter::new(pool).await.map(Hand::Lane).map_err(|error| error.to_string())
    }

    async fn write(&self, write: Write) -> Result<(), Ended> {
        match self {
            Hand::Lane(db) if write.is_transaction() => db
                .write(async move |tx| {
                    for (part, content) in write.parts() {
                        tx.execute(INSERT, (write.id, part, content)).await?;
                    }
                    tx.execute(COUNT, (write.len(),)).await?;
                    if write.given_up { Err(Ended::GivenUp) } else { Ok(()) }
                })
                .await
                .map(drop),
            Hand::Lane(db) => Ok(db.execute(INSERT, (write.id, 0, write.contents[0].as_str())).await.map(drop)?),
            // What is broken is broken in one thing only.
            Hand::Broken(_) if write.given_up => Err(Ended::GivenUp),
            Hand::Broken(lane) => {
                let (reply, answer) = oneshot::channel();
                lane.send((write, reply)).await.map_err(|_| Ended::Failed("the lane is gone".to_owned()))?;
                match answer.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(Ended::Failed(error.to_string())),
                    Err(_) => Err(Ended::Failed("the lane is gone".to_owned())),
                }
            }
        }
    }
}

type Jobs = mpsc::Receiver<(Write, oneshot::Sender<Result<(), turso::Error>>)>;

/// Opens a lane with a flaw on a connection like the pool's.
async fn broken<F>(path: &Path, lane: fn(turso::Connection, Jobs) -> F) -> Result<Hand, String>
where
    F: Future<Output = Result<(), turso::Error>> + Send + 'static,
{
    let open = async {
        let connection = turso::Builder::new_local(&path.to_string_lossy()).build().await?.connect()?;
        for pragma in PRAGMAS {
            let mut rows = connection.query(pragma, ()).await?;
            while rows.next().await?.is_some() {}
        }
        Ok::<_, turso::Error>(connection)
    };
    let connection = open.await.map_err(|error| error.to_string())?;
    let (queue, jobs) = mpsc::channel(BATCH);
    let running = lane(connection, jobs);
    tokio::spawn(async move {
        if let Err(error) = running.await {
            say(&format!("error the lane ended: {error}"));
        }
    });
    Ok(Hand::Broken(queue))
}

/// Control: a lane that tells its callers before the commit, in the hope that it will be well.
async fn early_ack(connection: turso::Connection, mut jobs: Jobs) -> Result<(), turso::Error> {
    let mut batch = Vec::new();
    while jobs.recv_many(&mut batch, BATCH).await > 0 {
        connection.execute("BEGIN IMMEDIATE", ()).await?;
        for (write, reply) in batch.drain(..) {
            perform(&connection, &write).await?;
            // Nobody waits for it if the process is about to end.
            let _ = reply.send(Ok(()));
        }
        connection.execute("COMMIT", ()).await?;
    }
    Ok(())
}

/// Control: a lane whose transactions are none, each statement commits by itself.
async fn pieces(connection: turso::Connection, mut jobs: Jobs) -> Result<(), turso::Error> {
    while let Some((write, reply)) = jobs.recv().await {
        let outcome = perform(&connection, &write).await;
        let _ = reply.send(outcome);
    }
    Ok(())
}

async fn perform(connection: &turso::Connection, write: &Write) -> Result<(), turso::Error> {
    for (part, content) in write.parts() {
        connection.execute(INSERT, (write.id, part, content)).await?;
    }
    if write.is_transaction() {
        connection.execute(COUNT, (write.len(),)).await?;
    }
    Ok(())
}
