//! The read cache (feature `cache`): answers of whole queries, kept until a table they come from is written.
//!
//! What is kept, for how long it is right, and why, is said in `changes/versions.rs`. Here is the store: bounded by bytes, the
//! answers that are asked for most stay. Of several that miss the same answer one reads, for all whose call came before its
//! snapshot (`coalesce`).

mod coalesce;
mod door;
mod key;
mod rows;
#[cfg(test)]
mod tests;
mod weigh;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use self::coalesce::{Coalescer, Running};
use self::key::Key;
pub use self::rows::CachedRows;
pub use self::weigh::Weigh;
use crate::catch::contain;
use crate::changes::{Changes, Photo, Schema, Slots, Versions};
use crate::error::{Error, Result};
use crate::pool::{ConnectionPool, Snapshot};
use crate::sql::Text;
use crate::sync::Mutex;

/// Of an answer beside its key and its value: its place in the store, which is not full, and what the allocator adds.
const ENTRY: u64 = 256;
/// One answer fills no more than this part of the cache.
const PARTS: usize = 8;

/// What the read cache did since it was made, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatus {
    /// Queries that were answered from it.
    pub hits: u64,
    /// Queries that were answered by what another, that came earlier or at the same time, read after they had been asked.
    pub shared: u64,
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
    /// Of the queries that it could have answered, the part that did not read; 0 before the first.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let answered = self.hits + self.shared;
        let asked = answered + self.misses;
        if asked == 0 { 0.0 } else { answered as f64 / asked as f64 }
    }
}

/// An answer and what it hangs on.
#[derive(Clone)]
struct Entry {
    depends: Slots,
    stamp: u64,
    answer: Answer,
}

#[derive(Clone)]
enum Answer {
    Kept(Kept),
    /// It must be read each time, as long as the schema is what it was.
    Never,
}

/// A value, of the one type that its key has, and about how many bytes it takes.
#[derive(Clone)]
pub(super) struct Kept {
    value: Arc<dyn Any + Send + Sync>,
    bytes: u64,
}

impl Kept {
    fn of<T: Weigh + Send + Sync + 'static>(value: &Arc<T>) -> Self {
        let bytes = (size_of::<T>() + value.heap_bytes()) as u64;
        Self { value: Arc::clone(value) as Arc<dyn Any + Send + Sync>, bytes }
    }

    /// It, by its type.
    fn value<T: Send + Sync + 'static, E: From<Error>>(self) -> Result<Arc<T>, E> {
        self.value.downcast().map_err(|_| Error::misuse("one closure made values of two types").into())
    }
}

impl Entry {
    fn is_fresh(&self, versions: &Versions) -> bool {
        versions.stamp(self.depends) == Some(self.stamp)
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        let value = match &entry.answer {
            Answer::Kept(kept) => kept.bytes,
            Answer::Never => 0,
        };
        ENTRY + key.len() as u64 + value
    }
}

/// The store. It outlives no pool: what it holds is good for one database.
pub(crate) struct ReadCache {
    changes: Arc<Changes>,
    kept: Cache<Key, Entry, Bytes>,
    reads: Arc<Coalescer<Key, Kept>>,
    /// The schema, and the stamp of unknown changes for which it holds.
    schema: Mutex<Option<(u64, Arc<Schema>)>>,
    hits: AtomicU64,
    shared: AtomicU64,
    misses: AtomicU64,
    uncached: AtomicU64,
    invalidated: AtomicU64,
}

