//! Reads criterion's estimates; prints one Markdown table of the medians, each with its time beside poolproof's, and one of
//! the requirements. Exit code 1 if a requirement is missed by more than the noise or, with `--all` after the folder,
//! was not measured; 2 if nothing can be read.

mod estimates;
mod requirements;

use std::path::PathBuf;
use std::process::ExitCode;

use estimates::{Estimates, Row};
use requirements::{REQUIREMENTS, Verdict};

/// Whose time the ratios are to.
const OURS: &str = "poolproof";

fn main() -> ExitCode {
    let all = std::env::args_os().any(|argument| argument == "--all");
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target/criterion"), PathBuf::from);
    match Estimates::read(&folder) {
        Ok(estimates) => {
            let (list, missed) = requirements(&estimates, all);
            print!("{}\n{list}", table(&estimates));
            ExitCode::from(u8::from(missed > 0))
        }
        Err(trouble) => {
            eprintln!("error: {trouble}; run the benches first, and name criterion's folder");
            ExitCode::from(2)
        }
    }
}

fn table(estimates: &Estimates) -> String {
    let mut rows: Vec<&Row> = estimates.rows.iter().collect();
    rows.sort_by(|one, other| {
        by_numbers(&one.group).cmp(&by_numbers(&other.group)).then(one.median().total_cmp(&other.median()))
    });
    let mut text = String::from("| what | who | median | beside poolproof |\n| --- | --- | ---: | ---: |\n");
    for Row { group, who, .. } in &rows {
        let of = |who: &str| rows.iter().find(|row| row.group == *group && row.who == who).map(|row| row.median());
        let (Some(median), ours) = (of(who), of(OURS)) else { continue };
        let beside = ours.map_or_else(String::new, |ours| format!("{:.2}", median / ours));
        text.push_str(&format!("| {group} | {who} | {} | {beside} |\n", nanos(median)));
    }
    text
}

/// The list of requirements, and how many are missed; with `all`, one that was not measured is.
fn requirements(estimates: &Estimates, all: bool) -> (String, usize) {
    let mut text = String::from("| required | ratio | at most | noise | |\n| --- | ---: | ---: | ---: | --- |\n");
    let mut missed = 0;
    for requirement in REQUIREMENTS {
        let (verdict, ratio) = requirement.judge(estimates);
        let unknown = all && verdict == Verdict::NotMeasured && requirement.limit().is_some();
        missed += usize::from(verdict == Verdict::Missed || unknown);
        let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"));
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            requirement.promise,
            number(ratio.map(|ratio| ratio.value)),
            number(requirement.limit()),
            number(ratio.map(|ratio| ratio.noise)),
            verdict.as_str(),
        ));
    }
    (text, missed)
}

/// A key that sorts "8 tasks" before "128 tasks".
fn by_numbers(name: &str) -> Vec<(&str, u64)> {
    let end_of_text = |text: &str| text.find(|letter: char| letter.is_ascii_digit()).unwrap_or(text.len());
    let end_of_number = |text: &str| text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (text, behind) = rest.split_at(end_of_text(rest));
        let (number, behind) = behind.split_at(end_of_number(behind));
        parts.push((text, number.parse().unwrap_or(0)));
        rest = behind;
    }
    parts
}

fn nanos(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0} ns"),
        1e3..1e6 => format!("{:.1} us", value / 1e3),
        _ => format!("{:.1} ms", value / 1e6),
    }
}
