//! Isolation, judged from outside: what transactions read and wrote, recorded as their callers saw it, and a checker that was
//! not written here (the crate `adya`, which does what Elle does: Kingsbury and Alvaro, "Elle: Inferring isolation anomalies from
//! experimental observations", VLDB 2020).
//!
//! Transactions append to lists and read them (`lists`), by every way in that the library has. Each appended value is there once,
//! so a list that is read tells the order of all that was appended to it, and with many of them the order of transactions. The
//! history (`history`) is in Elle's format, and so can be judged elsewhere, too, as other histories can be here
//! (`poolproof check`). `flaws` are what the checker must find.

mod flaws;
mod history;
mod judge;
mod lists;

pub use self::flaws::Flaw;
pub use self::history::{Event, History, Kind, MicroOp};
pub use self::judge::{Judged, Level, Shape, judge};
pub use self::lists::{Lists, Way};
