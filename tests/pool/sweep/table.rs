//! What is swept of a pool of any kind of connection.

use std::time::Duration;

use poolproof::PoolConfig;

use super::scenario::{Meanwhile, Operation, Scenario, Start};
use super::world::{MAX, World};
use crate::server::{Call, Does, Server, yield_once};

const SECOND: Duration = Duration::from_secs(1);

/// Everything else is said by a scenario where it differs.
pub const GET: Scenario = Scenario {
    name: "get",
    polls: (1, 1),
    start: Start::Idle,
    hooks: false,
    config: PoolConfig::default,
    script: |_| {},
    operation: get,
    meanwhile: &[],
    background: false,
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "get: an idle connection", ..GET },
    Scenario {
        name: "get: an empty slot, and a connect that takes its time",
        polls: (4, 4),
        start: Start::Empty,
        script: |server| yielding(server, &[(Call::Connect, 3)]),
        ..GET
    },
    Scenario {
        name: "get: a new connection, and hooks that take their time",
        polls: (6, 6),
        start: Start::Empty,
        hooks: true,
        script: |server| yielding(server, &[(Call::Connect, 1), (Call::AfterConnect, 2), (Call::BeforeAcquire, 2)]),
        ..GET
    },
    Scenario {
        name: "get: an idle connection, and a test and hooks that take their time",
        polls: (7, 7),
        hooks: true,
        config: tested,
        script: |server| yielding(server, &[(Call::AfterRelease, 2), (Call::Test, 2), (Call::BeforeAcquire, 2)]),
        ..GET
    },
    Scenario {
        name: "get: a connection that fails its test, and the next one",
        polls: (5, 5),
        hooks: true,
        config: tested,
        script: |server| {
            server.next(Call::Test, Does::Fail);
            yielding(server, &[(Call::AfterRelease, 1), (Call::Connect, 2), (Call::AfterConnect, 1)]);
        },
        ..GET
    },
    Scenario {
        name: "get: a connection that a hook turns down, and the next one",
        polls: (4, 4),
        hooks: true,
        script: |server| {
            server.next(Call::AfterRelease, Does::Fail);
            yielding(server, &[(Call::Connect, 1), (Call::AfterConnect, 1), (Call::BeforeAcquire, 1)]);
        },
        ..GET
    },
    Scenario {
        name: "get: a stale connection, and the next one",
        polls: (3, 3),
        config: || PoolConfig { idle_timeout: Some(SECOND), ..PoolConfig::default() },
        script: |server| yielding(server, &[(Call::Connect, 2)]),
        ..GET
    },
    Scenario {
        name: "get: a connection whose lifetime is over, and the next one",
        polls: (3, 3),
        config: || PoolConfig { max_lifetime: Some(SECOND), ..PoolConfig::default() },
        script: |server| yielding(server, &[(Call::Connect, 2)]),
        ..GET
    },
    Scenario {
        name: "get: a waiter that is handed a connection",
        polls: (2, 2),
        start: Start::Full,
        meanwhile: &[Meanwhile::Release, Meanwhile::Release],
        ..GET
    },
    Scenario {
        name: "get: a waiter behind another, who leaves with what it was handed",
        polls: (2, 2),
        start: Start::Full,
        meanwhile: &[Meanwhile::Release, Meanwhile::Leave],
        ..GET
    },
    Scenario {
        name: "get: a waiter that is handed an empty slot",
        polls: (4, 4),
        start: Start::Full,
        script: |server| yielding(server, &[(Call::Connect, 2)]),
        meanwhile: &[Meanwhile::Leave, Meanwhile::ReleaseBroken],
        ..GET
    },
    Scenario {
        name: "get: a waiter that is handed a connection, and hooks that take their time",
        polls: (5, 5),
        start: Start::Full,
        hooks: true,
        script: |server| yielding(server, &[(Call::AfterRelease, 1), (Call::BeforeAcquire, 2)]),
        meanwhile: &[Meanwhile::Leave, Meanwhile::Release],
        ..GET
    },
    Scenario {
        name: "get: a waiter that is admitted when the pool grows",
        polls: (3, 3),
        start: Start::Full,
        script: |server| yielding(server, &[(Call::Connect, 1)]),
        meanwhile: &[Meanwhile::Leave, Meanwhile::Grow],
        ..GET
    },
    Scenario {
        name: "get: a new connection, while the pool opens others in the background",
        polls: (4, 4),
        start: Start::Empty,
        hooks: true,
        config: || PoolConfig { min_idle: MAX, ..PoolConfig::default() },
        script: |server| yielding(server, &[(Call::Connect, 3), (Call::Connect, 3)]),
        background: true,
        ..GET
    },
    Scenario { name: "try_get: an idle connection", operation: try_get, ..GET },
    Scenario { name: "try_get: nothing", start: Start::Full, operation: try_get, ..GET },
    Scenario {
        name: "try_get: a new connection, and hooks that take their time",
        polls: (6, 6),
        start: Start::Empty,
        hooks: true,
        script: |server| yielding(server, &[(Call::Connect, 1), (Call::AfterConnect, 2), (Call::BeforeAcquire, 2)]),
        operation: try_get,
        ..GET
    },
    Scenario { name: "a user at work", polls: (3, 3), operation: use_it, ..GET },
    Scenario { name: "a user whose connection breaks", polls: (3, 3), operation: break_it, ..GET },
    Scenario { name: "retain", polls: (3, 3), operation: retain, ..GET },
    Scenario { name: "close: what is idle", polls: (1, 2), operation: close, meanwhile: &RELEASE_ALL, ..GET },
    Scenario {
        name: "close: what is in use",
        polls: (2, 3),
        start: Start::Full,
        operation: close,
        meanwhile: &RELEASE_ALL,
        ..GET
    },
    Scenario {
        name: "close_within: in time",
        polls: (2, 3),
        start: Start::Full,
        operation: close_within,
        meanwhile: &RELEASE_ALL,
        ..GET
    },
    Scenario {
        name: "close_within: too late",
        polls: (2, 2),
        start: Start::Full,
        operation: close_within,
        meanwhile: &[Meanwhile::Release, Meanwhile::Pass(Duration::from_secs(11))],
        ..GET
    },
];

