//! What a world looks at after each step: numbers of the pool and of the writer that can never be true.

use std::fmt::Debug;

use parking_lot::Mutex;

use super::World;
use crate::pool::{ConnectionPool, Status};
use crate::writer::{PooledDatabaseWriter, Watched};

impl World {
    /// Looks after each step whether the pool's numbers can be true.
    pub fn watch(&self, pool: &ConnectionPool) {
        let numbers = pool.watched();
        self.watches(move || numbers().map(|(status, holders)| Pool { status, holders }), of_a_pool);
    }

    /// The same of a writer's.
    pub(super) fn watch_writer(&self, db: &PooledDatabaseWriter) {
        self.watches(db.watched(), of_a_writer);
    }

    /// Fails the run as soon as there is a problem with what the numbers were after the last step and are now.
    fn watches<N: Clone + Debug + Send + 'static>(
        &self,
        numbers: impl Fn() -> Option<N> + Send + 'static,
        problem: fn(&N, &N) -> Option<&'static str>,
    ) {
        let last = Mutex::new(None);
        let watch = move || {
            let Some(now) = numbers() else { return Ok(()) };
            let before = last.lock().replace(now.clone());
            match problem(before.as_ref().unwrap_or(&now), &now) {
                Some(problem) => Err(format!("{problem}: {now:?}")),
                None => Ok(()),
            }
        };
        self.shared.state().watches.push(Box::new(watch));
    }
}

/// What a pool says of itself.
#[derive(Clone, Copy, Debug)]
struct Pool {
    status: Status,
    /// Those that are on record, counted one by one: `in_use` is what is left of `open`, and fits it whatever it is.
    holders: usize,
}

fn of_a_pool(_before: &Pool, now: &Pool) -> Option<&'static str> {
    let Status { max, open, idle, waiting, .. } = now.status;
    let problems = [
        (open > max || idle > open, "the pool's numbers cannot be"),
        (idle + now.holders > open, "a connection is idle and in somebody's hands"),
        (idle + now.holders < open, "a connection is neither idle nor in anybody's hands"),
        (idle > 0 && waiting > 0, "somebody waits though a connection is idle"),
    ];
    first(problems)
}

fn of_a_writer(before: &Watched, now: &Watched) -> Option<&'static str> {
    let ended: u64 = now.ended.iter().sum();
    // Neither waiting nor over: those that somebody has taken out to run them.
    let started = now.accepted.checked_sub(ended + now.queued);
    let went_back = |writer: &Watched| [writer.accepted, writer.commits].into_iter().chain(writer.ended);
    let problems = [
        (now.room_left.iter().any(|&left| left > now.room), "room in the queue was given back twice"),
        (now.queued > 2 * now.room as u64, "more writes wait than there is room for"),
        (started.is_none(), "more writes ended than there were"),
        (started.is_some_and(|started| started > now.at_once), "more writes are started than may be at once"),
        (went_back(before).zip(went_back(now)).any(|(before, now)| now < before), "what was counted is not any more"),
    ];
    first(problems)
}

