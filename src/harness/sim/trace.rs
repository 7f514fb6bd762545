//! What happened in a run: a hash of all of it, a hash that does not care about the order of what is independent, and, if
//! it is asked for, the events themselves.
//!
//! The first hash is for the audit: two runs of one seed must agree in every byte that was read or written, every poll and
//! every instant. The second tells schedules apart: it is the sum of the hashes of all events, each of which depends on what
//! its actor did before, on who woke it, on the writes to the file that it reads or writes, and on nothing else. Two runs
//! that differ only in the order of independent events have the same one (Musuvathi and Qadeer's "happens-before graph", 2007;
//! Mazurkiewicz' traces). What tasks do to each other in memory is seen only as far as one wakes the other or notes what it
//! saw.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hasher;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::decisions::Actor;
use super::script::{family, is_preparing};

/// What one actor did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Begins,
    /// It is polled since somebody of that name woke it.
    Wakes(Arc<str>),
    /// It was polled and is not done.
    Waits,
    Ends,
    /// It panicked, as it was told to.
    Panics,
    /// A future of it was dropped, as it was told to.
    IsCancelled,
    /// It handed a call to the disk.
    Asks(Call),
    /// The disk has done what it was asked.
    Does(Call, Outcome),
    /// The power failed.
    Crash,
    Passes(Duration),
    Notes(String),
}

/// A call of the disk, for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) verb: &'static str,
    pub(super) file: Arc<str>,
    pub(super) at: u64,
    pub(super) len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Why not.
    Fails(&'static str),
}

/// How much of a run a reader is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// What tasks do that can be seen from outside.
    Deeds,
    /// And where others take over from them: the lane from a client that woke it, the disk from the lane.
    Handovers,
}

impl What {
    /// How a call reads once it is done.
    pub(super) fn asked(call: &Call) -> String {
        format!("{} {}", call.verb, call.file)
    }

    /// Whether a reader of an interleaving wants to see it, of whoever has that name.
    pub(super) fn is_telling(&self, name: &str, detail: Detail) -> bool {
        match self {
            What::Begins | What::Waits | What::Passes(_) => false,
            What::Wakes(_) | What::Asks(_) => detail == Detail::Handovers && self.is_handover(name),
            // What works for a task, and the check, which ends last.
            What::Ends => name != "main" && !name.contains('/'),
            What::Does(call, Outcome::Done) => call.verb == "fsync",
            _ => true,
        }
    }
}

impl What {
    /// Whether it is what makes the next step of somebody possible, and nothing that can be seen yet.
    pub(super) fn is_handover(&self, name: &str) -> bool {
        match self {
            What::Wakes(by) => !is_preparing(by) && family(by) != family(name) && name != "main",
            What::Asks(call) => call.verb == "fsync",
            _ => false,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Begins => f.write_str("begins"),
            What::Wakes(by) => write!(f, "wakes for {by}"),
            What::Waits => f.write_str("waits"),
            What::Ends => f.write_str("ends"),
            What::Panics => f.write_str("panics"),
            What::IsCancelled => f.write_str("is cancelled"),
            What::Asks(call) => write!(f, "asks {} {}", call.verb, call.file),
            What::Does(call, Outcome::Done) => write!(f, "{} {}", call.verb, call.file),
            What::Does(call, Outcome::Fails(why)) => write!(f, "{} {} fails: {why}", call.verb, call.file),
            What::Crash => f.write_str("power failure"),
            What::Passes(time) => write!(f, "{time:?} pass"),
            What::Notes(text) => f.write_str(text),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) actor: Actor,
    pub(super) what: What,
    /// Of a note, where it was made; of a task that begins, where it was started.
    pub(super) site: Option<&'static Location<'static>>,
    /// The rolling hash after it.
    pub(super) hash: u64,
}

/// The events of one run.
pub(super) struct Trace {
    rolling: XxHash3_64,
    count: u64,
    /// The sum over all events.
    canonical: u64,
    /// By actor, what its last event depends on.
    chains: HashMap<Actor, u64>,
    /// By file, the last change and the reads since.
    files: HashMap<Arc<str>, (u64, u64)>,
    events: Option<Vec<Event>>,
}

impl Trace {
    pub(super) fn new(keeps_events: bool) -> Self {
        Self {
            rolling: XxHash3_64::with_seed(0),
            count: 0,
            canonical: 0,
            chains: HashMap::new(),
            files: HashMap::new(),
            events: keeps_events.then(Vec::new),
        }
    }

    /// An event, with the bytes that it is about, at that time since the run began.
    pub(super) fn push(&mut self, actor: Actor, what: What, bytes: &[u8], now: Duration) {
        let label = label(actor, &what);
        self.rolling.write_u64(label);
        self.rolling.write(bytes);
        self.rolling.write_u64(now.as_nanos() as u64);
        self.count += 1;
        // Without the bytes: in them are the engine's random numbers, which differ from seed to seed.
        self.depends(actor, &what, label);
        if let Some(events) = &mut self.events {
            events.push(Event { actor, what, site: None, hash: self.rolling.finish() });
        }
    }

    /// Notes where the code is that caused the last event.
    pub(super) fn set_last_site(&mut self, site: &'static Location<'static>) {
        if let Some(event) = self.events.as_mut().and_then(|events| events.last_mut()) {
            event.site = Some(site);
        }
    }

