//! A permit that is handed to a waiter who is gone is nobody's.
//!
//! ```text
//! client-1                        client-2
//! holds the permit
//!                                 waits
//! leaves: "it is yours, client-2"
//!                                 (is dropped before it hears of that)
//! waits, for ever
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use poolproof::Error;
use poolproof::harness::sim::World;
use tokio::sync::oneshot;

use crate::sim::clients::{each, give_way, one_connection};
use crate::sim::hunt::Hunt;

/// One permit, handed over in the order of those who wait.
#[derive(Default)]
struct Turns {
    state: Mutex<State>,
    /// The flaw: a waiter is told of its permit, and not given it.
    is_broken: bool,
}

#[derive(Default)]
struct State {
    is_taken: bool,
    waiters: VecDeque<oneshot::Sender<Option<Permit>>>,
}

struct Permit(Arc<Turns>);

impl Turns {
    async fn acquire(self: &Arc<Self>) -> Permit {
        let turn = {
            let mut state = self.state.lock();
            if !std::mem::replace(&mut state.is_taken, true) {
                return Permit(Arc::clone(self));
            }
            let (sender, turn) = oneshot::channel();
            state.waiters.push_back(sender);
            turn
        };
        let permit = turn.await.expect("it outlives its waiters");
        permit.unwrap_or_else(|| Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let turns = &self.0;
        loop {
            let next = {
                let mut state = turns.state.lock();
                let next = state.waiters.pop_front();
                state.is_taken = next.is_some();
                next
            };
            let Some(next) = next else { return };
            // A permit that arrives and is not taken goes on by being dropped.
            let permit = (!turns.is_broken).then(|| Permit(Arc::clone(turns)));
            match next.send(permit) {
                Ok(()) => return,
                Err(permit) => std::mem::forget(permit),
            }
        }
    }
}

async fn turns(world: World, is_broken: bool) -> Result<(), Error> {
    let turns = Arc::new(Turns { is_broken, ..Turns::default() });
    each(&world, 2, |_| {
        let (world, turns) = (world.clone(), Arc::clone(&turns));
        async move {
            for _ in 0..2 {
                let holds = async {
                    let _permit = turns.acquire().await;
                    world.note("enters");
                    give_way().await;
                };
                world.cancellable(holds).await;
            }
            turns.acquire().await;
            Ok(())
        }
    })
    .await
}

#[test]
fn a_leaked_permit_is_found() {
    Hunt::new("the leaked permit", &["waits, and nobody will wake it"])
        .faults("cancel=100000")
        .finds(async |world| turns(world, true).await)
        .but_not(async |world| turns(world, false).await)
        .but_not(one_connection);
}
