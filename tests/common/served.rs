//! The program `poolproof serve`, as long as a test needs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use hyper::Method;
use poolproof::harness::http::HttpClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::running::Running;

pub struct Served {
    child: Running,
    client: HttpClient,
    /// Where the API begins.
    pub base: String,
}

impl Served {
    pub fn start(database: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(super::poolproof());
        command.args(["serve", "--listen", "127.0.0.1:0", "--database"]).arg(database).args(more);
        let mut child = Running::start(command.stdout(Stdio::piped()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").and_then(|rest| rest.split(',').next()).unwrap();
        let base = format!("http://{address}/api/v1");
        Self { child, client: HttpClient::default(), base }
    }

    pub fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.client.get(&format!("{}{path}", self.base)).await.unwrap().json().unwrap()
    }

    pub async fn run(&self, benchmark: &str, order: &Value) -> (u16, Value) {
        let url = format!("{}/benchmarks/{benchmark}/run", self.base);
        let answer = self.client.send(Method::POST, &url, Some(order)).await.unwrap();
        (answer.status.as_u16(), answer.json().unwrap())
    }
}
