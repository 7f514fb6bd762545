//! What the story's work costs, one operation: one connection behind an async mutex beside the pool, at 1 to 128 tasks.
//!
//! The same seeds, the real engine, a real file, one durable write in five operations. Only the clients' time is
//! measured; each run is checked like any other, and one that is not clean ends the bench.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use poolproof::harness::drive::Control;
use poolproof::harness::stress::Stress;
use poolproof::harness::subjects::Kind;
use poolproof::harness::workload::Spec;

/// Operations of one run, at least.
const OPERATIONS: u64 = 500;

fn work(subject: Kind, concurrency: u64, iterations: u64) -> Duration {
    let runs = iterations.div_ceil(OPERATIONS);
    let seconds: f64 = (0..runs)
        .map(|seed| {
            let spec = Spec { operations: OPERATIONS, concurrency, seed, ..Spec::default() };
            let stress = Stress { subject, spec, workers: 2, warm: true, ..Stress::default() };
            let report = stress.run(&Arc::new(Control::default())).expect("a temporary file can be used");
            assert!(report.ok, "{report:?}");
            report.seconds
        })
        .sum();
    // Per iteration an operation: what the runs did beyond the iterations asked for is scaled away.
    Duration::from_secs_f64(seconds * iterations as f64 / (runs * OPERATIONS) as f64)
}

fn benches(criterion: &mut Criterion) {
    for tasks in [1, 8, 32, 128] {
        let mut group = criterion.benchmark_group(format!("story: one operation, {tasks} tasks"));
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        for (name, subject) in [("poolproof", Kind::Pool), ("mutex", Kind::Mutex)] {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|iterations| work(subject, tasks, iterations));
            });
        }
        group.finish();
    }
}

criterion_group!(story, benches);
criterion_main!(story);
