//! The simulated world: it finds what is broken, repeats it, makes it small, and leaves alone what is right.

#[path = "sim/clients.rs"]
mod clients;
#[path = "sim/lost_update.rs"]
mod lost_update;
#[path = "sim/schedules.rs"]
mod schedules;
#[path = "sim/workloads.rs"]
mod workloads;
