//! What is measured in other ways than criterion's, and reported by it all the same: subjects that take turns, so that all
//! of them meet the disk in the same mood; percentiles of times; memory. It stands in one table with the rest, and is judged
//! by the same rules.

use std::thread;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, SamplingMode, Throughput};

/// Nanoseconds or bytes.
pub trait Figure: Measurement {
    /// The whole of `iterations` times a figure.
    fn whole(figure: f64, iterations: u64) -> Self::Value;
}

impl Figure for WallTime {
    fn whole(figure: f64, iterations: u64) -> Duration {
        Duration::from_nanos((figure * iterations as f64) as u64)
    }
}

/// Reports as `who` of `group` what `record` returns, one sample each. It is called unless the command line leaves this out.
pub fn report<M: Figure>(criterion: &mut Criterion<M>, group: &str, who: &str, record: impl Fn() -> Vec<f64>) {
    let mut group = criterion.benchmark_group(group);
    group.sampling_mode(SamplingMode::Flat).sample_size(SAMPLES);
    // Nothing is measured any more: one call for warming up, and one for each sample.
    group.warm_up_time(Duration::from_nanos(1)).measurement_time(Duration::from_secs(1));
    let mut samples = Vec::new().into_iter().cycle();
    group.bench_function(who, |bencher| {
        let figure = samples.next().unwrap_or_else(|| {
            samples = record().into_iter().cycle();
            samples.next().expect("something was recorded")
        });
        bencher.iter_custom(|iterations| {
            // So long that criterion does not take it for nothing.
            thread::sleep(Duration::from_micros(50));
            M::whole(figure, iterations)
        });
    });
    group.finish();
}

/// As few as criterion takes.
pub const SAMPLES: usize = 10;

/// Lets each of the subjects make a sample, and then each the next.
pub fn take_turns(subjects: &[&dyn Fn() -> f64]) -> Vec<Vec<f64>> {
    let mut samples = vec![Vec::with_capacity(SAMPLES); subjects.len()];
    for _ in 0..SAMPLES {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            samples.push(subject());
        }
    }
    samples
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bytes;

impl Figure for Bytes {
    fn whole(figure: f64, iterations: u64) -> u64 {
        figure as u64 * iterations
    }
}

/// Nothing is counted from here to there: it is reported.
impl Measurement for Bytes {
    type Intermediate = ();
    type Value = u64;

    fn start(&self) {}

    fn end(&self, (): ()) -> u64 {
        0
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, bytes: &u64) -> f64 {
        *bytes as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Mebibytes
    }
}

struct Mebibytes;

impl ValueFormatter for Mebibytes {
    fn scale_values(&self, _typical: f64, values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|bytes| *bytes /= 1024.0 * 1024.0);
        "MiB"
    }

    fn scale_throughputs(&self, typical: f64, _: &Throughput, values: &mut [f64]) -> &'static str {
        self.scale_values(typical, values)
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "B"
    }
}
