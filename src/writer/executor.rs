//! Where the lane and the reads run: the one seam between production and a simulated world.
//!
//! The engine does its I/O inside `poll`, so neither may run on a worker of the caller's runtime. [`Threads`] gives the lane
//! a thread of its own, and each read one of the [`Readers`]. A simulation runs the same futures as tasks of
//! its one thread. Nothing else differs there: time is tokio's (`pool::clock`), which a paused runtime controls, and
//! neither the lane nor the reads know what runs them.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::thread;

use tokio::runtime::Builder;

use super::readers::Readers;
use crate::pool::file::{Identity, MEMORY, identity_of};
use crate::stack::ROOM;

/// A future that is made where it will be polled, and never leaves that thread. What may panic in it is caught in it, wakers of
/// its callers excepted; if one does panic, that ends it and nothing else, and whoever waits for it is told.
pub(crate) type Task = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A future that waits for a connection, or opens one.
#[cfg(feature = "cache")]
pub(crate) type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs what must not hold up its caller's runtime.
pub(crate) trait Executor: fmt::Debug + Send + Sync {
    /// Runs the lane to its end; called once for each.
    ///
    /// # Errors
    /// If the operating system gives no thread. `lane` was not run.
    fn lane(&self, lane: Task) -> io::Result<()>;

    /// Runs a read to its end, unless the operating system gives no thread: then it is dropped.
    fn read(&self, read: Task);

    /// Runs a task that waits for a connection, or opens one.
    #[cfg(feature = "cache")]
    fn wait(&self, wait: Wait);

    /// The writer is closed: what has nothing to do for it ends.
    fn rest(&self) {}

    /// Looks at a file, where the lane runs; `None` if there is none.
    fn file(&self, path: &Path) -> Option<FileStatus>;
}

/// A file at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileStatus {
    /// In bytes.
    pub(crate) len: u64,
    /// Another one if another took its place; always the same where the operating system does not tell.
    pub(crate) identity: Identity,
}

/// Real threads.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    readers: Readers,
}

impl Executor for Threads {
    fn lane(&self, lane: Task) -> io::Result<()> {
        // Started by the thread itself: a runtime must not be dropped inside another, as it would be if the thread could
        // not be started.
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name("poolproof-lane".to_owned()).stack_size(ROOM).spawn(move || {
            match Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(lane());
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        // A few microseconds, once.
        starting.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))
    }

    fn read(&self, read: Task) {
        self.readers.run(read);
    }

    #[cfg(feature = "cache")]
    fn wait(&self, wait: Wait) {
        self.readers.wait(wait);
    }

    fn rest(&self) {
        self.readers.rest();
    }

    fn file(&self, path: &Path) -> Option<FileStatus> {
        // A database in memory has no file, whatever is called so; any other path is absolute.
        if path.to_str().is_some_and(|path| path.starts_with(MEMORY)) {
            return None;
        }
        // The path is the file's own: a link in its place is another.
        let file = std::fs::symlink_metadata(path).ok()?;
        Some(FileStatus { len: file.len(), identity: identity_of(&file) })
    }
}
