//! What is required of the medians, in one table; and how each requirement fares.

use crate::estimates::{Estimates, Median};
use crate::unit::Unit;

/// A row of criterion's: its group and its function.
type Name = (&'static str, &'static str);

/// What is measured is at most `limit`.
pub struct Requirement {
    pub promise: &'static str,
    row: Name,
    beside: Beside,
    /// `None` if it is only shown.
    limit: Option<f64>,
    /// Whether only the long form of the benches measures it.
    full: bool,
}

/// What a row is measured by.
enum Beside {
    /// The row as so many times another.
    Times(Name),
    /// What it is more than another.
    More(Name),
    /// Nothing: the row itself.
    Nothing,
}

const fn required(promise: &'static str, row: Name, beside: Name, limit: f64) -> Requirement {
    Requirement { promise, row, beside: Beside::Times(beside), limit: Some(limit), full: false }
}

const fn shown(promise: &'static str, row: Name, beside: Name) -> Requirement {
    Requirement { promise, row, beside: Beside::Times(beside), limit: None, full: false }
}

const fn shown_alone(promise: &'static str, row: Name) -> Requirement {
    Requirement { promise, row, beside: Beside::Nothing, limit: None, full: false }
}

/// In the row's own unit: nanoseconds, or bytes.
const fn at_most(promise: &'static str, row: Name, limit: f64) -> Requirement {
    Requirement { promise, row, beside: Beside::Nothing, limit: Some(limit), full: false }
}

const fn more_by(promise: &'static str, row: Name, beside: Name, limit: f64) -> Requirement {
    Requirement { promise, row, beside: Beside::More(beside), limit: Some(limit), full: false }
}

