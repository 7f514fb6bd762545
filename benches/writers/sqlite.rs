//! SQLite through rusqlite, behind a thread that commits together whatever is queued: the same idea as ours, on the engine
//! that many would pick instead.

use std::path::Path;
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::Writer;
use crate::database::INSERT;

/// Rows that may wait, and as many are committed together at most.
const QUEUE: usize = 1024;

type Job = (i64, oneshot::Sender<()>);

/// The way to the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Sqlite(mpsc::Sender<Job>);

impl Writer for Sqlite {
    const NAME: &'static str = "SQLite, writer thread";

    async fn open(path: &Path) -> Self {
        let connection = Connection::open(path).expect("the file opens");
        connection.execute_batch("PRAGMA synchronous = FULL").expect("it can be set");
        let (queue, jobs) = mpsc::channel(QUEUE);
        thread::spawn(move || work(connection, jobs).expect("it is committed"));
        Self(queue)
    }

    async fn insert(&self, value: i64) {
        let (reply, answer) = oneshot::channel();
        self.0.send((value, reply)).await.expect("the thread is there");
        answer.await.expect("it is committed");
    }
}

fn work(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) -> rusqlite::Result<()> {
    let mut batch = Vec::with_capacity(QUEUE);
    while jobs.blocking_recv_many(&mut batch, QUEUE) > 0 {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for (value, _) in &batch {
                insert.execute([value])?;
            }
        }
        transaction.commit()?;
        for (_, reply) in batch.drain(..) {
            // Fails if the caller is gone, whose row stands.
            let _ = reply.send(());
        }
    }
    Ok(())
}
