//! Why a run failed.

use std::fmt;

/// What went wrong in one run of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Of which kind it is.
    pub kind: FailureKind,
    /// In words.
    pub message: String,
}

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The check returned an error.
    Check,
    /// A task panicked.
    Panic,
    /// Nobody can go on, and no time limit will end that.
    Deadlock,
    /// Many steps, and nobody got anywhere.
    Livelock,
    /// The pool or the lane is in a state in which it must never be.
    Invariant,
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
            FailureKind::Schedule => "the schedule no longer applies",
        })
    }
}

impl Failure {
    pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Without the number of its world, which is another in each run.
    pub(super) fn of_any_world(mut self, world: u64) -> Self {
        self.message = self.message.replace(&format!("/sim/{world}"), "/sim");
        self
    }

    /// Whether it is the same fault, seen with other numbers or details perhaps: all up to the first colon, without digits.
    pub(super) fn is_like(&self, other: &Failure) -> bool {
        let gist = |failure: &Failure| {
            let line = failure.message.lines().next().unwrap_or_default();
            line.split(": ").next().unwrap_or_default().replace(|letter: char| letter.is_ascii_digit(), "")
        };
        self.kind == other.kind && gist(self) == gist(other)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}