impl Requirement {
    const fn if_full(mut self) -> Self {
        self.full = true;
        self
    }
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

const SCHEDULE: &str = "sim: a schedule of 4 tasks x 10 statements";
const ENGINE: &str = "the engine alone";
const MUTEX: &str = "mutex";
const SQLITE: &str = "SQLite, writer thread";
const BARE: &str = "bare connection";
const LOOP: &str = "hand-written loop";
const ANSWERED: &str = "loop that answers";
const WRITE_1: &str = "writer: a durable row, 1 callers";
const WRITE_8: &str = "writer: a durable row, 8 callers";
const WRITE_32: &str = "writer: a durable row, 32 callers";
const WRITE_128: &str = "writer: a durable row, 128 callers";
const WRITE_512: &str = "writer: a durable row, 512 callers";
const P50: &str = "writer: p50 of a write's time, 32 callers";
const P99: &str = "writer: p99 of a write's time, 32 callers";
const COMMIT: &str = "a lone commit";
const RESTED_P50: &str = "writer: p50 of a write's time, 8 callers that rest";
const RESTED_P99: &str = "writer: p99 of a write's time, 8 callers that rest";
const CLOSURES_P50: &str = "writer: p50 of a write's time, 8 callers that rest, beside transactions of 10 ms";
const CLOSURES_P99: &str = "writer: p99 of a write's time, 8 callers that rest, beside transactions of 10 ms";
const READS: &str = "mixed: a row by its key, 32 readers, no writer";
const READS_BESIDE: &str = "mixed: a row by its key, 32 readers, 32 writers";
const TO_THOUSAND: &str = "volume: a durable row, up to 1000";
const TO_100_000: &str = "volume: a durable row, up to 100000";
const TO_MILLION: &str = "volume: a durable row, up to 1000000";
const MEMORY_TO_100_000: &str = "memory: peak, up to 100000 writes";
const MEMORY_TO_MILLION: &str = "memory: peak, up to 1000000 writes";
const DELAY: &str = "heartbeat: p99 delay, 32 writers and a scan";
const WORST_DELAY: &str = "heartbeat: worst delay, 32 writers and a scan";
const ELSEWHERE: &str = "idle runtime, the same elsewhere";
const ON_WORKERS: &str = "engine on the workers";

const SERVICE: &str = "service: a request, 8 runs and 64 browsers";
const STALE: &str = "views of 100 ms ago";
const SERVICE_DELAY: &str = "service: p99 of a task's delay";

const MILLISECOND: f64 = 1e6;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

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
    required("1 caller: 1.1 of a bare connection's time", (WRITE_1, OURS), (WRITE_1, BARE), 1.1),
    shown("1 caller: beside a loop that answers", (WRITE_1, OURS), (WRITE_1, ANSWERED)),
    shown("1 caller: a loop that answers, beside a bare connection", (WRITE_1, ANSWERED), (WRITE_1, BARE)),
    required("8 callers: 5 times the mutex's rate", (WRITE_8, OURS), (WRITE_8, MUTEX), 1.0 / 5.0),
    required("32 callers: 15 times the mutex's rate", (WRITE_32, OURS), (WRITE_32, MUTEX), 1.0 / 15.0),
    required("128 callers: 30 times the mutex's rate", (WRITE_128, OURS), (WRITE_128, MUTEX), 1.0 / 30.0),
    required("512 callers: 60 times the mutex's rate", (WRITE_512, OURS), (WRITE_512, MUTEX), 1.0 / 60.0),
    required("8 callers: 80 % of a loop's rate", (WRITE_8, OURS), (WRITE_8, LOOP), 1.0 / 0.8),
    shown("8 callers: beside a loop that answers", (WRITE_8, OURS), (WRITE_8, ANSWERED)),
    shown("8 callers: a loop that answers, beside a loop", (WRITE_8, ANSWERED), (WRITE_8, LOOP)),
    required("32 callers: 80 % of a loop's rate", (WRITE_32, OURS), (WRITE_32, LOOP), 1.0 / 0.8),
    shown("32 callers: beside a loop that answers", (WRITE_32, OURS), (WRITE_32, ANSWERED)),
    shown("32 callers: a loop that answers, beside a loop", (WRITE_32, ANSWERED), (WRITE_32, LOOP)),
    required("128 callers: 80 % of a loop's rate", (WRITE_128, OURS), (WRITE_128, LOOP), 1.0 / 0.8),
    shown("128 callers: beside a loop that answers", (WRITE_128, OURS), (WRITE_128, ANSWERED)),
    shown("128 callers: a loop that answers, beside a loop", (WRITE_128, ANSWERED), (WRITE_128, LOOP)),
    required("512 callers: 80 % of a loop's rate", (WRITE_512, OURS), (WRITE_512, LOOP), 1.0 / 0.8),
    shown("512 callers: beside a loop that answers", (WRITE_512, OURS), (WRITE_512, ANSWERED)),
    shown("512 callers: a loop that answers, beside a loop", (WRITE_512, ANSWERED), (WRITE_512, LOOP)),
    shown("1 caller: beside SQLite", (WRITE_1, OURS), (WRITE_1, SQLITE)),
    shown("8 callers: beside SQLite", (WRITE_8, OURS), (WRITE_8, SQLITE)),
    shown("32 callers: beside SQLite", (WRITE_32, OURS), (WRITE_32, SQLITE)),
    shown("128 callers: beside SQLite", (WRITE_128, OURS), (WRITE_128, SQLITE)),
    shown("512 callers: beside SQLite", (WRITE_512, OURS), (WRITE_512, SQLITE)),
    // An fsync's own times differ by a factor of ten: slow ones are compared to slow ones.
    required("p99 of a write: 3 times a commit's", (P99, OURS), (P99, COMMIT), 3.0),
    shown("p99 of a write: beside a commit's median", (P99, OURS), (P50, COMMIT)),
    shown("p99 of a write: beside SQLite's", (P99, OURS), (P99, SQLITE)),
    shown("callers that rest: p50 beside a lone commit's", (RESTED_P50, OURS), (RESTED_P50, COMMIT)),
    shown("callers that rest: p50 beside SQLite's", (RESTED_P50, OURS), (RESTED_P50, SQLITE)),
    shown("callers that rest: p50 beside the mutex's", (RESTED_P50, OURS), (RESTED_P50, MUTEX)),
    shown("callers that rest: p99 beside SQLite's", (RESTED_P99, OURS), (RESTED_P99, SQLITE)),
    shown_alone("beside transactions of 10 ms: p50", (CLOSURES_P50, OURS)),
    shown_alone("beside transactions of 10 ms: p99", (CLOSURES_P99, OURS)),
    required("reads keep 70 % of their rate beside 32 writers", (READS_BESIDE, OURS), (READS, OURS), 1.0 / 0.7),
    required("100,000 writes: as fast as the first 1,000", (TO_100_000, OURS), (TO_THOUSAND, OURS), 1.1),
    shown("100,000 writes: a loop's beside its first 1,000", (TO_100_000, LOOP), (TO_THOUSAND, LOOP)),
    required("1,000,000 writes: as fast as the first 1,000", (TO_MILLION, OURS), (TO_THOUSAND, OURS), 1.1).if_full(),
    more_by(
        "100,000 writes: memory beside a loop's",
        (MEMORY_TO_100_000, OURS),
        (MEMORY_TO_100_000, LOOP),
        64.0 * MEBIBYTE,
    ),
    more_by(
        "1,000,000 writes: memory beside a loop's",
        (MEMORY_TO_MILLION, OURS),
        (MEMORY_TO_MILLION, LOOP),
        64.0 * MEBIBYTE,
    )
    .if_full(),
    required("1,000,000 writes: the memory of 100,000", (MEMORY_TO_MILLION, OURS), (MEMORY_TO_100_000, OURS), 1.1)
        .if_full(),
    at_most("p99 of a ready task's delay", (DELAY, OURS), MILLISECOND),
    required("that is a tenth of the engine's on the workers", (DELAY, OURS), (DELAY, ON_WORKERS), 0.1),
    shown("that is beside an idle runtime's", (DELAY, OURS), (DELAY, ELSEWHERE)),
    shown("the worst delay beside an idle runtime's", (WORST_DELAY, OURS), (WORST_DELAY, ELSEWHERE)),
    shown("the worst delay beside the engine's on the workers", (WORST_DELAY, OURS), (WORST_DELAY, ON_WORKERS)),
    at_most("a simulated schedule: 400 in a second", (SCHEDULE, OURS), 2.5 * MILLISECOND),
    shown("that is beside the engine alone", (SCHEDULE, OURS), (SCHEDULE, ENGINE)),
    required("two jobs: linear", (SCHEDULE, "poolproof, 2 jobs"), (SCHEDULE, OURS), 0.6),
    required("service: 10 times the mutex's rate", (SERVICE, OURS), (SERVICE, MUTEX), 1.0 / 10.0),
    shown("service: without the database, beside the mutex", (SERVICE, STALE), (SERVICE, MUTEX)),
    required("service: 60 % of the rate without the database", (SERVICE, OURS), (SERVICE, STALE), 1.0 / 0.6),
    shown("service: beside no cache", (SERVICE, OURS), (SERVICE, "poolproof, no cache")),
    at_most("service: p99 of a delay, browsers that rest", (SERVICE_DELAY, "64 browsers that rest 25 ms"), MILLISECOND),
    shown_alone("service: p99 of a delay, browsers that do not rest", (SERVICE_DELAY, "64 browsers")),
];

