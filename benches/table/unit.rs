//! What a figure is counted in.

/// Criterion's files do not say; the group's name does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    Nanoseconds,
    Bytes,
    /// A ratio.
    Times,
}

impl Unit {
    pub fn of_group(group: &str) -> Self {
        if group.starts_with("memory: ") { Unit::Bytes } else { Unit::Nanoseconds }
    }

    pub fn show(self, value: f64) -> String {
        match (self, value.abs()) {
            (Unit::Times, _) => format!("{value:.2}"),
            (Unit::Bytes, _) => format!("{:.1} MiB", value / 1024.0 / 1024.0),
            (Unit::Nanoseconds, ..1e3) => format!("{value:.0} ns"),
            (Unit::Nanoseconds, 1e3..1e6) => format!("{:.1} us", value / 1e3),
            (Unit::Nanoseconds, _) => format!("{:.1} ms", value / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_shown_in_the_unit_of_its_group() {
        let shown = [("memory: peak", 3e6), ("writer: p99", 3e6), ("writer: p99", 3e4), ("writer: p99", 3.0)];
        let shown = shown.map(|(group, value)| Unit::of_group(group).show(value));
        assert_eq!(shown, ["2.9 MiB", "3.0 ms", "30.0 us", "3 ns"]);
        assert_eq!(Unit::Times.show(1.0 / 3.0), "0.33");
    }
}
