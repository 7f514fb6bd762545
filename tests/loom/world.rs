//! What surrounds the core in a model: connections that count themselves, wakers that count their wakes, an executor of
//! one future, and the invariants.

use std::cell::Cell;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Wake, Waker};

use loom::model::Builder;
use loom::sync::Notify;
use loom::thread::JoinHandle;

use crate::core::{Acquire, Core, Next, Parts, Refused};
use crate::sync::{exploring, in_model};

pub(crate) type Pool = Core<Model>;
pub(crate) type Lease = crate::core::Lease<Model>;

/// Whose alarm calls a waiter: of two runtimes, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Here,
    There,
}

/// What the core is made of here.
pub(crate) struct Model;

impl Parts for Model {
    type Connection = Connection;
    type Holder = Holder;
    type Stamp = u64;
    type Clock = Clock;
    const BUSY: usize = 3;
    type Note = ();
    type Context = Arc<World>;
}

/// Nobody asks in a model who holds what.
#[derive(Clone, Copy)]
pub(crate) struct Holder;

/// A future acquire.
pub(crate) fn waiter(pool: &Arc<Pool>) -> Waiter<'_> {
    waiter_at(pool, 0, Clock::Here)
}

/// A future acquire of somebody who comes at `stamp`.
pub(crate) fn waiter_at(pool: &Arc<Pool>, stamp: u64, clock: Clock) -> Waiter<'_> {
    Waiter { acquire: pool.acquire(Holder, clock), came: stamp }
}

/// An acquire, and what it would read on the clock should it be asked for its stamp.
pub(crate) struct Waiter<'a> {
    acquire: Acquire<'a, Model>,
    came: u64,
}

impl Future for Waiter<'_> {
    type Output = Result<Lease, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let came = self.came;
        self.acquire.poll(context, || came)
    }
}

impl<'a> Deref for Waiter<'a> {
    type Target = Acquire<'a, Model>;

    fn deref(&self) -> &Self::Target {
        &self.acquire
    }
}

impl DerefMut for Waiter<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.acquire
    }
}

/// The clock's alarm goes off at `now`, and refuses those who came by `is_old`.
pub(crate) fn ring_at(pool: &Pool, clock: Clock, bell: &Arc<Wakes>, now: u64, is_old: u64) -> Option<Next<u64>> {
    pool.ring(clock, Waker::from(Arc::clone(bell)), || now, |came, _| came <= is_old)
}

/// The alarm of a waiter that was told so is set, and rests.
pub(crate) fn set_alarm(pool: &Pool, waiter: &mut Waiter<'_>) {
    waiter.is_watched();
    ring_at(pool, waiter.clock(), &Arc::default(), 0, 0);
}

/// An alarm goes off that rested, among waiters who all have a stamp; when the oldest came who is left.
pub(crate) fn ring(pool: &Pool, clock: Clock, is_old: u64) -> Option<u64> {
    let next = ring_at(pool, clock, &Arc::default(), u64::MAX, is_old)?;
    assert!(!next.ticks, "it has nobody to tick for");
    Some(next.oldest)
}

/// The connections that are alive, never more than `most`. The count is loom's, so that a switch can come right before a
/// connection is gone.
pub(crate) struct World {
    most: usize,
    alive: loom::sync::atomic::AtomicUsize,
}

