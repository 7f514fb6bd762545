//! The store by itself, without a database: the bound, what is served when, and who waits for whom.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use turso::params::Params;

use super::*;
use crate::changes::written;

const SQL: &str = "SELECT a FROM t WHERE b = ?1";

fn cache(bytes: u64) -> Arc<ReadCache> {
    Arc::new(ReadCache::new(Arc::default(), bytes))
}

fn schema() -> Arc<Schema> {
    let mut schema = Schema::default();
    schema.add("table", "t", "CREATE TABLE t (a, b)");
    Arc::new(schema)
}

/// A hundred bytes.
fn kept() -> Kept {
    Kept { value: Arc::new(()), bytes: 100 }
}

fn params(number: i64) -> Params {
    Params::Positional(vec![number.into()])
}

fn key(number: i64) -> Key {
    Key::query(SQL, &params(number))
}

/// A call for a query, and the read that it started, if it did.
struct Call {
    waits: Pin<Box<dyn Future<Output = Found>>>,
    read: Arc<Mutex<Option<Filling>>>,
}

impl Call {
    fn new(cache: &Arc<ReadCache>, number: i64) -> Self {
        let (cache, read) = (Arc::clone(cache), Arc::<Mutex<Option<Filling>>>::default());
        let starts = Arc::clone(&read);
        let waits = Box::pin(async move {
            let key = key(number);
            match cache.find(&key, || Text::of(SQL).reads().is_none()) {
                Some(found) => found,
                None => cache.wait(&key, move |filling| starts.with(|read| *read = Some(filling))).await,
            }
        });
        Self { waits, read }
    }

    /// One that has to wait.
    fn waiting(cache: &Arc<ReadCache>, number: i64) -> Self {
        let mut call = Self::new(cache, number);
        assert!(call.poll().is_none(), "{number} is kept");
        call
    }

    fn poll(&mut self) -> Option<Found> {
        match self.waits.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => Some(found),
            Poll::Pending => None,
        }
    }

    /// The read that it has started.
    fn reads(&self) -> Filling {
        self.read.with(Option::take).expect("it reads")
    }
}

fn find(cache: &Arc<ReadCache>, number: i64) -> Found {
    Call::new(cache, number).poll().expect("it is not kept")
}

/// The read of a call that has left meanwhile.
fn missing(cache: &Arc<ReadCache>, number: i64) -> Filling {
    Call::waiting(cache, number).reads()
}

fn fill(filling: Filling) {
    filling.keep(Some(&[SQL.into()]), kept(), schema());
}

/// A commit on the query's table, or on any, and what happens while it goes on.
fn commit(cache: &ReadCache, meanwhile: impl FnOnce()) {
    let versions = cache.changes.watch();
    let slots = written(&Text::of("DELETE FROM t")).with_every();
    versions.begin(slots);
    meanwhile();
    versions.end(slots);
}

#[test]
fn a_million_distinct_queries_stay_within_the_limit() {
    let cache = cache(1 << 20);
    let entry = Entry { depends: Slots::UNKNOWN, stamp: 0, answer: Answer::Kept(kept()) };
    for number in 0..1_000_000 {
        cache.kept.insert(key(number), entry.clone());
        if number % 1_000 == 0 {
            assert!(cache.status().bytes <= 1 << 20, "{:?}", cache.status());
        }
    }
    let status = cache.status();
    assert!(status.bytes <= 1 << 20 && status.bytes > 1 << 19, "{status:?}");
    assert!(cache.kept.memory_used().total() < 1 << 20, "{:?}", cache.kept.memory_used());
}

#[test]
fn an_answer_is_served_until_its_table_is_written() {
    let cache = cache(1 << 20);
    fill(missing(&cache, 1));
    assert!(matches!(find(&cache, 1), Found::Kept(_)));
    let versions = cache.changes.watch();
    versions.begin(written(&Text::of("DELETE FROM u")).with_every());
    assert!(matches!(find(&cache, 1), Found::Kept(_)), "another table's");
    commit(&cache, || {});
    drop(Call::waiting(&cache, 1));
}

#[test]
fn while_a_commit_goes_on_nothing_is_served_and_nothing_read_is_kept() {
    let cache = cache(1 << 20);
    fill(missing(&cache, 1));
    let before = missing(&cache, 2);
    commit(&cache, || {
        fill(missing(&cache, 1));
        fill(missing(&cache, 1));
        fill(before);
        fill(missing(&cache, 2));
    });
    drop((missing(&cache, 1), missing(&cache, 2)));
}

#[test]
fn what_was_read_before_a_commit_is_not_kept_after_it() {
    let cache = cache(1 << 20);
    let before = missing(&cache, 1);
    commit(&cache, || {});
    fill(before);
    fill(missing(&cache, 1));
    assert!(matches!(find(&cache, 1), Found::Kept(_)));
}

