//! Criterion's estimates, as it left them in its folder: a folder for each group, in it one for each function, in that one
//! for each round (`round-1` and so on, or `new` if the benches were run by hand).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A median in nanoseconds, and half the width of its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    pub value: f64,
    pub error: f64,
}

/// A function of a group, and its medians by round.
#[derive(Debug)]
pub struct Row {
    pub group: String,
    pub who: String,
    pub medians: Vec<(String, Median)>,
}

impl Row {
    /// The median of all rounds.
    pub fn median(&self) -> f64 {
        let mut values: Vec<_> = self.medians.iter().map(|(_, median)| median.value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Estimates {
    pub rows: Vec<Row>,
}

impl Estimates {
    /// # Errors
    /// Which file is missing, or is not criterion's.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut estimates = Self::default();
        for group in folders(folder)? {
            for function in folders(&group)? {
                let mut rounds = folders(&function)?;
                rounds.retain(|round| round.join("estimates.json").is_file());
                let is_round = |round: &PathBuf| name(round).starts_with("round-");
                let has_rounds = rounds.iter().any(is_round);
                rounds.retain(|round| if has_rounds { is_round(round) } else { name(round) == "new" });
                for round in rounds {
                    let (group, who, median) = read_round(&round)?;
                    estimates.add(&group, &who, name(&round), median);
                }
            }
        }
        match estimates.rows.is_empty() {
            true => Err(format!("{} has no measurement", folder.display())),
            false => Ok(estimates),
        }
    }

    pub fn add(&mut self, group: &str, who: &str, round: String, median: Median) {
        match self.rows.iter_mut().find(|row| row.group == group && row.who == who) {
            Some(row) => row.medians.push((round, median)),
            None => {
                let (group, who) = (group.to_owned(), who.to_owned());
                self.rows.push(Row { group, who, medians: vec![(round, median)] });
            }
        }
    }

    /// The medians of a function of a group; none if it was not measured.
    pub fn of(&self, (group, who): (&str, &str)) -> &[(String, Median)] {
        self.rows.iter().find(|row| row.group == group && row.who == who).map_or(&[], |row| &row.medians)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let read = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut folders: Vec<_> = read.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// The group, the function and its median.
fn read_round(round: &Path) -> Result<(String, String, Median), String> {
    let (names, estimates) = (json(&round.join("benchmark.json"))?, json(&round.join("estimates.json"))?);
    let median = &estimates["median"];
    let interval = &median["confidence_interval"];
    let name = |field: &str| names[field].as_str().map(str::to_owned);
    let found = (|| {
        let (least, most) = (interval["lower_bound"].as_f64()?, interval["upper_bound"].as_f64()?);
        let median = Median { value: median["point_estimate"].as_f64()?, error: (most - least) / 2.0 };
        Some((name("group_id")?, name("function_id")?, median))
    })();
    found.ok_or_else(|| format!("{} is not criterion's", round.display()))
}

fn json(file: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no JSON: {error}", file.display()))
}
