//! A disk that forgets: what was not synced dies with the process.
//!
//! Fault model. Each file has an image in memory, which all reads and writes see at once, and a list of the changes since its
//! last sync. Only a sync carries them to the real file, in the order in which they were made. A killed process leaves what a
//! power failure would leave of a disk that loses its whole cache: everything that was synced, nothing that was not, and of
//! a sync that was under way a part. Files appear in their folder at once, and what has reached the operating system is
//! safe, as it is when only a process dies. Not modelled: a cache that is written back in part and out of order.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turso::core::io::FileSyncType;
use turso::core::{
    Buffer, Clock, Completion, File, IO, LimboError, MonotonicInstant, OpenFlags, PlatformIO, WallClockInstant,
    io_error,
};

/// The disk. Everything opened through it shares one image a file.
pub(super) struct Volatile {
    platform: PlatformIO,
    /// It says that a log is synced, and does not.
    lies: bool,
    files: Mutex<HashMap<String, Arc<Cached>>>,
}

impl Volatile {
    pub(super) fn new() -> Result<Self, LimboError> {
        Ok(Self { platform: PlatformIO::new()?, lies: false, files: Mutex::default() })
    }

    /// One that does not sync a log, as with `PRAGMA synchronous = OFF`.
    pub(super) fn that_lies() -> Result<Self, LimboError> {
        Ok(Self { lies: true, ..Self::new()? })
    }
}

impl Clock for Volatile {
    fn current_time_monotonic(&self) -> MonotonicInstant {
        self.platform.current_time_monotonic()
    }

    fn current_time_wall_clock(&self) -> WallClockInstant {
        self.platform.current_time_wall_clock()
    }
}

impl IO for Volatile {
    fn open_file(&self, path: &str, flags: OpenFlags, _direct: bool) -> Result<Arc<dyn File>, LimboError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(path) {
            return Ok(Arc::clone(file) as Arc<dyn File>);
        }
        let create = flags.contains(OpenFlags::Create);
        let opened = fs::File::options().read(true).write(true).create(create).open(path);
        let file = opened
            .and_then(|file| Cached::new(file, self.lies && path.ends_with("-wal")))
            .map_err(|error| io_error(error, "open"))?;
        let file = Arc::new(file);
        files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn remove_file(&self, path: &str) -> Result<(), LimboError> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        fs::remove_file(path).map_err(|error| io_error(error, "remove_file"))
    }
}

enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Truncate { len: u64 },
}

struct State {
    durable: fs::File,
    image: Vec<u8>,
    unsynced: Vec<Change>,
    lies: bool,
}

struct Cached(Mutex<State>);

impl Cached {
    fn new(mut durable: fs::File, lies: bool) -> io::Result<Self> {
        let mut image = Vec::new();
        durable.read_to_end(&mut image)?;
        Ok(Self(Mutex::new(State { durable, image, unsynced: Vec::new(), lies })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, at: u64, bytes: &[u8]) {
        let start = place(at);
        let end = start + bytes.len();
        if self.image.len() < end {
            self.image.resize(end, 0);
        }
        self.image[start..end].copy_from_slice(bytes);
        if !self.lies {
            self.unsynced.push(Change::Write { at, bytes: bytes.to_vec() });
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.lies {
            return Ok(());
        }
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { at, bytes } => {
                    self.durable.seek(SeekFrom::Start(at))?;
                    self.durable.write_all(&bytes)?;
                }
                Change::Truncate { len } => self.durable.set_len(len)?,
            }
        }
        Ok(())
    }
}

/// An offset in an image, which is in memory and so no longer than that.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// What a write of `length` bytes completes with.
fn written(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// Every operation is done when it returns. Completions are called without the lock: what they call may come back here.
impl File for Cached {
    /// Nobody else has the file while the child lives: the parent looks at it only after its death.
    fn lock_file(&self, _exclusive: bool) -> Result<(), LimboError> {
        Ok(())
    }

    fn unlock_file(&self) -> Result<(), LimboError> {
        Ok(())
    }

    fn pread(&self, at: u64, completion: Completion) -> Result<Completion, LimboError> {
        let length = {
            let buffer = completion.as_read().buf().as_mut_slice();
            let state = self.state();
            let rest = state.image.get(place(at)..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            length
        };
        completion.complete(written(length));
        Ok(completion)
    }

    fn pwrite(&self, at: u64, buffer: Arc<Buffer>, completion: Completion) -> Result<Completion, LimboError> {
        self.state().write(at, buffer.as_slice());
        completion.complete(written(buffer.len()));
        Ok(completion)
    }

    fn pwritev(&self, at: u64, buffers: Vec<Arc<Buffer>>, completion: Completion) -> Result<Completion, LimboError> {
        let mut length = 0;
        {
            let mut state = self.state();
            for buffer in &buffers {
                state.write(at + length as u64, buffer.as_slice());
                length += buffer.len();
            }
        }
        completion.complete(written(length));
        Ok(completion)
    }

    fn sync(&self, completion: Completion, _how: FileSyncType) -> Result<Completion, LimboError> {
        let outcome = self.state().sync();
        outcome.map_err(|error| io_error(error, "sync"))?;
        completion.complete(0);
        Ok(completion)
    }

    fn size(&self) -> Result<u64, LimboError> {
        Ok(self.state().image.len() as u64)
    }

    fn truncate(&self, len: u64, completion: Completion) -> Result<Completion, LimboError> {
        {
            let mut state = self.state();
            state.image.resize(place(len), 0);
            state.unsynced.push(Change::Truncate { len });
        }
        completion.complete(0);
        Ok(completion)
    }
}