/// Requirements that are missed or undecided today, each with the figure that was measured when it was listed. They do not fail
/// the bench, unless they get worse than that. This list may only shrink.
pub const OPEN: &[(&str, f64)] = &[
    ("alone: a third of deadpool's time", 0.35),
    ("alone: a quarter of bb8's time", 0.28),
    ("64 tasks: 0.6 of deadpool's time", 0.7),
    ("64 tasks: 0.6 of bb8's time", 0.69),
    ("512 tasks: 0.6 of deadpool's time", 0.7),
    ("512 tasks: 0.6 of bb8's time", 0.67),
    ("16 waiters cost what 1 does", 1.2),
    ("54 waiters cost what 1 does", 1.21),
    ("118 waiters cost what 1 does", 1.2),
    ("502 waiters cost what 1 does", 1.22),
    ("statement: 80 % of the engine's rate", 1.31),
    ("statement: 10 times the unprepared", 0.21),
    ("1 caller: 1.1 of a bare connection's time", 1.14),
    ("8 callers: 5 times the mutex's rate", 0.15),
    ("8 callers: 80 % of a loop's rate", 1.11),
    ("32 callers: 80 % of a loop's rate", 1.2),
    ("128 callers: 80 % of a loop's rate", 1.48),
    ("512 callers: 80 % of a loop's rate", 1.85),
    ("p99 of a write: 3 times a commit's", 1.59),
    ("reads keep 70 % of their rate beside 32 writers", 1.25),
    ("100,000 writes: as fast as the first 1,000", 1.12),
    ("p99 of a ready task's delay", 113300.0),
    ("a simulated schedule: 400 in a second", 2400000.0),
    ("two jobs: linear", 0.66),
    ("service: 60 % of the rate without the database", 1.66),
];

