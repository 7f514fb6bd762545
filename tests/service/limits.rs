//! What is too much: silent connections, runs at the same time; and clients that leave before they are answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use poolproof::service::{MOST_AT_ONCE, MOST_CONNECTIONS};
use serde_json::json;

use super::Service;

async fn slow(service: &Service) {
    let config = json!({ "agent": "default", "pace": 0.01, "failure_rate": 0.0 });
    let put = service.client.send(Method::PUT, &service.url("/api/v1/agents/config"), Some(&config)).await.unwrap();
    assert_eq!(put.status, StatusCode::OK);
}

/// Connections that say nothing, or half of what they want, are closed; until then one more waits.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out_for_long() {
    let service = Service::start(2, Duration::from_secs(2)).await;
    let mut silent: Vec<TcpStream> =
        (0..MOST_CONNECTIONS).map(|_| TcpStream::connect(service.address).unwrap()).collect();
    for half in silent.iter_mut().step_by(2) {
        half.write_all(b"GET /health HTTP/1.1\r\nhost: loc").unwrap();
    }
    let began = Instant::now();
    let response = service.client.get(&service.url("/health")).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert!(began.elapsed() > Duration::from_secs(1), "there was room: the limit is none");
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_more_than_go_on_at_once_is_told_to_come_again() {
    let service = Service::start(4, Duration::from_secs(5)).await;
    slow(&service).await;
    for _ in 0..MOST_AT_ONCE {
        let (status, said) = service.run().await;
        assert_eq!(status, StatusCode::ACCEPTED, "{said}");
    }
    assert_eq!(service.get("/health").await.1["running"], MOST_AT_ONCE, "some have ended: they are too quick");
    let url = service.url(&format!("/api/v1/benchmarks/{}/run", service.benchmark));
    let refused = service.client.send(Method::POST, &url, None).await.unwrap();
    assert_eq!(
        (refused.status, &refused.headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert!(refused.text().contains("64 runs go on already"));
}

/// A run that its caller did not wait for begins and ends, or does not begin: none is left that nobody runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_leaves_no_run_behind() {
    let service = Service::start(4, Duration::from_secs(5)).await;
    let request = format!(
        "POST /api/v1/benchmarks/{}/run HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
        service.benchmark
    );
    for wait in 0..32 {
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(100 * wait));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // In this order: one that ends between the two is not taken for one that nobody runs.
        let (_, health) = service.get("/health").await;
        let (_, sessions) = service.get("/api/v1/sessions").await;
        let states: Vec<_> = sessions.as_array().unwrap().iter().map(|session| session["state"].clone()).collect();
        if health["running"] == 0 {
            assert!(!states.is_empty(), "none began");
            assert!(states.iter().all(|state| state == "completed"), "{states:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{states:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
