//! The store by itself, without a database: the bound, what is served when, and who waits for whom.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

const SQL: &str = "SELECT a FROM t WHERE b = ?1";

fn cache(bytes: u64) -> ReadCache {
    ReadCache::new(Arc::default(), bytes)
}

fn schema() -> Arc<Schema> {
    let mut schema = Schema::default();
    schema.add("table", "t", "CREATE TABLE t (a, b)");
    Arc::new(schema)
}

fn params(number: i64) -> Params {
    Params::Positional(vec![number.into()])
}

fn poll<'c>(find: std::pin::Pin<&mut impl Future<Output = Found<'c>>>) -> Option<Found<'c>> {
    match find.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => Some(found),
        Poll::Pending => None,
    }
}

fn find(cache: &ReadCache, number: i64) -> Found<'_> {
    let params = params(number);
    poll(pin!(cache.find(SQL, &params))).expect("nobody else reads it")
}

fn missing(cache: &ReadCache, number: i64) -> Filling<'_> {
    match find(cache, number) {
        Found::Missing(filling) => filling,
        _ => panic!("{number} is kept"),
    }
}

fn fill(filling: Filling<'_>) {
    filling.keep(SQL, &Arc::new(CachedRows::of_weight(100)), schema());
}

/// A commit on the query's table, or on any, and what happens while it goes on.
fn commit(cache: &ReadCache, meanwhile: impl FnOnce()) {
    let watched = cache.changes.watch();
    let slots = watched.text("DELETE FROM t").writes.with_every();
    watched.versions.begin(slots);
    meanwhile();
    watched.versions.end(slots);
}

#[test]
fn a_million_distinct_queries_stay_within_the_limit() {
    let cache = cache(1 << 20);
    let entry =
        Entry { depends: Slots::UNKNOWN, stamp: Some(0), answer: Answer::Rows(Arc::new(CachedRows::of_weight(100))) };
    for number in 0..1_000_000 {
        cache.kept.insert(Key::new(SQL, &params(number)), entry.clone());
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
    assert!(matches!(find(&cache, 1), Found::Rows(_)));
    let watched = cache.changes.watch();
    watched.versions.begin(watched.text("DELETE FROM u").writes.with_every());
    assert!(matches!(find(&cache, 1), Found::Rows(_)), "another table's");
    commit(&cache, || {});
    assert!(matches!(find(&cache, 1), Found::Missing(_)));
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
    assert!(matches!(find(&cache, 1), Found::Rows(_)));
}

/// Those who wait are woken by a read that ends, by one that is dropped, and are not held up by the next.
#[test]
fn who_waits_for_anothers_read_waits_once() {
    for is_kept in [true, false] {
        let cache = cache(1 << 20);
        let params = params(1);
        let filling = missing(&cache, 1);
        let (mut first, mut second) = (pin!(cache.find(SQL, &params)), pin!(cache.find(SQL, &params)));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        match is_kept {
            true => fill(filling),
            false => drop(filling),
        }
        for waiter in [first, second] {
            match poll(waiter).expect("woken") {
                Found::Rows(_) => assert!(is_kept),
                Found::Read => assert!(!is_kept),
                Found::Missing(_) => panic!("the next would wait for this one too"),
            }
        }
    }
}

#[test]
fn who_waited_does_not_take_what_was_read_before_its_own_call() {
    let cache = cache(1 << 20);
    let params = params(1);
    let filling = missing(&cache, 1);
    commit(&cache, || {});
    let mut late = pin!(cache.find(SQL, &params));
    assert!(poll(late.as_mut()).is_none());
    fill(filling);
    assert!(matches!(poll(late).expect("woken"), Found::Read));
}

#[test]
fn a_waiter_that_leaves_takes_nothing_with_it() {
    let cache = cache(1 << 20);
    let params = params(1);
    let filling = missing(&cache, 1);
    let mut stays = pin!(cache.find(SQL, &params));
    {
        let mut leaves = pin!(cache.find(SQL, &params));
        assert!(poll(leaves.as_mut()).is_none() && poll(stays.as_mut()).is_none());
    }
    fill(filling);
    assert!(matches!(poll(stays).expect("woken"), Found::Rows(_)));
}
