//! Whoever looks, and asks to be woken only later, misses what happened in between.
//!
//! ```text
//! client-1                     client-2
//! enters
//!                              looks: somebody is in
//! leaves: nobody to be woken
//!                              asks to be woken, for ever
//! ```

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use poolproof::Error;
use poolproof::harness::sim::World;

use crate::sim::clients::{each, give_way, one_connection};
use crate::sim::hunt::Hunt;

/// A room for one.
#[derive(Default)]
struct Room {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_taken: bool,
    waiters: VecDeque<Waker>,
}

impl Room {
    fn enters(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().is_taken, true)
    }

    /// Looks and asks under one lock.
    fn polls(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.is_taken {
            state.waiters.push_back(cx.waker().clone());
            return Poll::Pending;
        }
        state.is_taken = true;
        Poll::Ready(())
    }

    async fn acquire(&self, world: &World, is_broken: bool) {
        if !is_broken {
            return poll_fn(|cx| self.polls(cx)).await;
        }
        while !self.enters() {
            world.note("must wait");
            // A line in a log, a number that is counted: anything that is awaited.
            give_way().await;
            self.is_woken().await;
        }
    }

    async fn is_woken(&self) {
        let mut has_asked = false;
        poll_fn(|cx| {
            if has_asked {
                return Poll::Ready(());
            }
            has_asked = true;
            self.state.lock().waiters.push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn release(&self) {
        let mut state = self.state.lock();
        state.is_taken = false;
        let next = state.waiters.pop_front();
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }
}

async fn room(world: World, is_broken: bool) -> Result<(), Error> {
    let room = Arc::new(Room::default());
    each(&world, 2, |_| {
        let (world, room) = (world.clone(), Arc::clone(&room));
        async move {
            room.acquire(&world, is_broken).await;
            world.note("enters");
            give_way().await;
            world.note("leaves");
            room.release();
            Ok(())
        }
    })
    .await
}

#[test]
fn a_lost_wake_up_is_found() {
    Hunt::new("the lost wake-up", &["waits, and nobody will wake it"])
        .finds(async |world| room(world, true).await)
        .but_not(async |world| room(world, false).await)
        .but_not(one_connection);
}
