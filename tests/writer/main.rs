//! The writer's promises: one write after the other, all or nothing, whoever leaves, panics or closes meanwhile, on disks and
//! files of every kind; its snapshots, its cache and its MVCC mode.

mod aliases;
mod atomic;
mod batches;
mod broken;
mod cache;
mod claims;
mod close;
#[path = "../common/mod.rs"]
#[cfg(unix)]
mod common;
mod deadlines;
mod denied;
#[cfg(unix)]
mod disk;
mod disk_faults;
mod failing;
mod fair;
#[cfg(unix)]
mod files;
mod late;
mod leaving;
#[cfg(unix)]
mod location;
mod messages;
mod mvcc;
mod order;
mod outcomes;
mod panics;
mod priorities;
mod read_after;
mod read_time;
mod reads;
mod retry;
mod room;
mod session;
mod statements;
mod wal;
mod world;
mod write_time;
