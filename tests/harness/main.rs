//! The harness and its command line: stress runs, kills and the simulated world, each with what must fail it.

mod cli;
#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod isolation;
mod judges;
mod kill;
mod sim;
mod sim_cli;
mod statements;
mod stress;
