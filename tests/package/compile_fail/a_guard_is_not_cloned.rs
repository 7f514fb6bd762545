//! Two users of one connection: what one begins, the other commits.

fn main() {}

fn two_users(guard: poolproof::PooledConnection) -> [poolproof::PooledConnection; 2] {
    [guard.clone(), guard] //~ E0599
}
