//! What looks at its whole process, through an allocator that counts or at all that is traced: one test at a time. Each begins
//! with [`alone`].

mod allocation;
mod allocator;
mod cache_memory;
mod observe;
#[path = "../common/server.rs"]
mod server;
mod statement_memory;

use tokio::sync::{Mutex, MutexGuard};

static ALONE: Mutex<()> = Mutex::const_new(());

/// Waits until no other test runs.
async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// The same, outside a runtime.
fn alone_blocking() -> MutexGuard<'static, ()> {
    ALONE.blocking_lock()
}
