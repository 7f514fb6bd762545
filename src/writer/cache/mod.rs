//! The read cache (feature `cache`): answers of whole queries, kept until a table they come from is written.
//!
//! What is kept, for how long it is right, and why, is said in `changes/versions.rs`. Here is the store: bounded by bytes, the
//! answers that are asked for most stay. One of several that miss the same query reads it, and the others wait for that, once:
//! whoever gets an answer that is not good enough for the time of its own call, or none because the read failed, panicked or
//! was dropped, reads for itself. So a slow query that is written to all the time costs its callers two reads at most, side
//! by side, and never a queue of them.

mod key;
mod query;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use turso::params::Params;

use self::key::Key;
pub use self::rows::CachedRows;
use crate::changes::{Changes, Photo, Reads, Schema, Slots, Versions, Watched};
use crate::error::Result;
use crate::pool::{ConnectionPool, Snapshot};
use crate::sync::Mutex;

/// Of an answer beside its query and its rows: its place in the store, which is not full, and what the allocator adds.
const ENTRY: u64 = 256;
/// One answer fills no more than this part of the cache.
const PARTS: usize = 8;

/// What the read cache did since it was made, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatus {
    /// Queries that were answered from it.
    pub hits: u64,
    /// Queries that it could have answered, and had to read.
    pub misses: u64,
    /// Queries that it never keeps: their answer depends on more than tables.
    pub uncached: u64,
    /// Answers found to be of before a write, and thrown away.
    pub invalidated: u64,
    /// About as many bytes are held, never more than its limit.
    pub bytes: u64,
    /// Answers held, those of before a write that nobody has asked for since among them.
    pub entries: u64,
}

impl CacheStatus {
    /// Of the queries that it could have answered, the part that it did; 0 before the first.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let asked = self.hits + self.misses;
        if asked == 0 { 0.0 } else { self.hits as f64 / asked as f64 }
    }
}

/// An answer and what it hangs on.
#[derive(Clone)]
struct Entry {
    depends: Slots,
    /// `None`: it was not right for any moment, and is only to wake who waited for it.
    stamp: Option<u64>,
    answer: Answer,
}

#[derive(Clone)]
enum Answer {
    Rows(Arc<CachedRows>),
    /// It must be read each time, as long as the schema is what it was.
    Never,
}

impl Entry {
    const FAILED: Self = Self { depends: Slots::NONE, stamp: None, answer: Answer::Never };

    fn is_fresh(&self, versions: &Versions) -> bool {
        self.stamp.is_some() && self.stamp == versions.stamp(self.depends)
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        let rows = match &entry.answer {
            Answer::Rows(rows) => rows.weight(),
            Answer::Never => 0,
        };
        ENTRY + key.len() as u64 + rows
    }
}

type Guard<'c> = PlaceholderGuard<'c, Key, Entry, Bytes, DefaultHashBuilder, DefaultLifecycle<Key, Entry>>;

/// The store. It outlives no pool: what it holds is good for one database.
pub(crate) struct ReadCache {
    changes: Arc<Changes>,
    kept: Cache<Key, Entry, Bytes>,
    /// The schema, and the stamp of unknown changes for which it holds.
    schema: Mutex<Option<(u64, Arc<Schema>)>>,
    hits: AtomicU64,
    misses: AtomicU64,
    uncached: AtomicU64,
    invalidated: AtomicU64,
}

/// What to do about a query.
pub(super) enum Found<'c> {
    Rows(Arc<CachedRows>),
    /// Read it, and [`keep`](Filling::keep) the answer.
    Missing(Filling<'c>),
    /// Read it.
    Read,
}

impl ReadCache {
    /// One of at most about so many bytes; none for 0.
    pub(super) fn of(pool: &ConnectionPool, bytes: usize) -> Option<Arc<Self>> {
        (bytes > 0).then(|| Arc::new(Self::new(Arc::clone(pool.changes()), bytes as u64)))
    }

