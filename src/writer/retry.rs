//! How long to wait before the next try: exponential backoff with jitter.
//!
//! Full jitter in the sense of AWS's "Exponential Backoff And Jitter" (2015): each pause is a part of a limit that doubles.
//! The parts are the multiples of the golden ratio modulo 1, which are evenly spread and need no randomness: the same
//! writer makes the same pauses, and two that begin at different counts make different ones.

use std::time::Duration;

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
