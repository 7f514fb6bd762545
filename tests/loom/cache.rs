//! The versions by which the read cache tells what is stale, under every interleaving of writers and readers.
//!
//! The database is one number under a lock: a commit and a snapshot are a taking of it each, as they are in the engine. The
//! cache is a place for one answer. What must hold: an answer is never less than what anybody knew before it was asked for,
//! be it by an acknowledgement or by having read it.

use std::sync::Arc;

use crate::sync::Mutex;
use crate::versions::{Slots, Versions};
use crate::world::{Sometimes, explore_to, failure};

/// Pre-emptions: with 5 each of these models takes minutes.
const DEEPEST: usize = 4;

/// In which order the steps come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As `changes` and the writer do it.
    AsItIs,
    /// The mutants: each is one of the interleavings drawn in `versions`.
    BegunAfterTheCommit,
    BegunAfterTheAcknowledgement,
    EndedBeforeTheCommit,
    StampedAfterTheSnapshot,
}

struct Model {
    order: Order,
    versions: Versions,
    database: Mutex<u64>,
    /// An answer and its stamp.
    kept: Mutex<Option<(u64, u64)>>,
    known: Mutex<u64>,
    hits: Sometimes,
}

const TABLE: Slots = Slots::one(2);

impl Model {
    fn new(order: Order, hits: &Sometimes) -> Arc<Self> {
        Arc::new(Self {
            order,
            versions: Versions::new(3),
            database: Mutex::new(0),
            kept: Mutex::new(None),
            known: Mutex::new(0),
            hits: hits.clone(),
        })
    }

    fn knows(&self, value: u64) {
        self.known.with(|known| *known = (*known).max(value));
    }

    /// One write, acknowledged.
    fn write(&self) {
        let begin = || self.versions.begin(TABLE);
        let commit = || {
            self.database.with(|value| {
                *value += 1;
                *value
            })
        };
        let end = || self.versions.end(TABLE);
        let acknowledge = |value| self.knows(value);
        match self.order {
            Order::AsItIs | Order::StampedAfterTheSnapshot => {
                begin();
                let value = commit();
                end();
                acknowledge(value);
            }
            Order::BegunAfterTheCommit => {
                let value = commit();
                begin();
                end();
                acknowledge(value);
            }
            Order::BegunAfterTheAcknowledgement => {
                let value = commit();
                acknowledge(value);
                begin();
                end();
            }
            Order::EndedBeforeTheCommit => {
                begin();
                end();
                acknowledge(commit());
            }
        }
    }

    /// One query, past the cache.
    fn read(&self) {
        self.check(|model| model.database.with(|value| *value));
    }

    /// One query through the cache.
    fn query(&self) {
        self.check(|model| {
            let present = model.versions.stamp(TABLE);
            let kept = model.kept.with(|kept| *kept);
            if let Some((stamp, value)) = kept
                && Some(stamp) == present
            {
                model.hits.seen_if(true);
                return value;
            }
            let before = model.versions.photo();
            let value = model.database.with(|value| *value);
            let stamp = match model.order {
                Order::StampedAfterTheSnapshot => model.versions.stamp(TABLE),
                _ => before.stamp(TABLE),
            };
            model.kept.with(|kept| *kept = stamp.map(|stamp| (stamp, value)));
            value
        });
    }

    fn check(&self, ask: impl FnOnce(&Self) -> u64) {
        let known = self.known.with(|known| *known);
        let value = ask(self);
        assert!(value >= known, "an answer of {value} after {known} was known");
        self.knows(value);
    }
}

fn spawn(model: &Arc<Model>, work: impl FnOnce(&Model) + Send + 'static) -> loom::thread::JoinHandle<()> {
    let model = Arc::clone(model);
    loom::thread::spawn(move || work(&model))
}

/// One fills the cache, one writes, one reads past the cache and then through it.
fn three(order: Order) -> Sometimes {
    let hits = Sometimes::default();
    let seen = hits.clone();
    explore_to(DEEPEST, "a write, a fill, a read past the cache and one through it", move || {
        let model = Model::new(order, &seen);
        let writer = spawn(&model, Model::write);
        let filler = spawn(&model, Model::query);
        model.read();
        model.query();
        writer.join().unwrap();
        filler.join().unwrap();
        model.query();
    });
    hits
}

#[test]
fn no_answer_is_older_than_what_anybody_knew() {
    three(Order::AsItIs).assert("answered from the cache");
}

/// Two guards, or two that commit at once as they do in MVCC: the table is at rest when both are over.
#[test]
fn two_that_commit_at_once_are_both_waited_for() {
    let hits = Sometimes::default();
    let seen = hits.clone();
    explore_to(DEEPEST, "two writes and a reader", move || {
        let model = Model::new(Order::AsItIs, &seen);
        let writers = [spawn(&model, Model::write), spawn(&model, Model::write)];
        model.query();
        model.query();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        model.query();
        model.query();
    });
    hits.assert("answered from the cache");
}

#[test]
fn the_model_notices_each_step_out_of_its_place() {
    use Order::*;
    for order in [BegunAfterTheCommit, BegunAfterTheAcknowledgement, EndedBeforeTheCommit, StampedAfterTheSnapshot] {
        let failure = failure(|| drop(three(order)));
        assert!(failure.contains("was known"), "{failure}");
    }
}
