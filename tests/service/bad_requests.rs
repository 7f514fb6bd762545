//! Requests that make no sense, and the exact answer to each. They are written as they go over the wire: a client's library
//! would mend half of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Service;

/// The status, and a part of the body.
type Row = (&'static str, String, u16, &'static str);

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn with(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

fn put(body: &str) -> String {
    with("PUT", "/api/v1/agents/config", "content-type: application/json\r\n", body)
}

const NOTHING: &str = "there is nothing at this address";

fn rows(benchmark: &str) -> Vec<Row> {
    let run = format!("/api/v1/benchmarks/{benchmark}/run");
    let post = |body: &str| with("POST", &run, "content-type: application/json\r\n", body);
    let log = "/api/v1/flow-logs";
    let performance = "/api/v1/agent-performance";
    let tree = format!("/api/v1/ascii-tree/{benchmark}");
    vec![
        ("no such address", get("/nope"), 404, NOTHING),
        (
            "another site's name for this machine",
            "GET /health HTTP/1.1\r\nhost: evil.example:8080\r\nconnection: close\r\n\r\n".to_owned(),
            421,
            "asked as localhost only",
        ),
        (
            "no name that is one",
            "GET /health HTTP/1.1\r\nhost: localhost@evil.example\r\nconnection: close\r\n\r\n".to_owned(),
            421,
            "asked as localhost only",
        ),
        ("nothing below the API", get("/api/v1"), 404, NOTHING),
        ("another version", get("/api/v2/agent-performance"), 404, NOTHING),
        ("traversal", get("/../../etc/passwd"), 404, NOTHING),
        ("traversal, encoded", get("/%2e%2e/%2e%2e/etc/passwd"), 404, NOTHING),
        (
            "traversal as an id",
            get(&format!("{log}/..%2f..%2fetc%2fpasswd")),
            404,
            "there is no benchmark ../../etc/passwd",
        ),
        ("no id", get(&format!("{log}/")), 404, NOTHING),
        ("an unknown id", get(&format!("{log}/0")), 404, "there is no benchmark 0"),
        ("an unknown id of calls", get("/api/v1/transaction-logs/0"), 404, "there is no benchmark 0"),
        ("an unknown id of a tree", get("/api/v1/ascii-tree/0/a"), 404, "there is no benchmark 0"),
        ("an id in another script", get(&format!("{log}/%E2%98%83")), 404, "there is no benchmark ☃"),
        ("an id with a zero byte", get(&format!("{log}/%00")), 404, "there is no benchmark \\u0000"),
        ("an id that is no UTF-8", get(&format!("{log}/%FF")), 400, "Invalid UTF-8 in `benchmark_id`"),
        ("injection as an id", get(&format!("{log}/x'%20OR%201=1--")), 404, "there is no benchmark x' OR 1=1--"),
        ("markup as an id", get(&format!("{log}/%3Cscript%3E")), 404, "there is no benchmark <script>"),
        ("a long id", get(&format!("{log}/{}", "a".repeat(3000))), 414, "the address is longer than 2048 bytes"),
        ("a long query", get(&format!("{performance}?agent={}", "a".repeat(3000))), 414, "longer than 2048 bytes"),
        ("an unknown field", get(&format!("{performance}?agnet=a")), 400, "unknown field `agnet`"),
        ("a field twice", get(&format!("{performance}?agent=a&agent=b")), 400, "duplicate field"),
        ("a word for a number", get(&format!("{performance}?limit=ten")), 400, "invalid digit"),
        ("a negative limit", get(&format!("{performance}?limit=-1")), 400, "invalid digit"),
        ("no limit at all", get(&format!("{performance}?limit=")), 400, "empty string"),
        ("a limit of nothing", get(&format!("{performance}?limit=0")), 400, "limit: choose 1 to 1000"),
        ("a limit beyond all", get(&format!("{performance}?limit=1001")), 400, "limit: choose 1 to 1000"),
        ("a number too large", get(&format!("{performance}?since_ms=99999999999999999999")), 400, "number too large"),
        ("an unknown status", get("/api/v1/sessions?status=asleep"), 400, "unknown variant `asleep`"),
        ("an agent's name with a space", get(&format!("{tree}/a%20b")), 400, "agent: give it 1 to 64 letters"),
        ("an agent's name too long", get(&format!("{tree}/{}", "a".repeat(65))), 400, "agent: give it 1 to 64 letters"),
        (
            "an unknown execution",
            get(&format!("/api/v1/benchmarks/{benchmark}/status/0")),
            404,
            "there is no session 0",
        ),
        ("a wrong method", with("DELETE", performance, "", ""), 405, "DELETE is not for this address"),
        ("a run that is asked for", get(&run), 405, "GET is not for this address"),
        ("a method of nobody's", with("BREW", "/health", "", ""), 405, "BREW is not for this address"),
        ("no JSON", post("run!"), 400, "the body: expected value at line 1 column 1"),
        ("half of JSON", post("{\"agent\":"), 400, "the body: EOF while parsing"),
        ("JSON of another kind", post("[]"), 400, "the body: "),
        ("an unknown field in a body", post("{\"speed\":1}"), 400, "unknown field `speed`"),
        ("a wrong type in a body", post("{\"seed\":\"one\"}"), 400, "invalid type: string"),
        ("a negative seed", post("{\"seed\":-1}"), 400, "invalid value: integer `-1`"),
        ("an agent that is no name", post("{\"agent\":\"a;b\"}"), 400, "agent: give it 1 to 64 letters"),
        ("a session to resume, and its seed", post("{\"resume\":\"0\",\"seed\":1}"), 400, "leave them out"),
        ("a session to resume that is none", post("{\"resume\":\"0\"}"), 404, "there is no session 0"),
        ("a run of nothing", with("POST", "/api/v1/benchmarks/0/run", "", ""), 404, "there is no benchmark 0"),
        ("a huge body", post(&"a".repeat(70_000)), 413, "the body is longer than 65536 bytes"),
        ("a pace of nothing", put("{\"agent\":\"a\",\"pace\":0,\"failure_rate\":0}"), 400, "pace: choose 0.01 to 1000"),
        (
            "more failures than calls",
            put("{\"agent\":\"a\",\"pace\":1,\"failure_rate\":2}"),
            400,
            "failure_rate: choose 0 to 1",
        ),
        ("a configuration without a part", put("{\"agent\":\"a\"}"), 400, "missing field `pace`"),
        ("a form", with("PUT", "/api/v1/agents/config", "content-type: text/plain\r\n", "agent=a"), 400, "the body: "),
        (
            "another site's page",
            with("POST", &run, "origin: http://evil.example\r\nsec-fetch-site: cross-site\r\n", ""),
            403,
            "another site's page",
        ),
    ]
}

/// All that comes back. The service is on other threads than this one.
fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A service that has refused it may have hung up before the last of it.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_makes_no_sense_has_an_answer_that_does() {
    let service = Service::start(4, Duration::from_secs(2)).await;
    let rows = rows(&service.benchmark);
    assert!(rows.len() >= 40);
    let mut wrong = Vec::new();
    for (what, request, status, part) in rows {
        let answer = answer(service.address, &request);
        let is_problem = answer.contains("content-type: application/problem+json");
        if !answer.starts_with(&format!("HTTP/1.1 {status} ")) || !is_problem || !answer.contains(part) {
            wrong.push(format!("{what}: not {status} with {part:?}, but {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // And nothing of it was done.
    let (_, sessions) = service.get("/api/v1/sessions").await;
    assert_eq!(sessions, serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_request_is_refused() {
    let service = Service::start(4, Duration::from_secs(2)).await;
    for nonsense in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let answer = answer(service.address, nonsense);
        assert!(answer.starts_with("HTTP/1.1 400"), "{nonsense:?}: {answer}");
    }
}
