//! A poll that does not end: nothing can interrupt it from inside the process, so a thread watches all worlds from outside, tells
//! which seed, which task and where, and ends the process.
//!
//! It is real time that is measured, for the world's stands still inside a poll: a loop that waits for that to move is the usual
//! reason.

use std::io::Write;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The longest that one poll may take, unless set otherwise.
pub(super) const POLL_LIMIT: Duration = Duration::from_secs(10);

/// How often the watching thread looks.
const LOOK: Duration = Duration::from_millis(100);

/// The exit code of a test binary in which a test has failed.
const FAILED: i32 = 101;

/// The worlds of this process.
static WORLDS: Mutex<Worlds> = Mutex::new(Worlds { all: Vec::new(), are_watched: false });

struct Worlds {
    all: Vec<Arc<Watched>>,
    /// The thread is there.
    are_watched: bool,
}

/// What the thread sees of one world. A step costs two atomic writes.
pub(super) struct Watched {
    seed: u64,
    limit: Duration,
    /// Grows with each step.
    steps: AtomicU64,
    /// Which task is polled, or dropped; [`RUNTIME`] between two of them.
    task: AtomicUsize,
    /// All tasks, and where each was started.
    tasks: Mutex<Vec<Task>>,
    /// The last note, and in which step it was made.
    noted: Mutex<Option<(u64, String, &'static Location<'static>)>>,
    /// The step that the thread saw last, and when it saw it first.
    seen: Mutex<(u64, Instant)>,
}

type Task = (Arc<str>, Option<&'static Location<'static>>);

const RUNTIME: usize = usize::MAX;

/// A world is watched as long as this lives.
pub(super) struct Watchdog(Arc<Watched>);

impl Watchdog {
    pub(super) fn new(seed: u64, limit: Duration) -> Self {
        let watched = Arc::new(Watched {
            seed,
            limit,
            steps: AtomicU64::new(0),
            task: AtomicUsize::new(RUNTIME),
            tasks: Mutex::default(),
            noted: Mutex::default(),
            seen: Mutex::new((0, Instant::now())),
        });
        let mut worlds = WORLDS.lock();
        worlds.all.push(Arc::clone(&watched));
        if !worlds.are_watched {
            // Without it no world is watched, and all else is as it was.
            worlds.are_watched = thread::Builder::new().name("sim-watchdog".to_owned()).spawn(watch).is_ok();
        }
        Self(watched)
    }

    pub(super) fn watched(&self) -> &Arc<Watched> {
        &self.0
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        WORLDS.lock().all.retain(|watched| !Arc::ptr_eq(watched, &self.0));
    }
}

impl Watched {
    /// A task, of the next number.
    pub(super) fn knows(&self, name: &Arc<str>, site: Option<&'static Location<'static>>) {
        self.tasks.lock().push((Arc::clone(name), site));
    }

    /// A task is polled, or dropped.
    pub(super) fn begins(&self, task: usize) {
        self.task.store(task, Relaxed);
        self.steps.fetch_add(1, Relaxed);
    }

    /// The runtime has the thread, for other tasks or for its end.
    pub(super) fn runtime_runs(&self) {
        self.begins(RUNTIME);
    }

    pub(super) fn notes(&self, text: &str, at: &'static Location<'static>) {
        *self.noted.lock() = Some((self.steps.load(Relaxed), text.to_owned(), at));
    }

    /// What is wrong with a step that has taken too long.
    fn problem(&self) -> Option<String> {
        let step = self.steps.load(Relaxed);
        let since = {
            let mut seen = self.seen.lock();
            if seen.0 != step {
                *seen = (step, Instant::now());
            }
            seen.1
        };
        if since.elapsed() <= self.limit {
            return None;
        }
        let task = self.tasks.lock().get(self.task.load(Relaxed)).cloned();
        let noted = self.noted.lock().clone().filter(|(of, ..)| *of == step);
        let (seed, took) = (self.seed, since.elapsed());
        let what = match task {
            Some((task, site)) => {
                let site = site.map_or(String::new(), |site| format!(", started at {site},"));
                let noted = noted.map_or(String::new(), |(_, text, at)| format!(" Its last note: {text:?}, at {at}."));
                format!(
                    "{task}{site} has been in one poll for {took:.0?}, which nothing can interrupt: it spins, or blocks its thread.{noted} \
                     The world's clock stands still inside a poll, so a loop that waits for it never ends."
                )
            }
            None => format!(
                "no task of the world has been polled for {took:.0?}: a task of tokio::spawn spins or blocks the thread, a real thread is \
                 waited for (spawn_blocking), or time is real (tokio::time::resume)."
            ),
        };
        Some(format!(
            "seed {seed}: {what} This process ends now; Sim::poll_limit sets how long it may take.\nrepeat: {}={seed} and the same test",
            super::SEED
        ))
    }
}

/// Looks at all worlds until there is none.
fn watch() {
    loop {
        thread::sleep(LOOK);
        let mut worlds = WORLDS.lock();
        if worlds.all.is_empty() {
            worlds.are_watched = false;
            return;
        }
        if let Some(problem) = worlds.all.iter().find_map(|watched| watched.problem()) {
            // Not by eprintln!, which a test may keep.
            let _ = writeln!(std::io::stderr(), "\n{problem}");
            std::process::exit(FAILED);
        }
    }
}
