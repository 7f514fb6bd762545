//! The connection pool.
//!
//! [`ConnectionPool`] opens connections of one [`turso::Database`] and lends each to one user at a time, as a
//! [`PooledConnection`]. The rooms, from the bottom up: `core` (slots and waiters), `alarm` (when waiting ends), `upkeep`
//! (what is done to a connection between two users), `generic` and `guard` (any kind of connection, with `config`, `clock`,
//! `hooks`, `maintenance`, `observe`, `failure`, `forensics` and `status` around it), `connection` (the engine's, with its
//! `statements`, their `parameters`, the `schema` and `control`, and the `transaction`s that borrow it), `builder` (opening a
//! database), `file` (which file that is), `inside` (whether the caller is in a writer's closure), `database` (the face).

mod activity;
mod alarm;
mod builder;
pub(crate) mod clock;
mod config;
mod connection;
pub(crate) mod control;
pub(crate) mod core;
mod database;
mod engine;
mod failure;
pub(crate) mod file;
mod forensics;
mod generic;
mod guard;
mod hooks;
pub(crate) mod inside;
mod maintenance;
mod manage;
mod observe;
mod parameters;
mod row;
mod schema;
mod statements;
mod status;
mod transaction;
mod upkeep;

pub use self::builder::ConnectionPoolBuilder;
pub use self::config::PoolConfig;
pub(crate) use self::connection::Hindrance;
pub use self::connection::{Connection, Rows};
pub(crate) use self::database::LaneClaim;
pub use self::database::{ConnectionPool, PooledConnection};
pub use self::failure::{AcquireError, StillOpen};
pub use self::forensics::{AcquireTimeout, HolderReport, Stage, Verdict};
pub use self::generic::Pool;
pub use self::guard::Pooled;
pub use self::hooks::{HookError, HookFuture, Hooks};
pub use self::manage::{Activity, Manage};
pub use self::row::{FromValue, Row};
pub use self::status::Status;
pub use self::transaction::{Behavior, Snapshot, Transaction};

#[cfg(feature = "harness")]
pub(crate) use self::builder::PRAGMAS;
