//! The read cache: nothing that it gives is older than what anybody can have known before asking.
//!
//! Here are the ways in which an answer stops being right, one test each; `race` has readers against writers. Every test of the
//! first kind asks twice before the write, so that the answer comes from the cache, and says so.

use std::sync::Arc;
use std::time::Duration;

use poolproof::{
    Behavior, CacheStatus, CachedRows, Connection, ConnectionPool, Error, Hooks, IntoParams, PooledDatabaseWriter,
    Result, Snapshot, Value, WriterConfig,
};
use tempfile::TempDir;

mod race;

const MIB: usize = 1 << 20;

/// A writer on the pool with a cache of so many bytes.
async fn with_cache(pool: ConnectionPool, cache: usize) -> PooledDatabaseWriter {
    PooledDatabaseWriter::with_config(pool, WriterConfig { cache, ..WriterConfig::default() }).await.unwrap()
}

/// A writer with a cache, on a database that `schema` made.
async fn open(schema: &str) -> (PooledDatabaseWriter, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = with_cache(ConnectionPool::open(folder.path().join("t.db")).await.unwrap(), MIB).await;
    db.execute_batch(schema).await.unwrap();
    (db, folder)
}

const TWO: &str =
    "CREATE TABLE t (x INTEGER); CREATE TABLE u (y INTEGER); INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)";

async fn ask(db: &PooledDatabaseWriter, sql: &str, params: impl IntoParams) -> Arc<CachedRows> {
    db.query_cached(sql, params).await.unwrap()
}

/// The integers of a query's first column.
async fn integers(db: &PooledDatabaseWriter, sql: &str) -> Vec<i64> {
    ask(db, sql, ()).await.rows().iter().map(|row| row.get(0).unwrap()).collect()
}

fn cache(db: &PooledDatabaseWriter) -> CacheStatus {
    db.status().cache.expect("the cache is on")
}

/// Whether the query is answered from the cache.
async fn is_kept(db: &PooledDatabaseWriter, sql: &str) -> bool {
    let before = cache(db).hits;
    ask(db, sql, ()).await;
    cache(db).hits > before
}

/// Asks until the answer is kept.
async fn keep(db: &PooledDatabaseWriter, sql: &str) {
    ask(db, sql, ()).await;
    assert!(is_kept(db, sql).await, "{sql}");
}

const X: &str = "SELECT x FROM t ORDER BY x";
const Y: &str = "SELECT y FROM u ORDER BY y";

#[tokio::test]
async fn a_repeated_query_is_read_once_and_a_write_to_its_table_ends_that() {
    let (db, _folder) = open(TWO).await;
    keep(&db, X).await;
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(integers(&db, X).await, [1, 2]);
    assert_eq!(cache(&db).invalidated, 1);
}

#[tokio::test]
async fn a_write_to_another_table_costs_nothing() {
    let (db, _folder) = open(TWO).await;
    keep(&db, X).await;
    db.execute("UPDATE u SET y = y + (SELECT COUNT(*) FROM t)", ()).await.unwrap();
    db.write(async |tx| tx.execute("INSERT INTO u SELECT x FROM t", ()).await).await.unwrap();
    assert!(is_kept(&db, X).await);
    assert_eq!(integers(&db, Y).await, [1, 2]);
}

#[tokio::test]
async fn every_way_to_write_is_noticed() {
    for write in [
        "INSERT INTO t VALUES (7)",
        "INSERT OR REPLACE INTO t VALUES (7)",
        "REPLACE INTO main.t VALUES (7)",
        "WITH n AS (SELECT 7 AS x) INSERT INTO t SELECT x FROM n",
        "UPDATE t SET x = 7",
        "WITH n AS (SELECT 7) UPDATE \"T\" SET x = (SELECT * FROM n)",
        "UPDATE [t] SET x = 7 WHERE x = 1",
        "DELETE FROM `t`",
        "DROP TABLE t; CREATE TABLE t (x INTEGER)",
        "ALTER TABLE t RENAME TO gone; CREATE TABLE t (x INTEGER)",
    ] {
        let (db, _folder) = open(TWO).await;
        keep(&db, X).await;
        db.execute_batch(write).await.unwrap();
        assert_ne!(integers(&db, X).await, [1], "{write}");
    }
}

