//! The proof, and the engine that had the failure. Both need the affected engine's source, which is only in a clone: these tests
//! are not part of the package.

mod affected_engine;
#[path = "../common/mod.rs"]
mod common;
mod prove;
