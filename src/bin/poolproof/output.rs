//! Where results go: JSON files, lines, numbers as a person reads them, a progress bar on a terminal.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{Outcome, Trouble};

/// Writes `value` as JSON to `file`; `-` is stdout.
pub fn json(file: &Path, value: &impl Serialize) -> Result<(), Trouble> {
    let text = serde_json::to_string_pretty(value).map_err(|error| format!("cannot write JSON: {error}"))?;
    write(file, &format!("{text}\n"))
}

/// Writes `text` to `file`; `-` is stdout.
pub fn write(file: &Path, text: &str) -> Result<(), Trouble> {
    if is_stdout(file) {
        return say(text);
    }
    fs::write(file, text).map_err(|error| cannot_write(file, &error))
}

/// Writes `text` to stdout. That nobody reads it any more is no trouble.
pub fn say(text: &str) -> Result<(), Trouble> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to stdout: {error}; free some room, or send it elsewhere"))
        }
        _ => Ok(()),
    }
}

/// Writes a line to stderr. Where that cannot be done there is nobody to tell, and what is done goes on.
pub fn tell(line: impl Display) {
    // Not by eprintln!, which panics then.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether results go where a person would read.
pub fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

/// Asks before a long run whether both reports can be written at its end, and read apart.
pub fn reports(json: Option<&Path>, junit: Option<&Path>) -> Result<(), Trouble> {
    match (json, junit) {
        (Some(json), Some(junit)) if json == junit && is_stdout(json) => {
            Err("--json and --junit both go to stdout; name a file for one of them".to_owned())
        }
        (Some(json), Some(junit)) if json == junit => Err("--json and --junit name the same file; name two".to_owned()),
        _ => writable(json).and_then(|()| writable(junit)),
    }
}

/// Asks before a long run whether `file` can be written at its end. Leaves no file behind that was not there.
pub fn writable(file: Option<&Path>) -> Result<(), Trouble> {
    let Some(file) = file.filter(|file| !is_stdout(file)) else { return Ok(()) };
    let existed = file.exists();
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.map_err(|error| cannot_write(file, &error))?;
    if !existed {
        // The file at the end will be a new one; that this one cannot be removed would not matter.
        let _ = fs::remove_file(file);
    }
    Ok(())
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Trouble {
    format!("cannot write {}: {error}; name a file in a folder that can be written", file.display())
}

/// A bar on a terminal, nothing elsewhere. On stderr, so that it never mixes with results.
pub fn bar(length: u64, message: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(message.to_owned());
    let style = ProgressStyle::with_template("{msg:34} {wide_bar} {pos:>6}/{len} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Does `run` behind a bar of so many of what, if it is to be shown and there is a terminal; `moves` moves the bar.
pub fn watched<R: Send, E: Display + Send>(
    bar_of: Option<(u64, &str)>,
    moves: impl Fn(&ProgressBar),
    run: impl FnOnce() -> Result<R, E> + Send,
) -> Result<R, Trouble> {
    let Some((length, what)) = bar_of.filter(|_| std::io::stderr().is_terminal()) else {
        return run().map_err(|error| error.to_string());
    };
    let bar = bar(length, what);
    thread::scope(|scope| {
        let running = scope.spawn(run);
        while !running.is_finished() {
            moves(&bar);
            thread::sleep(Duration::from_millis(50));
        }
        bar.finish_and_clear();
        match running.join() {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err("the run itself panicked; this is a defect of poolproof".to_owned()),
        }
    })
}

/// Says and writes down what was found. `quiet`, and where the JSON goes.
pub fn finish<R: Serialize>(
    report: &R,
    (quiet, file): (bool, Option<&Path>),
    (text, ends): (impl Fn(&R) -> String, impl Fn(&R) -> Vec<String>),
    only_stopped: bool,
    ok: bool,
) -> Result<Outcome, Trouble> {
    // Said before it is written down: a disk that is full by now must not swallow it.
    if !quiet && !file.is_some_and(is_stdout) {
        say(&text(report))?;
    }
    if quiet && !ok && !only_stopped {
        tell(ends(report).join("; "));
    }
    if let Some(file) = file {
        json(file, report)?;
    }
    if only_stopped { Ok(Outcome::Stopped) } else { Ok(ok.into()) }
}

/// How a report ends: whether it holds, and if not, why, and how to see it again.
pub fn verdict(ok: bool, stopped: bool, faults: &[impl Display], repeat: &str) -> Vec<String> {
    if ok {
        vec!["holds".to_owned()]
    } else if stopped && faults.is_empty() {
        vec!["stopped early; nothing at fault so far".to_owned()]
    } else {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let what = if faults.is_empty() { "see what was found".to_owned() } else { faults.join(", ") };
        vec![format!("DOES NOT HOLD: {what}"), format!("repeat: {repeat}")]
    }
}

/// 12345 as "12,345".
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 1 as "1 seed", 12345 as "12,345 seeds".
pub fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

/// Microseconds in a unit that keeps them short.
pub fn micros(value: u64) -> String {
    match value {
        0 => "-".to_owned(),
        1..1_000 => format!("{value} us"),
        1_000..1_000_000 => format!("{:.1} ms", value as f64 / 1e3),
        _ => format!("{:.1} s", value as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2_000].map(|count| counted(count, "seed")), ["0 seeds", "1 seed", "2,000 seeds"]);
    }

    #[test]
    fn latencies_keep_a_unit() {
        assert_eq!([7, 1_500, 2_000_000].map(micros), ["7 us", "1.5 ms", "2.0 s"]);
    }
}
