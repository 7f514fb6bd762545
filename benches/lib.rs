//! What the benches share. For those of the pool: what a pool under measurement is, and pools of a connection that is
//! nothing, so that only the pools themselves are measured. For those of the writer: a database on disk, who writes to it, and
//! crowds of callers.
//!
//! All pools do the same work: [`SIZE`] connections, a guard that gives its connection back when dropped, and a wait
//! that ends after [`PATIENCE`] (where a row's name does not say otherwise).
//!
//! sqlx's pool is not among them. It pools the connections of a real driver only; its driver for SQLite cannot be linked
//! together with this workspace's rusqlite (both bring SQLite itself, of different versions), and the others need a
//! server.

pub mod beat;
pub mod crowd;
pub mod database;
pub mod poll;
pub mod recorded;
pub mod writers;

use std::env;
use std::time::Duration;

use criterion::{BenchmarkGroup, SamplingMode, measurement::WallTime};
use tokio::runtime::{Builder, Runtime};

/// The pools, one file each.
pub mod peers {
    pub mod bare;
    pub mod bb8;
    pub mod deadpool;
    #[cfg(feature = "peers")]
    pub mod mobc;
    pub mod poolproof;
    #[cfg(feature = "peers")]
    pub mod r2d2;
}

/// Connections of every pool.
pub const SIZE: usize = 10;

/// How long a get may wait.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A pool under measurement.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Its name in reports.
    const NAME: &'static str;
    /// What it lends.
    type Guard: Send;

    /// A pool of [`SIZE`] connections, none of them open yet.
    fn open() -> impl Future<Output = Self>;
    /// Waits for a connection.
    fn get(&self) -> impl Future<Output = Self::Guard> + Send;
}

/// The manager of nothing, for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

/// Two threads, as many as the smallest machine has.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

/// Many samples, each so short that another process of a busy machine seldom gets in its way: the median is of those that
/// were left alone.
pub fn brief_samples(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sampling_mode(SamplingMode::Flat).sample_size(200);
}

/// How long a sample takes, of subjects that take turns.
pub fn turn() -> Duration {
    Duration::from_millis(if full() { 100 } else { 25 })
}

/// Whether there is time for the long form of the benches.
pub fn full() -> bool {
    env::var("FULL").is_ok_and(|full| full == "1")
}
