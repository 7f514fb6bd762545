//! What is real and gets into a world, or never lets it go on: each is told in one clear line.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poolproof::harness::sim::{Found, Sim, World};
use poolproof::{ConnectionPool, Error, PooledDatabaseWriter};

/// Which body a child is to run.
const BODY: &str = "POOLPROOF_TEST_BODY";

/// The first seed that fails.
fn found<E: std::fmt::Display>(check: impl AsyncFn(World) -> Result<(), E> + Sync) -> Found {
    let mut report = Sim::new().seeds(0..20).run(check);
    assert!(!report.found.is_empty(), "no seed fails");
    report.found.remove(0)
}

/// What a panic says.
fn said(work: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(work)).expect_err("it does not panic");
    payload.downcast::<String>().map_or_else(|payload| (*payload.downcast::<&str>().unwrap()).to_owned(), |text| *text)
}

/// A task that never ends its poll, at seed 3.
async fn spins(world: World) -> Result<(), String> {
    let seed = world.seed();
    let inner = world.clone();
    let client = world.spawn("client-1", async move {
        inner.note(format!("begins {seed}"));
        let began = tokio::time::Instant::now();
        // The world's clock does not move inside a poll.
        while seed == 3 && began.elapsed() < Duration::from_millis(1) {}
    });
    client.await.map_err(|gone| gone.to_string())
}

/// It fails, and the runs that are to make that smaller spin.
async fn fails_then_spins(_: World) -> Result<(), String> {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    while HAS_FAILED.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    HAS_FAILED.store(true, Ordering::Relaxed);
    Err("it fails: once".to_owned())
}

#[test]
#[ignore = "the body of other tests"]
fn a_child() {
    let sim = Sim::new().seeds(0..20).poll_limit(Duration::from_secs(1));
    match std::env::var(BODY).unwrap().as_str() {
        "spins" => sim.check(spins),
        "fails, then spins" => sim.check(fails_then_spins),
        "spins in tokio::spawn" => sim.check(async |world: World| {
            tokio::spawn(async { spin() });
            world.sleep(Duration::from_millis(1)).await;
            Ok::<_, String>(())
        }),
        "spins as it is dropped" => sim.check(async |world: World| {
            drop(world.spawn("client-1", async {
                let _spins = Spins;
                std::future::pending::<()>().await;
            }));
            world.sleep(Duration::from_millis(1)).await;
            Ok::<_, String>(())
        }),
        "leaves a thread" => sim.check(async |_: World| {
            drop(tokio::task::spawn_blocking(spin));
            Ok::<_, String>(())
        }),
        "real time" => sim.check(async |_: World| {
            tokio::time::resume();
            std::future::pending::<Result<(), String>>().await
        }),
        other => panic!("{other:?} is no body"),
    }
}

fn child(body: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sim::outside::a_child", "--include-ignored", "--test-threads", "1"]).env(BODY, body);
    command.output().unwrap()
}

fn spin() {
    loop {
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Spins;

impl Drop for Spins {
    fn drop(&mut self) {
        spin();
    }
}

#[test]
fn whatever_else_keeps_a_world_from_its_end_is_told() {
    for (body, told) in [
        ("spins in tokio::spawn", "no task of the world has been polled"),
        ("spins as it is dropped", "client-1, started at "),
        ("leaves a thread", "no task of the world has been polled"),
        ("real time", "no task of the world has been polled"),
    ] {
        let Output { status, stderr, .. } = child(body);
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(101), "{body}: {stderr}");
        assert!(stderr.contains("seed 0: ") && stderr.contains(told), "{body}: {stderr}");
    }
}

#[test]
fn a_poll_that_does_not_end_is_told_with_its_seed_task_and_place_and_ends_the_process() {
    let Output { status, stderr, .. } = child("spins");
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(101), "{stderr}");
    for part in
        ["seed 3: client-1, started at ", "outside.rs:", "has been in one poll for", "\"begins 3\"", "POOLPROOF_SEED=3"]
    {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
}

#[test]
fn the_seed_that_failed_is_told_before_it_is_made_smaller() {
    let Output { status, stderr, .. } = child("fails, then spins");
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(101), "{stderr}");
    let fails = stderr.find("seed 0 fails: the check failed: it fails: once (making it smaller, for 30s at most)");
    let spins = stderr.find("seed 0: main has been in one poll");
    assert!(fails.is_some() && fails < spins, "{stderr}");
}