impl World {
    pub(crate) fn connect(self: &Arc<Self>) -> Connection {
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(alive <= self.most, "{alive} connections of at most {} are alive", self.most);
        Connection { world: Arc::clone(self) }
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

pub(crate) struct Connection {
    world: Arc<World>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if in_model() {
            self.world.alive.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

pub(crate) fn pool(max: usize) -> Arc<Pool> {
    resizable(max, max)
}

/// A pool that will be resized, to `most` at most.
pub(crate) fn resizable(max: usize, most: usize) -> Arc<Pool> {
    let world = World { most, alive: loom::sync::atomic::AtomicUsize::new(0) };
    Arc::new(Core::new(max, Arc::new(world)))
}

/// Acquires as the pool does: waits, and connects if the slot is empty.
pub(crate) fn acquire(pool: &Arc<Pool>) -> Result<Lease, Refused> {
    let mut lease = block_on(waiter(pool))?;
    connect(&mut lease);
    Ok(lease)
}

/// Opens the slot's connection unless it holds one.
pub(crate) fn connect(lease: &mut Lease) {
    if lease.connection().is_none() {
        let connection = lease.core().context().connect();
        *lease.connection() = Some(connection);
    }
}

/// Acquires and gives back at once.
pub(crate) fn visit(pool: &Arc<Pool>) {
    drop(acquire(pool).expect("nobody closes this pool"));
}

/// Another thread with its own handle to the pool.
pub(crate) fn spawn<R: 'static>(pool: &Arc<Pool>, f: impl FnOnce(&Arc<Pool>) -> R + 'static) -> JoinHandle<R> {
    let pool = Arc::clone(pool);
    loom::thread::spawn(move || f(&pool))
}

/// Runs a future to its end. Loom's own `block_on` is behind a feature; like it, this one also wakes spuriously once. A
/// future that nobody wakes is a deadlock, which loom finds.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Signal(Notify);
    impl Wake for Signal {
        fn wake(self: Arc<Self>) {
            if in_model() {
                self.0.notify();
            }
        }
    }

    let signal = Arc::new(Signal(Notify::new()));
    let waker = Waker::from(Arc::clone(&signal));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        signal.0.wait();
    }
}

/// Counts its wakes. Not a place to switch: what a waker does is the executor's business.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Polls `future` once with this waker.
    pub(crate) fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        pin!(future).poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What holds when all threads have ended and nobody holds a lease.
pub(crate) fn assert_at_rest(pool: &Arc<Pool>) {
    let census = pool.census();
    assert!(census.open <= census.max, "{census:?}: more slots than there may be");
    assert!(census.most_open <= pool.context().most(), "{census:?}: more slots in use than there ever were");
    assert_eq!(census.waiting, 0, "{census:?}: everybody has left");
    assert_eq!(census.open, census.idle, "{census:?}: every slot in use holds an idle connection");
    assert_eq!(census.idle, pool.context().alive(), "{census:?}: every connection that is alive is idle");
    assert_eq!(Arc::strong_count(pool), 1, "every lease has let go of the pool");

    // Not one slot is lost, and not one is there twice.
    let wakes = Arc::new(Wakes::default());
    let mut leases = Vec::new();
    while let Poll::Ready(lease) = wakes.poll(&mut waiter(pool)) {
        leases.push(lease.expect("the pool is open"));
    }
    assert_eq!(leases.len(), census.max, "slots that can be acquired");
}

/// What holds once `closed` has resolved.
pub(crate) fn assert_closed(pool: &Arc<Pool>) {
    let census = pool.census();
    assert_eq!((census.open, census.idle, census.waiting), (0, 0, 0), "{census:?}: all is gone");
    assert!(matches!(Arc::new(Wakes::default()).poll(&mut waiter(pool)), Poll::Ready(Err(Refused::Closed))));
}

/// Something that the exploration must come across, or it explored too little.
#[derive(Clone, Default)]
pub(crate) struct Sometimes(Arc<AtomicUsize>);

impl Sometimes {
    pub(crate) fn seen_if(&self, seen: bool) {
        self.0.fetch_add(usize::from(seen), Ordering::Relaxed);
    }

    pub(crate) fn assert(&self, what: &str) {
        let times = self.0.load(Ordering::Relaxed);
        assert!(times > 0, "never explored: {what}");
        println!("    {what}: {times} times");
    }
}

/// Pre-emptions that most models end with in seconds.
const DEEPEST: usize = 6;

/// Runs `model` under every interleaving of at most `LOOM_MAX_PREEMPTIONS` pre-emptions, 3 unless set, and never more than 6.
pub(crate) fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    explore_to(DEEPEST, name, model);
}

/// The same for a model that does not end in its time with as many: with `deepest` at most.
pub(crate) fn explore_to(deepest: usize, name: &str, model: impl Fn() + Send + Sync + 'static) {
    let interleavings = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&interleavings);
    let mut builder = Builder::new();
    let bound = builder.preemption_bound.unwrap_or(3).min(deepest);
    builder.preemption_bound = Some(bound);
    exploring(|| {
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
        });
    });
    let count = interleavings.load(Ordering::Relaxed);
    println!("{name}: {count} interleavings of up to {bound} pre-emptions");
}

/// The message with which `model` fails. Nothing of the expected panic is printed; other tests must still be heard.
pub(crate) fn failure(model: impl FnOnce()) -> String {
    thread_local!(static EXPECTED: Cell<bool> = const { Cell::new(false) });
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                loud(info)
            }
        }));
    });

    EXPECTED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(model));
    EXPECTED.set(false);
    let panic = outcome.expect_err("the model did not notice");
    let literal = panic.downcast_ref::<&str>().map(ToString::to_string);
    literal.or_else(|| panic.downcast_ref::<String>().cloned()).expect("panics carry a message")
}
