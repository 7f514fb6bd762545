//! Ctrl-C, and SIGTERM: what runs ends cleanly, so that what was found is still printed; a second one ends the process.

use std::io;
use std::sync::Arc;
use std::thread;

use poolproof::harness::drive::Control;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{STOPPED, Trouble};

/// From now on a signal stops `control`.
pub fn stop_on_signal(control: &Arc<Control>) -> Result<(), Trouble> {
    let cannot = |error: io::Error| format!("cannot watch for Ctrl-C: {error}; allow this process more threads");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(cannot)?;
    // Here and not in the thread: a signal that comes before the thread runs is one, too.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::watch().map_err(cannot)?
    };
    let control = Arc::clone(control);
    let watch = move || {
        runtime.block_on(async {
            signals.next().await;
            control.stop();
            signals.next().await;
            std::process::exit(STOPPED.into());
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop).map_err(cannot)
}

/// Those that ask this process to end.
#[cfg(unix)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

#[cfg(unix)]
impl Signals {
    pub fn watch() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Those that ask this process to end.
#[cfg(not(unix))]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub fn watch() -> io::Result<Self> {
        Ok(Self)
    }

    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can be heard, so nobody stops it.
            std::future::pending::<()>().await;
        }
    }
}
