//! The story's service, driven over real HTTP as the story did it: benchmarks run while browsers poll.
//!
//! Two runtimes in one process, one for the service and one for those who ask. Each browser asks for the four views of a
//! benchmark in turn, and notes whether a log ever shows less than somebody was shown before it asked. Afterwards the
//! service is stopped and SQLite looks at the file: every part of every run that completed is there.

mod browser;
mod client;
mod one;
mod stale;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use self::browser::{Crowd, Found};
pub use self::client::{Answer, HttpClient, Unanswered};
use self::one::One;
use self::stale::Stale;
use super::drive::Control;
use super::panics::{self, Panics};
use super::run::RunReport;
use super::stress::CannotRun;
use super::subjects::ENGINE;
use crate::pool::ConnectionPool;
use crate::runs::{BenchmarkFile, Runs, Store};
use crate::service::{ApiState, CACHE, Hosts, serve};
use crate::writer::{PooledDatabaseWriter, WriterConfig};

/// More browsers than this need more sockets than a process has.
pub const MAX_BROWSERS: usize = 400;

/// The benchmarks that are run.
const BENCHMARKS: [&str; 3] = [
    include_str!("../../../fixtures/benchmarks/survey.yml"),
    include_str!("../../../fixtures/benchmarks/swap.yml"),
    include_str!("../../../fixtures/benchmarks/transfer.yml"),
];

/// As long may it take to stop.
const STOP: Duration = Duration::from_secs(10);

/// What the handlers ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// The pool and the writer.
    Pool,
    /// One connection behind a mutex.
    Mutex,
    /// Control: one connection, shared by all.
    Shared,
    /// The pool and the writer, with views of up to 100 ms ago: what the handlers and HTTP take without the database.
    Stale,
}

impl ServedBy {
    /// As reports name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ServedBy::Pool => "pool",
            ServedBy::Mutex => "mutex",
            ServedBy::Shared => "shared",
            ServedBy::Stale => "stale views",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            ServedBy::Pool => "",
            ServedBy::Mutex => " --mutex-connection",
            ServedBy::Shared => " --shared-connection",
            ServedBy::Stale => " --stale-views",
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Http {
    /// What the handlers ask.
    pub served_by: ServedBy,
    /// Benchmarks that run at the same time.
    pub runs: usize,
    /// Browsers that poll.
    pub browsers: usize,
    /// Where the service listens; port 0 for a free one.
    pub listen: SocketAddr,
    /// As long rests a browser between two requests.
    pub think: Duration,
    /// How long.
    pub duration: Duration,
    /// Threads of the service's runtime.
    pub workers: usize,
    /// Connections at most.
    pub pool_size: usize,
    /// Bytes of views that are kept at most.
    pub cache: usize,
    /// Decides what the agents do.
    pub seed: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            served_by: ServedBy::Pool,
            runs: 8,
            browsers: 64,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            think: Duration::ZERO,
            duration: Duration::from_secs(10),
            workers: 4,
            pool_size: 10,
            cache: CACHE,
            seed: 1,
        }
    }
}

/// How long answers took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median, in microseconds.
    pub p50_us: u64,
    /// 99th percentile, in microseconds.
    pub p99_us: u64,
    /// 99.9th percentile, in microseconds.
    pub p999_us: u64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        let [p50_us, p99_us, p999_us] = [0.5, 0.99, 0.999].map(|part| histogram.value_at_quantile(part));
        Self { p50_us, p99_us, p999_us }
    }
}

/// What was found: a run like any other, and what only HTTP has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpReport {
    /// The run: its operations are requests, its writes the parts of logs, and what vanished are logs that showed less than
    /// before.
    #[serde(flatten)]
    pub run: RunReport,
    /// Benchmarks that ran at the same time.
    pub runs: u64,
    /// Browsers that polled.
    pub browsers: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that were not answered.
    pub unanswered: u64,
    /// By what was asked for.
    pub latencies: BTreeMap<String, Latency>,
    /// Runs of which the service said that they were complete.
    pub completed: u64,
    /// How late the service's runtime was, asked every 2 ms: 99th percentile, in microseconds.
    pub delay_p99_us: u64,
    /// At most, in microseconds.
    pub delay_max_us: u64,
    /// How many parts the log of each run that completed has to have.
    #[serde(skip)]
    expected: BTreeMap<String, u64>,
}

fn cannot(what: &str, error: &dyn std::fmt::Display) -> CannotRun {
    CannotRun(format!("cannot {what}: {error}"))
}

