//! The writer's promises: one write after the other, all or nothing, whoever leaves, panics or closes meanwhile.

#[path = "writer/batches.rs"]
mod batches;
#[path = "writer/broken.rs"]
mod broken;
#[path = "writer/claims.rs"]
mod claims;
#[path = "writer/close.rs"]
mod close;
#[path = "writer/deadlines.rs"]
mod deadlines;
#[path = "writer/failing.rs"]
mod failing;
#[path = "writer/late.rs"]
mod late;
#[path = "writer/leaving.rs"]
mod leaving;
#[path = "writer/messages.rs"]
mod messages;
#[path = "writer/order.rs"]
mod order;
#[path = "writer/outcomes.rs"]
mod outcomes;
#[path = "writer/panics.rs"]
mod panics;
#[path = "writer/priorities.rs"]
mod priorities;
#[path = "writer/read_after.rs"]
mod read_after;
#[path = "writer/reads.rs"]
mod reads;
#[path = "writer/retry.rs"]
mod retry;
#[path = "writer/room.rs"]
mod room;
#[path = "writer/statements.rs"]
mod statements;
#[path = "writer/world.rs"]
mod world;
