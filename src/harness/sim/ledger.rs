//! What clients were told, and whether the database agrees: the oracle of every workload.
//!
//! Each write has a number of its own and leaves rows with it, all of them or none. So whatever was acknowledged has to be
//! there, once; whatever was rolled back must not be; of whatever is unknown, cut short, or on its way when the power
//! failed, either all or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::World;
use crate::error::{Error, Result};

/// What a client was told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing yet, or it did not wait for the answer.
    Nothing,
    Committed,
    RolledBack,
    Unknown,
}

/// The writes of one world, beyond all its lives. A clone is another handle.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    writes: Arc<Mutex<BTreeMap<u64, Told>>>,
}

impl Ledger {
    /// The number of a write that is about to be made.
    #[must_use]
    pub fn issue(&self) -> u64 {
        let mut writes = self.writes.lock();
        let number = writes.len() as u64 + 1;
        writes.insert(number, Told::Nothing);
        number
    }

    /// What a writer told its client; `None` if that did not wait. Every error but [`Error::Unknown`] is the promise that
    /// nothing was written. The engine itself makes no such promise: whoever writes through a connection of its own has to
    /// make an `Error::Unknown` of an error that may have come after the commit.
    pub fn told<T>(&self, world: &World, number: u64, outcome: Option<&Result<T>>) {
        let told = match outcome {
            None => return,
            Some(Ok(_)) => Told::Committed,
            Some(Err(Error::Unknown { .. })) => Told::Unknown,
            // A closure's own error, too, is told once nothing of it is left.
            Some(Err(_)) => Told::RolledBack,
        };
        match outcome {
            Some(Err(Error::Unknown { .. })) => world.sometimes("an unknown outcome"),
            Some(Err(Error::RolledBack { cause })) => match &**cause {
                Error::Full(_) => world.sometimes("a full queue"),
                Error::Deadline { .. } => world.sometimes("a time-out"),
                _ => world.sometimes("a write that is rolled back"),
            },
            _ => {}
        }
        world.note(match told {
            Told::Committed => format!("write {number} ok"),
            Told::Unknown => format!("write {number} unknown"),
            _ => format!("write {number} rolled back"),
        });
        self.writes.lock().insert(number, told);
    }

    /// How many writes are known to be committed: whoever looks from now on sees them.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.writes.lock().values().filter(|&&told| told == Told::Committed).count() as u64
    }

    /// Compares with what is there: by the number of a write, how many rows it left of the `rows` that it has.
    ///
    /// # Errors
    /// The first write that is not as it was told.
    pub fn check(&self, found: &BTreeMap<u64, u64>, rows: u64) -> std::result::Result<(), String> {
        for (&number, &told) in &*self.writes.lock() {
            let found = found.get(&number).copied().unwrap_or(0);
            let problem = match told {
                _ if found > rows => "is there more than once",
                _ if found != 0 && found != rows => "is there in part",
                Told::Committed if found == 0 => "was acknowledged and is lost",
                Told::RolledBack if found != 0 => "was rolled back and is there",
                _ => continue,
            };
            return Err(format!("write {number} {problem}"));
        }
        let issued = self.writes.lock().len() as u64;
        match found.keys().find(|&&number| number == 0 || number > issued) {
            Some(number) => Err(format!("write {number} is there and nobody made it")),
            None => Ok(()),
        }
    }

    /// From now on it is known that these, and no others, are there: what was open is settled. Later lives must not change
    /// it.
    pub fn settle(&self, found: &BTreeMap<u64, u64>) {
        for (number, told) in &mut *self.writes.lock() {
            *told = if found.contains_key(number) { Told::Committed } else { Told::RolledBack };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_tells_what_is_wrong() {
        let ledger = Ledger::default();
        let tell = |told| {
            let number = ledger.issue();
            ledger.writes.lock().insert(number, told);
        };
        [Told::Committed, Told::RolledBack, Told::Unknown, Told::Nothing].into_iter().for_each(tell);
        let check = |found: &[(u64, u64)]| ledger.check(&found.iter().copied().collect(), 2);
        assert_eq!(ledger.acknowledged(), 1);
        assert_eq!(check(&[(1, 2)]), Ok(()));
        assert_eq!(check(&[(1, 2), (3, 2), (4, 2)]), Ok(()));
        let problems = [
            (check(&[]), "write 1 was acknowledged and is lost"),
            (check(&[(1, 1)]), "write 1 is there in part"),
            (check(&[(1, 4)]), "write 1 is there more than once"),
            (check(&[(1, 2), (2, 2)]), "write 2 was rolled back and is there"),
            (check(&[(1, 2), (3, 1)]), "write 3 is there in part"),
            (check(&[(1, 2), (9, 2)]), "write 9 is there and nobody made it"),
        ];
        for (outcome, problem) in problems {
            assert_eq!(outcome, Err(problem.to_owned()));
        }
        ledger.settle(&[(1, 2), (3, 2)].into());
        assert_eq!(ledger.acknowledged(), 2);
        assert_eq!(check(&[(1, 2)]), Err("write 3 was acknowledged and is lost".to_owned()));
    }
}
