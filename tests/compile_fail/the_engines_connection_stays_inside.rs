//! A guard is not the engine's connection, whose clones would outlive the loan.

fn main() {}

fn borrowed(guard: &poolproof::PooledConnection) -> &turso::Connection {
    guard
}

fn taken(guard: poolproof::PooledConnection) {
    let _ = guard.guard;
}
