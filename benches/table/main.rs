//! Reads criterion's estimates and prints one Markdown table: medians, and each peer's time beside poolproof's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

/// Whose time the ratios are to.
const OURS: &str = "poolproof";

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target/criterion"), PathBuf::from);
    match table(&folder) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            eprintln!("error: {trouble}; run the benches first, and name criterion's folder");
            ExitCode::from(2)
        }
    }
}

fn table(folder: &Path) -> Result<String, String> {
    let mut text = String::from("| what | who | median | beside poolproof |\n| --- | --- | ---: | ---: |\n");
    let mut groups = folders(folder)?;
    groups.sort_by_key(|group| by_numbers(group));
    for group in groups {
        let mut rows = Vec::new();
        for entry in folders(&group)? {
            if let Some((_, who, median)) = estimate(&entry)? {
                rows.push((who, median));
            }
        }
        let Some(ours) = rows.iter().find(|(who, _)| who == OURS).map(|(_, median)| *median) else { continue };
        rows.sort_by(|one, other| one.1.total_cmp(&other.1));
        let name = title(&group)?;
        for (who, median) in rows {
            text.push_str(&format!("| {name} | {who} | {} | {:.2} |\n", nanos(median), median / ours));
        }
    }
    Ok(text)
}

/// A key that sorts "8 tasks" before "128 tasks".
fn by_numbers(group: &Path) -> Vec<(String, u64)> {
    let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digits = |part: &str| part.parse().unwrap_or(0);
    name.split_inclusive(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.trim_end_matches(|letter: char| !letter.is_ascii_digit()))
        .map(|number| (if number.is_empty() { "text".to_owned() } else { String::new() }, digits(number)))
        .collect()
}

/// What a group is called in full; folders have shorter names.
fn title(group: &Path) -> Result<String, String> {
    for entry in folders(group)? {
        if let Some((title, _, _)) = estimate(&entry)? {
            return Ok(title);
        }
    }
    Err(format!("{} has no measurement", group.display()))
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let read = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut folders: Vec<_> = read.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// The group's title, the function's name and its median in nanoseconds; `None` for a folder that holds no measurement.
fn estimate(entry: &Path) -> Result<Option<(String, String, f64)>, String> {
    let (names, estimates) = (entry.join("new/benchmark.json"), entry.join("new/estimates.json"));
    if !estimates.is_file() {
        return Ok(None);
    }
    let (names, estimates) = (json(&names)?, json(&estimates)?);
    let text = |field: &str| names[field].as_str().map(str::to_owned);
    let found = text("group_id").zip(text("function_id")).zip(estimates["median"]["point_estimate"].as_f64());
    let ((title, who), median) = found.ok_or_else(|| format!("{} is not criterion's", entry.display()))?;
    Ok(Some((title, who, median)))
}

fn json(file: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no JSON: {error}", file.display()))
}

fn nanos(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0} ns"),
        1e3..1e6 => format!("{:.1} us", value / 1e3),
        _ => format!("{:.1} ms", value / 1e6),
    }
}
