//! Openings and closings that cannot be cut short: what a dropped future had begun stays begun for ever.
//!
//! ```text
//! keeps the claim                        loses the end
//! claims the file                        takes the message "it has ended" to wait for it
//! (is dropped while it opens)            (is dropped before it comes)
//! the next one: "it is open already"     closes again, and waits for ever
//! ```

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use poolproof::harness::sim::World;
use poolproof::{ConnectionPool, Error};
use tokio::sync::oneshot;

use crate::sim::clients::{NOTES, give_way, prepares};
use crate::sim::hunt::Hunt;

/// The right to be the only one who has the file open.
struct Claim(Arc<AtomicBool>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Opens the file as the only one. The flaw: it is remembered that it is open before it is known who will close it.
async fn opens(world: &World, is_open: &Arc<AtomicBool>, is_broken: bool) -> Result<(ConnectionPool, Claim), String> {
    if is_open.swap(true, Ordering::Relaxed) {
        return Err("it is open already".to_owned());
    }
    let claim = (!is_broken).then(|| Claim(Arc::clone(is_open)));
    let opens = async {
        let pool = world.pool(NOTES).build().await?;
        pool.get().await?.execute("DELETE FROM notes", ()).await?;
        Ok::<_, Error>(pool)
    };
    let pool = opens.await.map_err(|error| error.to_string())?;
    Ok((pool, claim.unwrap_or_else(|| Claim(Arc::clone(is_open)))))
}

async fn opens_twice(world: World, is_broken: bool) -> Result<(), String> {
    prepares(&world).await?;
    let is_open = Arc::default();
    let cut = world.cancellable(opens(&world, &is_open, is_broken)).await;
    drop(cut.transpose()?);
    opens(&world, &is_open, is_broken).await.map(drop)
}

/// The same with the writer.
async fn a_writer_opens_twice(world: World) -> Result<(), Error> {
    let cut = world.cancellable(world.open(NOTES)).await.transpose()?;
    if let Some(db) = cut {
        db.close().await;
    }
    world.open(NOTES).await.map(drop)
}

/// Something that works until it is told to end.
struct Worker {
    stop: Mutex<Option<oneshot::Sender<()>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    /// The flaw: only one closing can hear of the end, and it may be dropped.
    is_broken: bool,
}

impl Worker {
    fn begins(world: &World, is_broken: bool) -> Self {
        let ((stop, stopped), (ends, ended)) = (oneshot::channel(), oneshot::channel());
        let works = async move {
            let _ = stopped.await;
            give_way().await;
            let _ = ends.send(());
        };
        drop(world.spawn("worker", works));
        Self { stop: Mutex::new(Some(stop)), ended: Mutex::new(Some(ended)), is_broken }
    }

    async fn close(&self) {
        drop(self.stop.lock().take());
        match self.is_broken {
            true => {
                let ended = self.ended.lock().take();
                match ended {
                    Some(ended) => drop(ended.await),
                    None => pending().await,
                }
            }
            false => {
                poll_fn(|context| {
                    let mut ended = self.ended.lock();
                    Pin::new(ended.as_mut().expect("nobody takes it away")).poll(context).map(drop)
                })
                .await
            }
        }
    }
}

async fn closes_twice(world: World, is_broken: bool) -> Result<(), String> {
    let worker = Worker::begins(&world, is_broken);
    if world.cancellable(worker.close()).await.is_none() {
        worker.close().await;
    }
    Ok(())
}

/// The same with the writer.
async fn a_writer_closes_twice(world: World) -> Result<(), Error> {
    let db = world.open(NOTES).await?;
    if world.cancellable(db.close()).await.is_none() {
        db.close().await;
    }
    Ok(())
}

#[test]
fn an_opening_that_keeps_its_claim_is_found() {
    Hunt::new("the claim that is kept", &["it is open already"])
        .faults("cancel=100000")
        .finds(async |world| opens_twice(world, true).await)
        .but_not(async |world| opens_twice(world, false).await)
        .but_not(a_writer_opens_twice);
}

#[test]
fn a_closing_that_loses_the_end_is_found() {
    Hunt::new("the end that is lost", &["waits, and nobody will wake it", "nobody can go on"])
        .faults("cancel=100000")
        .finds(async |world| closes_twice(world, true).await)
        .but_not(async |world| closes_twice(world, false).await)
        .but_not(a_writer_closes_twice);
}
