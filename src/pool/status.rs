//! What a pool says of itself.

use super::core::Census;

/// A consistent snapshot of a pool: all numbers are of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Times a connection, or the room for one, went straight from one user to another who waited for it.
    pub handed_over: u64,
    /// Whether the pool is closed.
    pub closed: bool,
}

impl From<Census> for Status {
    fn from(census: Census) -> Self {
        let Census { max, open, most_open, idle, waiting, handed_over, closed, .. } = census;
        Self { max, open, most_open, idle, in_use: open - idle, waiting, handed_over, closed }
    }
}
