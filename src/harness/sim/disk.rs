//! The simulated disk: what its files hold, what of that would survive a power failure, and the calls it has not done yet.
//!
//! # Fault model
//! A call is handed over, waits, and is done later, all of it at once as far as this process sees; calls of different tasks
//! are done in any order, and so are those of one task that wait together. A call may fail: a read or a write before its
//! first byte (EIO, ENOSPC), a write after a part of it (the engine's own `ShortWrite`), a sync. A failed sync is Linux's
//! (Rebello and others, "Can Applications Recover from fsync Failures?", 2020): the page cache still shows what was written, no
//! later sync writes it, and whether it is on the disk is luck.
//!
//! What lies beside it is harsher than Linux. That writes whole pages, or whole blocks of the file system (its commit 4ce02c67972,
//! "iomap: Add per-block dirty state tracking", 2023, tells of both), so whoever writes another byte of the same block and syncs it
//! takes along what a failed sync lost there. Here that one's bytes become durable and nothing else: what was lost in the same
//! 512-byte sector is certainly not on the disk, and in the next sector it is luck as before. So only what is written again
//! itself is safe again. Milder than Linux is one thing: that may forget a page that is marked clean and read the old content
//! from the disk; here this process reads what it wrote for as long as it lives.
//!
//! A sync makes durable what was done before it was handed over. A power failure can take any 512-byte sector of any write
//! that no sync covered, done or not, and any such truncation; a process that is killed, and not its machine, takes nothing
//! that was done: that is the luck in which everything survives.
//!
//! What cannot happen: a durable sector changes by itself; a read returns anything but what was written; the folder forgets a file or
//! its length of 0 (the engine does not sync folders, and ext4 and xfs keep a new file whose content is synced); two writes
//! of one sector change places. So bit rot, misdirected writes and lost folders are not looked for.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::time::Instant;
use turso::core::{Completion, CompletionError};

use super::trace;

/// The unit in which a write is torn.
const SECTOR: usize = 512;

/// What is asked of the disk.
pub(super) enum Call {
    Read {
        at: u64,
        len: u64,
    },
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    /// Of everything that was done before change number `upto`.
    Sync {
        upto: u64,
    },
    Truncate {
        len: u64,
    },
}

/// A call that is not done yet.
pub(super) struct Pending {
    /// Which task asked.
    pub(super) owner: usize,
    pub(super) file: usize,
    pub(super) call: Call,
    pub(super) completion: Completion,
    /// Not before.
    pub(super) due: Option<Instant>,
}

/// How a call goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Eio,
    Full,
    /// After half of it.
    Short,
    /// It says that it is done, and is not.
    Lie,
}

struct Change {
    number: u64,
    effect: Effect,
    /// A sync of it failed: no later one writes it.
    is_lost: bool,
}

enum Effect {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

struct File {
    path: String,
    /// What people call it.
    name: Arc<str>,
    /// What this process sees.
    seen: Vec<u8>,
    /// What is certainly on the disk; `unsynced` may be, too.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Changes so far.
    changes: u64,
}

/// The files of one world, and what is to be done to them.
#[derive(Default)]
pub(super) struct Disk {
    files: Vec<File>,
    pub(super) pending: Vec<Pending>,
    /// Calls that failed so far, and power failures.
    pub(super) failures: u64,
}

/// A call that is done, to be told.
pub(super) struct Told {
    pub(super) completion: Completion,
    pub(super) result: Result<i32, CompletionError>,
}

impl Told {
    /// Tells it. Not under a lock: whoever is told may ask for more.
    pub(super) fn tell(self) {
        match self.result {
            Ok(count) => self.completion.complete(count),
            Err(error) => self.completion.error(error),
        }
    }
}

impl Disk {
    /// The file at `path`, which is created if there is none.
    pub(super) fn open(&mut self, path: &str) -> usize {
        self.find(path).unwrap_or_else(|| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let name = match name.rsplit_once("-wal") {
                Some((_, "")) => "log",
                _ if name.ends_with(".db-log") => "mvcc-log",
                _ => "db",
            };
            self.files.push(File {
                path: path.to_owned(),
                name: name.into(),
                seen: Vec::new(),
                durable: Vec::new(),
                unsynced: Vec::new(),
                changes: 0,
            });
            self.files.len() - 1
        })
    }

    pub(super) fn find(&self, path: &str) -> Option<usize> {
        self.files.iter().position(|file| file.path == path)
    }

    pub(super) fn len(&self, file: usize) -> u64 {
        self.files[file].seen.len() as u64
    }

