//! The story's service: polled while benchmarks run, nothing fails and no log shrinks; killed, it keeps what it had shown;
//! asked for nonsense, it says so; asked for too much, it says when to come again.

mod bad_requests;
#[path = "../common/mod.rs"]
mod common;
mod limits;
#[cfg(target_os = "linux")]
mod page;
mod runs;
mod stopped;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use poolproof::harness::drive::Control;
use poolproof::harness::http::{Http, HttpClient, ServedBy};
use poolproof::runs::{BenchmarkFile, Runs};
use poolproof::service::{ApiState, Hosts, serve};
use poolproof::{ConnectionPool, PooledDatabaseWriter};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A service in this process, with one benchmark.
struct Service {
    address: SocketAddr,
    client: HttpClient,
    benchmark: String,
    db: PooledDatabaseWriter,
    _stop: oneshot::Sender<()>,
    _folder: TempDir,
}

impl Service {
    async fn start(connections: usize, patience: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.db");
        let pool = ConnectionPool::builder(path).max_connections(connections).acquire_timeout(patience);
        let db = PooledDatabaseWriter::new(pool.build().await.unwrap()).await.unwrap().within(patience);
        let runs = Runs::new(db.clone()).await.unwrap();
        let file = BenchmarkFile::parse(
            "name: <b>n</b>\nprompt: p\nsteps:\n  - say: \"<script>\"\n    call: look\n    take_ms: 40\n",
        )
        .unwrap();
        let benchmark = runs.upsert_benchmark(&file).await.unwrap().to_string();
        let state = ApiState::new(runs).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(serve(listener, state, Hosts::Local, async { drop(stopped.await) }, Duration::from_secs(5)));
        Self { address, client: HttpClient::default(), benchmark, db, _stop: stop, _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.client.get(&self.url(path)).await.unwrap();
        (answer.status, answer.json().unwrap())
    }

    async fn run(&self) -> (StatusCode, Value) {
        let url = self.url(&format!("/api/v1/benchmarks/{}/run", self.benchmark));
        let answer = self.client.send(Method::POST, &url, None).await.unwrap();
        (answer.status, answer.json().unwrap())
    }
}

fn polled(served_by: ServedBy, seconds: u64) -> poolproof::harness::http::HttpReport {
    let http = Http { served_by, duration: Duration::from_secs(seconds), ..Http::default() };
    http.run(&Arc::new(Control::default())).unwrap()
}

#[test]
fn sixty_four_browsers_poll_while_eight_runs_go_on_and_nothing_fails() {
    // One after the other: panics are recorded for the whole process.
    let shared = polled(ServedBy::Shared, 2);
    assert!(!shared.run.ok && shared.run.failed > 0, "the story's connection did not fail: {shared:?}");
    let pool = polled(ServedBy::Pool, 5);
    assert!(pool.run.ok, "{:?} {:?}", pool.run.faults(), pool.run.findings);
    assert!(
        pool.completed >= 8 && pool.run.acknowledged > 100 && pool.run.operations > 200,
        "too little happened: {pool:?}"
    );
    assert_eq!((pool.run.failed, pool.run.lost, pool.run.vanished), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_from_running_to_completed_and_its_views_agree() {
    let service = Service::start(4, Duration::from_secs(2)).await;
    let benchmark = &service.benchmark;
    let (_, before) = service.get(&format!("/api/v1/flow-logs/{benchmark}")).await;
    assert_eq!((&before["execution"], before["chunks"].as_array().unwrap().len()), (&Value::Null, 0));
    let (status, begun) = service.run().await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let url = begun["status_url"].as_str().unwrap().to_owned();
    let ended = loop {
        let (_, status) = service.get(&url).await;
        match status["state"].as_str().unwrap() {
            "running" => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => break status,
        }
    };
    assert_eq!((ended["state"].as_str(), ended["log_chunks"].as_u64()), (Some("completed"), Some(1)));
    let (_, log) = service.get(&format!("/api/v1/flow-logs/{benchmark}")).await;
    assert_eq!(log["chunks"][0]["content"], "<script>");
    let (_, calls) = service.get(&format!("/api/v1/transaction-logs/{benchmark}")).await;
    assert_eq!(calls["tool_calls"][0]["name"], "look");
    let (_, report) = service.get("/api/v1/agent-performance?agent=default").await;
    assert_eq!(report["performances"][0]["session_id"], ended["execution_id"]);
    let tree = service.client.get(&service.url(&format!("/api/v1/ascii-tree/{benchmark}/default"))).await.unwrap();
    assert!(tree.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert!(tree.text().contains("look("));
    let metrics = service.client.get(&service.url("/metrics")).await.unwrap().text();
    assert!(
        metrics.contains("poolproof_lane_committed_total") && metrics.contains("poolproof_pool_waiting 0"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_every_connection_is_in_use_is_told_when_to_come_again() {
    let service = Service::start(2, Duration::from_millis(1200)).await;
    let held = service.db.pool().get().await.unwrap();
    let began = std::time::Instant::now();
    let response = service.client.get(&service.url("/api/v1/agent-performance")).await.unwrap();
    assert_eq!(
        (response.status, &response.headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"2".parse().unwrap())
    );
    assert_eq!(response.headers["content-type"], "application/problem+json");
    assert!(began.elapsed() >= Duration::from_millis(1200), "it did not even wait");
    // What asks nobody answers all the while.
    assert_eq!(service.get("/health").await.0, StatusCode::OK);
    drop(held);
    assert_eq!(service.get("/api/v1/agent-performance").await.0, StatusCode::OK);
}
