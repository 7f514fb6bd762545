//! What the statements that a connection keeps hold: nothing of their last run, and no more text than their bound.

use poolproof::{ConnectionPool, PooledConnection};
use tempfile::TempDir;

use crate::allocator::bytes;
use crate::alone;

const MIB: isize = 1 << 20;

/// A value of 16 MiB, and 12 texts for each thing that can be done with one.
const TEXTS: usize = 12;

async fn open() -> (PooledConnection, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
    let mut connection = pool.get().await.unwrap();
    connection.execute("CREATE TABLE t (x BLOB)", ()).await.unwrap();
    connection.execute("INSERT INTO t VALUES (zeroblob(?1))", (16 * MIB as i64,)).await.unwrap();
    (connection, folder)
}

async fn query(connection: &mut PooledConnection, sql: &str, blob: bool, to_the_end: bool) {
    let params = if blob { vec![poolproof::Value::Blob(vec![7; 16 * MIB as usize])] } else { Vec::new() };
    let mut rows = connection.query(sql, params).await.unwrap();
    assert!(rows.next().await.unwrap().is_some());
    assert!(!to_the_end || rows.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_kept_statement_holds_neither_its_last_row_nor_its_parameters() {
    let _alone = alone().await;
    for (what, sql, blob) in [
        ("a row", "SELECT x FROM t", false),
        ("what a row was made of", "SELECT length(x) FROM t", false),
        ("a parameter", "SELECT length(?1)", true),
        ("a parameter that is a row", "SELECT ?1", true),
    ] {
        for to_the_end in [true, false] {
            let (mut connection, _folder) = open().await;
            // By then the engine's cache of pages is as full as it gets.
            query(&mut connection, sql, blob, to_the_end).await;
            let before = bytes();
            for text in 0..TEXTS {
                query(&mut connection, &format!("{sql} -- {text}"), blob, to_the_end).await;
            }
            let grown = bytes() - before;
            assert!(
                grown < 2 * MIB,
                "{TEXTS} texts hold {} MiB: {what}, fetched to the end: {to_the_end}",
                grown / MIB
            );
        }
    }
    let (mut connection, _folder) = open().await;
    let mut before = bytes();
    for text in 0..=TEXTS {
        if text == 1 {
            before = bytes();
        }
        let blob = vec![7; 16 * MIB as usize];
        connection.execute(&format!("DELETE FROM t WHERE x = ?1 -- {text}"), (blob,)).await.unwrap();
    }
    let grown = bytes() - before;
    assert!(grown < 2 * MIB, "{TEXTS} statements that give no rows hold {} MiB", grown / MIB);
}

/// What is prepared of a text takes up to 150 times as many bytes as the text: one that names many values, as here.
#[tokio::test]
async fn what_is_prepared_is_bounded_in_bytes() {
    let _alone = alone().await;
    let (mut connection, _folder) = open().await;
    let mut grown = Vec::new();
    for text in 0..200 {
        let before = bytes();
        let many: String = (0..1_400).map(|number| format!(", {number}")).collect();
        query(&mut connection, &format!("SELECT {text} IN (0{many})"), false, true).await;
        grown.push(bytes() - before);
    }
    let all: isize = grown.iter().sum();
    assert!(all < 6 * MIB, "200 long texts hold {} KiB", all / 1024);
    assert!((2..64).contains(&connection.cached_statements()));
    for text in 0..200 {
        query(&mut connection, &format!("SELECT {text}"), false, true).await;
    }
    assert_eq!(connection.cached_statements(), 64, "of short ones as many as are asked for");
}
