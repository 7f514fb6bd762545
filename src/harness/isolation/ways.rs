//! The ways in which a transaction is made: by the writer, on a snapshot, through the cache, by a guard.

use tokio::task::yield_now;

use super::history::MicroOp;
use crate::error::{Error, Result};
use crate::pool::{Behavior, Row, Rows, Snapshot, Transaction};
use crate::writer::{Ack, PooledDatabaseWriter};

/// A row for each list or register that was ever written.
pub(super) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS contents (key INTEGER PRIMARY KEY, content TEXT NOT NULL)";
const APPEND: &str =
    "INSERT INTO contents VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET content = content || ' ' || ?2";
const WRITE: &str = "INSERT INTO contents VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET content = ?2";
const READ: &str = "SELECT content FROM contents WHERE key = ?1";

/// A value that no transaction writes.
const NOBODYS: i64 = i64::MIN;

/// How a transaction is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// A closure of the writer's.
    Write,
    /// One append or write, by the writer's `execute`.
    Execute,
    /// A transaction of a guard, which takes its locks as it needs them.
    Deferred,
    /// A transaction of a guard, which takes the write lock at once.
    Immediate,
    /// Reads, on a snapshot.
    Snapshot,
    /// One read, through the cache.
    #[cfg(feature = "cache")]
    Cached,
}

impl Way {
    /// For a reader.
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Write => "write",
            Way::Execute => "execute",
            Way::Deferred => "guard, deferred",
            Way::Immediate => "guard, immediate",
            Way::Snapshot => "snapshot",
            #[cfg(feature = "cache")]
            Way::Cached => "cached",
        }
    }
}

/// What a transaction came to.
pub(super) struct Done {
    /// Its operations, with what was read.
    pub(super) operations: Vec<MicroOp>,
    pub(super) told: Told,
}

/// What the library told of the order of commits.
pub(super) enum Told {
    Nothing,
    /// Its commit, and its position there.
    Commit(u64, u32),
    /// Commits that a snapshot includes at least, and at most.
    Snapshot(u64, u64),
}

impl Done {
    pub(super) fn untold(operations: Vec<MicroOp>) -> Self {
        Self { operations, told: Told::Nothing }
    }

    pub(super) fn acknowledged<R>(ack: &Ack<R>, operations: Vec<MicroOp>) -> Self {
        Self { operations, told: Told::Commit(ack.token.number(), ack.position) }
    }
}

/// Makes a transaction.
pub(super) async fn perform(db: &PooledDatabaseWriter, way: Way, operations: Vec<MicroOp>) -> Result<Done> {
    match way {
        Way::Write => {
            let ack = db.write(async move |tx| in_transaction(tx, operations.clone()).await).await?;
            Ok(Done::acknowledged(&ack, ack.value.clone()))
        }
        Way::Execute => match operations.first().and_then(statement) {
            Some((sql, params)) => {
                let ack = db.execute(sql, params).await?;
                Ok(Done::acknowledged(&ack, operations))
            }
            None => Err(Error::misuse("execute writes")),
        },
        Way::Deferred => on_a_guard(db, Behavior::Deferred, operations).await.map(Done::untold),
        Way::Immediate => on_a_guard(db, Behavior::Immediate, operations).await.map(Done::untold),
        Way::Snapshot => on_a_snapshot(db, operations).await,
        #[cfg(feature = "cache")]
        Way::Cached => {
            let mut done = Vec::new();
            for operation in operations {
                if let MicroOp::Read(key, _) = operation {
                    let found = db.query_cached(READ, (key,)).await?;
                    done.push(MicroOp::Read(key, Some(content_of(found.rows().first())?)));
                }
            }
            Ok(Done::untold(done))
        }
    }
}

async fn on_a_snapshot(db: &PooledDatabaseWriter, operations: Vec<MicroOp>) -> Result<Done> {
    let at_least = db.status().commits;
    let watch = db.clone();
    db.read(async move |snapshot: &mut Snapshot<'_>| {
        let (mut done, mut at_most) = (Vec::new(), None);
        for operation in &operations {
            if let MicroOp::Read(key, _) = operation {
                yield_now().await;
                done.push(MicroOp::Read(*key, Some(read(snapshot.query(READ, (*key,)).await?).await?)));
                // From its first read on it is of one moment. A commit is counted when it can be seen already, and before the
                // next one begins: there may be one more than is counted.
                at_most.get_or_insert_with(|| watch.status().commits + 1);
            }
        }
        Ok::<_, Error>(Done { operations: done, told: Told::Snapshot(at_least, at_most.unwrap_or(at_least)) })
    })
    .await
}

async fn on_a_guard(db: &PooledDatabaseWriter, behavior: Behavior, operations: Vec<MicroOp>) -> Result<Vec<MicroOp>> {
    let mut guard = db.pool().get().await?;
    let mut tx = guard.begin(behavior).await?;
    let done = in_transaction(&mut tx, operations).await?;
    // One that is refused for a lock has written nothing; of any other failure nobody knows.
    tx.commit().await.map_err(|error| match error.is_contention() {
        true => error,
        false => Error::unknown(error),
    })?;
    Ok(done)
}

/// Does what it says, one after the other, and lets others go on in between: a statement whose pages are in memory waits for nothing, and
/// in a world no two transactions would ever be open at the same time.
pub(super) async fn in_transaction(tx: &mut Transaction<'_>, operations: Vec<MicroOp>) -> Result<Vec<MicroOp>> {
    let mut done = Vec::new();
    for operation in operations {
        yield_now().await;
        done.push(match (statement(&operation), operation) {
            (Some((sql, params)), operation) => {
                tx.execute(sql, params).await?;
                operation
            }
            (None, operation) => {
                let key = operation.key();
                MicroOp::Read(key, Some(read(tx.query(READ, (key,)).await?).await?))
            }
        });
    }
    Ok(done)
}

/// Gives a list or a register a whole new content.
pub(super) async fn replace(tx: &mut Transaction<'_>, key: i64, content: &[i64]) -> Result<()> {
    let text = content.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
    tx.execute(WRITE, (key, text)).await.map(drop)
}

fn statement(operation: &MicroOp) -> Option<(&'static str, (i64, String))> {
    match operation {
        MicroOp::Append(key, value) => Some((APPEND, (*key, value.to_string()))),
        MicroOp::Write(key, value) => Some((WRITE, (*key, value.to_string()))),
        MicroOp::Read(..) => None,
    }
}

async fn read(mut rows: Rows<'_>) -> Result<Vec<i64>> {
    content_of(rows.next().await?.as_ref())
}

/// The content of a row; nothing where there is none.
fn content_of(row: Option<&Row>) -> Result<Vec<i64>> {
    let content = row.map(|row| row.get::<String>(0)).transpose()?.unwrap_or_default();
    // What is no number nobody wrote, and so the checkers say.
    Ok(content.split_ascii_whitespace().map(|word| word.parse().unwrap_or(NOBODYS)).collect())
}
