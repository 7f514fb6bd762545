//! What is required of the medians, in one table; and how each requirement fares.

use crate::estimates::{Estimates, Median};

/// A row of criterion's: its group and its function.
type Name = (&'static str, &'static str);

/// The time of one row is at most `limit` times another's.
pub struct Requirement {
    pub promise: &'static str,
    row: Name,
    beside: Name,
    /// `None` if the ratio is only shown.
    limit: Option<f64>,
}

const fn required(promise: &'static str, row: Name, beside: Name, limit: f64) -> Requirement {
    Requirement { promise, row, beside, limit: Some(limit) }
}

const fn shown(promise: &'static str, row: Name, beside: Name) -> Requirement {
    Requirement { promise, row, beside, limit: None }
}

const OURS: &str = "poolproof";
const DEADPOOL: &str = "deadpool";
const DEADPOOL_LIMITED: &str = "deadpool, 30 s limit";
const BB8: &str = "bb8";

const ALONE: &str = "pool: get + drop, uncontended";
const TASKS_11: &str = "pool: get + drop, 11 tasks on 10";
const TASKS_26: &str = "pool: get + drop, 26 tasks on 10";
const TASKS_64: &str = "pool: get + drop, 64 tasks on 10";
const TASKS_128: &str = "pool: get + drop, 128 tasks on 10";
const TASKS_512: &str = "pool: get + drop, 512 tasks on 10";
const STATEMENT: &str = "statement: a row by its key";

/// Caches may cost something, since 10,000 waiters fit into fewer of them than 100; a walk along the queue would cost 100.
const CONSTANT: f64 = 3.0;

/// deadpool waits for ever as it comes; beside what waits at most 30 s, as ours and bb8 do, it is judged.
pub const REQUIREMENTS: &[Requirement] = &[
    required("alone: a third of deadpool's time", (ALONE, OURS), (ALONE, DEADPOOL), 1.0 / 3.0),
    shown("alone: beside deadpool with a limit", (ALONE, OURS), (ALONE, DEADPOOL_LIMITED)),
    required("alone: a quarter of bb8's time", (ALONE, OURS), (ALONE, BB8), 1.0 / 4.0),
    required("alone: 1.5 bare semaphores", (ALONE, OURS), (ALONE, "bare semaphore"), 1.5),
    required("64 tasks: 0.6 of deadpool's time", (TASKS_64, OURS), (TASKS_64, DEADPOOL_LIMITED), 0.6),
    shown("64 tasks: beside deadpool without a limit", (TASKS_64, OURS), (TASKS_64, DEADPOOL)),
    required("64 tasks: 0.6 of bb8's time", (TASKS_64, OURS), (TASKS_64, BB8), 0.6),
    required("512 tasks: 0.6 of deadpool's time", (TASKS_512, OURS), (TASKS_512, DEADPOOL_LIMITED), 0.6),
    shown("512 tasks: beside deadpool without a limit", (TASKS_512, OURS), (TASKS_512, DEADPOOL)),
    required("512 tasks: 0.6 of bb8's time", (TASKS_512, OURS), (TASKS_512, BB8), 0.6),
    required("16 waiters cost what 1 does", (TASKS_26, OURS), (TASKS_11, OURS), 1.2),
    required("54 waiters cost what 1 does", (TASKS_64, OURS), (TASKS_11, OURS), 1.2),
    required("118 waiters cost what 1 does", (TASKS_128, OURS), (TASKS_11, OURS), 1.2),
    required("502 waiters cost what 1 does", (TASKS_512, OURS), (TASKS_11, OURS), 1.2),
    shown("502 waiters beside 1, deadpool", (TASKS_512, DEADPOOL_LIMITED), (TASKS_11, DEADPOOL_LIMITED)),
    required(
        "joining 10,000 costs what joining 100 does",
        ("queue: join, 10000 waiting", OURS),
        ("queue: join, 100 waiting", OURS),
        CONSTANT,
    ),
    required(
        "leaving 10,000 costs what leaving 100 does",
        ("queue: leave, 10000 waiting", OURS),
        ("queue: leave, 100 waiting", OURS),
        CONSTANT,
    ),
    required(
        "a hand-over to one of 10,000 costs what one to one of 100 does",
        ("queue: hand over, 10000 waiting", OURS),
        ("queue: hand over, 100 waiting", OURS),
        CONSTANT,
    ),
    required(
        "statement: 80 % of the engine's rate",
        (STATEMENT, OURS),
        (STATEMENT, "engine, prepared once"),
        1.0 / 0.8,
    ),
    required("statement: 10 times the unprepared", (STATEMENT, OURS), (STATEMENT, "engine, prepared each time"), 0.1),
    shown("statement: beside no cache", (STATEMENT, OURS), (STATEMENT, "poolproof, no cache")),
];

