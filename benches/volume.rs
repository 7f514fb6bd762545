//! What a long run costs as it goes on: the time of a write, and the process's memory at its peak, up to 1,000, 10,000 and
//! 100,000 (with FULL=1 up to 1,000,000) writes by 128 callers; beside the engine in a loop with nothing around it. Each run
//! is a process of its own, so that its memory is nobody else's.

use std::cell::LazyCell;
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use criterion::Criterion;
use poolproof_benches::database::Database;
use poolproof_benches::full;
use poolproof_benches::recorded::{Bytes, report};
use poolproof_benches::writers::{Subject, Writer, handwritten::Handwritten, poolproof::Ours};

const CALLERS: u64 = 128;
/// Who writes.
const WHO: [&str; 2] = [Ours::NAME, Handwritten::LOOP];
const MARKS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// A process that is told so does a run, of whoever is named next.
const RUN: &str = "--run";

/// A stretch of a run, up to a mark: the time of a write in it, in nanoseconds, and the most memory that the process had up
/// to its end, in bytes.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    write: f64,
    peak: f64,
}

impl Stretch {
    fn parse(line: &str) -> Option<Self> {
        let (write, peak) = line.split_once(' ')?;
        Some(Self { write: write.parse().ok()?, peak: peak.parse().ok()? })
    }
}

/// The most memory that this process has had, in bytes.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says how a process is");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("and how much memory it had");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("in kB");
    (kibibytes * 1024) as f64
}

fn marks() -> impl Iterator<Item = u64> {
    MARKS.into_iter().take(if full() { 4 } else { 3 })
}

/// In the process of a run: prints a line for each stretch. `write` writes so many rows, and returns the time of one.
fn run(mut write: impl FnMut(u64) -> f64) {
    let mut done = 0;
    for mark in marks() {
        println!("{} {}", write(mark - done), peak());
        done = mark;
    }
}

fn run_ours() {
    let subject = Subject::<Ours>::new(0);
    let crowd = subject.writing(CALLERS);
    run(|writes| crowd.pace_of(writes));
}

fn run_alone() {
    let database = Database::new(0);
    let mut engine = Handwritten::open(database.path());
    run(|writes| {
        let batches = writes.div_ceil(CALLERS);
        let began = Instant::now();
        (0..batches).for_each(|_| engine.batch(CALLERS));
        began.elapsed().as_nanos() as f64 / (batches * CALLERS) as f64
    });
}

/// Lets a process do a run for each, in turn, several times: a first thousand is but a few commits.
fn runs() -> [Vec<Vec<Stretch>>; 2] {
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..if full() { 1 } else { 5 } {
        for (who, runs) in WHO.into_iter().zip(&mut runs) {
            runs.push(stretches(who));
        }
    }
    runs
}

/// Lets a process do a run.
fn stretches(who: &str) -> Vec<Stretch> {
    let program = env::current_exe().expect("this program is somewhere");
    let output = Command::new(program).args([RUN, who]).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let stretches: Vec<_> = text.lines().filter_map(Stretch::parse).collect();
    assert_eq!(stretches.len(), marks().count(), "{output:?}");
    stretches
}

fn benches() {
    let mut times = Criterion::default().configure_from_args();
    let mut memory = Criterion::default().with_measurement(Bytes).configure_from_args();
    let runs = LazyCell::new(runs);
    for (subject, who) in WHO.into_iter().enumerate() {
        for (place, mark) in marks().enumerate() {
            let of = |figure: fn(&Stretch) -> f64| runs[subject].iter().map(|run| figure(&run[place])).collect();
            report(&mut times, &format!("volume: a durable row, up to {mark}"), who, || of(|stretch| stretch.write));
            report(&mut memory, &format!("memory: peak, up to {mark} writes"), who, || of(|stretch| stretch.peak));
        }
    }
    times.final_summary();
}

fn main() {
    let mut arguments = env::args().skip_while(|argument| argument != RUN).skip(1);
    match arguments.next().as_deref() {
        None => benches(),
        Some(Ours::NAME) => run_ours(),
        Some(_) => run_alone(),
    }
}
