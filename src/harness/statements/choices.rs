//! Where the choices of the grammar come from: a seed, or bytes, which a fuzzer changes.
//!
//! A byte is a choice, and a zero the plainest. What a statement has chosen ends with a mark, and so does what a call has chosen, so that
//! a change of a byte, or a byte more or less, changes the program in one place: what a statement chooses beyond its mark is zeros, and
//! what it leaves is passed over. Behind the last byte are zeros.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What ends with a mark, which is a byte that no choice is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Statement = 0xfe,
    /// The statements in it included.
    Call = 0xff,
}

/// A choice is one of so many, at most.
const MOST: u64 = Part::Statement as u64;

pub(super) enum Choices {
    /// And the bytes of what was chosen.
    Seed(Box<ChaCha8Rng>, Vec<u8>),
    /// The bytes, and how many of them are used.
    Bytes(Vec<u8>, usize),
}

impl Choices {
    pub(super) fn of_seed(seed: u64) -> Self {
        Self::Seed(Box::new(ChaCha8Rng::seed_from_u64(seed)), Vec::new())
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec(), 0)
    }

    /// One of alternatives, of which the last is the plainest.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let bound = bound.min(MOST);
        match self {
            Self::Seed(rng, chosen) => {
                let choice = rng.next_u64() % bound;
                chosen.push((bound - 1 - choice) as u8);
                choice
            }
            Self::Bytes(..) => bound - 1 - self.next() % bound,
        }
    }

    /// A number, of which the smallest is the plainest.
    pub(super) fn count(&mut self, bound: u64) -> u64 {
        let bound = bound.min(MOST);
        match self {
            Self::Seed(rng, chosen) => {
                let choice = rng.next_u64() % bound;
                chosen.push(choice as u8);
                choice
            }
            Self::Bytes(..) => self.next() % bound,
        }
    }

    fn next(&mut self) -> u64 {
        match self {
            Self::Bytes(bytes, used) if bytes.get(*used).is_some_and(|byte| u64::from(*byte) < MOST) => {
                *used += 1;
                bytes[*used - 1].into()
            }
            _ => 0,
        }
    }

    /// Here it ends.
    pub(super) fn end(&mut self, part: Part) {
        match self {
            Self::Seed(_, chosen) => chosen.push(part as u8),
            Self::Bytes(bytes, used) => {
                let is_mark = |byte: &u8| *byte >= part as u8;
                *used += bytes[*used..].iter().position(is_mark).unwrap_or(bytes.len() - *used);
                // The mark of a call ends its last statement, too, but is not used up by it.
                *used += usize::from(bytes.get(*used) == Some(&(part as u8)));
            }
        }
    }

    /// The bytes that make these choices.
    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Seed(_, bytes) | Self::Bytes(bytes, _) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_chooses_more_or_less_than_is_there_moves_no_other() {
        let mut choices = Choices::of_bytes(&[1, 2, 0xfe, 3, 0xfe, 9, 0xff, 4, 0xff, 5]);
        assert_eq!((choices.count(8), choices.count(8), choices.count(8), choices.below(8)), (1, 2, 0, 7));
        choices.end(Part::Statement);
        choices.end(Part::Statement);
        choices.end(Part::Statement);
        assert_eq!(choices.count(8), 0, "no statement is left of the call");
        choices.end(Part::Call);
        assert_eq!(choices.count(8), 4);
        choices.end(Part::Call);
        assert_eq!((choices.count(4), choices.count(4)), (1, 0));
        choices.end(Part::Call);
        choices.end(Part::Statement);
        assert_eq!((choices.count(4), choices.below(4)), (0, 3));
    }
}
