//! The story's service over HTTP: requests while 8 benchmarks run and 64 browsers poll, on the pool, on one connection behind a
//! mutex, and with views that are up to 100 ms old, which leaves the handlers and HTTP. Whoever asks shares the machine, so
//! these browsers look at nothing; those of the harness, which check what they are shown, stand beside them. Then what a task
//! of the service notices, when the browsers ask as fast as they can, and when each rests 25 ms between two requests, as
//! people's do.

use std::cell::LazyCell;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use poolproof::harness::drive::Control;
use poolproof::harness::http::{Http, HttpReport, ServedBy};
use poolproof_benches::poll::{Browser, poll};
use poolproof_benches::recorded::{report, take_turns};

/// As long is one sample.
const LONG: Duration = Duration::from_secs(1);
const BROWSERS: usize = 64;

/// The harness's own browsers.
fn checked(http: &Http) -> HttpReport {
    let http = Http { duration: LONG, ..http.clone() };
    let report = http.run(&Arc::new(Control::default())).expect("it can be served");
    assert!(report.run.ok, "{:?} {:?}", report.run.faults(), report.run.findings);
    report
}

/// Nanoseconds a request, by browsers that look at nothing.
fn polled(http: &Http) -> f64 {
    let listen = free_port();
    // Until the first answers, and a little longer than they ask.
    let http = Http { browsers: 0, listen, duration: LONG + Duration::from_secs(1), ..http.clone() };
    let serving = thread::spawn(move || http.run(&Arc::new(Control::default())).expect("it can be served"));
    while TcpStream::connect(listen).is_err() {
        thread::sleep(Duration::from_millis(5));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let views = runtime.block_on(views(listen));
    // Every view has been there once, and runs are on their way.
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    let answers = runtime.block_on(poll(listen, BROWSERS, &views, began + LONG));
    let took = began.elapsed();
    let report = serving.join().expect("the service does not panic");
    assert!(report.run.ok, "{:?} {:?}", report.run.faults(), report.run.findings);
    took.as_nanos() as f64 / answers as f64
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it listens somewhere")
}

/// The four views of each benchmark.
async fn views(address: SocketAddr) -> Vec<String> {
    let all = Browser::new(address).await.get("/api/v1/benchmarks").await;
    let all: Vec<serde_json::Value> = serde_json::from_slice(&all).expect("it is JSON");
    let of = |benchmark: &serde_json::Value| {
        let id = benchmark["id"].as_str().expect("each has an id");
        [
            "/api/v1/agent-performance?limit=20".to_owned(),
            format!("/api/v1/flow-logs/{id}"),
            format!("/api/v1/transaction-logs/{id}"),
            format!("/api/v1/ascii-tree/{id}/agent-1"),
        ]
    };
    all.iter().flat_map(of).collect()
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
        let paces = subjects.each_ref().map(|(_, http)| || polled(http));
        take_turns(&paces.each_ref().map(|pace| pace as &dyn Fn() -> f64))
    });
    for (place, (who, _)) in subjects.iter().enumerate() {
        report(criterion, "service: a request, 8 runs and 64 browsers", who, || samples[place].clone());
    }
    report(criterion, "service: a request, 8 runs and 64 browsers that check", "poolproof", || {
        (0..5).map(|_| 1e9 / checked(&pool).run.ops_per_s).collect()
    });
    let resting = Http { think: Duration::from_millis(25), ..pool.clone() };
    let idle = Http { browsers: 0, runs: 1, ..pool.clone() };
    for (who, http) in [("64 browsers", &pool), ("64 browsers that rest 25 ms", &resting), ("one run", &idle)] {
        report(criterion, "service: p99 of a task's delay", who, || {
            (0..5).map(|_| checked(http).delay_p99_us as f64 * 1e3).collect()
        });
    }
    report(criterion, "service: p99 of a request's time, 64 browsers that rest 25 ms", "poolproof", || {
        (0..5).map(|_| checked(&resting).latencies["flow-logs"].p99_us as f64 * 1e3).collect()
    });
}

criterion_group!(service, benches);
criterion_main!(service);
