//! Request coalescing ("single flight"): when many ask for the same answer and it is not kept, one read serves them.
//!
//! A call may take an answer only of a snapshot that was taken after the call. So for each key there are at most two reads: the
//! current one, whose snapshot may have been taken and which nobody joins any more, and the next, which collects those who come
//! meanwhile and begins when the current one is complete. A key that is written to all the time costs one read after the other,
//! however many ask for it; a call waits for the rest of one read, and for one more.
//!
//! A read runs by itself: its waiters only wait, so none of them holds up the others if its future is not polled (in a `select!`,
//! or among others that are buffered). When all have left, it is abandoned, and cut short. If it fails, or panics, each of them
//! reads for itself: an error is its own caller's.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::catch::contain;
use crate::sync::{Arc, Mutex, Semaphore};

/// Starts a read, which is to be [completed](Running::complete).
pub(super) type Start<K, T> = Box<dyn FnOnce(Running<K, T>) + Send>;

/// The reads of all keys.
pub(super) struct Coalescer<K: Hash + Eq + Clone, T: Clone>(Mutex<HashMap<K, Reads<K, T>>>);

/// Those of one key.
struct Reads<K: Hash + Eq + Clone, T: Clone> {
    /// It has begun.
    current: Arc<Read<T>>,
    next: Option<Next<K, T>>,
}

/// One that has not begun, and what begins it.
type Next<K, T> = (Arc<Read<T>>, Start<K, T>);

struct Read<T> {
    /// `None` inside: it failed.
    answer: OnceLock<Option<T>>,
    /// Closed when there is the answer.
    is_complete: Semaphore,
    /// How many wait; changed with the lock of all keys only.
    waiters: AtomicUsize,
    /// Closed when all have left.
    is_abandoned: Semaphore,
}

impl<T> Read<T> {
    fn new() -> Arc<Self> {
        let event = || Semaphore::new(0);
        Arc::new(Self {
            answer: OnceLock::new(),
            is_complete: event(),
            waiters: AtomicUsize::new(0),
            is_abandoned: event(),
        })
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Default for Coalescer<K, T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Coalescer<K, T> {
    /// Joins the next read of this key, which `start` begins unless somebody else's did: now if none is under way, otherwise when
    /// that is complete.
    pub(super) fn join(self: &Arc<Self>, key: &K, start: Start<K, T>) -> Waiter<K, T> {
        let (read, begins, _dropped_without_the_lock) = self.0.with(|all| {
            let (read, begins, unused) = match all.get_mut(key) {
                Some(Reads { next: Some((next, _)), .. }) => (Arc::clone(next), None, Some(start)),
                Some(reads) => {
                    let next = Read::new();
                    reads.next = Some((Arc::clone(&next), start));
                    (next, None, None)
                }
                None => {
                    let current = Read::new();
                    all.insert(key.clone(), Reads { current: Arc::clone(&current), next: None });
                    (current, Some(start), None)
                }
            };
            read.waiters.fetch_add(1, Ordering::Relaxed);
            (read, begins, unused)
        });
        let waiter = Waiter { coalescer: Arc::clone(self), key: key.clone(), read };
        if let Some(start) = begins {
            start(waiter.running());
        }
        waiter
    }

    /// This read is over: it is complete, or abandoned. The next one begins.
    fn over(self: &Arc<Self>, key: &K, read: &Arc<Read<T>>) {
        let next = self.0.with(|all| {
            let reads = all.get_mut(key).filter(|reads| Arc::ptr_eq(&reads.current, read))?;
            let next = reads.next.take();
            match &next {
                Some((read, _)) => reads.current = Arc::clone(read),
                None => drop(all.remove(key)),
            }
            next
        });
        if let Some((read, start)) = next {
            start(Running { coalescer: Arc::clone(self), key: key.clone(), read });
        }
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.0.with(|all| all.len())
    }
}

impl<K: Hash + Eq + Clone, T: Clone> fmt::Debug for Coalescer<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalescer").field("keys", &self.0.with(|all| all.len())).finish()
    }
}

