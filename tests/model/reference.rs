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
    hook_calls: usize,
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
        match step {
            Step::Get => return self.get(),
            Step::Poll(_) => return self.poll(place),
            Step::Cancel(_) => {
                let get = self.gets.remove(place);
                self.leave(get.stage);
            }
            Step::Answer(_) => self.answer(place),
            Step::Return(_) => self.release(place, true),
            Step::ReturnBroken(_) | Step::Panic(_) | Step::Detach(_) => self.release(place, false),
            Step::Resize(max) => self.resize(max),
            Step::Retain { odd } => return self.retain(odd),
            Step::Close => return self.close(u64::MAX),
            Step::CloseWithin(limit) => return self.close(self.now + limit),
            Step::PollClose(_) => return self.poll_close(place),
            Step::CancelClose(_) => drop(self.closers.remove(place)),
            Step::Pass(time) => self.now += time,
            Step::Turn => self.turn(),
        }
        Shown::Done
    }

    fn get(&mut self) -> Shown {
        let stage = if self.closed { Stage::Refused } else { Stage::Queued };
        self.gets.push(Get { stage, began: self.now, deadline: self.now + WAIT, woken: false });
        self.serve();
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
                // A pool that has no reason to look at its connections does not look at itself either.
                if self.closed && (self.keeps_time() || self.setup.refusals.is_some()) {
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

    fn leave(&mut self, stage: Stage) {
        match stage {
            Stage::Queued | Stage::Refused => {}
            Stage::Handed(connection) => self.give_back(Some(connection)),
            Stage::Admitted | Stage::Opening(..) => self.give_back(None),
        }
    }

    fn answer(&mut self, connect: usize) {
        for get in &mut self.gets {
            if let Stage::Opening(number, Opens::Later) = get.stage
                && number == connect
            {
                (get.stage, get.woken) = (Stage::Opening(number, Opens::AtOnce), true);
            }
        }
    }

    fn release(&mut self, place: usize, reusable: bool) {
        let connection = Connection { used: self.now, ..self.held.remove(place) };
        let kept = reusable && !self.is_stale(&connection);
        if kept && self.keeps_time() {
            self.close_a_stale_one();
        }
        self.give_back(kept.then_some(connection));
    }

    fn give_back(&mut self, connection: Option<Connection>) {
        let surplus = self.closed || self.open > self.max;
        match connection {
            Some(connection) if !surplus => self.idle.push(connection),
            _ => self.open -= 1,
        }
        self.handed_over += self.serve();
        if self.open == 0 {
            self.closers.iter_mut().for_each(|closer| closer.woken = true);
        }
    }

    /// As long as somebody waits and there is something to have, the oldest waiter has it. Returns how often.
    fn serve(&mut self) -> usize {
        let mut served = 0;
        while (!self.idle.is_empty() || self.open < self.max)
            && let Some(next) = self.next_in_line()
        {
            let connection = self.idle.pop();
            self.open += usize::from(connection.is_none());
            self.most_open = self.most_open.max(self.open);
            (self.gets[next].stage, self.gets[next].woken) = (connection.map_or(Stage::Admitted, Stage::Handed), true);
            served += 1;
        }
        served
    }

    fn next_in_line(&self) -> Option<usize> {
        let mut queued = (0..self.gets.len()).filter(|place| self.gets[*place].is_queued());
        if self.overtakes { queued.next_back() } else { queued.next() }
    }

    fn resize(&mut self, max: usize) {
        self.max = max;
        self.handed_over += self.serve();
        while self.open > max && !self.idle.is_empty() {
            self.idle.remove(0);
            self.open -= 1;
        }
    }

    fn retain(&mut self, odd: bool) -> Shown {
        let closed = self.idle.extract_if(.., |connection| connection.number.is_multiple_of(2) == odd).count();
        self.open -= closed;
        Shown::Retained(closed)
    }

    fn close(&mut self, deadline: u64) -> Shown {
        self.closed = true;
        for get in self.gets.iter_mut().filter(|get| get.is_queued()) {
            (get.stage, get.woken) = (Stage::Refused, true);
        }
        self.open -= self.idle.drain(..).count();
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

    fn keeps_time(&self) -> bool {
        self.setup.idle_timeout.is_some() || self.setup.max_lifetime.is_some()
    }

    fn hook_refuses(&mut self) -> bool {
        self.hook_calls += 1;
        self.setup.refusals.as_ref().is_some_and(|says| says.get(self.hook_calls - 1) == Some(&true))
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