/// How a requirement fares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Holds,
    /// More than the limit, but not by more than the noise.
    WithinNoise,
    Missed,
    Shown,
    NotMeasured,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::WithinNoise => "holds within the noise",
            Verdict::Missed => "MISSED",
            Verdict::Shown => "shown",
            Verdict::NotMeasured => "not measured",
        }
    }
}

/// A ratio of two medians, and how much less it may be in truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub value: f64,
    pub noise: f64,
}

impl Ratio {
    /// Of one round: the relative errors of two independent medians add up as squares.
    fn new(row: Median, beside: Median) -> Self {
        let value = row.value / beside.value;
        Self { value, noise: value * (row.error / row.value).hypot(beside.error / beside.value) }
    }

    /// Of all rounds in which both were measured: the median of the ratios. Its noise is that of a round, or how far it stands
    /// above what the true median exceeds almost surely: criterion cannot know what the machine did between one row and the
    /// next.
    pub fn of(rows: &[(String, Median)], besides: &[(String, Median)]) -> Option<Self> {
        let beside = |round: &str| besides.iter().find(|(other, _)| other == round).map(|(_, median)| *median);
        let mut ratios: Vec<_> =
            rows.iter().filter_map(|(round, median)| Some(Self::new(*median, beside(round)?))).collect();
        ratios.sort_by(|one, other| one.value.total_cmp(&other.value));
        let least = ratios.get(surely_below(ratios.len()))?.value;
        let middle = ratios[ratios.len() / 2];
        Some(Self { value: middle.value, noise: middle.noise.max(middle.value - least) })
    }
}

/// The place, in a sorted sample of so many, of the largest value that the true median exceeds in 24 cases of 25 (the sign
/// test's bound: each value is above the median as often as below). The least one if there are too few for that.
fn surely_below(count: usize) -> usize {
    let mut chance = 0.5_f64.powi(count as i32);
    let mut at_most = chance;
    for place in 0..count {
        chance *= (count - place) as f64 / (place + 1) as f64;
        at_most += chance;
        if at_most > 0.04 {
            return place;
        }
    }
    0
}

impl Requirement {
    pub fn limit(&self) -> Option<f64> {
        self.limit
    }

