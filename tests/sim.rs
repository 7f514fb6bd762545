//! The simulated world: it finds what is broken, repeats it, makes it small, and leaves alone what is right.

#[path = "sim/clients.rs"]
mod clients;
#[path = "sim/hunt.rs"]
mod hunt;
#[path = "sim/mutants/mod.rs"]
mod mutants;
#[path = "sim/schedules.rs"]
mod schedules;
#[path = "sim/workloads.rs"]
mod workloads;
