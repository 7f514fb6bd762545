//! What `/metrics` says: requests and how long they took, how late the runtime was, and the pool and the lane as they are
//! when it is asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, MissedTickBehavior};

use super::ApiState;
use crate::runs::Store;
use crate::writer::{CacheStatus, WriterStatus};

/// What is kept for `/metrics`.
pub(super) struct Gauges {
    registry: Registry,
    requests: Family<Answered, Counter>,
    latencies: Family<Asked, Histogram>,
    delay: Histogram,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

/// From 50 microseconds to 13 seconds.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 19))
}

impl Gauges {
    pub(super) fn new(db: impl Store) -> Self {
        let mut registry = Registry::with_prefix("poolproof");
        let requests = Family::default();
        let latencies = Family::new_with_constructor(histogram as fn() -> Histogram);
        let delay = histogram();
        registry.register("requests", "Requests that were answered", requests.clone());
        registry.register("request_seconds", "How long answers took", latencies.clone());
        registry.register("runtime_delay_seconds", "How late the runtime was, asked every 10 ms", delay.clone());
        registry.register_collector(Box::new(Database(Arc::new(move || db.status()))));
        Self { registry, requests, latencies, delay }
    }

    /// In Prometheus' text format.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Looks every 10 ms how late the runtime is.
    pub(super) async fn watch_the_runtime(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = ticks.tick().await;
            self.delay.observe(due.elapsed().as_secs_f64());
        }
    }
}

/// Counts a request and measures it. An address that is none is counted as such, whatever it was: labels are bounded.
pub(super) async fn count<S: Store>(State(state): State<ApiState<S>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    state.gauges().latencies.get_or_create(&Asked { route: route.clone() }).observe(began.elapsed().as_secs_f64());
    state.gauges().requests.get_or_create(&Answered { route, status }).inc();
    response
}

/// The pool and the lane when they are asked.
struct Database(Arc<dyn Fn() -> WriterStatus + Send + Sync>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

fn cache(status: &WriterStatus) -> CacheStatus {
    status.cache.unwrap_or_default()
}

/// What may fall, too.
type Level = (&'static str, &'static str, fn(&WriterStatus) -> u64);

const LEVELS: [Level; 10] = [
    ("pool_connections_max", "Connections that the pool may open", |status| status.pool.max as u64),
    ("pool_connections_open", "Connections that are open", |status| status.pool.open as u64),
    ("pool_connections_idle", "Connections that wait for a user", |status| status.pool.idle as u64),
    ("pool_connections_in_use", "Connections that somebody holds", |status| status.pool.in_use as u64),
    ("pool_waiting", "Users that wait for a connection", |status| status.pool.waiting as u64),
    ("lane_queued", "Writes that wait for the lane", |status| status.queued as u64),
    ("lane_largest_batch", "The most writes that shared a commit", |status| status.largest_batch),
    ("cache_bytes", "Bytes of answers that are kept", |status| cache(status).bytes),
    ("wal_pages", "Pages in the write-ahead log", |status| status.wal.pages),
    ("wal_pinned_pages", "Pages that a reader keeps in the log", |status| status.wal.pinned_pages),
];

/// What only grows.
const COUNTS: [Level; 12] = [
    ("pool_handed_over", "Connections that went straight to somebody who waited", |status| status.pool.handed_over),
    ("lane_committed", "Writes that were committed", |status| status.committed),
    ("lane_rolled_back", "Writes that had no effect", |status| status.rolled_back),
    ("lane_unknown", "Writes of which nobody knows whether they had an effect", |status| status.unknown),
    ("lane_refused", "Writes that were not let in", |status| status.refused),
    ("lane_commits", "Commits", |status| status.commits),
    ("lane_retries", "Tries that found the write lock taken", |status| status.retries),
    ("cache_hits", "Reads that were answered by what is kept", |status| cache(status).hits),
    ("cache_shared", "Reads that were answered by what another read", |status| cache(status).shared),
    ("cache_misses", "Reads that could have been kept, and were made", |status| cache(status).misses),
    ("wal_checkpoints", "Checkpoints", |status| status.wal.checkpoints),
    ("wal_failed_checkpoints", "Checkpoints that failed", |status| status.wal.failed_checkpoints),
];

impl Collector for Database {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let status = (self.0)();
        for (name, help, of) in LEVELS {
            let level = ConstGauge::new(of(&status) as i64);
            level.encode(encoder.encode_descriptor(name, help, None, level.metric_type())?)?;
        }
        for (name, help, of) in COUNTS {
            let count = ConstCounter::new(of(&status));
            count.encode(encoder.encode_descriptor(name, help, None, count.metric_type())?)?;
        }
        Ok(())
    }
}
