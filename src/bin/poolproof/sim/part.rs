//! Which seeds a report is of: what two reports have both, and which shards of a whole are not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Every `of`-th of some seeds, each in some workloads. In reports as `0..1000, 1/4, of story,bank`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    seeds: Range<u64>,
    /// From 0 on.
    shard: u64,
    of: u64,
    workloads: Vec<String>,
}

impl Part {
    pub fn new(seeds: Range<u64>, shard: (u64, u64), workloads: impl Iterator<Item = String>) -> Self {
        Self { seeds, shard: shard.0, of: shard.1, workloads: workloads.collect() }
    }

    fn start(&self) -> u128 {
        u128::from(self.seeds.start) + u128::from(self.shard)
    }

    fn has(&self, seed: u128) -> bool {
        (self.start()..self.seeds.end.into()).contains(&seed) && (seed - self.start()).is_multiple_of(self.of.into())
    }

    /// The first workload and seed that both have.
    pub fn shares<'a>(&'a self, other: &Part) -> Option<(&'a str, u128)> {
        let workload = self.workloads.iter().find(|workload| other.workloads.contains(workload))?;
        // In as many steps as the other has shards, each of these would have been met.
        let (sparse, dense) = if self.of >= other.of { (self, other) } else { (other, self) };
        let (step, start) = (u128::from(sparse.of), sparse.start());
        let first = start + dense.start().saturating_sub(start).div_ceil(step) * step;
        let seeds = (0..u128::from(dense.of)).map(|steps| first + steps * step);
        let end = sparse.seeds.end.min(dense.seeds.end).into();
        seeds.take_while(|&seed| seed < end).find(|&seed| dense.has(seed)).map(|seed| (workload.as_str(), seed))
    }
}

/// The shards that it takes to make a whole of these, and that are not there: a line for each whole.
pub fn absent(parts: &[Part]) -> Vec<String> {
    let mut wholes: BTreeMap<(u64, u64, u64, &str), BTreeSet<u64>> = BTreeMap::new();
    for Part { seeds, shard, of, workloads } in parts {
        for workload in workloads {
            wholes.entry((seeds.start, seeds.end, *of, workload)).or_default().insert(*shard);
        }
    }
    // Workloads that miss the same are told of together.
    let mut told: BTreeMap<(u64, u64, String), Vec<&str>> = BTreeMap::new();
    for ((from, upto, of, workload), there) in wholes {
        if (there.len() as u64) < of {
            told.entry((from, upto, named(&there, of))).or_default().push(workload);
        }
    }
    told.into_iter()
        .map(|((from, upto, shards), workloads)| {
            format!("{shards} of the seeds {from}..{upto} of {}", workloads.join(","))
        })
        .collect()
}

/// How many absent shards are named.
const NAMED: usize = 4;

/// Those that are not there.
fn named(there: &BTreeSet<u64>, of: u64) -> String {
    let count = of - there.len() as u64;
    let shown = (0..of).filter(|shard| !there.contains(shard)).take(NAMED);
    let shown: Vec<_> = shown.map(|shard| format!("{}/{of}", shard + 1)).collect();
    let plural = if count == 1 { "" } else { "s" };
    match count - shown.len() as u64 {
        0 => format!("the shard{plural} {}", shown.join(", ")),
        more => format!("the shards {} and {more} more", shown.join(", ")),
    }
}

/// From 1 on, as in `1/4`.
pub fn shard(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once('/').and_then(|(part, of)| Some((part.parse::<u64>().ok()?, of.parse::<u64>().ok()?)));
    match parsed {
        Some((part, of)) if (1..=of).contains(&part) => Ok((part - 1, of)),
        _ => Err("a shard is written as 1/4: the first of four".to_owned()),
    }
}

