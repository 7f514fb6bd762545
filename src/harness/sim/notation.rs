//! An interleaving as people read it, and as it is read back: columns, one a task and one for the disk, time downward.
//!
//! ```text
//! workload: counter
//! seed: 17
//!
//! client-0 | client-1 | lane | disk
//! read 0   |          |      |
//!          | read 0   |      |
//!          |          | .    | fsync log
//! ends     |          |      |
//! ```
//!
//! A line is what one task did until another one went on, and what the disk did for it. Shown is what a task notes, that it
//! ends, syncs, and whatever fails; a task that only let the disk work has a dot. `answer:` lines before the table are what
//! is no matter of order: numbers, faults, how much survived a crash.
//!
//! If that does not tell enough to repeat the run, the table also has the handovers between which somebody else goes: that a task
//! wakes for a client, such as the lane for one that hands it a write, and that it asks for a sync. If even these do not, the head
//! says `order: answers`: there is an answer for each step that is not the default (`answer: next client-1 4 = disk/lane`), those
//! decide, and the table says what has to happen then, in its order. What a task notes may be any text: `words` says how it
//! stands in a cell.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use super::decisions::{About, Actor, Answer, Decider, Decision, Plan};
use super::faults::Faults;
use super::script::{Line, Script, family, is_preparing};
use super::trace::{Detail, Event};
use super::words;

/// A schedule to be repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Which workload it is of, or what somebody calls their own check; may be empty.
    pub workload: String,
    /// The seed, of which the engine takes its random numbers.
    pub seed: u64,
    /// The faults that it may have.
    pub faults: Faults,
    pub(super) script: Script,
    /// The table is only to be read.
    is_by_answers: bool,
}

/// What stands between two events of a cell, and between two cells.
const AND: char = ';';
const BAR: char = '|';

/// What stands for a task that only let the disk work.
const DOT: &str = ".";

/// What begins and ends a schedule in a report, and may be saved with it. A row has a bar.
pub(super) const RULE: &str = "--------";

/// How a head says that not the table decides who goes next.
const BY_ANSWERS: &str = "answers";

/// A row: whose it is, what that did, and the disk for it.
struct Row {
    who: String,
    does: Vec<String>,
    disk: Vec<String>,
}

/// What a reader is shown of what happened from when the first client began, by whom. Where somebody takes over is left out if
/// nobody does anything before the next step of that one.
fn shown<'a>(events: &'a [Event], names: &'a BTreeMap<Actor, Arc<str>>, detail: Detail) -> Vec<(&'a str, &'a Event)> {
    let from = events.iter().position(|event| !is_preparing(&names[&event.actor])).unwrap_or(0);
    let mut shown: Vec<(&str, &Event)> = Vec::new();
    for event in events[from..].iter().rev() {
        let name: &str = &names[&event.actor];
        let goes_on = || shown.last().is_some_and(|(next, _)| *next == family(name));
        if event.what.is_telling(name, detail) && !(event.what.is_handover(name) && goes_on()) {
            shown.push((family(name), event));
        }
    }
    shown.reverse();
    shown
}

fn rows(events: &[Event], names: &BTreeMap<Actor, Arc<str>>, detail: Detail) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (who, event) in shown(events, names, detail) {
        let (text, is_disk) = (event.what.to_string(), event.actor.is_disk());
        match rows.last_mut() {
            Some(row) if row.who == who && is_disk => row.disk.push(text),
            Some(row) if row.who == who && row.disk.is_empty() => row.does.push(text),
            _ => {
                let (does, disk) = if is_disk { (vec![], vec![text]) } else { (vec![text], vec![]) };
                rows.push(Row { who: who.to_owned(), does, disk });
            }
        }
    }
    rows
}

/// The interleaving of a run.
pub(super) struct Picture {
    columns: Vec<String>,
    rows: Vec<Row>,
}

