//! Users and scenarios that are broken on purpose: the checks must say so, and say what.

use std::mem;

use poolproof::{Behavior, Mode, PoolConfig};
use tokio_test::task;

use super::drive;
use super::engine;
use super::engine_table::{MANY, ONE, WORK};
use super::lane;
use super::lane_table::{TWO, WRITE};
use super::scenario::{Operation, Scenario, Start};
use super::table::{GET, SCENARIOS};
use super::world::World;
use crate::server::{Call, Does, yield_once};

fn world() -> World {
    World::full(PoolConfig::default(), false)
}

fn says(found: Result<impl std::fmt::Debug, String>, what: &str) {
    let found = found.expect_err(what);
    assert!(found.contains(what), "not {what:?} but: {found}");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_forgotten_is_a_lost_slot() {
    let mut world = world();
    mem::forget(world.held.pop());
    says(world.is_accounted_for(), "slots are lost: 1 are known");
    says(world.let_go(), "slots are lost: nobody holds anything");
    says(world.serves_and_closes().await, "only 1 of 2 can be had");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_forgotten_takes_a_slot_with_it() {
    let mut world = world();
    world.queue().unwrap();
    mem::forget(world.waiters.pop());
    says(world.let_go(), "slots are lost");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_nobody_wakes_is_never_served() {
    let mut world = world();
    world.queue().unwrap();
    let nobody = std::task::Waker::noop();
    // From now on another waker is known to the pool.
    let waiting = world.waiters[0].as_mut();
    assert!(waiting.poll(&mut std::task::Context::from_waker(nobody)).is_pending());
    says(world.let_go(), "1 waiters are never served");
}

#[tokio::test(start_paused = true)]
async fn a_connection_outside_the_pool_is_one_too_many() {
    let mut world = world();
    let outside = world.held.pop().unwrap().detach();
    says(world.invariants(), "2 are alive in the slots");
    says(world.let_go(), "2 are alive in the slots");
    world.held.clear();
    says(world.serves_and_closes().await, "3 are alive of 2");
    drop(outside);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_outlives_the_close_is_found() {
    let mut world = world();
    let outside = world.held.pop().unwrap().detach();
    world.held.clear();
    world.pool.close().await;
    says(world.serves_and_closes().await, "after the close 1 are alive");
    drop(outside);
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_still_out_lets_no_close_resolve() {
    let mut world = world();
    world.pool.resize(3).unwrap();
    let mut close = task::spawn(world.pool.close());
    assert!(close.poll().is_pending());
    drop(close);
    says(world.serves_and_closes().await, "the close never resolves");
}

/// Its guard is out of the reach of any destructor from its second poll to its third.
fn forgets_for_a_while(world: &World) -> Operation {
    let (pool, server) = (world.pool.clone(), world.server.clone());
    Box::pin(async move {
        yield_once().await;
        let guard = mem::ManuallyDrop::new(pool.get().await);
        server.called(Call::User);
        yield_once().await;
        Some(mem::ManuallyDrop::into_inner(guard))
    })
}

#[tokio::test(start_paused = true)]
async fn a_sweep_finds_the_one_moment_at_which_a_slot_is_lost() {
    let scenario = Scenario { polls: (3, 3), operation: forgets_for_a_while, ..GET };
    let found = drive::cancel(&scenario).await.unwrap_err();
    assert!(found.contains("slots are lost") && found.contains("moment: 2"), "{found}");
    let found = drive::panic(&scenario).await.unwrap_err();
    assert!(found.contains("slots are lost"), "{found}");
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_does_not_end_is_found() {
    let never = |_: &World| -> Operation { Box::pin(std::future::pending()) };
    says(drive::cancel(&Scenario { operation: never, ..GET }).await, "nobody wakes it");
    let forever = |_: &World| -> Operation {
        Box::pin(async {
            loop {
                yield_once().await;
            }
        })
    };
    says(drive::cancel(&Scenario { operation: forever, ..GET }).await, "100 steps");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_has_become_empty_is_found() {
    says(drive::cancel(&Scenario { polls: (3, 9), ..GET }).await, "1 polls, not 3 to 9");
    says(engine::sweep(&engine::Scenario { polls: (3, 9), ..WORK }).await, "1 polls, not 3 to 9");
    let several = SCENARIOS.iter().filter(|scenario| scenario.polls.0 > 1).count();
    assert!(several > SCENARIOS.len() / 2, "most scenarios have several polls, by their own word");
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_fails_is_found() {
    let scenario =
        Scenario { polls: (1, 9), start: Start::Empty, script: |server| server.next(Call::Connect, Does::Fail), ..GET };
    says(drive::cancel(&scenario).await, "it gives Some(Err(Connect(NobodyListens)))");
}

#[tokio::test(start_paused = true)]
async fn two_statements_without_a_transaction_are_found_torn() {
    let torn = engine::Scenario {
        name: "torn",
        polls: (2, 2),
        leaves: &[0, 301],
        operation: |hands| {
            Box::pin(async {
                hands.guard().execute(ONE, ()).await?;
                yield_once().await;
                hands.guard().execute(MANY, ()).await.map(drop)
            })
        },
        ..WORK
    };
    says(engine::sweep(&torn).await, "it is torn: it left 1 rows");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_forgotten_inside_its_transaction_keeps_the_lock() {
    let forgotten = engine::Scenario {
        name: "forgotten",
        operation: |hands| {
            Box::pin(async {
                mem::forget(hands.guard().begin(Behavior::Immediate).await?);
                mem::forget(hands.guard.take());
                Ok(())
            })
        },
        ..WORK
    };
    says(engine::sweep(&forgotten).await, "slots are lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_of_the_writer_that_has_become_empty_is_found() {
    says(lane::sweep(&lane::Scenario { polls: (2, 9), ..WRITE }, Mode::Wal).await, "1 polls, not 2 to 9");
    says(lane::sweep(&lane::Scenario { places: 1, ..WRITE }, Mode::Wal).await, "it does not panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writes_that_should_be_one_are_found_torn() {
    let torn = lane::Scenario {
        polls: (1, 9),
        leaves: 2,
        operation: |hands| {
            Box::pin(async move {
                hands.db.execute(ONE, ()).await?;
                yield_once().await;
                hands.db.execute(ONE, ()).await.map(drop)
            })
        },
        ..WRITE
    };
    says(lane::sweep(&torn, Mode::Wal).await, "it is torn: it left 1 rows of 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_acknowledged_and_missing_or_there_twice_is_found() {
    let missing = lane::Scenario { leaves: 2, ..WRITE };
    says(lane::sweep(&missing, Mode::Wal).await, "it succeeded, and left 0 rows of 2");
    let twice = lane::Scenario {
        polls: (1, 9),
        leaves: 2,
        operation: |hands| {
            Box::pin(async move {
                hands.db.execute(TWO, ()).await?;
                hands.db.execute(TWO, ()).await.map(drop)
            })
        },
        ..WRITE
    };
    says(lane::sweep(&twice, Mode::Wal).await, "4 rows of 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_goes_on_after_its_caller_was_refused_is_found() {
    let refused = lane::Scenario {
        leaves: 2,
        operation: |hands| {
            Box::pin(async move {
                hands.db.execute(TWO, ()).await?;
                Err(poolproof::Error::Closed)
            })
        },
        ..WRITE
    };
    says(lane::sweep(&refused, Mode::Wal).await, "it failed: the pool, or its writer, is closed");
}
