//! A make-believe server: a manager whose connects, tests and hooks do what a script tells them, and which counts what is
//! alive.
//!
//! The connections are numbers that know their server; nothing here is Turso's. What the engine itself does is tested with
//! real files.

#![allow(dead_code, reason = "each test needs a part of it")]

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolproof::{AcquireError, HookError, HookFuture, Hooks, Manage, Pool, PoolConfig, Pooled, Status};
use tokio::sync::oneshot;
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready_ok};

/// Where the pool calls into user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Connect,
    Test,
    AfterConnect,
    BeforeAcquire,
    AfterRelease,
    /// `is_reusable`, which is not async: it can succeed, fail (say no) or panic.
    IsReusable,
    /// The drop of a connection. It can panic; while its thread unwinds already it is no call.
    Drop,
    /// The test's own code, where it says so by [`Server::called`].
    User,
}

/// What one call does. Without a script it succeeds at its first poll.
#[derive(Debug)]
pub enum Does {
    Succeed,
    Fail,
    /// Panics when it is called, before there is a future.
    PanicAtOnce,
    /// Panics at the future's second poll.
    PanicLater,
    Hang,
    /// Is pending this often, waking itself each time, and then succeeds.
    Yield(usize),
    /// Succeeds after this long.
    Take(Duration),
    /// Succeeds once the sender has sent, or is gone.
    Wait(oneshot::Receiver<()>),
    /// Does what it is told, once it is told.
    Ask(oneshot::Receiver<Does>),
}

type Aside = Box<dyn FnOnce() + Send>;

/// What the test and its pool share.
#[derive(Default)]
pub struct Server {
    scripts: Mutex<HashMap<Call, VecDeque<Does>>>,
    asides: Mutex<HashMap<Call, Aside>>,
    calls: Mutex<HashMap<Call, usize>>,
    diary: Mutex<Vec<(Call, usize)>>,
    opened: AtomicUsize,
    alive: AtomicUsize,
    most_alive: AtomicUsize,
    sabotage: Mutex<Sabotage>,
}

/// One call of whatever kind that panics, whatever its script says.
#[derive(Clone, Copy, Default)]
enum Sabotage {
    #[default]
    None,
    /// After so many more calls; later than at once, or not.
    Armed(usize, bool),
    Done(Call),
}

impl Server {
    /// What the next call of this kind that has no script yet does.
    pub fn next(&self, call: Call, does: Does) {
        self.scripts.lock().unwrap().entry(call).or_default().push_back(does);
    }

    /// Something else happens in the middle of the next call of this kind, before it does what it does.
    pub fn meanwhile(&self, call: Call, aside: impl FnOnce() + Send + 'static) {
        self.asides.lock().unwrap().insert(call, Box::new(aside));
    }

    /// Lets a call panic, whatever kind it is and whatever its script says, once `calls` more were made.
    pub fn sabotage(&self, calls: usize, later: bool) {
        *self.sabotage.lock().unwrap() = Sabotage::Armed(calls, later);
    }

    /// The call that was sabotaged, if it has come.
    pub fn sabotaged(&self) -> Option<Call> {
        match *self.sabotage.lock().unwrap() {
            Sabotage::Done(call) => Some(call),
            Sabotage::None | Sabotage::Armed(..) => None,
        }
    }

    /// Forgets what the scripts still hold, and the sabotage.
    pub fn behave(&self) {
        self.scripts.lock().unwrap().clear();
        *self.sabotage.lock().unwrap() = Sabotage::None;
    }

    /// How often it was called so.
    pub fn calls(&self, call: Call) -> usize {
        self.calls.lock().unwrap().get(&call).copied().unwrap_or(0)
    }

    /// Connections opened so far.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Connections alive.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// The most connections that were ever alive at once.
    pub fn most_alive(&self) -> usize {
        self.most_alive.load(Ordering::SeqCst)
    }

    /// Notes a call; what it does now.
    pub fn called(&self, call: Call) -> Does {
        *self.calls.lock().unwrap().entry(call).or_default() += 1;
        let aside = self.asides.lock().unwrap().remove(&call);
        aside.into_iter().for_each(|aside| aside());
        let scripted = self.scripts.lock().unwrap().get_mut(&call).and_then(VecDeque::pop_front);
        let does = self.sabotage_of(call).or(scripted);
        if let Some(Does::PanicAtOnce) = does {
            panic_quietly(format!("{call:?} panics"));
        }
        does.unwrap_or(Does::Succeed)
    }

    fn sabotage_of(&self, call: Call) -> Option<Does> {
        let mut sabotage = self.sabotage.lock().unwrap();
        match *sabotage {
            Sabotage::Armed(0, later) => {
                *sabotage = Sabotage::Done(call);
                return Some(if later { Does::PanicLater } else { Does::PanicAtOnce });
            }
            Sabotage::Armed(calls, later) => *sabotage = Sabotage::Armed(calls - 1, later),
            Sabotage::None | Sabotage::Done(_) => {}
        }
        None
    }

