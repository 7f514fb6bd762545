//! The pool as it should be: lists, a few numbers, and a clock that goes when it is told to. No locks, wakers or futures.
//!
//! A method does what the pool's method of that name does, or what polling or dropping its future does. What it returns, and
//! whom it wakes, is the prediction.

use std::collections::HashMap;

use super::story::{ACQUIRE, CONNECT, HOOK, Reply, Setup, Shown, Step};
use crate::server::Call;

#[derive(Clone, Copy, Debug)]
pub struct Connection {
    number: usize,
    born: u64,
    used: u64,
}

/// A call into user code.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    call: Call,
    /// Which of all calls of its kind it is.
    number: usize,
    reply: Reply,
    /// For this call alone.
    deadline: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Stage {
    Queued,
    /// Its time was up.
    Expired,
    /// The pool was closed.
    Refused,
    /// Handed a connection.
    Handed(Connection),
    /// Sees whether a connection that was idle still serves.
    Checking(Connection, Asked),
    /// Handed a slot to open a connection in.
    Admitted,
    Opening(Connection, Asked),
}

pub struct Get {
    pub stage: Stage,
    began: u64,
    deadline: u64,
    /// How many waited before it when it came.
    place: usize,
    woken: bool,
}

struct Closer {
    deadline: u64,
    woken: bool,
}

#[derive(Default)]
pub struct Model {
    setup: Setup,
    overtakes: bool,
    now: u64,
    /// When the runtime had its last turn: no timer has fired since.
    turned: u64,
    max: usize,
    open: usize,
    most_open: usize,
    handed_over: usize,
    closed: bool,
    /// How often user code of which kind was called.
    called: HashMap<Call, usize>,
    /// The one used last is the last.
    idle: Vec<Connection>,
    held: Vec<Connection>,
    /// Those that have not ended, in the order in which they came.
    pub gets: Vec<Get>,
    closers: Vec<Closer>,
    /// When the pool's own task last had nothing more to do.
    looked_after: Option<u64>,
    /// The connect in the middle of which that task is.
    refilling: Option<Asked>,
}

impl Model {
    pub fn new(setup: &Setup) -> Self {
        Self { max: setup.max, setup: setup.clone(), ..Self::default() }
    }

    /// One with a deliberate mistake: the newest waiter is served first.
    pub fn that_overtakes(setup: &Setup) -> Self {
        Self { overtakes: true, ..Self::new(setup) }
    }

    /// Takes a step, with what is at `place`.
    pub fn take(&mut self, step: Step, place: usize) -> Shown {
        let mut shown = Shown::Done;
        match step {
            Step::Get => shown = self.get(),
            Step::TryGet => shown = self.try_get(),
            Step::Poll(_) => shown = self.poll(place),
            Step::Cancel(_) => {
                let get = self.gets.remove(place);
                self.leave(get.stage);
            }
            Step::Answer(..) => unreachable!("an answer goes to a call: see `answer`"),
            Step::Return(_) => self.give_back(place, true),
            Step::ReturnBroken(_) | Step::Panic(_) | Step::Detach(_) => self.give_back(place, false),
            Step::Resize(max) => self.max = max,
            Step::Retain { odd } => shown = self.retain(odd),
            Step::Close => shown = self.close(u64::MAX),
            Step::CloseWithin(limit) => shown = self.close(self.now + limit),
            Step::PollClose(_) => shown = self.poll_close(place),
            Step::CancelClose(_) => drop(self.closers.remove(place)),
            Step::Pass(time) => self.now += time,
            Step::Turn => self.turn(),
        }
        self.settle();
        shown
    }

