//! Those who ask: some start runs and wait for their ends, the others poll.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::drive::Control;
use super::super::stress::CannotRun;
use super::cannot;
use super::client::{Answer, HttpClient, Unanswered};
use crate::runs::{Benchmark, BenchmarkFile};

/// As long is an answer waited for. The service gives up sooner.
const ANSWER: Duration = Duration::from_secs(40);
/// As long is the end of a run waited for, once the time is over.
const LAST: Duration = Duration::from_secs(30);
/// A run is asked for its state so often.
const LOOK: Duration = Duration::from_millis(50);

/// From a microsecond to a minute, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|error| unreachable!("these bounds are fine: {error}"))
}

/// What was found by all of them.
#[derive(Default)]
pub(super) struct Found {
    pub(super) seconds: f64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) unanswered: u64,
    pub(super) latencies: BTreeMap<&'static str, Histogram<u64>>,
    /// How many steps each run had.
    pub(super) completed: BTreeMap<String, usize>,
    pub(super) shrunk: u64,
    pub(super) findings: Vec<String>,
    pub(super) delay: Option<Histogram<u64>>,
    pub(super) max_open: Option<u64>,
}

impl Found {
    /// Adds a finding, unless it is one of the first few already.
    pub(super) fn finding(&mut self, text: impl FnOnce() -> String) {
        if self.findings.len() < 12 {
            let text = text();
            if !self.findings.contains(&text) {
                self.findings.push(text);
            }
        }
    }

    fn answered(&mut self, what: &'static str, status: u16, took: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.latencies.entry(what).or_insert_with(histogram).saturating_record(took.as_micros() as u64);
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (what, latencies) in other.latencies {
            // Their bounds are the same.
            let _ = self.latencies.entry(what).or_insert_with(histogram).add(latencies);
        }
        self.unanswered += other.unanswered;
        self.shrunk += other.shrunk;
        self.completed.extend(other.completed);
        other.findings.into_iter().for_each(|finding| self.finding(|| finding));
    }
}

/// How many of them, and where they ask.
pub(super) struct Crowd {
    pub(super) address: SocketAddr,
    pub(super) runs: usize,
    pub(super) browsers: usize,
    pub(super) think: Duration,
    pub(super) seed: u64,
}

/// How long the log of each run was when somebody was shown it.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<HashMap<String, usize>>>);

impl Shown {
    fn at_least(&self) -> HashMap<String, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, id: &str, length: usize) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is long over is asked for by nobody.
        if shown.len() > 1000 {
            shown.clear();
        }
        let most = shown.entry(id.to_owned()).or_default();
        *most = length.max(*most);
    }
}

/// A benchmark, and how many steps a run of it has.
#[derive(Clone)]
struct Task {
    id: String,
    steps: usize,
}

/// What each of them has.
#[derive(Clone)]
struct Asker {
    client: HttpClient,
    base: String,
    tasks: Arc<[Task]>,
    shown: Shown,
    end: Instant,
    control: Arc<Control>,
}

impl Crowd {
    /// Asks for `duration`, and until the runs that were started by then are over.
    pub(super) async fn ask(
        self,
        benchmarks: &[Benchmark],
        duration: Duration,
        control: &Arc<Control>,
    ) -> Result<Found, CannotRun> {
        let tasks = benchmarks.iter().map(|benchmark| {
            let file: BenchmarkFile =
                serde_json::from_str(&benchmark.content).map_err(|error| cannot("read a benchmark", &error))?;
            let steps = file.steps.iter().map(|step| step.times as usize).sum();
            Ok(Task { id: benchmark.id.to_string(), steps })
        });
        let tasks: Arc<[Task]> = tasks.collect::<Result<_, CannotRun>>()?;
        let client = HttpClient::new(ANSWER);
        let base = format!("http://{}/api/v1", self.address);
        let end = Instant::now() + duration;
        let asker = Asker { client, base, tasks, shown: Shown::default(), end, control: Arc::clone(control) };
        let mut all = tokio::task::JoinSet::new();
        for number in 0..self.runs {
            all.spawn(asker.clone().run(number, self.seed));
        }
        for number in 0..self.browsers {
            all.spawn(asker.clone().poll(number, self.think));
        }
        let mut found = Found::default();
        while let Some(one) = all.join_next().await {
            match one {
                Ok(one) => found.add(one),
                Err(panic) => found.finding(|| format!("one who asks panicked: {panic}")),
            }
        }
        Ok(found)
    }
}

