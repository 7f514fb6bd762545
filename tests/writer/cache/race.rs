//! Readers through the cache against writers, on real threads: what is acknowledged is seen, and nothing is taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use poolproof::PooledDatabaseWriter;
use tokio::task::JoinSet;

use super::{MIB, cache, integers};

const TABLES: usize = 3;
const WRITES: i64 = 400;

/// The greatest value of each counter that somebody knows: a writer by its acknowledgement, a reader by an answer.
type Known = Arc<[AtomicI64; TABLES]>;

async fn counters() -> (PooledDatabaseWriter, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = super::with_cache(poolproof::ConnectionPool::open(folder.path().join("t.db")).await.unwrap(), MIB).await;
    for table in 0..TABLES {
        let sql = format!("CREATE TABLE c{table} (n INTEGER); INSERT INTO c{table} VALUES (0)");
        db.execute_batch(sql).await.unwrap();
    }
    (db, folder)
}

/// One writer a counter: by the lane's single statements, by the lane's transactions, by a guard of its own.
async fn write(db: PooledDatabaseWriter, table: usize, known: Known) {
    let sql = format!("UPDATE c{table} SET n = n + 1");
    for value in 1..=WRITES {
        match table {
            0 => drop(db.execute(sql.clone(), ()).await.unwrap()),
            1 => {
                let sql = sql.clone();
                db.write(async move |tx| tx.execute(&sql, ()).await).await.unwrap();
            }
            _ => {
                let mut guard = db.pool().get().await.unwrap();
                while let Err(error) = guard.execute(&sql, ()).await {
                    assert!(error.is_contention(), "{error}");
                    tokio::task::yield_now().await;
                }
            }
        }
        known[table].fetch_max(value, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn an_answer_is_never_older_than_what_was_known_before_it_was_asked_for() {
    let (db, _folder) = counters().await;
    let known: Known = Arc::default();
    let reads = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for table in 0..TABLES {
        writers.spawn(write(db.clone(), table, Arc::clone(&known)));
    }
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (db, known, reads) = (db.clone(), Arc::clone(&known), Arc::clone(&reads));
        readers.spawn(async move {
            let mut table = reader % TABLES;
            loop {
                let before = known[table].load(Ordering::SeqCst);
                // Every second reader asks for two at once, and every third looks past the cache: who saw it there too
                // must not see less here.
                let sql = match reader % 2 {
                    0 => format!("SELECT n FROM c{table}"),
                    _ => format!("SELECT a.n FROM c{table} a, c{} b", (table + 1) % TABLES),
                };
                let found = match reader {
                    5 => {
                        let outcome = db.read(async move |snapshot| {
                            let mut rows = snapshot.query(&sql, ()).await?;
                            rows.next().await?.expect("one row").get::<i64>(0)
                        });
                        outcome.await.unwrap()
                    }
                    _ => integers(&db, &sql).await[0],
                };
                assert!(found >= before, "c{table}: {found} was read, though {before} was known before");
                known[table].fetch_max(found, Ordering::SeqCst);
                reads.fetch_add(1, Ordering::Relaxed);
                if known.iter().all(|known| known.load(Ordering::SeqCst) == WRITES) {
                    return;
                }
                table = (table + 1) % TABLES;
            }
        });
    }
    while let Some(outcome) = writers.join_next().await {
        outcome.unwrap();
    }
    while let Some(outcome) = readers.join_next().await {
        outcome.unwrap();
    }
    let status = cache(&db);
    assert!(status.hits > 100 && status.invalidated > 100, "the race was none: {status:?}");
    assert!(reads.load(Ordering::Relaxed) > 1_000, "{reads:?}");
    eprintln!("{} reads, {} writes, {status:?}", reads.load(Ordering::Relaxed), WRITES * TABLES as i64);
}

/// Many that miss at once share one read, and whoever leaves takes nobody with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_misses_together_reads_once_and_who_leaves_harms_nobody() {
    let (db, _folder) = counters().await;
    for round in 0..50 {
        let sql = format!("SELECT n + {round} FROM c0");
        let mut all = JoinSet::new();
        for _ in 0..8 {
            let (db, sql) = (db.clone(), sql.clone());
            all.spawn(async move { integers(&db, &sql).await });
        }
        if round % 2 == 1 {
            // Some of them are dropped wherever they are.
            all.spawn(async { Vec::new() });
            let first = all.join_next().await;
            drop(first);
            all.abort_all();
        }
        while let Some(outcome) = all.join_next().await {
            match outcome {
                Ok(found) => assert!(found.is_empty() || found == [round]),
                Err(error) => assert!(error.is_cancelled()),
            }
        }
        assert_eq!(integers(&db, &sql).await, [round]);
    }
    let status = cache(&db);
    assert!(status.misses < 50 * 8, "nothing was shared: {status:?}");
}
