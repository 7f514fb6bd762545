//! What a durable write costs, by number of callers: ours beside one connection behind an async mutex, SQLite behind a
//! thread of its own, and the engine in a loop with nothing around it, which commits as many rows at once as there are
//! callers; and in one that answers callers and does nothing else for them. Then percentiles of a write's time beside that of
//! a lone commit: of callers in a loop, of callers who rest between two writes, beside long closures; and reads beside writes.
//!
//! Each row of the report has a fresh file; see [`poolproof_benches::database`]. `synchronous` is FULL for all of them.

use std::cell::{LazyCell, OnceCell, RefCell};
use std::thread::sleep;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use poolproof_benches::crowd::{Crowd, histogram};
use poolproof_benches::database::Database;
use poolproof_benches::recorded::{report, take_turns};
use poolproof_benches::turn;
use poolproof_benches::writers::answered::Answered;
use poolproof_benches::writers::mvcc::Mvcc;
use poolproof_benches::writers::poolproof::{Ours, Query};
use poolproof_benches::writers::{Subject, Transact, Writer, handwritten::Handwritten, mutex::Mutexed, sqlite::Sqlite};
use tokio::runtime::Runtime;

/// So long callers write before the time is taken, until those that began in step are out of it.
const RUN_UP: Duration = Duration::from_millis(5);

/// The pace of so many callers.
fn pace<W: Writer>(subject: &Subject<W>, callers: u64) -> f64 {
    let crowd = subject.writing(callers);
    sleep(RUN_UP);
    crowd.pace(turn())
}

/// The pace of so many callers of a loop.
fn pace_answered(runtime: &Runtime, answered: &Answered, callers: u64) -> f64 {
    let crowd = Crowd::start(runtime, callers, answered.clone());
    sleep(RUN_UP);
    crowd.pace(turn())
}

/// The pace of the engine alone, which does `rows` rows in each `step`.
fn pace_alone(rows: u64, mut step: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut done = 0;
    while began.elapsed() < turn() {
        step();
        done += rows;
    }
    began.elapsed().as_nanos() as f64 / done as f64
}

fn throughput(criterion: &mut Criterion) {
    for callers in [1, 8, 32, 128, 512] {
        let (baseline, rows) = if callers == 1 { (Handwritten::BARE, 1) } else { (Handwritten::LOOP, callers) };
        let samples = LazyCell::new(|| {
            let (ours, mutex, sqlite) =
                (Subject::<Ours>::new(0), Subject::<Mutexed>::new(0), Subject::<Sqlite>::new(0));
            let (database, other) = (Database::new(0), Database::new(0));
            let engine = RefCell::new(Handwritten::open(database.path()));
            let (answered, runtime) = (Answered::open(other.path(), callers as usize), poolproof_benches::runtime());
            let alone = || match callers {
                1 => pace_alone(1, || engine.borrow_mut().insert(0)),
                _ => pace_alone(rows, || engine.borrow_mut().batch(rows)),
            };
            #[cfg(feature = "peers")]
            let pooled = Subject::<poolproof_benches::writers::pool::Pooled>::new(0);
            take_turns(&[
                &|| pace(&ours, callers),
                &alone,
                &|| pace_answered(&runtime, &answered, callers),
                &|| pace(&mutex, callers),
                &|| pace(&sqlite, callers),
                #[cfg(feature = "peers")]
                &|| pace(&pooled, callers),
            ])
        });
        let names = [
            Ours::NAME,
            baseline,
            Answered::NAME,
            Mutexed::NAME,
            Sqlite::NAME,
            #[cfg(feature = "peers")]
            poolproof_benches::writers::pool::Pooled::NAME,
        ];
        for (place, name) in names.into_iter().enumerate() {
            let group = format!("writer: a durable row, {callers} callers");
            report(criterion, &group, name, || samples[place].clone());
        }
    }
}

/// So many callers whose transactions wait for something else for so long.
fn transacting<W: Transact>(subject: &Subject<W>, callers: u64, pause: Duration) -> Crowd {
    let writer = subject.writer.clone();
    Crowd::start(&subject.runtime, callers, move |caller| {
        let writer = writer.clone();
        async move { writer.insert_slowly(caller as i64, pause).await }
    })
}

/// The pace of 32 callers whose transactions wait for something else.
fn slow_pace<W: Transact>(subject: &Subject<W>) -> f64 {
    let crowd = transacting(subject, 32, Duration::from_millis(1));
    sleep(RUN_UP);
    crowd.pace(turn() * 2)
}

