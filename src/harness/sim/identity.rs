//! Which world it is, of those that there are in this process.
//!
//! The engine has a registry of what is open for the whole process, by a file's device and number, and forgets none of them. So
//! worlds that are there at a time have different ones, and a world that begins has that of one that is over: otherwise a campaign
//! of many seeds would take more and more memory.

use parking_lot::Mutex;

/// The numbers that worlds have now.
static TAKEN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// The number of a world, as long as anything of it is there.
#[derive(Debug)]
pub(super) struct Identity(u32);

impl Identity {
    /// The lowest that no other world has.
    pub(super) fn new() -> Self {
        let mut taken = TAKEN.lock();
        let number = (0..).find(|number| !taken.contains(number)).expect("there are fewer worlds");
        taken.push(number);
        Self(number)
    }

    /// The device that its disk is in one of its lives: of the one before, the engine may hold on to something.
    pub(super) fn device(&self, life: u64) -> u64 {
        u64::from(self.0) << 32 | life
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        TAKEN.lock().retain(|&number| number != self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_has_the_number_of_one_that_is_over_and_of_no_other() {
        let kept = [Identity::new(), Identity::new()];
        assert_ne!(kept[0].0, kept[1].0);
        // Of other tests, too, some have a world at this moment.
        for _ in 0..1000 {
            let next = Identity::new();
            assert!(next.0 < 100 && kept.iter().all(|kept| kept.0 != next.0), "{next:?} beside {kept:?}");
        }
    }

    #[test]
    fn each_life_of_each_world_has_a_device_of_its_own() {
        let (one, other) = (Identity::new(), Identity::new());
        let mut devices = vec![one.device(1), one.device(2), other.device(1), other.device(2)];
        devices.sort_unstable();
        devices.dedup();
        assert_eq!(devices.len(), 4);
    }
}
