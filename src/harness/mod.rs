//! The harness that holds the pool, and whatever else hands out database access, to what it promises.
//!
//! The rooms that name no engine come first: [`workload`] (what is done), `history` (what clients saw), `check` (whether
//! it holds), [`drive`] (real threads, a real file), [`run`] (the report). The affected engine's crate compiles these very
//! files. Above them: [`subjects`] (the pool and the controls, on today's engine), [`stress`] (one run, with SQLite as an
//! outside oracle), [`kill`] (a process that is
//! killed while it writes), `http` (the story's service, driven over HTTP), [`affected`] (the engine that had the failure, as a
//! child process), [`prove`] (the main job).

pub mod affected;
mod check;
pub mod child;
pub mod drive;
mod history;
#[cfg(feature = "cli")]
pub mod http;
pub mod isolation;
pub mod kill;
mod panics;
pub mod prove;
pub mod run;
pub mod sim;
#[doc(hidden)]
pub mod sql {
    //! Whether what the library says of a text of SQL is true: for the fuzzer, and for what it has found.

    pub use crate::sql::oracle::{Reader, disagreement, long};
}
pub mod statements;
pub mod stress;
pub mod subjects;
pub mod workload;

use crate::catch;
