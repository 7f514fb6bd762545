//! What the tests that run binaries share.

#![allow(dead_code, reason = "each test needs a part of it")]

pub mod alone;
pub mod running;
#[cfg(unix)]
pub mod served;

use std::path::PathBuf;
use std::sync::OnceLock;

use poolproof::harness::affected;

/// The `poolproof` binary.
pub fn poolproof() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_poolproof"))
}

/// The affected engine's binary, up to date: a test must not pass or fail by an older one.
pub fn affected_engine() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| affected::build(&poolproof()).unwrap()).clone()
}
