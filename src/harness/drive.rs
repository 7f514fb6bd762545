//! Runs the story's work on a subject: real threads, a real file, every outcome counted.
//!
//! A [`Subject`] is whatever hands out database access: the pool, a connection that everybody shares, a pool that is
//! broken on purpose. [`drive`] prepares the file on a connection of its own, opens the subject afresh, lets all clients
//! start at once, closes the subject, and holds the records against the history. It never hangs: when nothing has moved for
//! the watchdog's time, that is reported as a hang, with what is known by then.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Barrier;

use super::catch::catch;
use super::check;
use super::history::History;
use super::panics;
use super::run::RunReport;
use super::workload::{self, Client, Failure, Op, Script, Seen, Spec};

/// Whatever hands out access to one database file.
pub trait Subject: Sized + Send + Sync + 'static {
    /// Name and version of the engine below.
    const ENGINE: &'static str;
    /// A connection of its own, for preparing the file and for looking at it afterwards.
    type Fresh: Client;

    /// Opens the file with nothing shared with anybody before.
    fn fresh(path: &Path) -> impl Future<Output = Result<Self::Fresh, Failure>> + Send;
    /// Opens the subject.
    fn open(settings: &Settings) -> impl Future<Output = Result<Self, Failure>> + Send;
    /// Performs one operation; a read says what it saw.
    fn perform(&self, op: Op) -> impl Future<Output = Result<Option<Seen>, Failure>> + Send;
    /// Ends the subject and says what it has to say for itself.
    fn close(self) -> impl Future<Output = Result<Closed, Failure>> + Send;
}

/// What a subject is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database file.
    pub path: PathBuf,
    /// Connections at most, where the subject is a pool.
    pub pool_size: u32,
    /// Whether all of them are opened before the first operation.
    pub warm: bool,
}

/// What a subject says when it was closed.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// Most connections alive at once, by its own count.
    pub max_open: Option<u64>,
    /// What was not as it should be: connections still held, waiters left behind.
    pub complaints: Vec<String>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The work.
    pub spec: Spec,
    /// Threads of the runtime.
    pub workers: usize,
    /// Ends the work after this time even if operations are left.
    pub duration: Option<Duration>,
    /// Gives the run up after this time without an operation that ended.
    pub watchdog: Duration,
    /// What the subject is opened with.
    pub settings: Settings,
}

/// How a run is watched and stopped from outside.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    performed: AtomicU64,
}

impl Control {
    /// Lets every client finish the operation it is in, and no more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether [`Control::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Operations that ended so far.
    pub fn performed(&self) -> u64 {
        self.performed.load(Ordering::Relaxed)
    }

    /// One more ended.
    pub(super) fn count_one(&self) {
        self.performed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `plan` on `S`; `connections` names the subject in the report.
///
/// # Errors
/// Only what kept the run from beginning: the file could not be prepared, the subject could not be opened, threads could
/// not be started. Whatever happens after that is in the report.
pub fn drive<S: Subject>(connections: &str, plan: &Plan, control: &Arc<Control>) -> Result<RunReport, Failure> {
    // Panics are recorded for the process, so a process makes one run at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let _recording = panics::record(panics::RUN);
    let run = Arc::new(Run::<S>::new(plan, control));
    let (done, ended) = mpsc::channel();
    let thread_run = Arc::clone(&run);
    thread::Builder::new()
        .name(format!("{}drive", panics::RUN))
        .spawn(move || {
            let outcome = thread_run.to_the_end();
            // Nobody listens any more if the watchdog gave the run up.
            let _ = done.send(outcome);
        })
        .map_err(|error| Failure::unexpected(format!("cannot start a thread: {error}")))?;

    let mut report = match wait_while_it_moves(&ended, plan.watchdog, control) {
        Ok(outcome) => outcome?,
        Err(gone @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
            let mut report = RunReport { hung: gone == RecvTimeoutError::Timeout, ..RunReport::default() };
            report.finding(|| match gone {
                RecvTimeoutError::Timeout => format!("nothing has happened for {:?}", plan.watchdog),
                RecvTimeoutError::Disconnected => "the run itself panicked".to_owned(),
            });
            report
        }
    };
    if report.hung {
        run.history.count(&mut report);
    }
    run.count(&mut report);
    // A run that was given up goes on until its clients look up.
    control.stop();
    report.connections = connections.to_owned();
    Ok(report.conclude())
}

/// The run's outcome; a time-out once no operation has ended for as long as `patience`.
fn wait_while_it_moves<T>(
    ended: &mpsc::Receiver<T>,
    patience: Duration,
    control: &Control,
) -> Result<T, RecvTimeoutError> {
    loop {
        let before = control.performed();
        match ended.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) if control.performed() > before => {}
            outcome => return outcome,
        }
    }
}

/// In microseconds: what takes longer is counted as this.
const HOUR: u64 = 3_600_000_000;

/// One run's state, shared by its clients and by whoever gives it up.
struct Run<S> {
    plan: Plan,
    control: Arc<Control>,
    history: History,
    latencies: Mutex<Histogram<u64>>,
    /// Set when the clients start; a run that hangs has no better end than now.
    began: Mutex<Option<Instant>>,
    subject: std::marker::PhantomData<fn() -> S>,
}

impl<S: Subject> Run<S> {
    fn new(plan: &Plan, control: &Arc<Control>) -> Self {
        Self {
            plan: plan.clone(),
            control: Arc::clone(control),
            history: History::after(&plan.spec.prepared()),
            latencies: Mutex::new(Histogram::new_with_bounds(1, HOUR, 3).expect("these bounds are a histogram's")),
            began: Mutex::new(None),
            subject: std::marker::PhantomData,
        }
    }

