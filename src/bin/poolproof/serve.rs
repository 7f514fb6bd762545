//! `poolproof serve`: the story's service, on the pool.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use poolproof::runs::Runs;
use poolproof::service::{ApiState, CACHE, Hosts, serve};
use poolproof::{ConnectionPool, PoolConfig, PooledDatabaseWriter, WriterConfig};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::number::from_to;
use crate::output::{say, tell};
use crate::signals::Signals;
use crate::{Outcome, Trouble};

const MAX_CONNECTIONS: u32 = PoolConfig::MAX_CONNECTIONS as u32;
/// As long does a request wait for a connection, or a write for its turn, before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serve runs of benchmarks over HTTP, with a page to watch them
#[derive(clap::Args)]
#[command(
    after_help = "Stops on Ctrl-C or SIGTERM: runs are marked as interrupted, and can be\nresumed. RUST_LOG chooses what is logged.\n\nExample:\n  poolproof serve --database runs.db --benchmarks fixtures/benchmarks"
)]
pub struct Args {
    /// The database; made if it is not there
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
    /// A folder of benchmarks (*.yml) to store first
    #[arg(long, value_name = "FOLDER")]
    benchmarks: Option<PathBuf>,
    /// Where; port 0 for any
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080))]
    listen: SocketAddr,
    /// Let others reach it, by any name, unasked
    #[arg(long)]
    allow_remote: bool,
    /// Connections at most; 2 at least
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = from_to(2, MAX_CONNECTIONS))]
    pool_size: u32,
    /// Wait so long for what was accepted
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = from_to(1, 3600_u64))]
    stop_timeout: u64,
}

/// Serves until it is told to stop.
pub fn run(args: &Args) -> Result<Outcome, Trouble> {
    if !args.listen.ip().is_loopback() {
        if !args.allow_remote {
            let why = "others could reach it, and nobody is asked who they are";
            return Err(format!("--listen {}: {why}; choose 127.0.0.1, or add --allow-remote", args.listen));
        }
        tell(format_args!("warning: {} can be reached by others, and nobody is asked who they are", args.listen));
    }
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::WARN.into()).from_env_lossy();
    // Another one can only have been set by a test.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| format!("cannot start a runtime: {error}; allow this process more threads"))?;
    runtime.block_on(until_stopped(args))
}

async fn until_stopped(args: &Args) -> Result<Outcome, Trouble> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mut signals = Signals::watch()
        .map_err(|error| format!("cannot watch for Ctrl-C: {error}; allow this process more threads"))?;
    // Before anything is made.
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}; choose another --listen", args.listen))?;
    let address = listener.local_addr().map_err(|error| said(&error))?;
    let pool = ConnectionPool::builder(&args.database)
        .max_connections(args.pool_size as usize)
        .acquire_timeout(PATIENCE)
        .build()
        .await
        .map_err(|error| said(&error))?;
    let config = WriterConfig { cache: CACHE, ..WriterConfig::default() };
    let db = PooledDatabaseWriter::with_config(pool, config).await.map_err(|error| said(&error))?.within(PATIENCE);
    let runs = Runs::new(db).await.map_err(|error| said(&error))?;
    let benchmarks = match &args.benchmarks {
        Some(folder) => runs.sync_benchmarks(folder).await.map_err(|error| said(&error))?.len(),
        None => 0,
    };
    let state = ApiState::new(runs).await.map_err(|error| said(&error))?;
    say(&format!("listening on http://{address}, {benchmarks} benchmarks\n"))?;
    let limit = Duration::from_secs(args.stop_timeout);
    let hosts = if args.allow_remote { Hosts::Any } else { Hosts::Local };
    let stop = async move {
        signals.next().await;
        tell("stopping");
    };
    let report = serve(listener, state, hosts, stop, limit).await;
    tell(format_args!("stopped: {report}"));
    Ok(report.is_clean().into())
}