    /// The laws of the pool at rest: a closed one refuses everybody and keeps nothing, none beyond the maximum is idle, and
    /// nobody waits while there is something to have: the oldest gets it.
    fn settle(&mut self) {
        while (self.closed || self.open > self.max) && !self.idle.is_empty() {
            self.idle.remove(0);
            self.open -= 1;
        }
        while let Some(next) = self.next_in_line() {
            let stage = if self.closed {
                Stage::Refused
            } else if let Some(connection) = self.idle.pop() {
                Stage::Handed(connection)
            } else if self.open < self.max {
                self.open += 1;
                Stage::Admitted
            } else {
                break;
            };
            (self.gets[next].stage, self.gets[next].woken) = (stage, true);
            self.handed_over += usize::from(!self.closed);
        }
        self.most_open = self.most_open.max(self.open);
        if self.closed && self.open == 0 {
            self.closers.iter_mut().for_each(|closer| closer.woken = true);
        }
    }

    fn next_in_line(&self) -> Option<usize> {
        let mut queued = (0..self.gets.len()).filter(|place| self.gets[*place].is_queued());
        if self.overtakes { queued.next_back() } else { queued.next() }
    }

    fn get(&mut self) -> Shown {
        self.comes();
        self.poll(self.gets.len() - 1)
    }

    fn try_get(&mut self) -> Shown {
        self.comes();
        match self.gets.pop_if(|get| get.is_queued()) {
            Some(_) => Shown::Nothing,
            None => self.poll(self.gets.len() - 1),
        }
    }

    /// Somebody wants a connection.
    fn comes(&mut self) {
        let (handed_over, place) = (self.handed_over, self.waiting());
        let (began, deadline) = (self.now, self.now + self.setup.wait.min(ACQUIRE));
        self.gets.push(Get { stage: Stage::Queued, began, deadline, place, woken: false });
        self.settle();
        // What a newcomer finds was handed to it by nobody.
        self.handed_over = handed_over;
    }

    fn poll(&mut self, place: usize) -> Shown {
        let mut get = self.gets.remove(place);
        get.woken = false;
        let shown = self.go_on(&mut get);
        match shown {
            Shown::Pending => self.gets.insert(place, get),
            Shown::Lent(_) => {}
            _ => self.leave(get.stage),
        }
        shown
    }

    fn go_on(&mut self, get: &mut Get) -> Shown {
        let waited = self.now - get.began;
        match get.stage {
            Stage::Queued => Shown::Pending,
            Stage::Expired => Shown::WaitedTooLong { waited, place: get.place },
            Stage::Refused => Shown::Closed,
            Stage::Handed(_) | Stage::Admitted if self.closed => Shown::Closed,
            Stage::Handed(connection) if self.has_expired(&connection) || self.is_left_idle(&connection) => {
                self.replace(get)
            }
            Stage::Handed(connection) => {
                let due = |(after, _): &(u64, _)| self.now > connection.used + after;
                let test = self.setup.tests.as_ref().is_some_and(due).then_some(Call::Test);
                self.check(get, connection, test.or(self.hook()))
            }
            Stage::Checking(connection, asked) => match asked.reply {
                Reply::Succeeds => self.check(get, connection, self.hook().filter(|hook| *hook != asked.call)),
                Reply::Later if asked.deadline > self.turned => Shown::Pending,
                Reply::Fails | Reply::Later => self.replace(get),
                Reply::Panics => Shown::Panicked,
            },
            Stage::Admitted => {
                get.deadline = (get.began + ACQUIRE).min(self.now + CONNECT);
                let asked = self.ask(Call::Connect, u64::MAX);
                get.stage = Stage::Opening(Connection { number: asked.number, born: 0, used: 0 }, asked);
                self.go_on(get)
            }
            Stage::Opening(connection, asked) => match asked.reply {
                Reply::Succeeds => match self.hook().filter(|hook| *hook != asked.call) {
                    Some(hook) => {
                        get.stage = Stage::Opening(connection, self.ask(hook, self.now + HOOK));
                        self.go_on(get)
                    }
                    None => self.lend(Connection { born: self.now, used: self.now, ..connection }),
                },
                Reply::Fails if asked.call == Call::Connect => Shown::ConnectFailed,
                Reply::Fails => Shown::TurnedDown,
                // A hook that took too long has failed.
                Reply::Later if asked.deadline <= self.turned => Shown::TurnedDown,
                Reply::Later if get.deadline <= self.turned => Shown::ConnectedTooLong { waited },
                Reply::Later => Shown::Pending,
                Reply::Panics => Shown::Panicked,
            },
        }
    }

