//! What is said around statements: where transactions and savepoints begin and end. Prepared once a connection, in a
//! place of their own: the engine takes 10 us to prepare one, and 2 to run it. (They outlive changes of the schema.)

use turso::Statement;

/// The savepoint that a writer's closure runs in. Nobody else may use its name.
pub(crate) const SAVEPOINT: &str = "poolproof_write";

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
}

impl Control {
    pub(super) const COUNT: usize = 8;

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
        }
    }
}

/// Those of one connection that were prepared.
pub(super) type Controls = [Option<Statement>; Control::COUNT];
