//! What a pool tells of itself while it works: spans and events for `tracing`, counters and histograms for `metrics`.
//!
//! The tables of them stand at [`Pool`](super::Pool). A connection that is idle and lent as it is costs one counter and no
//! event.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tracing::span::Entered;
use tracing::{Level, Span, debug, debug_span, warn};

#[cfg(feature = "metrics")]
use super::clock;
use super::forensics::AcquireTimeout;
use crate::sync::Arc;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The pool was closed, dropped or made smaller, or the get that had it was cancelled.
    Surplus,
    /// Its user panicked.
    Panicked,
    /// The manager did not want it back.
    Unusable,
    /// Its lifetime was over.
    Expired,
    /// Nobody used it for too long.
    Idle,
    /// It failed its test or a hook, or these were cut short.
    TurnedDown,
    /// `retain` was told not to keep it.
    NotRetained,
    /// Not closed: its user took it out of the pool.
    Detached,
}

impl Reason {
    fn label(self) -> &'static str {
        match self {
            Reason::Surplus => "surplus",
            Reason::Panicked => "panicked",
            Reason::Unusable => "unusable",
            Reason::Expired => "expired",
            Reason::Idle => "idle",
            Reason::TurnedDown => "turned_down",
            Reason::NotRetained => "not_retained",
            Reason::Detached => "detached",
        }
    }
}

/// Tells what happens in one pool.
pub(super) struct Observer {
    pool: String,
    #[cfg(feature = "metrics")]
    meters: Meters,
}

#[cfg(feature = "metrics")]
struct Meters {
    acquires: metrics::Counter,
    waits: metrics::Histogram,
    connects: metrics::Histogram,
    opened: metrics::Counter,
}

impl Observer {
    pub(super) fn new(pool: String) -> Self {
        #[cfg(feature = "metrics")]
        let meters = Meters {
            acquires: metrics::counter!("poolproof_acquires_total", "pool" => pool.clone()),
            waits: metrics::histogram!("poolproof_acquire_wait_seconds", "pool" => pool.clone()),
            connects: metrics::histogram!("poolproof_connect_seconds", "pool" => pool.clone()),
            opened: metrics::counter!("poolproof_connections_opened_total", "pool" => pool.clone()),
        };
        Self {
            pool,
            #[cfg(feature = "metrics")]
            meters,
        }
    }

    /// A connection is lent.
    #[inline]
    pub(super) fn lent(&self) {
        #[cfg(feature = "metrics")]
        self.meters.acquires.increment(1);
    }

    /// Somebody begins to wait, who came at `came` if that is known.
    #[inline]
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "only the histogram needs the time"))]
    pub(super) fn waits(&self, ahead: usize, came: Option<Instant>) -> Wait {
        // Asked first: a span that nobody wants is still some 40 bytes to be made, moved and dropped by each who waits.
        let wanted = tracing::enabled!(target: "poolproof", Level::DEBUG);
        Wait {
            span: wanted.then(|| self.wait_span(ahead)),
            #[cfg(feature = "metrics")]
            began: Some(came.unwrap_or_else(clock::now)),
        }
    }

    fn wait_span(&self, ahead: usize) -> Box<Span> {
        Box::new(debug_span!(target: "poolproof", "wait", pool = self.pool, ahead))
    }

    /// Somebody who had to wait is served.
    #[inline]
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is recorded"))]
    pub(super) fn served(&self, wait: &Wait) {
        #[cfg(feature = "metrics")]
        if let Some(began) = wait.began {
            self.meters.waits.record(clock::now().saturating_duration_since(began));
        }
    }

    /// The span of a connection that is being opened.
    pub(super) fn connects(&self) -> Span {
        debug_span!(target: "poolproof", "connect", pool = self.pool)
    }

    pub(super) fn opened(&self, took: Duration) {
        debug!(target: "poolproof", pool = self.pool, seconds = took.as_secs_f64(), "opened a connection");
        #[cfg(feature = "metrics")]
        {
            self.meters.opened.increment(1);
            self.meters.connects.record(took);
        }
    }

    fn closed(&self, reason: Reason) {
        let reason = reason.label();
        debug!(target: "poolproof", pool = self.pool, reason, "closed a connection");
        #[cfg(feature = "metrics")]
        metrics::counter!("poolproof_connections_closed_total", "pool" => self.pool.clone(), "reason" => reason)
            .increment(1);
    }

    /// The test or a hook does not want an idle connection to be lent.
    pub(super) fn turned_down(&self, by: &str, error: &dyn fmt::Display) {
        warn!(target: "poolproof", pool = self.pool, by, %error, "turned an idle connection down");
    }

    /// `min_idle` cannot be kept.
    pub(super) fn refill_failed(&self, error: &dyn fmt::Display) {
        warn!(target: "poolproof", pool = self.pool, %error, "could not keep connections idle");
    }

    pub(super) fn timed_out(&self, timeout: &AcquireTimeout) {
        let verdict = timeout.verdict.label();
        warn!(target: "poolproof", pool = self.pool, verdict, report = %timeout, "no connection in time");
        #[cfg(feature = "metrics")]
        metrics::counter!("poolproof_acquire_timeouts_total", "pool" => self.pool.clone(), "verdict" => verdict)
            .increment(1);
    }

    pub(super) fn resized(&self, max: usize) {
        debug!(target: "poolproof", pool = self.pool, max, "resized");
    }

    pub(super) fn pool_closed(&self) {
        debug!(target: "poolproof", pool = self.pool, "closed the pool");
    }
}

/// What is told of somebody's time in the queue. Nothing, if nobody listens.
#[derive(Default)]
pub(super) struct Wait {
    span: Option<Box<Span>>,
    /// Read exactly, although the queue may leave that for later.
    #[cfg(feature = "metrics")]
    began: Option<Instant>,
}

impl Wait {
    /// Goes on in its span.
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        self.span.as_ref().map(|span| span.enter())
    }
}

/// Dropped with a connection, it says why that was closed.
pub(super) struct Life {
    observer: Arc<Observer>,
    reason: Reason,
}

impl Life {
    pub(super) fn new(observer: &Arc<Observer>) -> Self {
        Self { observer: Arc::clone(observer), reason: Reason::Surplus }
    }

    /// Why it will have been closed.
    pub(super) fn ends(&mut self, reason: Reason) {
        self.reason = reason;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.observer.closed(self.reason);
    }
}
