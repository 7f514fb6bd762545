//! What is said around statements: where transactions and savepoints begin and end. Prepared once a connection, in a
//! place of their own: the engine takes 10 us to prepare one, and 2 to run it. (They outlive changes of the schema.)

use turso::Statement;

/// The savepoints that a writer's closure, and a statement in a transaction, run in. Nobody else may use their names.
pub(crate) const SAVEPOINTS: [&str; 2] = ["poolproof_write", "poolproof_statement"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Begin,
    BeginImmediate,
    BeginConcurrent,
    Commit,
    Rollback,
    Savepoint,
    Undo,
    Release,
    StatementSavepoint,
    StatementUndo,
    StatementRelease,
}

impl Control {
    pub(super) const COUNT: usize = 11;

    pub(super) fn sql(self) -> &'static str {
        match self {
            Control::Begin => "BEGIN",
            Control::BeginImmediate => "BEGIN IMMEDIATE",
            Control::BeginConcurrent => "BEGIN CONCURRENT",
            Control::Commit => "COMMIT",
            Control::Rollback => "ROLLBACK",
            Control::Savepoint => "SAVEPOINT poolproof_write",
            Control::Undo => "ROLLBACK TO poolproof_write",
            Control::Release => "RELEASE poolproof_write",
            Control::StatementSavepoint => "SAVEPOINT poolproof_statement",
            Control::StatementUndo => "ROLLBACK TO poolproof_statement",
            Control::StatementRelease => "RELEASE poolproof_statement",
        }
    }
}

/// Those of one connection that were prepared.
pub(super) type Controls = [Option<Statement>; Control::COUNT];
