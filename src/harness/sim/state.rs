//! What the parts of a world share: the disk, the decisions, the trace, and who is ready.
//!
//! All of it is used by one thread. The locks are there because the engine's traits and wakers ask for them; two of them,
//! so that a waker can be called while the state is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use tokio::time::Instant;
use turso::core::Completion;

use super::decisions::{About, Actor, Decider, below, is_lucky};
use super::disk::{Call, Disk, Fate, Pending, Told};
use super::failure::Failure;
use super::faults::Faults;
use super::identity::Identity;
use super::trace::{Outcome, Trace, What};
use super::watchdog::Watched;
use crate::simulated::Simulated;

/// A future that never leaves the world's thread.
pub(super) type Local<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A task that is to begin.
pub(super) struct Spawn {
    pub(super) name: String,
    /// For whom it works, if for somebody alone.
    pub(super) of: Option<usize>,
    /// Where it was started, if by the check.
    pub(super) site: Option<&'static Location<'static>>,
    pub(super) make: Box<dyn FnOnce() -> Local<'static> + Send>,
}

/// An invariant that is looked at after each step.
type Watch = Box<dyn Fn() -> Result<(), String> + Send>;

/// The longest that a call of the disk takes with latency, in microseconds.
const LATENCY: u64 = 20_000;

pub(super) struct State {
    pub(super) decider: Decider,
    pub(super) disk: Disk,
    pub(super) trace: Trace,
    pub(super) faults: Faults,
    /// How many want nothing to fail.
    pub(super) calm: u32,
    /// The task that is being polled.
    pub(super) current: Option<usize>,
    /// How often the engine looked in this poll whether a call was done.
    pub(super) looks: u32,
    /// Which life of the world's process this is, from 1 on; 0 when the world is over.
    pub(super) life: u64,
    /// Whether somebody is prepared for a power failure.
    pub(super) may_crash: bool,
    /// A panic that production code contains is no failure: the check provokes some.
    pub(super) lets_panics_be_caught: bool,
    /// The power failed, and who is prepared for that has not heard of it yet.
    pub(super) crashed: bool,
    /// The power failed, and the tasks that were there are not gone yet.
    pub(super) has_dead: bool,
    /// Why this run failed.
    pub(super) failure: Option<Failure>,
    /// What was seen, and how often.
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// Something real that got in: an SQL function that asks the clock, for example.
    pub(super) leaks: BTreeSet<String>,
    pub(super) watches: Vec<Watch>,
}

impl State {
    /// What may fail at this moment. A disk that lies always does.
    pub(super) fn faults(&self) -> Faults {
        match self.calm {
            0 => self.faults,
            _ => Faults { lying_sync: self.faults.lying_sync, ..Faults::NONE },
        }
    }

    /// Something happened.
    pub(super) fn event(&mut self, actor: Actor, what: What, bytes: &[u8], now: Duration) {
        self.decider.saw(actor, &what);
        self.trace.push(actor, what, bytes, now);
    }

