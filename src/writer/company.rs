//! How long the lane waits for company: those who were answered just now are likely to write again at once.
//!
//! If it committed whatever is queued when a commit ends, callers that write in a loop would split into two halves that take
//! turns: one is answered while the other is queued, and each commit carries half of what it could. So the lane waits for as
//! many as it answered, beside those who were queued by then; a lone caller who comes back at once finds it awake. It looks
//! and does not sleep, for no timer is as short as this, and no longer than half of what the last commit took.
//!
//! Where nobody comes back, because callers have other things to do between two writes, that is soon over: once it was in vain
//! [`TRUST`] times more often than not, it waits once in [`SELDOM`] batches only.

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
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Those who were answered last, and those who were queued by then.
    expected: usize,
    /// For the first of them, while nobody is held up by it.
    first: Patience,
    /// For the others, while those who are there wait, too.
    others: Patience,
    /// How many were there when that wait began.
    before: Option<usize>,
}

impl Company {
    /// So many are about to be answered, while others are queued, after a commit that took that long (of a write that was
    /// alone: with the write itself).
    pub(super) fn leave(&mut self, answered: usize, queued: usize, commit: Duration) {
        let long = (commit / 2).min(LONGEST);
        self.expected = answered + queued;
        self.first.renew(long);
        self.others.renew(long);
    }

    /// A batch begins.
    pub(super) fn gather(&mut self) {
        self.before = None;
    }

    /// Whether no more than one is likely to come.
    pub(super) fn is_single(&self) -> bool {
        self.expected <= 1
    }

    /// Stays awake for the first one.
    pub(super) async fn linger(&mut self, has_come: impl Fn() -> bool) {
        if self.first.waits() {
            let came = self.first.look(has_come).await;
            self.first.judge(came);
        }
    }

    /// Waits for another one, when `here` have come. Whether `has_come` says so before the patience ends.
    pub(super) async fn wait(&mut self, here: usize, has_come: impl Fn() -> bool) -> bool {
        if here >= self.expected || !self.others.waits() {
            return false;
        }
        let before = *self.before.get_or_insert(here);
        let has_come = self.others.look(has_come).await;
        if !has_come {
            // It was worth it if at least half of them came.
            self.others.judge((here - before) * 2 >= self.expected - before);
        } else if here + 1 >= self.expected {
            self.others.judge(true);
        }
        has_come
    }
}

/// How long somebody is waited for, and whether at all.
#[derive(Debug)]
struct Patience {
    /// What is left of it before the next commit.
    left: Duration,
    looks: u32,
    /// Waits in vain that it stands yet.
    trust: u32,
    /// Batches since the last wait.
    batches: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: Duration::ZERO, looks: 0, trust: TRUST, batches: 0 }
    }
}

impl Patience {
    /// For another batch.
    fn renew(&mut self, long: Duration) {
        self.batches = self.batches.saturating_add(1);
        self.looks = LOOKS;
        self.left = if self.trust > 0 || self.batches >= SELDOM { long } else { Duration::ZERO };
    }

    fn waits(&self) -> bool {
        !self.left.is_zero()
    }

    /// Looks until there is somebody, or it is over. Whether there is.
    async fn look(&mut self, has_come: impl Fn() -> bool) -> bool {
        self.batches = 0;
        let began = clock::now();
        while !has_come() {
            if self.looks == 0 || since(began) >= self.left {
                self.left = Duration::ZERO;
                return false;
            }
            self.looks -= 1;
            clock::give_way().await;
        }
        self.left = self.left.saturating_sub(since(began));
        true
    }

    /// A wait is over.
    fn judge(&mut self, was_worth_it: bool) {
        self.trust = if was_worth_it { (self.trust + 1).min(TRUST) } else { self.trust.saturating_sub(1) };
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
        company.gather();
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

    /// How often it looks for somebody who does not come.
    async fn looks(company: &mut Company) -> u32 {
        company.leave(4, 1, Duration::from_millis(1));
        company.gather();
        let looks = Cell::new(0);
        let never = || {
            looks.set(looks.get() + 1);
            false
        };
        assert!(!company.wait(1, never).await);
        looks.get()
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
            waits += u32::from(looks(&mut company).await > 0);
        }
        assert_eq!(waits, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_again_is_trusted_again() {
        let mut company = Company::default();
        for _ in 0..TRUST {
            round(&mut company, 4, 0, 1).await;
        }
        assert_eq!(looks(&mut company).await, 0, "one of four is too few");
        for _ in 0..SELDOM {
            round(&mut company, 4, 0, 4).await;
        }
        assert!(looks(&mut company).await > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_nobody_was_answered_in_leaves_nothing_to_the_next() {
        let mut company = Company::default();
        company.leave(4, 4, Duration::from_millis(1));
        company.gather();
        assert!(company.wait(6, || true).await);
        // It broke, and whoever was in it was told without a commit.
        company.gather();
        assert!(!company.wait(1, || false).await);
        assert_eq!(company.others.trust, TRUST - 1, "none of seven came");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_waited_for_beside_the_others() {
        let mut company = Company::default();
        company.leave(4, 0, Duration::from_millis(1));
        company.linger(|| false).await;
        assert!(company.wait(1, || true).await, "that nobody was there is over once one is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_whose_caller_does_not_come_back_goes_to_sleep() {
        let mut company = Company::default();
        let mut awake = 0;
        for _ in 0..TRUST + SELDOM * 10 {
            company.leave(1, 0, Duration::from_millis(1));
            let looks = Cell::new(0);
            company
                .linger(|| {
                    looks.set(looks.get() + 1);
                    false
                })
                .await;
            awake += u32::from(looks.get() > 0);
        }
        assert_eq!(awake, TRUST + 10);
    }

    #[tokio::test]
    async fn no_wait_is_longer_than_its_part_of_a_commit() {
        let mut company = Company::default();
        for (commit, most) in [(Duration::ZERO, 0), (Duration::from_secs(1), 1), (Duration::from_micros(1), 1)] {
            company.leave(4, 0, commit);
            let looks = Cell::new(0);
            let slowly = || {
                looks.set(looks.get() + 1);
                let began = clock::now();
                while since(began) < LONGEST {}
                false
            };
            assert!(!company.wait(0, slowly).await);
            assert_eq!(looks.get(), most, "{commit:?}");
        }
    }
}
