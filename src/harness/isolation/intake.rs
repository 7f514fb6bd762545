//! What a history has to be before it is judged, and the form in which both checkers can judge it: a checker that is given less says
//! "holds" of what it has not looked at.
//!
//! A transaction that never ends may have been committed, as one of which nobody knows. One that failed, or of which nobody knows, has
//! what it was asked to write, whatever is noted at its end, and its reads are nobody's. What does not fit together is refused: two
//! transactions of one process at the same time, an end without a beginning or with other writes, a value that is written twice,
//! lists and registers in one file.

use std::collections::{HashMap, HashSet};

use adya::History;
use adya::history::{Id, Mop, Op, OpType, ReadValue};
use serde_json::Value;

use super::history::Shape;

/// How deep brackets may be: whoever reads them goes one call deeper for each.
const DEPTH: usize = 64;

/// Refuses a text that is nested so deeply that reading it would overflow the stack.
pub(super) fn is_shallow(text: &str) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' | b'(' if !in_string => depth += 1,
            b']' | b'}' | b')' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return Err(format!("it is nested more than {DEPTH} deep"));
        }
    }
    Ok(())
}

/// How many events a text tells: those of a nemesis are not read any further. In EDN each has one keyword `:type`.
///
/// # Errors
/// One that would not be read any further is a transaction.
pub(super) fn events(text: &str) -> Result<usize, String> {
    let all: Option<Vec<Value>> = serde_json::from_str(text).ok().or_else(|| {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).ok()).collect()
    });
    let Some(all) = all else {
        // Every other piece between quotes is a string.
        let outside = text.split('"').step_by(2);
        let words = outside.flat_map(|piece| piece.split(|c: char| c.is_whitespace() || "{},".contains(c)));
        return Ok(words.filter(|word| *word == ":type").count());
    };
    let is_transaction =
        |event: &Value| event["value"].as_array().is_some_and(|value| value.iter().any(Value::is_array));
    let of_nobody = |event: &Value| !event["process"].is_null() && event["process"].as_i64().is_none();
    match all.iter().position(|event| is_transaction(event) && of_nobody(event)) {
        Some(place) => Err(format!("the process of event {place} is {}, which is no number", all[place]["process"])),
        None => Ok(all.len()),
    }
}

/// A history in which everything is in its place, and what speaks against it whatever the level.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) history: History,
    pub(super) shape: Shape,
    /// A read of what nobody wrote: by which event, and in words.
    pub(super) unwritten: Option<(usize, String)>,
}

fn writes(operations: &[Mop]) -> Vec<Mop> {
    operations.iter().filter(|operation| !matches!(operation, Mop::Read { .. })).cloned().collect()
}

/// Takes a history in: of this shape, or of that of what it reads and writes.
///
/// # Errors
/// What does not fit together, by the places of its events, counted from 0.
pub(super) fn take(history: History, known: Option<Shape>) -> Result<Taken, String> {
    let History { mut ops, interner, .. } = history;
    // Reads of what nobody has written yet are of either.
    let shape = shape(&ops)?.or(known).ok_or("no transaction in it reads or writes anything")?;
    let mut open: HashMap<i64, usize> = HashMap::new();
    for place in 0..ops.len() {
        let Some(process) = ops[place].process else { continue };
        if ops[place].kind == OpType::Invoke {
            if let Some(before) = open.insert(process, place) {
                return Err(format!("process {process} begins event {place} before its event {before} has ended"));
            }
            continue;
        }
        let Some(invoked) = open.remove(&process) else {
            return Err(format!("event {place} of process {process} ends what never began"));
        };
        let asked = writes(&ops[invoked].value);
        if ops[place].kind != OpType::Ok {
            ops[place].value = asked;
        } else if !ops[invoked].value.is_empty() && writes(&ops[place].value) != asked {
            return Err(format!("event {place} ends what event {invoked} began with other writes"));
        }
        if shape == Shape::ListAppend {
            for operation in &mut ops[place].value {
                if let Mop::Read { value: value @ ReadValue::Nil, .. } = operation {
                    *value = ReadValue::List(Vec::new());
                }
            }
        }
    }
    let mut never_ended: Vec<usize> = open.into_values().collect();
    never_ended.sort_unstable();
    for invoked in never_ended {
        let index = ops.iter().map(|op| op.index).max().map_or(0, |index| index + 1);
        let Op { process, time, .. } = ops[invoked];
        let value = writes(&ops[invoked].value);
        ops.push(Op { index, kind: OpType::Info, process, value, time });
    }
    if shape == Shape::RwRegister {
        ops = with_those_that_were_seen(ops);
    }
    let history = History::from_ops(ops, interner);
    let written = written_once(&history)?;
    let unwritten = unwritten(&history, &written);
    Ok(Taken { history, shape, unwritten })
}

