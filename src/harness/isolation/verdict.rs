//! Both checkers on one history, and what a person reads of them.

use std::fmt;

use serde::Serialize;

use super::graph::{Judged, Level, judge, judge_text};
use super::history::{History, Place, Shape};
use super::order::{Ordered, Violation, judge_by_order};
use super::picture::picture;

/// What both checkers say.
#[derive(Debug)]
pub struct Verdict {
    /// What was asked.
    pub level: Level,
    /// Of transactions that do what.
    pub shape: Shape,
    /// By the graph of dependencies.
    pub by_graph: Judged,
    /// By the order of commits, where the history tells it and the level is strict serializability.
    pub by_order: Option<Ordered>,
    /// The first thing against it by each checker, as columns.
    pub pictures: Vec<String>,
    /// Events of the text that are of no client's transaction, and were passed over.
    pub passed_over: usize,
}

/// The same in words and numbers. Field names are stable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerdictReport {
    /// What transactions do: list-append or rw-register.
    pub shape: String,
    /// What was asked.
    pub level: &'static str,
    /// What the first checker found, by its name in the literature.
    pub anomalies: Vec<String>,
    /// Transactions that the second checker judged.
    pub judged_by_order: usize,
    /// Those whose order is not known.
    pub not_judged_by_order: usize,
    /// What the second checker found.
    pub violations_by_order: Vec<String>,
    /// Events that are of no client's transaction, and were passed over.
    pub passed_over: usize,
}

impl Verdict {
    /// Judges what was recorded.
    ///
    /// # Errors
    /// What in it does not fit together.
    pub fn of(history: &History, level: Level) -> Result<Self, String> {
        let by_graph = judge(history, level)?;
        let has_places =
            history.with(|events| events.iter().any(|event| matches!(event.place, Some(Place::Commit(..)))));
        let by_order = (has_places && level == Level::StrictSerializable).then(|| judge_by_order(history));
        let mut pictures = Vec::new();
        if let Judged::Violated { ends, proof, .. } = &by_graph {
            pictures.push(format!("{}\n{proof}", picture(history, ends)));
        }
        if let Some(first) = by_order.as_ref().and_then(|ordered| ordered.violations.first()) {
            pictures.push(format!("{}\nby the order of commits: {}", picture(history, &first.ends), first.what));
        }
        Ok(Self { level, shape: history.shape, by_graph, by_order, pictures, passed_over: 0 })
    }

    /// Judges a text in one of Elle's formats; by both checkers if it is lines of JSON with our places.
    ///
    /// # Errors
    /// What of it is no history.
    pub fn of_text(text: &str, level: Level) -> Result<Self, String> {
        match History::from_json_lines(text) {
            Ok(history) if history.with(|events| !events.is_empty()) => return Self::of(&history, level),
            Err(why) if text.contains("\"place\"") => {
                return Err(format!("it tells places of commits, and cannot be judged by them: {why}"));
            }
            // Keys that are no numbers, for example: what only we need is not asked of others.
            _ => {}
        }
        let (shape, by_graph, passed_over) = judge_text(text, level)?;
        let pictures = match &by_graph {
            Judged::Violated { proof, .. } => vec![proof.clone()],
            _ => Vec::new(),
        };
        Ok(Self { level, shape, by_graph, by_order: None, pictures, passed_over })
    }

    /// Whether both say that the level is kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.by_graph == Judged::Holds && self.violations().is_empty()
    }

    /// Whether one of them says that it is not. Neither this nor that: the first does not know.
    #[must_use]
    pub fn is_violated(&self) -> bool {
        matches!(self.by_graph, Judged::Violated { .. }) || !self.violations().is_empty()
    }

    fn violations(&self) -> &[Violation] {
        self.by_order.as_ref().map(|ordered| &*ordered.violations).unwrap_or_default()
    }

    /// For a program that reads it.
    #[must_use]
    pub fn report(&self) -> VerdictReport {
        let anomalies = match &self.by_graph {
            Judged::Violated { anomalies, .. } => anomalies.clone(),
            Judged::Holds | Judged::Unknown(_) => Vec::new(),
        };
        let counted = |count: fn(&Ordered) -> usize| self.by_order.as_ref().map_or(0, count);
        VerdictReport {
            shape: self.shape.to_string(),
            level: self.level.name(),
            anomalies,
            judged_by_order: counted(|ordered| ordered.judged),
            not_judged_by_order: counted(|ordered| ordered.not_judged),
            violations_by_order: self.violations().iter().map(|violation| violation.what.clone()).collect(),
            passed_over: self.passed_over,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.level;
        match &self.by_graph {
            Judged::Holds => writeln!(f, "by the graph of dependencies (Elle): {level}")?,
            Judged::Violated { anomalies, .. } => {
                writeln!(f, "by the graph of dependencies (Elle): not {level}: {}", anomalies.join(", "))?;
            }
            Judged::Unknown(why) => {
                writeln!(f, "by the graph of dependencies (Elle): not known whether {level}: {why}")?;
            }
        }
        match &self.by_order {
            None if level == Level::StrictSerializable => {
                writeln!(f, "by the order of commits: not judged, since the history does not tell it")?;
            }
            None => writeln!(f, "by the order of commits: not judged; it tells of strict serializability alone")?,
            Some(Ordered { judged, not_judged, violations }) if !violations.is_empty() => {
                let all = judged + not_judged;
                writeln!(
                    f,
                    "by the order of commits: not {level} in the order that was told; {judged} of {all} transactions judged"
                )?;
            }
            Some(Ordered { judged: 0, .. }) => {
                writeln!(
                    f,
                    "by the order of commits: not judged, since every transaction meets one whose place is not known"
                )?;
            }
            Some(Ordered { judged, not_judged, .. }) => {
                let all = judged + not_judged;
                writeln!(
                    f,
                    "by the order of commits: {level}; {judged} of {all} transactions judged, the others meet one whose place is not known"
                )?;
            }
        }
        for picture in &self.pictures {
            write!(f, "\n{}\n", picture.trim_end())?;
        }
        Ok(())
    }
}
