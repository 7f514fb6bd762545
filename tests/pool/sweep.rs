//! Cancellation and panics at every point where they can come.
//!
//! Each scenario of the tables is an operation of the pool and what others do meanwhile. It is run again and again: the
//! first time its future is dropped before its first poll, then after that, and so on to its end; and again with a panic in
//! the first call into user code, in the second, and so on. Each time everybody else must be served, no slot may be lost,
//! and the pool must lend exactly as many connections as it may, and none may be alive once it is closed. A sweep that has
//! become empty fails, and so do pools and users that are broken on purpose (`controls`).

/// Says what is wrong, unless it holds.
macro_rules! ensure {
    ($holds:expr, $($wrong:tt)*) => {
        if !$holds {
            return Err(format!($($wrong)*));
        }
    };
}

mod controls;
mod cut;
mod drive;
mod engine;
mod engine_table;
mod file;
mod lane;
mod lane_table;
mod scenario;
mod table;
mod wakers;
mod world;

use std::collections::HashSet;

use crate::server::Call;
use poolproof::Mode;
// The polls of many cases are those of one poll of a test, of which tokio's budget would let go on only the first.
use tokio::task::coop::unconstrained;

#[tokio::test(start_paused = true)]
async fn an_operation_dropped_at_any_moment_costs_the_pool_nothing() {
    for scenario in table::SCENARIOS {
        let swept = unconstrained(drive::cancel(scenario)).await.unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{}: {:?} polls, {} cases", scenario.name, swept.polls, swept.cases);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_any_call_into_user_code_costs_the_pool_nothing() {
    let mut panicked = HashSet::new();
    for scenario in table::SCENARIOS {
        let swept = unconstrained(drive::panic(scenario)).await.unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{}: {} panics", scenario.name, swept.cases);
        assert!(swept.cases > 0, "{}: it calls no user code", scenario.name);
        panicked.extend(swept.panicked);
    }
    let asynchronous = [Call::Connect, Call::Test, Call::AfterConnect, Call::BeforeAcquire, Call::AfterRelease];
    for call in asynchronous.into_iter().chain([Call::IsReusable, Call::Drop, Call::User]) {
        assert!(panicked.contains(&(call, false)), "{call:?} never panicked");
        assert!(panicked.contains(&(call, true)) || !asynchronous.contains(&call), "{call:?} never panicked later");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_of_the_engine_that_ends_at_any_moment_leaves_all_or_nothing() {
    for scenario in engine_table::SCENARIOS {
        let swept = unconstrained(engine::sweep(scenario)).await.unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{}: {:?} polls, {} cases", scenario.name, swept.polls, swept.cases);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_of_the_writer_that_ends_at_any_moment_leaves_all_or_nothing() {
    for scenario in lane_table::SCENARIOS {
        let swept = unconstrained(lane::sweep(scenario, Mode::Wal)).await.unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{}: {} polls, {} cases, {} panics", scenario.name, swept.most_polls, swept.cases, swept.panics);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_of_a_writer_in_mvcc_mode_that_ends_at_any_moment_leaves_all_or_nothing() {
    for scenario in lane_table::SIDE_BY_SIDE {
        let swept = unconstrained(lane::sweep(scenario, Mode::Mvcc)).await.unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{}: {} polls, {} cases, {} panics", scenario.name, swept.most_polls, swept.cases, swept.panics);
    }
}
