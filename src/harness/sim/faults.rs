//! What may go wrong in a world, and how often. Nothing does unless it is switched on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How often each fault happens, in a million of its occasions. All 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A read fails (EIO).
    pub read: u32,
    /// A write fails before its first byte (EIO).
    pub write: u32,
    /// A write fails before its first byte, for there is no room (ENOSPC).
    pub full: u32,
    /// A write fails after a part of it, with the engine's own error for that.
    pub short_write: u32,
    /// A sync fails. Linux's: what it was to make durable is marked clean and no later sync writes it; whether it is on the
    /// disk is luck.
    pub sync: u32,
    /// A call of the disk takes up to 20 ms.
    pub latency: u32,
    /// The power fails instead of a call of the disk: what is synced stays, of the rest what luck leaves, in sectors of 512
    /// bytes. While a database is being opened, too: that is a crash during recovery.
    pub crash: u32,
    /// A future is dropped at one of its polls, where the workload allows it.
    pub cancel: u32,
    /// A task panics at one of its polls, where the workload allows it.
    pub panic: u32,
    /// Time passes though somebody could go on: whoever has a limit may reach it.
    pub time: u32,
    /// Not a fault that a system must bear, but a control that it cannot: each sync says that it succeeded, and does
    /// nothing.
    pub lying_sync: bool,
}

impl Faults {
    /// None.
    pub const NONE: Faults = Faults {
        read: 0,
        write: 0,
        full: 0,
        short_write: 0,
        sync: 0,
        latency: 0,
        crash: 0,
        cancel: 0,
        panic: 0,
        time: 0,
        lying_sync: false,
    };

    /// All that a system must bear, each at a rate at which most runs see some of them and still get somewhere.
    #[must_use]
    pub fn all() -> Self {
        Faults {
            read: 500,
            write: 3_000,
            full: 3_000,
            short_write: 3_000,
            sync: 10_000,
            latency: 20_000,
            crash: 3_000,
            cancel: 10_000,
            panic: 3_000,
            time: 2_000,
            lying_sync: false,
        }
    }

    /// Each by the name that the command line has for it.
    fn rates(&self) -> [(&'static str, u32); 10] {
        [
            ("read", self.read),
            ("write", self.write),
            ("full", self.full),
            ("short-write", self.short_write),
            ("sync", self.sync),
            ("latency", self.latency),
            ("crash", self.crash),
            ("cancel", self.cancel),
            ("panic", self.panic),
            ("time", self.time),
        ]
    }

    /// How often it happens; 0 for a name that is none.
    pub(super) fn rate(&self, name: &str) -> u32 {
        match name {
            // A disk that lies says of no sync that it failed.
            "sync" if self.lying_sync => 0,
            _ => self.rates().into_iter().find(|(known, _)| *known == name).map_or(0, |(_, rate)| rate),
        }
    }

    /// The power fails now and then, and nothing else does.
    #[must_use]
    pub fn crashes() -> Self {
        Faults { crash: 10_000, ..Faults::NONE }
    }

    /// These, but none that `others` has a rate for.
    #[must_use]
    pub fn without(self, others: Faults) -> Self {
        let rate = |rate, other| if other > 0 { 0 } else { rate };
        Faults {
            read: rate(self.read, others.read),
            write: rate(self.write, others.write),
            full: rate(self.full, others.full),
            short_write: rate(self.short_write, others.short_write),
            sync: rate(self.sync, others.sync),
            latency: rate(self.latency, others.latency),
            crash: rate(self.crash, others.crash),
            cancel: rate(self.cancel, others.cancel),
            panic: rate(self.panic, others.panic),
            time: rate(self.time, others.time),
            lying_sync: self.lying_sync && !others.lying_sync,
        }
    }
}

/// The names, as the command line has them.
const NAMES: &str = "none, all, or some of read, write, full, short-write, sync, latency, crash, cancel, panic, time, \
                     lying-sync, separated by commas, each with a rate in a million if it is not the usual: crash=5000";

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usual = Faults::all();
        let mut faults = Faults::NONE;
        for part in text.split(',').map(str::trim) {
            let (name, rate) = match part.split_once('=') {
                Some((name, rate)) => {
                    let parsed = rate.parse::<u32>().ok().filter(|&rate| rate <= 1_000_000);
                    (name, Some(parsed.ok_or_else(|| format!("{rate:?} is no rate in a million, as in crash=5000"))?))
                }
                None => (part, None),
            };
            let (field, rate_of_all) = match name {
                "none" | "all" | "lying-sync" if rate.is_some() => return Err(format!("{name} has no rate")),
                "none" => {
                    faults = Faults::NONE;
                    continue;
                }
                "all" => {
                    faults = Faults { lying_sync: faults.lying_sync, ..usual };
                    continue;
                }
                "lying-sync" => {
                    faults.lying_sync = true;
                    continue;
                }
                "read" => (&mut faults.read, usual.read),
                "write" => (&mut faults.write, usual.write),
                "full" => (&mut faults.full, usual.full),
                "short-write" => (&mut faults.short_write, usual.short_write),
                "sync" => (&mut faults.sync, usual.sync),
                "latency" => (&mut faults.latency, usual.latency),
                "crash" => (&mut faults.crash, usual.crash),
                "cancel" => (&mut faults.cancel, usual.cancel),
                "panic" => (&mut faults.panic, usual.panic),
                "time" => (&mut faults.time, usual.time),
                _ => return Err(format!("{name:?} is no fault: {NAMES}")),
            };
            *field = rate.unwrap_or(rate_of_all);
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.rates().iter().filter(|(_, rate)| *rate > 0).map(|(name, rate)| format!("{name}={rate}")));
        parts.extend(self.lying_sync.then(|| "lying-sync".to_owned()));
        f.write_str(if parts.is_empty() { "none".to_owned() } else { parts.join(",") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_left_out_by_name() {
        let (sync, crash) = (Faults { sync: 1, ..Faults::NONE }, Faults::crashes());
        assert_eq!(Faults::all().without(sync), Faults { sync: 0, ..Faults::all() });
        assert_eq!(crash.without(sync), crash);
        assert_eq!(Faults::all().without(Faults::all()), Faults::NONE);
    }

    #[test]
    fn faults_are_read_as_they_are_written() {
        for faults in [Faults::NONE, Faults::all(), Faults::crashes(), Faults { lying_sync: true, ..Faults::all() }] {
            assert_eq!(faults.to_string().parse(), Ok(faults));
        }
        assert_eq!("crash=7, sync".parse(), Ok(Faults { crash: 7, sync: Faults::all().sync, ..Faults::NONE }));
        for wrong in ["", "crush", "crash=x", "crash=1000001", "all=3"] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong:?}");
        }
    }
}
