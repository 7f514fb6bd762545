//! Why a run failed.

use std::fmt;
use std::time::Duration;

/// What went wrong in one run of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Of which kind it is.
    pub kind: FailureKind,
    /// In words.
    pub message: String,
    /// Of a panic: the place in the source, with its column.
    at: Option<String>,
}

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The check returned an error.
    Check,
    /// A task panicked.
    Panic,
    /// Nobody can go on, and no time limit will end that: none within an hour of the world's time. A check that waits longer than
    /// that, with nothing else to do meanwhile, is taken for one.
    Deadlock,
    /// Many steps, and nobody got anywhere.
    Livelock,
    /// The pool or the lane is in a state in which it must never be.
    Invariant,
    /// Something real got in: a thread that is none of the world's woke a task.
    Outside,
    /// A schedule that was to be repeated no longer applies.
    Schedule,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureKind::Check => "the check failed",
            FailureKind::Panic => "a panic",
            FailureKind::Deadlock => "a deadlock",
            FailureKind::Livelock => "a livelock",
            FailureKind::Invariant => "a broken invariant",
            FailureKind::Outside => "not simulated",
            FailureKind::Schedule => "the schedule no longer applies",
        })
    }
}

impl Failure {
    pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), at: None }
    }

    /// A panic at that place, of which the message tells.
    pub(super) fn panic(message: impl Into<String>, at: Option<String>) -> Self {
        Self { at, ..Self::new(FailureKind::Panic, message) }
    }

    /// In one line, that this seed was found to fail, and is made smaller for so long.
    #[must_use]
    pub fn found(&self, seed: u64, limit: Duration) -> String {
        let failure = self.to_string();
        let first = failure.lines().next().unwrap_or_default();
        format!("seed {seed} fails: {first} (making it smaller, for {limit:?} at most)")
    }

    /// Whether it is the same fault, seen with other numbers or details perhaps: all up to the first colon, without digits.
    /// Of a panic the place counts, too: what `assert_eq!` says before its colon is the same for every assertion, and what it
    /// says after that is the values, another one each time.
    pub(super) fn is_like(&self, other: &Failure) -> bool {
        let gist = |failure: &Failure| {
            let line = failure.message.lines().next().unwrap_or_default();
            line.split(": ").next().unwrap_or_default().replace(|letter: char| letter.is_ascii_digit(), "")
        };
        (self.kind, &self.at) == (other.kind, &other.at) && gist(self) == gist(other)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::{Course, run};
    use super::super::{Faults, Plan, World};
    use super::*;

    /// What that makes of a world.
    fn failure(check: impl AsyncFn(World) -> Result<(), String>) -> Failure {
        let plan = Plan::default();
        run(Course::Plan(&plan), Faults::NONE, false, &check).failure.expect("it fails")
    }

    async fn counts(one: i64, other: i64) -> Result<(), String> {
        assert_eq!(one, other);
        assert_eq!(one + 1, other);
        Ok(())
    }

    async fn claims(is_first: bool) -> Result<(), String> {
        assert!(!is_first);
        assert!(is_first);
        Ok(())
    }

    #[test]
    fn an_assertion_that_fails_with_other_values_is_the_same_failure() {
        let (one, other) = (failure(async |_| counts(1, 2).await), failure(async |_| counts(30, -40).await));
        assert_ne!(one.message, other.message);
        assert!(one.is_like(&other), "{one}\n{other}");
    }

    #[test]
    fn two_assertions_that_fail_with_the_same_words_are_two_failures() {
        let (one, other) = (failure(async |_| counts(1, 2).await), failure(async |_| counts(2, 2).await));
        assert_eq!(one.message.lines().next(), other.message.lines().next());
        assert!(!one.is_like(&other), "{one}\n{other}");
        let (one, other) = (failure(async |_| claims(true).await), failure(async |_| claims(false).await));
        assert!(!one.is_like(&other), "{one}\n{other}");
    }

    #[test]
    fn an_error_is_the_same_failure_up_to_its_colon_whatever_its_numbers() {
        let error = |text: &str| Failure::new(FailureKind::Check, text);
        assert!(error("write 3 is lost: 2 of 4").is_like(&error("write 17 is lost: 1 of 2")));
        assert!(!error("write 3 is lost").is_like(&error("write 3 is there in part")));
        assert!(!error("write 3 is lost").is_like(&Failure::new(FailureKind::Invariant, "write 3 is lost")));
    }
}
