//! The README begins with what a user needs, and what it says of the package is so. Its claims name the tests that prove them:
//! each of them exists. (Its code is compiled with the documentation's tests.)

use std::fs;
use std::path::Path;

/// What stands between single backticks in a line, in order.
fn names(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// The `(file, test)` pairs of a text: a test belongs to the file named before it in its line.
fn claims(text: &str) -> Vec<(&str, &str)> {
    let mut claims = Vec::new();
    for line in text.lines() {
        let mut file = None;
        for name in names(line) {
            match file {
                _ if name.starts_with("tests/") && name.ends_with(".rs") => file = Some(name),
                Some(file)
                    if name.contains('_')
                        && name.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c)) =>
                {
                    claims.push((file, name));
                }
                _ => {}
            }
        }
    }
    claims
}

/// The claims that are not true.
fn unproven(root: &Path, text: &str) -> Vec<String> {
    let is_missing = |(file, test): &(&str, &str)| {
        let source = fs::read_to_string(root.join(file)).unwrap_or_default();
        let place = source.find(&format!("fn {test}("));
        // The attribute stands above it, perhaps with another between.
        !place.is_some_and(|place| {
            source[..place]
                .rsplit("\n\n")
                .next()
                .is_some_and(|head| head.contains("#[test]") || head.contains("#[tokio::test"))
        })
    };
    claims(text).into_iter().filter(is_missing).map(|(file, test)| format!("{file}: {test}")).collect()
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    assert!(claims(&text).len() >= 20, "the table of tests is not found any more: {:?}", claims(&text));
    assert_eq!(unproven(root, &text), Vec::<String>::new());
}

#[test]
fn a_test_that_does_not_exist_is_found_missing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "| x | `tests/package/readme.rs` `a_test_that_does_not_exist_is_found_missing`, `a_test_nobody_wrote` |";
    assert_eq!(unproven(root, text), ["tests/package/readme.rs: a_test_nobody_wrote"]);
    assert_eq!(unproven(root, "`tests/nowhere.rs` `a_test`"), ["tests/nowhere.rs: a_test"]);
    assert_eq!(
        unproven(root, "`tests/pool/lifecycle.rs` `time_out`"),
        ["tests/pool/lifecycle.rs: time_out"],
        "no test"
    );
}

/// Where the links of a text lead, those within it left out.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with('#')).collect()
}

/// There is no public address of the repository yet, so a link to a file of it leads nowhere on a registry's page.
#[test]
fn the_readmes_links_work_wherever_it_is_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    assert!(!links(&text).is_empty());
    assert!(links(&text).iter().all(|target| target.starts_with("https://")), "{:?}", links(&text));
    assert_eq!(links("a [file](FINDINGS.md), a [part](#part)"), ["FINDINGS.md"]);
}

/// The features that `Cargo.toml` has, but for what is on by default.
fn features(manifest: &str) -> Vec<&str> {
    let section = manifest.split("[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter(|line| !line.starts_with([' ', ']']));
    names.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).filter(|name| *name != "default").collect()
}

/// The features that a text has a row for, in a table of that name.
fn rows(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| line.trim_start_matches("//! "));
    let table = lines.skip_while(|line| !line.starts_with("| feature |")).skip(2);
    table.map_while(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn every_feature_is_in_the_tables_and_nothing_else_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let (manifest, readme, lib) = (read("Cargo.toml"), read("README.md"), read("src/lib.rs"));
    let mut features = features(&manifest);
    features.sort_unstable();
    for mut rows in [rows(&readme), rows(&lib)] {
        rows.sort_unstable();
        assert_eq!(rows, features);
    }
}

#[test]
fn the_readme_begins_with_a_whole_program_and_its_dependencies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    let beginning = text.split("\n## ").next().unwrap();
    assert!(beginning.lines().count() < 90, "a user has not the time");
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0;
    let program = ["async fn main()", "build()", "CREATE TABLE", ".execute(", ".write(", ".read(", "close()"];
    for needed in [&[&*format!("poolproof = \"{version}\""), "tokio = "][..], &program].concat() {
        assert!(beginning.contains(needed), "{needed} comes later, or not at all");
    }
}
