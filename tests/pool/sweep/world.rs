//! A pool on the make-believe server, those who use it beside the operation that is swept, and what must hold of it.
//!
//! The checks return what is wrong instead of panicking, so that the controls can ask what they say of a broken pool.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use poolproof::{AcquireError, Pool, PoolConfig, Pooled, Status};
use tokio::time::timeout;
use tokio_test::task::{self, Spawn};

use crate::server::{self, Manager, Outcome, Server};

/// How many connections the pools have.
pub const MAX: usize = 2;

/// Much longer than anything here takes; the clock is paused and jumps there if nothing else happens.
const FOREVER: Duration = Duration::from_secs(100_000);

/// Who waits for a connection, and looks only when woken.
pub type Waiter = Spawn<Pin<Box<dyn Future<Output = Outcome>>>>;

pub struct World {
    pub pool: Pool<Manager>,
    pub server: Arc<Server>,
    /// What others hold.
    pub held: Vec<Pooled<Manager>>,
    /// Others who wait.
    pub waiters: Vec<Waiter>,
    /// Panics that reached those who called into the pool.
    pub panics: usize,
}

impl World {
    /// A pool all of whose connections are held by others.
    pub fn full(config: PoolConfig, hooks: bool) -> Self {
        let config = PoolConfig { max_connections: MAX, ..config };
        let (pool, server) = if hooks { server::pool_with_hooks(config) } else { server::pool(config) };
        let mut world = Self { pool, server, held: Vec::new(), waiters: Vec::new(), panics: 0 };
        for _ in 0..MAX {
            world.queue().unwrap();
        }
        assert_eq!(world.held.len(), MAX);
        world
    }

    /// Somebody asks for a connection, and waits for it if need be.
    pub fn queue(&mut self) -> Result<(), String> {
        let pool = self.pool.clone();
        self.waiters.push(task::spawn(Box::pin(async move { pool.get().await })));
        self.look(self.waiters.len() - 1)
    }

    /// One who waits looks; those who are served leave the queue.
    fn look(&mut self, waiter: usize) -> Result<(), String> {
        let outcome = match self.careful(|world| world.waiters[waiter].poll()) {
            Some(Poll::Pending) => return Ok(()),
            Some(Poll::Ready(outcome)) => Some(outcome),
            None => None,
        };
        drop(self.waiters.remove(waiter));
        match outcome {
            Some(Ok(guard)) => self.held.push(guard),
            Some(Err(AcquireError::Closed)) => ensure!(self.pool.status().closed, "an open pool says it is closed"),
            Some(Err(error)) => return Err(format!("somebody else is refused: {error}")),
            None => {}
        }
        Ok(())
    }

    /// Catches a panic that comes through the pool.
    pub fn careful<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self)));
        self.panics += usize::from(outcome.is_err());
        outcome.ok()
    }

    /// What holds at every moment.
    pub fn invariants(&self) -> Result<(), String> {
        let status = self.pool.status();
        of_every_status(&status)?;
        ensure!(self.server.alive() <= status.open, "{} are alive in the slots of {status:?}", self.server.alive());
        let holders = self.pool.holders().len();
        ensure!(holders == status.in_use, "{holders} holders are on record of {status:?}");
        Ok(())
    }

    /// No slot is anybody's but of those who hold one or were handed one.
    pub fn is_accounted_for(&self) -> Result<(), String> {
        let status = self.pool.status();
        let granted = self.waiters.iter().filter(|waiter| waiter.is_woken()).count();
        let known = self.held.len() + granted;
        ensure!(
            status.closed || status.in_use == known,
            "slots are lost: {known} are known to be in use, of {status:?}"
        );
        Ok(())
    }

    /// Everybody gives back what they hold, until all who wait were served.
    pub fn let_go(&mut self) -> Result<(), String> {
        loop {
            self.invariants()?;
            if let Some(woken) = self.waiters.iter().position(|waiter| waiter.is_woken()) {
                self.look(woken)?;
            } else if let Some(guard) = self.held.pop() {
                self.careful(|_| drop(guard));
            } else {
                break;
            }
        }
        ensure!(self.waiters.is_empty(), "{} waiters are never served", self.waiters.len());
        let (status, alive) = (self.pool.status(), self.server.alive());
        ensure!(status.in_use == 0, "slots are lost: nobody holds anything, yet {status:?}");
        ensure!(alive == status.idle, "{alive} are alive, but {status:?}");
        ensure!(self.server.most_alive() <= MAX.max(status.max), "{} were alive at once", self.server.most_alive());
        Ok(())
    }

    /// As many connections as there may be can be had at once, and not one more; after the close none is alive.
    pub async fn serves_and_closes(&mut self) -> Result<(), String> {
        self.server.behave();
        if !self.pool.status().closed {
            self.serves_its_maximum().await?;
        }
        closes(self.pool.close()).await?;
        let (status, alive) = (self.pool.status(), self.server.alive());
        ensure!((status.open, alive) == (0, 0), "after the close {alive} are alive: {status:?}");
        let refused = matches!(task::spawn(self.pool.get()).poll(), Poll::Ready(Err(AcquireError::Closed)));
        ensure!(refused, "a closed pool lends");
        Ok(())
    }

    async fn serves_its_maximum(&mut self) -> Result<(), String> {
        let max = self.pool.status().max;
        let mut all: Vec<Pooled<Manager>> = Vec::new();
        for had in 0..max {
            match timeout(FOREVER, self.pool.get()).await {
                Ok(Ok(guard)) => all.push(guard),
                wrong => return Err(format!("only {had} of {max} can be had: {wrong:?}")),
            }
        }
        let numbers: HashSet<usize> = all.iter().map(|guard| guard.number).collect();
        ensure!(numbers.len() == max, "a connection is lent twice: {numbers:?}");
        ensure!(self.server.alive() == max, "{} are alive of {max}", self.server.alive());
        ensure!(task::spawn(self.pool.get()).poll().is_pending(), "more than {max} can be had");
        self.invariants()
    }
}

/// What holds of every pool at every moment.
pub fn of_every_status(status: &Status) -> Result<(), String> {
    let Status { max, open, most_open, idle, in_use, waiting, closed, .. } = *status;
    ensure!(open == idle + in_use && open <= most_open && open <= max, "the numbers are wrong: {status:?}");
    ensure!(idle == 0 || waiting == 0, "an idle connection and a waiter coexist: {status:?}");
    ensure!(waiting == 0 || open == max, "somebody waits though there is room: {status:?}");
    ensure!(!closed || (idle == 0 && waiting == 0), "it is closed, and yet {status:?}");
    Ok(())
}

/// It resolves, once everybody has let go.
pub async fn closes(closing: impl Future<Output = ()>) -> Result<(), String> {
    timeout(FOREVER, closing).await.map_err(|_| "the close never resolves".to_owned())
}
