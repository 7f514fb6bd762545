//! What a pool says of itself.

use super::core::Census;

/// A consistent snapshot of a pool: all numbers are of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Connections the pool may open.
    pub max: usize,
    /// Connections alive or being opened.
    pub open: usize,
    /// The most that `open` has ever been.
    pub most_open: usize,
    /// Connections that wait for a user.
    pub idle: usize,
    /// Connections that a user holds, or that are being opened for one.
    pub in_use: usize,
    /// Users that wait for a connection.
    pub waiting: usize,
    /// Whether the pool is closed.
    pub closed: bool,
}

impl From<Census> for Status {
    fn from(census: Census) -> Self {
        Self {
            max: census.max,
            open: census.open,
            most_open: census.most_open,
            idle: census.idle,
            in_use: census.leased() + census.granted,
            waiting: census.waiting,
            closed: census.closed,
        }
    }
}
