//! What the child writes: each write is a pure function of a seed and its id, so that from the id alone everybody knows which
//! rows it has, and what is in them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// `write_id` is deliberately not unique: a write that is applied twice must show as two rows. `tally` is what all
/// transactions have added up, so one that is applied in part or twice shows there too.
pub(super) const SCHEMA: [&str; 4] = [
    "CREATE TABLE pieces (write_id INTEGER NOT NULL, part INTEGER NOT NULL, content TEXT NOT NULL)",
    "CREATE INDEX pieces_by_write ON pieces (write_id, part)",
    "CREATE TABLE tally (written INTEGER NOT NULL)",
    "INSERT INTO tally VALUES (0)",
];
pub(super) const INSERT: &str = "INSERT INTO pieces VALUES (?1, ?2, ?3)";
pub(super) const COUNT: &str = "UPDATE tally SET written = written + ?1";

/// Contents are this long at most. Some fill a page and more, so that the log grows past the engine's 1,000 pages within a
/// few rounds and kills meet checkpoints too.
const LONGEST: u32 = 6_000;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub id: i64,
    /// One: a statement by itself. Several: a transaction, which also counts them in `tally`.
    pub contents: Vec<String>,
    /// Whether the transaction ends by an error of its own, and so must never be seen.
    pub given_up: bool,
}

impl Write {
    pub(super) fn of(seed: u64, id: i64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(id.unsigned_abs());
        let rows = if rng.next_u32().is_multiple_of(2) { 1 } else { 2 + rng.next_u32() % 5 };
        let given_up = rows > 1 && rng.next_u32().is_multiple_of(8);
        let contents = (0..rows).map(|part| content(&mut rng, id, part)).collect();
        Self { id, contents, given_up }
    }

    pub(super) fn is_transaction(&self) -> bool {
        self.contents.len() > 1
    }

    /// The rows, in the order of their parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = (i64, &str)> {
        (0..).zip(self.contents.iter().map(String::as_str))
    }

    pub(super) fn len(&self) -> i64 {
        self.contents.len() as i64
    }
}

fn content(rng: &mut ChaCha8Rng, id: i64, part: u32) -> String {
    let longest = if rng.next_u32().is_multiple_of(3) { LONGEST } else { 100 };
    let length = (16 + rng.next_u32() % longest) as usize;
    let mark = format!("{id}.{part}:{:08x};", rng.next_u32());
    mark.chars().cycle().take(length).collect()
}
