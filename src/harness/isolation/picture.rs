//! An anomaly as people read it: columns, one a process, time downward, as schedules are shown; only what has a part in it.

use std::fmt::Write;

use super::history::{Event, History, Kind, MicroOp, Shape};

/// Of the transactions that ended with these events: who asked for what, and what came of it. `T12` is the one that ended at event 12.
#[must_use]
pub fn picture(history: &History, ends: &[usize]) -> String {
    history.with(|events| columns(events, history.shape, ends))
}

fn columns(events: &[Event], shape: Shape, ends: &[usize]) -> String {
    let mut transactions: Vec<(usize, usize)> = ends
        .iter()
        .filter_map(|&end| {
            let process = events.get(end)?.process;
            let before = events[..end].iter().rposition(|event| event.process == process);
            Some((before.filter(|before| events[*before].kind == Kind::Invoke)?, end))
        })
        .collect();
    transactions.sort_unstable();
    transactions.dedup();
    let mut processes: Vec<i64> = transactions.iter().map(|(_, end)| events[*end].process).collect();
    processes.sort_unstable();
    processes.dedup();
    let mut rows: Vec<(usize, String)> = Vec::new();
    for (invoked, ended) in transactions {
        rows.push((invoked, format!("T{ended} begins")));
        rows.push((ended, ending(ended, &events[ended], shape)));
    }
    rows.sort_unstable();
    let heads: Vec<String> = processes.iter().map(|process| format!("process {process}")).collect();
    let column = |index: usize| processes.binary_search(&events[index].process).unwrap_or(0);
    let mut widths: Vec<usize> = heads.iter().map(String::len).collect();
    for (index, text) in &rows {
        widths[column(*index)] = widths[column(*index)].max(text.len());
    }
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> =
            widths.iter().enumerate().map(|(column, width)| format!("{:width$}", cell(column))).collect();
        cells.join(" | ").trim_end().to_owned()
    };
    let mut text = String::new();
    let _ = writeln!(text, "{}", line(&|column| heads[column].clone()));
    for (index, cell) in &rows {
        let _ = writeln!(text, "{}", line(&|other| if other == column(*index) { cell.clone() } else { String::new() }));
    }
    text
}

fn ending(index: usize, event: &Event, shape: Shape) -> String {
    let operations: Vec<String> = event
        .value
        .iter()
        .map(|operation| match (operation, shape) {
            (MicroOp::Append(key, value), _) => format!("append {value} to {key}"),
            (MicroOp::Write(key, value), _) => format!("{key} = {value}"),
            (MicroOp::Read(key, None), _) => format!("read {key}"),
            (MicroOp::Read(key, Some(found)), Shape::ListAppend) => format!("{key} is {}", short(found)),
            (MicroOp::Read(key, Some(found)), Shape::RwRegister) => match found.last() {
                Some(value) => format!("{key} is {value}"),
                None => format!("{key} is unset"),
            },
        })
        .collect();
    let kind = match event.kind {
        Kind::Ok => "",
        Kind::Fail => " (failed)",
        Kind::Info | Kind::Invoke => " (unknown)",
    };
    let way = if event.way.is_empty() { String::new() } else { format!(", {}", event.way) };
    format!("T{index}{kind}{way}: {}", operations.join("; "))
}

/// A list of which the last values tell enough.
pub(super) fn short(list: &[i64]) -> String {
    const SHOWN: usize = 3;
    let numbers = |list: &[i64]| list.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
    match list.len().checked_sub(SHOWN) {
        Some(left_out @ 1..) => format!("[... {left_out} more, {}]", numbers(&list[left_out..])),
        _ => format!("[{}]", numbers(list)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_show_who_had_which_part_in_it() {
        let history = History::new(Shape::ListAppend);
        let read = |found| vec![MicroOp::Read(1, found)];
        history.note(Kind::Invoke, 0, "write", vec![MicroOp::Append(1, 9)], None);
        history.note(Kind::Invoke, 2, "snapshot", read(None), None);
        history.note(Kind::Invoke, 1, "write", vec![MicroOp::Append(2, 7)], None);
        history.note(Kind::Ok, 1, "write", vec![MicroOp::Append(2, 7)], None);
        history.note(Kind::Ok, 0, "write", vec![MicroOp::Append(1, 9)], None);
        history.note(Kind::Ok, 2, "snapshot", read(Some((0..9).collect())), None);
        let shown = "\
process 0               | process 2
T4 begins               |
                        | T5 begins
T4, write: append 9 to 1 |
                        | T5, snapshot: 1 is [... 6 more, 6 7 8]
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&picture(&history, &[5, 4])), squeezed(shown));
        assert!(picture(&history, &[99]).trim().is_empty(), "nothing of a transaction that there is not");
    }
}
