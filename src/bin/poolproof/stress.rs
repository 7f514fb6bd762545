//! `poolproof stress`: one run of the story's work on one subject.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use poolproof::PoolConfig;
use poolproof::harness::drive::Control;
use poolproof::harness::http::{Http, MAX_BROWSERS, ServedBy};
use poolproof::harness::run::RunReport;
use poolproof::harness::stress::{MAX_WORKERS, Stress};
use poolproof::harness::subjects::Kind;
use poolproof::harness::workload::{MAX_CONCURRENCY, OPERATIONS_PER_WRITE, Spec};
use poolproof::service::MOST_AT_ONCE;

use crate::http;
use crate::kill::{self, Killed};
use crate::number::from_to;
use crate::output::{counted, finish, is_stdout, micros, number, say, tell, verdict, watched, writable};
use crate::signals::stop_on_signal;
use crate::{Outcome, Subject, Trouble};

/// More than anybody waits for.
const MANY: u64 = 1_000_000_000;
const MAX_ROUNDS: u32 = 1_000_000;
/// In seconds.
const WEEK: u64 = 7 * 24 * 60 * 60;
/// Operations of a run that only its time ends.
const UNLIMITED: u64 = u64::MAX >> 1;
const MAX_CONNECTIONS: u32 = PoolConfig::MAX_CONNECTIONS as u32;

/// Run the story's work on threads and a file, and check what it left
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  poolproof stress --operations 20000 --concurrency 64 --json stress.json\n  \
                  poolproof stress --kill --rounds 200 --seed 7 --json kill.json\n  \
                  poolproof stress --kill=early-ack   # a broken writer: must not hold")]
pub struct Args {
    /// Who is put to the work
    #[arg(long, value_enum, default_value = "pool", hide_possible_values = false)]
    subject: Subject,
    /// Operations of all clients [default: 20, or no limit with --seconds]
    #[arg(long, value_name = "N", value_parser = from_to(1, MANY))]
    operations: Option<u64>,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = from_to(1, MAX_CONCURRENCY))]
    concurrency: u64,
    /// Connections at most; the pool's writer needs 2 of them
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = from_to(1, MAX_CONNECTIONS))]
    pool_size: u32,
    /// Threads of the runtime
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = from_to(1, MAX_WORKERS))]
    workers: usize,
    /// Of so many consecutive operations one is a write; 1 for writes only
    #[arg(long, value_name = "N", default_value_t = OPERATIONS_PER_WRITE, value_parser = from_to(1, MANY))]
    write_every: u64,
    /// Decides the work, though not how the threads interleave
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// End after this many seconds even if operations are left
    #[arg(long, value_name = "SECONDS", value_parser = from_to(1, WEEK))]
    seconds: Option<u64>,
    /// Open all connections before the first operation
    #[arg(long)]
    warm: bool,
    /// Give the run up as hung after so many seconds without progress
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = from_to(1, WEEK))]
    watchdog: u64,
    /// The database to use, which must not exist [default: a temporary file]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Instead, kill processes that write, and look for all they acknowledged
    #[arg(
        long,
        value_enum,
        value_name = "WRITER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "writer",
        conflicts_with_all = ["subject", "operations", "concurrency", "pool_size", "workers", "write_every", "seconds", "warm", "watchdog", "database", "http"]
    )]
    kill: Option<Killed>,
    /// Processes to kill [default: 50]
    #[arg(long, value_name = "N", requires = "kill", value_parser = from_to(1, MAX_ROUNDS))]
    rounds: Option<u32>,
    /// Instead, poll the story's service over HTTP while benchmarks run
    #[arg(long, conflicts_with_all = ["subject", "operations", "concurrency", "write_every", "warm", "watchdog", "database"])]
    http: bool,
    /// Benchmarks that run at the same time [default: 8]
    #[arg(long, value_name = "N", requires = "http", value_parser = from_to(1, MOST_AT_ONCE))]
    runs: Option<usize>,
    /// Browsers that poll; 0 for a client of yours [default: 64]
    #[arg(long, value_name = "N", requires = "http", value_parser = from_to(0, MAX_BROWSERS))]
    browsers: Option<usize>,
    /// Where the service listens [default: a free port]
    #[arg(long, value_name = "ADDRESS", requires = "http")]
    listen: Option<SocketAddr>,
    /// As long rests a browser between two requests, in ms [default: 0]
    #[arg(long, value_name = "MS", requires = "http", value_parser = from_to(0_u64, 60_000))]
    think_ms: Option<u64>,
    /// First over one connection shared by all handlers, which must fail
    #[arg(long, requires = "http")]
    shared_connection: bool,
    /// Over one connection behind a mutex, to compare with
    #[arg(long, requires = "http", conflicts_with = "shared_connection")]
    mutex_connection: bool,
    /// With views up to 100 ms old: what is left without the database
    #[arg(long, requires = "http", conflicts_with_all = ["shared_connection", "mutex_connection"])]
    stale_views: bool,
    /// Write the report as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// Runs it; whether it holds.
