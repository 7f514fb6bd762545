//! The same program on one plain connection of an engine: call after call, each by itself. What the library promises beyond
//! the engine is done by hand here: a statement that fails in a transaction is undone by a savepoint, `OR FAIL` in a statement by
//! itself, or whatever else says `FAIL`, by a transaction around it.

use turso::Value;

use super::program::{Call, Program, Statement, Way};
use super::table::Told;
use super::{FAILED, IS_OVER, REFUSED};

/// An engine with one connection to a database of its own. Errors are its own words.
pub(super) trait Engine {
    /// All rows of a query, in its order.
    async fn rows(&self, sql: &str, params: &[Value]) -> Result<Vec<String>, String>;

    /// How many rows it changed.
    async fn execute(&self, sql: &str, params: &[Value]) -> Result<u64, String>;

    /// How several statements begin that are to run beside others.
    fn begin_beside(&self) -> &'static str;

    fn is_autocommit(&self) -> bool;

    /// Another connection instead of this one.
    async fn connect_anew(&mut self);
}

/// Runs it: what each call comes to. What the library refused is not asked.
///
/// # Panics
/// If the engine does not begin or end a transaction.
pub(super) async fn run(engine: &mut impl Engine, program: &Program, told: &[Told]) -> Vec<Told> {
    let mut truth = Vec::new();
    for (call, told) in program.calls().zip(told) {
        truth.push(next(engine, call, told, program.fails_half_way()).await);
    }
    truth
}

/// The next of its calls, and what it must not leave to the one after it. By itself the engine keeps the first rows of what says
/// `FAIL`, if the program does anywhere.
///
/// # Panics
/// As for [`run`].
pub(super) async fn next(engine: &mut impl Engine, call: &Call, told: &Told, fails_half_way: bool) -> Told {
    let truth = match told {
        Told::Refused(why) => Told::Refused(why.clone()),
        told => one(engine, call, told, fails_half_way).await,
    };
    if !engine.is_autocommit() {
        engine.execute("ROLLBACK", &[]).await.expect("a transaction is open");
    }
    let failed = match &truth {
        Told::Failed(_) => true,
        Told::Done(of_each) => of_each.iter().any(|text| text == FAILED),
        Told::Refused(_) => false,
    };
    if failed || call.statements.iter().any(changes_its_connection) {
        // One that failed may have left something to the next (FINDINGS.md); and what changed its connection does not outlive
        // its user.
        engine.connect_anew().await;
    }
    truth
}

fn changes_its_connection(statement: &Statement) -> bool {
    let sql = statement.sql.to_lowercase();
    sql.contains("temp") || sql.contains("pragma")
}

pub(super) async fn one(
    engine: &impl Engine,
    Call { way, statements }: &Call,
    told: &Told,
    fails_half_way: bool,
) -> Told {
    let Statement { sql, params, gives_rows } = &statements[0];
    let outcome = match way {
        Way::Execute | Way::Prepared if fails_half_way => in_a_transaction(engine, *way, statements, told).await,
        Way::Glance if *gives_rows => {
            // All of them are asked for, so that what writes has run to its end.
            let rows = engine.rows(sql, params).await;
            rows.map(|rows| vec![rows.into_iter().next().unwrap_or_default()])
        }
        _ if way.takes_one() => statement(engine, &statements[0]).await.map(|text| vec![text]),
        _ => in_a_transaction(engine, *way, statements, told).await,
    };
    match outcome {
        Ok(_) if *way == Way::Batch => Told::Done(Vec::new()),
        Ok(of_each) => Told::Done(of_each),
        Err(error) => Told::Failed(error),
    }
}

pub(super) async fn statement(
    engine: &impl Engine,
    Statement { sql, params, gives_rows }: &Statement,
) -> Result<String, String> {
    match gives_rows {
        true => Ok(engine.rows(sql, params).await?.concat()),
        // What it is set to now does not matter.
        false if sql.contains("PRAGMA") => engine.rows(sql, params).await.map(|_| "0".to_owned()),
        false => Ok(engine.execute(sql, params).await?.to_string()),
    }
}

/// Several in one transaction, each in a savepoint.
async fn in_a_transaction(
    engine: &impl Engine,
    way: Way,
    statements: &[Statement],
    told: &Told,
) -> Result<Vec<String>, String> {
    let goes_on = !matches!(way, Way::Batch | Way::Closure | Way::Execute | Way::Prepared);
    // What changes the schema the library gives a transaction of its own, once it has failed beside others; unless nobody says so.
    let beside = way == Way::HeedlessClosure;
    engine.execute(if beside { engine.begin_beside() } else { "BEGIN IMMEDIATE" }, &[]).await?;
    let mut of_each = Vec::new();
    for (place, asked) in statements.iter().enumerate() {
        if let Told::Done(told) = told
            && let Some(refused) = told.get(place).filter(|text| text.starts_with(REFUSED))
        {
            let is_over = !refused.contains(IS_OVER) || engine.is_autocommit();
            of_each.push(if is_over { refused.clone() } else { "refused, though the transaction goes on".to_owned() });
            continue;
        }
        // What else the call came to hides that it was refused.
        if !matches!(told, Told::Done(_)) && asked.bounds_a_transaction() {
            of_each.push(REFUSED.to_owned());
            continue;
        }
        // One of the program's own lives on.
        let is_savepoint = asked.sql.split([' ', '\t', '\n', ';']).any(|word| word == "own");
        if !is_savepoint {
            engine.execute("SAVEPOINT oracle", &[]).await?;
        }
        match statement(engine, asked).await {
            Ok(text) => {
                of_each.push(text);
                if !is_savepoint {
                    engine.execute("RELEASE oracle", &[]).await?;
                }
            }
            // Nothing is left of the transaction, and what is asked after that is nobody's.
            Err(_) if engine.is_autocommit() && way == Way::FailingClosure => {
                of_each.push(FAILED.to_owned());
                if let Told::Done(told) = told {
                    of_each.extend(told.iter().skip(of_each.len()).cloned());
                }
                return Ok(of_each);
            }
            // `OR ROLLBACK`.
            Err(error) if engine.is_autocommit() || !goes_on => return Err(error),
            Err(_) if is_savepoint => of_each.push(FAILED.to_owned()),
            Err(_) => {
                of_each.push(FAILED.to_owned());
                engine.execute("ROLLBACK TO oracle", &[]).await?;
                engine.execute("RELEASE oracle", &[]).await?;
            }
        }
    }
    match way {
        Way::FailingClosure | Way::GuardRollback => engine.execute("ROLLBACK", &[]).await?,
        _ => engine.execute("COMMIT", &[]).await?,
    };
    Ok(of_each)
}
