//! A program run by the library.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use turso::Value;

use super::program::{Call, Program, Statement, Way};
use super::table::{Told, digest, shown};
use super::{Io, NAME};
use crate::error::{Error, Result};
use crate::pool::{Behavior, Connection, ConnectionPool, Hooks, Row, Rows, Snapshot, Transaction};
use crate::writer::{PooledDatabaseWriter, WriterConfig};

/// Runs it on a new database: what each call came to, and what it holds at the end.
///
/// # Errors
/// Why there is nothing to compare: an outcome that is unknown though no disk failed, for example.
pub(super) async fn run(program: &Program, io: &Io) -> std::result::Result<(Vec<Told>, String), String> {
    let told = calls(program, io).await.map_err(|error| format!("the database could not be used: {error}"))?;
    if let Some(unknown) = told.iter().find(|told| matches!(told, Told::Failed(why) if why.starts_with(UNKNOWN))) {
        return Err(format!("an outcome is unknown though no disk failed: {unknown}"));
    }
    let database = turso::Builder::new_local(NAME).with_io_impl(Arc::clone(io)).build().await;
    let connection =
        database.and_then(|database| database.connect()).map_err(|error| format!("unreadable: {error}"))?;
    Ok((told, digest(&connection).await))
}

const UNKNOWN: &str = "UNKNOWN: ";

async fn calls(program: &Program, io: &Io) -> Result<Vec<Told>> {
    let hooks = Hooks::new().after_connect(|connection: &mut Connection| {
        Box::pin(async move { Ok(connection.run("PRAGMA foreign_keys = ON").await?) })
    });
    let pool = ConnectionPool::builder(NAME).io(Arc::clone(io)).max_connections(3).hooks(hooks).build().await?;
    let config = WriterConfig { cache: 1 << 20, ..WriterConfig::default() };
    let db = PooledDatabaseWriter::with_config(pool, config).await?;
    let mut all = Vec::new();
    for group in &program.groups {
        all.extend(together(group.iter().map(|Call { way, statements }| call(&db, *way, statements)).collect()).await);
    }
    db.close().await;
    Ok(all)
}

type Asked<'a> = Pin<Box<dyn Future<Output = Told> + 'a>>;

/// Awaits all of them at the same time. They begin in their order.
async fn together(mut asked: Vec<Asked<'_>>) -> Vec<Told> {
    let mut told: Vec<Option<Told>> = asked.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (asked, told) in asked.iter_mut().zip(&mut told).filter(|(_, told)| told.is_none()) {
            if let Poll::Ready(came_to) = asked.as_mut().poll(context) {
                *told = Some(came_to);
            }
        }
        if told.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    told.into_iter().flatten().collect()
}

fn call<'a>(db: &'a PooledDatabaseWriter, way: Way, statements: &'a [Statement]) -> Asked<'a> {
    let Statement { sql, params, gives_rows } = &statements[0];
    Box::pin(async move {
        match way {
            Way::Execute => told(db.execute(sql.as_str(), params.clone()).await.map(|ack| vec![ack.value.to_string()])),
            Way::Prepared => told(prepared(db, sql, params.clone()).await),
            Way::Batch => {
                let batch: Vec<&str> = statements.iter().map(|statement| statement.sql.as_str()).collect();
                told(db.execute_batch(batch.join(";\n")).await.map(|_| Vec::new()))
            }
            Way::Closure | Way::HeedlessClosure | Way::FailingClosure => closure(db, way, statements.to_vec()).await,
            Way::Guard => told(on_a_guard(db, sql, params.clone(), *gives_rows).await),
            Way::GuardTransaction | Way::GuardRollback => told(in_a_transaction(db, way, statements).await),
            Way::Read => {
                let (sql, params) = (sql.clone(), params.clone());
                told(
                    db.read(async move |snapshot: &mut Snapshot<'_>| all(snapshot.query(&sql, params).await?).await)
                        .await,
                )
            }
            Way::Cached => told(cached(db, sql, params.clone()).await),
        }
    })
}

fn told(outcome: Result<Vec<String>>) -> Told {
    match outcome {
        Ok(of_each) => Told::Done(of_each),
        Err(error @ Error::Unknown { .. }) => Told::Failed(format!("{UNKNOWN}{error}")),
        Err(error) => match error.cause() {
            Error::Misuse(_) | Error::TooDeep { .. } => Told::Refused(error.to_string()),
            _ => Told::Failed(error.to_string()),
        },
    }
}

async fn prepared(db: &PooledDatabaseWriter, sql: &str, params: Vec<Value>) -> Result<Vec<String>> {
    let statement = db.prepare::<Vec<Value>>(sql).await?;
    Ok(vec![statement.execute(params).await?.value.to_string()])
}

async fn all(mut rows: Rows<'_>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    while let Some(row) = rows.next().await? {
        all.push(line(&row)?);
    }
    Ok(vec![all.concat()])
}

