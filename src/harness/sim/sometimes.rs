//! What has to be seen in a campaign: whatever can happen with its faults in its workloads, once it has seeds enough. A
//! campaign that has not seen it did not look everywhere, however well it went.

use std::collections::BTreeMap;

use super::campaign::Report;
use super::faults::Faults;
use super::workloads::Workload;

/// In so many seeds whatever is in one of 200 or more is seen: they miss it once in e^10 campaigns. With all faults the rarest were,
/// of 8,620 seeds of `counter`, a truncation that fails in one of 100, and a crash during recovery in one of 260: that is missed once
/// in e^7 or 8.
const USUAL: u64 = 2_000;

/// And in so many whatever is in one of 600.
const RARE: u64 = 20_000;

/// Something that can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sometimes {
    /// What.
    pub what: &'static str,
    /// From so many seeds on it has to be.
    pub enough: u64,
}

/// No fault.
const NOTHING: &str = "";

/// What is behind what is seen, each by itself in so many seeds. Of 600 seeds with that fault alone, 200 of each workload in the
/// lane, the rarest by `cancel` was seen in one of 150: a statement whose preparing is cut short. What is not in the list takes
/// none.
const CAUSES: [(&str, &[(&str, u64)]); 19] = [
    ("a read that fails", &[("read", USUAL)]),
    ("a write that fails", &[("write", USUAL)]),
    ("a full disk", &[("full", USUAL)]),
    ("a short write", &[("short-write", USUAL)]),
    ("a sync that fails", &[("sync", USUAL)]),
    ("a truncation that fails", &[("write", USUAL)]),
    ("a slow disk", &[("latency", USUAL)]),
    ("a crash that keeps what is synced", &[("crash", USUAL)]),
    ("a crash that keeps everything", &[("crash", USUAL)]),
    ("a crash that keeps some sectors", &[("crash", USUAL)]),
    ("a crash during recovery", &[("crash", USUAL)]),
    ("a future that is dropped", &[("cancel", USUAL)]),
    ("an open that is cut short", &[("cancel", USUAL)]),
    ("a close that is cut short", &[("cancel", USUAL)]),
    ("a statement whose preparing is cut short", &[("cancel", USUAL)]),
    ("a task that panics", &[("panic", USUAL)]),
    ("an unknown outcome", &[("short-write", USUAL), ("sync", USUAL), ("write", RARE), ("full", RARE)]),
    ("a time-out", &[("latency", USUAL), ("time", USUAL), (NOTHING, RARE)]),
    ("a batch that is run again", &[("full", USUAL), ("read", USUAL)]),
];

/// What is the lane's, and a fault that the workload in MVCC mode leaves out.
const NOT_IN_MVCC: [&str; 5] =
    ["a sync that fails", "a retry", "writes that share a commit", "a batch that is run again", "a checkpoint"];

/// What only writes side by side come to.
const ONLY_IN_MVCC: [&str; 1] = ["a conflict"];

/// What takes the feature `cache`.
const WITH_A_CACHE: &str = "an answer that was kept";

/// The first so many of [`Workload::SOMETIMES`]: what is seen each time that a fault happens, and no other time.
const FAULTS: usize = 13;

impl Workload {
    /// What is seen of faults themselves.
    pub(super) fn faults() -> &'static [&'static str] {
        &Self::SOMETIMES[..FAULTS]
    }

    /// What can be seen, with one fault or another, in one workload or another.
    pub const SOMETIMES: [&'static str; 32] = [
        "a read that fails",
        "a write that fails",
        "a full disk",
        "a short write",
        "a sync that fails",
        "a truncation that fails",
        "a slow disk",
        "a crash that keeps what is synced",
        "a crash that keeps everything",
        "a crash that keeps some sectors",
        "a future that is dropped",
        "a task that panics",
        "time that passes",
        "a crash during recovery",
        "a wait inside a poll",
        "a write that is rolled back",
        "an unknown outcome",
        "a time-out",
        "a full queue",
        "a retry",
        "a discarded connection",
        "a connection handed over",
        "writes that share a commit",
        "a batch that is run again",
        "a checkpoint",
        "a conflict",
        "a closure that panics",
        "an open that is cut short",
        "a close that is cut short",
        "a statement whose preparing is cut short",
        "a read after a commit",
        "an answer that was kept",
    ];

    /// What can be seen in it with these faults, of [`SOMETIMES`](Self::SOMETIMES). A fault that is rarer than usual takes as many
    /// seeds more.
    #[must_use]
    pub fn sometimes(self, faults: &Faults) -> Vec<Sometimes> {
        let usual = Faults::all();
        let seeds = |&(cause, enough): &(&str, u64)| match faults.rate(cause) {
            _ if cause == NOTHING => Some(enough),
            0 => None,
            rate => Some(enough * u64::from(usual.rate(cause).div_ceil(rate))),
        };
        let elsewhere: &[&str] = if self == Workload::Mvcc { &NOT_IN_MVCC } else { &ONLY_IN_MVCC };
        let is_here = |what: &&str| !elsewhere.contains(what) && (cfg!(feature = "cache") || *what != WITH_A_CACHE);
        let here = Workload::SOMETIMES.into_iter().filter(is_here);
        let sometimes = here.filter_map(|what| {
            let enough = match CAUSES.iter().find(|(known, _)| *known == what) {
                None => USUAL,
                Some((_, causes)) => causes.iter().filter_map(seeds).min()?,
            };
            Some(Sometimes { what, enough })
        });
        sometimes.collect()
    }
}