/// One who waits. Dropped, it leaves.
pub(super) struct Waiter<K: Hash + Eq + Clone, T: Clone> {
    coalescer: Arc<Coalescer<K, T>>,
    key: K,
    read: Arc<Read<T>>,
}

impl<K: Hash + Eq + Clone, T: Clone> Waiter<K, T> {
    /// The answer; `None` if the read failed.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub(super) async fn answer(&self) -> Option<T> {
        // Never given, only closed.
        let _ = self.read.is_complete.acquire().await;
        self.read.answer.get().cloned().flatten()
    }

    fn running(&self) -> Running<K, T> {
        Running { coalescer: Arc::clone(&self.coalescer), key: self.key.clone(), read: Arc::clone(&self.read) }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Drop for Waiter<K, T> {
    fn drop(&mut self) {
        let Self { coalescer, key, read } = self;
        let mut never_begun = None;
        let is_abandoned = coalescer.0.with(|all| {
            let is_abandoned = read.waiters.fetch_sub(1, Ordering::Relaxed) == 1;
            if is_abandoned && let Some(reads) = all.get_mut(key) {
                never_begun = reads.next.take_if(|(next, _)| Arc::ptr_eq(next, read));
            }
            is_abandoned
        });
        drop(never_begun);
        if is_abandoned {
            read.is_abandoned.close();
            coalescer.over(key, read);
        }
    }
}

/// A read that has begun. Dropped before it is complete, it failed.
pub(super) struct Running<K: Hash + Eq + Clone, T: Clone> {
    coalescer: Arc<Coalescer<K, T>>,
    key: K,
    read: Arc<Read<T>>,
}

impl<K: Hash + Eq + Clone, T: Clone> Running<K, T> {
    pub(super) fn key(&self) -> &K {
        &self.key
    }

    /// For all who wait; `None` if it failed.
    pub(super) fn complete(self, answer: Option<T>) {
        self.completes(answer);
    }

    /// Resolves when nobody waits any more.
    pub(super) fn abandoned(&self) -> impl Future<Output = ()> + Send + use<K, T>
    where
        T: Send + Sync,
    {
        let read = Arc::clone(&self.read);
        async move {
            // Never given, only closed.
            let _ = read.is_abandoned.acquire().await;
        }
    }

    fn completes(&self, answer: Option<T>) {
        if self.read.answer.set(answer).is_ok() {
            // A waker is somebody else's: one that panics must keep nobody from the next read.
            contain(|| self.read.is_complete.close());
            self.coalescer.over(&self.key, &self.read);
        }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Drop for Running<K, T> {
    fn drop(&mut self) {
        self.completes(None);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Of = Coalescer<u8, u64>;

    /// Those that have begun to read, and whose start that was.
    type Began = Arc<Mutex<Vec<(&'static str, Running<u8, u64>)>>>;

    struct World {
        coalescer: Arc<Of>,
        began: Began,
    }

    impl World {
        fn new() -> Self {
            Self { coalescer: Arc::default(), began: Arc::default() }
        }

        fn join(&self, key: u8, who: &'static str) -> Waiter<u8, u64> {
            let began = Arc::clone(&self.began);
            self.coalescer.join(&key, Box::new(move |running| began.with(|began| began.push((who, running)))))
        }

        /// The one read that has begun, which must be of this one's start.
        fn begun(&self, who: &str) -> Running<u8, u64> {
            let mut began = self.began.with(std::mem::take);
            assert_eq!(began.iter().map(|(who, _)| *who).collect::<Vec<_>>(), [who]);
            began.remove(0).1
        }

        fn is_over(&self) -> bool {
            self.began.with(|began| began.is_empty()) && self.coalescer.keys() == 0
        }
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn answer(waiter: &Waiter<u8, u64>) -> Option<Option<u64>> {
        poll(pin!(waiter.answer()))
    }

    #[test]
    fn who_comes_during_a_read_takes_the_next_ones_answer_and_not_this_ones() {
        let world = World::new();
        let first = world.join(1, "first");
        let read = world.begun("first");
        let (second, third) = (world.join(1, "second"), world.join(1, "third"));
        read.complete(Some(1));
        assert_eq!((answer(&first), answer(&second), answer(&third)), (Some(Some(1)), None, None));
        let read = world.begun("second");
        let fourth = world.join(1, "fourth");
        read.complete(Some(2));
        assert_eq!((answer(&second), answer(&third)), (Some(Some(2)), Some(Some(2))));
        assert_eq!(answer(&fourth), None, "it came after the second began");
        world.begun("fourth").complete(Some(3));
        assert_eq!(answer(&fourth), Some(Some(3)));
        assert!(world.is_over());
    }

    #[test]
    fn another_key_waits_for_nobody() {
        let world = World::new();
        let (_first, other) = (world.join(1, "first"), world.join(2, "other"));
        let mut began = world.began.with(std::mem::take);
        began.remove(1).1.complete(Some(2));
        assert_eq!(answer(&other), Some(Some(2)));
        drop(began);
        assert!(world.is_over());
    }

    /// None of those who wait is ever polled but the last.
    #[test]
    fn whoever_is_not_polled_holds_up_nobody() {
        let world = World::new();
        let (_first, _second, third) = (world.join(1, "first"), world.join(1, "second"), world.join(1, "third"));
        world.begun("first").complete(Some(1));
        world.begun("second").complete(Some(2));
        assert_eq!(answer(&third), Some(Some(2)));
    }

    #[test]
    fn a_read_goes_on_for_those_who_stay_and_ends_when_all_have_left() {
        let world = World::new();
        let first = world.join(1, "first");
        let read = world.begun("first");
        let (second, third) = (world.join(1, "second"), world.join(1, "third"));
        let mut abandoned = pin!(read.abandoned());
        assert!(poll(abandoned.as_mut()).is_none());
        drop(first);
        assert!(poll(abandoned).is_some());
        let next = world.begun("second");
        drop(second);
        assert!(poll(pin!(next.abandoned())).is_none(), "the third waits");
        read.complete(Some(1));
        assert_eq!(answer(&third), None, "nobody boarded it any more");
        next.complete(Some(2));
        assert_eq!(answer(&third), Some(Some(2)));
        assert!(world.is_over());
    }

    #[test]
    fn one_that_all_have_left_before_it_began_never_begins() {
        let world = World::new();
        let _first = world.join(1, "first");
        let read = world.begun("first");
        drop((world.join(1, "second"), world.join(1, "third")));
        let fourth = world.join(1, "fourth");
        read.complete(Some(1));
        world.begun("fourth").complete(Some(4));
        assert_eq!(answer(&fourth), Some(Some(4)));
        assert!(world.is_over());
    }

    #[test]
    fn a_read_that_fails_or_is_dropped_is_told_to_those_aboard() {
        for drops in [false, true] {
            let world = World::new();
            let _first = world.join(1, "first");
            let read = world.begun("first");
            let (second, third) = (world.join(1, "second"), world.join(1, "third"));
            read.complete(Some(1));
            match (drops, world.begun("second")) {
                (false, read) => read.complete(None),
                (true, read) => drop(read),
            }
            assert_eq!((answer(&second), answer(&third)), (Some(None), Some(None)));
            assert!(world.is_over());
        }
    }

    /// As one does that finds the answer kept.
    #[test]
    fn a_read_may_land_as_it_begins() {
        let coalescer: Arc<Of> = Arc::default();
        let waiter = coalescer.join(&1, Box::new(|running| running.complete(Some(7))));
        assert_eq!((answer(&waiter), coalescer.keys()), (Some(Some(7)), 0));
    }
}
