//! The threads that reads run on.
//!
//! The runtime's blocking pool would do, but for its stacks of 2 MiB, which a nested query overflows, and that it keeps a paused
//! clock from moving on for as long as a read runs: a sleep inside one would never end.
//!
//! Each read has a connection before it has a thread, so there are about as many threads as connections, and no read waits for one.
//! The thread that was used last is used first; one that nobody has used for [`KEEP`] ends, and so do all when the writer is gone.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::runtime::Handle;

use super::executor::Task;
use crate::stack::ROOM;
use crate::sync::Mutex;

/// How long a thread waits for the next read, as one of tokio's blocking pool does.
const KEEP: Duration = Duration::from_secs(10);

/// A read, and the runtime whose timers and tasks it uses.
type Read = (Handle, Task);

/// A thread that waits for its next read.
struct Idle {
    thread: ThreadId,
    next: SyncSender<Read>,
}

/// The threads of one writer.
#[derive(Default)]
pub(super) struct Readers {
    /// The one used last is the last.
    idle: Arc<Mutex<Vec<Idle>>>,
}

impl Readers {
    /// Runs a read on a thread that has nothing to do, or on a new one. If there is none, the read is dropped.
    pub(super) fn run(&self, runtime: Handle, read: Task) {
        let mut read = (runtime, read);
        while let Some(reader) = self.idle.with(Vec::pop) {
            match reader.next.send(read) {
                Ok(()) => return,
                // It is gone, which cannot be while it waits.
                Err(refused) => read = refused.0,
            }
        }
        let idle = Arc::downgrade(&self.idle);
        let thread = thread::Builder::new().name("poolproof-reader".to_owned()).stack_size(ROOM);
        // Detached on purpose: it ends with the writer, or when nobody has used it for long.
        if let Err(error) = thread.spawn(move || serve(read, &idle)) {
            tracing::error!(target: "poolproof", %error, "no thread for a read: allow this process more threads");
        }
    }
}

/// Runs one read after the other.
fn serve(mut read: Read, readers: &Weak<Mutex<Vec<Idle>>>) {
    loop {
        let (runtime, task) = read;
        runtime.block_on(task());
        drop(runtime);
        let (next, reads) = sync_channel(1);
        let thread = thread::current().id();
        match readers.upgrade() {
            Some(idle) => idle.with(|idle| idle.push(Idle { thread, next })),
            None => return,
        }
        read = loop {
            match reads.recv_timeout(KEEP) {
                Ok(read) => break read,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let Some(idle) = readers.upgrade() else { return };
                    let left = idle.with(|idle| {
                        let place = idle.iter().position(|reader| reader.thread == thread)?;
                        Some(idle.remove(place))
                    });
                    // Otherwise somebody has just taken it, and sends a read.
                    if left.is_some() {
                        return;
                    }
                }
            }
        };
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("idle", &self.idle.with(|idle| idle.len())).finish()
    }
}
