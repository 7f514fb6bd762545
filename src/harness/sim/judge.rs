//! Whose fault an error is: the machine's, that of whoever asked, or nobody's, and then it is a finding.
//!
//! As long as no call of the disk and no power has failed, an operation may only fail for what its caller took on: a limit, a
//! queue with little room, a lock that others hold, fewer connections than users. What the error says of itself has to be
//! true, too: that a time is over is told by the world's clock.

use std::time::Duration;

use super::World;
use crate::error::{Error, Result};

/// Judges what operations come to, from a moment on at which nothing has failed that still matters.
#[derive(Clone, Debug)]
pub struct Judge {
    world: World,
    /// How often something had failed by then.
    failures: u64,
}

/// Why an operation may fail though nothing else did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Excuse {
    /// It takes room in the queue only if there is some.
    Full,
    /// It has a limit in time.
    Deadline,
    /// It takes a connection of the pool, for which it does not wait for ever.
    Acquire,
    /// Others may hold the lock, and it tries for so long.
    Locked(Duration),
    /// Somebody closes what it needs.
    Closed,
    /// Its closure fails in the engine, on purpose, which says this.
    Own(&'static str),
}

impl World {
    /// Judges from now on.
    #[must_use]
    pub fn judge(&self) -> Judge {
        Judge { world: self.clone(), failures: self.failures() }
    }
}

impl Judge {
    /// Runs an operation.
    ///
    /// # Errors
    /// It failed without any of the `excuses`, and nothing else did: what it is called, and its error.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn hears<T>(
        &self,
        what: &str,
        excuses: &[Excuse],
        work: impl Future<Output = Result<T>>,
    ) -> std::result::Result<Result<T>, String> {
        let began = self.world.now();
        let outcome = work.await;
        let took = self.world.now().saturating_sub(began);
        match &outcome {
            Err(error) if self.is_calm() && !excuses.iter().any(|excuse| excuse.is_of(error, took)) => {
                Err(format!("{what} failed and nothing else did: {error}"))
            }
            _ => Ok(outcome),
        }
    }

    /// Whether nothing has failed since.
    fn is_calm(&self) -> bool {
        self.world.failures() == self.failures
    }
}

impl Excuse {
    /// Whether it is one for an operation that failed with `error` after this time.
    fn is_of(self, error: &Error, took: Duration) -> bool {
        match (self, error) {
            // Only a machine that fails makes anything unknown.
            (_, Error::Unknown { .. }) => false,
            (Excuse::Own(text), Error::Engine(own)) => own.to_string().contains(text),
            (Excuse::Locked(tried), error) => (error.is_contention() || error.cause().is_conflict()) && tried <= took,
            (Excuse::Full, error) => matches!(error.cause(), Error::Full(_)),
            (Excuse::Deadline, error) => matches!(error.cause(), Error::Deadline { limit, .. } if *limit <= took),
            (Excuse::Acquire, error) => {
                matches!(error.cause(), Error::AcquireTimeout(timeout) if timeout.waited <= took)
            }
            (Excuse::Closed, error) => matches!(error.cause(), Error::Closed),
            (Excuse::Own(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::WriteStage;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_excuse_is_one_only_if_it_is_true() {
        let late = |limit| Error::rolled_back(Error::Deadline { stage: WriteStage::Waiting, limit });
        let busy = || Error::Engine(turso::Error::Busy("database is locked".to_owned()));
        let excused = [
            (Excuse::Full, Error::rolled_back(Error::Full(2))),
            (Excuse::Deadline, late(MS)),
            (Excuse::Locked(MS), Error::rolled_back(Error::Locked { tried: MS, holders: Vec::new() })),
            (Excuse::Locked(Duration::ZERO), busy()),
            (Excuse::Closed, Error::rolled_back(Error::Closed)),
            (Excuse::Own("malformed"), Error::Engine(turso::Error::Error("malformed JSON".to_owned()))),
        ];
        for (excuse, error) in &excused {
            assert!(excuse.is_of(error, MS), "{excuse:?}: {error}");
        }
        let not = [
            (Excuse::Full, late(MS)),
            // Too soon.
            (Excuse::Deadline, late(2 * MS)),
            (Excuse::Locked(2 * MS), busy()),
            (Excuse::Own("malformed"), busy()),
            (Excuse::Own("malformed"), Error::rolled_back(Error::Closed)),
            (Excuse::Closed, Error::unknown(Error::Closed)),
        ];
        for (excuse, error) in &not {
            assert!(!excuse.is_of(error, MS), "{excuse:?}: {error}");
        }
    }
}
