//! Who holds my connection? What is on record of holders, and what an acquire that ran out of time says about them.
//!
//! The hot path pays for a call site and a task id. The clock is read once by each who has to wait, or by an alarm for many
//! of them, and never by who gives back: a holder's time counts from when the first waiter queued behind it, or, if it was
//! handed its slot while others waited, from when the last of them had come. So "held for" means "has held others up for",
//! which is what the waiter wants to know; after a hand-over it is an upper bound, exact to the time between two arrivals, or
//! two ticks of the alarm.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::manage::Activity;
use super::status::Status;

/// Who acquired a slot, and where. All words, for padding in what each get moves would cost some nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    site: &'static Location<'static>,
    task: Option<tokio::task::Id>,
    /// Outside tasks, what runs in a `block_on`: its thread, by the address of something of its own. [`LANE`] for a writer's
    /// lane, [`POOL`] for a connection that is opened ahead; 0 in a task.
    thread: usize,
}

/// No addresses.
const POOL: usize = 1;
const LANE: usize = 2;

/// What is on record of a slot's connection.
#[derive(Clone)]
pub(crate) enum Note {
    /// It is being opened.
    Opening,
    /// What it says of itself.
    Open(Arc<dyn Activity>),
}

impl Holder {
    /// The task that runs now, at `site`.
    #[inline]
    pub(crate) fn at(site: &'static Location<'static>) -> Self {
        thread_local!(static HERE: u64 = const { 0 });
        let task = tokio::task::try_id();
        let thread = if task.is_some() { 0 } else { HERE.with(|here| std::ptr::from_ref(here).addr()) };
        Self { site, task, thread }
    }

    /// The pool itself.
    #[track_caller]
    pub(crate) fn pool() -> Self {
        Self { site: Location::caller(), task: None, thread: POOL }
    }

    /// A writer's lane.
    #[track_caller]
    pub(crate) fn lane() -> Self {
        Self { site: Location::caller(), task: None, thread: LANE }
    }

    pub(crate) fn report(&self, held_up: Option<Duration>, note: Option<&Note>) -> HolderReport {
        let activity = match note {
            Some(Note::Open(activity)) => Some(activity),
            _ => None,
        };
        let asks = Self::at(self.site);
        HolderReport {
            site: self.site,
            held_up,
            is_this_task: (self.task, self.thread) == (asks.task, asks.thread),
            is_the_pool: matches!(self.thread, POOL | LANE),
            is_the_lane: self.thread == LANE,
            is_connecting: matches!(note, Some(Note::Opening)),
            tells: activity.is_some(),
            in_transaction: activity.is_some_and(|activity| activity.in_transaction()),
            in_flight: activity.is_some_and(|activity| activity.in_flight()),
            is_reading: activity.is_some_and(|activity| activity.is_reading()),
            last_sql: activity.and_then(|activity| activity.last_sql()),
        }
    }
}

/// Somebody who holds a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HolderReport {
    /// Where it called `get`.
    pub site: &'static Location<'static>,
    /// How long it has held others up, at most; `None` if nobody has waited since it got the connection. Exact if it had
    /// the connection before the first of those who wait came; if it was handed it later, this counts from the last time
    /// before that that somebody came, or, if 32 or more waited, from at most 10 ms before that.
    pub held_up: Option<Duration>,
    /// Whether it is the very task that asks, or, outside tasks, the same thread.
    pub is_this_task: bool,
    /// Whether it is nobody's: the connection of a writer's lane, or one that the pool opens for `min_idle`.
    pub is_the_pool: bool,
    /// Whether it is a writer's lane.
    pub is_the_lane: bool,
    /// Whether the connection is being opened.
    pub is_connecting: bool,
    /// Whether the manager has an [`Activity`] for it; if not, the four below say nothing.
    pub tells: bool,
    /// Whether a transaction is open.
    pub in_transaction: bool,
    /// Whether a statement runs right now.
    pub in_flight: bool,
    /// Whether what it sees has to stay: it is in a transaction, or in rows of which it has not seen the last. The log of a
    /// database is not copied beyond that.
    pub is_reading: bool,
    /// The last statement, shortened, without its parameters.
    pub last_sql: Option<String>,
}

impl HolderReport {
    /// What stands before it: a place in the code, or who it is.
    pub(crate) fn held(&self) -> &'static str {
        if self.is_the_pool { "held by" } else { "held at" }
    }
}