/// The checker of registers looks at none of which nobody knows. One whose write was read was committed, and ended who knows when: it is taken
/// for one that ended last.
fn with_those_that_were_seen(ops: Vec<Op>) -> Vec<Op> {
    let read: HashSet<(Id, Id)> = ops
        .iter()
        .filter(|op| op.kind == OpType::Ok)
        .flat_map(|op| &op.value)
        .filter_map(|operation| match operation {
            Mop::Read { key, value: ReadValue::Scalar(value) } => Some((*key, *value)),
            _ => None,
        })
        .collect();
    let is_read = |operation: &Mop| matches!(operation, Mop::Write { key, value } if read.contains(&(*key, *value)));
    let last: HashMap<Option<i64>, usize> = ops.iter().enumerate().map(|(place, op)| (op.process, place)).collect();
    let mut next = ops.iter().map(|op| op.index).max().map_or(0, |index| index + 1);
    let (mut known, mut seen) = (Vec::new(), Vec::new());
    for (place, op) in ops.into_iter().enumerate() {
        // Of a process that goes on it would end another.
        match op.kind == OpType::Info && op.value.iter().any(is_read) && last[&op.process] == place {
            true => {
                seen.push(Op { kind: OpType::Ok, index: next, ..op });
                next += 1;
            }
            false => known.push(op),
        }
    }
    known.extend(seen);
    known
}

fn shape(ops: &[Op]) -> Result<Option<Shape>, String> {
    let mut seen: Option<(Shape, usize)> = None;
    for (place, op) in ops.iter().enumerate() {
        for operation in &op.value {
            let of = match operation {
                Mop::Append { .. } | Mop::Read { value: ReadValue::List(_), .. } => Shape::ListAppend,
                Mop::Write { .. } | Mop::Read { value: ReadValue::Scalar(_), .. } => Shape::RwRegister,
                Mop::Read { value: ReadValue::Nil, .. } => continue,
            };
            match seen {
                Some((shape, before)) if shape != of => {
                    return Err(format!(
                        "event {before} is of {shape}, and event {place} of {of}: give a file to each"
                    ));
                }
                _ => seen = Some((of, place)),
            }
        }
    }
    Ok(seen.map(|(shape, _)| shape))
}

/// Every value that a transaction may have written, if each is so once.
fn written_once(history: &History) -> Result<HashSet<(Id, Id)>, String> {
    let mut written: HashMap<(Id, Id), usize> = HashMap::new();
    for (place, op) in history.ops.iter().enumerate().filter(|(_, op)| op.kind != OpType::Invoke) {
        for operation in &op.value {
            if let Mop::Append { key, value } | Mop::Write { key, value } = operation
                && let Some(before) = written.insert((*key, *value), place)
            {
                let (value, key) = (history.show(*value), history.show(*key));
                return Err(format!(
                    "events {before} and {place} both write {value} to {key}: each value must be written once"
                ));
            }
        }
    }
    Ok(written.into_keys().collect())
}

fn unwritten(history: &History, written: &HashSet<(Id, Id)>) -> Option<(usize, String)> {
    let ended = history.ops.iter().enumerate().filter(|(_, op)| op.kind == OpType::Ok);
    ended.flat_map(|(place, op)| op.value.iter().map(move |operation| (place, operation))).find_map(
        |(place, operation)| {
            let Mop::Read { key, value } = operation else { return None };
            let found = match value {
                ReadValue::Nil => &[][..],
                ReadValue::Scalar(value) => std::slice::from_ref(value),
                ReadValue::List(values) => values,
            };
            let unwritten = found.iter().find(|value| !written.contains(&(*key, **value)))?;
            Some((
                place,
                format!("T{place} reads {} of {}, which nobody wrote", history.show(*unwritten), history.show(*key)),
            ))
        },
    )
}
