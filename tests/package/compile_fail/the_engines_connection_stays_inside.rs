//! A guard is not the engine's connection, whose clones would outlive the loan.

fn main() {}

fn borrowed(guard: &poolproof::PooledConnection) -> &turso::Connection {
    guard //~ E0308
}

fn taken(guard: poolproof::PooledConnection) {
    let _ = guard.guard; //~ E0616
}