/// What could have been seen and was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unseen {
    /// In so many seeds it had to be.
    pub missing: Vec<&'static str>,
    /// There were too few seeds for that to say anything.
    pub not_yet: Vec<&'static str>,
}

impl Unseen {
    /// In a campaign of these workloads, with these faults.
    #[must_use]
    pub fn of(faults: &Faults, reports: &[(Workload, &Report)]) -> Self {
        let mut seeds: BTreeMap<&str, (Sometimes, u64)> = BTreeMap::new();
        for (workload, report) in reports {
            for sometimes in workload.sometimes(faults) {
                seeds.entry(sometimes.what).or_insert((sometimes, 0)).1 += report.seeds;
            }
        }
        let was_seen = |what: &str| reports.iter().any(|(_, report)| report.seen.contains_key(what));
        let (mut missing, mut not_yet) = (Vec::new(), Vec::new());
        for what in Workload::SOMETIMES.into_iter().filter(|what| !was_seen(what)) {
            match seeds.get(what) {
                Some((sometimes, seeds)) if *seeds >= sometimes.enough => missing.push(what),
                Some(_) => not_yet.push(what),
                None => {}
            }
        }
        Self { missing, not_yet }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sim;
    use super::*;

    fn names(workload: Workload, faults: &str) -> Vec<&'static str> {
        let faults = faults.parse().expect("faults");
        workload.sometimes(&faults).iter().map(|sometimes| sometimes.what).collect()
    }

    #[test]
    fn with_all_faults_everything_can_be_seen_and_without_any_what_takes_none() {
        let mut all: Vec<_> = [names(Workload::Bank, "all"), names(Workload::Mvcc, "all")].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Workload::SOMETIMES.len());
        let without = names(Workload::Bank, "none");
        assert!(without.contains(&"a checkpoint") && !without.contains(&"an unknown outcome"), "{without:?}");
        let more: Vec<_> = names(Workload::Bank, "crash").into_iter().filter(|what| !without.contains(what)).collect();
        assert!(more.len() == 4 && more.iter().all(|what| what.starts_with("a crash ")), "{more:?}");
    }

    #[test]
    fn causes_are_faults_and_what_they_cause_is_in_the_list() {
        for (what, causes) in CAUSES {
            assert!(Workload::SOMETIMES.contains(&what), "{what}");
            let is_known = |cause: &str| cause == NOTHING || Faults::all().rate(cause) > 0;
            assert!(causes.iter().all(|(cause, _)| is_known(cause)), "{what}");
        }
    }

    /// Whatever is seen with one fault alone is said to be possible with it.
    #[test]
    fn nothing_is_seen_that_cannot_be() {
        for fault in
            ["none", "read", "write", "full", "short-write", "sync", "latency", "crash", "cancel", "panic", "time"]
        {
            for workload in Workload::ALL {
                let sim = Sim::new().seeds(0..10).faults(fault.parse().expect("a fault"));
                let report = sim.run(async move |world| workload.run(world).await);
                let can_be = names(workload, fault);
                let listed = report.seen.keys().filter(|seen| Workload::SOMETIMES.contains(&seen.as_str()));
                let odd: Vec<_> = listed.filter(|seen| !can_be.contains(&seen.as_str())).collect();
                assert!(odd.is_empty(), "{workload} with {fault}: {odd:?}");
            }
        }
    }

    #[test]
    fn what_was_not_seen_is_missing_only_in_seeds_enough() {
        let mut seen: Report = Report { seeds: 1_999, ..Report::default() };
        seen.seen.extend(Workload::SOMETIMES.iter().map(|what| ((*what).to_owned(), 1)));
        let of = |faults: &str, report: &Report| {
            Unseen::of(
                &faults.parse().expect("faults"),
                &[(Workload::Bank, report), (Workload::Story, &Report::default())],
            )
        };
        assert_eq!(of("all", &seen), Unseen::default());
        let what = "a crash during recovery";
        seen.seen.remove(what);
        assert_eq!(of("all", &seen), Unseen { missing: vec![], not_yet: vec![what] });
        seen.seeds = 2_000;
        assert_eq!(of("all", &seen), Unseen { missing: vec![what], not_yet: vec![] });
        assert_eq!(of("sync", &seen), Unseen::default(), "without a crash there is none");
        assert_eq!(of("crash=1500", &seen), Unseen { missing: vec![], not_yet: vec![what] }, "half as often");
        seen.seeds = 4_000;
        assert_eq!(of("crash=1500", &seen), Unseen { missing: vec![what], not_yet: vec![] });
        let what = "a time-out";
        seen.seen.remove(what);
        assert!(
            of("time", &seen).missing.contains(&what) && of("none", &seen).not_yet.contains(&what),
            "seldom by itself"
        );
    }
}
