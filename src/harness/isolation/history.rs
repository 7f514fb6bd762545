//! What callers saw of their transactions, in the order in which they saw it.

use std::fmt::Write;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// What of a transaction an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MicroOp {
    /// A value was put behind a list. Each value is put there once.
    Append(i64, i64),
    /// A list was read; `None` until it is known.
    Read(i64, Option<Vec<i64>>),
}

/// Something that a caller did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// Who: one that has at most one transaction at a time.
    pub process: i64,
    /// How: by which way in, for a reader.
    pub way: &'static str,
    /// Nanoseconds since the recording began.
    pub time: u64,
    /// Its operations, in their order.
    pub value: Vec<MicroOp>,
}

/// Events as they happened.
#[derive(Debug)]
pub struct History {
    began: Instant,
    events: Mutex<Vec<Event>>,
}

impl Default for History {
    fn default() -> Self {
        Self { began: Instant::now(), events: Mutex::default() }
    }
}

impl History {
    /// Notes an event that happens now.
    pub fn note(&self, kind: Kind, process: i64, way: &'static str, value: Vec<MicroOp>) {
        let mut events = self.events.lock();
        let time = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        events.push(Event { kind, process, way, time, value });
    }

    /// All events.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// How many transactions were committed.
    #[must_use]
    pub fn committed(&self) -> usize {
        self.events.lock().iter().filter(|event| event.kind == Kind::Ok).count()
    }

    /// In Elle's format: a line of JSON for each event.
    #[must_use]
    pub fn to_json_lines(&self) -> String {
        let mut text = String::new();
        for (index, Event { kind, process, way, time, value }) in self.events.lock().iter().enumerate() {
            let kind = match kind {
                Kind::Invoke => "invoke",
                Kind::Ok => "ok",
                Kind::Fail => "fail",
                Kind::Info => "info",
            };
            let value: Vec<Value> = value.iter().map(to_json).collect();
            let line =
                json!({ "index": index, "type": kind, "process": process, "way": way, "time": time, "value": value });
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

fn to_json(operation: &MicroOp) -> Value {
    match operation {
        MicroOp::Append(key, value) => json!(["append", key, value]),
        MicroOp::Read(key, found) => json!(["r", key, found]),
    }
}
