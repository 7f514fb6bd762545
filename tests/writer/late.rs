//! What still runs when the time of a close is over: it is named, and it is done and counted all the same.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use poolproof::{Ack, ConnectionPool, Error, PooledDatabaseWriter, WriteStage};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use turso::core::io::FileSyncType;
use turso::core::{
    Buffer, Clock, Completion, File, IO, LimboError, MonotonicInstant, OpenFlags, PlatformIO, WallClockInstant,
};

use crate::world::{by_sqlite, commit_of, hold, patient, queue, until, writer};

/// Whether syncs of the log have to wait, and how many do.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    opens: Condvar,
}

impl Gate {
    fn shut(&self, shut: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = shut;
        self.opens.notify_all();
    }

    fn somebody_waits(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 > 0
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        let mut state = self.opens.wait_while(state, |(shut, _)| *shut).unwrap_or_else(PoisonError::into_inner);
        state.1 -= 1;
    }
}

/// The operating system's disk, behind a gate.
struct Slow {
    platform: PlatformIO,
    gate: Arc<Gate>,
}

impl Clock for Slow {
    fn current_time_monotonic(&self) -> MonotonicInstant {
        self.platform.current_time_monotonic()
    }

    fn current_time_wall_clock(&self) -> WallClockInstant {
        self.platform.current_time_wall_clock()
    }
}

impl IO for Slow {
    fn open_file(&self, path: &str, flags: OpenFlags, direct: bool) -> Result<Arc<dyn File>, LimboError> {
        let file = self.platform.open_file(path, flags, direct)?;
        Ok(Arc::new(SlowFile { file, gate: path.ends_with("-wal").then(|| Arc::clone(&self.gate)) }))
    }

    fn remove_file(&self, path: &str) -> Result<(), LimboError> {
        self.platform.remove_file(path)
    }

    fn step(&self) -> Result<(), LimboError> {
        self.platform.step()
    }
}

struct SlowFile {
    file: Arc<dyn File>,
    /// The log's.
    gate: Option<Arc<Gate>>,
}

impl File for SlowFile {
    fn lock_file(&self, exclusive: bool) -> Result<(), LimboError> {
        self.file.lock_file(exclusive)
    }

    fn unlock_file(&self) -> Result<(), LimboError> {
        self.file.unlock_file()
    }

    fn pread(&self, at: u64, completion: Completion) -> Result<Completion, LimboError> {
        self.file.pread(at, completion)
    }

    fn pwrite(&self, at: u64, buffer: Arc<Buffer>, completion: Completion) -> Result<Completion, LimboError> {
        self.file.pwrite(at, buffer, completion)
    }

    fn pwritev(&self, at: u64, buffers: Vec<Arc<Buffer>>, completion: Completion) -> Result<Completion, LimboError> {
        self.file.pwritev(at, buffers, completion)
    }

    fn sync(&self, completion: Completion, how: FileSyncType) -> Result<Completion, LimboError> {
        self.gate.iter().for_each(|gate| gate.pass());
        self.file.sync(completion, how)
    }

    fn size(&self) -> Result<u64, LimboError> {
        self.file.size()
    }

    fn truncate(&self, len: u64, completion: Completion) -> Result<Completion, LimboError> {
        self.file.truncate(len, completion)
    }
}

#[tokio::test]
async fn a_write_that_runs_when_the_close_gives_up_is_named_and_committed() {
    let (db, _folder) = writer().await;
    let (path, before) = (db.pool().path().to_owned(), db.status());
    let (started, mut begun) = watch::channel(false);
    let (release, released) = watch::channel(false);
    let caller = db.clone();
    let write = tokio::spawn(async move {
        let work = caller.write(async move |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ()).await?;
            started.send_replace(true);
            let _ = released.clone().wait_for(|released| *released).await;
            Ok::<_, Error>(tx.last_insert_rowid())
        });
        work.await
    });
    begun.wait_for(|begun| *begun).await.unwrap();
    let report = db.close_within(Duration::from_millis(5)).await;
    let running = report.running.as_ref().expect("it is held");
    assert!(running.site.file().ends_with("late.rs") && running.waited >= Duration::from_millis(5), "{report}");
    assert!(report.is_running && report.not_done.is_empty() && !write.is_finished(), "{report}");
    assert_eq!(db.status().committed, before.committed, "it is not counted before its end");

    release.send_replace(true);
    let ack = write.await.unwrap().unwrap();
    assert_eq!((ack.value, ack.token.number()), (1, before.commits + 1));
    let report = db.close_within(Duration::from_secs(60)).await;
    assert!(report.is_clean() && report.running.is_none(), "{report}");
    let after = db.status();
    assert_eq!((after.committed - before.committed, after.rolled_back - before.rolled_back, after.skipped), (1, 0, 0));
    assert_eq!(by_sqlite(&path), [1]);
}