fn first<const N: usize>(problems: [(bool, &'static str); N]) -> Option<&'static str> {
    problems.into_iter().find_map(|(is_so, problem)| is_so.then_some(problem))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use super::*;
    use crate::harness::sim::{Faults, Sim};

    /// What the run is told to fail for in which numbers change from the first to the second.
    fn failure_of<N: Clone + Debug + Send + Sync + 'static>(
        numbers: [N; 2],
        problem: fn(&N, &N) -> Option<&'static str>,
    ) -> Option<String> {
        let report = Sim::new().seeds(0..1).faults(Faults::NONE).run(async |world: World| {
            let (numbers, looks) = (numbers.clone(), AtomicUsize::new(0));
            world.watches(move || numbers.get(looks.fetch_add(1, Ordering::Relaxed).min(1)).cloned(), problem);
            for _ in 0..3 {
                world.sleep(std::time::Duration::from_millis(1)).await;
            }
            Ok::<_, String>(())
        });
        report.found.into_iter().next().map(|found| found.failure)
    }

    #[test]
    fn a_pool_whose_numbers_cannot_be_fails_the_run() {
        let right = Pool { status: Status { max: 3, open: 2, idle: 1, in_use: 1, ..Status::default() }, holders: 1 };
        assert_eq!(failure_of([right, right], of_a_pool), None);
        let with = |change: fn(&mut Pool)| {
            let mut wrong = right;
            change(&mut wrong);
            wrong
        };
        let wrong = [
            (with(|pool| pool.status.idle = 3), "the pool's numbers cannot be"),
            (with(|pool| pool.status.max = 1), "the pool's numbers cannot be"),
            (with(|pool| pool.holders = 2), "a connection is idle and in somebody's hands"),
            (with(|pool| pool.holders = 0), "a connection is neither idle nor in anybody's hands"),
            (with(|pool| pool.status.waiting = 1), "somebody waits though a connection is idle"),
        ];
        for (wrong, problem) in wrong {
            let failure = failure_of([right, wrong], of_a_pool).expect("it is watched");
            assert_eq!(failure, format!("a broken invariant: {problem}: {wrong:?}"));
        }
    }

    /// A pool out of which a connection is taken that nobody is on record for, for a millisecond; or not.
    fn failure_of_a_pool(loses_one: bool) -> Option<String> {
        let report = Sim::new().seeds(0..1).run(async |world: World| {
            let pool = world.pool("t.db").build().await?;
            world.watch(&pool);
            drop(pool.get().await?);
            let _lost = loses_one.then(|| pool.loses_one());
            world.sleep(std::time::Duration::from_millis(1)).await;
            Ok::<_, crate::Error>(())
        });
        report.found.into_iter().next().map(|found| found.failure)
    }

    #[test]
    fn a_pool_that_loses_a_connection_fails_the_run() {
        assert_eq!(failure_of_a_pool(false), None);
        let failure = failure_of_a_pool(true).expect("it is watched");
        assert!(failure.contains("a connection is neither idle nor in anybody's hands: "), "{failure}");
    }

    #[test]
    fn a_write_whose_caller_left_is_no_more_started_than_one_that_ended() {
        let report = Sim::new().seeds(0..1).run(async |world: World| {
            let db = world.open("t.db").await.map_err(|error| error.to_string())?;
            db.execute("CREATE TABLE t (x)", ()).await.map_err(|error| error.to_string())?;
            let mut leaves = Box::pin(async { db.execute("INSERT INTO t VALUES (1)", ()).await });
            poll_fn(|context| Poll::Ready(leaves.as_mut().poll(context).is_pending())).await;
            drop(leaves);
            let now = db.watched()().expect("it lives");
            match (now.accepted, now.queued, now.ended) {
                (2, 0, [1, 0, 0, 1]) => Ok(()),
                _ => Err(format!("{now:?}")),
            }
        });
        assert!(report.found.is_empty(), "{}", report.found[0]);
    }

    #[test]
    fn a_writer_whose_numbers_cannot_be_fails_the_run() {
        let right = Watched {
            accepted: 10,
            queued: 3,
            ended: [2, 1, 1, 1],
            commits: 2,
            at_once: 2,
            room: 2,
            room_left: [0, 1],
        };
        assert_eq!(failure_of([right.clone(), right.clone()], of_a_writer), None);
        let wrong = [
            (Watched { room_left: [3, 0], ..right.clone() }, "room in the queue was given back twice"),
            (Watched { queued: 5, ..right.clone() }, "more writes wait than there is room for"),
            (Watched { accepted: 7, ..right.clone() }, "more writes ended than there were"),
            (Watched { at_once: 1, ..right.clone() }, "more writes are started than may be at once"),
            (Watched { ended: [1, 1, 1, 2], ..right.clone() }, "what was counted is not any more"),
        ];
        for (wrong, problem) in wrong {
            let failure = failure_of([right.clone(), wrong.clone()], of_a_writer).expect("it is watched");
            assert_eq!(failure, format!("a broken invariant: {problem}: {wrong:?}"));
        }
    }
}