    pub(super) fn sees(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The task that is being polled hands over a call.
    pub(super) fn asks(&mut self, file: usize, call: Call, completion: Completion, now: Duration) {
        let owner = self.current.unwrap_or_default();
        let described = self.disk.describe(file, &call);
        let bytes = if let Call::Write { bytes, .. } = &call { bytes.as_slice() } else { &[] };
        self.event(Actor::task(owner), What::Asks(described), bytes, now);
        let rate = self.faults().latency;
        let late = match rate {
            0 => 0,
            _ => self.decider.number(About::Pass, Actor::disk(owner), |rng| match is_lucky(rng, rate) {
                true => 1 + below(rng, LATENCY),
                false => 0,
            }),
        };
        if late > 0 {
            self.sees("a slow disk");
        }
        let due = (late > 0).then(|| Instant::now() + Duration::from_micros(late));
        self.disk.pending.push(Pending { owner, file, call, completion, due });
    }

    /// Does a call that waits for `owner`, if one does. With `is_patient`, none that takes longer.
    fn does(&mut self, owner: usize, is_patient: bool, now: Duration) -> Option<Told> {
        let at = is_patient.then(Instant::now);
        let is_due = |pending: &Pending| at.is_none() || pending.due.is_none_or(|due| Some(due) <= at);
        let mine = |(place, pending): (usize, &Pending)| (pending.owner == owner && is_due(pending)).then_some(place);
        let waiting: Vec<usize> = self.disk.pending.iter().enumerate().filter_map(mine).collect();
        let disk = Actor::disk(owner);
        let chosen = match waiting.len() {
            0 => return None,
            1 => 0,
            count => self.decider.number(About::Order, disk, |rng| below(rng, count as u64)) as usize % count,
        };
        let rate = self.faults().crash;
        if self.may_crash && rate > 0 {
            let luck = self.decider.number(About::Crash, disk, |rng| if is_lucky(rng, rate) { luck(rng) } else { 0 });
            let luck = luck.max(u64::from(self.decider.scripted_crash(disk)));
            if luck > 0 {
                self.crashes(disk, luck - 1, now);
                return None;
            }
        }
        let pending = self.disk.pending.remove(waiting[chosen]);
        let described = self.disk.describe(pending.file, &pending.call);
        let fate = self.fate(disk, &pending.call, &What::asked(&described));
        let mut read = Vec::new();
        let told = self.disk.does(pending, fate, &mut read);
        let outcome = why_of(fate).map_or(Outcome::Done, Outcome::Fails);
        self.event(disk, What::Does(described, outcome), &read, now);
        Some(told)
    }

    fn fate(&mut self, disk: Actor, call: &Call, verb: &str) -> Fate {
        let faults = self.faults();
        let fates: &[(Fate, u32, &str)] = match call {
            Call::Read { .. } => &[(Fate::Eio, faults.read, "a read that fails")],
            Call::Write { .. } => &[
                (Fate::Eio, faults.write, "a write that fails"),
                (Fate::Full, faults.full, "a full disk"),
                (Fate::Short, faults.short_write, "a short write"),
            ],
            Call::Sync { .. } if faults.lying_sync => return Fate::Lie,
            Call::Sync { .. } => &[(Fate::Eio, faults.sync, "a sync that fails")],
            Call::Truncate { .. } => &[(Fate::Eio, faults.write, "a truncation that fails")],
        };
        if self.calm == 0
            && let Some(why) = self.decider.scripted_fault(disk, verb)
        {
            let named = fates.iter().find(|(fate, ..)| why_of(*fate) == Some(why.as_str()));
            return named.map_or(Fate::Done, |(fate, ..)| *fate);
        }
        if fates.iter().all(|(_, rate, _)| *rate == 0) {
            return Fate::Done;
        }
        let fails = self.decider.number(About::Fault, disk, |rng| {
            let drawn = below(rng, 1_000_000) as u32;
            let mut upto = 0;
            let failed = fates.iter().position(|(_, rate, _)| {
                upto += rate;
                drawn < upto
            });
            failed.map_or(0, |place| place as u64 + 1)
        });
        // An answer of a plan may be of a call that is another one by now.
        match fails.checked_sub(1).and_then(|place| fates.get(place as usize)) {
            Some(&(fate, _, name)) => {
                self.sees(name);
                fate
            }
            None => Fate::Done,
        }
    }

    fn crashes(&mut self, disk: Actor, luck: u64, now: Duration) {
        self.event(disk, What::Crash, &luck.to_le_bytes(), now);
        self.sees(match luck {
            0 => "a crash that keeps what is synced",
            1 => "a crash that keeps everything",
            _ => "a crash that keeps some sectors",
        });
        drop(self.disk.loses_power(luck));
        self.life += 1;
        (self.crashed, self.has_dead) = (true, true);
        self.may_crash = false;
        self.watches.clear();
    }

    /// What somebody notes of itself.
    pub(super) fn notes(&mut self, text: String, site: &'static Location<'static>, now: Duration) {
        let actor = Actor::task(self.current.unwrap_or_default());
        self.event(actor, What::Notes(text), &[], now);
        self.trace.set_last_site(site);
    }
}

/// Why a call fails, as a report has it.
fn why_of(fate: Fate) -> Option<&'static str> {
    match fate {
        Fate::Done | Fate::Lie => None,
        Fate::Eio => Some("EIO"),
        Fate::Full => Some("ENOSPC"),
        Fate::Short => Some("short"),
    }
}

