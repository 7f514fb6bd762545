//! Who goes first: within a priority whoever came first; a background write is overtaken by 32 normal ones at most.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use poolproof::{Ack, Error, PooledDatabaseWriter, Priority, Result, WriterConfig};
use tokio_test::task::{self, Spawn};

use crate::world::{hold, patient, queue, until, writer, writer_of};

/// What is documented.
const OVERTAKES: usize = 32;

/// In which order writes were started.
type Diary = Arc<Mutex<Vec<usize>>>;

fn noted(db: PooledDatabaseWriter, diary: &Diary, number: usize) -> impl Future<Output = Result<Ack<()>>> + use<> {
    let diary = Arc::clone(diary);
    async move {
        db.write(async move |_| {
            diary.lock().unwrap().push(number);
            Ok::<_, Error>(())
        })
        .await
    }
}

#[tokio::test]
async fn the_oldest_background_write_is_overtaken_by_32_and_no_more() {
    let (db, _folder) = writer().await;
    let diary = Diary::default();
    let held = hold(&db).await;
    let mut writes = Vec::new();
    for number in 0..2 {
        writes.push(queue(&db, |db| noted(db.priority(Priority::Background), &diary, number)).await);
    }
    for number in 2..102 {
        writes.push(queue(&db, |db| noted(db, &diary, number)).await);
    }
    held.let_go().await;
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let order = diary.lock().unwrap().clone();
    let place = |number| order.iter().position(|other| *other == number).unwrap();
    assert_eq!((place(0), place(1)), (OVERTAKES, 2 * OVERTAKES + 1));
    assert!(order.iter().filter(|number| **number > 1).is_sorted());
}

#[tokio::test]
async fn a_statement_goes_by_its_priority_too() {
    let (db, _folder) = writer().await;
    let held = hold(&db).await;
    let insert = |db: PooledDatabaseWriter, x: i64| async move { db.execute("INSERT INTO t VALUES (?1)", (x,)).await };
    let late = queue(&db, |db| insert(db.priority(Priority::Background), 1)).await;
    let early = queue(&db, |db| insert(db, 2)).await;
    let back = queue(&db, |db| insert(db.priority(Priority::Background).priority(Priority::Normal), 3)).await;
    held.let_go().await;
    for write in [late, early, back] {
        write.await.unwrap().unwrap();
    }
    assert_eq!(crate::world::column(&db, "t").await, [2, 3, 1]);
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

type Noted = Pin<Box<dyn Future<Output = Result<Ack<()>>>>>;

struct Write {
    priority: Priority,
    future: Spawn<Noted>,
}

/// Thousands of writes of both priorities come in bursts, while the lane is at work and while it is held; some callers leave
/// again. Who was started when is held against who came when.
///
/// With `b` background writes ahead of it, one sees at most `(b + 1) * 32` normal ones started that came after it. With `n`
/// normal writes ahead of it, a normal one sees at most `n / 32 + 1` background ones started.
#[tokio::test]
async fn whatever_comes_and_goes_nobody_is_overtaken_more_often_than_is_said() {
    let (db, _folder) = writer_of(WriterConfig { queue: 100_000, ..patient() }).await;
    let (diary, mut random) = (Diary::default(), Random(7));
    let mut priorities = Vec::new();
    let mut ahead: HashMap<usize, usize> = HashMap::new();
    // Of a normal one that waits, how many were started before it had its place.
    let mut came_at: HashMap<usize, usize> = HashMap::new();
    let mut waiting: Vec<Write> = Vec::new();
    let (mut left, mut done) = (0, 0);
    for burst in 0..40 {
        let held = if burst % 2 == 0 { Some(hold(&db).await) } else { None };
        // Never so few normal ones that the background line is simply served.
        for _ in 0..50 + random.below(100) {
            let priority = if random.below(6) == 0 { Priority::Background } else { Priority::Normal };
            let number = priorities.len();
            priorities.push(priority);
            if priority == Priority::Background {
                let before = waiting.iter().filter(|write| write.priority == Priority::Background).count();
                ahead.insert(number, before);
            }
            let future: Noted = Box::pin(noted(db.priority(priority), &diary, number));
            let mut future = task::spawn(future);
            // However many were polled before it: it is queued now, or done.
            let polled = tokio::task::unconstrained(poll_fn(|_| Poll::Ready(future.poll()))).await;
            assert!(!matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
            if polled.is_ready() {
                done += 1;
                continue;
            }
            if priority == Priority::Normal {
                came_at.insert(number, diary.lock().unwrap().len());
            }
            waiting.push(Write { priority, future });
            if random.below(8) == 0 {
                let gone = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
                drop(gone);
                left += 1;
            }
        }
        if let Some(held) = held {
            held.let_go().await;
        }
        // Some of those that were answered are told so; all others wait on.
        let mut still = Vec::new();
        for mut write in waiting {
            match write.future.is_woken().then(|| write.future.poll()) {
                Some(Poll::Ready(outcome)) => {
                    outcome.unwrap();
                    done += 1;
                }
                _ => still.push(write),
            }
        }
        waiting = still;
    }
    for write in waiting {
        write.future.into_inner().await.unwrap();
        done += 1;
    }
    until(|| db.status().queued == 0).await;
    db.stop().await;
    let (order, status) = (diary.lock().unwrap().clone(), db.status());
    println!("{} came, {left} left, {} were started, {} skipped", priorities.len(), order.len(), status.skipped);
    assert!(priorities.len() > 3000 && status.skipped > 50, "{status:?}");
    assert!(order.len() >= done && order.len() as u64 + status.skipped == priorities.len() as u64);
    for priority in [Priority::Normal, Priority::Background] {
        let of_it = order.iter().filter(|number| priorities[**number] == priority);
        assert!(of_it.is_sorted(), "first come, first served within {priority:?}");
    }
    let mut most = 0;
    for (place, number) in order.iter().enumerate() {
        let Some(ahead) = ahead.get(number) else { continue };
        let overtook = order[..place].iter().filter(|other| *other > number && priorities[**other] == Priority::Normal);
        let overtook = overtook.count();
        assert!(overtook <= (ahead + 1) * OVERTAKES, "{number}, behind {ahead}, was overtaken by {overtook}");
        most = most.max(overtook);
    }
    println!("the background write that was overtaken most was by {most}");
    let mut most_of_the_background = 0;
    for (place, number) in order.iter().enumerate() {
        let Some(came_at) = came_at.get(number).filter(|came_at| **came_at < place) else { continue };
        let of_the_background = |other: &&usize| priorities[**other] == Priority::Background;
        let background = order[*came_at..place].iter().filter(of_the_background).count();
        let normal = place - came_at - background;
        // One more may have been taken out before, and noted after it came.
        assert!(background <= normal / OVERTAKES + 2, "{number}, behind {normal}, saw {background} of the background");
        most_of_the_background = most_of_the_background.max(background);
    }
    assert!(most_of_the_background >= 2, "the other bound was never near: too little was tried");
    assert!(most >= OVERTAKES, "the bound was never reached: too little was tried");
}