#[tokio::test]
async fn parameters_are_told_apart_by_kind_and_bits() {
    let (db, _folder) = open("CREATE TABLE t (x INTEGER)").await;
    let sql = "SELECT typeof(?1), quote(?1)";
    let values = [
        Value::Null,
        Value::Integer(1),
        Value::Real(1.0),
        Value::Real(0.0),
        Value::Real(-0.0),
        Value::Text("1".into()),
        Value::Blob(b"1".to_vec()),
    ];
    for _ in 0..2 {
        for value in &values {
            let found = ask(&db, sql, [value.clone()]).await;
            let other = db.read({
                let value = value.clone();
                async move |snapshot| {
                    let mut rows = snapshot.query(sql, [value]).await?;
                    rows.next().await
                }
            });
            assert_eq!(found.first(), other.await.unwrap().as_ref(), "{value:?}");
        }
    }
    assert_eq!((cache(&db).misses, cache(&db).hits), (7, 7));
    let named = async |first, second| {
        ask(&db, "SELECT :a, :b", ((first, 1), (second, 2))).await.rows()[0].get::<i64>(0).unwrap()
    };
    assert_eq!((named(":a", ":b").await, named(":b", ":a").await), (1, 2));
}

#[tokio::test]
async fn what_depends_on_more_than_tables_is_never_kept() {
    let (db, _folder) = open(TWO).await;
    for sql in [
        "SELECT random()",
        "SELECT x FROM t ORDER BY random()",
        "SELECT datetime('now')",
        "SELECT strftime('%s', x) FROM t",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT x FROM t WHERE x < (SELECT unixepoch())",
        "SELECT last_insert_rowid(), changes(), total_changes()",
        "SELECT hex(randomblob(8)) FROM t",
        "WITH n AS (SELECT random() AS r) SELECT r FROM n",
        "EXPLAIN SELECT x FROM t",
    ] {
        ask(&db, sql, ()).await;
        assert!(!is_kept(&db, sql).await && !is_kept(&db, sql).await, "{sql}");
    }
    assert_eq!(cache(&db).hits, 0);
    db.execute_batch("CREATE VIEW v AS SELECT x, random() AS r FROM t").await.unwrap();
    assert!(!is_kept(&db, "SELECT * FROM v").await && !is_kept(&db, "SELECT * FROM v").await);
}

#[tokio::test]
async fn a_view_is_as_old_as_the_tables_below_it() {
    let views = "CREATE VIEW v AS SELECT x + (SELECT SUM(y) FROM u) AS z FROM t; CREATE VIEW w AS SELECT z FROM v";
    let (db, _folder) = open(&format!("{TWO}; CREATE TABLE other (a); {views}")).await;
    let sql = "SELECT z FROM w";
    keep(&db, sql).await;
    db.execute("INSERT INTO other VALUES (1)", ()).await.unwrap();
    assert!(is_kept(&db, sql).await, "another table is not below it");
    db.execute("INSERT INTO u VALUES (10)", ()).await.unwrap();
    assert_eq!(integers(&db, sql).await, [12]);
    keep(&db, sql).await;
    db.execute_batch("DROP VIEW v; CREATE VIEW v AS SELECT 5 AS z").await.unwrap();
    assert_eq!(integers(&db, sql).await, [5]);
}

#[tokio::test]
async fn a_trigger_reaches_further_than_its_statement() {
    let (db, _folder) = open(TWO).await;
    keep(&db, Y).await;
    db.execute_batch("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO u VALUES (NEW.x); END").await.unwrap();
    assert_eq!(integers(&db, Y).await, [1]);
    keep(&db, Y).await;
    db.execute("INSERT INTO t VALUES (9)", ()).await.unwrap();
    assert_eq!(integers(&db, Y).await, [1, 9]);
}