impl Http {
    /// Runs it to the end, or until `control` stops it, and looks at what it left.
    ///
    /// # Errors
    /// What kept it from being made.
    pub fn run(&self, control: &Arc<Control>) -> Result<HttpReport, CannotRun> {
        let folder = tempfile::tempdir().map_err(|error| cannot("make a folder; set TMPDIR to another", &error))?;
        let path = folder.path().join("service.db");
        let recording = panics::record(panics::RUN);
        let found = match self.served_by {
            ServedBy::Pool => self.serve_and_ask(control, self.pool(&path)),
            ServedBy::Mutex => self.serve_and_ask(control, One::open(text_of(&path)?, true)),
            ServedBy::Shared => self.serve_and_ask(control, One::open(text_of(&path)?, false)),
            ServedBy::Stale => self.serve_and_ask(control, async { Ok(Stale::new(self.pool(&path).await?)) }),
        };
        drop(recording);
        let mut report = self.report(found?, panics::take(), control);
        look(&path, &mut report);
        if report.completed == 0 && !report.run.stopped {
            report.run.finding(|| "no run completed".to_owned());
        }
        report.run = report.run.conclude();
        Ok(report)
    }

    async fn pool(&self, path: &Path) -> crate::Result<PooledDatabaseWriter> {
        let patience = Duration::from_secs(2);
        let pool =
            ConnectionPool::builder(path).max_connections(self.pool_size).acquire_timeout(patience).build().await?;
        let config = WriterConfig { cache: self.cache, ..WriterConfig::default() };
        Ok(PooledDatabaseWriter::with_config(pool, config).await?.within(patience))
    }

    /// The service on one runtime, those who ask on another.
    fn serve_and_ask<S: Store>(
        &self,
        control: &Arc<Control>,
        store: impl Future<Output = crate::Result<S>>,
    ) -> Result<Found, CannotRun> {
        let service = runtime("poolproof-service", self.workers)?;
        let askers = runtime("asker", 2)?;
        let listener = service
            .block_on(TcpListener::bind(self.listen))
            .map_err(|error| cannot(&format!("listen on {}", self.listen), &error))?;
        let address: SocketAddr = listener.local_addr().map_err(|error| cannot("tell where it listens", &error))?;
        let begun = service.block_on(async {
            let runs = Runs::new(store.await?).await?;
            for text in BENCHMARKS {
                let file = BenchmarkFile::parse(text).map_err(|problem| crate::runs::Error::File {
                    path: "a benchmark of the harness".to_owned(),
                    problem,
                })?;
                runs.upsert_benchmark(&file).await?;
            }
            let benchmarks = runs.benchmarks().await?;
            Ok::<_, crate::runs::Error>((benchmarks, ApiState::new(runs).await?))
        });
        let (benchmarks, state) = begun.map_err(|error| CannotRun(error.to_string()))?;
        let db = state.db().db().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = service.spawn(serve(listener, state, Hosts::Local, async { drop(stopped.await) }, STOP));
        let delay = lateness(&service, self.duration);
        let crowd = Crowd { address, runs: self.runs, browsers: self.browsers, think: self.think, seed: self.seed };
        let began = Instant::now();
        let mut found = askers.block_on(crowd.ask(&benchmarks, self.duration, control))?;
        found.seconds = began.elapsed().as_secs_f64().min(self.duration.as_secs_f64()).max(0.001);
        found.delay = service.block_on(delay).ok();
        found.max_open = Some(db.status().pool.most_open as u64).filter(|most| *most > 0);
        // Nobody listens if the service has ended by itself.
        let _ = stop.send(());
        match service.block_on(serving) {
            Ok(report) if report.is_clean() => {}
            Ok(report) => found.finding(|| format!("the service stopped, but {report}")),
            Err(_) => found.finding(|| "the service panicked".to_owned()),
        }
        service.shutdown_timeout(STOP);
        Ok(found)
    }

