//! The pool's settings, and the one place where they are checked.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

/// Settings of a pool of any kind of connection. Durations have the clock's resolution, a millisecond. With the feature
/// `serde` they are written as serde writes them, `{ "secs": 30, "nanos": 0 }`; a field that is missing is as in the default,
/// and one that is not known is an error.
///
/// ```
/// use std::time::Duration;
/// use poolproof::PoolConfig;
///
/// let config = PoolConfig { max_connections: 4, idle_timeout: Some(Duration::from_secs(600)), ..PoolConfig::default() };
/// assert!(config.validate().is_ok());
/// let error = PoolConfig { min_idle: 5, ..config }.validate().unwrap_err();
/// assert_eq!(error.to_string(), "min_idle is 5, more than max_connections (4); lower it");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct PoolConfig {
    /// What traces and metrics call the pool. Unless set, a [`ConnectionPool`](crate::ConnectionPool) is called like its
    /// file, any other "pool".
    pub name: Option<String>,
    /// Connections alive or being opened at once, at most. 10 unless set.
    pub max_connections: usize,
    /// Connections kept open and idle, as far as the maximum allows. 0 unless set. Opened in the background.
    pub min_idle: usize,
    /// How long to wait for a slot, in the queue. 30 s unless set. Who comes when 32 or more wait may be refused 10 ms late,
    /// or a sixteenth of the limit if that is less; nobody is refused early.
    pub wait_timeout: Duration,
    /// How long opening a connection may take, its hooks included. 10 s unless set.
    pub connect_timeout: Duration,
    /// How long a whole acquire may take: waiting, connecting, testing and hooks together. 30 s unless set. As exact as
    /// [`wait_timeout`](PoolConfig::wait_timeout).
    pub acquire_timeout: Duration,
    /// How long a hook, or the test of a connection, may take. 5 s unless set.
    pub hook_timeout: Duration,
    /// Closes connections that were idle for longer, down to `min_idle`. Never, unless set.
    pub idle_timeout: Option<Duration>,
    /// Closes connections that are older, as soon as nobody uses them. Never, unless set.
    pub max_lifetime: Option<Duration>,
    /// Shortens each connection's lifetime by another part of it, up to this fraction and evenly spread, so that connections
    /// opened together are not closed together. 0.025 unless set.
    pub lifetime_jitter: f64,
    /// Tests a connection before it is lent, unless it was used within this time. Never, unless set.
    pub test_after: Option<Duration>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            name: None,
            max_connections: 10,
            min_idle: 0,
            wait_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(30),
            hook_timeout: Duration::from_secs(5),
            idle_timeout: None,
            max_lifetime: None,
            lifetime_jitter: 0.025,
            test_after: None,
        }
    }
}

impl PoolConfig {
    /// Until when somebody waits in the queue who came at `came`; `None` if that is beyond the clock.
    pub(crate) fn end_of_waiting(&self, came: Instant) -> Option<Instant> {
        came.checked_add(self.wait_timeout.min(self.acquire_timeout))
    }

    /// Whether the waiting of somebody is over at `now` who came at `came`.
    pub(crate) fn is_over(&self, came: Instant, now: Instant) -> bool {
        self.end_of_waiting(came).is_some_and(|end| end <= now)
    }

    /// How late somebody may be refused who came to a busy queue.
    pub(crate) fn tick(&self) -> Duration {
        (self.wait_timeout.min(self.acquire_timeout) / 16).min(Duration::from_millis(10))
    }

    /// More connections than this are a mistake: each holds a page cache and file descriptors.
    pub const MAX_CONNECTIONS: usize = 10_000;

    /// # Errors
    /// [`Error::Config`] names the first setting that cannot work, and says what would.
    pub fn validate(&self) -> Result<()> {
        validate_max(self.max_connections)?;
        let wrong = |field, problem: String| Err(Error::Config { field, problem });
        if self.min_idle > self.max_connections {
            let (min, max) = (self.min_idle, self.max_connections);
            return wrong("min_idle", format!("is {min}, more than max_connections ({max}); lower it"));
        }
        for (field, duration) in [
            ("wait_timeout", Some(self.wait_timeout)),
            ("connect_timeout", Some(self.connect_timeout)),
            ("acquire_timeout", Some(self.acquire_timeout)),
            ("hook_timeout", Some(self.hook_timeout)),
            ("idle_timeout", self.idle_timeout),
            ("max_lifetime", self.max_lifetime),
        ] {
            if duration == Some(Duration::ZERO) {
                return wrong(field, "is 0: nothing could ever be done in that time; choose at least 1 ms".to_owned());
            }
        }
        if !(0.0..1.0).contains(&self.lifetime_jitter) {
            let jitter = self.lifetime_jitter;
            return wrong("lifetime_jitter", format!("is {jitter}: a fraction from 0 to less than 1 is needed"));
        }
        Ok(())
    }
}

/// # Errors
/// [`Error::Config`] for a maximum that cannot work.
pub(crate) fn validate_max(max: usize) -> Result<()> {
    let field = "max_connections";
    match max {
        0 => Err(Error::Config { field, problem: "is 0: a pool needs at least 1 connection".to_owned() }),
        many if many > PoolConfig::MAX_CONNECTIONS => {
            let problem = format!("is {many}: at most {} are allowed", PoolConfig::MAX_CONNECTIONS);
            Err(Error::Config { field, problem })
        }
        _ => Ok(()),
    }
}
