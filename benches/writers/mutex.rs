//! One connection behind an async mutex, its statement prepared once: what most programs begin with. The engine is polled
//! in the callers' tasks.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;
use turso::Statement;

use super::Writer;
use crate::database::{INSERT, connect};

/// A handle to the connection.
#[derive(Clone)]
pub struct Mutexed(Arc<Mutex<Statement>>);

impl Writer for Mutexed {
    const NAME: &'static str = "mutex";

    async fn open(path: &Path) -> Self {
        let insert = connect(path).await.prepare(INSERT).await.expect("it can be prepared");
        Self(Arc::new(Mutex::new(insert)))
    }

    async fn insert(&self, value: i64) {
        self.0.lock().await.execute((value,)).await.expect("it is committed");
    }
}