    /// A sync of what has been done to `file` so far.
    pub(super) fn sync_of(&self, file: usize) -> Call {
        Call::Sync { upto: self.files[file].changes }
    }

    /// What people read of a call.
    pub(super) fn describe(&self, file: usize, call: &Call) -> trace::Call {
        let (verb, at, len) = match call {
            Call::Read { at, len } => ("read", *at, *len),
            Call::Write { at, bytes } => ("write", *at, bytes.len() as u64),
            Call::Sync { .. } => ("fsync", 0, 0),
            Call::Truncate { len } => ("truncate", 0, *len),
        };
        trace::Call { verb, file: Arc::clone(&self.files[file].name), at, len }
    }

    /// Does a call. What it read is left in `bytes`.
    pub(super) fn does(&mut self, pending: Pending, fate: Fate, read: &mut Vec<u8>) -> Told {
        let Pending { file, call, completion, .. } = pending;
        self.failures += u64::from(!matches!(fate, Fate::Done | Fate::Lie));
        let file = &mut self.files[file];
        let error = |kind, name| Err(CompletionError::IOError(kind, name));
        let result = match (call, fate) {
            (Call::Read { .. }, Fate::Eio) => error(std::io::ErrorKind::Other, "pread"),
            (Call::Read { at, .. }, _) => {
                let buffer = completion.as_read().buf().as_mut_slice();
                let rest = file.seen.get(at as usize..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                read.extend_from_slice(&rest[..count]);
                Ok(count as i32)
            }
            (Call::Write { .. }, Fate::Eio) => error(std::io::ErrorKind::Other, "pwrite"),
            (Call::Write { .. }, Fate::Full) => error(std::io::ErrorKind::StorageFull, "pwrite"),
            (Call::Write { at, mut bytes }, fate) => {
                let whole = bytes.len();
                if fate == Fate::Short {
                    bytes.truncate(whole / 2);
                }
                file.change(Effect::Write { at: at as usize, bytes });
                if fate == Fate::Short { Err(CompletionError::ShortWrite) } else { Ok(whole as i32) }
            }
            (Call::Truncate { .. }, Fate::Eio) => error(std::io::ErrorKind::Other, "ftruncate"),
            (Call::Truncate { len }, _) => {
                file.change(Effect::Truncate(len as usize));
                Ok(0)
            }
            (Call::Sync { upto }, Fate::Eio) => {
                file.loses(upto);
                error(std::io::ErrorKind::Other, "fsync")
            }
            (Call::Sync { .. }, Fate::Lie) => Ok(0),
            (Call::Sync { upto }, _) => {
                file.sync(upto);
                Ok(0)
            }
        };
        Told { completion, result }
    }

    /// The power fails. Of what is not synced nothing survives if `luck` is 0, everything that was done if it is 1, and for
    /// any other number what the random numbers of that seed leave. Who has to be told that nothing will come.
    pub(super) fn loses_power(&mut self, luck: u64) -> Vec<Completion> {
        let mut coin = Coin { rng: ChaCha8Rng::seed_from_u64(luck), bits: 0, left: 0 };
        let mut survives = || luck >= 2 && coin.is_heads();
        let pending = std::mem::take(&mut self.pending);
        self.failures += 1;
        let mut aborted = Vec::new();
        for Pending { file, call, completion, .. } in pending {
            aborted.push(completion);
            // On its way: some of it may have arrived.
            let effect = match call {
                Call::Write { at, bytes } if luck >= 2 => Effect::Write { at: at as usize, bytes },
                Call::Truncate { len } if luck >= 2 => Effect::Truncate(len as usize),
                _ => continue,
            };
            let file = &mut self.files[file];
            file.unsynced.push(Change { number: file.changes, effect, is_lost: false });
        }
        for file in &mut self.files {
            if luck == 1 {
                file.durable.clone_from(&file.seen);
            } else {
                for change in &file.unsynced {
                    match &change.effect {
                        Effect::Write { at, bytes } => {
                            for (at, part) in sectors(*at, bytes) {
                                if survives() {
                                    write(&mut file.durable, at, part);
                                }
                            }
                        }
                        Effect::Truncate(len) if survives() => file.durable.resize(*len, 0),
                        Effect::Truncate(_) => {}
                    }
                }
                file.seen.clone_from(&file.durable);
            }
            file.unsynced.clear();
        }
        aborted
    }
}

impl File {
    fn change(&mut self, effect: Effect) {
        apply(&mut self.seen, &effect);
        self.unsynced.push(Change { number: self.changes, effect, is_lost: false });
        self.changes += 1;
    }

