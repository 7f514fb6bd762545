//! Who reads, and who takes what another reads, when the same answer is asked for by many and is not kept.
//!
//! A call may take an answer only of a snapshot that was taken after the call. So for each key there are at most two
//! *flights*: the one under way, whose snapshot may have been taken and which nobody boards any more, and the next, which
//! collects whoever comes meanwhile and begins when that one has landed. A key that is written to all the time costs one read
//! after the other, however many ask for it; a call waits for the rest of one read, and for one more.
//!
//! One of those aboard leads: it reads. If it leaves, another does. If it fails, or panics, each of the others reads for
//! itself: an error is its own caller's.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::OnceLock;

use tokio::sync::SemaphorePermit;

use crate::sync::{Arc, Mutex, Semaphore};

/// The flights of all keys.
#[derive(Debug)]
pub(super) struct Flights<K, T>(Mutex<HashMap<K, Routes<T>>>);

/// Those of one key.
#[derive(Debug)]
struct Routes<T> {
    current: Arc<Flight<T>>,
    /// Whether its leader reads: nobody boards it any more.
    begun: bool,
    next: Option<Arc<Flight<T>>>,
}

#[derive(Debug)]
struct Flight<T> {
    /// A permit for who leads; closed when it has landed.
    lead: Semaphore,
    /// `None` inside: it failed.
    landed: OnceLock<Option<T>>,
    /// How many are aboard; changed with the lock only.
    aboard: Mutex<usize>,
}

impl<T> Flight<T> {
    fn new(leaders: usize) -> Arc<Self> {
        Arc::new(Self { lead: Semaphore::new(leaders), landed: OnceLock::new(), aboard: Mutex::new(0) })
    }
}

/// What became of a call that boarded.
pub(super) enum Boarded<'f, K: Hash + Eq, T> {
    /// It is to read.
    Leads(Lead<'f, K, T>),
    /// Another did; `None` if that one failed.
    Landed(Option<T>),
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    /// Takes part in the next flight of this key.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the others go on.
    pub(super) async fn board(&self, key: &K) -> Boarded<'_, K, T> {
        let seat = self.seat(key);
        // It is handed over with the flight, not given back.
        let leads = seat.flight.lead.acquire().await.map(SemaphorePermit::forget).is_ok();
        if !leads {
            return Boarded::Landed(seat.flight.landed.get().cloned().flatten());
        }
        self.0.with(|all| {
            if let Some(routes) = all.get_mut(key) {
                routes.begun = true;
            }
        });
        Boarded::Leads(Lead { seat })
    }

    fn seat(&self, key: &K) -> Seat<'_, K, T> {
        let flight = self.0.with(|all| {
            let flight = match all.get_mut(key) {
                Some(routes) if routes.begun => routes.next.get_or_insert_with(|| Flight::new(0)),
                Some(routes) => &routes.current,
                None => {
                    let routes = Routes { current: Flight::new(1), begun: false, next: None };
                    &all.entry(key.clone()).or_insert(routes).current
                }
            };
            flight.aboard.with(|aboard| *aboard += 1);
            Arc::clone(flight)
        });
        Seat { flights: self, key: key.clone(), flight }
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.0.with(|all| all.len())
    }
}

/// This flight is over: it has landed, or nobody is aboard. The next one begins.
fn over<K: Hash + Eq, T>(all: &mut HashMap<K, Routes<T>>, key: &K, flight: &Arc<Flight<T>>) {
    let Some(routes) = all.get_mut(key).filter(|routes| Arc::ptr_eq(&routes.current, flight)) else { return };
    match routes.next.take() {
        Some(next) => {
            next.lead.add_permits(1);
            (routes.current, routes.begun) = (next, false);
        }
        None => {
            all.remove(key);
        }
    }
}

/// One who is aboard.
struct Seat<'f, K: Hash + Eq, T> {
    flights: &'f Flights<K, T>,
    key: K,
    flight: Arc<Flight<T>>,
}

impl<K: Hash + Eq, T> Drop for Seat<'_, K, T> {
    fn drop(&mut self) {
        let Self { flights, key, flight } = self;
        flights.0.with(|all| {
            let left = flight.aboard.with(|aboard| {
                *aboard -= 1;
                *aboard
            });
            if left > 0 {
                return;
            }
            // One that has not begun waits for nobody now.
            if let Some(routes) = all.get_mut(key) {
                routes.next.take_if(|next| Arc::ptr_eq(next, flight));
            }
            over(all, key, flight);
        });
    }
}

/// The one who reads. Dropped before it has landed, another leads.
pub(super) struct Lead<'f, K: Hash + Eq, T> {
    seat: Seat<'f, K, T>,
}

