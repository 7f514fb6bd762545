//! The inputs that the fuzzer has kept (`fixtures/fuzz/corpus`), each with its target's oracle. Those that it found something with are
//! among them.

use std::fs;
use std::path::{Path, PathBuf};

use poolproof::harness::sql::{Reader, disagreement, long};
use poolproof::harness::statements::{Program, judge};

/// The inputs of a target, by their names. A package from a registry has none: the targets are a package of their own.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz");
    if !package.exists() {
        return Vec::new();
    }
    let folder = package.join("corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

#[test]
fn every_text_that_was_kept_is_read_truly() {
    for (file, bytes) in inputs("sql") {
        let text = String::from_utf8(bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for text in [long(&text), text] {
            if let Some(what) = disagreement(&text, Reader::Library) {
                panic!("{}: {what}", file.display());
            }
        }
    }
}

#[test]
fn every_program_that_was_kept_is_as_on_the_engine_alone() {
    for (file, bytes) in inputs("programs") {
        if let Some(difference) = judge(&Program::from_choices(&bytes)) {
            panic!("{}: {difference}", file.display());
        }
    }
}
