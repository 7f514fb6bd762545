//! A schedule that names semantic steps, and how it is followed.
//!
//! Each line says: now this task goes on until this has happened. Until then whoever the line is about goes first, with the
//! disk and the reads that work for it; if all of those wait, the check and the lane, if no line names them; then those
//! whose lines come next, and last whoever has none. What is not said happens by default. So a schedule survives whatever does not
//! touch what its lines name; if a task says what a later line is about before its turn, or a line is never reached, it says so.

use std::collections::VecDeque;
use std::sync::Arc;

use super::decisions::{About, Actor, Answer, Decision};
use super::trace::{Detail, What};

/// What happens before any other task begins was only prepared, and is no part of a schedule.
pub(super) fn is_preparing(name: &str) -> bool {
    matches!(family(name), "main" | "lane" | "start" | "clock")
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// In the file, from 1 on.
    pub(super) number: usize,
    /// Who goes on: a task's name.
    pub(super) who: String,
    /// Until this has happened, in the words of a report.
    pub(super) until: String,
    /// It is the disk that does it.
    pub(super) is_disk: bool,
}

/// The lines that are left, and the answers that are no matter of order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) lines: VecDeque<Line>,
    pub(super) decisions: Vec<Decision>,
    /// Its first line counts from when the first task of the check's own begins.
    pub(super) has_begun: bool,
    /// Why it does not apply.
    pub(super) problem: Option<String>,
}

/// Whose work an actor does: `disk/client-1/read#2` does that of `client-1`.
pub(super) fn family(name: &str) -> &str {
    let name = name.strip_prefix("disk/").unwrap_or(name);
    name.split(['/']).next().unwrap_or(name)
}

impl Script {
    /// The place in `options` of who goes next.
    pub(super) fn next(&mut self, options: &[Actor], names: &[(Actor, Arc<str>)]) -> Result<usize, String> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        if !self.has_begun || self.lines.is_empty() {
            return Ok(0);
        }
        let whose = |option: &Actor| {
            let name = names.iter().find(|(actor, _)| actor == option).map_or("", |(_, name)| name);
            family(name)
        };
        let rank = |option: &Actor| {
            let name = whose(option);
            match self.lines.iter().position(|line| line.who == name) {
                Some(0) => (0, 0),
                Some(place) => (2, place),
                None if is_preparing(name) => (1, 0),
                None => (3, 0),
            }
        };
        Ok((0..options.len()).min_by_key(|&place| rank(&options[place])).unwrap_or(0))
    }

    /// An actor did something.
    pub(super) fn saw(&mut self, name: &str, what: &What) {
        if !self.has_begun {
            self.has_begun = !is_preparing(name);
        } else if what.is_telling(name, Detail::Handovers) {
            self.follows(name, &what.to_string());
        }
    }

    fn follows(&mut self, name: &str, what: &str) {
        let (who, is_disk) = (family(name), name.starts_with("disk/"));
        let is_it = |line: &&Line| line.who == who && line.is_disk == is_disk && line.until == what;
        match self.lines.front() {
            Some(line) if is_it(&line) => {
                self.lines.pop_front();
            }
            Some(line) => {
                let own = self.lines.iter().find(|line| line.who == who);
                // What the disk does comes again; what a task says of itself does not.
                if !is_disk && own.as_ref().is_some_and(is_it) {
                    let own = own.map_or(0, |own| own.number);
                    self.problem = Some(format!(
                        "line {own}: {who} did {what:?} while line {} waited for {} to do {:?}",
                        line.number, line.who, line.until
                    ));
                }
            }
            None => {}
        }
    }

    pub(super) fn number(&self, about: About, whose: &str, nth: u32) -> u64 {
        let is_it = |decision: &&Decision| decision.about == about && decision.whose == whose && decision.nth == nth;
        match self.decisions.iter().find(is_it).map(|decision| &decision.answer) {
            Some(Answer::Number(number)) => *number,
            _ => 0,
        }
    }

    /// Whether answers, which say which call of this disk they are about, settle that.
    fn is_answered(&self, about: About, disk: &str) -> bool {
        self.decisions.iter().any(|decision| decision.about == about && decision.whose == disk)
    }

    /// Why the call that this disk is about to do fails, if the line says so.
    pub(super) fn fault(&self, disk: &str, call: &str) -> Option<String> {
        let line = self.lines.front().filter(|line| self.has_begun && line.is_disk && line.who == family(disk))?;
        if self.is_answered(About::Fault, disk) {
            return None;
        }
        let (failing, why) = line.until.split_once(" fails: ")?;
        (failing == call).then(|| why.to_owned())
    }

    /// Whether the line says that the power fails instead of what this disk is about to do.
    pub(super) fn crashes(&self, disk: &str) -> bool {
        let line = self.lines.front().filter(|line| self.has_begun && line.is_disk && line.who == family(disk));
        line.is_some_and(|line| line.until == "power failure") && !self.is_answered(About::Crash, disk)
    }

    /// The line that was not reached.
    pub(super) fn left_over(&self) -> Option<String> {
        let line = self.lines.front()?;
        Some(format!("line {}: {} never did {:?}", line.number, line.who, line.until))
    }
}
