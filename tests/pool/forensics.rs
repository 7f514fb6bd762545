//! Who holds my connection, and why did I get none: what an acquire that runs out of time says.
//!
//! The clock is paused, so a time-out takes no time. Each verdict has a test, and each thing that a report says of a holder;
//! `status` looks at a pool at work.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use poolproof::{
    AcquireError, AcquireTimeout, Behavior, Connection, ConnectionPool, Error, HolderReport, Hooks, Pool, PoolConfig,
    PooledConnection, PooledDatabaseWriter, Stage, Verdict,
};
use tempfile::TempDir;
use tokio_test::task;
use tokio_test::{assert_pending, assert_ready_err};

mod status;

use crate::server::{self, Call, Does};

const LIMIT: Duration = Duration::from_secs(5);

/// A pool whose statements wait for the write lock, as long as they are polled.
async fn pool(max: usize) -> (ConnectionPool, TempDir) {
    let patient = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA busy_timeout = 60000").await?) })
    });
    let folder = tempfile::tempdir().unwrap();
    let builder = ConnectionPool::builder(folder.path().join("t.db")).hooks(patient);
    let pool = builder.max_connections(max).acquire_timeout(LIMIT).build().await.unwrap();
    pool.get().await.unwrap().execute("CREATE TABLE t (x)", ()).await.unwrap();
    (pool, folder)
}

/// A pool of make-believe connections.
fn server_pool(max_connections: usize) -> (Pool<server::Manager>, Arc<server::Server>) {
    server::pool(PoolConfig { max_connections, acquire_timeout: LIMIT, ..PoolConfig::default() })
}

/// Asks in a task of its own, so that it is not the holder that asks.
async fn out_of_time(pool: &ConnectionPool) -> AcquireTimeout {
    let pool = pool.clone();
    let asking = tokio::spawn(async move { timed_out(pool.get().await) });
    asking.await.unwrap()
}

fn timed_out(outcome: Result<PooledConnection, Error>) -> AcquireTimeout {
    match outcome {
        Err(Error::AcquireTimeout(timeout)) => *timeout,
        other => panic!("{other:?}"),
    }
}

fn timed_out_of(outcome: server::Outcome) -> AcquireTimeout {
    match outcome {
        Err(AcquireError::Timeout(timeout)) => *timeout,
        other => panic!("{other:?}"),
    }
}

