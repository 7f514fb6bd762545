//! The threads that reads run on, each with a runtime of its own.
//!
//! The runtime's blocking pool would do, but for its stacks of 2 MiB, which a nested query overflows, and that it keeps a paused
//! clock from moving on for as long as a read runs. And a read must not depend on its caller's runtime, which may be one that nobody
//! runs any more, or that ends: it has a connection, and others may wait for its answer.
//!
//! Each read has a connection before it has a thread, so there are about as many threads as connections, and no read waits for one.
//! The thread that was used last is used first; one that nobody has used for [`KEEP`] ends, and so do all when the writer is closed
//! or gone, but for one that still runs what a closure has spawned.

use std::fmt;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;

use super::executor::Task;
#[cfg(feature = "cache")]
use super::executor::Wait;
use crate::pool::clock;
use crate::stack::ROOM;
use crate::sync::Mutex;

/// How long a thread waits for the next read, as one of tokio's blocking pool does.
const KEEP: Duration = Duration::from_secs(10);

/// A thread that waits for its next read.
struct Idle {
    thread: ThreadId,
    next: mpsc::Sender<Task>,
}

/// The threads of one writer.
pub(super) struct Readers {
    /// The one used last is the last. `None` once the writer is closed.
    idle: Arc<Mutex<Option<Vec<Idle>>>>,
    /// Where one runs what only waits, once something has.
    #[cfg(feature = "cache")]
    waits: Mutex<Option<mpsc::UnboundedSender<Wait>>>,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            idle: Arc::new(Mutex::new(Some(Vec::new()))),
            #[cfg(feature = "cache")]
            waits: Mutex::default(),
        }
    }
}

impl Readers {
    /// Runs a read on a thread that has nothing to do, or on a new one. If there is none, the read is dropped.
    pub(super) fn run(&self, read: Task) {
        let mut read = read;
        while let Some(reader) = self.idle.with(|idle| idle.as_mut()?.pop()) {
            match reader.next.try_send(read) {
                Ok(()) => return,
                // It is gone, which cannot be while it waits.
                Err(refused) => read = refused.into_inner(),
            }
        }
        let idle = Arc::downgrade(&self.idle);
        start("poolproof-reader", move || serve(read, idle));
    }

    /// Runs what waits for a connection, or for one to be opened, all of it on one thread.
    #[cfg(feature = "cache")]
    pub(super) fn wait(&self, wait: Wait) {
        let refused = self.waits.with(|waits| match waits {
            Some(sender) => sender.send(wait).err(),
            None => Some(mpsc::error::SendError(wait)),
        });
        let Some(mpsc::error::SendError(wait)) = refused else { return };
        let (sender, mut coming) = mpsc::unbounded_channel();
        let _ = sender.send(wait);
        self.waits.with(|waits| *waits = Some(sender));
        start("poolproof-waits", move || async move {
            while let Some(wait) = coming.recv().await {
                tokio::spawn(wait);
            }
        });
    }

    /// Nobody needs them any more: those that have nothing to do end.
    pub(super) fn rest(&self) {
        let idle = self.idle.with(Option::take);
        #[cfg(feature = "cache")]
        drop(self.waits.with(Option::take));
        drop(idle);
    }
}

/// Starts a thread that runs this, and then what that has spawned.
fn start<F: Future<Output = ()>>(name: &str, work: impl FnOnce() -> F + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(ROOM);
    // Detached on purpose: it ends with the writer, or when nobody has used it for long.
    let started = thread.spawn(move || match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime.block_on(async {
            work().await;
            while is_busy() {
                clock::sleep(Duration::from_millis(10)).await;
            }
        }),
        Err(error) => no_thread(&error),
    });
    if let Err(error) = started {
        no_thread(&error);
    }
}

fn no_thread(error: &std::io::Error) {
    tracing::error!(target: "poolproof", %error, "no thread for a read: allow this process more threads");
}

/// Whether tasks that closures have spawned still run on this thread.
fn is_busy() -> bool {
    Handle::current().metrics().num_alive_tasks() > 0
}

/// Runs one read after the other.
async fn serve(mut read: Task, readers: Weak<Mutex<Option<Vec<Idle>>>>) {
    let thread = thread::current().id();
    loop {
        read().await;
        let (next, mut reads) = mpsc::channel(1);
        let waits = readers
            .upgrade()
            .is_some_and(|idle| idle.with(|idle| idle.as_mut().map(|idle| idle.push(Idle { thread, next }))).is_some());
        if !waits {
            return;
        }
        read = loop {
            match clock::within(KEEP, reads.recv()).await {
                Some(Some(read)) => break read,
                Some(None) => return,
                None if is_busy() => {}
                None => {
                    let Some(idle) = readers.upgrade() else { return };
                    let left = idle.with(|idle| {
                        let idle = idle.as_mut()?;
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
        f.debug_struct("Readers").field("idle", &self.idle.with(|idle| idle.as_ref().map_or(0, Vec::len))).finish()
    }
}