impl Asker {
    fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.control.is_stopped()
    }

    /// Starts one run after the other, and waits for the end of each.
    async fn run(self, number: usize, seed: u64) -> Found {
        let mut found = Found::default();
        for turn in number.. {
            if self.is_over() {
                break;
            }
            let task = &self.tasks[turn % self.tasks.len()];
            let order =
                json!({ "agent": format!("agent-{number}"), "seed": seed.wrapping_add((turn * 1000 + number) as u64) });
            let url = format!("{}/benchmarks/{}/run", self.base, task.id);
            let begun = self.json(&mut found, "run", self.client.send(Method::POST, &url, Some(&order))).await;
            match begun.as_ref().and_then(|begun| begun["execution_id"].as_str()) {
                Some(id) => self.wait(&mut found, task, id).await,
                None => tokio::time::sleep(LOOK).await,
            }
        }
        found
    }

    /// Until it has ended.
    async fn wait(&self, found: &mut Found, task: &Task, id: &str) {
        let url = format!("{}/benchmarks/{}/status/{id}", self.base, task.id);
        while Instant::now() < self.end + LAST && !self.control.is_stopped() {
            tokio::time::sleep(LOOK).await;
            let Some(status) = self.json(found, "status", self.client.get(&url)).await else {
                // A failure is one already; nobody waits for the end of what cannot even be asked for.
                if self.is_over() {
                    return;
                }
                continue;
            };
            match status["state"].as_str() {
                Some("running") => {}
                Some("completed") => {
                    if status["log_chunks"].as_u64() != Some(task.steps as u64) {
                        found.finding(|| {
                            format!("run {id} is complete, of {} parts it shows {}", task.steps, status["log_chunks"])
                        });
                        found.shrunk += 1;
                    }
                    found.completed.insert(id.to_owned(), task.steps);
                    return;
                }
                _ => {
                    found.finding(|| format!("run {id} stopped before its end: {status}"));
                    return;
                }
            }
        }
        found.finding(|| format!("run {id} had not ended in time"));
    }

    /// Asks for the four views, again and again, and rests after each.
    async fn poll(self, number: usize, think: Duration) -> Found {
        let mut found = Found::default();
        // Not all of them at the same moments.
        tokio::time::sleep(think.mul_f64(number as f64 % 64.0 / 64.0)).await;
        for turn in number.. {
            let Task { id, .. } = &self.tasks[turn / 4 % self.tasks.len()];
            let Self { client, base, .. } = &self;
            let before = self.shown.at_least();
            match turn % 4 {
                0 => {
                    let asked = format!("{base}/agent-performance?limit=20");
                    self.json(&mut found, "agent-performance", client.get(&asked)).await;
                }
                1 => {
                    let asked = format!("{base}/flow-logs/{id}");
                    if let Some(log) = self.json(&mut found, "flow-logs", client.get(&asked)).await {
                        self.looks_at(&mut found, &before, &log, "chunks", true);
                    }
                }
                2 => {
                    let asked = format!("{base}/transaction-logs/{id}");
                    if let Some(log) = self.json(&mut found, "transaction-logs", client.get(&asked)).await {
                        self.looks_at(&mut found, &before, &log, "tool_calls", false);
                    }
                }
                _ => {
                    let asked = format!("{base}/ascii-tree/{id}/agent-{}", turn / 4 % 8);
                    self.text(&mut found, "ascii-tree", client.get(&asked)).await;
                }
            }
            if self.is_over() {
                break;
            }
            if !think.is_zero() {
                tokio::time::sleep(think).await;
            }
        }
        found
    }

    /// A log is in order, and never shorter than somebody was shown it before it was asked for.
    fn looks_at(&self, found: &mut Found, before: &HashMap<String, usize>, log: &Value, what: &str, is_whole: bool) {
        let (Some(id), Some(parts)) = (log["execution"]["execution_id"].as_str(), log[what].as_array()) else { return };
        let numbers: Vec<u64> = parts.iter().filter_map(|part| part["number"].as_u64()).collect();
        let in_order = match is_whole {
            true => numbers.iter().copied().eq(1..=parts.len() as u64),
            false => numbers.is_sorted() && numbers.len() == parts.len(),
        };
        if !in_order {
            found.shrunk += 1;
            found.finding(|| format!("the {what} of run {id} are numbered {numbers:?}"));
        }
        if is_whole {
            if let Some(most) = before.get(id).filter(|most| parts.len() < **most) {
                found.shrunk += 1;
                found.finding(|| format!("run {id} showed {most} parts of its log, and then {}", parts.len()));
            }
            self.shown.show(id, parts.len());
        }
    }

    async fn json(
        &self,
        found: &mut Found,
        what: &'static str,
        answer: impl Future<Output = Result<Answer, Unanswered>>,
    ) -> Option<Value> {
        let text = self.text(found, what, answer).await?;
        let parsed = serde_json::from_str(&text);
        parsed.inspect_err(|error| found.finding(|| format!("{what} answered what is no JSON: {error}"))).ok()
    }

    /// The body of an answer that is a success.
    async fn text(
        &self,
        found: &mut Found,
        what: &'static str,
        answer: impl Future<Output = Result<Answer, Unanswered>>,
    ) -> Option<String> {
        let began = Instant::now();
        match answer.await {
            Ok(answer) => {
                let (status, body) = (answer.status, answer.text());
                found.answered(what, status.as_u16(), began.elapsed());
                if !status.is_success() {
                    found.finding(|| format!("{what} answered {status}: {body}"));
                    return None;
                }
                Some(body)
            }
            Err(error) => {
                found.unanswered += 1;
                found.finding(|| format!("{what} was not answered: {error}"));
                None
            }
        }
    }
}
