//! Why a pool gave no connection, or could not be closed in time.

use std::fmt;

use super::forensics::{AcquireTimeout, HolderReport};
use super::hooks::HookError;

/// Why [`Pool::get`](super::Pool::get) gave no connection. Like [`Error`](crate::Error), it is shown with what it was caused
/// by, and its source is what is behind that.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// No connection became free, or could be opened, in time.
    Timeout(Box<AcquireTimeout>),
    /// The pool is closed.
    Closed,
    /// Opening a connection failed.
    Connect(E),
    /// A hook turned a new connection down.
    Hook(HookError),
}

impl<E: fmt::Display> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcquireError::Timeout(timeout) => timeout.fmt(f),
            AcquireError::Closed => f.write_str("the pool is closed"),
            AcquireError::Connect(error) => write!(f, "connecting failed: {error}"),
            AcquireError::Hook(error) => write!(f, "a hook turned a new connection down: {error}"),
        }
    }
}

impl<E: std::error::Error> std::error::Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AcquireError::Connect(error) => error.source(),
            AcquireError::Hook(error) => error.source(),
            AcquireError::Timeout(_) | AcquireError::Closed => None,
        }
    }
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
        self.holders.iter().try_for_each(|holder| write!(f, "; {} {holder}", holder.held()))
    }
}

impl std::error::Error for StillOpen {}
