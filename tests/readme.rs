//! The README names the tests that prove its claims: each of them exists.

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
    let text = "| x | `tests/readme.rs` `a_test_that_does_not_exist_is_found_missing`, `a_test_nobody_wrote` |";
    assert_eq!(unproven(root, text), ["tests/readme.rs: a_test_nobody_wrote"]);
    assert_eq!(unproven(root, "`tests/nowhere.rs` `a_test`"), ["tests/nowhere.rs: a_test"]);
    assert_eq!(unproven(root, "`tests/lifecycle.rs` `time_out`"), ["tests/lifecycle.rs: time_out"], "no test");
}
