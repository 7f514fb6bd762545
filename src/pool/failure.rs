//! Why a pool gave no connection, or could not be closed in time.

use std::fmt;

use super::forensics::{AcquireTimeout, HolderReport};
use super::hooks::HookError;

/// Why [`Pool::get`](super::Pool::get) gave no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// No connection became free, or could be opened, in time.
    #[error("{0}")]
    Timeout(Box<AcquireTimeout>),
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
    /// Opening a connection failed.
    #[error("connecting failed: {0}")]
    Connect(#[source] E),
    /// A hook turned a new connection down.
    #[error("a hook turned a new connection down: {0}")]
    Hook(#[source] HookError),
}

/// Connections are still in use, although the pool is closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StillOpen {
    /// Who holds them.
    pub holders: Vec<HolderReport>,
}

impl fmt::Display for StillOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, are) = (self.holders.len(), if self.holders.len() == 1 { " is" } else { "s are" });
        write!(f, "the pool is closed, but {count} connection{are} still in use")?;
        self.holders.iter().try_for_each(|holder| write!(f, "; held at {holder}"))
    }
}

impl std::error::Error for StillOpen {}