#[tokio::test]
async fn a_foreign_keys_action_reaches_further_than_its_statement() {
    for action in ["ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE CASCADE"] {
        let schema = format!(
            "CREATE TABLE a (id INTEGER PRIMARY KEY); \
             CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a (id) {action}); \
             CREATE TABLE c (id INTEGER PRIMARY KEY, b INTEGER, FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE); \
             CREATE TABLE d (x); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1); INSERT INTO c VALUES (1, 1)"
        );
        let (db, _folder) = open(&schema).await;
        let sql = "SELECT (SELECT COUNT(*) FROM c), (SELECT a FROM b)";
        let state = async || {
            let row = ask(&db, sql, ()).await;
            (row.rows()[0].get::<i64>(0).unwrap(), row.rows()[0].get::<Option<i64>>(1).unwrap())
        };
        keep(&db, sql).await;
        db.execute("INSERT INTO d VALUES (1)", ()).await.unwrap();
        assert!(is_kept(&db, sql).await, "nothing leads here from d");
        let (write, wanted) = match action {
            "ON DELETE CASCADE" => ("DELETE FROM a", (0, None)),
            "ON DELETE SET NULL" => ("DELETE FROM a", (1, None)),
            _ => ("UPDATE a SET id = 2", (1, Some(2))),
        };
        db.execute(write, ()).await.unwrap();
        assert_eq!(state().await, wanted, "{action}");
    }
}

#[tokio::test]
async fn what_is_rolled_back_is_never_seen_and_costs_nothing() {
    let (db, _folder) = open(TWO).await;
    keep(&db, X).await;
    let (inside, asked) = (db.clone(), db.clone());
    let outcome = db
        .write(async move |tx| {
            tx.execute("INSERT INTO t VALUES (2)", ()).await?;
            assert_eq!(integers(&inside, X).await, [1], "not even by the write itself");
            Err::<(), _>(Error::Misuse("undo".into()))
        })
        .await;
    assert!(outcome.is_err());
    assert!(is_kept(&asked, X).await);
    assert_eq!(integers(&asked, X).await, [1]);
}

#[tokio::test]
async fn a_guard_that_writes_itself_is_noticed() {
    let (db, _folder) = open(TWO).await;
    let mut guard = db.pool().get().await.unwrap();
    let mut expected = vec![1];
    for step in 0..5 {
        keep(&db, X).await;
        let value = 10 + step;
        match step {
            0 => drop(guard.execute("INSERT INTO t VALUES (?1)", (value,)).await.unwrap()),
            1 => guard.execute_batch("BEGIN; INSERT INTO t VALUES (11); COMMIT").await.unwrap(),
            2 => {
                let mut tx = guard.begin(Behavior::Immediate).await.unwrap();
                tx.execute("INSERT INTO t VALUES (?1)", (value,)).await.unwrap();
                assert!(is_kept(&db, X).await, "it is not committed yet");
                tx.commit().await.unwrap();
            }
            3 => {
                let mut rows = guard.query("INSERT INTO t VALUES (?1) RETURNING x", (value,)).await.unwrap();
                assert_eq!(integers(&db, X).await.last(), Some(&value), "though its rows are not fetched yet");
                while rows.next().await.unwrap().is_some() {}
            }
            _ => {
                guard.execute("SAVEPOINT outer", ()).await.unwrap();
                guard.execute("INSERT INTO t VALUES (?1)", (value,)).await.unwrap();
                guard.execute("SAVEPOINT inner", ()).await.unwrap();
                guard.execute("RELEASE inner", ()).await.unwrap();
                assert_eq!(integers(&db, X).await, expected, "released inside a transaction is not committed");
                guard.execute("RELEASE outer", ()).await.unwrap();
            }
        }
        expected.push(value);
        assert_eq!(integers(&db, X).await, expected, "step {step}");
    }
}

/// As [`a_guard_that_writes_itself_is_noticed`], by a second pool of the same file.
#[tokio::test]
async fn another_pool_of_the_same_file_is_noticed() {
    let (db, _folder) = open(TWO).await;
    let other = ConnectionPool::open(db.pool().path()).await.unwrap();
    keep(&db, X).await;
    other.get().await.unwrap().execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(integers(&db, X).await, [1, 2]);
}

