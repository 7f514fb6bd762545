//! One writer for one file, in this process.
//!
//! Two lanes on one file would fight for its write lock, by trying again and again: slow, and at last a refused write that
//! nobody understands. Handles that are opened by path in several places of a program come to that unseen, so the second is
//! refused. (Another process cannot open the file at all.) One that is ending is waited for: who drops a writer and opens
//! the next one need not know that the first still writes what was queued.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::watch;

use super::door::Shared;
use super::executor::Executor;
use crate::error::{Error, Result};
use crate::pool::file::Identity;
use crate::pool::{ConnectionPool, LaneClaim};
use crate::sync::Mutex;

/// The files of this process that have a writer.
static CLAIMED: Mutex<Vec<Arc<Claimed>>> = Mutex::new(Vec::new());

/// Which database it is.
#[derive(Debug, PartialEq)]
enum Key {
    /// With its path where the operating system does not tell files apart.
    File(Identity, PathBuf),
    /// None that others can open: one on a disk of the caller's own, or in memory. A pool has one writer, too.
    Pool(usize),
}

impl Key {
    fn of(pool: &ConnectionPool, executor: &dyn Executor) -> Self {
        let file = || executor.file(pool.path());
        match pool.is_of_a_file().then(file).flatten() {
            Some(file) => Key::File(file.identity, path_of(file.identity, pool.path())),
            None => Key::Pool(pool.address()),
        }
    }
}

/// What `identity` leaves open.
fn path_of(identity: Identity, path: &Path) -> PathBuf {
    match identity {
        (0, 0) => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        _ => PathBuf::new(),
    }
}

#[derive(Debug)]
struct Claimed {
    key: Key,
    /// What its writes share, once it was started.
    writer: OnceLock<Weak<Shared>>,
    /// Its sender is dropped with the claim.
    ended: watch::Receiver<()>,
}

impl Claimed {
    /// Whether it takes no more writes, and ends by itself after those that it has.
    fn is_ending(&self) -> bool {
        self.writer.get().is_some_and(|writer| writer.upgrade().is_none_or(|writer| writer.queue.is_closed()))
    }
}

/// The right to be the one writer of a file, and of its pool; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    /// Given back first: whoever waits for the end finds the pool free.
    pool: Option<LaneClaim>,
    claimed: Arc<Claimed>,
    _ended: watch::Sender<()>,
}

impl Claim {
    /// Claims the file of `pool`. If its writer is ending, waits for that.
    ///
    /// # Errors
    /// [`Error::Config`] if it has another.
    ///
    /// # Cancel safety
    /// Dropped half-way, nothing is claimed.
    pub(super) async fn of(pool: &ConnectionPool, executor: &dyn Executor) -> Result<Self> {
        loop {
            let key = Key::of(pool, executor);
            let other = match Self::first(key) {
                Ok(mut claim) => {
                    claim.pool = Some(pool.claim_lane().ok_or_else(has_one)?);
                    return Ok(claim);
                }
                Err(other) if other.is_ending() => other,
                Err(_) => return Err(has_one()),
            };
            let mut ended = other.ended.clone();
            while ended.changed().await.is_ok() {}
        }
    }

    /// # Errors
    /// Who has it.
    fn first(key: Key) -> Result<Self, Arc<Claimed>> {
        CLAIMED.with(|all| match all.iter().find(|claimed| claimed.key == key) {
            Some(other) => Err(Arc::clone(other)),
            None => {
                let (sender, ended) = watch::channel(());
                let claimed = Arc::new(Claimed { key, writer: OnceLock::new(), ended });
                all.push(Arc::clone(&claimed));
                Ok(Self { pool: None, claimed, _ended: sender })
            }
        })
    }

    /// The writer is this one.
    pub(super) fn is_for(&self, writer: &Arc<Shared>) {
        // Told once.
        let _ = self.claimed.writer.set(Arc::downgrade(writer));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pool = None;
        let gone = CLAIMED.with(|all| {
            let place = all.iter().position(|claimed| Arc::ptr_eq(claimed, &self.claimed));
            place.map(|place| all.swap_remove(place))
        });
        drop(gone);
    }
}

fn has_one() -> Error {
    let problem = "has a writer already in this process: use a clone of that one; two would fight for the write lock";
    Error::Config { field: "the database", problem: problem.to_owned() }
}
