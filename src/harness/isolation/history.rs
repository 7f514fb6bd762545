//! What callers saw of their transactions, in the order in which they saw it, in Elle's format.

use std::fmt::{self, Write};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What of a transaction an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was asked for.
    Invoke,
    /// It is committed.
    Ok,
    /// Nothing of it was written.
    Fail,
    /// Nobody knows.
    Info,
}

/// What transactions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// They append to lists, and read them.
    ListAppend,
    /// They write registers, and read them.
    RwRegister,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::ListAppend => "list-append",
            Shape::RwRegister => "rw-register",
        })
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MicroOp {
    /// A value was put behind a list. Each value is put there once.
    Append(i64, i64),
    /// A register was given a value. Each value is written once.
    Write(i64, i64),
    /// What a list, or a register, held: a register at most one value. `None` until it is known.
    Read(i64, Option<Vec<i64>>),
}

impl MicroOp {
    /// What it is about.
    #[must_use]
    pub fn key(&self) -> i64 {
        match self {
            MicroOp::Append(key, _) | MicroOp::Write(key, _) | MicroOp::Read(key, _) => *key,
        }
    }

    /// What it writes.
    #[must_use]
    pub fn written(&self) -> Option<i64> {
        match self {
            MicroOp::Append(_, value) | MicroOp::Write(_, value) => Some(*value),
            MicroOp::Read(..) => None,
        }
    }

    fn to_json(&self, shape: Shape) -> Value {
        match (self, shape) {
            (MicroOp::Append(key, value), _) => json!(["append", key, value]),
            (MicroOp::Write(key, value), _) => json!(["w", key, value]),
            (MicroOp::Read(key, found), Shape::ListAppend) => json!(["r", key, found]),
            (MicroOp::Read(key, found), Shape::RwRegister) => {
                json!(["r", key, found.as_ref().and_then(|found| found.last())])
            }
        }
    }

    /// Of the end of a transaction, where `null` is a register that nobody has written.
    fn from_json(value: &Value, is_over: bool) -> Option<Self> {
        let (name, key, value) = (value.get(0)?.as_str()?, value.get(1)?.as_i64()?, value.get(2)?);
        Some(match (name, value) {
            ("append", value) => MicroOp::Append(key, value.as_i64()?),
            ("w", value) => MicroOp::Write(key, value.as_i64()?),
            ("r", Value::Null) => MicroOp::Read(key, is_over.then(Vec::new)),
            ("r", Value::Array(list)) => {
                MicroOp::Read(key, Some(list.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>()?))
            }
            ("r", value) => MicroOp::Read(key, Some(vec![value.as_i64()?])),
            _ => return None,
        })
    }
}

/// Where in the order of commits a transaction is, as far as the library told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// It is a write of the lane's: of which writer (counted from 0 in the history), in which commit, at which position there.
    Commit(u32, u64, u32),
    /// It is a snapshot: of which writer, which commit it includes at least, and which at most.
    Snapshot(u32, u64, u64),
}

/// Something that a caller did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// Who: one that has at most one transaction at a time.
    pub process: i64,
    /// How: by which way in, for a reader.
    pub way: String,
    /// Nanoseconds since the recording began; in a simulated world, of the world's time.
    pub time: u64,
    /// Its operations, in their order.
    pub value: Vec<MicroOp>,
    /// At its end, if the library told.
    pub place: Option<Place>,
}

/// Events as they happened.
#[derive(Debug)]
pub struct History {
    /// What the transactions do.
    pub shape: Shape,
    began: Instant,
    /// Nothing is recorded without.
    events: Option<Mutex<Vec<Event>>>,
}

/// A line of JSON.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: Kind,
    process: i64,
    #[serde(default)]
    way: String,
    #[serde(default)]
    time: u64,
    value: Vec<Value>,
    place: Option<Place>,
    f: Option<String>,
}