/// Polls once; it has not come to its end.
fn begin(future: impl Future) {
    assert!(pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

fn only(holders: &[HolderReport]) -> &HolderReport {
    let [holder] = holders else { panic!("{holders:?}") };
    holder
}

fn is_at(holder: &HolderReport, line: u32) -> bool {
    (holder.site.file(), holder.site.line()) == (file!(), line)
}

#[tokio::test(start_paused = true)]
async fn a_time_out_names_the_line_that_holds_the_connection() {
    let (pool, _folder) = pool(1).await;
    let (_held, line) = (pool.get().await.unwrap(), line!());
    assert_eq!(only(&pool.holders()).held_up, None, "nobody waits yet");
    let timeout = out_of_time(&pool).await;
    assert_eq!(timeout.verdict, Verdict::Leak, "{timeout}");
    assert!(is_at(only(&timeout.holders), line), "{timeout}");
    assert!(timeout.holders[0].held_up.unwrap() >= LIMIT, "it has held others up all the time: {timeout}");
    assert!(timeout.to_string().contains(&format!("{}:{line}", file!())), "{timeout}");
}

#[tokio::test(start_paused = true)]
async fn the_line_is_that_of_the_call_wherever_it_is_awaited_or_served() {
    let (pool, _server) = server_pool(1);
    let (getting, line) = (pool.get(), line!());
    let held = getting.await.unwrap();
    assert!(is_at(only(&pool.holders()), line), "opened");
    drop(held);
    let (getting, line) = (get_for_my_caller(&pool), line!());
    let held = getting.await.unwrap();
    assert!(is_at(only(&pool.holders()), line), "idle, and through a function that passes its caller on");
    let (mut waiting, line) = (task::spawn(pool.get()), line!());
    assert_pending!(waiting.poll());
    drop(held);
    assert!(waiting.is_woken() && is_at(only(&pool.holders()), line), "handed over");
}

#[track_caller]
fn get_for_my_caller(pool: &Pool<server::Manager>) -> impl Future<Output = server::Outcome> {
    pool.get()
}

#[tokio::test]
async fn a_read_is_held_at_the_line_that_called_it() {
    let (pool, _folder) = pool(2).await;
    let db = PooledDatabaseWriter::new(pool.clone()).await.unwrap();
    let (holders, line) = (db.read(async move |_| Ok::<_, Error>(pool.holders())), line!());
    let holders = holders.await.unwrap();
    assert!(holders.iter().any(|holder| is_at(holder, line)), "{holders:?}");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_shows_the_last_statement_and_whether_it_runs_and_a_transaction_is_open() {
    let (pool, _folder) = pool(1).await;
    let mut held = pool.get().await.unwrap();
    let mut transaction = held.begin(Behavior::Immediate).await.unwrap();
    transaction.execute("INSERT INTO t VALUES (?1)", (1,)).await.unwrap();
    let timeout = out_of_time(&pool).await;
    let holder = only(&timeout.holders);
    assert_eq!(holder.last_sql.as_deref(), Some("INSERT INTO t VALUES (?1)"));
    assert_eq!((holder.in_transaction, holder.in_flight, timeout.verdict), (true, false, Verdict::Leak));
    assert!(timeout.to_string().contains(", in a transaction, last ran \"INSERT INTO t VALUES (?1)\""), "{timeout}");
    let mut rows = transaction.query("SELECT x FROM t", ()).await.unwrap();
    rows.next().await.unwrap();
    let timeout = out_of_time(&pool).await;
    assert_eq!(timeout.holders[0].last_sql.as_deref(), Some("SELECT x FROM t"));
    assert_eq!(
        (timeout.holders[0].in_flight, timeout.verdict),
        (false, Verdict::Leak),
        "between two rows nothing runs"
    );
}

#[tokio::test]
async fn a_transaction_is_shown_from_its_begin_to_its_end_however_it_begins_and_ends() {
    let (pool, _folder) = pool(1).await;
    let mut held = pool.get().await.unwrap();
    let shown = || only(&pool.holders()).in_transaction;
    held.execute("CREATE TABLE u (x UNIQUE)", ()).await.unwrap();
    assert!(!shown());
    for (begin, end) in [("BEGIN", "COMMIT"), ("SAVEPOINT s", "RELEASE s"), ("BEGIN IMMEDIATE", "ROLLBACK")] {
        held.execute(begin, ()).await.unwrap();
        assert!(shown(), "{begin}");
        held.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        assert!(shown());
        held.execute(end, ()).await.unwrap();
        assert!(!shown(), "{end}");
    }
    held.run("BEGIN").await.unwrap();
    assert!(shown(), "as a query");
    held.execute_batch("INSERT INTO u VALUES (1); INSERT INTO t VALUES (1)").await.unwrap();
    assert!(held.execute("INSERT OR ROLLBACK INTO u VALUES (1)", ()).await.is_err());
    assert!(!shown(), "a conflict rolled it back");
    held.execute_batch("BEGIN; INSERT INTO u VALUES (1)").await.unwrap();
    assert!(shown(), "in a batch");
    held.execute_batch("COMMIT").await.unwrap();
    drop(held.begin(Behavior::Deferred).await.unwrap());
    assert!(shown(), "dropped, but not rolled back yet");
    held.run("SELECT 1").await.unwrap();
    assert!(!shown());
}

const SECRET: &str = "hunter2";

/// In the text of a statement everybody can read it; as a parameter nobody may.
#[tokio::test(start_paused = true)]
async fn no_parameter_is_in_anything_that_is_said() {
    let (pool, _folder) = pool(1).await;
    let mut held = pool.get().await.unwrap();
    let mut said = Vec::new();
    for way in 0..5 {
        let insert = "INSERT INTO t VALUES (?1)";
        match way {
            0 => drop(held.execute(insert, (SECRET,)).await.unwrap()),
            1 => drop(held.query("SELECT x FROM t WHERE x = :secret", ((":secret", SECRET),)).await.unwrap()),
            2 => drop(held.execute(insert, (SECRET, SECRET)).await.unwrap_err()),
            3 => {
                let mut transaction = held.begin(Behavior::Immediate).await.unwrap();
                transaction.execute(insert, [SECRET]).await.unwrap();
                transaction.commit().await.unwrap();
            }
            _ => {
                let mut rows = held.query("SELECT x, ?1 FROM t", vec![SECRET]).await.unwrap();
                assert_eq!(rows.next().await.unwrap().unwrap().get::<String>(1).unwrap(), SECRET);
                said.push(format!("{rows:?}"));
            }
        }
        let error = Error::AcquireTimeout(Box::new(out_of_time(&pool).await));
        said.push(format!("{error} {error:?} {pool:?} {held:?} {:?}", pool.holders()));
    }
    let still_open = pool.close_within(LIMIT).await.unwrap_err();
    said.push(format!("{still_open} {still_open:?}"));
    for text in said {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_one_line_of_bounded_length_whatever_was_run() {
    let (pool, _folder) = pool(5).await;
    let mut held = Vec::new();
    let long = "\u{fc}".repeat(500);
    for sql in ["SELECT\n1,\r\n2", &format!("SELECT '{long}'"), &format!("SELECT \"x'\u{85}\u{2028}'\"{long}")] {
        let mut user = pool.get().await.unwrap();
        let _ = user.run(sql).await;
        held.push(user);
    }
    held.push(pool.get().await.unwrap());
    held.push(pool.get().await.unwrap());
    let timeout = out_of_time(&pool).await;
    let shown: Vec<_> = timeout.holders.iter().filter_map(|holder| holder.last_sql.as_deref()).collect();
    assert_eq!(shown[0], "SELECT\n1,\r\n2", "the whole of a short one");
    let (start, dots) = shown[1].split_at(shown[1].len() - 3);
    assert!(dots == "..." && start.chars().count() == 120 && start.starts_with("SELECT '\u{fc}"), "{}", shown[1]);
    let text = timeout.to_string();
    assert!(text.starts_with("no connection within 5.0s: a leak: nobody gave one back"), "{text}");
    assert!(text.contains("(5 of 5 in use, 0 waiting, 0 before this; held at tests/pool/forensics.rs:"), "{text}");
    assert!(text.matches("held at").count() == 3 && text.ends_with("; and 2 more)"), "{text}");
    assert!(!text.contains(|letter: char| letter.is_control() || letter == '\u{2028}'), "{text:?}");
    assert!(text.chars().count() < 800, "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_itself_is_told_so() {
    let (pool, _folder) = pool(1).await;
    let asking = tokio::spawn(async move {
        let _held = pool.get().await.unwrap();
        timed_out(pool.get().await)
    });
    let timeout = asking.await.unwrap();
    assert_eq!(timeout.verdict, Verdict::HoldsOneItself, "{timeout}");
    assert!(timeout.to_string().contains("you hold one yourself"), "{timeout}");
    assert!(timeout.to_string().contains(", this task"), "{timeout}");
}

/// Real time: a paused clock does not wait for the threads of reads.
#[tokio::test]
async fn a_read_that_waits_for_itself_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let builder = ConnectionPool::builder(folder.path().join("t.db")).max_connections(2);
    let pool = builder.acquire_timeout(Duration::from_millis(50)).build().await.unwrap();
    let db = PooledDatabaseWriter::new(pool).await.unwrap();
    let inner = db.clone();
    let asking =
        tokio::spawn(async move { db.read(async move |_| inner.read(async |_| Ok::<_, Error>(())).await).await });
    let Err(Error::AcquireTimeout(timeout)) = asking.await.unwrap() else { panic!("it should run out of time") };
    assert_eq!(timeout.verdict, Verdict::HoldsOneItself, "{timeout}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_holder_is_told_from_a_leak() {
    let (pool, _folder) = pool(2).await;
    let (mut slow, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let writing = other.begin(Behavior::Immediate).await.unwrap();
    let mut running = Box::pin(slow.execute("INSERT INTO t VALUES (?1)", (1,)));
    begin(running.as_mut());
    let timeout = out_of_time(&pool).await;
    assert_eq!((timeout.stage, timeout.verdict), (Stage::Waiting, Verdict::SlowHolder), "{timeout}");
    assert!(timeout.to_string().contains("a slow holder: nobody gave one back"), "{timeout}");
    assert!(timeout.to_string().contains(", running \"INSERT INTO t VALUES (?1)\""), "{timeout}");
    writing.rollback().await.unwrap();
    running.await.unwrap();
    let timeout = out_of_time(&pool).await;
    assert_eq!(timeout.verdict, Verdict::Leak, "the statement is over: {timeout}");
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_statement_was_cancelled_runs_nothing() {
    let (pool, _folder) = pool(2).await;
    let (mut user, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let _writing = other.begin(Behavior::Immediate).await.unwrap();
    begin(user.execute("INSERT INTO t VALUES (?1)", (1,)));
    let timeout = out_of_time(&pool).await;
    assert!(!timeout.holders.iter().any(|holder| holder.in_flight), "{timeout}");
    assert_eq!(timeout.verdict, Verdict::Leak, "{timeout}");
}

/// The slot is there; what takes too long is the connect, a hook of a new connection, or one of an idle connection.
#[tokio::test(start_paused = true)]
async fn a_slow_connect_is_told_from_a_wait() {
    for (call, idle) in [(Call::Connect, false), (Call::AfterConnect, false), (Call::BeforeAcquire, true)] {
        let config =
            PoolConfig { max_connections: 2, acquire_timeout: LIMIT, hook_timeout: 2 * LIMIT, ..PoolConfig::default() };
        let (pool, server) = server::pool_with_hooks(config);
        let asking = tokio::spawn(async move {
            // It does not wait for that one.
            let _held = pool.get().await.unwrap();
            if idle {
                drop(pool.get().await.unwrap());
                // For the one that replaces it there is no time left.
                server.next(Call::Connect, Does::Hang);
            }
            server.next(call, Does::Hang);
            timed_out_of(pool.get().await)
        });
        let timeout = asking.await.unwrap();
        assert_eq!((timeout.stage, timeout.verdict), (Stage::Connecting, Verdict::SlowConnect), "{call:?}: {timeout}");
        assert!(timeout.to_string().contains("opening a connection took too long"), "{timeout}");
        assert!(timeout.waited >= LIMIT && timeout.status.waiting == 0, "{call:?}: {timeout}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_too_small_is_told_from_a_leak() {
    let (pool, _folder) = pool(1).await;
    let held = pool.get().await.unwrap();
    let mut first = task::spawn(pool.get());
    assert_pending!(first.poll());
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { timed_out(pool.get().await) }
    });
    while pool.status().waiting < 2 {
        tokio::task::yield_now().await;
    }
    // The first in the queue is served while the second waits.
    drop(held);
    let _served = first.await.unwrap();
    let timeout = second.await.unwrap();
    assert_eq!((timeout.verdict, timeout.place), (Verdict::TooSmall, 1), "{timeout}");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_says_how_many_waited_before_it_when_it_came() {
    let (pool, _server) = server_pool(1);
    let _held = pool.get().await.unwrap();
    let mut waiting = [(); 4].map(|()| task::spawn(pool.get()));
    waiting.iter_mut().for_each(|waiter| assert_pending!(waiter.poll()));
    tokio::time::advance(LIMIT + Duration::from_millis(1)).await;
    for waiter in [3, 1, 2, 0] {
        let timeout = timed_out_of(Err(assert_ready_err!(waiting[waiter].poll())));
        assert_eq!((timeout.place, timeout.status.waiting), (waiter, 0), "{timeout}");
        assert!(timeout.to_string().contains(&format!("0 waiting, {waiter} before this")), "{timeout}");
    }
}

/// Outside tasks, in the future of a `block_on` as `#[tokio::main]` makes one, the thread stands for the task.
#[test]
fn a_main_function_that_waits_for_itself_is_told_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (pool, _) = server_pool(1);
        let _held = pool.get().await.unwrap();
        assert_eq!(timed_out_of(pool.get().await).verdict, Verdict::HoldsOneItself);
        let asking = tokio::spawn(async move { timed_out_of(pool.get().await).verdict });
        assert_eq!(
            asking.await.unwrap(),
            Verdict::NotGivenBack,
            "a task is not its thread; this manager tells nothing"
        );
    });
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_others_open_for_too_long_is_no_leak() {
    let config =
        PoolConfig { max_connections: 1, wait_timeout: LIMIT / 2, acquire_timeout: LIMIT, ..PoolConfig::default() };
    let (pool, server) = server::pool(config);
    server.next(Call::Connect, Does::Hang);
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { timed_out_of(pool.get().await).verdict })
        })
        .collect();
    for task in asking {
        assert_eq!(task.await.unwrap(), Verdict::SlowConnect);
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_user_ran_is_not_said_of_the_next() {
    let (pool, _folder) = pool(1).await;
    pool.get().await.unwrap().run("SELECT 'secret'").await.unwrap();
    let held = pool.get().await.unwrap();
    assert_eq!(only(&out_of_time(&pool).await.holders).last_sql, None);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn the_writers_own_connection_is_not_accused() {
    let (pool, _folder) = pool(2).await;
    let db = PooledDatabaseWriter::new(pool.clone()).await.unwrap();
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    let held = pool.get().await.unwrap();
    let timeout = out_of_time(&pool).await;
    assert_eq!(timeout.verdict, Verdict::Leak, "{timeout}");
    assert_eq!(timeout.holders.iter().filter(|holder| holder.is_the_pool && holder.is_the_lane).count(), 1);
    assert!(timeout.to_string().contains("held by the writer's lane"), "{timeout}");
    drop(held);
}

/// A connection's own report is the manager's code, and so is its destructor: it may ask the pool, and it may panic.
#[test]
fn what_a_connection_says_of_itself_is_dropped_outside_the_lock() {
    use std::sync::mpsc;

    struct Says(Option<Pool<Talking>>);
    impl poolproof::Activity for Says {
        fn last_sql(&self) -> Option<String> {
            None
        }
        fn in_transaction(&self) -> bool {
            false
        }
        fn in_flight(&self) -> bool {
            false
        }
    }
    impl Drop for Says {
        fn drop(&mut self) {
            self.0.take().map(|pool| pool.status());
        }
    }

    #[derive(Clone, Default)]
    struct Talking(Arc<std::sync::OnceLock<Pool<Talking>>>);
    impl poolproof::Manage for Talking {
        type Connection = ();
        type Error = server::NobodyListens;
        async fn connect(&self) -> Result<(), server::NobodyListens> {
            Ok(())
        }
        fn is_reusable(&self, (): &mut ()) -> bool {
            false
        }
        fn activity(&self, (): &()) -> Option<Arc<dyn poolproof::Activity>> {
            Some(Arc::new(Says(self.0.get().cloned())))
        }
    }

    let manager = Talking::default();
    let pool = Pool::new(manager.clone(), PoolConfig::default()).unwrap();
    let _ = manager.0.set(pool.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let guard = runtime.block_on(pool.get()).unwrap();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        drop(guard);
        let _ = done.send(());
    });
    ended.recv_timeout(Duration::from_secs(20)).expect("giving it back waits for its own lock");
    assert_eq!(pool.status().open, 0);
}

/// Whoever had the connection before anybody waited has held others up since the first of them came, even if that one left.
#[tokio::test(start_paused = true)]
async fn a_holder_is_charged_from_the_first_who_waited() {
    let (pool, _) = server_pool(1);
    let _held = pool.get().await.unwrap();
    tokio::time::sleep(LIMIT).await;
    let mut gone = task::spawn(pool.get());
    assert_pending!(gone.poll());
    drop(gone);
    tokio::time::sleep(LIMIT / 5).await;
    let timeout = timed_out_of(pool.get().await);
    assert_eq!(only(&timeout.holders).held_up, Some(LIMIT + LIMIT / 5));
}

/// Whoever was handed it while others waited is charged from when the last of them had come, before that.
#[tokio::test(start_paused = true)]
async fn a_holder_that_was_handed_it_is_charged_from_the_last_who_came_before() {
    let (pool, _) = server_pool(1);
    let held = pool.get().await.unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| task::spawn(pool.get())).collect();
    for waiter in &mut waiters {
        assert_pending!(waiter.poll());
        tokio::time::sleep(LIMIT / 10).await;
    }
    drop(held);
    tokio::time::sleep(LIMIT).await;
    let timeout = timed_out_of(Err(assert_ready_err!(waiters[1].poll())));
    assert_eq!(only(&timeout.holders).held_up, Some(LIMIT + LIMIT / 10));
}
