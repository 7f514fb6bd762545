//! A test's body in a process of its own, for what can only be done to a whole process: limits, users, file systems.
//!
//! The body is a test that is ignored, so that nobody runs it but by [`run`].

use std::path::Path;
use std::process::{Command, Output};

/// Where a body finds the folder that was made for it.
const PLACE: &str = "POOLPROOF_TEST_PLACE";

/// A command that runs the body `name` of this test binary on the folder `place`.
pub fn body(name: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads", "1"]).env(PLACE, place);
    command
}

/// The same, after the shell has run `line`; it knows the folder as `$POOLPROOF_TEST_PLACE`.
pub fn body_after(line: &str, wrapper: &[&str], name: &str, place: &Path) -> Command {
    let inner = body(name, place);
    let mut command = Command::new(wrapper.first().unwrap_or(&"sh"));
    command.args(wrapper.iter().skip(1)).args(if wrapper.is_empty() { &[][..] } else { &["sh"][..] });
    command.args(["-c", &format!("{line} && exec \"$0\" \"$@\"")]).arg(inner.get_program()).args(inner.get_args());
    command.env(PLACE, place);
    command
}

/// Runs a body; it must have run, and passed.
pub fn run(mut command: Command) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("1 passed"), "{status}\n{stdout}\n{stderr}");
}

/// The folder of a body that runs.
pub fn place() -> std::path::PathBuf {
    std::env::var_os(PLACE).expect("a body is run by its test").into()
}