/// Those who wait are woken by a read that ends, whether it is kept or failed.
#[test]
fn who_waits_for_anothers_read_takes_it_or_reads() {
    for fails in [false, true] {
        let cache = cache(1 << 20);
        let mut first = Call::waiting(&cache, 1);
        let (mut second, mut third) = (Call::waiting(&cache, 1), Call::waiting(&cache, 1));
        // Something was written since the first read began: what the second reads is not the first's.
        commit(&cache, || {});
        fill(first.reads());
        assert!(matches!(first.poll(), Some(Found::Kept(_))));
        assert!(second.poll().is_none() && third.poll().is_none(), "the first's was too old");
        let filling = second.reads();
        if fails {
            drop(filling);
            assert!(matches!((second.poll(), third.poll()), (Some(Found::Read), Some(Found::Read))));
        } else {
            fill(filling);
            assert!(matches!((second.poll(), third.poll()), (Some(Found::Kept(_)), Some(Found::Kept(_)))));
        }
        let CacheStatus { hits, shared, misses, .. } = cache.status();
        assert_eq!((hits, shared, misses), if fails { (0, 0, 3) } else { (0, 1, 2) });
    }
}

#[test]
fn who_waited_takes_what_was_kept_meanwhile_if_it_is_still_right() {
    let cache = cache(1 << 20);
    let first = Call::waiting(&cache, 1);
    let (mut second, mut third) = (Call::waiting(&cache, 1), Call::waiting(&cache, 1));
    fill(first.reads());
    assert!(matches!((second.poll(), third.poll()), (Some(Found::Kept(_)), Some(Found::Kept(_)))));
    let CacheStatus { hits, shared, misses, .. } = cache.status();
    assert_eq!((hits, shared, misses), (1, 1, 1));
}

/// While a commit goes on, nothing can be kept: those who ask share reads all the same.
#[test]
fn a_read_that_cannot_be_kept_is_still_shared() {
    let cache = cache(1 << 20);
    commit(&cache, || {
        let first = Call::waiting(&cache, 1);
        let (mut second, mut third) = (Call::waiting(&cache, 1), Call::waiting(&cache, 1));
        fill(first.reads());
        assert!(second.poll().is_none(), "its snapshot may be older than the call");
        fill(second.reads());
        assert!(matches!((second.poll(), third.poll()), (Some(Found::Kept(_)), Some(Found::Kept(_)))));
    });
    assert_eq!((cache.status().shared, cache.status().misses, cache.status().entries), (1, 2, 0));
}

#[test]
fn a_waiter_that_leaves_takes_nothing_with_it() {
    let cache = cache(1 << 20);
    let first = Call::waiting(&cache, 1);
    let leaves = Call::waiting(&cache, 1);
    let mut stays = Call::waiting(&cache, 1);
    drop(leaves);
    fill(first.reads());
    assert!(matches!(stays.poll(), Some(Found::Kept(_))));
    assert_eq!(cache.reads.keys(), 0);
}

/// An answer that comes from two tables ends with a write to either; from one that cannot be told, it is never kept.
#[test]
fn an_answer_of_several_queries_depends_on_all_of_them() {
    let schema = || {
        let mut schema = Schema::default();
        schema.add("table", "t", "CREATE TABLE t (a, b)");
        schema.add("table", "u", "CREATE TABLE u (c)");
        Arc::new(schema)
    };
    for (asked, write, is_kept) in [
        (&["SELECT a FROM t", "SELECT c FROM u"][..], "DELETE FROM v", true),
        (&["SELECT a FROM t", "SELECT c FROM u"], "DELETE FROM t", false),
        (&["SELECT a FROM t", "SELECT c FROM u"], "DELETE FROM u", false),
        (&["SELECT a FROM t", "SELECT random()"], "DELETE FROM v", false),
        (&["SELECT a FROM t", "SELECT c FROM unheard_of"], "DELETE FROM v", false),
    ] {
        let cache = cache(1 << 20);
        let asked: Vec<Box<str>> = asked.iter().map(|sql| (*sql).into()).collect();
        missing(&cache, 1).keep(Some(&asked), kept(), schema());
        let versions = cache.changes.watch();
        let slots = written(&Text::of(write)).with_every();
        versions.begin(slots);
        versions.end(slots);
        assert_eq!(matches!(Call::new(&cache, 1).poll(), Some(Found::Kept(_))), is_kept, "{asked:?}, {write}");
    }
    let cache = cache(1 << 20);
    missing(&cache, 1).keep(None, kept(), schema());
    assert!(matches!(find(&cache, 1), Found::Read), "nobody noted what it came from");
}
