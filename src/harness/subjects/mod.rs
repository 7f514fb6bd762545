//! Who is put to the work, on today's engine: the pool, and the controls that must not pass.

mod controls;
mod engine;
mod number_twenty;
mod pool;

pub use self::controls::{Lending, Mutexed, Shared};
pub use self::number_twenty::NumberTwenty;
pub use self::pool::Pooled;

use std::sync::Arc;

use super::drive::{Control, Plan, drive};
use super::run::RunReport;
use super::workload::Failure;

/// The engine below all of these.
pub(super) const ENGINE: &str = "turso 0.8.3";

/// The subjects by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The pool and the writer.
    Pool,
    /// One connection behind an async mutex: safe, one operation at a time.
    Mutex,
    /// Control: one connection shared by everybody, as in the story.
    Shared,
    /// Our pool, over a manager of the harness's own: sound, the counterpart of the next.
    OneHolder,
    /// Control: the same, but each connection is lent to two holders.
    DoubleHolder,
    /// Control: a pool with the flaws of the first fix.
    NumberTwenty,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Pool, Kind::Mutex, Kind::OneHolder, Kind::Shared, Kind::DoubleHolder, Kind::NumberTwenty];

    /// The name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pool => "pool",
            Kind::Mutex => "mutex",
            Kind::Shared => "shared",
            Kind::OneHolder => "one-holder",
            Kind::DoubleHolder => "double-holder",
            Kind::NumberTwenty => "number-20",
        }
    }

    /// Drives this subject.
    ///
    /// # Errors
    /// As for [`drive`].
    pub fn drive(self, plan: &Plan, control: &Arc<Control>) -> Result<RunReport, Failure> {
        match self {
            Kind::Pool => drive::<Pooled>(self.name(), plan, control),
            Kind::Mutex => drive::<Mutexed>(self.name(), plan, control),
            Kind::Shared => drive::<Shared>(self.name(), plan, control),
            Kind::OneHolder => drive::<Lending<1>>(self.name(), plan, control),
            Kind::DoubleHolder => drive::<Lending<2>>(self.name(), plan, control),
            Kind::NumberTwenty => drive::<NumberTwenty>(self.name(), plan, control),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::path::Path;
    use std::time::Duration;

    use super::super::drive::{Closed, Settings, Subject};
    use super::super::workload::{Op, Seen, Spec};
    use super::engine::Raw;
    use super::*;

    /// A subject that never ends an operation.
    struct Stuck;

    impl Subject for Stuck {
        const ENGINE: &'static str = ENGINE;
        type Fresh = Raw;

        async fn fresh(path: &Path) -> Result<Raw, Failure> {
            Raw::fresh(path).await
        }

        async fn open(_settings: &Settings) -> Result<Self, Failure> {
            Ok(Self)
        }

        async fn perform(&self, _op: Op) -> Result<Option<Seen>, Failure> {
            pending().await
        }

        async fn close(self) -> Result<Closed, Failure> {
            Ok(Closed::default())
        }
    }

    #[test]
    fn a_run_in_which_nothing_moves_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan {
            spec: Spec { operations: 10, concurrency: 2, seed: 1, ..Spec::default() },
            workers: 2,
            duration: None,
            watchdog: Duration::from_secs(1),
            settings: Settings { path: folder.path().join("stuck.db"), pool_size: 2, warm: false },
        };
        let report = drive::<Stuck>("stuck", &plan, &Arc::default()).unwrap();
        assert!(report.hung && !report.ok, "{report:?}");
        assert_eq!((report.operations, report.acknowledged), (0, 0));
    }
}
