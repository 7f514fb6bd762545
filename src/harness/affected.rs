//! The affected engine's binary: found beside this one, or built by cargo.
//!
//! It is `fixtures/affected-engine`, a crate of its own, because two releases of the engine cannot be linked into one
//! binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary's name, and its package's.
const NAME: &str = "affected-engine";
/// Where this crate's source was when it was compiled; the affected engine's source is in the same repository.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// There is no affected engine to run.
#[derive(Debug, thiserror::Error)]
#[error("the affected engine is not there: {0}")]
pub struct NotThere(String);

/// The binary beside `program`, if there is one.
#[must_use]
pub fn beside(program: &Path) -> Option<PathBuf> {
    let file = format!("{NAME}{}", env::consts::EXE_SUFFIX);
    program.parent().map(|folder| folder.join(file)).filter(|file| file.is_file())
}

/// The binary beside `program`, unless its source has changed since; else built by cargo into the same profile's folder.
/// Cargo's own progress goes to stderr; `announce` is called before.
///
/// # Errors
/// If there is no cargo, no source or the build fails, with the mend.
pub fn find_or_build(program: &Path, announce: impl FnOnce()) -> Result<PathBuf, NotThere> {
    match beside(program).filter(|found| !is_older_than_source(found)) {
        Some(found) => Ok(found),
        None => {
            announce();
            build(program)
        }
    }
}

/// Whether a source that the binary is made of has changed since. No source here: the binary is what there is.
fn is_older_than_source(binary: &Path) -> bool {
    let source = Path::new(SOURCE);
    let folders = [source.join("fixtures").join(NAME).join("src"), source.join("src/harness"), source.join("src")];
    let changed = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    let built = changed(binary);
    let files =
        folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten().map(|entry| entry.path());
    files.filter(|file| file.extension().is_some_and(|kind| kind == "rs")).any(|file| changed(&file) > built)
}

/// Has cargo build it, into the profile that `program` was built in, or find it up to date.
///
/// # Errors
/// If there is no cargo, no source or the build fails, with the mend.
pub fn build(program: &Path) -> Result<PathBuf, NotThere> {
    let manifest = Path::new(SOURCE).join("Cargo.toml");
    let folder = program.parent().unwrap_or(Path::new(".")).display();
    let by_hand =
        format!("build it with `cargo build -p {NAME}` in a clone of the repository, and put it into {folder}");
    if !Path::new(SOURCE).join("fixtures").join(NAME).is_dir() {
        return Err(NotThere(format!(
            "the proof needs a clone of the repository, for its source is not in the package; {by_hand}"
        )));
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["build", "--package", NAME, "--message-format", "json-render-diagnostics", "--manifest-path"]);
    command.arg(&manifest).stdin(Stdio::null()).stderr(Stdio::inherit());
    if program.parent().is_some_and(|folder| folder.ends_with("release")) {
        command.arg("--release");
    }
    let output = command.output().map_err(|error| {
        NotThere(format!(
            "{} cannot be started ({error}); install Rust from https://rustup.rs, or {by_hand}",
            cargo.display()
        ))
    })?;
    if !output.status.success() {
        return Err(NotThere(format!("cargo could not build it ({}); {by_hand}", output.status)));
    }
    executable(&output.stdout).ok_or_else(|| NotThere(format!("cargo built it but did not say where; {by_hand}")))
}

/// The path that cargo's messages name for the binary.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    let mut messages = serde_json::Deserializer::from_slice(messages).into_iter::<serde_json::Value>();
    messages.find_map(|message| {
        let message = message.ok()?;
        let named = message["target"]["name"] == NAME;
        named.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    })
}
