//! Isolation flaws that are planted: the checker has to find each of them.

/// How the workload breaks what it records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A transaction that only reads takes a snapshot for each of its reads: it is of two moments.
    TwoSnapshots,
    /// A transaction that only reads sees a snapshot that somebody took before it began.
    OldSnapshot,
    /// A caller remembers the first answer to each question, and answers with that for ever.
    StaleAnswers,
    /// A write puts back the list that it has read before its transaction, with one value more.
    LostUpdate,
    /// What a write reads it has read before its transaction.
    ReadsBefore,
    /// Whoever reads sees what others have appended, though that is rolled back.
    UncommittedReads,
    /// A write is told as done, and rolled back.
    Unwritten,
    /// A write that was done is done again, as after a commit of which nobody knew.
    DoneTwice,
    /// The operations of a write are transactions, each by itself.
    InPieces,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Flaw; 9] = [
        Flaw::TwoSnapshots,
        Flaw::OldSnapshot,
        Flaw::StaleAnswers,
        Flaw::LostUpdate,
        Flaw::ReadsBefore,
        Flaw::UncommittedReads,
        Flaw::Unwritten,
        Flaw::DoneTwice,
        Flaw::InPieces,
    ];
}
