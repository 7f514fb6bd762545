//! The pool's settings, and the one place where they are checked.

use std::time::Duration;

use crate::error::{Error, Result};

/// Settings of a pool of any kind of connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Connections alive or being opened at once, at most. 10 unless set.
    pub max_connections: usize,
    /// How long an acquire may take, waiting and connecting together. 30 s unless set.
    pub acquire_timeout: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { max_connections: 10, acquire_timeout: Duration::from_secs(30) }
    }
}

impl PoolConfig {
    /// More connections than this are a mistake: each holds a page cache and file descriptors.
    pub const MAX_CONNECTIONS: usize = 10_000;

    /// # Errors
    /// [`Error::Config`] names the first setting that cannot work.
    pub fn validate(&self) -> Result<()> {
        let field = "max_connections";
        match self.max_connections {
            0 => Err(Error::Config { field, problem: "is 0: a pool needs at least 1 connection".to_owned() }),
            many if many > Self::MAX_CONNECTIONS => {
                let problem = format!("is {many}: at most {} are allowed", Self::MAX_CONNECTIONS);
                Err(Error::Config { field, problem })
            }
            _ => Ok(()),
        }
    }
}
