//! r2d2, which blocks the thread that waits: measured with a real thread in the place of each task.

use std::convert::Infallible;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use r2d2::{ManageConnection, Pool};

use crate::{Nothing, PATIENCE, SIZE};

/// Its name in reports.
pub const NAME: &str = "r2d2, real threads";

impl ManageConnection for Nothing {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn is_valid(&self, _connection: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _connection: &mut u64) -> bool {
        false
    }
}

/// A pool of [`SIZE`] connections.
pub fn open() -> Pool<Nothing> {
    let builder = Pool::builder().max_size(SIZE as u32).connection_timeout(PATIENCE);
    builder.build(Nothing).expect("nothing can fail")
}

/// A get and a drop.
pub fn lend(pool: &Pool<Nothing>) {
    drop(pool.get().expect("nothing can fail"));
}

/// So often each thread comes at least: ending many threads takes long, and must not count.
const SHARE: u64 = 50;

/// The time that `iterations` gets and drops of all threads together take, from when they stand ready.
pub fn contend(pool: &Pool<Nothing>, threads: u64, iterations: u64) -> Duration {
    let rounds = iterations.max(threads * SHARE);
    let ready = Barrier::new(threads as usize + 1);
    let work = |share| {
        ready.wait();
        for _ in 0..share {
            let guard = pool.get().expect("nothing can fail");
            thread::yield_now();
            drop(guard);
        }
    };
    let mut began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let share = rounds / threads + u64::from(thread < rounds % threads);
            scope.spawn(move || work(share));
        }
        ready.wait();
        began = Instant::now();
    });
    // What was done beyond the iterations asked for is scaled away.
    began.elapsed().mul_f64(iterations as f64 / rounds as f64)
}
