//! What the service is measured against from above: the same, with hardly any call of the database left. A view is made anew
//! when it is older than a tenth of a second, whatever was written meanwhile; so what remains is the handlers and HTTP.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use turso::IntoParams;

use crate::error::{Error, Result};
use crate::pool::{Snapshot, Transaction};
use crate::runs::Store;
use crate::writer::{CloseReport, PooledDatabaseWriter, Weigh, WriterStatus};

/// A view is as old at most.
const AGE: Duration = Duration::from_millis(100);
/// More views are forgotten.
const MOST: usize = 1000;

type Views = HashMap<u64, (Instant, Arc<dyn Any + Send + Sync>)>;

/// A writer whose views are old.
#[derive(Clone)]
pub(super) struct Stale {
    db: PooledDatabaseWriter,
    views: Arc<Mutex<Views>>,
}

impl Stale {
    pub(super) fn new(db: PooledDatabaseWriter) -> Self {
        Self { db, views: Arc::default() }
    }

    fn with<R>(&self, change: impl FnOnce(&mut Views) -> R) -> R {
        change(&mut self.views.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A view that is young enough, or that somebody else is making anew just now.
    fn known<T: Send + Sync + 'static>(&self, key: u64) -> Option<Arc<T>> {
        self.with(|views| {
            let (made, view) = views.get_mut(&key)?;
            if made.elapsed() > AGE {
                *made = Instant::now();
                return None;
            }
            Arc::clone(view).downcast().ok()
        })
    }
}

impl Store for Stale {
    async fn execute(&self, sql: &'static str, params: impl IntoParams + Send) -> Result<u64> {
        Store::execute(&self.db, sql, params).await
    }

    fn write<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>> + Send
    where
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        Store::write(&self.db, work)
    }

    fn read<F, R, E>(&self, work: F) -> impl Future<Output = Result<R, E>> + Send
    where
        F: AsyncFnOnce(&mut Snapshot<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        Store::read(&self.db, work)
    }

    async fn read_cached<K, F, T, E>(&self, given: K, work: F) -> Result<Arc<T>, E>
    where
        K: Hash + Eq + Weigh + Send + Sync + 'static,
        F: AsyncFnOnce(&mut Snapshot<'_>, &K) -> Result<T, E> + Send + 'static,
        T: Weigh + Send + Sync + 'static,
        E: From<Error> + Send + 'static,
    {
        let mut hasher = DefaultHasher::new();
        (TypeId::of::<F>(), &given).hash(&mut hasher);
        let key = hasher.finish();
        if let Some(view) = self.known(key) {
            return Ok(view);
        }
        let view = Store::read_cached(&self.db, given, work).await?;
        self.with(|views| {
            if views.len() >= MOST {
                views.clear();
            }
            views.insert(key, (Instant::now(), Arc::clone(&view) as Arc<dyn Any + Send + Sync>));
        });
        Ok(view)
    }

    fn status(&self) -> WriterStatus {
        self.db.status()
    }

    fn close(&self, limit: Duration) -> impl Future<Output = CloseReport> + Send {
        Store::close(&self.db, limit)
    }
}
