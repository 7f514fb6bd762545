//! The pool as it should be: lists, a few numbers, and a clock that goes when it is told to. No locks, wakers or futures.
//!
//! A method does what the pool's method of that name does, or what polling or dropping its future does. What it returns, and
//! whom it wakes, is the prediction.

use super::story::{ACQUIRE, CONNECT, Opens, Setup, Shown, Step, WAIT};

#[derive(Clone, Copy, Debug)]
pub struct Connection {
    number: usize,
    born: u64,
    used: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Stage {
    Queued,
    Refused,
    /// Handed a connection.
    Handed(Connection),
    /// Handed a slot to open a connection in.
    Admitted,
    Opening(usize, Opens),
}

pub struct Get {
    pub stage: Stage,
    began: u64,
    deadline: u64,
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
    connects: usize,
    /// The one used last is the last.
    idle: Vec<Connection>,
    held: Vec<Connection>,
    /// Those that have not ended, in the order in which they came.
    pub gets: Vec<Get>,
    closers: Vec<Closer>,
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
            Step::Poll(_) => shown = self.poll(place),
            Step::Cancel(_) => {
                let get = self.gets.remove(place);
                self.leave(get.stage);
            }
            Step::Answer(_) => self.answer(place),
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
        let handed_over = self.handed_over;
        self.gets.push(Get { stage: Stage::Queued, began: self.now, deadline: self.now + WAIT, woken: false });
        self.settle();
        // What a newcomer finds was handed to it by nobody.
        self.handed_over = handed_over;
        self.poll(self.gets.len() - 1)
    }

    fn poll(&mut self, place: usize) -> Shown {
        let mut get = self.gets.remove(place);
        get.woken = false;
        let shown = self.go_on(&mut get, place);
        match shown {
            Shown::Pending => self.gets.insert(place, get),
            Shown::Lent(_) => {}
            _ => self.leave(get.stage),
        }
        shown
    }

    fn go_on(&mut self, get: &mut Get, place: usize) -> Shown {
        let (late, waited) = (get.deadline <= self.turned, self.now - get.began);
        match get.stage {
            Stage::Queued if late => Shown::WaitedTooLong { waited, place: self.waiting(place) },
            Stage::Queued => Shown::Pending,
            Stage::Refused => Shown::Closed,
            Stage::Handed(connection) => {
                let serves = !self.is_stale(&connection) && !self.hook_refuses();
                if self.closed && self.looks_at_connections() {
                    return Shown::Closed;
                }
                if serves {
                    return self.lend(connection);
                }
                get.stage = Stage::Admitted;
                self.go_on(get, place)
            }
            Stage::Admitted => {
                self.connects += 1;
                let opens = self.setup.opens.get(self.connects - 1).copied().unwrap_or(Opens::AtOnce);
                get.stage = Stage::Opening(self.connects, opens);
                get.deadline = (get.began + ACQUIRE).min(self.now + CONNECT);
                self.go_on(get, place)
            }
            Stage::Opening(_, Opens::Later) if late => Shown::ConnectedTooLong { waited },
            Stage::Opening(_, Opens::Later) => Shown::Pending,
            Stage::Opening(_, Opens::Fails) => Shown::ConnectFailed,
            Stage::Opening(_, Opens::AtOnce) if self.hook_refuses() => Shown::TurnedDown,
            Stage::Opening(_, Opens::AtOnce) if self.closed => Shown::Closed,
            Stage::Opening(number, Opens::AtOnce) => self.lend(Connection { number, born: self.now, used: self.now }),
        }
    }

    fn lend(&mut self, connection: Connection) -> Shown {
        self.held.push(connection);
        Shown::Lent(connection.number)
    }

    /// A get ends without a connection.
    fn leave(&mut self, stage: Stage) {
        match stage {
            Stage::Queued | Stage::Refused => {}
            Stage::Handed(connection) => self.idle.push(connection),
            Stage::Admitted | Stage::Opening(..) => self.open -= 1,
        }
    }

    fn answer(&mut self, connect: usize) {
        let waits = |get: &&mut Get| matches!(get.stage, Stage::Opening(number, Opens::Later) if number == connect);
        if let Some(get) = self.gets.iter_mut().find(waits) {
            (get.stage, get.woken) = (Stage::Opening(connect, Opens::AtOnce), true);
        }
    }

    fn give_back(&mut self, place: usize, reusable: bool) {
        let connection = Connection { used: self.now, ..self.held.remove(place) };
        if !reusable || self.is_stale(&connection) {
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

    fn turn(&mut self) {
        let passed = self.now > self.turned;
        self.turned = self.now;
        self.gets.iter_mut().for_each(|get| get.woken |= get.deadline <= self.now);
        self.closers.iter_mut().for_each(|closer| closer.woken |= closer.deadline <= self.now);
        while passed && self.close_a_stale_one() {}
    }

    fn close_a_stale_one(&mut self) -> bool {
        let stale = self.idle.iter().position(|connection| self.is_stale(connection));
        self.open -= stale.map(|place| self.idle.remove(place)).iter().count();
        stale.is_some()
    }

    fn is_stale(&self, connection: &Connection) -> bool {
        self.setup.max_lifetime.is_some_and(|limit| self.now >= connection.born + limit)
            || self.setup.idle_timeout.is_some_and(|limit| self.now > connection.used + limit)
    }

    /// A pool that has no reason to look at a connection before it lends it does not look at itself then either.
    fn looks_at_connections(&self) -> bool {
        let Setup { idle_timeout, max_lifetime, refusals, .. } = &self.setup;
        idle_timeout.is_some() || max_lifetime.is_some() || refusals.is_some()
    }

    fn hook_refuses(&mut self) -> bool {
        self.setup.refusals.as_mut().is_some_and(|says| !says.is_empty() && says.remove(0))
    }

    /// How many wait, of the gets that came first.
    fn waiting(&self, gets: usize) -> usize {
        self.gets[..gets].iter().filter(|get| get.is_queued()).count()
    }

    /// Max, open, most open, idle, in use, waiting, handed over, closed.
    pub fn status(&self) -> [usize; 8] {
        let (idle, waiting) = (self.idle.len(), self.waiting(self.gets.len()));
        let (in_use, closed) = (self.open - idle, usize::from(self.closed));
        [self.max, self.open, self.most_open, idle, in_use, waiting, self.handed_over, closed]
    }

    /// Every slot has a connection, but for those of waiters who have not looked yet.
    pub fn alive(&self) -> usize {
        self.open - self.gets.iter().filter(|get| matches!(get.stage, Stage::Admitted)).count()
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