    /// Something that the engine or the workload drew.
    pub(super) fn drew(&mut self, number: u64) {
        self.rolling.write_u64(number);
    }

    /// `by` woke `woken`: what that does next depends on what this did.
    pub(super) fn wakes(&mut self, by: Actor, woken: Actor) {
        let cause = self.chains.get(&by).copied().unwrap_or_default();
        let chain = self.chains.entry(woken).or_default();
        *chain = mix(*chain, cause);
    }

    fn depends(&mut self, actor: Actor, what: &What, label: u64) {
        // A poll that led to nothing is no difference, and neither is when time passed. Who woke whom is counted by `wakes`.
        if matches!(what, What::Wakes(_) | What::Waits | What::Passes(_)) {
            return;
        }
        let mut hash = mix(self.chains.get(&actor).copied().unwrap_or_default(), label);
        if let What::Does(call, _) = what {
            let (written, read) = self.files.entry(Arc::clone(&call.file)).or_default();
            if call.verb == "read" {
                hash = mix(hash, *written);
                *read = read.wrapping_add(hash);
            } else {
                hash = mix(mix(hash, *written), *read);
                (*written, *read) = (hash, 0);
            }
        }
        self.chains.insert(actor, hash);
        self.canonical = self.canonical.wrapping_add(hash);
    }

    pub(super) fn hash(&self) -> u64 {
        self.rolling.finish()
    }

    pub(super) fn canonical(&self) -> u64 {
        self.canonical
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What happened, if it was kept.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        self.events.take().unwrap_or_default()
    }
}

fn mix(one: u64, other: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(one, &other.to_le_bytes())
}

fn label(actor: Actor, what: &What) -> u64 {
    let (kind, numbers, text) = match what {
        What::Begins => (0_u8, [0, 0], ""),
        What::Waits => (1, [0, 0], ""),
        What::Ends => (2, [0, 0], ""),
        What::Panics => (3, [0, 0], ""),
        What::IsCancelled => (4, [0, 0], ""),
        What::Asks(call) => (5, [call.at, call.len], call.verb),
        What::Does(call, Outcome::Done) => (6, [call.at, call.len], call.verb),
        What::Does(call, Outcome::Fails(why)) => (7, [call.at, call.len], *why),
        What::Crash => (8, [0, 0], ""),
        What::Passes(time) => (9, [time.as_nanos() as u64, 0], ""),
        What::Notes(text) => (10, [0, 0], text.as_str()),
        What::Wakes(by) => (11, [0, 0], &**by),
    };
    let mut label = vec![kind];
    numbers.into_iter().for_each(|number: u64| label.extend(number.to_le_bytes()));
    if let What::Asks(call) | What::Does(call, _) = what {
        label.extend(call.file.as_bytes());
    }
    label.extend(text.as_bytes());
    XxHash3_64::oneshot_with_seed(u64::from(actor.number()), &label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Actor = Actor::task(1);
    const OTHER: Actor = Actor::task(2);

    fn writes(file: &str) -> What {
        What::Does(Call { verb: "write", file: file.into(), at: 0, len: 4 }, Outcome::Done)
    }

    fn notes(text: &str) -> What {
        What::Notes(text.to_owned())
    }

    /// Both hashes of a run.
    fn hashes(events: &[(Actor, What, &[u8])]) -> (u64, u64) {
        let mut trace = Trace::new(false);
        for (actor, what, bytes) in events {
            trace.push(*actor, what.clone(), bytes, Duration::ZERO);
        }
        (trace.hash(), trace.canonical())
    }

    #[test]
    fn independent_events_may_change_places() {
        let (first, second) = ((ONE, notes("a"), &[][..]), (OTHER, notes("b"), &[][..]));
        let (one, other) = (hashes(&[first.clone(), second.clone()]), hashes(&[second, first]));
        assert_ne!(one.0, other.0);
        assert_eq!(one.1, other.1);
        let (first, second) = ((ONE, writes("db"), &[][..]), (OTHER, writes("log"), &[][..]));
        assert_eq!(hashes(&[first.clone(), second.clone()]).1, hashes(&[second, first]).1);
    }

    #[test]
    fn dependent_events_may_not() {
        let (first, second) = ((ONE, notes("a"), &[][..]), (ONE, notes("b"), &[][..]));
        assert_ne!(hashes(&[first.clone(), second.clone()]).1, hashes(&[second, first]).1);
        let (first, second) = ((ONE, writes("db"), &[][..]), (OTHER, writes("db"), &[][..]));
        assert_ne!(hashes(&[first.clone(), second.clone()]).1, hashes(&[second, first]).1);
    }

    #[test]
    fn who_was_woken_depends_on_who_woke_it() {
        let woken = |first| {
            let mut trace = Trace::new(false);
            trace.push(ONE, notes(first), &[], Duration::ZERO);
            trace.wakes(ONE, OTHER);
            trace.push(OTHER, notes("woken"), &[], Duration::ZERO);
            trace.chains[&OTHER]
        };
        assert_ne!(woken("a"), woken("b"));
    }

    #[test]
    fn what_was_written_is_in_the_hash_of_the_run_and_tells_no_schedules_apart() {
        let (one, other) = (hashes(&[(ONE, writes("db"), b"salt")]), hashes(&[(ONE, writes("db"), b"pepper")]));
        assert_ne!(one.0, other.0);
        assert_eq!(one.1, other.1);
    }
}
