//! What the writer's door waits on, as tokio documents it, on the models' lock: a semaphore, a notification, an answer.
//!
//! tokio's own are made of loom's parts only in tokio's own tests, where they have models of their own. So these are not
//! what ships; the code around them is. Each keeps to the promises that code relies on, and to the liberties that it has to
//! bear:
//!
//! - a permit goes straight to the oldest waiter; one that was given to a waiter who is gone goes on without a word;
//! - who was given a permit and looks after the close is refused, and gives it back when it is dropped;
//! - a notification reaches whoever listened before it, whether or not it was waited for already, and nobody who came later;
//! - an answer that was sent may still be dropped unread; one that never comes is told.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

/// As `tokio::sync::Semaphore`.
pub(crate) struct Semaphore(Mutex<Permits>);

struct Permits {
    free: usize,
    closed: bool,
    /// The number of the next who waits.
    next: u64,
    queued: VecDeque<(u64, Waker)>,
    /// Who was given a permit and has not taken it.
    given: Vec<u64>,
}

impl Semaphore {
    pub(crate) fn new(free: usize) -> Self {
        let (queued, given) = (VecDeque::new(), Vec::new());
        Self(Mutex::new(Permits { free, closed: false, next: 0, queued, given }))
    }

    pub(crate) fn acquire(&self) -> Acquire<'_> {
        Acquire { semaphore: self, number: None }
    }

    pub(crate) fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.0.with(|permits| match permits.closed {
            true => Err(TryAcquireError::Closed),
            false => permits.take().then(|| Permit(self)).ok_or(TryAcquireError::NoPermits),
        })
    }

    pub(crate) fn add_permits(&self, permits: usize) {
        for _ in 0..permits {
            let waker = self.0.with(Permits::comes_back);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn close(&self) {
        let queued = self.0.with(|permits| {
            permits.closed = true;
            std::mem::take(&mut permits.queued)
        });
        queued.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.with(|permits| permits.closed)
    }

    pub(crate) fn available_permits(&self) -> usize {
        self.0.with(|permits| permits.free)
    }
}

impl Permits {
    fn take(&mut self) -> bool {
        let taken = self.free > 0;
        self.free -= usize::from(taken);
        taken
    }

    /// Gives one permit to the oldest waiter, or keeps it.
    fn comes_back(&mut self) -> Option<Waker> {
        match self.queued.pop_front() {
            Some((number, waker)) => {
                self.given.push(number);
                Some(waker)
            }
            None => {
                self.free += 1;
                None
            }
        }
    }

    /// Whether whoever has this number was given a permit, which is the caller's now.
    fn takes_given(&mut self, number: u64) -> bool {
        let place = self.given.iter().position(|given| *given == number);
        place.map(|place| self.given.swap_remove(place)).is_some()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum TryAcquireError {
    Closed,
    NoPermits,
}

/// A permit, given back when dropped.
pub(crate) struct Permit<'a>(&'a Semaphore);

impl Permit<'_> {
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// Waits for a permit.
pub(crate) struct Acquire<'a> {
    semaphore: &'a Semaphore,
    /// Its number in the queue, until it has its permit.
    number: Option<u64>,
}

impl<'a> Future for Acquire<'a> {
    /// An error if the semaphore is closed.
    type Output = Result<Permit<'a>, ()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut waker, known) = (Some(context.waker().clone()), self.number);
        let (polled, number, _stale) = self.semaphore.0.with(|permits| {
            if permits.closed {
                // What it was given goes back with its drop.
                return (Poll::Ready(Err(())), known, None);
            }
            let has_one = match known {
                Some(number) => permits.takes_given(number),
                None => permits.take(),
            };
            if has_one {
                return (Poll::Ready(Ok(())), None, None);
            }
            let number = known.unwrap_or(permits.next);
            permits.next = permits.next.max(number + 1);
            let queued = permits.queued.iter_mut().find(|(queued, _)| *queued == number);
            let stale = match (queued, waker.take()) {
                (Some((_, old)), Some(waker)) => Some(std::mem::replace(old, waker)),
                (None, Some(waker)) => {
                    permits.queued.push_back((number, waker));
                    None
                }
                (_, None) => None,
            };
            (Poll::Pending, Some(number), stale)
        });
        self.number = number;
        let semaphore = self.semaphore;
        polled.map(|outcome| outcome.map(|()| Permit(semaphore)))
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let (next, _queued) = self.semaphore.0.with(|permits| {
            let place = permits.queued.iter().position(|(queued, _)| *queued == number);
            let next = if permits.takes_given(number) { permits.comes_back() } else { None };
            (next, place.and_then(|place| permits.queued.remove(place)))
        });
        next.into_iter().for_each(Waker::wake);
    }
}

/// As `tokio::sync::Notify`, of `notify_waiters` alone.
pub(crate) struct Notify(Mutex<Notified>);

#[derive(Default)]
struct Notified {
    times: u64,
    waiting: Vec<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Notified::default()))
    }

    pub(crate) fn notify_waiters(&self) {
        let waiting = self.0.with(|notified| {
            notified.times += 1;
            std::mem::take(&mut notified.waiting)
        });
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Listens from now on.
    pub(crate) fn notified(&self) -> Listens<'_> {
        Listens { notify: self, since: self.0.with(|notified| notified.times) }
    }
}

pub(crate) struct Listens<'a> {
    notify: &'a Notify,
    since: u64,
}

impl Future for Listens<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(context.waker().clone());
        self.notify.0.with(|notified| match notified.times == self.since {
            true => {
                notified.waiting.extend(waker.take());
                Poll::Pending
            }
            false => Poll::Ready(()),
        })
    }
}

/// As `tokio::sync::oneshot`.
pub(crate) mod oneshot {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use crate::sync::{Arc, Mutex};

    struct Channel<T> {
        answer: Option<T>,
        /// Of the two ends.
        gone: bool,
        waker: Option<Waker>,
    }

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let channel = Arc::new(Mutex::new(Channel { answer: None, gone: false, waker: None }));
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    pub(crate) struct Sender<T>(Arc<Mutex<Channel<T>>>);

    impl<T> Sender<T> {
        /// # Errors
        /// The answer, if nobody waits for it any more.
        pub(crate) fn send(self, answer: T) -> Result<(), T> {
            self.0.with(|channel| match channel.gone {
                true => Err(answer),
                false => {
                    channel.answer = Some(answer);
                    Ok(())
                }
            })
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let waker = self.0.with(|channel| {
                channel.gone = true;
                channel.waker.take()
            });
            waker.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) struct Receiver<T>(Arc<Mutex<Channel<T>>>);

    impl<T> Future for Receiver<T> {
        /// An error if there will be no answer.
        type Output = Result<T, ()>;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            let mut waker = Some(context.waker().clone());
            let (polled, _stale) = self.0.with(|channel| match (channel.answer.take(), channel.gone) {
                (Some(answer), _) => (Poll::Ready(Ok(answer)), None),
                (None, true) => (Poll::Ready(Err(())), None),
                (None, false) => (Poll::Pending, std::mem::replace(&mut channel.waker, waker.take())),
            });
            polled
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let _unread = self.0.with(|channel| {
                channel.gone = true;
                channel.answer.take()
            });
        }
    }
}
