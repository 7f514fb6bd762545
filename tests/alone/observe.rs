//! What a pool tells `tracing` and `metrics`: read back by a subscriber and a recorder that keep everything.
//!
//! One test at a time, since `tracing` remembers for all threads whether anybody listens to a place in the code, and while
//! subscribers come and go on several threads at once it can forget one.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use poolproof::{ConnectionPool, Pool, PoolConfig};
use tokio::time::sleep;
use tokio_test::task;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::alone_blocking;
use crate::server::{Call, Does, Manager, Server, pool, pool_with_hooks};

/// Keeps a line for each event and for each span that begins or ends.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// What was written since it was read last.
    fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Writes down what `work` tells, in a runtime of its own with a paused clock.
    fn of<F: Future>(&self, work: F) -> F::Output {
        let _alone = alone_blocking();
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::with_default(subscriber, || paused().block_on(work))
    }
}

/// The fields of an event or span, in their order.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Diary {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().target() == "poolproof" {
            let mut fields = Fields(format!("begins {}", attributes.metadata().name()));
            attributes.record(&mut fields);
            self.write(fields.0);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("it is being closed");
        if span.metadata().target() == "poolproof" {
            self.write(format!("ends {}", span.metadata().name()));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "poolproof" {
            let mut fields = Fields(event.metadata().level().to_string());
            event.record(&mut fields);
            self.write(fields.0);
        }
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn of_size(max_connections: usize) -> PoolConfig {
    PoolConfig { max_connections, ..PoolConfig::default() }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_pool_tells_what_it_opens_waits_for_and_closes() {
    let diary = Diary::default();
    diary.of(async {
        let (pool, server) = pool(PoolConfig { name: Some("numbers".to_owned()), ..of_size(1) });
        server.next(Call::Connect, Does::Take(2 * SECOND));
        let held = pool.get().await.unwrap();
        let mut waiter = task::spawn(pool.get());
        assert_pending!(waiter.poll());
        drop(held);
        drop(assert_ready_ok!(waiter.poll()));
        drop(waiter);
        pool.resize(2).unwrap();
        pool.close().await;
    });
    assert_eq!(
        diary.read(),
        [
            r#"begins connect pool="numbers""#,
            r#"DEBUG message=opened a connection pool="numbers" seconds=2.0"#,
            "ends connect",
            r#"begins wait pool="numbers" ahead=0"#,
            "ends wait",
            r#"DEBUG message=resized pool="numbers" max=2"#,
            r#"DEBUG message=closed a connection pool="numbers" reason="surplus""#,
            r#"DEBUG message=closed the pool pool="numbers""#,
        ]
    );
}

#[test]
fn a_get_that_waits_for_nothing_tells_nothing() {
    let diary = Diary::default();
    diary.of(async {
        let (pool, _) = pool(of_size(1));
        drop(pool.get().await.unwrap());
        diary.read();
        drop(pool.get().await.unwrap());
        assert_eq!(diary.read(), [""; 0]);
    });
}

#[test]
fn a_time_out_is_told_with_its_verdict_and_its_report() {
    let diary = Diary::default();
    diary.of(async {
        let (pool, _) = pool(of_size(1));
        let _held = pool.get().await.unwrap();
        diary.read();
        pool.get().await.unwrap_err();
    });
    let told = diary.read();
    let warning = told.iter().find(|line| line.starts_with("WARN")).expect("a warning");
    assert!(
        warning.contains(r#"no connection in time pool="pool" verdict="holds_one_itself" report=no connection within"#)
    );
    assert!(warning.contains("held at tests/alone/observe.rs"), "{warning}");
}

/// Each way in which a connection can end, once.
async fn every_end() {
    let config = PoolConfig {
        idle_timeout: Some(10 * SECOND),
        max_lifetime: Some(60 * SECOND),
        lifetime_jitter: 0.0,
        ..of_size(2)
    };
    let (pool, server) = pool_with_hooks(config);
    let one = pool.get().await.unwrap();
    let panicking = AssertUnwindSafe(move || {
        let _one = one;
        panic!("its user panics");
    });
    catch_unwind(panicking).unwrap_err();
    server.next(Call::IsReusable, Does::Fail);
    drop(pool.get().await.unwrap());
    let old = pool.get().await.unwrap();
    sleep(61 * SECOND).await;
    drop(old);
    drop(pool.get().await.unwrap());
    sleep(20 * SECOND).await;
    drop(pool.get().await.unwrap());
    server.next(Call::BeforeAcquire, Does::Fail);
    drop(pool.get().await.unwrap());
    assert_eq!(pool.retain(|_| false), 1);
    drop(pool.get().await.unwrap().detach());
    drop(pool.get().await.unwrap());
    pool.close().await;
}

const ENDS: [&str; 8] =
    ["panicked", "unusable", "expired", "idle", "turned_down", "not_retained", "detached", "surplus"];

#[test]
fn every_connection_that_ends_is_told_with_its_reason() {
    let diary = Diary::default();
    diary.of(every_end());
    let told = diary.read();
    let reason = |line: &String| Some(line.split_once("closed a connection")?.1.split('"').nth(3)?.to_owned());
    assert_eq!(told.iter().filter_map(reason).collect::<Vec<_>>(), ENDS);
    let hook = r#"WARN message=turned an idle connection down pool="pool" by="before_acquire" error=nobody listens"#;
    assert!(told.iter().any(|line| line == hook), "{told:#?}");
}

#[test]
fn connections_that_cannot_be_kept_idle_are_told() {
    let diary = Diary::default();
    diary.of(async {
        let server = Arc::new(Server::default());
        server.next(Call::Connect, Does::Fail);
        let _pool = Pool::new(Manager(server), PoolConfig { min_idle: 1, ..of_size(1) }).unwrap();
        sleep(SECOND).await;
    });
    let told = diary.read();
    let warning = r#"WARN message=could not keep connections idle pool="pool" error=connecting failed: nobody listens"#;
    assert!(told.iter().any(|line| line == warning), "{told:#?}");
}

#[test]
fn a_connection_pool_is_called_like_its_file() {
    let diary = Diary::default();
    let folder = tempfile::tempdir().unwrap();
    diary.of(async {
        let pool = ConnectionPool::open(folder.path().join("app.db")).await.unwrap();
        pool.get().await.unwrap();
    });
    assert!(diary.read().contains(&r#"begins connect pool="app.db""#.to_owned()));
}

/// Counters, and how many values histograms hold, of what `work` did: `name{labels beside the pool's} = number`.
fn metered<F: Future>(work: F) -> Vec<String> {
    let _alone = alone_blocking();
    let recorder = DebuggingRecorder::new();
    let snapshotter: Snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || paused().block_on(work));
    let mut lines: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let (name, labels) = key.key().clone().into_parts();
            let others: Vec<_> =
                labels.iter().filter(|label| label.key() != "pool").map(|label| label.value()).collect();
            assert!(labels.iter().any(|label| label.key() == "pool"));
            let value = match value {
                DebugValue::Counter(count) => count.to_string(),
                DebugValue::Histogram(values) => format!("{values:?}"),
                DebugValue::Gauge(gauge) => gauge.to_string(),
            };
            format!("{}{{{}}} {value}", name.as_str().trim_start_matches("poolproof_"), others.join(","))
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_happens_is_counted() {
    let lines = metered(async {
        let (pool, server) = pool(of_size(1));
        server.next(Call::Connect, Does::Take(2 * SECOND));
        let held = pool.get().await.unwrap();
        let mut waiter = task::spawn(pool.get());
        assert_pending!(waiter.poll());
        sleep(3 * SECOND).await;
        drop(held);
        let held = assert_ready_ok!(waiter.poll());
        let mut late = task::spawn(pool.get());
        assert_pending!(late.poll());
        sleep(31 * SECOND).await;
        assert_ready_err!(late.poll());
        drop(held);
        pool.close().await;
    });
    assert_eq!(
        lines,
        [
            "acquire_timeouts_total{holds_one_itself} 1",
            "acquire_wait_seconds{} [3.0]",
            "acquires_total{} 2",
            "connect_seconds{} [2.0]",
            "connections_closed_total{surplus} 1",
            "connections_opened_total{} 1",
        ]
    );
}

#[test]
fn every_reason_has_a_counter() {
    let lines = metered(every_end());
    for reason in ENDS {
        assert!(lines.contains(&format!("connections_closed_total{{{reason}}} 1")), "{reason}: {lines:#?}");
    }
}
