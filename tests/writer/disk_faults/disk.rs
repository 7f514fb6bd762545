//! A disk that fails on purpose, and loses its power.
//!
//! The engine sees files in a folder, as the operating system's page cache would show them. Beside them the disk keeps what
//! of that is durable, and a call that was chosen fails.
//!
//! What may fail: the n-th read, write, sync or truncation of the database or of its log, and as many after it as are asked
//! for. A write fails before its first byte or half-way. The error comes as the call's own result, as from `UnixIO`, or by
//! the call's completion, as from `io_uring`. A failed sync is Linux's (Rebello and others, "Can Applications Recover from
//! fsync Failures?", 2020): what was to be synced is marked clean, so the page cache still shows it, no later sync writes it,
//! and whether it is on the disk is luck.
//!
//! What a power failure may take: any 512-byte sector of any write that no successful sync covered, and any such truncation.
//! What it may not: anything that a sync covered; the folder's entries. Neither does the disk reorder two writes of
//! the same sector.
//!
//! A disk can also lie: it says that a sync succeeded, and has done nothing.

use std::collections::BTreeMap;
use std::fs::File as RealFile;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;
use turso::core::io::{Clock, FileSyncType};
use turso::core::{
    Buffer, Completion, CompletionError, File, IO, LimboError, MonotonicInstant, OpenFlags, WallClockInstant,
};

/// The unit in which a write is torn.
const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    Log,
    Database,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Read,
    Write,
    Sync,
    Truncate,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The call itself returns the error.
    Inline,
    /// So it does, with half of the bytes written.
    HalfWay,
    /// The call's completion does.
    Completion,
}

/// Calls that fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub which: Which,
    pub call: Call,
    /// How many of them succeed before.
    pub after: usize,
    /// How many fail then.
    pub times: usize,
    pub style: Style,
    pub kind: ErrorKind,
}

/// What of the writes that no sync covered is on the disk after a power failure.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    Nothing,
    /// What a process sees that opens the files again without one.
    Everything,
    /// Some sectors.
    Sectors(u64),
}

impl Survives {
    /// One of each, and two of the third.
    pub const ALL: [Survives; 4] =
        [Survives::Nothing, Survives::Everything, Survives::Sectors(1), Survives::Sectors(2)];
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Pending,
    Synced,
    /// A sync of it failed.
    Dropped,
}

/// A file on the disk: its content at first, and what was done since then.
#[derive(Clone, Default)]
struct Medium {
    content: Vec<u8>,
    changes: Vec<(Change, Fate)>,
}

#[derive(Default)]
struct State {
    media: BTreeMap<String, Medium>,
    fault: Option<Fault>,
    failed: usize,
    lies: bool,
}

/// A handle; a clone is another one.
#[derive(Clone)]
pub struct Disk {
    folder: Arc<TempDir>,
    state: Arc<Mutex<State>>,
}

impl Disk {
    pub fn new() -> Self {
        Self { folder: Arc::new(tempfile::tempdir().unwrap()), state: Arc::default() }
    }

    /// A database on it.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("t.db")
    }

    /// From now on, and instead of what was to fail before.
    pub fn fails(&self, fault: Fault) {
        let mut state = self.state.lock();
        state.fault = Some(fault);
        state.failed = 0;
    }

    /// No call fails any more. How many did.
    pub fn is_mended(&self) -> usize {
        let mut state = self.state.lock();
        state.fault = None;
        state.failed
    }

    /// How many calls failed.
    pub fn failed(&self) -> usize {
        self.state.lock().failed
    }

    pub fn lies(&self) {
        self.state.lock().lies = true;
    }

    /// The disk as it is after a power failure at this moment.
    pub fn after_power_failure(&self, survives: Survives) -> Disk {
        let state = self.state.lock();
        let disk = Self::new();
        let mut luck = Luck(match survives {
            Survives::Sectors(seed) => seed,
            _ => 0,
        });
        for (name, medium) in &state.media {
            let content = medium.read(|| match survives {
                Survives::Nothing => false,
                Survives::Everything => true,
                Survives::Sectors(_) => luck.is_good(),
            });
            std::fs::write(disk.folder.path().join(name), content).unwrap();
        }
        disk
    }

    /// The disk at this moment, for a process that opens it after the end of the one that uses it now: it sees what that one
    /// wrote, and what is not synced can still be lost.
    pub fn after_process_end(&self) -> Disk {
        let disk = Self::new();
        let state = self.state.lock();
        for (name, medium) in &state.media {
            std::fs::write(disk.folder.path().join(name), medium.read(|| true)).unwrap();
        }
        disk.state.lock().media.clone_from(&state.media);
        disk
    }
}

impl Medium {
    /// What is on it, if of what is not synced only that is of which `survives` says so.
    fn read(&self, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let mut content = self.content.clone();
        for (change, fate) in &self.changes {
            let mut survives = || *fate == Fate::Synced || survives();
            match change {
                Change::Truncate(len) if survives() => content.resize(*len, 0),
                Change::Truncate(_) => {}
                Change::Write(at, bytes) => {
                    for (sector, part) in bytes.chunks(SECTOR).enumerate() {
                        if survives() {
                            write(&mut content, at + sector * SECTOR, part);
                        }
                    }
                }
            }
        }
        content
    }

