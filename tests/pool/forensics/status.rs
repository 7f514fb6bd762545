//! A pool says of itself what was true at one moment, whoever asks and however busy it is.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread;

use poolproof::{Pool, Status};

use super::server_pool;
use crate::server;

/// Users on two threads get, queue, give up, break what they have, resize, and look at every step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_of_one_moment() {
    let (pool, _server) = server_pool(2);
    let lookers = [(); 2].map(|()| {
        let pool = pool.clone();
        thread::spawn(move || {
            (0..30_000).fold(vec![pool.status()], |mut seen, _| {
                look_at(&pool, &mut seen);
                seen
            })
        })
    });
    let users: Vec<_> = (0..6).map(|user| tokio::spawn(use_it(pool.clone(), user))).collect();
    let (mut idle, mut waiting) = (0, 0);
    for user in users {
        for status in user.await.unwrap() {
            idle += usize::from(status.idle > 0);
            waiting += usize::from(status.waiting > 0);
        }
    }
    lookers.into_iter().for_each(|looker| drop(looker.join().unwrap()));
    assert!(idle > 100 && waiting > 100, "hardly seen at work: {idle} times idle, {waiting} times waiting");
    let status = pool.status();
    assert_eq!((status.open, status.in_use, status.waiting), (status.idle, 0, 0), "at rest");
}

async fn use_it(pool: Pool<server::Manager>, user: usize) -> Vec<Status> {
    let mut seen = vec![pool.status()];
    for round in 0..3_000 {
        let mut getting = Box::pin(pool.get());
        let guard = match poll_fn(|context| Poll::Ready(getting.as_mut().poll(context))).await {
            Poll::Ready(guard) => guard.unwrap(),
            Poll::Pending if round % 3 == 0 => continue,
            Poll::Pending => getting.await.unwrap(),
        };
        guard.broken.store(round % 7 == 0, Ordering::Relaxed);
        if user == 0 && round % 10 == 0 {
            pool.resize(2 + round / 10 % 2).unwrap();
        }
        look_at(&pool, &mut seen);
        let held = (round % 2 == 0).then_some(guard);
        tokio::task::yield_now().await;
        look_at(&pool, &mut seen);
        drop(held);
    }
    seen
}

fn look_at(pool: &Pool<server::Manager>, seen: &mut Vec<Status>) {
    let (before, now) = (seen[seen.len() - 1], pool.status());
    assert_eq!(now.open, now.idle + now.in_use, "{now:?}");
    assert!(now.idle == 0 || now.waiting == 0, "an idle connection and a waiter: {now:?}");
    assert!(now.open <= now.most_open && now.most_open <= 3 && now.waiting <= 6, "{now:?}");
    assert!(now.waiting == 0 || now.open >= now.max, "somebody waits though there is room: {now:?}");
    assert!(now.most_open >= before.most_open && now.handed_over >= before.handed_over, "{before:?}, {now:?}");
    seen.push(now);
}
