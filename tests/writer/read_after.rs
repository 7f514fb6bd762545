//! Read your writes: a snapshot that is taken after an acknowledgement has what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use poolproof::{CommitToken, Error};
use tokio::sync::watch;

use crate::world::{insert, rows, writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_was_told_of_a_commit_reads_it() {
    let (db, _folder) = writer().await;
    db.execute("CREATE TABLE seen (writer INTEGER PRIMARY KEY, x INTEGER)", ()).await.unwrap();
    let (writers, times) = (8, 60);
    let reads = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (db, reads) = (db.clone(), Arc::clone(&reads));
            tokio::spawn(async move {
                for x in 1..=times {
                    let sql = "INSERT INTO seen VALUES (?1, ?2) ON CONFLICT (writer) DO UPDATE SET x = ?2";
                    let token = match x % 2 {
                        0 => db.execute(sql, (writer, x)).await.unwrap().token,
                        _ => {
                            let write = db.write(async move |tx| tx.execute(sql, (writer, x)).await);
                            let ack: Result<poolproof::Ack<u64>, Error> = write.await;
                            ack.unwrap().token
                        }
                    };
                    let read = db.read_after(token, async move |snapshot| {
                        let mut rows = snapshot.query("SELECT x FROM seen WHERE writer = ?1", (writer,)).await?;
                        rows.next().await?.expect("it was acknowledged").get::<i64>(0)
                    });
                    assert_eq!(read.await.unwrap(), x, "nobody else writes this row");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(reads.load(Ordering::Relaxed), (writers * times) as u64);
}

/// Those who are told of a token by others read at least its commit: each write appends one row, so that the commit of
/// `token` and all before it are so many rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_handed_a_token_reads_at_least_that_commit_and_never_less_than_before() {
    let (db, _folder) = writer().await;
    let first = insert(db.clone(), 0).await.unwrap().token;
    let (latest, tokens) = watch::channel((first, 1_i64));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (db, tokens, done) = (db.clone(), tokens.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let (mut reads, mut before): (u64, i64) = (0, 0);
                while !done.load(Ordering::Relaxed) || reads == 0 {
                    let (token, rows_then): (CommitToken, i64) = *tokens.borrow();
                    let read = db.read_after(token, async |snapshot| crate::world::count(snapshot).await);
                    let found = read.await.unwrap();
                    assert!(found >= rows_then && found >= before, "{found} rows, of {rows_then} and {before}");
                    before = found;
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let mut rows_written = 1;
    for x in 0..400 {
        let token = insert(db.clone(), x).await.unwrap().token;
        assert!(token.number() > latest.borrow().0.number());
        rows_written += 1;
        latest.send_replace((token, rows_written));
    }
    done.store(true, Ordering::Relaxed);
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.unwrap();
    }
    println!("{reads} reads beside 400 writes");
    assert_eq!(rows(&db).await, rows_written);
}

#[tokio::test]
async fn a_token_of_another_writer_is_refused() {
    let ((db, _folder), (other, _other_folder)) = (writer().await, writer().await);
    let own = insert(db.clone(), 1).await.unwrap().token;
    let foreign = insert(other.clone(), 1).await.unwrap().token;
    assert_eq!(own.number(), foreign.number());
    let refused: Result<(), Error> = db.read_after(foreign, async |_| panic!("it is not run")).await;
    assert!(matches!(refused, Err(Error::Misuse(_))), "{refused:?}");
    assert_eq!(db.read_after(own, async |snapshot| crate::world::count(snapshot).await).await.unwrap(), 1);
    // The next writer of the same file is another one, too.
    let pool = db.pool().clone();
    db.stop().await;
    let next = poolproof::PooledDatabaseWriter::new(pool).await.unwrap();
    let refused: Result<(), Error> = next.read_after(own, async |_| panic!("it is not run")).await;
    assert!(matches!(refused, Err(Error::Misuse(_))), "{refused:?}");
}
