//! How long a task that is ready waits until its runtime polls it: what a long poll on a worker does to everybody else.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::crowd::histogram;

/// From one beat to the next.
const PERIOD: Duration = Duration::from_millis(1);

/// For so long, this thread wakes a task of `runtime` each millisecond; the times from there to the task's turn. (tokio's own
/// timer rounds to a millisecond, which is what is to be seen here.) A beat that comes while the last one still waits is one
/// more that waits. `load` is what goes on meanwhile; it is dropped at the end, so that the last beats do not wait for ever.
///
/// # Panics
/// If called in a runtime.
#[must_use]
pub fn delays<L>(runtime: &Runtime, long: Duration, load: L) -> Histogram<u64> {
    let (beats, mut beating) = mpsc::unbounded_channel::<Instant>();
    let task = runtime.spawn(async move {
        let mut delays = histogram();
        while let Some(beat) = beating.recv().await {
            delays.saturating_record(beat.elapsed().as_nanos() as u64);
        }
        delays
    });
    let end = Instant::now() + long;
    while Instant::now() < end {
        thread::sleep(PERIOD);
        beats.send(Instant::now()).expect("the task listens");
    }
    drop(beats);
    drop(load);
    runtime.block_on(task).expect("nothing panics")
}