impl fmt::Display for HolderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_the_lane, self.is_the_pool) {
            (true, _) => f.write_str("the writer's lane")?,
            (false, true) => f.write_str("the pool itself")?,
            (false, false) => write!(f, "{}:{}", self.site.file(), self.site.line())?,
        }
        if let Some(held_up) = self.held_up {
            write!(f, ", for {held_up:.1?}")?;
        }
        if self.is_this_task {
            f.write_str(", this task")?;
        }
        if self.is_connecting {
            f.write_str(", connecting")?;
        }
        if self.in_transaction {
            f.write_str(", in a transaction")?;
        }
        match &self.last_sql {
            Some(sql) if self.in_flight => write!(f, ", running {sql:?}"),
            Some(sql) => write!(f, ", last ran {sql:?}"),
            None => Ok(()),
        }
    }
}

/// What an acquire was doing when its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for a slot.
    Waiting,
    /// Opening a connection.
    Connecting,
}

/// Why an acquire most probably ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The task that waits holds a connection itself: it may be waiting for itself.
    HoldsOneItself,
    /// Nobody gave a connection back all the time, and nobody who holds one was running anything at the end.
    Leak,
    /// Nobody gave a connection back all the time; the manager does not say what is done with them.
    NotGivenBack,
    /// Nobody gave a connection back all the time; statements are running.
    SlowHolder,
    /// Connections came back and went to others who had waited longer.
    TooSmall,
    /// A slot was there, but opening a connection in it, this one's or another's, took too long.
    SlowConnect,
}

impl Verdict {
    /// Its name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Verdict::HoldsOneItself => "holds_one_itself",
            Verdict::Leak => "leak",
            Verdict::NotGivenBack => "not_given_back",
            Verdict::SlowHolder => "slow_holder",
            Verdict::TooSmall => "too_small",
            Verdict::SlowConnect => "slow_connect",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::HoldsOneItself => "you hold one yourself: give it back before you ask for another",
            Verdict::Leak => "a leak: nobody gave one back, and nobody runs anything; drop guards when done",
            Verdict::NotGivenBack => "nobody gave one back: a leak, or a slow holder; drop guards when done",
            Verdict::SlowHolder => "a slow holder: nobody gave one back; shorten what runs, or wait longer",
            Verdict::TooSmall => "too small: connections came back, to others before you; raise max_connections",
            Verdict::SlowConnect => "opening a connection took too long; look at the disk, and at the hooks",
        })
    }
}

/// An acquire that ran out of time: how it stood in the queue, and who held what.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcquireTimeout {
    /// How long it waited.
    pub waited: Duration,
    /// What it was doing.
    pub stage: Stage,
    /// How many waited before it when it came; 0 for one that ran out of time later, [connecting](Stage::Connecting).
    pub place: usize,
    /// The pool when it gave up.
    pub status: Status,
    /// Who held connections then.
    pub holders: Vec<HolderReport>,
    /// Why it most probably ran out of time.
    pub verdict: Verdict,
}

impl AcquireTimeout {
    pub(crate) fn judge(stage: Stage, others_were_served: bool, holders: &[HolderReport]) -> Verdict {
        match stage {
            _ if holders.iter().any(|holder| holder.is_this_task && stage == Stage::Waiting) => Verdict::HoldsOneItself,
            Stage::Connecting => Verdict::SlowConnect,
            Stage::Waiting if others_were_served => Verdict::TooSmall,
            Stage::Waiting => {
                let users: Vec<_> =
                    holders.iter().filter(|holder| !holder.is_the_pool || holder.is_connecting).collect();
                // One that is gone by now came back too late.
                if users.is_empty() || users.iter().any(|user| user.in_flight) {
                    Verdict::SlowHolder
                } else if users.iter().all(|user| user.is_connecting) {
                    Verdict::SlowConnect
                } else if users.iter().any(|user| user.tells) {
                    Verdict::Leak
                } else {
                    Verdict::NotGivenBack
                }
            }
        }
    }
}

/// One line: what, and why. [`AcquireTimeout::holders`] has the rest; the first few are named.
impl fmt::Display for AcquireTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waited, place, status, verdict, holders, .. } = self;
        let Status { in_use, max, waiting, .. } = status;
        write!(
            f,
            "no connection within {waited:.1?}: {verdict} ({in_use} of {max} in use, {waiting} waiting, {place} before this"
        )?;
        for holder in holders.iter().take(3) {
            write!(f, "; {} {holder}", holder.held())?;
        }
        match holders.len().saturating_sub(3) {
            0 => f.write_str(")"),
            more => write!(f, "; and {more} more)"),
        }
    }
}

impl std::error::Error for AcquireTimeout {}
