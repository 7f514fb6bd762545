//! The first checker: the graph of what transactions depend on, and the cycles in it that a level forbids (the crate `adya`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use adya::history::{Interner, Mop, Op, OpType, ReadValue, Scalar};
use adya::{Opts, Valid, Workload};

use super::history::{Event, History, Kind, MicroOp, Shape};
use super::intake::{Taken, events, is_shallow, take};

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
    /// All of them, the strictest first.
    pub const ALL: [Level; 3] = [Level::StrictSerializable, Level::Serializable, Level::SnapshotIsolation];

    /// As it is written in one word.
    #[must_use]
    pub fn name(self) -> &'static str {
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

impl FromStr for Level {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Level::ALL.into_iter().find(|level| level.name() == name);
        found.ok_or_else(|| format!("{name:?} is no level: strict-serializable, serializable or snapshot-isolation"))
    }
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
        /// Of the smallest of them: the indices of the events by which its transactions ended.
        ends: Vec<usize>,
        /// Its name, and why one comes before the other and behind it.
        proof: String,
    },
    /// The checker says nothing: there is too little in the history, or it was too long.
    Unknown(String),
}

/// Judges a history.
///
/// # Errors
/// What in it does not fit together.
pub fn judge(history: &History, level: Level) -> Result<Judged, String> {
    let mut interner = Interner::default();
    let operations = history.with(|events| {
        (0..).zip(events).map(|(index, event)| operation(index, event, history.shape, &mut interner)).collect()
    });
    Ok(verdict(&take(adya::History::from_ops(operations, interner), Some(history.shape))?, level))
}

/// Judges a history in one of Elle's formats (JSON lines, a JSON array, EDN). Its shape: whatever it writes. How many of its events are of
/// no client's transaction.
///
/// # Errors
/// What of the text is no history.
pub(super) fn judge_text(text: &str, level: Level) -> Result<(Shape, Judged, usize), String> {
    is_shallow(text)?;
    let history = adya::History::parse(text).map_err(|error| error.to_string())?;
    if history.ops.is_empty() {
        return Err("there is no transaction in it".to_owned());
    }
    let passed_over = events(text)?.saturating_sub(history.ops.len());
    let taken = take(history, None)?;
    Ok((taken.shape, verdict(&taken, level), passed_over))
}

fn operation(index: u64, event: &Event, shape: Shape, interner: &mut Interner) -> Op {
    let kind = match event.kind {
        Kind::Invoke => OpType::Invoke,
        Kind::Ok => OpType::Ok,
        Kind::Fail => OpType::Fail,
        Kind::Info => OpType::Info,
    };
    let mut id = |number: i64| interner.intern(Scalar::Int(number));
    let value = event.value.iter().map(|operation| match operation {
        MicroOp::Append(key, value) => Mop::Append { key: id(*key), value: id(*value) },
        MicroOp::Write(key, value) => Mop::Write { key: id(*key), value: id(*value) },
        MicroOp::Read(key, found) => {
            let value = match (found, shape) {
                (None, _) => ReadValue::Nil,
                (Some(list), Shape::ListAppend) => ReadValue::List(list.iter().map(|value| id(*value)).collect()),
                (Some(list), Shape::RwRegister) => {
                    list.last().map_or(ReadValue::Nil, |value| ReadValue::Scalar(id(*value)))
                }
            };
            Mop::Read { key: id(*key), value }
        }
    });
    let value = value.collect();
    Op { index, kind, process: Some(event.process), value, time: i64::try_from(event.time).ok() }
}

fn verdict(Taken { history, shape, unwritten }: &Taken, level: Level) -> Judged {
    if let Some((end, what)) = unwritten {
        let anomalies = vec!["unwritten-read".to_owned()];
        return Judged::Violated { anomalies, ends: vec![*end], proof: what.clone() };
    }
    let options = Opts {
        models: vec![level.name().to_owned()],
        timeout: Duration::from_secs(30),
        // Of registers the order of versions is not read off: that a transaction which reads a version and writes one writes a later one
        // follows from each of the levels, and from the strictest that real time orders versions.
        wfr_keys: true,
        linearizable_keys: level == Level::StrictSerializable,
        ..Opts::default()
    };
    let workload = match shape {
        Shape::ListAppend => Workload::ListAppend,
        Shape::RwRegister => Workload::RwRegister,
    };
    let report = adya::check(history, workload, &options);
    // Two of them say that there was too little to look at, or too much.
    let is_none = |name: &String| name == "empty-transaction-graph" || name == "cycle-search-timeout";
    let names: Vec<String> = report.anomaly_types.iter().filter(|name| !is_none(name)).cloned().collect();
    // The smallest of those is told that name their transactions.
    let named = names.iter().filter_map(|name| report.anomalies.get(name));
    let first = named.flatten().min_by_key(|anomaly| (anomaly.ops.is_empty(), anomaly.ops.len()));
    match report.valid {
        Valid::True => Judged::Holds,
        Valid::False => Judged::Violated {
            anomalies: names,
            ends: first.map_or(Vec::new(), |first| first.ops.iter().map(|index| *index as usize).collect()),
            proof: first.map(|first| format!("{}: {}", first.kind, first.explanation)).unwrap_or_default(),
        },
        Valid::Unknown => {
            let told = report.anomalies.values().flatten().next();
            Judged::Unknown(told.map(|anomaly| anomaly.explanation.clone()).unwrap_or_default())
        }
    }
}