/// A write has ended before its rows are fetched, so that it has if they are leaked; its connection is discarded when the guard
/// comes back.
#[tokio::test]
async fn a_write_whose_rows_are_leaked_has_ended_and_is_noticed() {
    let (db, _folder) = open(TWO).await;
    keep(&db, X).await;
    let mut guard = db.pool().get().await.unwrap();
    std::mem::forget(guard.query("INSERT INTO t VALUES (2) RETURNING x", ()).await.unwrap());
    assert_eq!(integers(&db, X).await.last(), Some(&2));
    keep(&db, X).await;
    drop(guard);
    keep(&db, X).await;
}

/// A transaction that began before there was a cache to tell.
#[tokio::test]
async fn a_write_from_before_the_cache_is_noticed_when_it_commits() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
    let mut guard = pool.get().await.unwrap();
    guard.execute_batch(TWO).await.unwrap();
    let mut tx = guard.begin(Behavior::Immediate).await.unwrap();
    tx.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    let db = with_cache(pool.clone(), MIB).await;
    keep(&db, X).await;
    tx.commit().await.unwrap();
    assert_eq!(integers(&db, X).await, [1, 2]);
}

/// A guard's own table of the same name: what the guard reads and writes there is nobody's answer.
#[tokio::test]
async fn a_temporary_table_of_a_guard_is_in_no_answer() {
    for temporary in
        ["CREATE TABLE temp.t (x)", "CREATE TABLE [temp].t AS SELECT 7 AS x", "CREATE TEMP VIEW t AS SELECT 7 AS x"]
    {
        let (db, _folder) = open(TWO).await;
        let mut guard = db.pool().get().await.unwrap();
        guard.run(temporary).await.unwrap();
        let _ = guard.execute("INSERT INTO t VALUES (8)", ()).await;
        assert_eq!(integers(&db, X).await, [1], "{temporary}");
        drop(guard);
        assert_eq!(integers(&db, X).await, [1], "{temporary}");
        db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
        assert_eq!(integers(&db, X).await, [1, 2], "{temporary}");
    }
}

/// What a connection's own trigger writes is not in the schema that a reader sees.
#[tokio::test]
async fn a_connection_with_a_trigger_or_a_log_of_its_own_is_not_believed() {
    let (db, _folder) = open(TWO).await;
    for odd in [
        "CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO u VALUES (NEW.x); END",
        "PRAGMA capture_data_changes_conn('full')",
    ] {
        let mut guard = db.pool().get().await.unwrap();
        guard.run(odd).await.unwrap();
        keep(&db, Y).await;
        guard.execute("INSERT INTO t VALUES (5)", ()).await.unwrap();
        assert!(!is_kept(&db, Y).await, "{odd}");
    }
}

#[tokio::test]
async fn a_hook_that_sets_a_pragma_does_not_make_every_write_one_to_any_table() {
    let folder = tempfile::tempdir().unwrap();
    let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA cache_size = 50").await?) })
    });
    let pool = ConnectionPool::builder(folder.path().join("t.db")).hooks(hooks).build().await.unwrap();
    let db = with_cache(pool, MIB).await;
    db.execute_batch(TWO).await.unwrap();
    keep(&db, X).await;
    db.execute("INSERT INTO u VALUES (2)", ()).await.unwrap();
    assert!(is_kept(&db, X).await);
}

#[tokio::test]
async fn an_error_is_not_kept_and_no_query_is_refused_as_before() {
    let (db, _folder) = open(TWO).await;
    assert!(db.query_cached("SELECT x FROM gone", ()).await.is_err());
    assert!(matches!(db.query_cached("DELETE FROM t", ()).await, Err(Error::Misuse(_))));
    assert!(db.query_cached("SELECT x FROM t; SELECT 1", ()).await.is_err());
    assert!(db.query_cached("WITH n AS (SELECT 1) DELETE FROM t", ()).await.is_err());
    db.execute("CREATE TABLE gone (x)", ()).await.unwrap();
    assert!(db.query_cached("SELECT x FROM gone", ()).await.unwrap().is_empty());
    assert_eq!(integers(&db, X).await, [1]);
}

#[tokio::test]
async fn the_status_tells_how_often_it_helped() -> Result<()> {
    let (db, _folder) = open(TWO).await;
    assert!(cache(&db).hit_rate().abs() < f64::EPSILON);
    for _ in 0..9 {
        ask(&db, X, ()).await;
    }
    db.execute("INSERT INTO t VALUES (2)", ()).await?;
    ask(&db, X, ()).await;
    ask(&db, "SELECT random()", ()).await;
    let status = cache(&db);
    assert_eq!((status.hits, status.misses, status.invalidated, status.uncached), (8, 2, 1, 1));
    assert!((status.hit_rate() - 0.8).abs() < 1e-9);
    assert_eq!(status.entries, 1);
    Ok(())
}

