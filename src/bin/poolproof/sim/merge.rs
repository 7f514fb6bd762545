//! `poolproof merge`: the reports of shards, each seed once, judged as one.

use std::fs;
use std::path::{Path, PathBuf};

use super::campaign::Campaign;
use super::part::Part;
use crate::Trouble;
use crate::output::{is_stdout, json, say, writable};

/// Add up the JSON reports of shards, and judge the whole
#[derive(clap::Args)]
#[command(after_help = "Example:\n  poolproof merge one.json two.json --json whole.json")]
pub struct MergeArgs {
    /// The reports, as --json wrote them
    #[arg(required = true)]
    reports: Vec<PathBuf>,
    /// Write the whole as JSON to FILE; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Adds up the reports of shards; whether the whole holds.
pub fn merge(args: &MergeArgs) -> Result<bool, Trouble> {
    writable(args.json.as_deref())?;
    let mut whole: Option<Campaign> = None;
    let mut known: Vec<(Part, &Path)> = Vec::new();
    for file in &args.reports {
        let wrong = |problem: String| format!("{}: {problem}", file.display());
        let no_report = |problem: String| wrong(format!("{problem}; name a file that `poolproof sim --json` wrote"));
        let text = fs::read_to_string(file).map_err(|error| no_report(error.to_string()))?;
        let part: Campaign = serde_json::from_str(&text).map_err(|error| no_report(error.to_string()))?;
        for part in part.parts() {
            is_new(part, &known).map_err(wrong)?;
            known.push((part.clone(), file));
        }
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => whole.add(part).map_err(wrong)?,
        }
    }
    let mut whole = whole.ok_or("there is nothing to merge; name the reports")?;
    whole.looks_for_shards();
    let holds = whole.judge();
    if !args.json.as_deref().is_some_and(is_stdout) {
        say(&whole.text())?;
    }
    if let Some(file) = &args.json {
        json(file, &whole)?;
    }
    Ok(holds)
}

/// A seed that is there twice would count twice.
fn is_new(part: &Part, known: &[(Part, &Path)]) -> Result<(), String> {
    let shared = known.iter().find_map(|(other, file)| Some((part.shares(other)?, other, file)));
    shared.map_or(Ok(()), |((workload, seed), other, file)| {
        Err(format!(
            "has seed {seed} of {workload} ({part}), and so has {} ({other}); merge reports that share no seed, each once",
            file.display()
        ))
    })
}
