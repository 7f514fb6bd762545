//! One run of the workload on real threads and a new file, and what both checkers say of it.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::graph::Level;
use super::history::{Event, History, Kind};
use super::verdict::{Verdict, VerdictReport};
use super::workload::Workload;
use crate::error::Error;
use crate::harness::drive::Control;
use crate::harness::panics;
use crate::harness::run::RunReport;
use crate::harness::stress::CannotRun;
use crate::harness::subjects::ENGINE;
use crate::pool::ConnectionPool;
use crate::writer::{Mode, PooledDatabaseWriter};

/// What to run, and how it is judged.
#[derive(Clone, Debug)]
pub struct Isolation {
    /// What is run.
    pub workload: Workload,
    /// What it must keep.
    pub level: Level,
    /// Threads of the runtime.
    pub workers: usize,
}

/// What it came to. Field names are stable.
#[derive(Debug, Serialize)]
pub struct IsolationReport {
    /// The run: its operations are transactions.
    #[serde(flatten)]
    pub run: RunReport,
    /// What the checkers say.
    #[serde(flatten)]
    pub found: VerdictReport,
    /// Transactions that were committed.
    pub committed: u64,
    /// Those that failed: guards that found the write lock taken, for the most part.
    pub refused: u64,
    /// Those of which nobody knows.
    pub unknown: u64,
    /// What both say, for a reader.
    #[serde(skip)]
    pub verdict: String,
    /// What was recorded.
    #[serde(skip)]
    pub history: History,
}

/// So many transactions show something to both checkers.
const MANY: u64 = 1_000;

impl Isolation {
    /// Runs it until its end or until it is stopped, and judges what was recorded.
    ///
    /// # Errors
    /// What kept it from being run: no folder for a file, a disk without room.
    pub fn run(&self, control: &Arc<Control>) -> Result<IsolationReport, CannotRun> {
        let recording = panics::record(panics::RUN);
        let began = Instant::now();
        let (history, connections) = self.history(control).map_err(CannotRun::new)?;
        let seconds = began.elapsed().as_secs_f64();
        let panicked = panics::take();
        drop(recording);
        let verdict = Verdict::of(&history, self.level).map_err(CannotRun::new)?;
        let found = verdict.report();
        let [committed, refused, unknown] = [Kind::Ok, Kind::Fail, Kind::Info].map(|kind| history.count(kind) as u64);
        let operations = committed + refused + unknown;
        let is_write = |event: &&Event| {
            event.kind == Kind::Ok && event.value.iter().any(|operation| operation.written().is_some())
        };
        let writes = history.with(|events| events.iter().filter(is_write).count());
        let mut run = RunReport {
            engine: ENGINE.to_owned(),
            connections: self.workload.flaw.map_or_else(|| "pool".to_owned(), |flaw| flaw.to_string()),
            repeat: self.line(),
            operations,
            concurrency: self.workload.processes.unsigned_abs(),
            workers: self.workers as u64,
            seed: self.workload.seed,
            panics: panicked.count,
            locations: panicked.locations,
            messages: panicked.messages,
            rejected: refused,
            acknowledged: writes as u64,
            stopped: control.is_stopped(),
            max_open: Some(connections),
            ops_per_s: operations as f64 / seconds.max(f64::EPSILON),
            seconds,
            ..RunReport::default()
        };
        // In MVCC mode nobody knows the order.
        let strict = self.level == Level::StrictSerializable;
        let judged = found.judged_by_order as u64;
        if verdict.is_violated() {
            run.finding(|| format!("the history is not {}\n{verdict}", self.level));
        } else if !run.stopped && !verdict.holds() {
            run.finding(|| format!("it is not known whether the history is {}\n{verdict}", self.level));
        } else if !run.stopped && operations >= MANY && judged * 10 < committed && strict {
            run.finding(|| format!("the second checker judged {judged} of {committed} transactions"));
        } else if !run.stopped && committed * 2 < operations {
            run.finding(|| format!("{committed} of {operations} were committed: the history shows too little"));
        }
        Ok(IsolationReport {
            run: run.conclude(),
            found,
            committed,
            refused,
            unknown,
            verdict: verdict.to_string(),
            history,
        })
    }

    /// Runs the workload: what was recorded, and how many connections were open at most.
    fn history(&self, control: &Arc<Control>) -> Result<(History, u64), String> {
        let place = std::env::temp_dir();
        let no_folder = |error| format!("cannot make a folder in {}: {error}; set TMPDIR to another", place.display());
        let folder = tempfile::tempdir().map_err(no_folder)?;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let named = format!("{}isolation", panics::RUN);
        let runtime = builder.worker_threads(self.workers).thread_name(named).enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start {} threads: {error}", self.workers))?;
        let ran = runtime.block_on(async {
            let pool = ConnectionPool::open(folder.path().join("isolation.db")).await?;
            let db = PooledDatabaseWriter::with_config(pool, self.workload.config()).await?;
            let history = self.workload.run(&db, control).await?;
            let connections = db.status().pool.most_open as u64;
            db.close().await;
            Ok::<_, Error>((history, connections))
        });
        ran.map_err(|error| format!("the workload could not be run: {error}"))
    }

    fn line(&self) -> String {
        let Workload { shape, mode, processes, keys, transactions, seed, flaw, .. } = &self.workload;
        let all = transactions * processes.unsigned_abs();
        let flaw = flaw.map(|flaw| format!(" --flaw {flaw}")).unwrap_or_default();
        let mode = if *mode == Mode::Mvcc { " --mvcc" } else { "" };
        format!(
            "poolproof isolation --shape {shape} --transactions {all} --concurrency {processes} --keys {keys} --workers {} --seed {seed}{mode}{flaw}",
            self.workers
        )
    }
}