#[tokio::test]
async fn without_a_cache_it_reads_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let db = with_cache(ConnectionPool::open(folder.path().join("t.db")).await.unwrap(), 0).await;
    db.execute_batch(TWO).await.unwrap();
    assert_eq!(integers(&db, X).await, [1]);
    assert_eq!(db.status().cache, None);
}

/// What a closure makes of two tables.
async fn sum(db: &PooledDatabaseWriter, at_least: i64) -> Result<i64> {
    let sum = db.read_cached(at_least, async |snapshot: &mut Snapshot<'_>, at_least: &i64| {
        let mut sum = 0;
        for sql in ["SELECT x FROM t WHERE x >= ?1", "SELECT y FROM u WHERE y >= ?1"] {
            let mut rows = snapshot.query(sql, (*at_least,)).await?;
            while let Some(row) = rows.next().await? {
                sum += row.get::<i64>(0)?;
            }
        }
        Ok::<_, Error>(sum)
    });
    Ok(*sum.await?)
}

#[tokio::test]
async fn what_a_closure_makes_is_kept_until_one_of_its_tables_is_written() {
    let (db, _folder) = open(TWO).await;
    db.execute("CREATE TABLE v (z INTEGER)", ()).await.unwrap();
    assert_eq!((sum(&db, 0).await.unwrap(), sum(&db, 0).await.unwrap()), (2, 2));
    assert_eq!((cache(&db).hits, cache(&db).misses), (1, 1));
    db.execute("INSERT INTO v VALUES (7)", ()).await.unwrap();
    assert_eq!(sum(&db, 0).await.unwrap(), 2);
    assert_eq!(cache(&db).hits, 2, "the table is another's");
    for (table, expected) in [("t", 12), ("u", 22)] {
        db.execute(format!("INSERT INTO {table} VALUES (10)"), ()).await.unwrap();
        assert_eq!(sum(&db, 0).await.unwrap(), expected);
    }
    assert_eq!(sum(&db, 5).await.unwrap(), 20, "it is given something else");
    assert_eq!((cache(&db).hits, cache(&db).misses), (2, 4));
}

#[tokio::test]
async fn without_a_cache_a_closure_runs_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let db = with_cache(ConnectionPool::open(folder.path().join("t.db")).await.unwrap(), 0).await;
    db.execute_batch(TWO).await.unwrap();
    assert_eq!((sum(&db, 0).await.unwrap(), sum(&db, 0).await.unwrap()), (2, 2));
    assert!(db.status().cache.is_none());
}

#[tokio::test]
async fn a_closure_that_fails_or_panics_leaves_nothing_behind() {
    let (db, _folder) = open(TWO).await;
    let ask = async |how: &'static str| {
        let found = db.read_cached(how, async |snapshot: &mut Snapshot<'_>, how: &&'static str| {
            let rows = snapshot.query("SELECT x FROM t", ()).await?;
            drop(rows);
            match *how {
                "fails" => Err(Error::Config { field: "how", problem: "on purpose".to_owned() }),
                _ => panic!("on purpose"),
            }
        });
        found.await.map(|none: Arc<()>| *none)
    };
    // The lane's own.
    let before = db.status().pool.in_use;
    for _ in 0..2 {
        let error = ask("fails").await.unwrap_err();
        assert!(error.to_string().contains("on purpose"), "{error}");
    }
    let panics = std::panic::AssertUnwindSafe(ask("panics"));
    assert!(poll_for_a_panic(panics).await);
    assert_eq!(cache(&db).entries, 0);
    assert_eq!(db.status().pool.in_use, before);
    keep(&db, X).await;
}

async fn poll_for_a_panic(future: impl Future) -> bool {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(_)) => std::task::Poll::Ready(false),
            Err(_) => std::task::Poll::Ready(true),
        }
    })
    .await
}