    fn sync(&mut self, upto: u64) {
        let is_synced = |change: &Change| change.number < upto && !change.is_lost;
        if self.unsynced.iter().any(|change| change.is_lost) {
            // What comes later to the same sector is what is there, and nothing else of it; so is a later length.
            let covered: BTreeSet<usize> = self
                .unsynced
                .iter()
                .filter(|&change| is_synced(change))
                .flat_map(|change| change.effect.sectors())
                .collect();
            self.unsynced.retain(|change| {
                let sectors = change.effect.sectors();
                !change.is_lost || (!sectors.is_empty() && !covered.contains(&sectors.start))
            });
        }
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            let is_synced = is_synced(change);
            if is_synced {
                apply(durable, &change.effect);
            }
            !is_synced
        });
    }

    /// A sync of what was done before change `upto` failed.
    fn loses(&mut self, upto: u64) {
        for change in std::mem::take(&mut self.unsynced) {
            let Change { number, effect, is_lost } = change;
            if is_lost || number >= upto {
                self.unsynced.push(Change { number, effect, is_lost });
                continue;
            }
            let lost = |effect| Change { number, effect, is_lost: true };
            match effect {
                // Each for itself: later writes may cover one and not the other.
                Effect::Write { at, bytes } => self
                    .unsynced
                    .extend(sectors(at, &bytes).map(|(at, part)| lost(Effect::Write { at, bytes: part.to_vec() }))),
                effect => self.unsynced.push(lost(effect)),
            }
        }
    }
}

impl Effect {
    /// The sectors that it writes to.
    fn sectors(&self) -> Range<usize> {
        match self {
            Effect::Write { at, bytes } => at / SECTOR..(at + bytes.len()).div_ceil(SECTOR),
            Effect::Truncate(_) => 0..0,
        }
    }
}

/// The parts of a write that are in one sector of the disk each, and where they begin.
fn sectors(mut at: usize, mut rest: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
        let sector = (at, part);
        (at, rest) = (at + part.len(), after);
        (!part.is_empty()).then_some(sector)
    })
}