/// What to do about a query.
pub(super) enum Found {
    Kept(Kept),
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
            reads: Arc::default(),
            schema: Mutex::default(),
            hits: count(),
            shared: count(),
            misses: count(),
            uncached: count(),
            invalidated: count(),
        }
    }

    /// The answer, if it is kept, or if it is clear without reading that it never will be (`is_hopeless`).
    pub(super) fn find(&self, key: &Key, is_hopeless: impl FnOnce() -> bool) -> Option<Found> {
        let versions = self.changes.watch();
        if let Some(entry) = self.kept.get(key) {
            if entry.is_fresh(versions) {
                return Some(self.answer(entry.answer));
            }
            self.forget(key, versions);
        } else if is_hopeless() {
            return Some(self.answer(Answer::Never));
        }
        None
    }

    /// Waits for an answer that is not kept, and is read by `read`, or by another's. `Found::Read`: that failed.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the read goes on if others wait for it, whoever started it.
    pub(super) async fn wait(self: &Arc<Self>, key: &Key, read: impl FnOnce(Filling) + Send + 'static) -> Found {
        let is_counted = Arc::new(AtomicBool::new(false));
        let start = {
            let (cache, is_counted) = (Arc::clone(self), Arc::clone(&is_counted));
            move |running: Running<Key, Kept>| {
                is_counted.store(true, Relaxed);
                cache.start(running, read);
            }
        };
        let answer = self.reads.join(key, Box::new(start)).answer().await;
        if !is_counted.load(Relaxed) {
            add(if answer.is_some() { &self.shared } else { &self.misses });
        }
        answer.map_or(Found::Read, Found::Kept)
    }

    /// Reads for those who wait, unless the answer was kept while that waited. Fresh now, it is right for all who came before now.
    fn start(self: Arc<Self>, running: Running<Key, Kept>, read: impl FnOnce(Filling)) {
        let versions = self.changes.watch();
        match self.kept.get(running.key()).filter(|entry| entry.is_fresh(versions)) {
            Some(Entry { answer, .. }) => running.complete(match self.answer(answer) {
                Found::Kept(kept) => Some(kept),
                Found::Read => None,
            }),
            None => {
                add(&self.misses);
                let before = versions.photo();
                read(Filling { cache: self, before, running });
            }
        }
    }

    fn answer(&self, answer: Answer) -> Found {
        match answer {
            Answer::Kept(kept) => {
                add(&self.hits);
                Found::Kept(kept)
            }
            Answer::Never => {
                add(&self.uncached);
                Found::Read
            }
        }
    }

    /// Throws away what is not right any more, unless somebody was faster.
    fn forget(&self, key: &Key, versions: &Versions) {
        if self.kept.remove_if(key, |entry| !entry.is_fresh(versions)).is_some() {
            add(&self.invalidated);
        }
    }

    pub(crate) fn status(&self) -> CacheStatus {
        CacheStatus {
            hits: self.hits.load(Relaxed),
            shared: self.shared.load(Relaxed),
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

/// A read whose answer is waited for. Dropped without one, each of those who wait reads for itself.
pub(super) struct Filling {
    cache: Arc<ReadCache>,
    /// Taken before the snapshot: what the answer is stamped with.
    before: Photo,
    running: Running<Key, Kept>,
}

impl Filling {
    /// The schema, if it is known for the snapshot that is about to be taken.
    pub(super) fn schema(&self) -> Option<Arc<Schema>> {
        let now = self.before.stamp(Slots::UNKNOWN)?;
        self.cache.schema.with(|kept| kept.as_ref().filter(|(of, _)| *of == now).map(|(_, schema)| Arc::clone(schema)))
    }

    /// Keeps an answer and the schema, read in one snapshot that was taken after this was made. `asked` are the queries that
    /// it comes from; `None`: there were too many.
    pub(super) fn keep(self, asked: Option<&[Box<str>]>, kept: Kept, schema: Arc<Schema>) {
        let Self { cache, before, running } = self;
        let depends = asked.and_then(|asked| {
            let mut all = asked.iter().map(|sql| schema.depends(Text::of(sql).reads()?));
            all.try_fold(Slots::UNKNOWN, |slots, one| Some(slots.and(one?)))
        });
        if let Some(of) = before.stamp(Slots::UNKNOWN) {
            // Should a change of the schema have come before the snapshot, nothing with this stamp is served any more.
            cache.schema.with(|kept| *kept = Some((of, schema)));
        }
        let (depends, answer) = match depends {
            Some(depends) => (depends, Answer::Kept(kept.clone())),
            None => (Slots::UNKNOWN, Answer::Never),
        };
        if let Some(stamp) = before.stamp(depends) {
            // What it makes room for is dropped, which is somebody else's code.
            contain(|| cache.kept.insert(running.key().clone(), Entry { depends, stamp, answer }));
        }
        running.complete(Some(kept));
    }

    /// Resolves when nobody waits for it any more.
    pub(super) fn abandoned(&self) -> impl Future<Output = ()> + Send + use<> {
        self.running.abandoned()
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
