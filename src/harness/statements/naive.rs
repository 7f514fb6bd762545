//! A control that must be found out: a writer that lets those who come together share a transaction, and undoes nothing of one that
//! fails. Whoever comes alone it serves as the engine does.

use super::engines::Bare;
use super::oracle::{Engine, one, statement};
use super::program::Program;
use super::table::{Told, digest};

/// Runs a program: what each call came to, and what its database holds at the end.
///
/// # Panics
/// If the engine does not begin or end a transaction.
pub(super) async fn run(program: &Program) -> (Vec<Told>, String) {
    let mut bare = Bare::open(program.environment.mvcc).await;
    let mut all = Vec::new();
    for group in &program.groups {
        if let [call] = group.as_slice() {
            all.push(one(&bare, call, &Told::Done(Vec::new()), program.fails_half_way()).await);
        } else {
            bare.execute("BEGIN IMMEDIATE", &[]).await.expect("no transaction is open");
            for call in group {
                let mut told = Told::Done(Vec::new());
                for asked in &call.statements {
                    match (statement(&bare, asked).await, &mut told) {
                        (Ok(text), Told::Done(of_each)) => of_each.push(text),
                        (Err(error), _) => told = Told::Failed(error),
                        _ => {}
                    }
                }
                all.push(told);
            }
            let _ = bare.execute("COMMIT", &[]).await;
        }
        if !bare.is_autocommit() {
            bare.execute("ROLLBACK", &[]).await.expect("a transaction is open");
        }
        bare.connect_anew().await;
    }
    let holds = digest(&bare.connection, program.environment.mvcc).await;
    (all, holds)
}
