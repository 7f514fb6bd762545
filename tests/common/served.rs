//! The program `poolproof serve`, as long as a test needs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub struct Served {
    child: Child,
    /// Where the API begins.
    pub base: String,
}

impl Served {
    pub fn start(database: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(super::poolproof())
            .args(["serve", "--listen", "127.0.0.1:0", "--database"])
            .arg(database)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").and_then(|rest| rest.split(',').next()).unwrap();
        let base = format!("http://{address}/api/v1");
        Self { child, base }
    }

    pub fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        reqwest::get(format!("{}{path}", self.base)).await.unwrap().json().await.unwrap()
    }

    pub async fn run(&self, benchmark: &str, order: &Value) -> (u16, Value) {
        let url = format!("{}/benchmarks/{benchmark}/run", self.base);
        let response = reqwest::Client::new().post(url).json(order).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
