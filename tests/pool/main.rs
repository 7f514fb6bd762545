//! The pool: waiting, limits, hooks, resizing, what it tells of itself, its statement cache; beside a model, beside the bugs
//! that other pools had, and cut short at every moment.

mod alarm;
mod config;
mod depth;
mod forensics;
mod hooks;
mod lifecycle;
mod model;
mod museum;
mod resize;
#[path = "../common/server.rs"]
mod server;
mod statements;
mod sweep;
mod waiting;