#[test]
fn a_panic_in_a_task_of_the_runtime_fails_the_seed() {
    let spawns = async |_: World| {
        let task = tokio::spawn(async { panic!("in the background") });
        // Nobody looks at what became of it.
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
        Ok::<_, String>(())
    };
    let failure = found(spawns).failure;
    assert!(failure.starts_with("a panic: in the background at ") && failure.contains("tokio::spawn"), "{failure}");
    let lets = async |world: World| {
        world.lets_panics_be_caught();
        spawns(world).await
    };
    assert!(Sim::new().seeds(0..3).run(lets).found.is_empty());
}

#[tokio::test]
async fn a_simulation_inside_a_runtime_is_refused_in_one_line() {
    let said = said(|| Sim::new().seeds(0..1).check(async |_: World| Ok::<_, String>(())));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("#[tokio::test]"), "{said}");
}

#[test]
fn a_real_file_and_a_real_writer_are_refused_in_a_world_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let failure = found(async |_: World| ConnectionPool::open(&path).await.map(drop)).failure;
    assert_eq!(
        failure,
        "the check failed: path names a real file, in a simulated world: open it by World::open or World::pool"
    );
    assert!(!path.exists());
    let failure =
        found(async |world: World| PooledDatabaseWriter::new(world.pool("t.db").build().await?).await.map(drop));
    assert!(failure.failure.contains("open the writer by World::open or World::writer"), "{}", failure.failure);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { PooledDatabaseWriter::open(&path).await.unwrap().close().await });
}

#[test]
fn a_real_thread_that_wakes_a_task_is_told() {
    let failure = found(async |_: World| tokio::task::spawn_blocking(|| ()).await).failure;
    assert!(failure.starts_with("not simulated: main was woken by the thread "), "{failure}");
}

/// Thirty times one of two, by chance: no two runs are the same.
async fn selects(world: &World) -> u32 {
    let mut first = 0;
    for _ in 0..30 {
        let is_first = tokio::select! {
            () = std::future::ready(()) => true,
            () = std::future::ready(()) => false,
        };
        world.note(format!("takes the first: {is_first}"));
        first += u32::from(is_first);
    }
    first
}

#[test]
fn a_seed_that_is_another_run_each_time_says_where_it_parts() {
    let found = found(async |world: World| {
        let first = selects(&world).await;
        Err::<(), _>(format!("it always fails: {first}"))
    });
    assert!(found.leaks && found.fails_again, "{found}");
    let text = found.to_string();
    for part in ["was another run", "Two runs of it part after", "main takes the first: ", "outside.rs:", "`biased`"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn that_a_seed_repeats_a_failure_is_said_only_if_it_was_seen_to() {
    let once = AtomicBool::new(true);
    let fails_once = async |_: World| match once.swap(false, Ordering::Relaxed) {
        true => Err("the first time"),
        false => Ok(()),
    };
    let told = said(|| Sim::new().seeds(0..1).check(fails_once));
    assert!(told.contains("did not fail like this") && !told.contains("\nrepeat: "), "{told}");
    assert!(told.contains("alone does not repeat it"), "{told}");
    let always = said(|| Sim::new().seeds(0..1).check(async |_: World| Err::<(), _>("each time")));
    assert!(!always.contains("something beside the seed") && always.contains("\nrepeat: POOLPROOF_SEED=0"), "{always}");
}

#[test]
fn sql_that_asks_the_real_clock_is_named() {
    let found = found(async |world: World| {
        let db = world.open("t.db").await?;
        db.execute("CREATE TABLE t (at TEXT)", ()).await?;
        db.execute("INSERT INTO t VALUES (CURRENT_TIMESTAMP)", ()).await?;
        db.execute_batch("DELETE FROM t WHERE at < datetime('now')").await?;
        Err::<(), _>(Error::Closed)
    });
    let text = found.to_string();
    for part in ["CURRENT_TIMESTAMP in \"INSERT INTO t", "datetime in \"DELETE FROM t"] {
        assert!(text.contains(&format!("SQL asks the real world: {part}")), "{part:?} is not in {text}");
    }
}
