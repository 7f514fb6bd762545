//! A run in a process of its own: what it reports, or how it ended.
//!
//! Runs that may panic inside the engine, abort or hang are made in children, so that nothing they do can touch whoever
//! asks, and so that each starts from nothing.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::run::RunReport;

/// How long a child is given to end by itself after its own watchdog should have ended it.
const GRACE: Duration = Duration::from_secs(5);
/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(2);

/// A run that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .program.display())]
pub struct ChildError {
    program: PathBuf,
    problem: String,
}

/// Runs `program` and returns the report it prints. A child that dies otherwise, or outlives its own watchdog, is a
/// finding, not an error.
///
/// # Errors
/// If the program cannot be started, or says (by exit code 2) that it could not run.
pub fn run(program: &Path, args: &[String], watchdog: Duration) -> Result<RunReport, ChildError> {
    let error = |problem: String| ChildError { program: program.to_owned(), problem };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for whoever asks: it lets the runs that it began end, and says what they found.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(|cause| error(format!("cannot be started: {cause}")))?;
    // Read by threads of their own: a child that fills a pipe nobody empties would never end.
    let stdout = child.stdout.take().map(read_to_end);
    let stderr = child.stderr.take().map(read_to_end);

    let deadline = Instant::now() + watchdog + GRACE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            Ok(None) | Err(_) => {
                // Both fail only if it has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let text = |pipe: Option<thread::JoinHandle<String>>| pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));

    if let Ok(mut report) = serde_json::from_str::<RunReport>(&stdout) {
        // It may print its report and die after that.
        report.died = !status.is_some_and(|status| matches!(status.code(), Some(0 | 1)));
        return Ok(if report.died { report.conclude() } else { report });
    }
    let last_words = stderr.lines().last().unwrap_or("it said nothing").to_owned();
    if status.is_some_and(|status| status.code() == Some(2)) {
        return Err(error(last_words));
    }
    let mut report = RunReport { hung: status.is_none(), died: status.is_some(), ..RunReport::default() };
    report.repeat = format!("{} {}", program.file_name().unwrap_or_default().display(), args.join(" "));
    report.finding(|| match status {
        Some(status) => format!("ended without a report, {}: {last_words}", describe(status)),
        None => "outlived its own watchdog and was killed".to_owned(),
    });
    Ok(report.conclude())
}

pub(super) fn read_to_end(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks has given what it had.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(unix)]
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => status.to_string(),
    }
}

#[cfg(not(unix))]
fn describe(status: ExitStatus) -> String {
    status.to_string()
}