impl Picture {
    pub(super) fn of(events: &[Event], names: &BTreeMap<Actor, Arc<str>>, detail: Detail) -> Self {
        let rows = rows(events, names, detail);
        let mut columns: Vec<String> = Vec::new();
        for row in &rows {
            if !columns.contains(&row.who) {
                columns.push(row.who.clone());
            }
        }
        // Clients in their order, whoever came first.
        columns.sort_by_key(|name| (is_preparing(name), name.clone()));
        Self { columns, rows }
    }

    /// Lines of the table, its head aside.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |steps: &[String]| {
            let steps: Vec<String> = steps.iter().map(|step| words::written(step)).collect();
            steps.join(&format!("{AND} "))
        };
        let line = |row: &Row| {
            let mut cells: Vec<String> = self
                .columns
                .iter()
                .map(|column| match (*column == row.who, row.does.is_empty()) {
                    (false, _) => String::new(),
                    (true, true) => DOT.to_owned(),
                    (true, false) => cell(&row.does),
                })
                .collect();
            cells.push(cell(&row.disk));
            cells
        };
        let names = self.columns.iter().map(|name| words::written(name));
        let mut table = vec![names.chain(["disk".to_owned()]).collect::<Vec<_>>()];
        table.extend(self.rows.iter().map(line));
        let widths: Vec<usize> = (0..=self.columns.len())
            .map(|column| table.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0))
            .collect();
        for cells in table {
            let mut text = String::new();
            for (place, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if place > 0 {
                    write!(text, " {BAR} ")?;
                }
                write!(text, "{cell:width$}")?;
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

impl Schedule {
    /// What a run did, to be repeated.
    pub(super) fn of(workload: &str, faults: Faults, plan: &Plan, picture: &Picture) -> Self {
        let lines = picture.rows.iter().zip(1..).flat_map(|(row, number)| {
            let does = row.does.iter().map(|until| (false, until));
            let all = does.chain(row.disk.iter().map(|until| (true, until)));
            all.map(move |(is_disk, until)| Line { number, who: row.who.clone(), until: until.clone(), is_disk })
        });
        let is_answer = |decision: &&Decision| !matches!(decision.about, About::Next);
        let decisions = plan.decisions.iter().filter(is_answer).cloned().collect();
        let script = Script { lines: lines.collect(), decisions, ..Script::default() };
        Self { workload: workload.to_owned(), seed: plan.seed, faults, script, is_by_answers: false }
    }

    /// The same by its answers alone, of which there is one for each step that is not the default: for a run that
    /// depends on more than the table shows.
    pub(super) fn by_answers(mut self, plan: &Plan) -> Self {
        self.script.decisions.clone_from(&plan.decisions);
        self.is_by_answers = true;
        self
    }

    /// Who settles the questions of a run along it.
    pub(super) fn decider(&self) -> Decider {
        match self.is_by_answers {
            true => {
                let plan = Plan { seed: self.seed, decisions: self.script.decisions.clone() };
                Decider::of_plan_and_table(&plan, self.script.clone())
            }
            false => Decider::of_script(self.seed, self.script.clone()),
        }
    }

    /// As a file: the head, and the picture.
    pub(super) fn file(&self, picture: &Picture) -> String {
        let mut text = String::new();
        if !self.workload.is_empty() {
            let _ = writeln!(text, "workload: {}", words::written(&self.workload));
        }
        let _ = writeln!(text, "seed: {}", self.seed);
        let _ = writeln!(text, "faults: {}", self.faults);
        if self.is_by_answers {
            let _ = writeln!(text, "order: {BY_ANSWERS}");
        }
        for Decision { about, whose, nth, answer } in &self.script.decisions {
            let answer = match answer {
                Answer::Number(number) => number.to_string(),
                Answer::Actor(name) => words::written_name(name),
            };
            let _ = writeln!(text, "answer: {} {} {nth} = {answer}", about_name(*about), words::written_name(whose));
        }
        let _ = write!(text, "\n{picture}");
        text
    }
}

const ABOUTS: [(About, &str); 8] = [
    (About::Next, "next"),
    (About::Order, "order"),
    (About::Fault, "fault"),
    (About::Crash, "crash"),
    (About::Pass, "pass"),
    (About::Cancel, "cancel"),
    (About::Panic, "panic"),
    (About::Number, "number"),
];

fn about_name(about: About) -> &'static str {
    ABOUTS.iter().find(|(known, _)| *known == about).map(|(_, name)| *name).expect("each has a name")
}

fn answer(text: &str) -> Option<Decision> {
    let (question, answer) = text.split_once('=')?;
    let mut parts = question.split_whitespace();
    let (name, whose, nth) = (parts.next()?, parts.next()?, parts.next()?);
    let (about, _) = ABOUTS.into_iter().find(|(_, known)| *known == name)?;
    let answer = match about {
        About::Next => Answer::Actor(words::read(answer.trim()).ok()?),
        _ => Answer::Number(answer.trim().parse().ok()?),
    };
    let decision = Decision { about, whose: words::read(whose).ok()?, nth: nth.parse().ok()?, answer };
    parts.next().is_none().then_some(decision)
}

/// What is wrong with a text that has no table where it should be.
const NO_TABLE: &str = "the table begins with the names of the tasks, and disk: client-1 | lane | disk";

impl Schedule {
    /// A line before the table.
    fn reads_head(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "workload" => self.workload = words::read(value)?,
            "seed" => self.seed = value.parse().map_err(|_| format!("{value:?} is no seed"))?,
            "faults" => self.faults = value.parse()?,
            "answer" => {
                let decision = answer(value).ok_or("an answer is written as: answer: number client-1 0 = 7")?;
                self.script.decisions.push(decision);
            }
            "order" if value == BY_ANSWERS => self.is_by_answers = true,
            key => return Err(format!("{key:?} is none of workload, seed, faults, answer, order: {BY_ANSWERS}")),
        }
        Ok(())
    }

    /// A line of the table, which is about one of these tasks.
    fn reads_row(&mut self, number: usize, names: &[String], cells: &[&str]) -> Result<(), String> {
        if cells.len() > names.len() + 1 {
            return Err(format!("{} cells under {} names", cells.len(), names.len() + 1));
        }
        let tasks = cells.iter().zip(names).filter(|(cell, _)| !cell.is_empty());
        let [(does, who)] = tasks.collect::<Vec<_>>()[..] else {
            return Err("a line is about one task; one that only lets the disk work has a dot".to_owned());
        };
        let disk = cells.get(names.len()).copied().unwrap_or_default();
        if *does == DOT && disk.is_empty() {
            return Err("a dot is for a task that lets the disk work: say what it does".to_owned());
        }
        for (cell, is_disk) in [(*does, false), (disk, true)] {
            for step in words::split(cell, AND).filter(|step| !step.is_empty() && *step != DOT) {
                let (who, until) = (who.clone(), words::read(step)?);
                self.script.lines.push_back(Line { number, who, until, is_disk });
            }
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut schedule = Schedule::default();
        let mut names: Option<Vec<String>> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |problem: String| format!("line {number}: {problem}");
            if line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == RULE {
                continue;
            }
            let cells: Vec<&str> = words::split(line, BAR).collect();
            match (&names, line.split_once(':'), &cells[..]) {
                (Some(names), ..) => schedule.reads_row(number, names, &cells).map_err(wrong)?,
                (None, Some((key, value)), [_]) => {
                    schedule.reads_head(key.trim(), value.trim()).map_err(wrong)?;
                }
                (None, _, [tasks @ .., "disk"]) if !tasks.is_empty() => {
                    let read = tasks.iter().map(|name| words::read(name)).collect::<Result<_, _>>();
                    names = Some(read.map_err(wrong)?);
                }
                _ => return Err(wrong(NO_TABLE.to_owned())),
            }
        }
        match names {
            Some(_) => Ok(schedule),
            None => Err(NO_TABLE.replace("the table", "there is no table: it")),
        }
    }
}