    fn sync(&mut self, outcome: Fate) {
        for (_, fate) in &mut self.changes {
            if *fate == Fate::Pending {
                *fate = outcome;
            }
        }
        if self.changes.iter().all(|(_, fate)| *fate == Fate::Synced) {
            self.content = self.read(|| unreachable!("all is synced"));
            self.changes.clear();
        }
    }
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// Steele, Lea and Flood's SplitMix64.
struct Luck(u64);

impl Luck {
    fn is_good(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

impl Clock for Disk {
    fn current_time_monotonic(&self) -> MonotonicInstant {
        MonotonicInstant::now()
    }

    fn current_time_wall_clock(&self) -> WallClockInstant {
        WallClockInstant::now()
    }
}

fn error(kind: ErrorKind, call: &'static str) -> CompletionError {
    CompletionError::IOError(kind, call)
}

impl IO for Disk {
    fn open_file(&self, path: &str, flags: OpenFlags, _direct: bool) -> Result<Arc<dyn File>, LimboError> {
        let create = flags.contains(OpenFlags::Create);
        let file = RealFile::options().read(true).write(true).create(create).truncate(false).open(path);
        let file = file.map_err(|cause| LimboError::CompletionError(error(cause.kind(), "open")))?;
        let name = Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
        let which = if name.ends_with("-wal") { Which::Log } else { Which::Database };
        // What is there when it is opened first is durable.
        self.state
            .lock()
            .media
            .entry(name.clone())
            .or_insert_with(|| Medium { content: std::fs::read(path).unwrap_or_default(), changes: Vec::new() });
        Ok(Arc::new(DiskFile { file, name, which, state: Arc::clone(&self.state) }))
    }

    fn remove_file(&self, path: &str) -> Result<(), LimboError> {
        unimplemented!("the engine removes {path}: what a power failure does to that is not modelled")
    }
}

struct DiskFile {
    file: RealFile,
    name: String,
    which: Which,
    state: Arc<Mutex<State>>,
}

impl DiskFile {
    /// How this call fails, if it does.
    fn failure(&self, call: Call) -> Option<(Style, ErrorKind)> {
        let mut state = self.state.lock();
        let fault = state.fault.as_mut().filter(|fault| fault.which == self.which && fault.call == call)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times = fault.times.checked_sub(1)?;
        let failure = (fault.style, fault.kind);
        state.failed += 1;
        Some(failure)
    }

    fn change(&self, change: Change) {
        match &change {
            Change::Write(at, bytes) => self.file.write_all_at(bytes, *at as u64).unwrap(),
            Change::Truncate(len) => self.file.set_len(*len as u64).unwrap(),
        }
        self.medium(|medium| medium.changes.push((change, Fate::Pending)));
    }

    fn medium(&self, work: impl FnOnce(&mut Medium)) {
        work(self.state.lock().media.get_mut(&self.name).expect("every open file has one"));
    }

    fn write(&self, at: u64, mut bytes: Vec<u8>, c: Completion, name: &'static str) -> Result<Completion, LimboError> {
        if let Some((style, kind)) = self.failure(Call::Write) {
            if style == Style::HalfWay {
                bytes.truncate(bytes.len() / 2);
                self.change(Change::Write(at as usize, bytes));
            }
            return fail(style, error(kind, name), c);
        }
        let len = bytes.len();
        self.change(Change::Write(at as usize, bytes));
        c.complete(len as i32);
        Ok(c)
    }
}

fn fail(style: Style, error: CompletionError, c: Completion) -> Result<Completion, LimboError> {
    match style {
        Style::Inline | Style::HalfWay => Err(LimboError::CompletionError(error)),
        Style::Completion => {
            c.error(error);
            Ok(c)
        }
    }
}

impl File for DiskFile {
    fn lock_file(&self, _exclusive: bool) -> Result<(), LimboError> {
        Ok(())
    }

    fn unlock_file(&self) -> Result<(), LimboError> {
        Ok(())
    }

    fn pread(&self, at: u64, c: Completion) -> Result<Completion, LimboError> {
        if let Some((style, kind)) = self.failure(Call::Read) {
            return fail(style, error(kind, "pread"), c);
        }
        let read = self.file.read_at(c.as_read().buf().as_mut_slice(), at).unwrap();
        c.complete(read as i32);
        Ok(c)
    }

    fn pwrite(&self, at: u64, buffer: Arc<Buffer>, c: Completion) -> Result<Completion, LimboError> {
        self.write(at, buffer.as_slice().to_vec(), c, "pwrite")
    }

    fn pwritev(&self, at: u64, buffers: Vec<Arc<Buffer>>, c: Completion) -> Result<Completion, LimboError> {
        let bytes = buffers.iter().flat_map(|buffer| buffer.as_slice()).copied().collect();
        self.write(at, bytes, c, "pwritev")
    }

    fn sync(&self, c: Completion, _kind: FileSyncType) -> Result<Completion, LimboError> {
        if let Some((style, kind)) = self.failure(Call::Sync) {
            self.medium(|medium| medium.sync(Fate::Dropped));
            return fail(style, error(kind, "sync"), c);
        }
        let lies = self.state.lock().lies;
        if !lies {
            self.medium(|medium| medium.sync(Fate::Synced));
        }
        c.complete(0);
        Ok(c)
    }

    fn size(&self) -> Result<u64, LimboError> {
        Ok(self.file.metadata().unwrap().len())
    }

    fn truncate(&self, len: u64, c: Completion) -> Result<Completion, LimboError> {
        if let Some((style, kind)) = self.failure(Call::Truncate) {
            return fail(style, error(kind, "truncate"), c);
        }
        self.change(Change::Truncate(len as usize));
        c.complete(0);
        Ok(c)
    }
}
