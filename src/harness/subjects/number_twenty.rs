//! Control: a pool with the flaws of the first fix of the story, which had a green proof all along.
//!
//! Its flaws, kept on purpose: nobody waits in a queue, everybody polls every 10 ms; whether another connection may be
//! opened is decided outside the lock; a new connection is put among the idle ones and then taken out again, so somebody
//! else can steal it; giving back is a spawned task; the schema is run by every new connection; writes fight for the lock.
//!
//! ```text
//! task 1                        task 2
//! opens a connection
//! puts it among the idle ones
//!                               takes it
//! finds none: "maximum size"
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::drive::{Closed, Settings, Subject};
use super::super::workload::{Client, Failure, Op, SCHEMA, Seen};
use super::ENGINE;
use super::controls::autocommit;
use super::engine::{Raw, open};

/// How often it looks for a free connection, and how many times.
const POLL: Duration = Duration::from_millis(10);
const TRIES: usize = 100;

/// The flawed pool.
pub struct NumberTwenty {
    database: turso::Database,
    inner: Arc<Inner>,
}

struct Inner {
    idle: Mutex<Vec<turso::Connection>>,
    size: AtomicUsize,
    most: AtomicUsize,
    max: usize,
}

impl Inner {
    fn pop(&self) -> Option<turso::Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn push(&self, connection: turso::Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

impl NumberTwenty {
    async fn get(&self) -> Result<turso::Connection, Failure> {
        if let Some(connection) = self.inner.pop() {
            return Ok(connection);
        }
        if self.inner.size.load(Ordering::SeqCst) < self.inner.max {
            return self.create().await;
        }
        for _ in 0..TRIES {
            tokio::time::sleep(POLL).await;
            if let Some(connection) = self.inner.pop() {
                return Ok(connection);
            }
        }
        Err(Failure::unexpected("timed out waiting for a connection"))
    }

    async fn create(&self) -> Result<turso::Connection, Failure> {
        let connection = self.database.connect()?;
        let mut client = Raw(connection.clone());
        for sql in SCHEMA {
            let sql = sql.replacen("TABLE ", "TABLE IF NOT EXISTS ", 1).replacen("INDEX ", "INDEX IF NOT EXISTS ", 1);
            client.execute(&sql, vec![]).await?;
        }
        let size = self.inner.size.fetch_add(1, Ordering::SeqCst) + 1;
        self.inner.most.fetch_max(size, Ordering::SeqCst);
        self.inner.push(connection);
        self.inner.pop().ok_or_else(|| Failure::unexpected("maximum connection pool size reached"))
    }
}

impl Subject for NumberTwenty {
    const ENGINE: &'static str = ENGINE;
    type Fresh = Raw;

    async fn fresh(path: &Path) -> Result<Raw, Failure> {
        Raw::fresh(path).await
    }

    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let (size, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let inner = Inner { idle: Mutex::default(), size, most, max: settings.pool_size as usize };
        let subject = Self { database: open(&settings.path).await?, inner: Arc::new(inner) };
        if settings.warm {
            for _ in 0..settings.pool_size {
                let connection = subject.create().await?;
                subject.inner.push(connection);
            }
        }
        Ok(subject)
    }

    async fn perform(&self, op: Op) -> Result<Option<Seen>, Failure> {
        let connection = self.get().await?;
        let seen = autocommit(&mut Raw(connection.clone()), op).await;
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.push(connection) });
        seen
    }

    async fn close(self) -> Result<Closed, Failure> {
        Ok(Closed { max_open: Some(self.inner.most.load(Ordering::SeqCst) as u64), complaints: vec![] })
    }
}
