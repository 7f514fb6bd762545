//! Who is served when: in order, one after the other, and nobody sees a lock.

use std::sync::Arc;

use poolproof::{Behavior, Error};
use tokio::sync::Barrier;

use crate::world::{rows, writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_once_never_see_a_locked_database() {
    let (db, _folder) = writer().await;
    let start = Arc::new(Barrier::new(50));
    let tasks: Vec<_> = (0..50)
        .map(|x| {
            let (db, start) = (db.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                if x % 2 == 0 {
                    db.execute("INSERT INTO t VALUES (?1)", (x,)).await
                } else {
                    db.write(async move |tx| tx.execute("INSERT INTO t VALUES (?1)", (x,)).await).await
                }
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().value, 1);
    }
    assert_eq!(rows(&db).await, 50);
    let status = db.status();
    assert_eq!((status.committed, status.rolled_back, status.queued), (51, 0, 0));
}

#[tokio::test]
async fn writes_run_in_the_order_in_which_they_were_queued() {
    let (db, _folder) = writer().await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    // On this single-threaded runtime tasks queue their writes in the order in which they were spawned.
    let tasks: Vec<_> = (0..20)
        .map(|index| {
            let (db, order) = (db.clone(), Arc::clone(&order));
            tokio::spawn(async move {
                db.write(async move |_| {
                    order.lock().unwrap().push(index);
                    Ok::<(), Error>(())
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_for_a_lock_that_a_guard_holds() {
    let (db, _folder) = writer().await;
    let mut guard = db.pool().get().await.unwrap();
    let transaction = guard.begin(Behavior::Immediate).await.unwrap();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { db.execute("INSERT INTO t VALUES (1)", ()).await }
    });
    // However long it tries, it cannot have been done while the lock is held.
    while db.status().retries == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    transaction.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().value, 1);
}
