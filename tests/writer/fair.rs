//! Whoever calls in a loop lets the runtime's other tasks go on, though every call is ready at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use poolproof::{Behavior, Error, PooledDatabaseWriter, WriterConfig};
use tokio::task::yield_now;

use crate::world::{patient, writer_of};

/// Calls of each loop: many times what tokio lets a task do before it has to yield.
const CALLS: u64 = 2_000;

/// How many calls of one loop may be made before another task of the same thread goes on. Tokio lets a task do 128 things.
const AT_MOST: u64 = 512;

/// Sees whether another task of this thread goes on.
struct Others {
    name: &'static str,
    polls: Arc<AtomicU64>,
    seen: u64,
    calls: u64,
    most: u64,
}

impl Others {
    fn new(name: &'static str) -> Self {
        let polls = Arc::new(AtomicU64::new(0));
        let counts = Arc::downgrade(&polls);
        tokio::spawn(async move {
            while let Some(polls) = counts.upgrade() {
                polls.fetch_add(1, Ordering::Relaxed);
                drop(polls);
                yield_now().await;
            }
        });
        Self { name, polls, seen: 0, calls: 0, most: 0 }
    }

    /// A call was made.
    fn look(&mut self) {
        let polls = self.polls.load(Ordering::Relaxed);
        self.calls = if polls == self.seen { self.calls + 1 } else { 0 };
        (self.seen, self.most) = (polls, self.most.max(self.calls));
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        println!("{}: {} calls without a pause", self.name, self.most);
        if !std::thread::panicking() {
            assert!(self.most <= AT_MOST, "{}: {} calls, and nobody else went on", self.name, self.most);
        }
    }
}

async fn sum(db: &PooledDatabaseWriter) -> Result<i64, Error> {
    let sum = db.read_cached((), async |snapshot, ()| {
        let mut rows = snapshot.query("SELECT SUM(x) FROM f", ()).await?;
        rows.next().await?.map_or(Ok(0), |row| row.get(0))
    });
    sum.await.map(|sum| *sum)
}

/// Loops, each a task, since a budget is a task's.
async fn all(db: PooledDatabaseWriter) {
    type Calls = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let loops: [fn(PooledDatabaseWriter) -> Calls; 10] = [
        |db| {
            Box::pin(async move {
                let mut others = Others::new("query_cached");
                for _ in 0..CALLS {
                    let _ = db.query_cached("SELECT x FROM f", ()).await;
                    others.look();
                }
            })
        },
        |db| {
            Box::pin(async move {
                let mut others = Others::new("read_cached");
                for _ in 0..CALLS {
                    let _ = sum(&db).await;
                    others.look();
                }
            })
        },
        |db| {
            Box::pin(async move {
                let mut others = Others::new("get");
                for _ in 0..CALLS {
                    drop(db.pool().get().await);
                    others.look();
                }
            })
        },
        |db| {
            Box::pin(async move {
                let Ok(mut guard) = db.pool().get().await else { return };
                let mut others = Others::new("a guard's queries");
                for _ in 0..CALLS {
                    guard.query("SELECT x FROM f", ()).await.unwrap().next().await.unwrap();
                    others.look();
                }
            })
        },
        |db| {
            Box::pin(async move {
                let Ok(mut guard) = db.pool().get().await else { return };
                let mut others = Others::new("the rows of a guard's query");
                let numbers =
                    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000) SELECT x FROM n";
                let mut rows = guard.query(numbers, ()).await.unwrap();
                while rows.next().await.unwrap().is_some() {
                    others.look();
                }
            })
        },
        |db| {
            Box::pin(async move {
                let Ok(mut guard) = db.pool().get().await else { return };
                let mut others = Others::new("a guard's writes");
                let mut tx = guard.begin(Behavior::Immediate).await.unwrap();
                for _ in 0..CALLS {
                    tx.execute("UPDATE f SET x = x + 1", ()).await.unwrap();
                    others.look();
                }
                tx.commit().await.unwrap();
            })
        },
        |db| {
            Box::pin(async move {
                let mut others = Others::new("writes that wait for nothing");
                let prepared = db.prepare::<()>("UPDATE f SET x = 1").await;
                for _ in 0..CALLS {
                    let _ = db.within(Duration::ZERO).execute("UPDATE f SET x = 1", ()).await;
                    if let Ok(prepared) = &prepared {
                        let _ = prepared.try_execute(()).await;
                    }
                    others.look();
                }
            })
        },
        |db| {
            Box::pin(async move {
                let mut others = Others::new("what is refused before it is queued");
                let prepared = db.prepare::<()>("UPDATE f SET x = 1").await;
                for _ in 0..CALLS {
                    let _ = db.execute("BEGIN", ()).await;
                    others.look();
                    let _ = db.execute("PRAGMA cache_size = 5", ()).await;
                    others.look();
                    let _ = db.execute_batch("PRAGMA cache_size = 5").await;
                    others.look();
                    let _ = db.prepare::<()>("SELECT 1").await;
                    others.look();
                }
                drop(prepared);
            })
        },
        |db| {
            Box::pin(async move {
                let mut others = Others::new("try_get");
                for _ in 0..CALLS {
                    drop(db.pool().try_get().await);
                    others.look();
                }
            })
        },
        |db| {
            Box::pin(async move {
                let Ok(mut guard) = db.pool().get().await else { return };
                let mut others = Others::new("a guard's empty transactions");
                for _ in 0..CALLS {
                    guard.begin(Behavior::Deferred).await.unwrap().rollback().await.unwrap();
                    others.look();
                }
            })
        },
    ];
    for calls in loops {
        tokio::spawn(calls(db.clone())).await.unwrap();
    }
}

#[tokio::test]
async fn no_call_in_a_loop_keeps_the_runtime_from_others() {
    let (db, _folder) = writer_of(WriterConfig { cache: 1 << 20, ..patient() }).await;
    db.execute_batch("CREATE TABLE f (x INTEGER); INSERT INTO f VALUES (1)").await.unwrap();
    all(db.clone()).await;
    db.close().await;
    println!("after the close");
    all(db).await;
}
