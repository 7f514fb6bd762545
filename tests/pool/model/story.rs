//! What can happen to a pool: how it is made, what is done to it, what that shows. And how stories are drawn.

use proptest::prelude::*;

use crate::server::Call;

/// The time limits of every pool, in units. Waiting and connecting together can take longer than a whole acquire may.
pub const CONNECT: u64 = 2;
pub const ACQUIRE: u64 = 4;
pub const HOOK: u64 = 1;

/// What a pool is made with, and what its first calls into user code come to; those after them succeed at once. Times are
/// in units.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub max: usize,
    /// The limit of waiting, which may be more than that of a whole acquire.
    pub wait: u64,
    pub limits: Limits,
    pub connects: Vec<Reply>,
    /// Of a pool that tests connections: after how long, and what the tests say.
    pub tests: Option<(u64, Vec<Reply>)>,
    /// Of a pool with hooks: what the one before an acquire says.
    pub hooks: Option<Vec<Reply>>,
}

impl Setup {
    /// What the calls of this kind come to.
    pub fn replies(&self, call: Call) -> &[Reply] {
        match (call, &self.tests, &self.hooks) {
            (Call::Connect, ..) => &self.connects,
            (Call::Test, Some((_, replies)), _) | (Call::BeforeAcquire, _, Some(replies)) => replies,
            _ => &[],
        }
    }
}

/// How long an idle connection is kept.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Not 0 only if one of the others is set: then the pool's own task is due whenever time has passed.
    pub min_idle: usize,
    pub idle_timeout: Option<u64>,
    pub max_lifetime: Option<u64>,
}

/// What a call into user code comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Succeeds,
    Fails,
    Panics,
    /// Whatever it is told, once it is told.
    Later,
}

/// One thing that happens. A number chooses one of those there are, modulo how many; if there is none, nothing happens.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Polled once.
    Get,
    /// Polled once; a get like any other, unless there is nothing to have.
    TryGet,
    Poll(usize),
    Cancel(usize),
    /// A call that waits for it is told what to come to.
    Answer(usize, Reply),
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
    /// A get that does not wait has nothing.
    Nothing,
    Closed,
    ConnectFailed,
    TurnedDown,
    Panicked,
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

/// Most are short, so that a thousand of them meet much; a few are long, so that what is lost step by step is missed.
pub fn stories() -> impl Strategy<Value = (Setup, Vec<Step>)> {
    let closes = prop_oneof![Just(Step::Close), (0..=3_u64).prop_map(Step::CloseWithin)];
    let short = prop::collection::vec(prop_oneof![110 => steps(), 1 => closes], 1..120);
    // A pool that is closed early has not lived long.
    let long = prop::collection::vec(steps(), 1..1_000);
    prop_oneof![49 => (setups(20), short), 1 => (setups(200), long)]
}

/// With scripts for so many calls of a kind.
fn setups(script: usize) -> impl Strategy<Value = Setup> {
    let replies = |succeeds: u32, fails: u32, panics: u32, later: u32| {
        let reply = prop_oneof![
            succeeds => Just(Reply::Succeeds),
            fails => Just(Reply::Fails),
            panics => Just(Reply::Panics),
            later => Just(Reply::Later),
        ];
        prop::collection::vec(reply, 0..script)
    };
    let limit = |longest| prop::option::of(1..=longest);
    let limits = (prop_oneof![2 => Just(0), 1 => 1..=3_usize], limit(2_u64), limit(4_u64)).prop_map(
        |(min_idle, idle_timeout, max_lifetime)| {
            let min_idle = if idle_timeout.or(max_lifetime).is_some() { min_idle } else { 0 };
            Limits { min_idle, idle_timeout, max_lifetime }
        },
    );
    let tests = prop::option::weighted(0.3, (0..=1_u64, replies(10, 4, 1, 4)));
    let hooks = prop::option::weighted(0.4, replies(10, 4, 1, 4));
    (1..=4_usize, 3..=5_u64, limits, replies(10, 2, 1, 6), tests, hooks).prop_map(
        |(max, wait, mut limits, connects, tests, hooks)| {
            limits.min_idle = limits.min_idle.min(max);
            Setup { max, wait, limits, connects, tests, hooks }
        },
    )
}

/// All but closes.
fn steps() -> impl Strategy<Value = Step> {
    let which = || 0..8_usize;
    let answers = prop_oneof![6 => Just(Reply::Succeeds), 2 => Just(Reply::Fails), 1 => Just(Reply::Panics)];
    prop_oneof![
        44 => Just(Step::Get),
        8 => Just(Step::TryGet),
        32 => which().prop_map(Step::Poll),
        14 => which().prop_map(Step::Cancel),
        16 => (which(), answers).prop_map(|(choice, reply)| Step::Answer(choice, reply)),
        36 => which().prop_map(Step::Return),
        8 => which().prop_map(Step::ReturnBroken),
        4 => which().prop_map(Step::Panic),
        4 => which().prop_map(Step::Detach),
        8 => (1..=5_usize).prop_map(Step::Resize),
        3 => any::<bool>().prop_map(|odd| Step::Retain { odd }),
        24 => which().prop_map(Step::PollClose),
        2 => which().prop_map(Step::CancelClose),
        16 => (1..=3_u64).prop_map(Step::Pass),
        8 => Just(Step::Turn),
    ]
}