#[tokio::test]
async fn what_asks_for_the_time_or_too_much_is_never_kept() {
    let (db, _folder) = open(TWO).await;
    for count in [1, 64, 65] {
        for _ in 0..2 {
            db.read_cached(count, async |snapshot: &mut Snapshot<'_>, count: &i64| {
                for number in 0..*count {
                    drop(snapshot.query(&format!("SELECT x + {number} FROM t"), ()).await?);
                }
                Ok::<_, Error>(())
            })
            .await
            .unwrap();
        }
    }
    assert_eq!((cache(&db).hits, cache(&db).uncached), (2, 1), "65 statements are too many");
    for _ in 0..2 {
        db.read_cached((), async |snapshot: &mut Snapshot<'_>, (): &()| {
            drop(snapshot.query("SELECT x FROM t WHERE x < unixepoch()", ()).await?);
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    }
    assert_eq!((cache(&db).hits, cache(&db).uncached), (2, 2));
}

/// As in a `select!` or among futures that are buffered: whoever has begun to wait, and is not polled any more, holds up nobody.
#[tokio::test]
async fn a_call_that_is_not_polled_holds_up_nobody() {
    const LONG: Duration = Duration::from_secs(30);
    let (db, _folder) = open(TWO).await;
    // All connections are in use, so that the first waits for one; and the others for it, or for the next read.
    let mut guards = Vec::new();
    while let Some(guard) = db.pool().try_get().await.unwrap() {
        guards.push(guard);
    }
    let mut never_again: Vec<_> = (0..3).map(|_| tokio_test::task::spawn(db.query_cached(X, ()))).collect();
    for call in &mut never_again {
        assert!(call.poll().is_pending());
    }
    drop(guards);
    for _ in 0..3 {
        let found = tokio::time::timeout(LONG, db.query_cached(X, ())).await.expect("it waits for who is not polled");
        assert_eq!(found.unwrap().len(), 1);
        db.execute("UPDATE t SET x = x + 1", ()).await.unwrap();
    }
    for call in never_again {
        assert_eq!(call.await.unwrap().len(), 1);
    }
    assert_eq!(db.status().pool.in_use, 1, "the lane's");
}

/// Its own answer, or one that waits for it: it reads instead of waiting for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_read_inside_a_cached_read_does_not_wait_for_itself() {
    static DB: std::sync::OnceLock<PooledDatabaseWriter> = std::sync::OnceLock::new();

    /// Each needs the other, `left` times.
    fn needs(which: i64, left: i64) -> std::pin::Pin<Box<dyn Future<Output = Result<i64>> + Send>> {
        Box::pin(async move {
            let read = async |snapshot: &mut Snapshot<'_>, (which, left): &(i64, i64)| {
                let mut rows = snapshot.query("SELECT x FROM t", ()).await?;
                let own: i64 = rows.next().await?.expect("a row").get(0)?;
                drop(rows);
                // With the same key each time, however deep it is.
                static DEPTH: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
                match DEPTH.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < *left {
                    true => Ok::<_, Error>(own + needs(1 - *which, *left).await?),
                    false => Ok(own),
                }
            };
            Ok(*DB.get().expect("it is set").read_cached((which, left), read).await?)
        })
    }

    let (db, _folder) = open(TWO).await;
    DB.set(db).unwrap();
    let nested = tokio::time::timeout(Duration::from_secs(30), needs(0, 3)).await.expect("it waits for itself");
    assert_eq!(nested.unwrap(), 4);
}

