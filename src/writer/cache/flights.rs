//! Request coalescing: when many ask for the same answer and it is not kept, one read serves them ("single flight").
//!
//! A call may take an answer only of a snapshot that was taken after the call. So for each key there are at most two
//! *flights*: the one under way, whose snapshot may have been taken and which nobody boards any more, and the next, which
//! collects those who come meanwhile and begins when that one has landed. A key that is written to all the time costs one read
//! after the other, however many ask for it; a call waits for the rest of one read, and for one more.
//!
//! A flight reads by itself: whoever is aboard only waits for it, so none of them holds up the others if its future is not polled
//! (in a `select!`, or among others that are buffered). When all have left, it is cut short. If it fails, or panics, each of
//! them reads for itself: an error is its own caller's.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::catch::contain;
use crate::sync::{Arc, Mutex, Semaphore};

/// Starts a read, whose answer is to be [landed](Lead::land).
pub(super) type Start<K, T> = Box<dyn FnOnce(Lead<K, T>) + Send>;

/// The flights of all keys.
pub(super) struct Flights<K: Hash + Eq + Clone, T: Clone>(Mutex<HashMap<K, Routes<K, T>>>);

/// Those of one key.
struct Routes<K: Hash + Eq + Clone, T: Clone> {
    /// It has begun.
    current: Arc<Flight<T>>,
    next: Option<Next<K, T>>,
}

/// One that has not begun, and what begins it.
type Next<K, T> = (Arc<Flight<T>>, Start<K, T>);

struct Flight<T> {
    /// `None` inside: it failed.
    answer: OnceLock<Option<T>>,
    /// Closed when it has landed.
    has_landed: Semaphore,
    /// How many are aboard; changed with the lock of all flights only.
    aboard: AtomicUsize,
    /// Closed when all have left.
    is_empty: Semaphore,
}

impl<T> Flight<T> {
    fn new() -> Arc<Self> {
        let event = || Semaphore::new(0);
        Arc::new(Self { answer: OnceLock::new(), has_landed: event(), aboard: AtomicUsize::new(0), is_empty: event() })
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    /// Takes part in the next flight of this key, which `start` begins unless somebody else's did: now if none is under way,
    /// otherwise when that has landed.
    pub(super) fn board(self: &Arc<Self>, key: &K, start: Start<K, T>) -> Seat<K, T> {
        let (flight, begins, _dropped_without_the_lock) = self.0.with(|all| {
            let (flight, begins, unused) = match all.get_mut(key) {
                Some(Routes { next: Some((next, _)), .. }) => (Arc::clone(next), None, Some(start)),
                Some(routes) => {
                    let next = Flight::new();
                    routes.next = Some((Arc::clone(&next), start));
                    (next, None, None)
                }
                None => {
                    let current = Flight::new();
                    all.insert(key.clone(), Routes { current: Arc::clone(&current), next: None });
                    (current, Some(start), None)
                }
            };
            flight.aboard.fetch_add(1, Ordering::Relaxed);
            (flight, begins, unused)
        });
        let seat = Seat { flights: Arc::clone(self), key: key.clone(), flight };
        if let Some(start) = begins {
            start(seat.lead());
        }
        seat
    }

    /// This flight is over: it has landed, or nobody is aboard. The next one begins.
    fn over(self: &Arc<Self>, key: &K, flight: &Arc<Flight<T>>) {
        let next = self.0.with(|all| {
            let routes = all.get_mut(key).filter(|routes| Arc::ptr_eq(&routes.current, flight))?;
            let next = routes.next.take();
            match &next {
                Some((flight, _)) => routes.current = Arc::clone(flight),
                None => drop(all.remove(key)),
            }
            next
        });
        if let Some((flight, start)) = next {
            start(Lead { flights: Arc::clone(self), key: key.clone(), flight });
        }
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.0.with(|all| all.len())
    }
}

impl<K: Hash + Eq + Clone, T: Clone> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("keys", &self.0.with(|all| all.len())).finish()
    }
}

/// One who is aboard. Dropped, it leaves.
pub(super) struct Seat<K: Hash + Eq + Clone, T: Clone> {
    flights: Arc<Flights<K, T>>,
    key: K,
    flight: Arc<Flight<T>>,
}