    /// Asks the next question about a connection that was idle, if there is one.
    fn check(&mut self, get: &mut Get, connection: Connection, call: Option<Call>) -> Shown {
        let Some(call) = call else { return self.lend(connection) };
        get.deadline = (get.began + ACQUIRE).min(self.now + HOOK);
        get.stage = Stage::Checking(connection, self.ask(call, get.deadline));
        self.go_on(get)
    }

    /// Opens another connection in the slot of one that does not serve.
    fn replace(&mut self, get: &mut Get) -> Shown {
        get.stage = Stage::Admitted;
        self.go_on(get)
    }

    fn ask(&mut self, call: Call, deadline: u64) -> Asked {
        let number = self.called.entry(call).or_default();
        let reply = self.setup.replies(call).get(*number).copied().unwrap_or(Reply::Succeeds);
        *number += 1;
        Asked { call, number: *number, reply, deadline }
    }

    /// The hook before an acquire.
    fn hook(&self) -> Option<Call> {
        self.setup.hooks.is_some().then_some(Call::BeforeAcquire)
    }

    fn lend(&mut self, connection: Connection) -> Shown {
        if self.closed {
            return Shown::Closed;
        }
        self.held.push(connection);
        Shown::Lent(connection.number)
    }

    /// A get ends without a connection.
    fn leave(&mut self, stage: Stage) {
        match stage {
            Stage::Queued | Stage::Expired | Stage::Refused => {}
            Stage::Handed(connection) => self.idle.push(connection),
            Stage::Checking(..) | Stage::Admitted | Stage::Opening(..) => self.open -= 1,
        }
    }

    /// Tells a call what to come to, if anybody still listens.
    pub fn answer(&mut self, (call, number): (Call, usize), reply: Reply) -> Shown {
        let is_it = |asked: &Asked| (asked.call, asked.number) == (call, number);
        for get in &mut self.gets {
            if let Stage::Checking(_, asked) | Stage::Opening(_, asked) = &mut get.stage
                && is_it(asked)
            {
                (asked.reply, get.woken) = (reply, true);
            }
        }
        if let Some(asked) = self.refilling.as_mut().filter(|asked| is_it(asked)) {
            asked.reply = reply;
        }
        Shown::Done
    }

    fn give_back(&mut self, place: usize, reusable: bool) {
        let connection = Connection { used: self.now, ..self.held.remove(place) };
        if !reusable || self.has_expired(&connection) {
            self.open -= 1;
            return;
        }
        self.close_a_stale_one();
        self.idle.push(connection);
    }

    fn retain(&mut self, odd: bool) -> Shown {
        let asked = self.idle.iter().map(|connection| connection.number).collect();
        let closed = self.idle.extract_if(.., |connection| connection.number.is_multiple_of(2) == odd).count();
        self.open -= closed;
        Shown::Retained { asked, closed }
    }

    fn close(&mut self, deadline: u64) -> Shown {
        self.closed = true;
        self.settle();
        self.closers.push(Closer { deadline, woken: false });
        self.poll_close(self.closers.len() - 1)
    }

    fn poll_close(&mut self, place: usize) -> Shown {
        let closer = self.closers.remove(place);
        if self.open == 0 {
            return Shown::Empty;
        }
        if closer.deadline <= self.turned {
            return Shown::StillOpen(self.open);
        }
        self.closers.insert(place, Closer { woken: false, ..closer });
        Shown::Pending
    }

