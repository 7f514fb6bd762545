//! The story's service over HTTP: requests while 8 benchmarks run and 64 browsers poll, on the pool, on one connection behind a
//! mutex, and with views that are up to 100 ms old, which leaves the handlers and HTTP. Whoever asks shares the machine: what
//! it takes itself is in every row. Then what a task of the service notices of it, when the browsers ask as fast as they can,
//! and when each rests 25 ms between two requests, as people's do.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use poolproof::harness::drive::Control;
use poolproof::harness::http::{Http, HttpReport, ServedBy};
use poolproof_benches::recorded::{report, take_turns};

/// As long is one sample.
const LONG: Duration = Duration::from_secs(1);

fn polled(http: &Http) -> HttpReport {
    let http = Http { duration: LONG, ..http.clone() };
    let report = http.run(&Arc::new(Control::default())).expect("it can be served");
    assert!(report.run.ok, "{:?} {:?}", report.run.faults(), report.run.findings);
    report
}

fn benches(criterion: &mut Criterion) {
    let pool = Http::default();
    let subjects = [
        ("poolproof", pool.clone()),
        ("poolproof, no cache", Http { cache: 0, ..pool.clone() }),
        ("mutex", Http { served_by: ServedBy::Mutex, ..pool.clone() }),
        ("views of 100 ms ago", Http { served_by: ServedBy::Stale, ..pool.clone() }),
    ];
    let samples = LazyCell::new(|| {
        let paces = subjects.each_ref().map(|(_, http)| || 1e9 / polled(http).run.ops_per_s);
        take_turns(&paces.each_ref().map(|pace| pace as &dyn Fn() -> f64))
    });
    for (place, (who, _)) in subjects.iter().enumerate() {
        report(criterion, "service: a request, 8 runs and 64 browsers", who, || samples[place].clone());
    }
    let resting = Http { think: Duration::from_millis(25), ..pool.clone() };
    let idle = Http { browsers: 0, runs: 1, ..pool.clone() };
    for (who, http) in [("64 browsers", &pool), ("64 browsers that rest 25 ms", &resting), ("one run", &idle)] {
        report(criterion, "service: p99 of a task's delay", who, || {
            (0..5).map(|_| polled(http).delay_p99_us as f64 * 1e3).collect()
        });
    }
    report(criterion, "service: p99 of a request's time, 64 browsers that rest 25 ms", "poolproof", || {
        (0..5).map(|_| polled(&resting).latencies["flow-logs"].p99_us as f64 * 1e3).collect()
    });
}

criterion_group!(service, benches);
criterion_main!(service);