/// What is open may be measured as so many times its listed figure, since machines and hours differ.
const WORSE: f64 = 1.2;

/// How a requirement fares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Holds,
    /// The noise is more than half the distance to the limit: more rounds may tell.
    Undecided,
    Missed,
    /// Missed or undecided, and listed as open with this figure.
    Open(f64),
    /// The same, and worse than that figure by more than [`WORSE`] and the noise.
    Worse(f64),
    Shown,
    NotMeasured,
}

impl Verdict {
    /// As a table has it; figures are of that unit.
    pub fn show(self, unit: Unit) -> String {
        match self {
            Verdict::Holds => "holds".to_owned(),
            Verdict::Undecided => "UNDECIDED".to_owned(),
            Verdict::Missed => "MISSED".to_owned(),
            Verdict::Open(listed) => format!("open ({})", unit.show(listed)),
            Verdict::Worse(listed) => format!("WORSE than {}", unit.show(listed)),
            Verdict::Shown => "shown".to_owned(),
            Verdict::NotMeasured => "not measured".to_owned(),
        }
    }

    /// Whether the bench fails for it.
    pub fn fails(self) -> bool {
        matches!(self, Verdict::Undecided | Verdict::Missed | Verdict::Worse(_))
    }
}

/// What was measured, and how far from that the truth may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub value: f64,
    pub noise: f64,
}

impl Figure {
    /// The relative errors of two independent medians add up as squares.
    fn times(row: Median, beside: Median) -> Self {
        let value = row.value / beside.value;
        Self { value, noise: value * (row.error / row.value).hypot(beside.error / beside.value) }
    }

    fn more(row: Median, beside: Median) -> Self {
        Self { value: row.value - beside.value, noise: row.error.hypot(beside.error) }
    }