    fn report(&self, found: Found, panics: Panics, control: &Control) -> HttpReport {
        let is_failure = |(status, _): &(&u16, &u64)| !(200..300).contains(*status);
        let refused: u64 = found.statuses.iter().filter(is_failure).map(|(_, count)| count).sum();
        let requests = found.unanswered + found.statuses.values().sum::<u64>();
        let all = found.latencies.values().fold(browser::histogram(), |mut all, one| {
            // Their bounds are the same.
            let _ = all.add(one);
            all
        });
        let parts = found.completed.values().map(|steps| *steps as u64).sum();
        let Self { served_by, runs, browsers, think, duration, workers, pool_size, seed, .. } = self;
        let run = RunReport {
            engine: ENGINE.to_owned(),
            connections: served_by.name().to_owned(),
            repeat: format!(
                "poolproof stress --http{} --runs {runs} --browsers {browsers} --think-ms {} --seconds {} --workers {workers} \
                 --pool-size {pool_size} --seed {seed}",
                served_by.flag(),
                think.as_millis(),
                duration.as_secs().max(1)
            ),
            operations: requests,
            concurrency: (runs + browsers) as u64,
            workers: *workers as u64,
            seed: *seed,
            panics: panics.count,
            locations: panics.locations,
            messages: panics.messages,
            failed: refused + found.unanswered,
            stopped: control.is_stopped(),
            acknowledged: parts,
            found: parts,
            vanished: found.shrunk,
            findings: found.findings,
            max_open: found.max_open,
            p50_us: all.value_at_quantile(0.5),
            p99_us: all.value_at_quantile(0.99),
            ops_per_s: requests as f64 / found.seconds,
            seconds: found.seconds,
            ..RunReport::default()
        };
        HttpReport {
            run,
            runs: *runs as u64,
            browsers: *browsers as u64,
            unanswered: found.unanswered,
            latencies: found.latencies.iter().map(|(what, latencies)| ((*what).to_owned(), latencies.into())).collect(),
            completed: found.completed.len() as u64,
            delay_p99_us: found.delay.as_ref().map_or(0, |delay| delay.value_at_quantile(0.99)),
            delay_max_us: found.delay.as_ref().map_or(0, Histogram::max),
            expected: found.completed.into_iter().map(|(id, steps)| (id, steps as u64)).collect(),
            statuses: found.statuses,
        }
    }
}

fn text_of(path: &Path) -> Result<&str, CannotRun> {
    path.to_str()
        .ok_or_else(|| CannotRun(format!("cannot use {}: it is no UTF-8; set TMPDIR to another", path.display())))
}

fn runtime(name: &str, workers: usize) -> Result<tokio::runtime::Runtime, CannotRun> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).thread_name(name).enable_all().build();
    runtime.map_err(|error| cannot("start a runtime", &error))
}

/// How late a runtime is, in microseconds: a thread wakes a task of it, which notes when its turn came. (A timer of the
/// runtime's own is rounded to a millisecond.)
fn lateness(runtime: &tokio::runtime::Runtime, duration: Duration) -> tokio::task::JoinHandle<Histogram<u64>> {
    let (beats, mut beating) = mpsc::unbounded_channel::<Instant>();
    std::thread::spawn(move || {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
            if beats.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    runtime.spawn(async move {
        let mut late = browser::histogram();
        while let Some(beat) = beating.recv().await {
            late.saturating_record(beat.elapsed().as_micros() as u64);
        }
        late
    })
}

/// Asks a fresh connection of the engine, and SQLite, whether the file is sound, and SQLite whether each run that completed
/// left every part of its log.
fn look(path: &Path, report: &mut HttpReport) {
    let HttpReport { run, expected, .. } = report;
    run.integrity = by_engine(path).unwrap_or_else(|error| error.to_string());
    if let Err(error) = by_sqlite(path, expected, run) {
        run.sqlite_integrity = error.to_string();
    }
}

fn by_engine(path: &Path) -> Result<String, crate::Error> {
    let runtime = runtime("fresh", 1).map_err(|error| crate::Error::Misuse(error.to_string().into()))?;
    runtime.block_on(async {
        let pool = ConnectionPool::open(path).await?;
        let mut connection = pool.get().await?;
        let mut rows = connection.query("PRAGMA integrity_check", ()).await?;
        rows.next().await?.map_or(Ok(String::new()), |row| row.get(0))
    })
}

fn by_sqlite(path: &Path, expected: &BTreeMap<String, u64>, run: &mut RunReport) -> Result<(), rusqlite::Error> {
    let sqlite = rusqlite::Connection::open(path)?;
    run.sqlite_integrity = sqlite.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
    for (id, steps) in expected {
        let sql = "SELECT COUNT(*) FROM log_chunks WHERE session_id = ?1 AND number BETWEEN 1 AND ?2";
        let there: u32 = sqlite.query_row(sql, (id, *steps as u32), |row| row.get(0))?;
        let missing = steps.saturating_sub(there.into());
        if missing > 0 {
            run.lost += missing;
            run.found -= missing;
            run.finding(|| format!("run {id} has {there} of {steps} parts of its log"));
        }
    }
    let sql = "SELECT COUNT(*) FROM sessions WHERE status = 'running'";
    let running: u32 = sqlite.query_row(sql, (), |row| row.get(0))?;
    if running > 0 {
        run.finding(|| format!("{running} sessions are still running in the file"));
    }
    Ok(())
}
