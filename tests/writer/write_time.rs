//! How long a write may run: it is cut between any two of its statements, whatever it does with what it is told.

use std::time::{Duration, Instant};

use poolproof::{Error, PooledDatabaseWriter, Result, WriterConfig};
use tempfile::TempDir;

use crate::world::{rows, writer_of};

const LIMIT: Duration = Duration::from_millis(100);

const LONG: Duration = Duration::from_secs(30);

/// A statement that takes some ten milliseconds.
const SLOW: &str = "INSERT INTO t SELECT SUM(n) FROM (WITH RECURSIVE c (n) AS
    (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000) SELECT n FROM c)";

async fn limited() -> (PooledDatabaseWriter, TempDir) {
    writer_of(WriterConfig { write_timeout: LIMIT, ..WriterConfig::default() }).await
}

fn is_of_the_limit<T: std::fmt::Debug>(outcome: &Result<T>) -> bool {
    let error = outcome.as_ref().err();
    error.is_some_and(|error| {
        matches!(error, Error::RolledBack { .. })
            && matches!(error.cause(), Error::Deadline { limit, .. } if *limit == LIMIT)
    })
}

#[tokio::test]
async fn a_closure_of_few_long_statements_is_cut_after_the_first_that_is_late() {
    let (db, _folder) = limited().await;
    let began = Instant::now();
    db.execute(SLOW, ()).await.unwrap();
    let one = began.elapsed();
    let statements = 50.max((20 * LIMIT.as_millis() / one.as_millis().max(1)) as usize);
    let began = Instant::now();
    let closure = db.write(async move |tx| {
        for _ in 0..statements {
            tx.execute(SLOW, ()).await?;
        }
        Ok::<_, Error>(())
    });
    let outcome = closure.await;
    let took = began.elapsed();
    assert!(is_of_the_limit(&outcome), "{outcome:?} after {took:?}");
    let batch = db.execute_batch(vec![SLOW; statements].join(";")).await;
    assert!(is_of_the_limit(&batch), "{batch:?}");
    assert_eq!(rows(&db).await, 1);
    assert!(took < one * (statements as u32) / 2, "cut after {took:?}, and one takes {one:?}");
}

/// A closure that tries again and again, in a transaction that is over, with what is refused before it runs, or with an error.
#[tokio::test]
async fn a_closure_that_heeds_no_error_is_cut_and_the_lane_goes_on() {
    let (db, _folder) = limited().await;
    db.execute("CREATE TABLE u (x UNIQUE)", ()).await.unwrap();
    db.execute("INSERT INTO u VALUES (1)", ()).await.unwrap();
    for sql in
        ["INSERT OR ROLLBACK INTO u VALUES (1)", "COMMIT", "no SQL", "INSERT INTO u VALUES (1)", "SELECT 1; SELECT 2"]
    {
        for batch in [false, true] {
            let heedless = db.write(async move |tx| {
                loop {
                    let _ = if batch { tx.execute_batch(sql).await } else { tx.execute(sql, ()).await.map(drop) };
                }
                #[expect(unreachable_code, reason = "it says which type it would have")]
                Ok::<(), Error>(())
            });
            let outcome = tokio::time::timeout(LONG, heedless).await.expect("it is cut");
            assert!(is_of_the_limit(&outcome), "{sql}: {outcome:?}");
            db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        }
    }
    tokio::time::timeout(LONG, db.close()).await.expect("nothing is left");
}

/// The same, outside its transaction: what is refused at once, since it would wait for the write that it is in.
#[tokio::test]
async fn a_closure_that_tries_again_what_is_refused_at_once_is_cut() {
    let (db, _folder) = limited().await;
    let prepared = db.prepare::<()>("INSERT INTO t VALUES (1)").await.unwrap();
    for way in 0..5 {
        let (inner, prepared) = (db.clone(), prepared.clone());
        let heedless = db.write(async move |_| {
            loop {
                match way {
                    0 => drop(inner.execute("INSERT INTO t VALUES (1)", ()).await),
                    1 => drop(prepared.execute(()).await),
                    2 => drop(inner.write(async |_| Ok::<_, Error>(())).await),
                    3 => drop(inner.execute_batch("BEGIN").await),
                    _ => drop(inner.prepare::<()>("SELECT 1").await),
                }
            }
            #[expect(unreachable_code, reason = "it says which type it would have")]
            Ok::<(), Error>(())
        });
        let outcome = tokio::time::timeout(LONG, heedless).await.expect("it is cut");
        assert!(is_of_the_limit(&outcome), "{way}: {outcome:?}");
        db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    }
    tokio::time::timeout(LONG, db.close()).await.expect("nothing is left");
}