const RELEASE_ALL: [Meanwhile; 2] = [Meanwhile::Release, Meanwhile::Release];

/// Each of the calls suspends its caller so often: once more for a pool that polls twice before it looks at the clock.
fn yielding(server: &Server, calls: &[(Call, usize)]) {
    calls.iter().for_each(|(call, times)| server.next(*call, Does::Yield(*times + 1)));
}

fn tested() -> PoolConfig {
    PoolConfig { test_after: Some(Duration::ZERO), ..PoolConfig::default() }
}

fn get(world: &World) -> Operation {
    let pool = world.pool.clone();
    Box::pin(async move { Some(pool.get().await) })
}

fn try_get(world: &World) -> Operation {
    let pool = world.pool.clone();
    Box::pin(async move { pool.try_get().await.transpose() })
}

fn use_it(world: &World) -> Operation {
    let (pool, server) = (world.pool.clone(), world.server.clone());
    Box::pin(async move {
        let guard = match pool.get().await {
            Ok(guard) => guard,
            error => return Some(error),
        };
        for _ in 0..2 {
            server.called(Call::User);
            yield_once().await;
        }
        drop(guard);
        None
    })
}

fn break_it(world: &World) -> Operation {
    let (pool, server) = (world.pool.clone(), world.server.clone());
    Box::pin(async move {
        let guard = match pool.get().await {
            Ok(guard) => guard,
            error => return Some(error),
        };
        yield_once().await;
        guard.broken.store(true, std::sync::atomic::Ordering::SeqCst);
        yield_once().await;
        server.called(Call::User);
        drop(guard);
        None
    })
}

/// Twice, so that its closure is asked about what was kept as well.
fn retain(world: &World) -> Operation {
    let (pool, server) = (world.pool.clone(), world.server.clone());
    Box::pin(async move {
        for keeps in [true, false] {
            pool.retain(|_| {
                server.called(Call::User);
                keeps
            });
            yield_once().await;
        }
        None
    })
}

fn close(world: &World) -> Operation {
    let pool = world.pool.clone();
    Box::pin(async move {
        pool.close().await;
        None
    })
}

fn close_within(world: &World) -> Operation {
    let pool = world.pool.clone();
    Box::pin(async move {
        // Whether it was in time is tests/pool/lifecycle.rs's question.
        drop(pool.close_within(Duration::from_secs(10)).await);
        None
    })
}
