//! Programs in numbers: how many were judged, and the first that differs.

use std::ops::Range;
use std::time::Instant;

use serde::Serialize;

use super::{Features, Searched, Subject, search_of};
use crate::harness::drive::Control;
use crate::harness::panics;
use crate::harness::run::RunReport;
use crate::harness::stress::CannotRun;
use crate::harness::subjects::ENGINE;

/// A search through the programs of these seeds.
#[derive(Clone, Debug)]
pub struct Statements {
    /// Who runs them beside the engine.
    pub subject: Subject,
    /// Which programs.
    pub seeds: Range<u64>,
}

/// What it came to. Field names are stable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatementsReport {
    /// The run: its operations are statements, and what was acknowledged are calls that were done.
    #[serde(flatten)]
    pub run: RunReport,
    /// Programs that were run.
    pub programs: u64,
    /// Calls that the library refused without asking the engine, as its documentation says.
    pub refused: u64,
    /// Calls that failed, as they do on the engine alone.
    pub failed_calls: u64,
    /// What the statements asked for, and what became of those that did.
    pub features: Features,
}

impl Statements {
    /// Runs it, up to the first that differs, or until it is stopped.
    ///
    /// # Errors
    /// There is no folder for files.
    ///
    /// # Panics
    /// Inside a runtime.
    pub fn run(&self, control: &Control) -> Result<StatementsReport, CannotRun> {
        if let Err(error) = tempfile::tempdir() {
            let place = std::env::temp_dir();
            return Err(CannotRun::new(format!(
                "cannot make a folder in {}: {error}; set TMPDIR to another",
                place.display()
            )));
        }
        let began = Instant::now();
        let recording = panics::record(panics::RUN);
        let Searched { programs, statements, calls, refused, failed, features, differ } =
            search_of(self.subject, self.seeds.clone(), control);
        let panicked = panics::take();
        drop(recording);
        let seconds = began.elapsed().as_secs_f64();
        let mut run = RunReport {
            engine: ENGINE.to_owned(),
            connections: self.subject.name().to_owned(),
            operations: statements,
            stopped: control.is_stopped(),
            concurrency: 1,
            workers: 1,
            seed: self.seeds.start,
            panics: panicked.count,
            locations: panicked.locations,
            messages: panicked.messages,
            acknowledged: calls.saturating_sub(refused + failed),
            ops_per_s: statements as f64 / seconds.max(f64::EPSILON),
            seconds,
            ..RunReport::default()
        };
        let Range { start, end } = self.seeds;
        run.repeat = match differ.first().and_then(|difference| difference.seed) {
            Some(seed) => self.line(seed, seed + 1),
            None => self.line(start, end),
        };
        if let Some(difference) = differ.first() {
            run.finding(|| format!("a program that is not as on the engine alone\n{difference}"));
        }
        Ok(StatementsReport { run: run.conclude(), programs, refused, failed_calls: failed, features })
    }

    fn line(&self, start: u64, end: u64) -> String {
        let subject = match self.subject {
            Subject::Library => String::new(),
            other => format!(" --subject {}", other.name()),
        };
        format!("poolproof statements{subject} --programs {start}..{end}")
    }
}
