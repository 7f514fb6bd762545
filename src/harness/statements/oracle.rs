//! The same program on one plain connection of the engine: call after call, each by itself. What the library promises beyond
//! the engine is done by hand here: a statement that fails in a transaction is undone by a savepoint, `OR FAIL` in a statement by
//! itself by a transaction around it.

use std::sync::Arc;

use turso::{Connection, Value};

use super::program::{Call, Program, Statement, Way};
use super::table::{Told, digest, rows};
use super::{FAILED, Io, NAME, REFUSED};

/// Runs it on a new database: what each call comes to, and what it holds at the end. What the library refused is not asked.
///
/// # Panics
/// If the engine opens no new file, or does not begin a transaction.
pub(super) async fn run(program: &Program, told: &[Told], io: &Io) -> (Vec<Told>, String) {
    let database = turso::Builder::new_local(NAME)
        .with_io_impl(Arc::clone(io))
        .build()
        .await
        .expect("the engine opens a new file");
    let mut connection = connect(&database).await;
    let mut truth = Vec::new();
    for (call, told) in program.calls().zip(told) {
        truth.push(match told {
            Told::Refused(why) => Told::Refused(why.clone()),
            told => one(&connection, call, told).await,
        });
        if !connection.is_autocommit().unwrap_or(true) {
            plain(&connection, "ROLLBACK").await.expect("a transaction is open");
        }
        if matches!(truth.last(), Some(Told::Failed(_))) {
            // One that failed may have left something to the next (FINDINGS.md).
            connection = connect(&database).await;
        }
    }
    (truth, digest(&connection).await)
}

async fn connect(database: &turso::Database) -> Connection {
    let connection = database.connect().expect("the engine connects");
    connection.execute("PRAGMA foreign_keys = ON", ()).await.expect("the engine knows this");
    connection
}

async fn one(connection: &Connection, Call { way, statements }: &Call, told: &Told) -> Told {
    let outcome = match way {
        Way::Execute | Way::Prepared if statements[0].sql.contains("OR FAIL") => {
            in_a_transaction(connection, *way, statements, told).await
        }
        Way::Execute | Way::Prepared | Way::Guard | Way::Read | Way::Cached => {
            let asked = statement(connection, &statements[0]).await;
            asked.map(|text| vec![text])
        }
        _ => in_a_transaction(connection, *way, statements, told).await,
    };
    match outcome {
        Ok(_) if *way == Way::Batch => Told::Done(Vec::new()),
        Ok(of_each) => Told::Done(of_each),
        Err(error) => Told::Failed(error.to_string()),
    }
}

async fn statement(
    connection: &Connection,
    Statement { sql, params, gives_rows }: &Statement,
) -> turso::Result<String> {
    match gives_rows {
        true => Ok(rows(connection, sql, params.clone()).await?.concat()),
        false => Ok(connection.execute(sql, params.clone()).await?.to_string()),
    }
}

async fn plain(connection: &Connection, sql: &str) -> turso::Result<()> {
    connection.execute(sql, Vec::<Value>::new()).await.map(drop)
}

/// Several in one transaction, each in a savepoint.
async fn in_a_transaction(
    connection: &Connection,
    way: Way,
    statements: &[Statement],
    told: &Told,
) -> turso::Result<Vec<String>> {
    let goes_on = !matches!(way, Way::Batch | Way::Closure | Way::Execute | Way::Prepared);
    plain(connection, "BEGIN IMMEDIATE").await?;
    let mut of_each = Vec::new();
    for (place, asked) in statements.iter().enumerate() {
        if matches!(told, Told::Done(told) if told.get(place).is_some_and(|text| text == REFUSED)) {
            of_each.push(REFUSED.to_owned());
            continue;
        }
        // One of the program's own lives on.
        let is_savepoint = asked.sql.contains("SAVEPOINT own") || asked.sql.contains("RELEASE own");
        if !is_savepoint {
            plain(connection, "SAVEPOINT oracle").await?;
        }
        match statement(connection, asked).await {
            Ok(text) => {
                of_each.push(text);
                if !is_savepoint {
                    plain(connection, "RELEASE oracle").await?;
                }
            }
            // Nothing is left of the transaction, and what is asked after that is nobody's.
            Err(_) if connection.is_autocommit()? && way == Way::FailingClosure => {
                return Ok(match told {
                    Told::Done(told) => told.clone(),
                    _ => of_each,
                });
            }
            // `OR ROLLBACK`.
            Err(error) if connection.is_autocommit()? || !goes_on => return Err(error),
            Err(_) if is_savepoint => of_each.push(FAILED.to_owned()),
            Err(_) => {
                of_each.push(FAILED.to_owned());
                plain(connection, "ROLLBACK TO oracle").await?;
                plain(connection, "RELEASE oracle").await?;
            }
        }
    }
    match way {
        Way::FailingClosure | Way::GuardRollback => plain(connection, "ROLLBACK").await?,
        _ => plain(connection, "COMMIT").await?,
    }
    Ok(of_each)
}