/// What the answer's own code does in the cache is its caller's.
#[tokio::test]
async fn an_answer_whose_weight_panics_panics_in_its_caller_and_costs_nobody_else() {
    #[derive(Debug)]
    struct Heavy;
    impl poolproof::Weigh for Heavy {
        fn heap_bytes(&self) -> usize {
            panic!("too heavy")
        }
    }
    let (db, _folder) = open(TWO).await;
    let asks = std::panic::AssertUnwindSafe(
        db.read_cached(1_i64, async |_: &mut Snapshot<'_>, _: &i64| Ok::<_, Error>(Heavy)),
    );
    assert!(poll_for_a_panic(asks).await);
    keep(&db, X).await;
    assert_eq!(db.status().pool.in_use, 1, "the lane's");
}

/// Whatever becomes of the runtime in which a read was begun, or of who drops a future outside any, others have their answer.
#[test]
fn a_shared_read_depends_on_no_runtime_of_its_callers() {
    const LONG: Duration = Duration::from_secs(30);
    let sql =
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000) SELECT SUM(n) FROM c, t";
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for exhausted in [false, true] {
        for how in ["left", "ended", "dropped outside"] {
            let (service, other) = (runtime(), runtime());
            let (db, _folder) = service.block_on(open(TWO));
            let mut guards = Vec::new();
            while exhausted && let Some(guard) = service.block_on(db.pool().try_get()).unwrap() {
                guards.push(guard);
            }
            let mut first = tokio_test::task::spawn(db.query_cached(sql, ()));
            other.block_on(async { assert!(first.poll().is_pending()) });
            let mut second = tokio_test::task::spawn(db.query_cached(sql, ()));
            service.block_on(async { assert!(second.poll().is_pending()) });
            match how {
                "left" => other.block_on(async { drop(first) }),
                "ended" => {
                    drop(other);
                    drop(guards);
                    let found = service.block_on(async { tokio::time::timeout(LONG, second).await });
                    assert_eq!(found.expect("it waits for a runtime that ended").unwrap().len(), 1);
                    continue;
                }
                _ => drop(first),
            }
            drop(guards);
            let found = service.block_on(async { tokio::time::timeout(LONG, second).await });
            assert_eq!(found.expect("it waits for a runtime that nobody runs").unwrap().len(), 1, "{how}");
            service.block_on(async { tokio::time::timeout(LONG, db.close()).await.expect("nothing is left") });
        }
    }
}

/// Many ask at once for what a writer changes all the time: they share reads, and each sees what was acknowledged before it
/// asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_share_the_reads_of_what_is_written_all_the_time() {
    let (db, _folder) = open(TWO).await;
    let acknowledged = Arc::new(std::sync::atomic::AtomicI64::new(2));
    let (order, stop) = (std::sync::atomic::Ordering::SeqCst, Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let writer = tokio::spawn({
        let (db, acknowledged, stop) = (db.clone(), Arc::clone(&acknowledged), Arc::clone(&stop));
        async move {
            while !stop.load(order) {
                db.execute("UPDATE t SET x = x + 1", ()).await.unwrap();
                acknowledged.fetch_add(1, order);
            }
        }
    });
    let readers: Vec<_> = (0..32)
        .map(|_| {
            let (db, acknowledged) = (db.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let mut asked = 0;
                // However little time the writer gets on a busy machine, they ask while it writes.
                while asked < 100 || acknowledged.load(order) < 100 {
                    let known = acknowledged.load(order);
                    let seen = sum(&db, 0).await.unwrap();
                    assert!(seen >= known, "{known} was acknowledged, {seen} was read");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let mut asked = 0;
    for reader in readers {
        asked += reader.await.unwrap();
    }
    stop.store(true, order);
    writer.await.unwrap();
    let cache = cache(&db);
    assert_eq!(cache.hits + cache.shared + cache.misses, asked, "{cache:?}");
    assert!(cache.shared > 0 && cache.hits + cache.shared > cache.misses, "few read for many: {cache:?}");
    println!("{asked} asked: {cache:?}");
}

/// Where a name of a subquery does not reach it is one of the engine's own tables, which no commit is known to change.
#[tokio::test]
async fn a_table_of_the_engine_is_not_kept_though_a_subquery_has_its_name() {
    let (db, _folder) = open(TWO).await;
    let sql = "SELECT user_version, (WITH pragma_user_version AS (SELECT 1) SELECT 1) FROM pragma_user_version";
    assert_eq!([integers(&db, sql).await, integers(&db, sql).await], [[0], [0]]);
    db.execute("PRAGMA user_version = 5", ()).await.unwrap();
    assert_eq!(integers(&db, sql).await, [5]);
    let kept = db.status().cache.unwrap_or_default().entries;
    integers(&db, "WITH own AS (SELECT 1) SELECT * FROM own, t").await;
    assert_eq!(db.status().cache.unwrap_or_default().entries, kept + 1, "any other name is kept");
}
