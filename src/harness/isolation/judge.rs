//! The verdict on a history.

use std::fmt;
use std::time::Duration;

use adya::{Opts, Valid, Workload};

/// What a database promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As if one transaction came after the other, each at a moment between its beginning and its end.
    StrictSerializable,
    /// As if one came after the other.
    Serializable,
    /// Each reads one moment, and two that write the same do not both succeed.
    SnapshotIsolation,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::StrictSerializable => "strict-serializable",
            Level::Serializable => "serializable",
            Level::SnapshotIsolation => "snapshot-isolation",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().replace('-', " "))
    }
}

/// What transactions do in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// They append to lists, and read them.
    ListAppend,
    /// They write registers, and read them.
    RwRegister,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Nothing in it speaks against the level.
    Holds,
    /// The level is not kept.
    Violated {
        /// By their names in the literature: `G-single-item`, for example.
        anomalies: Vec<String>,
        /// Of the first of them: which transactions, and why one comes before the other and behind it.
        proof: String,
    },
    /// The checker says nothing: there is too little in the history, or it was too long.
    Unknown(String),
}

/// Judges a history in one of Elle's formats (JSON lines, a JSON array, EDN).
///
/// # Errors
/// What of the text is no history.
pub fn judge(text: &str, shape: Shape, level: Level) -> Result<Judged, String> {
    let history = adya::History::parse(text).map_err(|error| error.to_string())?;
    let options = Opts { models: vec![level.name().to_owned()], timeout: Duration::from_secs(30), ..Opts::default() };
    let workload = match shape {
        Shape::ListAppend => Workload::ListAppend,
        Shape::RwRegister => Workload::RwRegister,
    };
    let report = adya::check(&history, workload, &options);
    let proof = report.anomalies.values().flatten().next().map(|anomaly| anomaly.explanation.clone());
    Ok(match report.valid {
        Valid::True => Judged::Holds,
        Valid::False => Judged::Violated { anomalies: report.anomaly_types, proof: proof.unwrap_or_default() },
        Valid::Unknown => Judged::Unknown(report.anomaly_types.join(", ")),
    })
}