    fn new(changes: Arc<Changes>, bytes: u64) -> Self {
        changes.watch();
        let options = OptionsBuilder::new()
            .estimated_items_capacity((bytes / 1024).max(1) as usize)
            .weight_capacity(bytes)
            .shards(PARTS)
            .build()
            .expect("every option that is needed is set");
        let kept = Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default());
        let count = AtomicU64::default;
        Self {
            changes,
            kept,
            schema: Mutex::default(),
            hits: count(),
            misses: count(),
            uncached: count(),
            invalidated: count(),
        }
    }

    /// The answer that is kept, or who reads it.
    ///
    /// # Cancel safety
    /// Dropped while it waits for another's read, that one goes on; dropped while it is the one that reads, who waits for it
    /// reads for itself.
    pub(super) async fn find(&self, sql: &str, params: &Params) -> Found<'_> {
        let watched = self.changes.watch();
        let key = Key::new(sql, params);
        if let Some(entry) = self.kept.get(&key) {
            if entry.is_fresh(&watched.versions) {
                return self.answer(entry.answer);
            }
            self.forget(&key, &watched.versions);
        } else if watched.text(sql).reads.is_none() {
            return self.answer(Answer::Never);
        }
        match self.kept.get_value_or_guard_async(&key).await {
            // It was read while this call waited; since it began, if the stamp says so.
            Ok(entry) if entry.is_fresh(&watched.versions) => self.answer(entry.answer),
            Ok(_) => {
                add(&self.misses);
                Found::Read
            }
            Err(guard) => {
                add(&self.misses);
                Found::Missing(Filling { cache: self, watched, before: watched.versions.photo(), guard: Some(guard) })
            }
        }
    }

    fn answer(&self, answer: Answer) -> Found<'_> {
        match answer {
            Answer::Rows(rows) => {
                add(&self.hits);
                Found::Rows(rows)
            }
            Answer::Never => {
                add(&self.uncached);
                Found::Read
            }
        }
    }

    /// Throws away what is not right any more, unless somebody was faster.
    fn forget(&self, key: &Key, versions: &Versions) {
        let gone = self.kept.remove_if(key, |entry| !entry.is_fresh(versions));
        if let Some((_, Entry { stamp: Some(_), .. })) = gone {
            add(&self.invalidated);
        }
    }

    pub(crate) fn status(&self) -> CacheStatus {
        CacheStatus {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            uncached: self.uncached.load(Relaxed),
            invalidated: self.invalidated.load(Relaxed),
            bytes: self.kept.weight(),
            entries: self.kept.len() as u64,
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}

impl fmt::Debug for ReadCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadCache").field(&self.status()).finish()
    }
}

/// A read whose answer others may wait for. However it ends, they are woken.
pub(super) struct Filling<'c> {
    cache: &'c ReadCache,
    watched: &'c Watched,
    /// Taken before the snapshot: what the answer is stamped with.
    before: Photo,
    guard: Option<Guard<'c>>,
}

impl Filling<'_> {
    /// The schema, if it is known for the snapshot that is about to be taken.
    pub(super) fn schema(&self) -> Option<Arc<Schema>> {
        let now = self.before.stamp(Slots::UNKNOWN)?;
        self.cache.schema.with(|kept| kept.as_ref().filter(|(of, _)| *of == now).map(|(_, schema)| Arc::clone(schema)))
    }

    /// Keeps an answer and the schema, read in one snapshot that was taken after this was made.
    pub(super) fn keep(mut self, sql: &str, rows: &Arc<CachedRows>, schema: Arc<Schema>) {
        let text = self.watched.text(sql);
        let entry = self.entry(text.reads.as_ref(), rows, &schema);
        if let Some(of) = self.before.stamp(Slots::UNKNOWN) {
            // Should a change of the schema have come before the snapshot, nothing with this stamp is served any more.
            self.cache.schema.with(|kept| *kept = Some((of, schema)));
        }
        self.insert(entry);
    }

    fn entry(&self, reads: Option<&Reads>, rows: &Arc<CachedRows>, schema: &Schema) -> Entry {
        let (depends, answer) = match reads.and_then(|reads| schema.depends(reads)) {
            Some(depends) => (depends, Answer::Rows(Arc::clone(rows))),
            None => (Slots::UNKNOWN, Answer::Never),
        };
        match self.before.stamp(depends) {
            Some(stamp) => Entry { depends, stamp: Some(stamp), answer },
            None => Entry::FAILED,
        }
    }

    fn insert(&mut self, entry: Entry) {
        if let Some(guard) = self.guard.take() {
            // Refused only if the place was taken meanwhile, by an answer that is as good.
            let _ = guard.insert(entry);
        }
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.insert(Entry::FAILED);
    }
}

/// Reads the schema as this snapshot has it.
pub(super) async fn read_schema(snapshot: &mut Snapshot<'_>) -> Result<Schema> {
    let mut schema = Schema::default();
    let mut rows = snapshot.query(Schema::SQL, ()).await?;
    while let Some(row) = rows.next().await? {
        let sql: Option<String> = row.get(2)?;
        schema.add(&row.get::<String>(0)?, &row.get::<String>(1)?, sql.as_deref().unwrap_or_default());
    }
    Ok(schema)
}
