//! Flaws that people write, one a file, beside what is right: the proof that a world finds what is broken.

mod blind_retry;
mod committed_error;
mod dirty_return;
mod lane;
pub mod lost_update;
mod lost_wake_up;
mod permits;
pub mod shared_connection;
mod volatile;
