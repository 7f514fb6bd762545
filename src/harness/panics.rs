//! Panics as findings: a hook that records them silently.
//!
//! The hook is the whole process's, but a test's own failed assertion is no finding of the run beside it. So it is told
//! whose panics to record, by the thread's name, and leaves the others to the hook that was there before.
//!
//! The failure this project is about is a panic inside the engine, so a run must survive it, count it, and say where it
//! was. Locations are written from the crate's folder on (`turso_core-0.2.2/storage/pager.rs:1601:43`), so that they read
//! the same on every machine.

use std::collections::BTreeMap;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

/// What panicked so far in this process.
#[derive(Clone, Debug, Default)]
pub struct Panics {
    /// Panics, whether something caught them or not.
    pub count: u64,
    /// How many at each `file:line:column`.
    pub locations: BTreeMap<String, u64>,
    /// How many with each message.
    pub messages: BTreeMap<String, u64>,
}

static RECORDED: Mutex<Panics> = Mutex::new(Panics { count: 0, locations: BTreeMap::new(), messages: BTreeMap::new() });

fn recorded() -> MutexGuard<'static, Panics> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads of a run have names that begin with this; so has the writer's lane.
pub const RUN: &str = "poolproof-";

/// Whether panics are recorded at all at the moment.
static RECORDING: AtomicBool = AtomicBool::new(false);

/// Records panics instead of printing them, until it is dropped.
pub struct Recording(());

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDING.store(false, Ordering::SeqCst);
    }
}

/// Records the panics of threads whose names begin with `prefix` instead of printing them, as long as the returned value
/// lives; starts anew. The first call decides the prefix for the whole process.
pub fn record(prefix: &'static str) -> Recording {
    static INSTALLED: Once = Once::new();
    take();
    RECORDING.store(true, Ordering::SeqCst);
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let whose = thread::current().name().unwrap_or_default().starts_with(prefix);
            if !whose || !RECORDING.load(Ordering::SeqCst) {
                return before(info);
            }
            let location = info.location().map_or_else(
                || "unknown".to_owned(),
                |at| format!("{}:{}:{}", portable(at.file()), at.line(), at.column()),
            );
            let message = info.payload_as_str().unwrap_or("a panic without a text").to_owned();
            let mut recorded = recorded();
            recorded.count += 1;
            *recorded.locations.entry(location).or_default() += 1;
            *recorded.messages.entry(message).or_default() += 1;
        }));
    });
    Recording(())
}

/// What was recorded since the last call; starts anew.
pub fn take() -> Panics {
    std::mem::take(&mut *recorded())
}

/// Whether this is the panic of the story: a `RefCell` borrowed twice. The standard library changed its words: a
/// toolchain of 2025 printed `already borrowed: BorrowMutError`, one of 2026 prints `RefCell already borrowed`.
pub fn is_borrow_panic(message: &str) -> bool {
    message.contains("already borrowed") || message.contains("already mutably borrowed")
}

/// The part of a source path that is the same on every machine: from the folder `name-1.2.3` of a registry's crate on;
/// what is no registry's crate keeps its path.
pub(super) fn portable(file: &str) -> String {
    let parts: Vec<&str> = file.split(['/', '\\']).collect();
    let is_crate = |part: &&str| {
        part.rsplit_once('-').is_some_and(|(_, version)| {
            version.split('.').count() >= 3 && version.starts_with(|first: char| first.is_ascii_digit())
        })
    };
    match parts.iter().rposition(is_crate) {
        Some(start) => parts[start..].join("/"),
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_reads_the_same_on_every_machine() {
        let registry = "/anywhere/registry/src/index-0123/turso_core-0.2.2/storage/pager.rs";
        assert_eq!(portable(registry), "turso_core-0.2.2/storage/pager.rs");
        assert_eq!(portable("src/pool/core.rs"), "src/pool/core.rs");
    }

    #[test]
    fn both_wordings_of_the_borrow_panic_are_recognised() {
        for message in [
            "already borrowed: BorrowMutError",
            "already mutably borrowed: BorrowError",
            "RefCell already borrowed",
            "RefCell already mutably borrowed",
        ] {
            assert!(is_borrow_panic(message), "{message}");
        }
        assert!(!is_borrow_panic("unlock called with no readers or writers"));
    }
}
