//! What a scenario on the make-believe server says.

use std::pin::Pin;
use std::time::Duration;

use poolproof::PoolConfig;

use super::world::World;
use crate::server::{Outcome, Server};

/// Gives what it holds in the end, if anything.
pub type Operation = Pin<Box<dyn Future<Output = Option<Outcome>>>>;

/// Where the connection that the operation is to have is when it begins. All the others are in use if there is a crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Idle,
    /// It is yet to be opened.
    Empty,
    /// In use, as all are, whether there is a crowd or not.
    Full,
}

/// What others do while the operation waits.
#[derive(Clone, Copy, Debug)]
pub enum Meanwhile {
    /// One of them gives a connection back.
    Release,
    /// One of them gives a connection back that cannot be used any more.
    ReleaseBroken,
    /// The oldest waiter before it gives up, if there is one.
    Leave,
    /// There may be one more connection.
    Grow,
    Pass(Duration),
}

pub struct Scenario {
    pub name: &'static str,
    /// How many polls it takes at least, so that the sweep cannot become empty, and at most.
    pub polls: (usize, usize),
    pub start: Start,
    pub hooks: bool,
    pub config: fn() -> PoolConfig,
    /// What the calls into user code do once it begins.
    pub script: fn(&Server),
    pub operation: fn(&World) -> Operation,
    pub meanwhile: &'static [Meanwhile],
    /// Between any two steps the pool's own task runs.
    pub background: bool,
}