/// How much survives, and 1 more: nothing, everything, or some sectors.
fn luck(rng: &mut ChaCha8Rng) -> u64 {
    match below(rng, 4) {
        0 => 1,
        1 => 2,
        _ => 3 + (rng.next_u64() >> 1),
    }
}

/// Who can go on.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) tasks: BTreeSet<usize>,
    /// Who was woken since the last look.
    woken: Vec<usize>,
    pub(super) spawned: Vec<Spawn>,
    /// The world's own.
    pub(super) root: Option<Waker>,
    /// Whom another thread than the world's woke, and which thread that was.
    pub(super) woken_from_outside: Option<(usize, String)>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    ready: Mutex<Ready>,
    began: Instant,
    thread: ThreadId,
    watched: Arc<Watched>,
    identity: Identity,
}

impl Shared {
    /// Inside the world's runtime.
    pub(super) fn new(state: State, watched: Arc<Watched>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            ready: Mutex::default(),
            began: Instant::now(),
            thread: thread::current().id(),
            watched,
            identity: Identity::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock()
    }

    /// The device that the disk is in that life.
    pub(super) fn device(&self, life: u64) -> u64 {
        self.identity.device(life)
    }

    /// What sees a poll that does not end.
    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Time since the world began.
    pub(super) fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began)
    }

    /// Does a call of the disk for `owner`. Whether there was one.
    pub(super) fn does(&self, owner: usize) -> bool {
        self.tells(|state, now| state.does(owner, true, now))
    }

    /// Does a call of the task that is being polled, and waits on the spot. False if there is none.
    pub(super) fn does_here(&self) -> bool {
        self.tells(|state, now| {
            state.sees("a wait inside a poll");
            state.does(state.current.unwrap_or_default(), false, now)
        })
    }

    fn tells(&self, does: impl FnOnce(&mut State, Duration) -> Option<Told>) -> bool {
        let now = self.now();
        let life = self.state().life;
        let told = does(&mut self.state(), now);
        if self.state().life != life {
            // Who was to begin does not: the power failed before. What they drop may wake others, so not under the lock.
            let never_begun = mem::take(&mut self.ready().spawned);
            drop(never_begun);
        }
        told.map(Told::tell).is_some()
    }

    pub(super) fn spawn(&self, spawn: Spawn) {
        let mut ready = self.ready();
        ready.spawned.push(spawn);
        if let Some(root) = &ready.root {
            root.wake_by_ref();
        }
    }

    /// Who was woken since the last look.
    pub(super) fn woken(&self) -> Vec<usize> {
        mem::take(&mut self.ready().woken)
    }
}

/// So many leaks are named: more say nothing more.
const LEAKS: usize = 4;

/// Whom production code tells that something real gets in.
pub(super) struct Outside(pub(super) Weak<Shared>);

impl Simulated for Outside {
    fn leaks(&self, what: String) {
        let Some(shared) = self.0.upgrade() else { return };
        let mut state = shared.state();
        if state.leaks.len() < LEAKS {
            state.leaks.insert(what);
        }
    }
}

/// Wakes one task.
pub(super) struct TaskWaker {
    pub(super) task: usize,
    pub(super) shared: Arc<Shared>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = self.shared.ready();
        if thread::current().id() != self.shared.thread {
            let name = thread::current().name().unwrap_or("without a name").to_owned();
            ready.woken_from_outside.get_or_insert((self.task, name));
        }
        if ready.tasks.insert(self.task) {
            ready.woken.push(self.task);
            if let Some(root) = &ready.root {
                root.wake_by_ref();
            }
        }
    }
}
