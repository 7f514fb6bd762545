//! What a campaign found, of all workloads: judged, told, written down, added up.

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof::harness::sim::{Faults, Found, Report, Strategy, Unseen, Workload};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::part::{self, Part};
use crate::Trouble;
use crate::output::{counted, number};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    faults: Faults,
    strategy: Strategy,
    /// Which seeds it is of.
    parts: Vec<Part>,
    /// The shards that would make a whole of them and are not there. Only whoever merges looks for them.
    #[serde(default)]
    absent: Vec<String>,
    /// It was stopped before all of them were run.
    #[serde(default)]
    stopped: bool,
    /// So many have to be run.
    at_least: u64,
    /// What had to be seen and was not.
    never_seen: Vec<String>,
    /// What was not seen either, in too few seeds for that to say anything.
    not_yet_seen: Vec<String>,
    ok: bool,
    workloads: BTreeMap<String, Report>,
}

fn as_text<S: Serializer>(faults: &Faults, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(faults)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Faults, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Campaign {
    pub fn new(faults: Faults, strategy: Strategy, part: Part, at_least: u64) -> Self {
        Self {
            faults,
            strategy,
            parts: vec![part],
            absent: Vec::new(),
            stopped: false,
            at_least,
            never_seen: Vec::new(),
            not_yet_seen: Vec::new(),
            ok: true,
            workloads: BTreeMap::new(),
        }
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Another workload was run.
    pub fn ran(&mut self, workload: Workload, report: Report) {
        self.workloads.insert(workload.to_string(), report);
    }

    /// Somebody wanted an end before all seeds were run.
    pub fn was_stopped(&mut self) {
        self.stopped = true;
    }

    /// It is to be a whole.
    pub fn looks_for_shards(&mut self) {
        self.absent = part::absent(&self.parts);
    }

    /// Another part of the same, which has no seed of this one.
    pub fn add(&mut self, part: Campaign) -> Result<(), String> {
        if (self.faults, self.strategy) != (part.faults, part.strategy) {
            return Err(format!(
                "was made with the faults {} and the strategy {}, the others with {} and {}; merge reports of the same --faults and \
                 --strategy",
                part.faults, part.strategy, self.faults, self.strategy
            ));
        }
        self.parts.extend(part.parts);
        self.stopped |= part.stopped;
        self.at_least += part.at_least;
        for (workload, report) in part.workloads {
            self.workloads.entry(workload).or_default().merge(report);
        }
        Ok(())
    }

    /// All workloads together.
    fn whole(&self) -> Report {
        let mut whole = Report::default();
        self.workloads.values().for_each(|report| whole.merge(report.clone()));
        whole
    }

    pub fn seeds(&self) -> u64 {
        self.workloads.values().map(|report| report.seeds).sum()
    }

    /// Whether a seed failed.
    pub fn has_found(&self) -> bool {
        self.workloads.values().any(|report| !report.found.is_empty())
    }

    /// Whether it holds.
    pub fn judge(&mut self) -> bool {
        let known = |(name, report): (&String, _)| Some((name.parse::<Workload>().ok()?, report));
        let reports: Vec<_> = self.workloads.iter().filter_map(known).collect();
        let Unseen { missing, not_yet, .. } = Unseen::of(&self.faults, &reports);
        self.never_seen = missing.into_iter().map(str::to_owned).collect();
        self.not_yet_seen = not_yet.into_iter().map(str::to_owned).collect();
        self.ok = self.problem().is_none();
        self.ok
    }

    /// Why it does not hold.
    fn problem(&self) -> Option<String> {
        if self.has_found() { Some(String::new()) } else { self.shortage().map(|shortage| format!(": {shortage}")) }
    }

    /// Why it would show too little even if no seed failed.
    fn shortage(&self) -> Option<String> {
        if self.stopped {
            Some("it was stopped before its end".to_owned())
        } else if !self.absent.is_empty() {
            Some(format!("not there: {}; merge all reports", self.absent.join("; ")))
        } else if self.seeds() < self.at_least {
            let (seeds, at_least) = (number(self.seeds()), counted(self.at_least, "seed"));
            Some(format!("{seeds} of at least {at_least} were run before the time was over"))
        } else if !self.never_seen.is_empty() {
            Some("what has to be seen was not, so this campaign shows too little".to_owned())
        } else {
            None
        }
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        let parts: Vec<_> = self.parts.iter().map(Part::to_string).collect();
        let mut text = format!("seeds: {}\n", parts.join("; "));
        text.push_str(&format!("faults: {}; strategy: {}\n", self.faults_in_short(), self.strategy));
        for (workload, report) in &self.workloads {
            text.push_str(&format!(
                "{workload}: {} in {:.1} s, {:.0}/s, {}, {}; the next is a new one with a probability of {:.2}\n",
                counted(report.seeds, "seed"),
                report.seconds,
                report.rate(),
                counted(report.events, "event"),
                schedules(report.distinct() as u64),
                report.chance_of_a_new_one()
            ));
        }
        let seen = self.whole().seen;
        let seen = seen.iter().map(|(what, times)| (number(*times), what));
        text.push_str(&list("seen, and how often", seen));
        text.push_str(&list(
            "not seen, and has to be in so many seeds: this fails the campaign",
            self.never_seen.iter().map(|what| ("never".to_owned(), what)),
        ));
        text.push_str(&list(
            "not seen, and need not be in so few seeds: this says nothing",
            self.not_yet_seen.iter().map(|what| ("-".to_owned(), what)),
        ));
        text.push_str(&self.findings());
        text
    }

    /// The seeds that failed, and the verdict.
    pub fn findings(&self) -> String {
        let mut text = String::new();
        for (workload, report) in &self.workloads {
            for found in &report.found {
                text.push_str(&format!("\n{workload}, {}", self.told(workload, found)));
            }
        }
        match self.problem() {
            None => text.push_str("\nholds\n"),
            Some(problem) => text.push_str(&format!("\nDOES NOT HOLD{problem}\n")),
        }
        text
    }

    /// A seed that failed, and how to see it again.
    fn told(&self, workload: &str, found: &Found) -> String {
        let (faults, strategy, seed) = (self.faults_in_short(), self.strategy, found.seed);
        let repeat =
            format!("poolproof sim --workload {workload} --faults {faults} --strategy {strategy} --seed {seed}");
        format!("{found}repeat: {repeat}\n")
    }

    fn faults_in_short(&self) -> String {
        if self.faults == Faults::all() { "all".to_owned() } else { self.faults.to_string() }
    }

    /// A case for each workload, and one for the campaign as a whole.
    pub fn junit(&self) -> Result<String, Trouble> {
        let mut suite = TestSuite::new("sim");
        let failed = |message: String, description: String| {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(message).set_description(description);
            status
        };
        for (workload, report) in &self.workloads {
            let status = match report.found.first() {
                None => TestCaseStatus::success(),
                Some(found) => {
                    let all: Vec<_> = report.found.iter().map(|found| self.told(workload, found)).collect();
                    failed(format!("seed {}: {}", found.seed, found.failure), all.join("\n"))
                }
            };
            let mut case = TestCase::new(workload.clone(), status);
            case.set_time(Duration::from_secs_f64(report.seconds));
            suite.add_test_case(case);
        }
        // A campaign that ends with its first failure need not have seen much.
        let status = match self.shortage() {
            Some(shortage) if self.stopped || !self.has_found() => failed(shortage, self.never_seen.join("\n")),
            _ => TestCaseStatus::success(),
        };
        suite.add_test_case(TestCase::new("looks everywhere", status));
        let mut whole = quick_junit::Report::new("poolproof sim");
        whole.add_test_suite(suite);
        whole.to_string().map_err(|error| format!("cannot write JUnit's XML: {error}"))
    }
}

fn schedules(count: u64) -> String {
    if count == 1 { "1 schedule".to_owned() } else { format!("{} schedules that differ", number(count)) }
}

/// What there is, each with a number before it, under a head; nothing if there is nothing.
fn list<'a>(head: &str, of: impl Iterator<Item = (String, &'a String)>) -> String {
    let lines: String = of.map(|(number, what)| format!("{number:>12}  {what}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{head}:\n{lines}") }
}
