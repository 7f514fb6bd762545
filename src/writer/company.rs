//! How long the lane waits for company: those who were answered just now are likely to write again at once.
//!
//! If it committed whatever is queued when a commit ends, callers that write in a loop would split into two halves that take
//! turns: one is answered while the other is queued, and each commit carries half of what it could. So the lane waits for as
//! many as it answered, beside those who were queued by then; a lone caller who comes back at once finds it awake. It looks
//! and does not sleep, for no timer is as short as this, and no longer than half of what the last commit took.
//!
//! Where nobody comes back, because callers have other things to do between two writes, that is soon over: who was waited for
//! in vain [`TRUST`] times more often than not is waited for once in [`SELDOM`] batches only.

use std::time::Duration;

use tokio::time::Instant;

use crate::pool::clock;

/// However long a commit takes, no more of a processor is spent on waiting after it.
const LONGEST: Duration = Duration::from_micros(300);

/// Nor more looks than these, if the clock stands still.
const LOOKS: u32 = 400;

/// Waits in vain that are needed until the lane gives up.
const TRUST: u32 = 8;

/// Then it tries again once in so many batches.
const SELDOM: u32 = 64;

/// Who is likely to come, and how long the lane waits for them.
#[derive(Debug)]
pub(super) struct Company {
    /// Those who were answered last, and those who were queued by then.
    expected: usize,
    /// What is left of the time to wait before the next commit.
    patience: Duration,
    looks: u32,
    /// How many were there when the wait began.
    before: Option<usize>,
    /// How much is left of it.
    trust: u32,
    /// Batches since a wait.
    batches: u32,
}

impl Default for Company {
    fn default() -> Self {
        Self { expected: 0, patience: Duration::ZERO, looks: 0, before: None, trust: TRUST, batches: 0 }
    }
}

impl Company {
    /// So many are about to be answered, while others are queued, after a commit that took that long.
    pub(super) fn leave(&mut self, answered: usize, queued: usize, commit: Duration) {
        self.expected = answered + queued;
        self.before = None;
        self.looks = LOOKS;
        self.batches += 1;
        self.patience = match self.trust > 0 || self.batches >= SELDOM {
            true => (commit / 2).min(LONGEST),
            false => Duration::ZERO,
        };
    }

    /// Whether no more than one is likely to come.
    pub(super) fn is_single(&self) -> bool {
        self.expected <= 1
    }

    /// Waits for another one, when `here` have come. Whether `has_come` says so before the patience ends.
    pub(super) async fn wait(&mut self, here: usize, has_come: impl Fn() -> bool) -> bool {
        if here >= self.expected || self.patience.is_zero() {
            return false;
        }
        self.batches = 0;
        let before = *self.before.get_or_insert(here);
        let began = clock::now();
        while !has_come() {
            if self.looks == 0 || since(began) >= self.patience {
                self.patience = Duration::ZERO;
                self.judge((here - before) * 2 >= self.expected - before);
                return false;
            }
            self.looks -= 1;
            // Who comes may need this very processor.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        self.patience = self.patience.saturating_sub(since(began));
        if here + 1 >= self.expected {
            self.judge(true);
        }
        true
    }

    /// A wait is over. It was worth it if at least half of them came.
    fn judge(&mut self, was_worth_it: bool) {
        self.trust = match was_worth_it {
            true => TRUST,
            false => self.trust.saturating_sub(1),
        };
    }
}

fn since(moment: Instant) -> Duration {
    clock::now().saturating_duration_since(moment)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// One round: `answered` are answered, and of those as many come back as `coming`. How many the lane has then.
    async fn round(company: &mut Company, answered: usize, queued: usize, coming: usize) -> usize {
        company.leave(answered, queued, Duration::from_millis(1));
        let (mut here, mut left) = (queued, coming);
        loop {
            // Each needs a few looks.
            let looks = Cell::new(0);
            let comes = || {
                looks.set(looks.get() + 1);
                left > 0 && looks.get() > 3
            };
            if !company.wait(here, comes).await {
                return here;
            }
            (here, left) = (here + 1, left - 1);
        }
    }

    /// Whether it still waits for somebody.
    async fn has_trust(company: &mut Company) -> bool {
        company.leave(1, 0, Duration::from_millis(1));
        company.wait(0, || true).await
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_were_answered_join_those_who_were_queued() {
        let mut company = Company::default();
        assert_eq!(round(&mut company, 5, 3, 5).await, 8);
        assert_eq!(round(&mut company, 5, 3, 9).await, 8, "no more are waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_batch_is_for_whoever_comes_first() {
        let mut company = Company::default();
        assert!(company.is_single());
        assert!(!company.wait(1, || unreachable!("it does not look")).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_comes_is_waited_for_seldom() {
        let mut company = Company::default();
        for _ in 0..TRUST {
            assert_eq!(round(&mut company, 4, 1, 0).await, 1);
        }
        let mut waits = 0;
        for _ in 0..SELDOM * 10 {
            company.leave(4, 1, Duration::from_millis(1));
            let looks = Cell::new(0);
            company
                .wait(1, || {
                    looks.set(looks.get() + 1);
                    false
                })
                .await;
            waits += u32::from(looks.get() > 0);
        }
        assert_eq!(waits, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_is_trusted_again() {
        let mut company = Company::default();
        for _ in 0..TRUST {
            round(&mut company, 4, 0, 1).await;
        }
        assert!(!has_trust(&mut company).await, "one of four is too few");
        for _ in 0..SELDOM {
            round(&mut company, 4, 0, 4).await;
        }
        assert!(has_trust(&mut company).await);
    }

    #[tokio::test]
    async fn no_wait_is_longer_than_its_part_of_a_commit() {
        let mut company = Company::default();
        for (commit, most) in [(Duration::ZERO, 0), (Duration::from_secs(1), 1), (Duration::from_micros(1), 1)] {
            company.leave(4, 0, commit);
            let looks = Cell::new(0);
            let slowly = || {
                looks.set(looks.get() + 1);
                std::thread::sleep(LONGEST);
                false
            };
            assert!(!company.wait(0, slowly).await);
            assert_eq!(looks.get(), most, "{commit:?}");
        }
    }
}
