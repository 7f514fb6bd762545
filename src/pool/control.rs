//! What is said around statements: where transactions and savepoints begin and end. Prepared once a connection, in a
//! place of their own: the engine takes 10 us to prepare one, and 2 to run it. (They outlive changes of the schema.)

use std::sync::{Arc, LazyLock};

use turso::Statement;

use crate::sql::Text;

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
    const ALL: [Self; 11] = [
        Control::Begin,
        Control::BeginImmediate,
        Control::BeginConcurrent,
        Control::Commit,
        Control::Rollback,
        Control::Savepoint,
        Control::Undo,
        Control::Release,
        Control::StatementSavepoint,
        Control::StatementUndo,
        Control::StatementRelease,
    ];
    pub(super) const COUNT: usize = Self::ALL.len();

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

impl Control {
    /// What its text says of it, read once.
    pub(super) fn text(self) -> &'static Text {
        static TEXTS: LazyLock<[Arc<Text>; Control::COUNT]> =
            LazyLock::new(|| Control::ALL.map(|control| Text::of(control.sql())));
        &TEXTS[self as usize]
    }
}

/// Those of one connection that were prepared.
pub(super) type Controls = [Option<Statement>; Control::COUNT];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::SAVEPOINTS;

    #[test]
    fn each_control_is_at_its_place_and_its_savepoints_are_the_librarys_own() {
        for (place, control) in Control::ALL.into_iter().enumerate() {
            assert_eq!(control as usize, place, "{control:?}");
            let effects = control.text().effects();
            assert_eq!(effects.savepoints, effects.our_savepoints, "{control:?}");
            assert_eq!(effects.savepoints, SAVEPOINTS.iter().any(|name| control.sql().ends_with(name)), "{control:?}");
            assert!(effects.savepoints || effects.bounds, "{control:?}");
        }
    }
}
