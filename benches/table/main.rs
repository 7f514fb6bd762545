//! Reads criterion's estimates; prints one Markdown table of the medians, each with its time beside poolproof's, and one of
//! the requirements. Exit code 1 if a requirement that is not listed as open is missed or undecided, if one that is listed got
//! worse or, with `--all` or `--full` after the folder, if one was not measured by the short or the long form of the benches; 2
//! if nothing can be read. With `--undecided`, prints the names of the benches that more rounds are wanted of, and nothing else.

mod estimates;
mod requirements;
mod unit;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use estimates::{Estimates, Row};
use requirements::{REQUIREMENTS, Verdict};
use unit::Unit;

/// Whose time the ratios are to.
const OURS: &str = "poolproof";

fn main() -> ExitCode {
    let option = |name: &str| std::env::args_os().any(|argument| argument == name);
    let full = option("--full");
    let due = (full || option("--all")).then_some(full);
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target/criterion"), PathBuf::from);
    match Estimates::read(&folder) {
        Ok(estimates) if option("--undecided") => {
            undecided(&estimates).into_iter().for_each(|bench| println!("{bench}"));
            ExitCode::SUCCESS
        }
        Ok(estimates) => {
            let (list, missed) = requirements(&estimates, due);
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
        text.push_str(&format!("| {group} | {who} | {} | {beside} |\n", Unit::of_group(group).show(median)));
    }
    text
}

/// The benches of the requirements that are undecided and not open.
fn undecided(estimates: &Estimates) -> BTreeSet<&'static str> {
    let undecided = REQUIREMENTS.iter().filter(|requirement| requirement.judge(estimates).0 == Verdict::Undecided);
    undecided.map(|requirement| requirement.bench()).collect()
}

/// The list of requirements, and how many are missed or undecided and not open. If all are `due` (of the long form, or the
/// short one), one that was not measured is missed too.
fn requirements(estimates: &Estimates, due: Option<bool>) -> (String, usize) {
    let mut text = String::from("| required | measured | at most | noise | |\n| --- | ---: | ---: | ---: | --- |\n");
    let mut missed = 0;
    for requirement in REQUIREMENTS {
        let (verdict, figure) = requirement.judge(estimates);
        let absent = verdict == Verdict::NotMeasured && due.is_some_and(|full| requirement.is_due(full));
        missed += usize::from(verdict.fails() || absent);
        let number =
            |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| requirement.unit().show(number));
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            requirement.promise,
            number(figure.map(|figure| figure.value)),
            number(requirement.limit()),
            number(figure.map(|figure| figure.noise)),
            verdict.show(requirement.unit()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use estimates::Median;

    fn measured(delay: f64) -> Estimates {
        let mut estimates = Estimates::default();
        let median = Median { value: delay, error: 0.0 };
        estimates.add("service: p99 of a task's delay", "64 browsers that rest 25 ms", "1".to_owned(), median);
        estimates
    }

    #[test]
    fn a_requirement_that_is_missed_is_listed_as_missed_and_counted() {
        let (list, missed) = requirements(&measured(2.5e6), None);
        assert!(
            list.contains("| service: p99 of a delay, browsers that rest | 2.5 ms | 1.0 ms | 0 ns | MISSED |"),
            "{list}"
        );
        assert_eq!(missed, 1);
    }

    #[test]
    fn a_requirement_that_is_undecided_is_counted_and_its_bench_is_named() {
        let mut estimates = measured(9e5);
        estimates.rows[0].medians[0].1.error = 1e5;
        let (list, missed) = requirements(&estimates, None);
        assert!(list.contains("| UNDECIDED |"), "{list}");
        assert_eq!((missed, undecided(&estimates)), (1, BTreeSet::from(["service"])));
        assert_eq!(undecided(&measured(9e5)), BTreeSet::new());
    }

    #[test]
    fn a_requirement_that_holds_is_not_counted_and_those_that_were_not_measured_are_if_due() {
        let count = |due| requirements(&measured(9e5), due).1;
        let due = |full| REQUIREMENTS.iter().filter(|requirement| requirement.is_due(full)).count();
        assert_eq!([count(None), count(Some(false)), count(Some(true))], [0, due(false) - 1, due(true) - 1]);
        assert!(due(false) < due(true), "the long form owes more");
    }
}
