//! What stands in the way of a statement that is right.

use crate::error::Error;

/// Why a statement failed that would succeed another time, or in another transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// Another connection wrote the same, or holds the lock.
    Conflict,
    /// In MVCC mode, only a transaction that runs alone changes the schema.
    NeedsToBeAlone,
}

impl Hindrance {
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            error if error.is_contention() || error.is_conflict() => Some(Hindrance::Conflict),
            Error::Engine(turso::Error::Error(text)) if text.contains("require an exclusive transaction") => {
                Some(Hindrance::NeedsToBeAlone)
            }
            _ => None,
        }
    }
}