pub fn run(args: &Args) -> Result<Outcome, Trouble> {
    writable(args.json.as_deref())?;
    if let Some(Killed(subject)) = args.kill {
        let report = kill::run(subject, args.rounds.unwrap_or(50), args.seed, args.quiet)?;
        let only_stopped = report.stopped && report.faults().is_empty();
        let goes_to = (args.quiet, args.json.as_deref());
        return finish(&report, goes_to, (kill::text, kill::ends), only_stopped, report.ok);
    }
    if args.http {
        return over_http(args);
    }
    if args.subject.0 == Kind::Pool && args.pool_size < 2 {
        let why = "its writer needs at least 2 connections, one for the lane and one for readers";
        return Err(format!("--pool-size is 1, too few for --subject pool: {why}"));
    }
    let unlimited = if args.seconds.is_some() { UNLIMITED } else { 20 };
    let operations = args.operations.unwrap_or(unlimited);
    let stress = Stress {
        subject: args.subject.0,
        spec: Spec { operations, concurrency: args.concurrency, seed: args.seed, write_every: args.write_every },
        duration: args.seconds.map(Duration::from_secs),
        workers: args.workers,
        pool_size: args.pool_size,
        warm: args.warm,
        watchdog: Duration::from_secs(args.watchdog),
        database: args.database.clone(),
    };
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let report = in_sight(&stress, &control, !args.quiet)?;
    finish(&report, (args.quiet, args.json.as_deref()), (text, ends), report.was_only_stopped(), report.ok)
}

/// Drives the service, over the shared connection first if that is asked for.
fn over_http(args: &Args) -> Result<Outcome, Trouble> {
    if let Some(listen) = args.listen.filter(|listen| !listen.ip().is_loopback()) {
        return Err(format!("--listen {listen}: others could reach it; choose 127.0.0.1:{}", listen.port()));
    }
    let http = Http {
        runs: args.runs.unwrap_or(8),
        browsers: args.browsers.unwrap_or(64),
        duration: Duration::from_secs(args.seconds.unwrap_or(10)),
        think: Duration::from_millis(args.think_ms.unwrap_or(0)),
        served_by: match (args.mutex_connection, args.stale_views) {
            (true, _) => ServedBy::Mutex,
            (false, true) => ServedBy::Stale,
            (false, false) => ServedBy::Pool,
        },
        workers: args.workers,
        pool_size: args.pool_size as usize,
        seed: args.seed,
        listen: args.listen.unwrap_or(Http::default().listen),
        ..Http::default()
    };
    let control = Arc::new(Control::default());
    stop_on_signal(&control)?;
    let mut was_found_out = true;
    if args.shared_connection {
        let shared = Http { served_by: ServedBy::Shared, ..http.clone() };
        let report = shared.run(&control).map_err(|error| error.to_string())?;
        was_found_out = !report.run.faults().is_empty() || report.run.stopped;
        if !args.quiet && !args.json.as_deref().is_some_and(is_stdout) {
            say(&http::text(&report))?;
        }
        if !was_found_out {
            tell("the shared connection is a control, which must fail, and it did not; give more --seconds");
        }
    }
    let report = http.run(&control).map_err(|error| error.to_string())?;
    let (only_stopped, goes_to) = (report.run.was_only_stopped(), (args.quiet, args.json.as_deref()));
    let outcome = finish(&report, goes_to, (http::text, http::ends), only_stopped, report.run.ok)?;
    Ok(if was_found_out { outcome } else { Outcome::DoesNotHold })
}

/// Runs it behind a progress bar.
fn in_sight(stress: &Stress, control: &Arc<Control>, show: bool) -> Result<RunReport, Trouble> {
    // Of the two ends that it may have, the one that is asked for; of both, the operations.
    let timed = stress.duration.filter(|_| stress.spec.operations == UNLIMITED);
    let (length, what) = timed.map_or((stress.spec.operations, "operations"), |time| (time.as_secs(), "seconds"));
    let began = Instant::now();
    let moves = |bar: &ProgressBar| match timed {
        None => bar.set_position(control.performed()),
        Some(time) => {
            bar.set_position(began.elapsed().min(time).as_secs());
            bar.set_message(format!("seconds, {}", counted(control.performed(), "operation")));
        }
    };
    watched(show.then_some((length, what)), moves, || stress.run(control))
}

/// What a person reads.
fn text(report: &RunReport) -> String {
    let mut lines = Vec::new();
    let start = if report.warm { "warm" } else { "cold" };
    let RunReport { engine, connections, concurrency, workers, .. } = report;
    lines.push(format!(
        "{engine}, {connections}, {} on {}, {start}",
        counted(*concurrency, "client"),
        counted(*workers, "thread")
    ));
    lines.push(format!(
        "{} in {:.2} s, {:.0}/s, p50 {}, p99 {}",
        counted(report.operations, "operation"),
        report.seconds,
        report.ops_per_s,
        micros(report.p50_us),
        micros(report.p99_us)
    ));
    lines.push(format!("{} acknowledged, {} found again", counted(report.acknowledged, "write"), number(report.found)));
    if let Some(most) = report.max_open {
        lines.push(format!("at most {} open", counted(most, "connection")));
    }
    for (by, verdict) in [("the engine", &report.integrity), ("SQLite", &report.sqlite_integrity)] {
        if !verdict.is_empty() {
            lines.push(format!("integrity_check by {by}: {verdict}"));
        }
    }
    for (location, count) in &report.locations {
        lines.push(format!("panic x {count} at {location}"));
    }
    for (message, count) in report.messages.iter().chain(&report.errors) {
        lines.push(format!("    {count} x {message}"));
    }
    for finding in &report.findings {
        lines.push(format!("finding: {finding}"));
    }
    lines.extend(ends(report));
    lines.push(String::new());
    lines.join("\n")
}

/// The last of it.
fn ends(report: &RunReport) -> Vec<String> {
    verdict(report.ok, report.stopped, &report.faults(), &report.repeat)
}
