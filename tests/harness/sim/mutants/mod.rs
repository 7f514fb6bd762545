//! Flaws that people write, one a file, beside what is right: the proof that a world finds what is broken.

mod blind_retry;
mod closures;
mod committed_error;
mod cut_short;
mod dirty_return;
mod lane;
pub mod lost_update;
mod lost_wake_up;
mod old_snapshot;
mod permits;
pub mod shared_connection;
mod stale_answer;
mod unqueued;
mod volatile;
