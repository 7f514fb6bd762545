//! Versions of tables: what tells a cached answer that is still right from one that may not be.
//!
//! Each table has a slot, by a hash of its name; tables that share one only invalidate each other for nothing. A slot counts
//! the commits on its tables and, in its low bits, those going on. Whoever commits [begins](Versions::begin) before anybody
//! could see the commit and [ends](Versions::end) after everybody can, before the caller is told. An answer carries the sum of
//! its slots, its stamp, as they stood **before** its snapshot was taken, and is served only while that sum is the same and
//! nothing is going on. A slot only grows, so equal sums mean equal slots. What the protocol excludes:
//!
//! ```text
//! an answer that is older than its stamp says         an answer served after the write was acknowledged
//!
//! reader                writer                        reader                writer
//! snapshot                                            slot is 7
//!                       COMMIT                        snapshot, keeps (7)
//!                       slot 7 -> 8                                         COMMIT
//! slot is 8                                                                 acknowledges
//! keeps (8): stale for good                           slot is 7: stale
//!                                                                           slot 7 -> 8
//! => the slot is read first                           => the slot moves first
//!
//! a reader that goes back in time
//!
//! reader                writer
//! keeps (7)
//!                       COMMIT
//! reads past the cache: sees it
//! slot is 7: stale
//!                       slot 7 -> 8
//! => the slot says "going on" before COMMIT
//! ```
//!
//! Why that is enough: let an answer be served whose stamp is S, by a lookup that found the slots at rest with the sum S. The
//! filling read found them at S too, before its snapshot. So no commit on these tables ended, or was under way, between
//! these two moments, or it would have moved a slot: all that was committed before the lookup was committed before the
//! snapshot. That holds for every write of which anybody can have known, by an answer or by having read it.
//!
//! The orderings: a lookup that sees a slot as `end` left it (acquire, release) comes after the COMMIT; a reader that sees the
//! COMMIT, by the engine's own locks, comes after `begin`. These are for hardware and compilers that move loads; the model in
//! `tests/loom/cache.rs` moves none, and holds without them.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::sync::AtomicU64;

/// One commit, over. There are never as many going on at once, and 2^44 of them take longer than anything lasts.
const COMMIT: u64 = 1 << 20;

/// A set of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots([u64; 4]);

impl Slots {
    /// How many there are.
    pub(crate) const COUNT: usize = 256;
    /// No table at all.
    pub(crate) const NONE: Self = Self([0; 4]);
    /// Moves with every commit: for answers that may come from any table.
    pub(crate) const EVERY: Self = Self::one(0);
    /// Moves with the commits that may be on any table. Every other answer depends on it too.
    pub(crate) const UNKNOWN: Self = Self::one(1);

    /// The slot with that number, below [`COUNT`](Slots::COUNT).
    pub(crate) const fn one(slot: usize) -> Self {
        let mut words = [0; 4];
        words[slot / 64] = 1 << (slot % 64);
        Self(words)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// A commit on these slots is one of every commit's too.
    pub(crate) fn with_every(self) -> Self {
        if self.is_none() { self } else { self.and(Self::EVERY) }
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn numbers(self) -> impl Iterator<Item = usize> {
        (0..4).flat_map(move |word| {
            let mut left = self.0[word];
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(word * 64 + bit)
            })
        })
    }
}

/// All slots, one after the other, each no later than the call's end.
pub(crate) struct Photo(Box<[u64]>);

impl Photo {
    /// As [`Versions::stamp`], of the moment of the photo.
    pub(crate) fn stamp(&self, slots: Slots) -> Option<u64> {
        at_rest(slots.numbers().map(|slot| self.0[slot]).sum())
    }
}

pub(crate) struct Versions {
    slots: Box<[AtomicU64]>,
}

impl Versions {
    /// With the first `count` slots; fewer than all only in models.
    pub(crate) fn new(count: usize) -> Self {
        Self { slots: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A commit on these tables is about to be made: until it ends, no answer from them is served or kept.
    pub(crate) fn begin(&self, slots: Slots) {
        self.add(slots, 1);
    }

    /// It is over, however it ended.
    pub(crate) fn end(&self, slots: Slots) {
        self.add(slots, COMMIT - 1);
    }

    fn add(&self, slots: Slots, amount: u64) {
        for slot in slots.numbers() {
            self.slots[slot].fetch_add(amount, AcqRel);
        }
    }

    /// The sum of these slots; `None` while a commit is going on.
    pub(crate) fn stamp(&self, slots: Slots) -> Option<u64> {
        at_rest(slots.numbers().map(|slot| self.slots[slot].load(Acquire)).sum())
    }

    pub(crate) fn photo(&self) -> Photo {
        Photo(self.slots.iter().map(|slot| slot.load(Acquire)).collect())
    }
}

fn at_rest(sum: u64) -> Option<u64> {
    sum.is_multiple_of(COMMIT).then_some(sum)
}