    async fn act(call: Call, mut does: Does) -> Result<(), NobodyListens> {
        if let Does::Ask(answer) = does {
            does = answer.await.unwrap_or(Does::Succeed);
        }
        match does {
            Does::Succeed | Does::Ask(_) => {}
            Does::PanicAtOnce => panic_quietly(format!("{call:?} panics when it is told to")),
            Does::Fail => return Err(NobodyListens),
            Does::PanicLater => {
                yield_once().await;
                panic_quietly(format!("{call:?} panics later"));
            }
            Does::Hang => std::future::pending().await,
            Does::Yield(times) => {
                for _ in 0..times {
                    yield_once().await;
                }
            }
            Does::Take(time) => tokio::time::sleep(time).await,
            Does::Wait(signal) => drop(signal.await),
        }
        Ok(())
    }

    /// Which hooks ran on which connections, by number, since it was asked last.
    pub fn diary(&self) -> Vec<(Call, usize)> {
        std::mem::take(&mut self.diary.lock().unwrap())
    }

    /// A hook that follows the scripts.
    pub fn hook(
        self: &Arc<Self>,
        call: Call,
    ) -> impl for<'c> Fn(&'c mut Connection) -> HookFuture<'c> + Send + Sync + 'static {
        let server = Arc::clone(self);
        move |connection| {
            server.diary.lock().unwrap().push((call, connection.number));
            let does = server.called(call);
            Box::pin(async move { Self::act(call, does).await.map_err(HookError::from) })
        }
    }

    /// Hooks of all three kinds that follow the scripts.
    pub fn hooks(self: &Arc<Self>) -> Hooks<Connection> {
        Hooks::new()
            .after_connect(self.hook(Call::AfterConnect))
            .before_acquire(self.hook(Call::BeforeAcquire))
            .after_release(self.hook(Call::AfterRelease))
    }
}

/// A panic that is not printed: nobody has to read of those that are meant to be.
fn panic_quietly(what: String) -> ! {
    std::panic::resume_unwind(Box::new(what))
}

/// Pending once. Unlike tokio's, it wakes at once, so that it can be polled by hand.
pub async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// A connection: its number, from 1 on, and whether its user broke it.
#[derive(Debug)]
pub struct Connection {
    pub number: usize,
    /// A broken one is not reusable.
    pub broken: AtomicBool,
    server: Arc<Server>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("alive", &self.alive()).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.alive.fetch_sub(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            self.server.called(Call::Drop);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("nobody listens")]
pub struct NobodyListens;

pub struct Manager(pub Arc<Server>);

impl Manage for Manager {
    type Connection = Connection;
    type Error = NobodyListens;

    async fn connect(&self) -> Result<Connection, NobodyListens> {
        let does = self.0.called(Call::Connect);
        // It is alive from here on: one that is being opened counts.
        let alive = self.0.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_alive.fetch_max(alive, Ordering::SeqCst);
        let number = self.0.opened.fetch_add(1, Ordering::SeqCst) + 1;
        let connection = Connection { number, broken: AtomicBool::new(false), server: Arc::clone(&self.0) };
        Server::act(Call::Connect, does).await?;
        Ok(connection)
    }

    fn is_reusable(&self, connection: &mut Connection) -> bool {
        !matches!(self.0.called(Call::IsReusable), Does::Fail) && !connection.broken.load(Ordering::SeqCst)
    }

    async fn test(&self, _: &mut Connection) -> Result<(), NobodyListens> {
        let does = self.0.called(Call::Test);
        Server::act(Call::Test, does).await
    }
}

/// What a get gives.
pub type Outcome = Result<Pooled<Manager>, AcquireError<NobodyListens>>;

/// A pool without hooks, and its server.
pub fn pool(config: PoolConfig) -> (Pool<Manager>, Arc<Server>) {
    let server = Arc::new(Server::default());
    (Pool::new(Manager(Arc::clone(&server)), config).unwrap(), server)
}

/// A pool with hooks of every kind, and its server.
pub fn pool_with_hooks(config: PoolConfig) -> (Pool<Manager>, Arc<Server>) {
    let server = Arc::new(Server::default());
    (Pool::with_hooks(Manager(Arc::clone(&server)), config, server.hooks()).unwrap(), server)
}

/// A get that finds what it wants at its first poll.
pub fn get(pool: &Pool<Manager>) -> Pooled<Manager> {
    assert_ready_ok!(task::spawn(pool.get()).poll())
}

/// A get that has to wait, polled once.
pub fn queue(pool: &Pool<Manager>) -> Spawn<impl Future<Output = Outcome> + use<'_>> {
    let mut waiter = task::spawn(pool.get());
    assert_pending!(waiter.poll());
    waiter
}

/// `[open, idle, in use, waiting]`, which fit together.
pub fn numbers(pool: &Pool<Manager>) -> [usize; 4] {
    let Status { open, idle, in_use, waiting, .. } = pool.status();
    assert_eq!(open, idle + in_use);
    assert!(idle == 0 || waiting == 0, "an idle connection and a waiter coexist");
    [open, idle, in_use, waiting]
}
