//! The harness and its command line: stress runs, kills, the proof and the simulated world, each with what must fail it.

mod affected_engine;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod kill;
mod prove;
mod sim;
mod sim_cli;
mod stress;
