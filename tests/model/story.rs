//! What can happen to a pool: how it is made, what is done to it, what that shows. And how stories are drawn.

use proptest::prelude::*;

/// The time limits of every pool, in units. Waiting and connecting together can take longer than a whole acquire may.
pub const WAIT: u64 = 3;
pub const CONNECT: u64 = 2;
pub const ACQUIRE: u64 = 4;

/// What a pool is made with. Times are in units.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub max: usize,
    pub idle_timeout: Option<u64>,
    pub max_lifetime: Option<u64>,
    /// What the first connects do; the others succeed at once.
    pub opens: Vec<Opens>,
    /// Whether the hook before an acquire says no, call by call, and then never. `None` is a pool without hooks.
    pub refusals: Option<Vec<bool>>,
}

#[derive(Clone, Copy, Debug)]
pub enum Opens {
    AtOnce,
    Fails,
    /// Once it is answered.
    Later,
}

/// One thing that happens. A number chooses one of those there are, modulo how many; if there is none, nothing happens.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Polled once.
    Get,
    Poll(usize),
    Cancel(usize),
    /// A connect that waits for it succeeds.
    Answer(usize),
    Return(usize),
    ReturnBroken(usize),
    /// Its thread unwinds.
    Panic(usize),
    Detach(usize),
    Resize(usize),
    /// Keeps those with odd, or even, numbers.
    Retain {
        odd: bool,
    },
    /// Polled once.
    Close,
    /// Polled once.
    CloseWithin(u64),
    PollClose(usize),
    CancelClose(usize),
    /// Time passes, and the runtime is too busy to see to its timers.
    Pass(u64),
    /// The runtime's turn: what is due fires.
    Turn,
}

/// What a step shows. Times are in units.
#[derive(Debug, PartialEq)]
pub enum Shown {
    Done,
    Pending,
    /// A get has a connection, by its number.
    Lent(usize),
    Closed,
    ConnectFailed,
    TurnedDown,
    WaitedTooLong {
        waited: u64,
        place: usize,
    },
    ConnectedTooLong {
        waited: u64,
    },
    /// Retain asked about these, in this order, and closed so many.
    Retained {
        asked: Vec<usize>,
        closed: usize,
    },
    /// Close is over: nothing is open.
    Empty,
    /// Close is out of time, with so many in use.
    StillOpen(usize),
}

pub fn stories() -> impl Strategy<Value = (Setup, Vec<Step>)> {
    (setups(), prop::collection::vec(steps(), 1..120))
}

fn setups() -> impl Strategy<Value = Setup> {
    let opens = prop_oneof![5 => Just(Opens::AtOnce), 1 => Just(Opens::Fails), 3 => Just(Opens::Later)];
    let limits = |longest| prop::option::of(1..=longest);
    let refusals = prop::option::weighted(0.4, prop::collection::vec(prop::bool::weighted(0.3), 0..20));
    (1..=4_usize, limits(2_u64), limits(4_u64), prop::collection::vec(opens, 0..20), refusals).prop_map(
        |(max, idle_timeout, max_lifetime, opens, refusals)| Setup { max, idle_timeout, max_lifetime, opens, refusals },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let which = || 0..8_usize;
    prop_oneof![
        44 => Just(Step::Get),
        32 => which().prop_map(Step::Poll),
        14 => which().prop_map(Step::Cancel),
        16 => which().prop_map(Step::Answer),
        36 => which().prop_map(Step::Return),
        8 => which().prop_map(Step::ReturnBroken),
        4 => which().prop_map(Step::Panic),
        4 => which().prop_map(Step::Detach),
        8 => (1..=5_usize).prop_map(Step::Resize),
        3 => any::<bool>().prop_map(|odd| Step::Retain { odd }),
        1 => Just(Step::Close),
        1 => (0..=3_u64).prop_map(Step::CloseWithin),
        24 => which().prop_map(Step::PollClose),
        2 => which().prop_map(Step::CancelClose),
        16 => (1..=3_u64).prop_map(Step::Pass),
        8 => Just(Step::Turn),
    ]
}
