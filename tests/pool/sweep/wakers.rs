//! Wakers that do more than to wake: those who use the pool by hand may bring such.
//!
//! Some look at once, inside the wake. Some panic: the panic goes on in whoever caused the wake: in the drop of the guard that was
//! handed over, in `close`, in `resize`. The waiter has been handed what it waited for all the same.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use poolproof::PoolConfig;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};

use super::world::{MAX, World};
use crate::server::{self, Outcome, Server};

/// Polls inside the wake, like an executor without a queue.
struct Eager {
    waiting: Mutex<Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>>,
    outcome: Mutex<Option<Outcome>>,
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let polled = self.waiting.lock().unwrap().as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(outcome) = polled {
            *self.waiting.lock().unwrap() = None;
            *self.outcome.lock().unwrap() = Some(outcome);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_looks_inside_its_wake_finds_its_connection_and_never_makes_one_too_many() {
    for broken in [false, true] {
        let mut world = World::full(PoolConfig::default(), false);
        let pool = world.pool.clone();
        let waiting = Mutex::new(Some(Box::pin(async move { pool.get().await }) as Pin<Box<_>>));
        let eager = Arc::new(Eager { waiting, outcome: Mutex::new(None) });
        Arc::clone(&eager).wake();
        let released = world.held.pop().unwrap();
        released.broken.store(broken, Ordering::SeqCst);
        drop(released);
        world.held.push(eager.outcome.lock().unwrap().take().expect("it was served in the wake").unwrap());
        assert_eq!(world.server.most_alive(), MAX, "the broken one was gone before");
        world.let_go().unwrap();
        world.serves_and_closes().await.unwrap();
    }
}

/// Looks, when it is woken, at what is alive.
struct Witness(Arc<Server>, AtomicUsize);

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.1.store(self.0.alive(), Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_is_told_of_the_end_when_nothing_is_alive() {
    let mut world = World::full(PoolConfig::default(), false);
    let pool = world.pool.clone();
    let mut close = Box::pin(pool.close());
    let witness = Arc::new(Witness(Arc::clone(&world.server), AtomicUsize::new(usize::MAX)));
    let waker = Waker::from(Arc::clone(&witness));
    assert!(close.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    world.held.clear();
    assert_eq!(witness.1.load(Ordering::SeqCst), 0);
    assert!(close.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

/// Panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        resume_unwind(Box::new("the waker panics"));
    }
}

type Waiting = Pin<Box<dyn Future<Output = Outcome>>>;

/// All connections are held; one waits whose waker panics, and behind it another.
fn world() -> (World, Waiting) {
    let mut world = World::full(PoolConfig::default(), false);
    let pool = world.pool.clone();
    let mut waiting: Waiting = Box::pin(async move { pool.get().await });
    assert!(poll(&mut waiting).is_pending());
    world.queue().unwrap();
    (world, waiting)
}

fn poll(waiting: &mut Waiting) -> Poll<Outcome> {
    waiting.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics))))
}

fn panics<R>(work: impl FnOnce() -> R) {
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err(), "the waker's panic goes on in whoever woke");
}

#[tokio::test(start_paused = true)]
async fn a_release_into_a_waker_that_panics_hands_over_all_the_same() {
    for broken in [false, true] {
        for leaves in [false, true] {
            let (mut world, mut waiting) = world();
            let released = world.held.pop().unwrap();
            released.broken.store(broken, Ordering::SeqCst);
            panics(|| drop(released));
            world.invariants().unwrap();
            if leaves {
                drop(waiting);
                assert!(world.waiters[0].is_woken(), "what it had been handed goes on to the next");
            } else {
                let Poll::Ready(Ok(guard)) = poll(&mut waiting) else { panic!("it was handed a connection") };
                drop(guard);
            }
            world.let_go().unwrap();
            world.serves_and_closes().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_into_a_waker_that_panics_refuses_the_others_too() {
    let (mut world, waiting) = world();
    let pool = world.pool.clone();
    panics(|| task::spawn(pool.close()).poll().is_ready());
    assert!(world.waiters[0].is_woken(), "the one behind it is refused as well, and told so");
    world.let_go().unwrap();
    drop(waiting);
    world.serves_and_closes().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resize_into_a_waker_that_panics_admits_the_others_too() {
    let (mut world, waiting) = world();
    let pool = world.pool.clone();
    panics(|| pool.resize(4).unwrap());
    assert!(world.waiters[0].is_woken(), "the one behind it has been admitted as well, and is told so");
    drop(waiting);
    world.let_go().unwrap();
    world.serves_and_closes().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_release_into_a_closer_that_panics_tells_the_other_closers_too() {
    let (pool, _server) = server::pool(PoolConfig::default());
    let held = assert_ready_ok!(task::spawn(pool.get()).poll());
    let mut first = Box::pin(pool.close());
    let panicking = Waker::from(Arc::new(Panics));
    assert!(first.as_mut().poll(&mut Context::from_waker(&panicking)).is_pending());
    let mut second = task::spawn(pool.close());
    assert_pending!(second.poll());
    panics(|| drop(held));
    assert!(second.is_woken(), "no connection is alive");
    assert!(second.poll().is_ready());
    assert_ready_err!(task::spawn(pool.get()).poll());
}