    /// The pool's own task runs before the timers fire if it was told something, and after it if it has slept.
    fn turn(&mut self) {
        if self.looked_after.is_none() || self.refilling.is_some() {
            self.look_after();
        }
        self.turned = self.now;
        for get in &mut self.gets {
            match get.stage {
                Stage::Queued if get.deadline <= self.now => (get.stage, get.woken) = (Stage::Expired, true),
                Stage::Checking(_, asked) | Stage::Opening(_, asked) => {
                    get.woken |= asked.deadline.min(get.deadline) <= self.now;
                }
                _ => {}
            }
        }
        self.closers.iter_mut().for_each(|closer| closer.woken |= closer.deadline <= self.now);
        if self.looked_after != Some(self.now) {
            self.look_after();
        }
    }

    /// The pool's own task goes on: it closes what is stale, and opens connections until enough are idle, there is no room,
    /// or one cannot be opened.
    fn look_after(&mut self) {
        while self.refilling.is_none() && self.close_a_stale_one() {}
        while let Some(asked) = self.refilling.take().or_else(|| self.refill()) {
            match asked.reply {
                Reply::Succeeds if !self.closed => {
                    self.idle.push(Connection { number: asked.number, born: self.now, used: self.now });
                    self.settle();
                }
                Reply::Later if !self.closed && asked.deadline > self.turned => {
                    self.refilling = Some(asked);
                    return;
                }
                _ => {
                    self.open -= 1;
                    self.settle();
                    break;
                }
            }
        }
        self.looked_after = Some(self.now);
    }

    /// Begins to open a connection that nobody asked for.
    fn refill(&mut self) -> Option<Asked> {
        let is_wanted = self.idle.len() < self.setup.limits.min_idle && self.open < self.max;
        if !is_wanted || self.waiting() > 0 || self.closed {
            return None;
        }
        self.open += 1;
        self.settle();
        Some(self.ask(Call::Connect, self.now + CONNECT))
    }

    fn close_a_stale_one(&mut self) -> bool {
        let many = self.idle.len() > self.setup.limits.min_idle;
        let goes = |idle: &Connection| self.has_expired(idle) || (many && self.is_stale(idle));
        let stale = self.idle.iter().position(goes);
        self.open -= stale.map(|place| self.idle.remove(place)).iter().count();
        stale.is_some()
    }

    /// Whether its lifetime is over.
    fn has_expired(&self, connection: &Connection) -> bool {
        self.setup.limits.max_lifetime.is_some_and(|limit| self.now >= connection.born + limit)
    }

    /// Whether it was idle for too long.
    fn is_stale(&self, connection: &Connection) -> bool {
        self.setup.limits.idle_timeout.is_some_and(|limit| self.now > connection.used + limit)
    }

    /// Whether it was idle for too long, in a pool that keeps none idle on purpose.
    fn is_left_idle(&self, connection: &Connection) -> bool {
        self.setup.limits.min_idle == 0 && self.is_stale(connection)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.gets.iter().filter(|get| get.is_queued()).count()
    }

    /// Max, open, most open, idle, in use, waiting, handed over, closed.
    pub fn status(&self) -> [usize; 8] {
        let (idle, waiting) = (self.idle.len(), self.waiting());
        let (in_use, closed) = (self.open - idle, usize::from(self.closed));
        [self.max, self.open, self.most_open, idle, in_use, waiting, self.handed_over, closed]
    }

    /// Every slot has a connection, but for those of waiters who have not looked yet.
    pub fn alive(&self) -> usize {
        self.open - self.gets.iter().filter(|get| matches!(get.stage, Stage::Admitted)).count()
    }

    pub fn calls(&self, call: Call) -> usize {
        self.called.get(&call).copied().unwrap_or(0)
    }

    pub fn woken(&self) -> (Vec<bool>, Vec<bool>) {
        (self.gets.iter().map(|get| get.woken).collect(), self.closers.iter().map(|closer| closer.woken).collect())
    }
}

impl Get {
    fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued)
    }
}