fn apply(content: &mut Vec<u8>, effect: &Effect) {
    match effect {
        Effect::Write { at, bytes } => write(content, *at, bytes),
        Effect::Truncate(len) => content.resize(*len, 0),
    }
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// Heads or tails, a bit of a random number each.
struct Coin {
    rng: ChaCha8Rng,
    bits: u64,
    left: u32,
}

impl Coin {
    fn is_heads(&mut self) -> bool {
        if self.left == 0 {
            (self.bits, self.left) = (self.rng.next_u64(), u64::BITS);
        }
        let is_heads = self.bits & 1 == 1;
        self.bits >>= 1;
        self.left -= 1;
        is_heads
    }
}

#[cfg(test)]
mod tests {
    use turso::core::Buffer;

    use super::*;

    /// A disk with one file, and what is done to it.
    struct Bench {
        disk: Disk,
    }

    impl Bench {
        fn new() -> Self {
            let mut disk = Disk::default();
            disk.open("t.db");
            Self { disk }
        }

        fn does(&mut self, call: Call, fate: Fate) -> Result<i32, CompletionError> {
            let completion = match call {
                Call::Read { len, .. } => Completion::new_read(Arc::new(Buffer::new_temporary(len as usize)), |_| None),
                _ => Completion::new_write(|_| {}),
            };
            let pending = Pending { owner: 0, file: 0, call, completion, due: None };
            self.disk.does(pending, fate, &mut Vec::new()).result
        }

        fn writes(&mut self, at: u64, byte: u8, len: usize) -> Result<i32, CompletionError> {
            self.does(Call::Write { at, bytes: vec![byte; len] }, Fate::Done)
        }

        fn syncs(&mut self, fate: Fate) -> Result<i32, CompletionError> {
            let call = self.disk.sync_of(0);
            self.does(call, fate)
        }

        fn content(&self) -> &[u8] {
            &self.disk.files[0].seen
        }
    }

    #[test]
    fn what_is_synced_survives_and_the_rest_as_luck_has_it() {
        let mut bench = Bench::new();
        assert_eq!(bench.writes(0, 1, 2048), Ok(2048));
        assert_eq!(bench.syncs(Fate::Done), Ok(0));
        assert_eq!(bench.writes(0, 2, 2048), Ok(2048));
        let sectors = |luck: u64, bench: &Bench| {
            let mut disk = Bench { disk: Disk::default() };
            disk.disk.open("t.db");
            let (from, to) = (&bench.disk.files[0], &mut disk.disk.files[0]);
            (to.seen, to.durable) = (from.seen.clone(), from.durable.clone());
            to.unsynced.push(Change {
                number: 1,
                effect: Effect::Write { at: 0, bytes: vec![2; 2048] },
                is_lost: false,
            });
            disk.disk.loses_power(luck);
            disk.content().chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>()
        };
        assert_eq!(sectors(0, &bench), [1; 4]);
        assert_eq!(sectors(1, &bench), [2; 4]);
        let torn = (2..40).map(|luck| sectors(luck, &bench)).filter(|sectors| *sectors != [1; 4] && *sectors != [2; 4]);
        assert!(torn.count() > 20, "sectors survive one by one");
    }

    #[test]
    fn a_sync_covers_only_what_was_done_before_it_was_asked() {
        let mut bench = Bench::new();
        bench.writes(0, 1, 512).unwrap();
        let sync = bench.disk.sync_of(0);
        bench.writes(512, 2, 512).unwrap();
        assert_eq!(bench.does(sync, Fate::Done), Ok(0));
        bench.disk.loses_power(0);
        assert_eq!(bench.content(), [1; 512]);
    }

    #[test]
    fn what_a_failed_sync_lost_is_not_written_by_the_next() {
        let mut bench = Bench::new();
        bench.writes(0, 1, 1024).unwrap();
        assert!(bench.syncs(Fate::Eio).is_err());
        assert_eq!(bench.syncs(Fate::Done), Ok(0));
        assert_eq!(bench.content(), [1; 1024], "this process sees it still");
        bench.disk.loses_power(0);
        assert_eq!(bench.content(), [0; 0]);
    }

    #[test]
    fn what_was_lost_does_not_come_back_over_what_came_later() {
        let mut bench = Bench::new();
        bench.writes(0, 1, 1024).unwrap();
        assert!(bench.syncs(Fate::Eio).is_err());
        bench.writes(0, 2, 512).unwrap();
        assert_eq!(bench.syncs(Fate::Done), Ok(0));
        for luck in 2..40 {
            let mut again = Bench::new();
            again.disk.files[0].durable.clone_from(&bench.disk.files[0].durable);
            for change in &bench.disk.files[0].unsynced {
                let Effect::Write { at, bytes } = &change.effect else { unreachable!() };
                let effect = Effect::Write { at: *at, bytes: bytes.clone() };
                again.disk.files[0].unsynced.push(Change { number: change.number, effect, is_lost: true });
            }
            again.disk.loses_power(luck);
            assert_eq!(again.content()[..512], [2; 512], "luck {luck}");
        }
    }

    #[test]
    fn what_was_lost_beside_a_later_write_is_gone_in_its_sector_and_luck_in_the_next() {
        let is_there = |luck: u64, at: usize| {
            let mut bench = Bench::new();
            bench.writes(0, 1, 1024).unwrap();
            bench.syncs(Fate::Done).unwrap();
            bench.writes(0, 2, 1024).unwrap();
            assert!(bench.syncs(Fate::Eio).is_err());
            bench.writes(0, 3, 100).unwrap();
            bench.syncs(Fate::Done).unwrap();
            bench.disk.loses_power(luck);
            assert_eq!(bench.content()[..100], [3; 100]);
            bench.content()[at] == 2
        };
        assert!((2..40).all(|luck| !is_there(luck, 100)), "in the sector that was written again");
        let survived = (2..40).filter(|&luck| is_there(luck, 512)).count();
        assert!((1..38).contains(&survived), "{survived} times in the next");
    }

    #[test]
    fn calls_fail_as_they_are_told_to() {
        let mut bench = Bench::new();
        let write = || Call::Write { at: 0, bytes: vec![7; 1024] };
        assert!(bench.does(write(), Fate::Eio).is_err());
        assert!(bench.does(write(), Fate::Full).is_err());
        assert_eq!(bench.content(), [0; 0], "before the first byte");
        assert_eq!(bench.does(write(), Fate::Short), Err(CompletionError::ShortWrite));
        assert_eq!(bench.content(), [7; 512], "half of it");
        assert_eq!(bench.does(Call::Read { at: 500, len: 100 }, Fate::Done), Ok(12));
        assert!(bench.does(Call::Read { at: 0, len: 100 }, Fate::Eio).is_err());
        assert_eq!(bench.syncs(Fate::Lie), Ok(0));
        bench.disk.loses_power(0);
        assert_eq!(bench.content(), [0; 0], "it lied");
    }
}