    /// Of all rounds: the median. Its noise is that of a round, or how far it stands from the values between which the true
    /// median almost surely is: criterion cannot know what the machine did between one row and the next.
    fn of(mut rounds: Vec<Self>) -> Option<Self> {
        rounds.sort_by(|one, other| one.value.total_cmp(&other.value));
        let place = surely_below(rounds.len());
        let (least, most) = (rounds.get(place)?.value, rounds[rounds.len() - 1 - place].value);
        let middle = rounds[rounds.len() / 2];
        let noise = middle.noise.max(middle.value - least).max(most - middle.value);
        Some(Self { value: middle.value, noise })
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

    /// Whether it must have been measured, by the long form of the benches or the short one.
    pub fn is_due(&self, full: bool) -> bool {
        self.limit.is_some() && (full || !self.full)
    }

    /// In what it is measured.
    pub fn unit(&self) -> Unit {
        match self.beside {
            Beside::Times(_) => Unit::Times,
            Beside::More(_) | Beside::Nothing => Unit::of_group(self.row.0),
        }
    }

    /// One figure for each round in which all was measured that it takes.
    fn rounds(&self, estimates: &Estimates) -> Vec<Figure> {
        let beside = |round: &str, name: Name| {
            estimates.of(name).iter().find(|(other, _)| other == round).map(|(_, median)| *median)
        };
        let figure = |(round, row): &(String, Median)| match self.beside {
            Beside::Times(name) => Some(Figure::times(*row, beside(round, name)?)),
            Beside::More(name) => Some(Figure::more(*row, beside(round, name)?)),
            Beside::Nothing => Some(Figure { value: row.value, noise: row.error }),
        };
        estimates.of(self.row).iter().filter_map(figure).collect()
    }

    /// How it fares, whether it is listed as open or not.
    pub fn measure(&self, estimates: &Estimates) -> (Verdict, Option<Figure>) {
        let figure = Figure::of(self.rounds(estimates));
        let verdict = match (figure, self.limit) {
            (None, _) => Verdict::NotMeasured,
            (Some(_), None) => Verdict::Shown,
            (Some(Figure { value, noise }), Some(limit)) if noise > (value - limit).abs() / 2.0 => Verdict::Undecided,
            (Some(figure), Some(limit)) if figure.value <= limit => Verdict::Holds,
            (Some(_), Some(_)) => Verdict::Missed,
        };
        (verdict, figure)
    }

    /// How it fares.
    pub fn judge(&self, estimates: &Estimates) -> (Verdict, Option<Figure>) {
        self.judge_beside(OPEN, estimates)
    }

    fn judge_beside(&self, open: &[(&str, f64)], estimates: &Estimates) -> (Verdict, Option<Figure>) {
        let (verdict, figure) = self.measure(estimates);
        let listed = open.iter().find(|(promise, _)| *promise == self.promise).map(|(_, listed)| *listed);
        match (verdict, figure, listed) {
            (Verdict::Missed | Verdict::Undecided, Some(Figure { value, noise }), Some(listed)) => {
                // What is undecided may be listed with a figure below its limit. A figure that is beside nothing is the machine's as
                // well: the same commit's differed by half within a day.
                let worse = self.limit.map_or(listed, |limit| limit.max(listed * WORSE));
                let is_worse = !matches!(self.beside, Beside::Nothing) && value - noise > worse;
                (if is_worse { Verdict::Worse(listed) } else { Verdict::Open(listed) }, figure)
            }
            _ => (verdict, figure),
        }
    }

    /// The bench that measures it: its groups' names begin with what they measure.
    pub fn bench(&self) -> &'static str {
        match self.row.0.split(':').next() {
            Some("mixed") => "writer",
            Some("memory") => "volume",
            Some(bench) => bench,
            None => "",
        }
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

    /// Of ours, beside 100 of theirs.
    fn judged(ours: f64, error: f64, their_error: f64) -> (Verdict, Figure) {
        let (verdict, figure) = HALF.judge(&measured(&[("ours", ours, error), ("theirs", 100.0, their_error)]));
        (verdict, figure.unwrap())
    }

    #[test]
    fn a_ratio_holds_or_is_missed_if_its_distance_is_at_least_twice_the_noise() {
        assert_eq!(judged(40.0, 1.0, 1.0).0, Verdict::Holds);
        assert_eq!(judged(60.0, 1.0, 1.0).0, Verdict::Missed);
        assert_eq!(judged(40.0, 0.0, 0.0), (Verdict::Holds, Figure { value: 0.4, noise: 0.0 }));
    }

    #[test]
    fn a_ratio_whose_noise_is_more_than_half_its_distance_is_undecided_on_both_sides() {
        for ours in [45.0, 55.0] {
            assert_eq!(judged(ours, 3.0, 0.0).0, Verdict::Undecided);
            assert_eq!(judged(ours, 0.0, 6.0).0, Verdict::Undecided);
            assert_ne!(judged(ours, 2.0, 0.0).0, Verdict::Undecided);
        }
    }

    #[test]
    fn the_noise_of_two_medians_adds_up_as_squares() {
        assert!((judged(100.0, 3.0, 4.0).1.noise - 0.05).abs() < 1e-12);
    }

    #[test]
    fn rounds_that_differ_are_noise_and_the_median_of_them_counts() {
        let rounds =
            [("ours", 40.0), ("theirs", 100.0), ("ours", 55.0), ("theirs", 100.0), ("ours", 60.0), ("theirs", 100.0)];
        let (verdict, ratio) = HALF.judge(&measured(&rounds.map(|(who, value)| (who, value, 0.0))));
        assert_eq!(verdict, Verdict::Undecided);
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

    const AT_MOST_50: Requirement = at_most("50 ns", ("group", "ours"), 50.0);
    const MORE_BY_10: Requirement = more_by("10 ns more", ("group", "ours"), ("group", "theirs"), 10.0);

    #[test]
    fn a_limit_of_its_own_is_held_missed_or_undecided() {
        for (ours, error, verdict) in
            [(40.0, 0.0, Verdict::Holds), (55.0, 6.0, Verdict::Undecided), (55.0, 1.0, Verdict::Missed)]
        {
            assert_eq!(AT_MOST_50.judge(&measured(&[("ours", ours, error)])).0, verdict);
        }
    }

    #[test]
    fn rounds_on_both_sides_of_the_limit_decide_nothing() {
        let rounds = |values: [f64; 5]| {
            let mut estimates = Estimates::default();
            for (round, value) in values.iter().enumerate() {
                estimates.add("group", "ours", round.to_string(), Median { value: *value, error: 0.0 });
            }
            AT_MOST_50.judge(&estimates).0
        };
        assert_eq!(rounds([68.0, 69.0, 70.0, 71.0, 72.0]), Verdict::Missed);
        assert_eq!(rounds([49.0, 60.0, 70.0, 80.0, 90.0]), Verdict::Undecided);
        assert_eq!(rounds([30.0, 31.0, 32.0, 33.0, 34.0]), Verdict::Holds);
        assert_eq!(rounds([47.0, 48.0, 49.0, 80.0, 90.0]), Verdict::Undecided);
    }

    #[test]
    fn a_difference_is_held_missed_or_undecided() {
        for (ours, error, verdict) in
            [(105.0, 0.0, Verdict::Holds), (114.0, 4.0, Verdict::Undecided), (114.0, 1.0, Verdict::Missed)]
        {
            let estimates = measured(&[("ours", ours, error), ("theirs", 100.0, error)]);
            assert_eq!(MORE_BY_10.judge(&estimates).0, verdict, "{ours}");
        }
        assert_eq!(MORE_BY_10.judge(&measured(&[("ours", 1.0, 0.0)])).0, Verdict::NotMeasured);
    }

    #[test]
    fn what_is_open_does_not_fail_the_bench_until_it_is_worse_than_when_it_was_listed() {
        let judged = |ours, error| {
            let estimates = measured(&[("ours", ours, error), ("theirs", 100.0, 0.0)]);
            HALF.judge_beside(&[("half of it", 0.6)], &estimates).0
        };
        assert_eq!(judged(70.0, 0.0), Verdict::Open(0.6));
        assert_eq!(judged(52.0, 9.0), Verdict::Open(0.6), "undecided");
        assert_eq!(judged(80.0, 9.0), Verdict::Open(0.6), "the noise may be all of it");
        assert_eq!(judged(80.0, 1.0), Verdict::Worse(0.6));
        assert_eq!(judged(40.0, 0.0), Verdict::Holds);
        let undecided = measured(&[("ours", 45.0, 3.0), ("theirs", 100.0, 0.0)]);
        assert_eq!(HALF.judge_beside(&[("half of it", 0.3)], &undecided).0, Verdict::Open(0.3), "it may yet hold");
        let alone = measured(&[("ours", 90.0, 0.0)]);
        assert_eq!(AT_MOST_50.judge_beside(&[("50 ns", 60.0)], &alone).0, Verdict::Open(60.0), "beside nothing");
        assert!(Verdict::Worse(0.6).fails() && !Verdict::Open(0.6).fails());
    }

    #[test]
    fn what_is_open_is_required_and_listed_once() {
        for (promise, measured) in OPEN {
            let listed = REQUIREMENTS.iter().filter(|requirement| requirement.promise == *promise);
            let limits: Vec<_> = listed.filter_map(|requirement| requirement.limit).collect();
            assert!(limits.len() == 1, "{promise}");
            assert!(*measured > 0.0, "{promise}: {measured}");
            assert_eq!(OPEN.iter().filter(|(other, _)| other == promise).count(), 1, "{promise}");
        }
        // Make it less when one holds; never more.
        assert!(OPEN.len() <= 25, "the list may only shrink");
    }

    #[test]
    fn each_requirement_names_a_bench() {
        let benches = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
        let benches: Vec<_> = benches.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        for requirement in REQUIREMENTS {
            let file = format!("{}.rs", requirement.bench());
            assert!(benches.contains(&file), "{}: there is no {file}", requirement.promise);
        }
    }

    #[test]
    fn only_the_long_form_owes_what_only_it_measures() {
        let long = Requirement { full: true, ..HALF };
        assert_eq!([HALF.is_due(false), HALF.is_due(true)], [true, true]);
        assert_eq!([long.is_due(false), long.is_due(true)], [false, true]);
        assert!(!shown("for comparison", ("group", "ours"), ("group", "theirs")).is_due(true));
    }

    #[test]
    fn what_is_required_can_be_missed() {
        for requirement in REQUIREMENTS.iter().filter(|requirement| requirement.limit.is_some()) {
            let mut estimates = Estimates::default();
            let mut add =
                |(group, who): Name, value| estimates.add(group, who, "1".to_owned(), Median { value, error: 0.0 });
            add(requirement.row, 1e12);
            if let Beside::Times(beside) | Beside::More(beside) = requirement.beside {
                add(beside, 1.0);
            }
            assert_eq!(requirement.measure(&estimates).0, Verdict::Missed, "{}", requirement.promise);
        }
    }
}