fn line(row: &Row) -> Result<String> {
    let values: Result<Vec<Value>> = (0..row.column_count()).map(|column| row.value(column)).collect();
    Ok(shown(values?))
}

async fn on_a_guard(db: &PooledDatabaseWriter, sql: &str, params: Vec<Value>, gives_rows: bool) -> Result<Vec<String>> {
    let mut guard = db.pool().get().await?;
    match gives_rows {
        true => all(guard.query(sql, params).await?).await,
        false => Ok(vec![guard.execute(sql, params).await?.to_string()]),
    }
}

/// Runs one of several: what it came to, in a word if it failed.
async fn step(tx: &mut Transaction<'_>, Statement { sql, params, gives_rows }: &Statement) -> (String, Result<()>) {
    let outcome = match gives_rows {
        true => match tx.query(sql, params.clone()).await {
            Ok(rows) => all(rows).await,
            Err(error) => Err(error),
        },
        false => tx.execute(sql, params.clone()).await.map(|changed| vec![changed.to_string()]),
    };
    match outcome {
        Ok(of_each) => (of_each.concat(), Ok(())),
        Err(error) => {
            let word =
                if matches!(error, Error::Misuse(_) | Error::TooDeep { .. }) { super::REFUSED } else { super::FAILED };
            (word.to_owned(), Err(error))
        }
    }
}

async fn in_a_transaction(db: &PooledDatabaseWriter, way: Way, statements: &[Statement]) -> Result<Vec<String>> {
    let mut guard = db.pool().get().await?;
    let mut tx = guard.begin(Behavior::Immediate).await?;
    let mut of_each = Vec::new();
    for statement in statements {
        of_each.push(step(&mut tx, statement).await.0);
    }
    match way {
        Way::GuardRollback => tx.rollback().await?,
        _ => tx.commit().await?,
    }
    Ok(of_each)
}

async fn closure(db: &PooledDatabaseWriter, way: Way, statements: Vec<Statement>) -> Told {
    let of_each = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&of_each);
    let outcome = db
        .write(async move |tx| {
            // It may run again.
            noted.lock().clear();
            for statement in &statements {
                let (text, outcome) = step(tx, statement).await;
                noted.lock().push(text);
                if way == Way::Closure {
                    outcome?;
                }
            }
            if way == Way::FailingClosure { Err(Error::Closed) } else { Ok(()) }
        })
        .await;
    let of_each = of_each.lock().clone();
    match outcome {
        Err(Error::Closed) if way == Way::FailingClosure => Told::Done(of_each),
        outcome => told(outcome.map(|_| of_each)),
    }
}

async fn cached(db: &PooledDatabaseWriter, sql: &str, params: Vec<Value>) -> Result<Vec<String>> {
    let mut twice = Vec::new();
    for _ in 0..2 {
        let found = db.query_cached(sql, params.clone()).await?;
        twice.push(found.rows().iter().map(line).collect::<Result<String>>()?);
    }
    match twice[0] == twice[1] {
        true => Ok(vec![twice.swap_remove(0)]),
        false => Ok(twice),
    }
}