    pub fn judge(&self, estimates: &Estimates) -> (Verdict, Option<Ratio>) {
        let ratio = Ratio::of(estimates.of(self.row), estimates.of(self.beside));
        let verdict = match (ratio, self.limit) {
            (None, _) => Verdict::NotMeasured,
            (Some(_), None) => Verdict::Shown,
            (Some(ratio), Some(limit)) if ratio.value <= limit => Verdict::Holds,
            (Some(ratio), Some(limit)) if ratio.value - ratio.noise <= limit => Verdict::WithinNoise,
            (Some(_), Some(_)) => Verdict::Missed,
        };
        (verdict, ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_sign_tests() {
        // Binomial tails: 1/32 for five, 10/512 for nine, 37/1024 * ... for more; see any table of the sign test.
        assert_eq!([1, 4, 5, 8, 9, 12, 15, 20].map(surely_below), [0, 0, 0, 1, 1, 2, 3, 5]);
    }

    const HALF: Requirement = required("half of it", ("group", "ours"), ("group", "theirs"), 0.5);

    /// Of one function in each round.
    fn measured(rounds: &[(&str, f64, f64)]) -> Estimates {
        let mut estimates = Estimates::default();
        for (round, (who, value, error)) in rounds.iter().enumerate().map(|(index, row)| (index / 2, row)) {
            estimates.add("group", who, round.to_string(), Median { value: *value, error: *error });
        }
        estimates
    }

    #[test]
    fn a_ratio_within_its_limit_holds() {
        let (verdict, ratio) = HALF.judge(&measured(&[("ours", 40.0, 1.0), ("theirs", 100.0, 1.0)]));
        assert_eq!((verdict, ratio.map(|ratio| ratio.value)), (Verdict::Holds, Some(0.4)));
    }

    #[test]
    fn a_ratio_beyond_its_limit_by_more_than_the_noise_is_missed() {
        let (verdict, _) = HALF.judge(&measured(&[("ours", 55.0, 1.0), ("theirs", 100.0, 1.0)]));
        assert_eq!(verdict, Verdict::Missed);
    }

    #[test]
    fn a_ratio_beyond_its_limit_by_less_than_the_noise_is_not_missed() {
        let noisy_ours = measured(&[("ours", 55.0, 6.0), ("theirs", 100.0, 0.0)]);
        let noisy_theirs = measured(&[("ours", 55.0, 0.0), ("theirs", 100.0, 11.0)]);
        for estimates in [noisy_ours, noisy_theirs] {
            assert_eq!(HALF.judge(&estimates).0, Verdict::WithinNoise);
        }
    }

    #[test]
    fn the_noise_of_two_medians_adds_up_as_squares() {
        let (_, ratio) = HALF.judge(&measured(&[("ours", 100.0, 3.0), ("theirs", 100.0, 4.0)]));
        assert!(ratio.is_some_and(|ratio| (ratio.noise - 0.05).abs() < 1e-12), "{ratio:?}");
    }

    #[test]
    fn rounds_that_differ_are_noise_and_the_median_of_them_counts() {
        let rounds =
            [("ours", 40.0), ("theirs", 100.0), ("ours", 55.0), ("theirs", 100.0), ("ours", 60.0), ("theirs", 100.0)];
        let (verdict, ratio) = HALF.judge(&measured(&rounds.map(|(who, value)| (who, value, 0.0))));
        assert_eq!(verdict, Verdict::WithinNoise);
        assert!(ratio.is_some_and(|ratio| ratio.value == 0.55 && (ratio.noise - 0.15).abs() < 1e-12), "{ratio:?}");
    }

    #[test]
    fn a_row_that_is_missing_is_not_measured() {
        for estimates in [measured(&[]), measured(&[("ours", 99.0, 0.0)]), measured(&[("theirs", 1.0, 0.0)])] {
            assert_eq!(HALF.judge(&estimates), (Verdict::NotMeasured, None));
        }
    }

    #[test]
    fn medians_of_different_rounds_are_not_compared() {
        let mut estimates = Estimates::default();
        estimates.add("group", "ours", "1".to_owned(), Median { value: 1.0, error: 0.0 });
        estimates.add("group", "theirs", "2".to_owned(), Median { value: 1.0, error: 0.0 });
        assert_eq!(HALF.judge(&estimates).0, Verdict::NotMeasured);
    }

    #[test]
    fn what_is_only_shown_is_never_missed() {
        let requirement = shown("for comparison", ("group", "ours"), ("group", "theirs"));
        assert_eq!(requirement.judge(&measured(&[("ours", 9.0, 0.0), ("theirs", 1.0, 0.0)])).0, Verdict::Shown);
    }
}
