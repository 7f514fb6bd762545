//! How the engine reaches the simulated disk, clock and randomness: its own public traits, of one life of the process.
//!
//! No call is done inside itself: it is handed over, and the scheduler does it when the seed says so. Where the engine
//! waits on the spot (it does so while it connects, and when an unfinished statement is dropped) the calls of the
//! task that waits are done there, in their order, with the same faults.
//!
//! After a power failure this life is over, but parts of the engine still run while they are dropped. They are told that
//! nothing works any more, and touch nothing.

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use turso::core::io::{Clock, FileId, FileSyncType};
use turso::core::{
    Buffer, Completion, CompletionError, File, IO, LimboError, MonotonicInstant, OpenFlags, WallClockInstant,
};

use super::disk::{Call, Disk};
use super::state::{Shared, State};

/// When worlds begin, in seconds since 1970: 2026-01-01.
const BEGAN: i64 = 1_767_225_600;

/// Looks in one poll, at most, that are not for waiting.
const LOOKS: u32 = 100;

/// The machine that one life of the process runs on.
pub(super) struct Machine {
    shared: Arc<Shared>,
    /// Which life.
    life: u64,
}

impl Machine {
    pub(super) fn new(shared: &Arc<Shared>, life: u64) -> Arc<Self> {
        Arc::new(Self { shared: Arc::clone(shared), life })
    }

    /// What is there, if this life is not over.
    fn alive<R>(&self, work: impl FnOnce(&mut State) -> R) -> Result<R, LimboError> {
        let mut state = self.shared.state();
        match state.life == self.life {
            true => Ok(work(&mut state)),
            false => Err(dead()),
        }
    }
}

fn dead() -> LimboError {
    LimboError::CompletionError(CompletionError::Aborted)
}

impl Clock for Machine {
    fn current_time_monotonic(&self) -> MonotonicInstant {
        MonotonicInstant::from_nanos(self.shared.now().as_nanos())
    }

    fn current_time_wall_clock(&self) -> WallClockInstant {
        let now = self.shared.now();
        WallClockInstant { secs: BEGAN + now.as_secs() as i64, micros: now.subsec_micros() }
    }
}

impl IO for Machine {
    fn open_file(&self, path: &str, flags: OpenFlags, _direct: bool) -> Result<Arc<dyn File>, LimboError> {
        let file = self.alive(|state| match state.disk.find(path) {
            None if !flags.contains(OpenFlags::Create) => None,
            _ => Some(state.disk.open(path)),
        })?;
        match file {
            Some(file) => Ok(Arc::new(OpenFile { shared: Arc::clone(&self.shared), life: self.life, file })),
            None => Err(LimboError::CompletionError(CompletionError::IOError(std::io::ErrorKind::NotFound, "open"))),
        }
    }

    fn remove_file(&self, path: &str) -> Result<(), LimboError> {
        let problem = format!("the engine removes {path}, and what a power failure does to that is not modelled");
        Err(LimboError::InternalError(problem))
    }

    /// Nothing is done here, unless the engine waits for it on the spot: where a statement is dropped whose rows were not all fetched it
    /// looks, and looks, until its commit is done.
    fn step(&self) -> Result<(), LimboError> {
        {
            let mut state = self.shared.state();
            state.looks += 1;
            if state.looks <= LOOKS {
                return Ok(());
            }
        }
        self.alive(|_| ())?;
        self.shared.does_here();
        Ok(())
    }

    fn drain_completions(&self, completions: &[Completion]) -> Result<(), LimboError> {
        completions.iter().try_for_each(|completion| self.wait_for_completion(completion.clone()))
    }

    fn wait_for_completion(&self, completion: Completion) -> Result<(), LimboError> {
        while !completion.finished() {
            // Dead before, or by the call that was to be done.
            self.alive(|_| ())?;
            if !self.shared.does_here() {
                self.alive(|_| ())?;
                return Err(LimboError::InternalError("waits on the spot for what nobody was asked to do".to_owned()));
            }
        }
        match completion.get_error() {
            Some(error) => Err(LimboError::CompletionError(error)),
            None => Ok(()),
        }
    }

    fn generate_random_number(&self) -> i64 {
        let mut state = self.shared.state();
        let number = state.decider.engine().next_u64();
        state.trace.drew(number);
        number as i64
    }

    fn fill_bytes(&self, dest: &mut [u8]) {
        self.shared.state().decider.engine().fill_bytes(dest);
    }

    fn yield_now(&self) {}

    fn sleep(&self, _duration: Duration) {}

    fn file_id(&self, path: &str) -> Result<FileId, LimboError> {
        let FileId { ino, .. } = FileId::from_path_hash(path);
        Ok(FileId { dev: self.shared.device(self.life), ino })
    }
}

struct OpenFile {
    shared: Arc<Shared>,
    life: u64,
    file: usize,
}

impl OpenFile {
    fn asks(&self, completion: Completion, call: impl FnOnce(&Disk) -> Call) -> Result<Completion, LimboError> {
        let now = self.shared.now();
        let mut state = self.shared.state();
        if state.life != self.life {
            return Err(dead());
        }
        let call = call(&state.disk);
        state.asks(self.file, call, completion.clone(), now);
        Ok(completion)
    }
}

impl File for OpenFile {
    fn lock_file(&self, _exclusive: bool) -> Result<(), LimboError> {
        Ok(())
    }

    fn unlock_file(&self) -> Result<(), LimboError> {
        Ok(())
    }

    fn pread(&self, at: u64, c: Completion) -> Result<Completion, LimboError> {
        let len = c.as_read().buf().len() as u64;
        self.asks(c, |_| Call::Read { at, len })
    }

    fn pwrite(&self, at: u64, buffer: Arc<Buffer>, c: Completion) -> Result<Completion, LimboError> {
        self.asks(c, |_| Call::Write { at, bytes: buffer.as_slice().to_vec() })
    }

    fn pwritev(&self, at: u64, buffers: Vec<Arc<Buffer>>, c: Completion) -> Result<Completion, LimboError> {
        // Not byte by byte, which takes a tenth of a run where this is not optimised.
        let bytes = buffers.iter().map(|buffer| buffer.as_slice()).collect::<Vec<_>>().concat();
        self.asks(c, |_| Call::Write { at, bytes })
    }

    fn sync(&self, c: Completion, _kind: FileSyncType) -> Result<Completion, LimboError> {
        self.asks(c, |disk| disk.sync_of(self.file))
    }

    fn size(&self) -> Result<u64, LimboError> {
        Ok(self.shared.state().disk.len(self.file))
    }

    fn truncate(&self, len: u64, c: Completion) -> Result<Completion, LimboError> {
        self.asks(c, |_| Call::Truncate { len })
    }
}