impl History {
    /// Records from now on.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self { shape, began: Instant::now(), events: Some(Mutex::default()) }
    }

    /// Records nothing: to see that recording changes nothing.
    #[must_use]
    pub fn off(shape: Shape) -> Self {
        Self { events: None, ..Self::new(shape) }
    }

    /// Notes an event that happens now.
    pub fn note(&self, kind: Kind, process: i64, way: &str, value: Vec<MicroOp>, place: Option<Place>) {
        let Some(events) = &self.events else { return };
        let mut events = events.lock();
        let time = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        events.push(Event { kind, process, way: way.to_owned(), time, value, place });
    }

    /// All events.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.with(<[Event]>::to_vec)
    }

    /// Looks at them where they are: there may be many.
    pub(super) fn with<R>(&self, look: impl FnOnce(&[Event]) -> R) -> R {
        match &self.events {
            Some(events) => look(&events.lock()),
            None => look(&[]),
        }
    }

    /// How many transactions ended so.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.with(|events| events.iter().filter(|event| event.kind == kind).count())
    }

    /// In Elle's format: a line of JSON for each event. `way` and `place` are ours.
    #[must_use]
    pub fn to_json_lines(&self) -> String {
        self.with(|events| {
            let mut text = String::new();
            for (index, event) in events.iter().enumerate() {
                let value: Vec<Value> = event.value.iter().map(|operation| operation.to_json(self.shape)).collect();
                let mut line = json!({
                    "index": index, "type": event.kind, "process": event.process, "f": "txn", "way": event.way,
                    "time": event.time, "value": value
                });
                if let (Some(place), Some(line)) = (event.place, line.as_object_mut()) {
                    line.insert("place".to_owned(), json!(place));
                }
                let _ = writeln!(text, "{line}");
            }
            text
        })
    }

    /// Reads lines of JSON with numbers for keys and values, as [`to_json_lines`](Self::to_json_lines) writes them.
    ///
    /// # Errors
    /// Which line is none, and why.
    pub fn from_json_lines(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read: Result<Vec<(Event, bool)>, String> = lines.map(|(number, line)| parse(number + 1, line)).collect();
        let (events, reads_lists): (Vec<Event>, Vec<bool>) = read?.into_iter().unzip();
        let is_register = |operation: &MicroOp| matches!(operation, MicroOp::Write(..));
        let shape = match events.iter().flat_map(|event| &event.value).any(is_register) {
            true => Shape::RwRegister,
            false => Shape::ListAppend,
        };
        match reads_lists.iter().position(|reads_a_list| *reads_a_list) {
            Some(place) if shape == Shape::RwRegister => {
                Err(format!("event {place} reads a list, and others write registers: give a file to each"))
            }
            _ => Ok(Self { events: Some(Mutex::new(events)), ..Self::new(shape) }),
        }
    }
}

/// An event, and whether it reads a list.
fn parse(number: usize, line: &str) -> Result<(Event, bool), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
    if let Some(f) = line.f.filter(|f| f != "txn") {
        return Err(format!("line {number}: an event of {f:?} is no transaction"));
    }
    let reads_a_list = line.value.iter().any(|operation| operation.get(2).is_some_and(Value::is_array));
    let is_over = line.kind == Kind::Ok;
    let value: Option<Vec<MicroOp>> = line.value.iter().map(|value| MicroOp::from_json(value, is_over)).collect();
    let value = value.ok_or_else(|| format!("line {number}: an operation is none of append, w and r with numbers"))?;
    if let Some(Place::Snapshot(_, at_least, at_most)) = line.place
        && at_least > at_most
    {
        return Err(format!(
            "line {number}: a snapshot cannot include {at_least} commits at least and {at_most} at most"
        ));
    }
    let Line { kind, process, way, time, place, .. } = line;
    Ok((Event { kind, process, way, time, value, place }, reads_a_list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let history = History::new(Shape::ListAppend);
        history.note(Kind::Invoke, 3, "write", vec![MicroOp::Append(1, 2), MicroOp::Read(1, None)], None);
        let done = vec![MicroOp::Append(1, 2), MicroOp::Read(1, Some(vec![7, 2]))];
        history.note(Kind::Ok, 3, "write", done, Some(Place::Commit(0, 5, 1)));
        history.note(Kind::Info, 3, "snapshot", vec![MicroOp::Read(2, None)], Some(Place::Snapshot(0, 4, 5)));
        let again = History::from_json_lines(&history.to_json_lines()).unwrap();
        assert_eq!((again.events(), again.shape), (history.events(), Shape::ListAppend));
        let registers = History::new(Shape::RwRegister);
        let value = vec![MicroOp::Write(1, 2), MicroOp::Read(1, Some(vec![2])), MicroOp::Read(4, Some(vec![]))];
        registers.note(Kind::Ok, 0, "write", value, None);
        let again = History::from_json_lines(&registers.to_json_lines()).unwrap();
        assert_eq!((again.events(), again.shape), (registers.events(), Shape::RwRegister));
    }

    #[test]
    fn what_is_no_history_is_told_with_its_line() {
        for (text, said) in [
            ("{\"type\":\"ok\",\"process\":0,\"value\":[]}\n{", "line 2: "),
            (r#"{"type":"done","process":0,"value":[]}"#, "line 1: unknown variant `done`"),
            (r#"{"type":"ok","process":0,"value":[["x",1,2]]}"#, "line 1: an operation is none"),
            (r#"{"type":"ok","process":0,"value":[["r","x",[]]]}"#, "line 1: an operation is none"),
        ] {
            let error = History::from_json_lines(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
