//! One round: a child is started on a file, killed at its moment, and what it printed is read to the end.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::victim::Orders;
use super::{CannotRun, Kill};
use crate::harness::child::read_to_end;

/// Acknowledgements that a child is granted at most.
const MOST_ACKS: u32 = 200;
/// A kill comes at most this much later, so that it finds the lane in any part of a write.
const LONGEST_DELAY: u32 = 4_000;

/// How many of a child's complaints are kept.
const COMPLAINTS: usize = 12;

/// When a child is killed. The seed decides what is drawn; what the child does at that moment is up to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// After this many acknowledgements; 0: after it has begun to open the file.
    pub acks: u32,
    /// And then after this many microseconds.
    pub delay: u32,
    /// Whether the engine looks at the very file afterwards, or at a copy: then it is the next child that recovers it.
    pub in_place: bool,
}

impl Moment {
    /// One in ten kills meets the child while it opens, and perhaps recovers, the file.
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let opening = rng.next_u32().is_multiple_of(10);
        let acks = 1 + rng.next_u32() % MOST_ACKS;
        Self {
            acks: if opening { 0 } else { acks },
            delay: rng.next_u32() % LONGEST_DELAY,
            in_place: rng.next_u32().is_multiple_of(2),
        }
    }
}

/// What became of a child.
#[derive(Debug, Default)]
pub(super) struct Killed {
    pub acknowledged: Vec<i64>,
    /// What it said, or did, that it should not have.
    pub complaints: Vec<String>,
}

/// Starts a child and kills it.
pub(super) fn run(kill: &Kill, orders: &Orders, moment: Moment) -> Result<Killed, CannotRun> {
    let cannot = |error: std::io::Error| CannotRun(format!("{} cannot be started: {error}", kill.program.display()));
    let mut command = Command::new(&kill.program);
    command.arg("kill-child").args(["--kill", orders.subject.name()]).arg("--database").arg(&orders.database);
    command.args(["--seed", &orders.seed.to_string(), "--first-id", &orders.first_id.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for whoever asks: it lets the rounds that it began end.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(cannot)?;
    let stderr = child.stderr.take().map(read_to_end);
    let lines = child.stdout.take().map(lines);

    let mut killed = Killed::default();
    if let Some(lines) = &lines {
        let began = wait_for(lines, moment.acks, kill.watchdog, &mut killed);
        match began {
            // The moment itself, not a wait for something.
            Ok(()) => thread::sleep(Duration::from_micros(moment.delay.into())),
            Err(complaint) => killed.complaints.push(complaint),
        }
    }
    // Fails only if it has ended by itself, and that shows in its status.
    let _ = child.kill();
    let status = child.wait().map_err(cannot)?;
    // The pipe holds what it printed before: its end comes after that.
    for line in lines.iter().flatten() {
        killed.hear(&line);
    }
    let last_words = stderr.and_then(|stderr| stderr.join().ok()).unwrap_or_default();
    if !is_killed(status) {
        let last_words = last_words.lines().last().unwrap_or("it said nothing");
        killed.complaints.push(format!("the child ended by itself, {status}: {last_words}"));
    } else if let Some(words) = last_words.lines().find(|line| line.contains("panicked")) {
        killed.complaints.push(format!("the child panicked: {words}"));
    }
    Ok(killed)
}

fn wait_for(lines: &Receiver<String>, acks: u32, watchdog: Duration, killed: &mut Killed) -> Result<(), String> {
    loop {
        match lines.recv_timeout(watchdog) {
            Ok(line) => {
                killed.hear(&line);
                // A child that complains may never come to the acknowledgements that it was granted.
                if killed.acknowledged.len() as u32 >= acks || !killed.complaints.is_empty() {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err("the child printed its last line too early".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                let acks = killed.acknowledged.len();
                return Err(format!("the child hung: nothing for {watchdog:?} after {acks} acknowledgements"));
            }
        }
    }
}

impl Killed {
    fn hear(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("ack", id)) if id.parse::<i64>().is_ok() => self.acknowledged.extend(id.parse::<i64>()),
            None if line == "begin" => {}
            _ if self.complaints.len() >= COMPLAINTS => {}
            _ => self.complaints.push(format!("the child said: {line}")),
        }
    }
}

/// Read by a thread of its own, so that a child that hangs can be given up.
fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        // A pipe that breaks has given what it had, and nobody listens once the round is over.
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

#[cfg(unix)]
fn is_killed(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

/// Elsewhere a killed process has the exit code that its killer chose.
#[cfg(not(unix))]
fn is_killed(status: ExitStatus) -> bool {
    !status.success()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_prints_nothing_more_is_given_up_as_hung() {
        let (sender, lines) = mpsc::channel();
        let mut killed = Killed::default();
        sender.send("ack 7".to_owned()).unwrap();
        let complaint = wait_for(&lines, 2, Duration::from_millis(1), &mut killed).unwrap_err();
        assert!(complaint.contains("hung") && complaint.contains("after 1 ack"), "{complaint}");
        assert_eq!(killed.acknowledged, [7]);
    }

    #[test]
    fn a_child_that_complains_is_not_waited_for() {
        let (sender, lines) = mpsc::channel();
        let mut killed = Killed::default();
        sender.send("error write 7: the disk is full".to_owned()).unwrap();
        assert_eq!(wait_for(&lines, 2, Duration::from_secs(60), &mut killed), Ok(()));
        assert_eq!(killed.complaints, ["the child said: error write 7: the disk is full"]);
    }
}
