//! Benchmarks as files: YAML in a folder, one each.
//!
//! ```yaml
//! name: transfer
//! prompt: Move 5 coins from A to B.
//! steps:
//!   - say: Looking at the accounts
//!     take_ms: 20
//!   - call: transfer
//!     input: A, B, 5
//!     take_ms: 40
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::model::BenchmarkId;
use super::write::now_ms;
use super::{Error, Result, Runs, Store};
use crate::pool::Transaction;

/// No benchmark is longer, in bytes.
const LONGEST: u64 = 256 * 1024;
/// None has more steps, each counted as often as it is done.
const MOST_STEPS: u64 = 10_000;
/// No step takes longer: an hour.
const LONGEST_STEP_MS: u64 = 60 * 60 * 1000;

/// A benchmark as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BenchmarkFile {
    /// What people call it.
    pub name: String,
    /// What the agent is told.
    pub prompt: String,
    /// What the built-in agent does.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Something that the built-in agent does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Step {
    /// What it writes into its log.
    #[serde(default)]
    pub say: Option<String>,
    /// The tool that it calls.
    #[serde(default)]
    pub call: Option<String>,
    /// What it gives the tool.
    #[serde(default)]
    pub input: Option<String>,
    /// About how long it takes.
    #[serde(default)]
    pub take_ms: u64,
    /// How often it does so.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

impl BenchmarkFile {
    /// Reads a benchmark.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let steps: u64 = file.steps.iter().map(|step| u64::from(step.times)).sum();
        let longest = file.steps.iter().map(|step| step.take_ms).max().unwrap_or(0);
        match () {
            () if steps > MOST_STEPS => {
                Err(format!("`steps` come to {steps}: a benchmark has at most {MOST_STEPS}, each counted `times`"))
            }
            () if longest > LONGEST_STEP_MS => {
                Err(format!("`take_ms` is {longest}: a step takes at most {LONGEST_STEP_MS}, an hour"))
            }
            () if file.name.trim().is_empty() => Err("`name` is empty: give it one".to_owned()),
            () if file.prompt.trim().is_empty() => Err("`prompt` is empty: say what the agent is to do".to_owned()),
            () => Ok(file),
        }
    }
}

impl<S: Store> Runs<S> {
    /// Stores a benchmark, or changes what is stored of it: its id.
    ///
    /// # Errors
    /// What [`PooledDatabaseWriter::write`](crate::PooledDatabaseWriter::write) returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, it is stored or is not.
    pub async fn upsert_benchmark(&self, file: &BenchmarkFile) -> Result<BenchmarkId> {
        let mut ids = self.upsert(vec![file.clone()]).await?;
        Ok(ids.remove(0))
    }

    /// Stores every benchmark (`*.yml`, `*.yaml`) of a folder, all or none: their ids, by the names of their files.
    ///
    /// # Errors
    /// [`Error::File`] for the first that cannot be read; what
    /// [`PooledDatabaseWriter::write`](crate::PooledDatabaseWriter::write) returns.
    ///
    /// # Cancel safety
    /// Dropped half-way, all are stored or none.
    pub async fn sync_benchmarks(&self, folder: impl AsRef<Path>) -> Result<Vec<BenchmarkId>> {
        let folder = folder.as_ref().to_owned();
        let reads = tokio::task::spawn_blocking(move || read_folder(&folder));
        let files = reads.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        self.upsert(files).await
    }

    async fn upsert(&self, files: Vec<BenchmarkFile>) -> Result<Vec<BenchmarkId>> {
        let work = async move |tx: &mut Transaction<'_>| {
            let mut ids = Vec::with_capacity(files.len());
            for file in &files {
                let id = BenchmarkId::of(&file.name, &file.prompt);
                let content = serde_json::to_string(file).map_err(|error| problem(&file.name, error))?;
                let sql = "INSERT INTO benchmarks (id, name, prompt, content, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                           ON CONFLICT (id) DO UPDATE SET content = excluded.content, updated_ms = excluded.updated_ms";
                let row = (id.as_str(), file.name.as_str(), file.prompt.as_str(), content, now_ms());
                tx.execute(sql, row).await?;
                ids.push(id);
            }
            Ok(ids)
        };
        self.db.write(work).await
    }
}

fn problem(path: impl ToString, problem: impl ToString) -> Error {
    Error::File { path: path.to_string(), problem: problem.to_string() }
}

/// Every benchmark of a folder, by the names of their files.
fn read_folder(folder: &Path) -> Result<Vec<BenchmarkFile>> {
    let entries = std::fs::read_dir(folder).map_err(|error| problem(folder.display(), error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| problem(folder.display(), error))?.path();
        if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> Result<BenchmarkFile> {
    let told = |error: &dyn ToString| problem(path.display(), error.to_string());
    let length = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    if length > LONGEST {
        return Err(told(&format!("it has {length} bytes, a benchmark has at most {LONGEST}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
    BenchmarkFile::parse(&text).map_err(|error| told(&error))
}
