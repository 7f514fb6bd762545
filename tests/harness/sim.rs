//! The simulated world: it finds what is broken, repeats it, makes it small, and leaves alone what is right.

mod clients;
mod company;
mod findings;
mod hunt;
mod leaks;
mod mutants;
mod outside;
mod readme;
mod schedules;
mod seeds;
mod workloads;