/// A writer whose syncs of the log wait at a gate.
async fn gated() -> (PooledDatabaseWriter, Arc<Gate>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let slow = Slow { platform: PlatformIO::new().unwrap(), gate: Arc::clone(&gate) };
    let pool = ConnectionPool::builder(folder.path().join("t.db")).io(Arc::new(slow)).build().await.unwrap();
    let db = PooledDatabaseWriter::with_config(pool, patient()).await.unwrap();
    db.execute("CREATE TABLE t (x INTEGER)", ()).await.unwrap();
    (db, gate, folder)
}

/// A write of 1 that is the first of a batch, and shuts the gate: the one that holds the lane commits before.
async fn queue_and_shut(db: &PooledDatabaseWriter, gate: &Arc<Gate>) -> JoinHandle<Result<Ack<u64>, Error>> {
    let shuts = Arc::clone(gate);
    let first = queue(db, |db| async move {
        let work = db.write(async move |tx| {
            shuts.shut(true);
            tx.execute("INSERT INTO t VALUES (1)", ()).await
        });
        work.await
    });
    first.await
}

/// While those before it are committed it has not begun: it can be late, and its caller can leave.
#[tokio::test]
async fn what_has_to_be_alone_waits_in_the_queue_while_those_before_it_are_committed() {
    let (db, gate, _folder) = gated().await;
    let held = hold(&db).await;
    let first = queue_and_shut(&db, &gate).await;
    let create =
        |db: PooledDatabaseWriter, table| async move { db.execute(format!("CREATE TABLE {table} (x)"), ()).await };
    let leaves = queue(&db, |db| create(db, "v")).await;
    let late = queue(&db, |db| create(db.within(Duration::from_millis(300)), "w")).await;
    held.let_go().await;
    until(|| gate.somebody_waits()).await;
    assert_eq!(db.status().queued, 2);
    leaves.abort();
    let error = late.await.unwrap().unwrap_err();
    assert!(matches!(error.cause(), Error::Deadline { stage: WriteStage::Waiting, .. }), "{error:?}");
    assert_eq!((db.status().queued, db.status().skipped), (0, 1));
    assert!(!first.is_finished(), "that commit goes on");
    gate.shut(false);
    commit_of(first).await;
    for table in ["v", "w"] {
        let missing = db.execute(format!("INSERT INTO {table} VALUES (1)"), ()).await;
        assert!(missing.unwrap_err().to_string().contains("no such table"), "{table}");
    }
}

/// Two share the commit: it is under way when the time is over, so neither is told, and the last of them is named.
#[tokio::test]
async fn a_commit_that_runs_when_the_close_gives_up_names_its_last_write_and_tells_all_of_them() {
    let (db, gate, _folder) = gated().await;
    let path = db.pool().path().to_owned();
    let held = hold(&db).await;
    let first = queue_and_shut(&db, &gate).await;
    let last = queue(&db, |db| async move { db.execute("INSERT INTO t VALUES (1 + 1)", ()).await }).await;
    held.let_go().await;
    until(|| gate.somebody_waits()).await;
    let before = db.status();
    let report = db.close_within(Duration::from_millis(5)).await;
    let running = report.running.as_ref().expect("its commit is held");
    assert_eq!(running.sql.as_deref(), Some("INSERT INTO t VALUES (1 + 1)"), "{report}");
    assert!(report.is_running && report.not_done.is_empty(), "{report}");
    assert!(!first.is_finished() && !last.is_finished(), "nobody is told before the disk has it");
    assert_eq!(db.status().committed, before.committed);

    gate.shut(false);
    assert_eq!(commit_of(first).await, commit_of(last).await);
    assert!(db.close_within(Duration::from_secs(60)).await.is_clean());
    let after = db.status();
    assert_eq!((after.committed - before.committed, after.commits - before.commits), (2, 1));
    assert_eq!(by_sqlite(&path), [1, 2]);
}