    fn to_the_end(self: Arc<Self>) -> Result<RunReport, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.plan.workers)
            .thread_name(format!("{}worker", panics::RUN))
            .enable_time()
            .build()
            .map_err(|error| Failure::unexpected(format!("cannot start the runtime's threads: {error}")))?;
        // In a task, so that the work has the runtime's workers to itself.
        let run = Arc::clone(&self);
        let outcome = runtime.block_on(async move { tokio::spawn(async move { run.perform().await }).await });
        outcome.unwrap_or_else(|error| Err(Failure::unexpected(format!("the run ended early: {error}"))))
    }

    async fn perform(self: Arc<Self>) -> Result<RunReport, Failure> {
        let path = &self.plan.settings.path;
        let mut fresh = S::fresh(path).await?;
        workload::prepare(&mut fresh, &self.plan.spec).await?;
        drop(fresh);

        let mut report = RunReport::default();
        // The file can be used, so a subject that cannot be opened is a finding.
        let subject = match catch(S::open(&self.plan.settings)).await {
            Ok(Ok(subject)) => Arc::new(subject),
            Ok(Err(failure)) => {
                report.finding(|| format!("opening it: {failure}"));
                return Ok(report);
            }
            Err(_panic) => {
                report.finding(|| "opening it panicked".to_owned());
                return Ok(report);
            }
        };
        let seconds = self.clients(&subject).await;
        report.seconds = seconds.as_secs_f64();
        match Arc::into_inner(subject) {
            Some(subject) => match catch(subject.close()).await {
                Ok(Ok(closed)) => {
                    report.max_open = closed.max_open;
                    closed.complaints.into_iter().for_each(|text| report.finding(|| text));
                }
                Ok(Err(failure)) => report.finding(|| format!("closing: {failure}")),
                Err(_panic) => report.finding(|| "closing it panicked".to_owned()),
            },
            None => report.finding(|| "a client that ended still holds the subject".to_owned()),
        }
        match catch(self.audit(&mut report)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => report.finding(|| format!("looking at the records: {failure}")),
            Err(_panic) => report.finding(|| "looking at the records panicked".to_owned()),
        }
        Ok(report)
    }

    /// Starts all clients at once and waits for the last; returns how long that took.
    async fn clients(self: &Arc<Self>, subject: &Arc<S>) -> Duration {
        let scripts: Vec<_> = self.plan.spec.clients().collect();
        let start = Arc::new(Barrier::new(scripts.len() + 1));
        let tasks: Vec<_> = scripts
            .into_iter()
            .map(|script| {
                let (run, subject, start) = (Arc::clone(self), Arc::clone(subject), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    run.client(&*subject, script).await;
                })
            })
            .collect();
        start.wait().await;
        for task in tasks {
            // A client's panics are caught around each operation; one beside them is in the panic hook's count.
            let _ = task.await;
        }
        self.began().elapsed()
    }

    /// When the first client began, or this one.
    fn began(&self) -> Instant {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now)
    }

    async fn client(&self, subject: &S, mut script: Script) {
        let began = self.began();
        while !self.is_over(began) {
            let Some(op) = script.next_op() else { break };
            let began = Instant::now();
            if !self.operation(subject, op).await {
                script.abandon_session();
            }
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
            self.control.count_one();
        }
    }

    fn is_over(&self, began: Instant) -> bool {
        self.control.is_stopped() || self.plan.duration.is_some_and(|duration| began.elapsed() >= duration)
    }

    /// Performs one operation and remembers how it ended; whether it succeeded.
    async fn operation(&self, subject: &S, op: Op) -> bool {
        let write = match &op {
            Op::Write(write) => Some(write.clone()),
            Op::PerformanceSummary | Op::SessionLog { .. } => None,
        };
        let begun = match &write {
            Some(write) => {
                self.history.begin_write(write);
                None
            }
            None => Some(self.history.begin_read()),
        };
        match catch(subject.perform(op)).await {
            Ok(Ok(seen)) => {
                if let Some(write) = &write {
                    self.history.acknowledge(write);
                }
                if let (Some(begun), Some(seen)) = (begun, seen) {
                    self.history.end_read(begun, &seen);
                }
                true
            }
            Ok(Err(failure)) => {
                self.history.fail(&failure);
                false
            }
            Err(_panic) => false,
        }
    }

    /// Looks at the records with nothing left of the subject.
    async fn audit(&self, report: &mut RunReport) -> Result<(), Failure> {
        let mut fresh = S::fresh(&self.plan.settings.path).await?;
        check::final_state(&mut fresh, &self.history, report).await
    }

    /// Fills in what the run counted, whether or not it came to its end.
    fn count(&self, report: &mut RunReport) {
        let spec = &self.plan.spec;
        report.engine = S::ENGINE.to_owned();
        (report.concurrency, report.seed) = (spec.concurrency, spec.seed);
        (report.workers, report.warm) = (self.plan.workers as u64, self.plan.settings.warm);
        report.operations = self.control.performed();
        report.stopped = self.control.is_stopped();
        let panics = panics::take();
        (report.panics, report.locations, report.messages) = (panics.count, panics.locations, panics.messages);
        (report.failed, report.rejected, report.errors) = self.history.failures();
        if report.seconds == 0.0 {
            let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
            report.seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        }
        let latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        (report.p50_us, report.p99_us) = (latencies.value_at_quantile(0.5), latencies.value_at_quantile(0.99));
        if report.seconds > 0.0 {
            report.ops_per_s = report.operations as f64 / report.seconds;
        }
    }
}