/// When it pays to write side by side: rows by themselves, and transactions in which something else is waited for.
fn side_by_side(criterion: &mut Criterion) {
    let samples = LazyCell::new(|| {
        let (lane, mvcc) = (Subject::<Ours>::new(0), Subject::<Mvcc>::new(0));
        take_turns(&[&|| pace(&lane, 32), &|| pace(&mvcc, 32)])
    });
    for (place, name) in [Ours::NAME, Mvcc::NAME].into_iter().enumerate() {
        report(criterion, "side by side: a row by itself, 32 callers", name, || samples[place].clone());
    }
    let samples = LazyCell::new(|| {
        let (lane, mvcc) = (Subject::<Ours>::new(0), Subject::<Mvcc>::new(0));
        let samples = take_turns(&[&|| slow_pace(&lane), &|| slow_pace(&mvcc)]);
        lane.runtime.block_on(lane.writer.close());
        mvcc.runtime.block_on(mvcc.writer.close());
        samples
    });
    for (place, name) in [Ours::NAME, Mvcc::NAME].into_iter().enumerate() {
        report(criterion, "side by side: a transaction that waits 1 ms, 32 callers", name, || samples[place].clone());
    }
}

/// The times of writes by 32 callers and of lone commits.
struct Latencies {
    write: Histogram<u64>,
    commit: Histogram<u64>,
}

impl Latencies {
    /// They take turns. The callers are those of `crowd`.
    fn measure<W: Writer>(crowd: impl Fn(&Subject<W>) -> Crowd) -> Self {
        let subject = Subject::<W>::new(0);
        let database = Database::new(0);
        let mut engine = Handwritten::open(database.path());
        let mut times = Self { write: histogram(), commit: histogram() };
        for _ in 0..5 {
            let crowd = crowd(&subject);
            sleep(turn() * 4);
            times.write.add(crowd.stop()).expect("the same bounds");
            pace_alone(1, || {
                let began = Instant::now();
                engine.insert(0);
                times.commit.saturating_record(began.elapsed().as_nanos() as u64);
            });
        }
        times
    }
}

/// Percentiles of a write's time in such a `crowd`, of which the group says `who` writes.
fn percentiles<W: Writer>(criterion: &mut Criterion, who: &str, crowd: impl Fn(&Subject<W>) -> Crowd) {
    let times = LazyCell::new(|| Latencies::measure(crowd));
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let group = format!("writer: {name} of a write's time, {who}");
        let of = |histogram: &Histogram<u64>| vec![histogram.value_at_quantile(quantile) as f64];
        report(criterion, &group, W::NAME, || of(&times.write));
        if W::NAME == Ours::NAME {
            report(criterion, &group, "a lone commit", || of(&times.commit));
        }
    }
}

fn latency(criterion: &mut Criterion) {
    fn writes<W: Writer>(criterion: &mut Criterion) {
        percentiles::<W>(criterion, "32 callers", |subject| subject.writing_timed(32));
        percentiles::<W>(criterion, "8 callers that rest", |subject| subject.writing_now_and_then(8));
    }
    writes::<Ours>(criterion);
    writes::<Sqlite>(criterion);
    writes::<Mutexed>(criterion);
}

/// What a short write waits for where another caller's transactions take 10 ms each: the rest of one, or a whole one.
fn beside_closures(criterion: &mut Criterion) {
    let closures = OnceCell::new();
    percentiles::<Ours>(criterion, "8 callers that rest, beside transactions of 10 ms", |subject| {
        closures.get_or_init(|| transacting(subject, 1, Duration::from_millis(10)));
        subject.writing_now_and_then(8)
    });
}

/// Rows that reads choose from.
const ROWS: u64 = 10_000;

fn reading(subject: &Subject<Ours>) -> Crowd {
    let ours = subject.writer.clone();
    Crowd::start(&subject.runtime, 32, move |caller| {
        let ours = ours.clone();
        async move {
            let key = (caller * ROWS / 32 + 1) as i64;
            assert_eq!(ours.read(Query::by_key(key)).await, key, "another row's value");
        }
    })
}

/// Rows by their keys, through the writer, read by 32 tasks.
fn mixed(criterion: &mut Criterion) {
    let samples = LazyCell::new(|| {
        let subject = Subject::<Ours>::new(ROWS);
        let reads = |writers| {
            let (_writing, reading) = (subject.writing(writers), reading(&subject));
            sleep(RUN_UP);
            reading.pace(turn())
        };
        take_turns(&[&|| reads(0), &|| reads(32)])
    });
    for (place, beside) in ["no writer", "32 writers"].into_iter().enumerate() {
        let group = format!("mixed: a row by its key, 32 readers, {beside}");
        report(criterion, &group, Ours::NAME, || samples[place].clone());
    }
}

fn benches(criterion: &mut Criterion) {
    throughput(criterion);
    side_by_side(criterion);
    latency(criterion);
    beside_closures(criterion);
    mixed(criterion);
}

criterion_group!(writer, benches);
criterion_main!(writer);