/// From the first to before the second, as in `0..1000`.
pub fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, upto)| Some((from.parse().ok()?, upto.parse().ok()?)));
    match parsed {
        Some((from, upto)) if from < upto => Ok(from..upto),
        _ => Err("seeds are written as 0..1000: from the first to before the second".to_owned()),
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, shard, of, workloads } = self;
        write!(f, "{}..{}, {}/{of}, of {}", seeds.start, seeds.end, shard + 1, workloads.join(","))
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(", ").and_then(|(range, rest)| Some((range, rest.split_once(", of ")?)));
        let (range, (part, workloads)) =
            parts.ok_or_else(|| format!("{text:?} is no part, as in 0..10, 1/2, of bank"))?;
        Ok(Self::new(seeds(range)?, shard(part)?, workloads.split(',').map(str::to_owned)))
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Part {
        let part: Part = text.parse().unwrap();
        assert_eq!(part.to_string(), text);
        part
    }

    #[test]
    fn two_parts_share_a_seed_if_each_runs_it_in_one_workload() {
        let shared = |one: &str, other: &str| {
            let (one, other) = (part(one), part(other));
            let shared = one.shares(&other).map(|(workload, seed)| format!("{workload} {seed}"));
            assert_eq!(other.shares(&one).is_some(), shared.is_some());
            shared
        };
        let one = "0..10, 1/2, of bank,story";
        assert_eq!(shared(one, one), Some("bank 0".to_owned()));
        assert_eq!(shared(one, "0..10, 2/2, of bank,story"), None);
        assert_eq!(shared(one, "0..10, 1/2, of counter"), None);
        assert_eq!(shared(one, "5..6, 1/1, of story"), None, "five is odd");
        assert_eq!(shared(one, "5..7, 1/1, of story"), Some("story 6".to_owned()));
        assert_eq!(shared(one, "10..20, 1/1, of story"), None);
        assert_eq!(
            shared("0..100, 3/4, of bank", "1..100, 3/6, of bank"),
            None,
            "two and four a step, from 2 and from 3"
        );
        assert_eq!(shared("0..100, 3/4, of bank", "0..100, 5/6, of bank"), Some("bank 10".to_owned()));
        let last = format!("0..{}, 1/1, of bank", u64::MAX);
        assert_eq!(shared(&last, &format!("{}..{}, 9/9, of bank", u64::MAX - 1, u64::MAX)), None, "it is empty");
    }

    /// The same question asked of each seed.
    #[test]
    fn whether_two_parts_share_a_seed_is_what_a_look_at_each_says() {
        let all: Vec<Part> = [(0, 12), (3, 9), (7, 30)]
            .into_iter()
            .flat_map(|(from, upto)| {
                let shards = (1..5).flat_map(|of| (0..of).map(move |shard| (shard, of)));
                shards.map(move |shard| Part::new(from..upto, shard, ["bank".to_owned()].into_iter()))
            })
            .collect();
        for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (one, other))) {
            let slowly = (0..40).find(|&seed| one.has(seed) && other.has(seed));
            assert_eq!(one.shares(other).map(|(_, seed)| seed), slowly, "{one}; {other}");
        }
    }

    #[test]
    fn shards_that_are_not_there_are_named_for_each_whole() {
        let absent = |parts: &[&str]| absent(&parts.iter().map(|text| part(text)).collect::<Vec<_>>());
        assert!(absent(&["0..10, 1/1, of bank", "10..20, 1/2, of bank", "10..20, 2/2, of bank"]).is_empty());
        assert_eq!(
            absent(&["0..10, 1/2, of bank,story", "10..20, 2/7, of bank"]),
            [
                "the shard 2/2 of the seeds 0..10 of bank,story",
                "the shards 1/7, 3/7, 4/7, 5/7 and 2 more of the seeds 10..20 of bank"
            ]
        );
        assert_eq!(
            absent(&["0..10, 1/2, of bank,story", "0..10, 2/2, of bank"]),
            ["the shard 2/2 of the seeds 0..10 of story"]
        );
    }
}
