//! The phases as a table, as wide as there is room for.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use poolproof::harness::prove::Phase;

use super::mark;
use crate::output::{micros, number};

/// Columns of the whole table, at most. A terminal with fewer gets a table of at most 60.
const WHOLE: u16 = 100;

/// A column: its head, what a phase has in it, and whether the short table has it too.
struct Column {
    head: &'static str,
    cell: fn(&Phase) -> String,
    is_number: bool,
    is_short: bool,
}

const fn text(head: &'static str, cell: fn(&Phase) -> String, is_short: bool) -> Column {
    Column { head, cell, is_number: false, is_short }
}

const fn count(head: &'static str, cell: fn(&Phase) -> String, is_short: bool) -> Column {
    Column { head, cell, is_number: true, is_short }
}

const COLUMNS: [Column; 11] = [
    text("phase", name, true),
    text("turso", |phase| phase.engine.trim_start_matches("turso ").to_owned(), true),
    text("by", |phase| phase.connections.clone(), false),
    count("runs", |phase| number(phase.runs), false),
    count("ops", |phase| number(phase.operations), false),
    count("panics", |phase| number(phase.panics), true),
    count("failed", |phase| number(phase.failed), true),
    count("acked", |phase| number(phase.acknowledged), false),
    count("lost", |phase| number(phase.lost), true),
    count("p99", |phase| micros(phase.p99_us), false),
    text("", |phase| mark(phase).to_owned(), true),
];

fn name(phase: &Phase) -> String {
    let mut name = phase.name.clone();
    for (count, how) in [(phase.hung, "hung"), (phase.died, "died")] {
        if count > 0 {
            name.push_str(&format!(" ({count} {how})"));
        }
    }
    name
}

/// Columns of the terminal; of the whole table where it goes elsewhere.
pub fn width() -> u16 {
    Table::new().width().unwrap_or(WHOLE)
}

/// The table, in at most 100 columns; if the terminal has fewer, in at most 60.
pub fn of(phases: &[Phase], width: u16) -> String {
    let columns: Vec<_> = COLUMNS.iter().filter(|column| column.is_short || width >= WHOLE).collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| column.head));
    for phase in phases {
        table.add_row(columns.iter().map(|column| (column.cell)(phase)));
    }
    for (place, column) in columns.iter().enumerate() {
        if let Some(shown) = table.column_mut(place) {
            shown.set_padding((0, 1));
            if column.is_number {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    // Blanks behind the last column would wrap in a terminal that is just as wide.
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Phases whose cells are as wide as they ever are.
    fn phases() -> [Phase; 2] {
        let phase = Phase {
            engine: "turso 0.2.2".to_owned(),
            required: true,
            runs: 100,
            operations: 100_000,
            panics: 12_345,
            failed: 38_248,
            acknowledged: 100_000,
            lost: 1_000,
            p99_us: 123_456,
            ..Phase::default()
        };
        let named = |name: &str, connections: &str, hung| Phase {
            name: name.to_owned(),
            connections: connections.to_owned(),
            hung,
            ..phase.clone()
        };
        [named("1,000 at once, cold", "double-holder", 0), named("its own I/O", "separate", 1)]
    }

    fn widest(width: u16) -> usize {
        of(&phases(), width).lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn the_table_fits_100_columns_and_a_narrow_terminal_gets_a_shorter_one() {
        assert!((80..=100).contains(&widest(100)) && widest(500) == widest(100), "{}", of(&phases(), 100));
        assert!(widest(99) <= 60, "{}", of(&phases(), 99));
    }

    #[test]
    fn both_tables_say_what_decides_the_verdict() {
        for width in [60, 100] {
            let table = of(&phases(), width);
            for said in ["12,345", "38,248", "1,000", "FAILS", "its own I/O (1 hung)"] {
                assert!(table.contains(said), "{said}: {table}");
            }
        }
    }
}
