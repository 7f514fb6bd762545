//! Whether a seed decides everything: each is run in two processes of their own, which have to agree in every event.
//!
//! Two runs in one process would share what leaks: the address of a map's keys, a counter, the engine's registry. What the
//! children print is compared seed by seed; of one that differs, all events are printed and the first that is not the
//! same is shown. The hash of each event is that of all before it, too, so that it is found by bisection.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of all events up to this one.
    pub hash: u64,
    /// Who did what.
    pub what: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} {}", self.hash, self.what)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parsed = line.split_once(' ').and_then(|(hash, what)| Some((u64::from_str_radix(hash, 16).ok()?, what)));
        let (hash, what) = parsed.ok_or_else(|| format!("{line:?} is no event"))?;
        Ok(Self { hash, what: what.to_owned() })
    }
}

/// Where two runs of one seed part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leak {
    /// Events before it, the same in both.
    pub after: usize,
    /// The last of these.
    pub last: Option<Step>,
    /// The first event that is not the same, in either run; `None` where a run has ended.
    pub parts: [Option<Step>; 2],
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = |step: &Option<Step>| step.as_ref().map_or("nothing".to_owned(), |step| step.what.clone());
        writeln!(f, "after {} events, the last of them {:?}:", self.after, what(&self.last))?;
        writeln!(f, "  one run:   {}", what(&self.parts[0]))?;
        writeln!(f, "  the other: {}", what(&self.parts[1]))?;
        if let [Some(one), Some(other)] = &self.parts
            && one.what == other.what
        {
            writeln!(f, "  (the same by name: what was read, written or drawn, or when, differs)")?;
        }
        Ok(())
    }
}

/// The first event in which two runs differ.
#[must_use]
pub fn first_difference(one: &[Step], other: &[Step]) -> Option<Leak> {
    let both: Vec<(&Step, &Step)> = one.iter().zip(other).collect();
    let after = both.partition_point(|(one, other)| one.hash == other.hash);
    if after == one.len() && after == other.len() {
        return None;
    }
    let last = after.checked_sub(1).and_then(|last| one.get(last)).cloned();
    Some(Leak { after, last, parts: [one.get(after).cloned(), other.get(after).cloned()] })
}

/// Runs `program` twice at once, with the same arguments, and returns the lines that each prints.
///
/// # Errors
/// If it cannot be started, or does not succeed.
pub fn twice(program: &Path, args: &[String]) -> io::Result<[Vec<String>; 2]> {
    let run = || {
        let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("{} ended with {}", program.display(), output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    };
    let died = |_| Err(io::Error::other("the thread that ran it panicked"));
    thread::scope(|scope| {
        let (one, other) = (scope.spawn(run), scope.spawn(run));
        Ok([one.join().unwrap_or_else(died)?, other.join().unwrap_or_else(died)?])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(names: &str) -> Vec<Step> {
        let mut hash = 0;
        let step = |what: &str| {
            hash = hash * 31 + u64::from(what.as_bytes()[0]);
            Step { hash, what: what.to_owned() }
        };
        names.split(' ').map(step).collect()
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(&steps("a b c"), &steps("a b c")), None);
        let leak = first_difference(&steps("a b c d e f"), &steps("a b c x e f")).expect("they differ");
        assert_eq!((leak.after, leak.last.map(|step| step.what)), (3, Some("c".to_owned())));
        assert_eq!(leak.parts.map(|step| step.map(|step| step.what)), [Some("d".to_owned()), Some("x".to_owned())]);
        let leak = first_difference(&steps("a b"), &steps("a b c")).expect("one is longer");
        assert_eq!((leak.after, leak.parts[0].is_none()), (2, true));
    }

    #[test]
    fn events_are_read_as_they_are_printed() {
        let step = Step { hash: 0xABC, what: "disk/lane fsync log".to_owned() };
        assert_eq!(step.to_string().parse(), Ok(step));
        assert!("xyz".parse::<Step>().is_err());
    }
}