impl<K: Hash + Eq, T> Lead<'_, K, T> {
    /// For all who are aboard; `None` if it failed.
    pub(super) fn land(self, answer: Option<T>) {
        self.lands(answer);
    }

    fn lands(&self, answer: Option<T>) {
        let Seat { flights, key, flight } = &self.seat;
        if flight.landed.set(answer).is_ok() {
            flight.lead.close();
            flights.0.with(|all| over(all, key, flight));
        }
    }
}

impl<K: Hash + Eq, T> Drop for Lead<'_, K, T> {
    fn drop(&mut self) {
        match std::thread::panicking() {
            // The next one would panic as well, and the others wait for each of them.
            true => self.lands(None),
            false if self.seat.flight.landed.get().is_none() => self.seat.flight.lead.add_permits(1),
            false => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Of = Flights<u8, u64>;

    fn poll<'f>(board: Pin<&mut impl Future<Output = Boarded<'f, u8, u64>>>) -> Option<Boarded<'f, u8, u64>> {
        match board.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(boarded) => Some(boarded),
            Poll::Pending => None,
        }
    }

    fn leads<'f>(board: Pin<&mut impl Future<Output = Boarded<'f, u8, u64>>>) -> Lead<'f, u8, u64> {
        match poll(board) {
            Some(Boarded::Leads(lead)) => lead,
            Some(Boarded::Landed(answer)) => panic!("it has landed with {answer:?}"),
            None => panic!("it waits"),
        }
    }

    fn landed<'f>(board: Pin<&mut impl Future<Output = Boarded<'f, u8, u64>>>) -> Option<u64> {
        match poll(board) {
            Some(Boarded::Landed(answer)) => answer,
            Some(Boarded::Leads(_)) => panic!("it leads"),
            None => panic!("it waits"),
        }
    }

    #[test]
    fn who_comes_during_a_read_takes_the_next_ones_answer_and_not_this_ones() {
        let flights = Of::default();
        let first = leads(pin!(flights.board(&1)));
        let (mut second, mut third) = (pin!(flights.board(&1)), pin!(flights.board(&1)));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        first.land(Some(1));
        let next = leads(second);
        assert!(poll(third.as_mut()).is_none());
        let mut fourth = pin!(flights.board(&1));
        assert!(poll(fourth.as_mut()).is_none(), "it came after the second began");
        next.land(Some(2));
        assert_eq!(landed(third), Some(2));
        leads(fourth).land(Some(3));
        assert_eq!(flights.keys(), 0);
    }

    #[test]
    fn another_key_waits_for_nobody() {
        let flights = Of::default();
        let first = leads(pin!(flights.board(&1)));
        leads(pin!(flights.board(&2))).land(Some(2));
        first.land(None);
        assert_eq!(flights.keys(), 0);
    }

    #[test]
    fn a_leader_that_leaves_hands_over() {
        let flights = Of::default();
        let first = leads(pin!(flights.board(&1)));
        let (mut second, mut third) = (pin!(flights.board(&1)), pin!(flights.board(&1)));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        drop(first);
        drop(leads(second));
        leads(third).land(Some(3));
        assert_eq!(flights.keys(), 0);
    }

    /// Woken to lead, and gone before it knows.
    #[test]
    fn a_leader_that_leaves_before_it_knows_hands_over() {
        let flights = Of::default();
        let first = leads(pin!(flights.board(&1)));
        let mut third = pin!(flights.board(&1));
        {
            let mut second = pin!(flights.board(&1));
            assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
            first.land(Some(1));
        }
        leads(third).land(Some(3));
        assert_eq!(flights.keys(), 0);
    }

    #[test]
    fn when_all_have_left_nothing_is_left() {
        let flights = Of::default();
        let first = leads(pin!(flights.board(&1)));
        {
            let mut second = pin!(flights.board(&1));
            assert!(poll(second.as_mut()).is_none());
        }
        drop(first);
        assert_eq!(flights.keys(), 0);
        leads(pin!(flights.board(&1))).land(Some(1));
        assert_eq!(flights.keys(), 0);
    }

    #[test]
    fn the_next_begins_although_all_of_the_first_have_left() {
        let flights = Of::default();
        let first = leads(pin!(flights.board(&1)));
        let mut second = pin!(flights.board(&1));
        assert!(poll(second.as_mut()).is_none());
        drop(first);
        leads(second).land(Some(2));
        assert_eq!(flights.keys(), 0);
    }

    #[test]
    fn a_failure_or_a_panic_is_told_to_those_aboard() {
        for panics in [false, true] {
            let flights = Of::default();
            let first = leads(pin!(flights.board(&1)));
            let (mut second, mut third) = (pin!(flights.board(&1)), pin!(flights.board(&1)));
            assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
            first.land(Some(1));
            let leader = leads(second);
            match panics {
                false => leader.land(None),
                true => {
                    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let _leader = leader;
                        std::panic::resume_unwind(Box::new(()));
                    }));
                    assert!(ended.is_err());
                }
            }
            assert_eq!(landed(third), None);
            assert_eq!(flights.keys(), 0);
        }
    }
}
