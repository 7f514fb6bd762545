//! The engine in a loop on a thread of its own that answers callers and does nothing else for them: no limit, no undo of one
//! alone, no outcome, no status. It is told how many there are, so that no batch is split. What a loop without callers loses
//! to this is the price of waking them, which nobody who has callers can save.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::handwritten::Handwritten;
use crate::crowd::Operation;

/// So long it looks for those who are missing: when callers end, some are.
const PATIENCE: Duration = Duration::from_millis(2);

type Job = (i64, oneshot::Sender<()>);

/// The way to the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Answered(mpsc::Sender<Job>);

impl Answered {
    /// The name in reports.
    pub const NAME: &'static str = "loop that answers";

    /// On the database at `path`, for so many callers.
    #[must_use]
    pub fn open(path: &Path, callers: usize) -> Self {
        let (queue, jobs) = mpsc::channel();
        let path = path.to_owned();
        thread::spawn(move || work(Handwritten::open(&path), &jobs, callers));
        Self(queue)
    }
}

impl Operation for Answered {
    async fn run(&self, caller: u64) {
        let (reply, answer) = oneshot::channel();
        self.0.send((caller as i64, reply)).expect("the thread is there");
        answer.await.expect("it is committed");
    }
}

fn work(mut engine: Handwritten, jobs: &mpsc::Receiver<Job>, callers: usize) {
    let mut batch = Vec::with_capacity(callers);
    loop {
        let began = Instant::now();
        while batch.len() < callers && (batch.is_empty() || began.elapsed() < PATIENCE) {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(mpsc::TryRecvError::Empty) if began.elapsed() < PATIENCE => thread::yield_now(),
                // Nobody writes just now.
                Err(mpsc::TryRecvError::Empty) => match jobs.recv() {
                    Ok(job) => batch.push(job),
                    Err(mpsc::RecvError) => return,
                },
                Err(mpsc::TryRecvError::Disconnected) if batch.is_empty() => return,
                Err(mpsc::TryRecvError::Disconnected) => break,
            }
        }
        match batch[..] {
            [(value, _)] => engine.insert(value),
            _ => engine.rows(batch.iter().map(|(value, _)| *value)),
        }
        for (_, reply) in batch.drain(..) {
            // Fails if the caller is gone, whose row stands.
            let _ = reply.send(());
        }
    }
}
