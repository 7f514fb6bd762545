//! What a task that only wants its turn notices of the database: how long it waits, once it is ready, on a runtime of two
//! threads. First while 32 callers write and one reads a million rows again and again; then while others read, through the
//! writer (on a thread of its own) and in their own tasks. What a read itself takes stands beside it.
//!
//! The controls: a runtime that has nothing else to do, while the same work goes on in another, which is what the machine's
//! own scheduler does to a task; and the engine polled on the workers, as with one connection behind a mutex.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use poolproof_benches::beat::delays;
use poolproof_benches::crowd::Crowd;
use poolproof_benches::database::{SCAN, connect};
use poolproof_benches::recorded::{report, take_turns};
use poolproof_benches::writers::poolproof::{Ours, Query};
use poolproof_benches::writers::{Subject, mutex::Mutexed};
use poolproof_benches::{runtime, turn, writers::Writer};
use tokio::task::yield_now;

/// So long each is watched.
const LONG: Duration = Duration::from_secs(1);
const CALLERS: u64 = 32;
const ROWS: u64 = 1_000_000;

/// A row of the report for the 99th percentile, and one for the worst.
fn rows(criterion: &mut Criterion, what: &str, who: &str, watch: impl Fn() -> Histogram<u64>) {
    let delays = LazyCell::new(watch);
    for (name, quantile) in [("p99", 0.99), ("worst", 1.0)] {
        let figure = || vec![delays.value_at_quantile(quantile) as f64];
        report(criterion, &format!("heartbeat: {name} delay, {what}"), who, figure);
    }
}

/// Reads by our own ways.
fn reading(subject: &Subject<Ours>, readers: u64, query: Query, in_task: bool) -> Crowd {
    let ours = subject.writer.clone();
    Crowd::start(&subject.runtime, readers, move |_| {
        let ours = ours.clone();
        async move {
            let _ = match in_task {
                false => ours.read(query).await,
                true => ours.read_in_task(query).await,
            };
            // As a handler would, which waits for its socket. The engine itself never gives way.
            yield_now().await;
        }
    })
}

fn writes_and_a_scan(criterion: &mut Criterion) {
    let what = "32 writers and a scan";
    rows(criterion, what, Ours::NAME, || {
        let subject = Subject::<Ours>::new(ROWS);
        let load = (subject.writing(CALLERS), reading(&subject, 1, Query::scan(), false));
        delays(&subject.runtime, LONG, load)
    });
    rows(criterion, what, "idle runtime, the same elsewhere", || {
        let subject = Subject::<Ours>::new(ROWS);
        let load = (subject.writing(CALLERS), reading(&subject, 1, Query::scan(), false));
        delays(&runtime(), LONG, load)
    });
    rows(criterion, what, "engine on the workers", || {
        let subject = Subject::<Mutexed>::new(ROWS);
        let connection = subject.runtime.block_on(connect(subject.database.path()));
        let scanning = Crowd::start(&subject.runtime, 1, move |_| {
            let connection = connection.clone();
            async move {
                let mut rows = connection.query(SCAN, ()).await.expect("it is a query");
                let _ = rows.next().await.expect("it can be read").expect("there is a row");
                yield_now().await;
            }
        });
        let load = (subject.writing(CALLERS), scanning);
        delays(&subject.runtime, LONG, load)
    });
}

/// Each way to read, by itself: what a read takes, and what others notice.
fn ways_to_read(criterion: &mut Criterion) {
    let subject = LazyCell::new(|| Subject::<Ours>::new(ROWS));
    let ways = [(Ours::NAME, false), ("in the caller's task", true)];
    for (what, query) in [("a row by its key", Query::by_key(4711)), ("a scan of 1000000 rows", Query::scan())] {
        let samples = LazyCell::new(|| {
            let pace = |in_task| reading(&subject, 1, query, in_task).pace(turn());
            take_turns(&[&|| pace(false), &|| pace(true)])
        });
        for (place, (who, _)) in ways.iter().enumerate() {
            report(criterion, &format!("read: {what}, 1 reader"), who, || samples[place].clone());
        }
    }
    // As many scan as there are workers.
    for (what, query, readers) in [("32 read by key", Query::by_key(4711), CALLERS), ("2 scan", Query::scan(), 2)] {
        for (who, in_task) in ways {
            rows(criterion, what, who, || {
                let load = reading(&subject, readers, query, in_task);
                delays(&subject.runtime, LONG, load)
            });
        }
    }
}

fn benches(criterion: &mut Criterion) {
    writes_and_a_scan(criterion);
    ways_to_read(criterion);
}

criterion_group!(heartbeat, benches);
criterion_main!(heartbeat);
