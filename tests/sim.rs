//! The simulated world: it finds what is broken, repeats it, makes it small, and leaves alone what is right.

#[path = "sim/clients.rs"]
mod clients;
mod common;
#[path = "sim/company.rs"]
mod company;
#[path = "sim/findings.rs"]
mod findings;
#[path = "sim/hunt.rs"]
mod hunt;
#[path = "sim/leaks.rs"]
mod leaks;
#[path = "sim/mutants/mod.rs"]
mod mutants;
#[path = "sim/schedules.rs"]
mod schedules;
#[path = "sim/seeds.rs"]
mod seeds;
#[path = "sim/workloads.rs"]
mod workloads;
