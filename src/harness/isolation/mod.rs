//! Isolation, judged from outside: what transactions read and wrote, recorded as their callers saw it, and two checkers of it.
//!
//! Transactions append to lists, or write registers, and read them (`workload`), by every way in that the library has (`ways`). Each value
//! is written once, so a list that is read tells the order of all that was appended to it, and with many of them the order of
//! transactions. The history (`history`) is in Elle's format, and so can be judged elsewhere, too, as other histories can be here
//! (`poolproof check`).
//!
//! The first checker (`graph`) was not written here: the crate `adya` does what Elle does (Kingsbury and Alvaro, "Elle: Inferring
//! isolation anomalies from experimental observations", VLDB 2020). The second (`order`) goes through the order of commits that the
//! library told. `verdict` asks both, `picture` shows an anomaly, `flaws` are what they must find.

mod flaws;
mod graph;
mod history;
mod order;
mod picture;
mod verdict;
mod ways;
mod workload;

pub use self::flaws::Flaw;
pub use self::graph::{Judged, Level, judge, judge_text};
pub use self::history::{Event, History, Kind, MicroOp, Place, Shape};
pub use self::order::{Ordered, Violation, judge_by_order};
pub use self::verdict::Verdict;
pub use self::ways::Way;
pub use self::workload::Workload;
