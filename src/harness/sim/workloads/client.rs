//! What one client does: an operation of any kind, and what it tells the ledger of it.

use std::time::Duration;

use super::{THINGS, Workload};
use crate::error::{Error, Result};
use crate::harness::sim::{Ledger, World};
use crate::pool::{Behavior, PooledConnection, Transaction};
use crate::writer::{Ack, PooledDatabaseWriter, Priority};

impl Workload {
    /// One operation of a client, of whatever kind the seed says.
    pub(super) async fn operates(
        self,
        world: &World,
        db: &PooledDatabaseWriter,
        ledger: &Ledger,
    ) -> std::result::Result<(), String> {
        let kind = world.random(12);
        let number = if kind < 9 { ledger.issue() } else { 0 };
        let things = (world.random(THINGS), world.random(THINGS));
        let whole = || db.write(async move |tx: &mut Transaction<'_>| self.writes(tx, number, things).await);
        let told = match kind {
            0 | 1 => world.cancellable(note(db, number)).await,
            2 => world.cancellable(whole()).await.map(without_ack),
            3 => {
                let sql = format!("INSERT INTO notes VALUES ({number}); INSERT INTO notes VALUES ({number})");
                world.cancellable(db.execute_batch(sql)).await.map(without_ack)
            }
            4 => {
                let hasty = db.within(Duration::from_millis(2));
                Some(without_ack(hasty.execute(NOTE, (number as i64,)).await))
            }
            5 => Some(without_ack(db.try_execute(NOTE, (number as i64,)).await)),
            6 => {
                let late = db.priority(Priority::Background);
                let work = async move |tx: &mut Transaction<'_>| self.writes(tx, number, things).await;
                Some(without_ack(late.write(work).await))
            }
            // It breaks the transaction of whoever shares it.
            7 => Some(without_ack(db.write(async move |tx| breaks(tx, number).await).await)),
            8 => Some(self.by_a_guard(db, number).await),
            _ => {
                let read = world.cancellable(self.reads(world, db)).await;
                return read.unwrap_or(Ok(()));
            }
        };
        ledger.told(world, number, told.as_ref());
        Ok(())
    }

    /// A read, of which no more is asked than that what it sees can be.
    pub(super) async fn reads(self, world: &World, db: &PooledDatabaseWriter) -> std::result::Result<(), String> {
        let sql = self.always_zero();
        let read = db.read(async move |snapshot| {
            let mut seen = [0; 2];
            for seen in &mut seen {
                let mut rows = snapshot.query(sql, ()).await?;
                *seen = rows.next().await?.map_or(Ok(-1), |row| row.get::<i64>(0))?;
            }
            Ok::<_, Error>(seen)
        });
        match read.await {
            Ok([0, 0]) => {
                world.note("read 0");
                Ok(())
            }
            Ok(seen) => Err(format!("a snapshot shows what cannot be: {sql} is {seen:?}")),
            Err(Error::AcquireTimeout(_)) => {
                world.sometimes("a time-out");
                Ok(())
            }
            // A disk that fails, or a closed pool.
            Err(_) => Ok(()),
        }
    }

    /// Somebody who writes past the lane, which then finds the lock taken.
    async fn by_a_guard(self, db: &PooledDatabaseWriter, number: u64) -> Result<()> {
        guarded(&mut db.pool().get().await?, number).await
    }
}

/// Two rows in one statement.
const NOTE: &str = "INSERT INTO notes VALUES (?1), (?1)";

pub(super) async fn note(db: &PooledDatabaseWriter, number: u64) -> Result<()> {
    without_ack(db.execute(NOTE, (number as i64,)).await)
}

/// A transaction that fails in a way that the engine answers by rolling back all of it.
async fn breaks(tx: &mut Transaction<'_>, number: u64) -> Result<()> {
    tx.execute(NOTE, (number as i64,)).await?;
    tx.execute("INSERT OR ROLLBACK INTO notes SELECT json('{')", ()).await?;
    Ok(())
}

async fn guarded(guard: &mut PooledConnection, number: u64) -> Result<()> {
    let mut tx = guard.begin(Behavior::Immediate).await?;
    tx.execute(NOTE, (number as i64,)).await?;
    tx.commit().await
}

fn without_ack<T>(outcome: Result<Ack<T>>) -> Result<()> {
    outcome.map(|_| ())
}
