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
//!
//! # Code of your own
//!
//! Note each transaction twice: when it is asked for, and when it is over, with what it read. Give each value once. A caller has one
//! transaction at a time; one of which nobody knows what became of it (`Kind::Info`) needs a new number for its caller from then on.
//!
//! ```
//! use poolproof::harness::isolation::{History, Kind, Level, MicroOp, Place, Shape, Verdict};
//! use poolproof::{Error, PooledDatabaseWriter};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let db = PooledDatabaseWriter::open(folder.path().join("app.db")).await?;
//! db.execute("CREATE TABLE seats (id INTEGER PRIMARY KEY, taken_by INTEGER)", ()).await?;
//! let history = History::new(Shape::RwRegister);
//! for guest in 1..=2 {
//!     let (read, write) = (|found| MicroOp::Read(7, found), MicroOp::Write(7, guest));
//!     history.note(Kind::Invoke, guest, "take", vec![read(None), write.clone()], None);
//!     let took = db
//!         .write(async move |tx| {
//!             let mut rows = tx.query("SELECT taken_by FROM seats WHERE id = 7", ()).await?;
//!             let found: Option<i64> = rows.next().await?.map(|row| row.get(0)).transpose()?;
//!             drop(rows);
//!             tx.execute("INSERT OR REPLACE INTO seats VALUES (7, ?1)", (guest,)).await?;
//!             Ok::<_, Error>(found)
//!         })
//!         .await?;
//!     let place = Place::Commit(0, took.token.number(), took.position);
//!     let found = Some(took.value.into_iter().collect());
//!     history.note(Kind::Ok, guest, "take", vec![read(found), write], Some(place));
//! }
//! let verdict = Verdict::of(&history, Level::StrictSerializable)?;
//! assert!(verdict.holds(), "{verdict}");
//! // For `poolproof check`, or for elle-cli.
//! println!("{}", history.to_json_lines());
//! # Ok(())
//! # }
//! ```

mod flaws;
mod graph;
mod history;
mod intake;
mod order;
mod picture;
mod run;
mod verdict;
mod ways;
mod workload;

pub use self::flaws::Flaw;
pub use self::graph::{Judged, Level, judge};
pub use self::history::{Event, History, Kind, MicroOp, Place, Shape};
pub use self::order::{Ordered, Violation, judge_by_order};
pub use self::run::{Isolation, IsolationReport};
pub use self::verdict::{Verdict, VerdictReport};
pub use self::ways::Way;
pub use self::workload::Workload;
