//! How long to wait before the next try: exponential backoff with jitter.
//!
//! Equal jitter in the sense of AWS's "Exponential Backoff And Jitter" (2015): each pause is half of a limit that doubles, and
//! a part of the other half. The parts are the multiples of the golden ratio modulo 1, which are evenly spread and need no
//! randomness: the same writer makes the same pauses, and two that begin at different counts make different ones.

use std::time::Duration;

use tokio::time::Instant;

use super::door::Shared;
use crate::error::{Error, Result};
use crate::pool::control::Control;
use crate::pool::{PooledConnection, clock};

/// The first pause is at most this long.
const SHORTEST: Duration = Duration::from_micros(500);
/// And none is longer than this.
const LONGEST: Duration = Duration::from_millis(16);
/// The golden ratio's fraction, of 2^64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The pauses between the tries of one write.
pub(super) struct Backoff {
    limit: Duration,
    seed: u64,
}

impl Backoff {
    /// `count`: tries made so far by the same writer; where the spread begins.
    pub(super) fn new(count: u64) -> Self {
        Self { limit: SHORTEST, seed: count.wrapping_mul(GOLDEN) }
    }

    /// The next pause, from half of the limit to the whole of it.
    pub(super) fn pause(&mut self) -> Duration {
        self.seed = self.seed.wrapping_add(GOLDEN);
        let part = self.seed as f64 / u64::MAX as f64;
        let pause = self.limit.mul_f64(0.5 + part / 2.0);
        self.limit = (self.limit * 2).min(LONGEST);
        pause
    }
}

/// The tries of one who finds the write lock taken: how long there may be another, and what comes between them.
pub(super) struct Tries<'l> {
    shared: &'l Shared,
    backoff: Backoff,
    /// Whether it is over once nobody waits for it.
    for_those_who_wait: bool,
    /// When the first one failed.
    began: Option<Instant>,
    /// The same, of the job that it is for, and the time that this had.
    due: Option<(Instant, Duration)>,
}

impl<'l> Tries<'l> {
    pub(super) fn new(shared: &'l Shared) -> Self {
        Self::of(shared, None)
    }

    /// Of those in the queue, or to run again: when the last of them has left, it is over.
    pub(super) fn for_those_who_wait(shared: &'l Shared) -> Self {
        Self { for_those_who_wait: true, ..Self::new(shared) }
    }

    /// Of a job that has to be started in time.
    pub(super) fn of(shared: &'l Shared, due: Option<(Instant, Duration)>) -> Self {
        let backoff = Backoff::new(shared.counts.retries());
        Self { shared, backoff, for_those_who_wait: false, began: None, due }
    }

    /// Takes the write lock; tries again while somebody outside the lane holds it. `Busy` means that nothing happened.
    pub(super) async fn begin(&mut self, connection: &mut PooledConnection) -> Result<()> {
        loop {
            match connection.control(Control::BeginImmediate).await {
                Err(error) if error.is_contention() => self.again(connection).await?,
                outcome => {
                    // Whoever has it next begins anew.
                    self.began = None;
                    return outcome;
                }
            }
        }
    }

    /// A try on this connection failed. Waits for the time of the next. Those in the queue who cannot wait are told at once.
    ///
    /// # Errors
    /// When there is no time for another, or nobody who waits for it: why.
    pub(super) async fn again(&mut self, connection: &PooledConnection) -> Result<()> {
        self.shared.refuse_at_once();
        let now = clock::now();
        let tried = now.saturating_duration_since(*self.began.get_or_insert(now));
        let mut left = self.shared.config.retry_timeout.saturating_sub(tried);
        let is_for_nobody = self.for_those_who_wait && self.shared.queue.is_empty() && self.shared.again() == 0;
        if left.is_zero() || is_for_nobody {
            return Err(Error::Locked { tried, holders: connection.others_in_transactions() });
        }
        if let Some((due, limit)) = self.due {
            left = left.min(due.saturating_duration_since(now));
            if left.is_zero() {
                return Err(Shared::too_late(limit));
            }
        }
        self.shared.counts.retried();
        clock::sleep(self.backoff.pause().min(left)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let pauses = |count| {
            let mut backoff = Backoff::new(count);
            std::array::from_fn::<_, 20, _>(|_| backoff.pause())
        };
        let mut limit = SHORTEST;
        for pause in pauses(0) {
            assert!(limit / 2 <= pause && pause <= limit, "{pause:?} of {limit:?}");
            limit = (limit * 2).min(LONGEST);
        }
        assert_ne!(pauses(0), pauses(1));
        assert_eq!(pauses(7), pauses(7));
    }
}