impl<K: Hash + Eq + Clone, T: Clone> Seat<K, T> {
    /// The answer; `None` if the read failed.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub(super) async fn landed(&self) -> Option<T> {
        // Never given, only closed.
        let _ = self.flight.has_landed.acquire().await;
        self.flight.answer.get().cloned().flatten()
    }

    fn lead(&self) -> Lead<K, T> {
        Lead { flights: Arc::clone(&self.flights), key: self.key.clone(), flight: Arc::clone(&self.flight) }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Drop for Seat<K, T> {
    fn drop(&mut self) {
        let Self { flights, key, flight } = self;
        let mut never_begun = None;
        let is_empty = flights.0.with(|all| {
            let is_empty = flight.aboard.fetch_sub(1, Ordering::Relaxed) == 1;
            if is_empty && let Some(routes) = all.get_mut(key) {
                never_begun = routes.next.take_if(|(next, _)| Arc::ptr_eq(next, flight));
            }
            is_empty
        });
        drop(never_begun);
        if is_empty {
            flight.is_empty.close();
            flights.over(key, flight);
        }
    }
}

/// The read of a flight. Dropped before it has landed, it failed.
pub(super) struct Lead<K: Hash + Eq + Clone, T: Clone> {
    flights: Arc<Flights<K, T>>,
    key: K,
    flight: Arc<Flight<T>>,
}

impl<K: Hash + Eq + Clone, T: Clone> Lead<K, T> {
    pub(super) fn key(&self) -> &K {
        &self.key
    }

    /// For all who are aboard; `None` if it failed.
    pub(super) fn land(self, answer: Option<T>) {
        self.lands(answer);
    }

    /// Resolves when nobody is aboard any more.
    pub(super) fn left(&self) -> impl Future<Output = ()> + Send + use<K, T>
    where
        T: Send + Sync,
    {
        let flight = Arc::clone(&self.flight);
        async move {
            // Never given, only closed.
            let _ = flight.is_empty.acquire().await;
        }
    }

    fn lands(&self, answer: Option<T>) {
        if self.flight.answer.set(answer).is_ok() {
            // A waker is somebody else's: one that panics must keep nobody from the next flight.
            contain(|| self.flight.has_landed.close());
            self.flights.over(&self.key, &self.flight);
        }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Drop for Lead<K, T> {
    fn drop(&mut self) {
        self.lands(None);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Of = Flights<u8, u64>;

    /// Those that have begun to read, and whose start that was.
    type Began = Arc<Mutex<Vec<(&'static str, Lead<u8, u64>)>>>;

    struct World {
        flights: Arc<Of>,
        began: Began,
    }

    impl World {
        fn new() -> Self {
            Self { flights: Arc::default(), began: Arc::default() }
        }

        fn board(&self, key: u8, who: &'static str) -> Seat<u8, u64> {
            let began = Arc::clone(&self.began);
            self.flights.board(&key, Box::new(move |lead| began.with(|began| began.push((who, lead)))))
        }

        /// The one read that has begun, which must be of this one's start.
        fn begun(&self, who: &str) -> Lead<u8, u64> {
            let mut began = self.began.with(std::mem::take);
            assert_eq!(began.iter().map(|(who, _)| *who).collect::<Vec<_>>(), [who]);
            began.remove(0).1
        }

        fn is_over(&self) -> bool {
            self.began.with(|began| began.is_empty()) && self.flights.keys() == 0
        }
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn landed(seat: &Seat<u8, u64>) -> Option<Option<u64>> {
        poll(pin!(seat.landed()))
    }

    #[test]
    fn who_comes_during_a_read_takes_the_next_ones_answer_and_not_this_ones() {
        let world = World::new();
        let first = world.board(1, "first");
        let read = world.begun("first");
        let (second, third) = (world.board(1, "second"), world.board(1, "third"));
        read.land(Some(1));
        assert_eq!((landed(&first), landed(&second), landed(&third)), (Some(Some(1)), None, None));
        let read = world.begun("second");
        let fourth = world.board(1, "fourth");
        read.land(Some(2));
        assert_eq!((landed(&second), landed(&third)), (Some(Some(2)), Some(Some(2))));
        assert_eq!(landed(&fourth), None, "it came after the second began");
        world.begun("fourth").land(Some(3));
        assert_eq!(landed(&fourth), Some(Some(3)));
        assert!(world.is_over());
    }

    #[test]
    fn another_key_waits_for_nobody() {
        let world = World::new();
        let (_first, other) = (world.board(1, "first"), world.board(2, "other"));
        let mut began = world.began.with(std::mem::take);
        began.remove(1).1.land(Some(2));
        assert_eq!(landed(&other), Some(Some(2)));
        drop(began);
        assert!(world.is_over());
    }

    /// None of those aboard is ever polled but the last.
    #[test]
    fn whoever_is_not_polled_holds_up_nobody() {
        let world = World::new();
        let (_first, _second, third) = (world.board(1, "first"), world.board(1, "second"), world.board(1, "third"));
        world.begun("first").land(Some(1));
        world.begun("second").land(Some(2));
        assert_eq!(landed(&third), Some(Some(2)));
    }

    #[test]
    fn a_read_goes_on_for_those_who_stay_and_ends_when_all_have_left() {
        let world = World::new();
        let first = world.board(1, "first");
        let read = world.begun("first");
        let (second, third) = (world.board(1, "second"), world.board(1, "third"));
        let mut left = pin!(read.left());
        assert!(poll(left.as_mut()).is_none());
        drop(first);
        assert!(poll(left).is_some());
        let next = world.begun("second");
        drop(second);
        assert!(poll(pin!(next.left())).is_none(), "the third is aboard");
        read.land(Some(1));
        assert_eq!(landed(&third), None, "nobody boarded it any more");
        next.land(Some(2));
        assert_eq!(landed(&third), Some(Some(2)));
        assert!(world.is_over());
    }

    #[test]
    fn one_that_all_have_left_before_it_began_never_begins() {
        let world = World::new();
        let _first = world.board(1, "first");
        let read = world.begun("first");
        drop((world.board(1, "second"), world.board(1, "third")));
        let fourth = world.board(1, "fourth");
        read.land(Some(1));
        world.begun("fourth").land(Some(4));
        assert_eq!(landed(&fourth), Some(Some(4)));
        assert!(world.is_over());
    }

    #[test]
    fn a_read_that_fails_or_is_dropped_is_told_to_those_aboard() {
        for drops in [false, true] {
            let world = World::new();
            let _first = world.board(1, "first");
            let read = world.begun("first");
            let (second, third) = (world.board(1, "second"), world.board(1, "third"));
            read.land(Some(1));
            match (drops, world.begun("second")) {
                (false, read) => read.land(None),
                (true, read) => drop(read),
            }
            assert_eq!((landed(&second), landed(&third)), (Some(None), Some(None)));
            assert!(world.is_over());
        }
    }

    /// As one does that finds the answer kept.
    #[test]
    fn a_read_may_land_as_it_begins() {
        let flights: Arc<Of> = Arc::default();
        let seat = flights.board(&1, Box::new(|lead| lead.land(Some(7))));
        assert_eq!((landed(&seat), flights.keys()), (Some(Some(7)), 0));
    }
}
