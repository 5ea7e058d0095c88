//! [`EncoderInput`]: what an encoder reads, without padding.

use std::ops::Range;

/// How T tokens divide into B sequences that lie one behind the other.
///
/// Padding costs as much as text, and half of a padded batch is padding. So there is none: everything that looks at one token at
/// a time runs over all T, and only attention needs to know where a sequence ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Where each sequence begins, and T: B + 1 numbers.
    offsets: Vec<usize>,
    /// How many tokens of each sequence can be attended to. Absent but in parity mode, which keeps the reference's padding as
    /// tokens that attend and are not attended to.
    readable: Option<Vec<usize>>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            readable: None,
        }
    }
}

impl Sequences {
    /// Sequences of these lengths.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut offsets = vec![0];
        let mut end = 0;
        for length in lengths {
            end += length;
            offsets.push(end);
        }
        Self {
            offsets,
            readable: None,
        }
    }

    /// B.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// T.
    pub fn tokens(&self) -> usize {
        self.offsets[self.len()]
    }

    /// The tokens of one sequence.
    pub fn of(&self, sequence: usize) -> Range<usize> {
        self.offsets[sequence]..self.offsets[sequence + 1]
    }

    /// Those of its tokens that can be attended to.
    pub fn keys(&self, sequence: usize) -> Range<usize> {
        let tokens = self.of(sequence);
        match &self.readable {
            Some(readable) => tokens.start..tokens.start + readable[sequence],
            None => tokens,
        }
    }

    /// The tokens of each sequence.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.len()).map(|sequence| self.of(sequence))
    }

    /// L, the length of the longest sequence.
    pub fn longest(&self) -> usize {
        self.iter().map(|tokens| tokens.len()).max().unwrap_or(0)
    }

    /// Whether every token of every sequence is one of L, and all can be attended to.
    pub fn are_even(&self) -> bool {
        self.readable.is_none() && self.tokens() == self.len() * self.longest()
    }

    /// Where each sequence begins, and T: B + 1 numbers.
    pub(super) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// How many tokens of each sequence can be attended to, where that is not all of them.
    pub(super) fn readable(&self) -> Option<&[usize]> {
        self.readable.as_deref()
    }

    /// Each token's place in its sequence, counted from 0; T numbers.
    pub fn positions(&self) -> Vec<u32> {
        self.iter().flat_map(|tokens| 0..tokens.len() as u32).collect()
    }
}

/// What an encoder reads: subword ids of B sequences, special tokens included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncoderInput {
    /// The ids of all sequences, T.
    pub ids: Vec<u32>,
    /// How they divide.
    pub sequences: Sequences,
}

impl EncoderInput {
    /// The input of these sequences of ids.
    pub fn packed(rows: &[Vec<u32>]) -> Self {
        Self {
            ids: rows.concat(),
            sequences: Sequences::of_lengths(rows.iter().map(Vec::len)),
        }
    }

    /// The same with every sequence filled up with `pad` to the longest, as the reference has it; for parity with its fixtures.
    pub(crate) fn padded(rows: &[Vec<u32>], pad: u32) -> Self {
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let filling = |row: &Vec<u32>| std::iter::repeat_n(pad, longest - row.len());
        Self {
            ids: rows
                .iter()
                .flat_map(|row| row.iter().copied().chain(filling(row)))
                .collect(),
            sequences: Sequences {
                readable: Some(rows.iter().map(Vec::len).collect()),
                ..Sequences::of_lengths(rows.iter().map(|_| longest))
            },
        }
    }

    /// Some of the sequences.
    pub(super) fn slice(&self, sequences: Range<usize>) -> Self {
        let lengths = sequences.clone().map(|sequence| self.sequences.of(sequence).len());
        let readable = &self.sequences.readable;
        let (first, last) = (
            self.sequences.offsets[sequences.start],
            self.sequences.offsets[sequences.end],
        );
        Self {
            ids: self.ids[first..last].to_vec(),
            sequences: Sequences {
                readable: readable.as_ref().map(|readable| readable[sequences.clone()].to_vec()),
                ..Sequences::of_lengths(lengths)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_follow_each_other() {
        let input = EncoderInput::packed(&[vec![1, 2, 3], vec![], vec![4]]);
        assert_eq!((input.ids.len(), input.sequences.len()), (4, 3));
        assert_eq!(input.sequences.iter().collect::<Vec<_>>(), [0..3, 3..3, 3..4]);
        assert_eq!((input.sequences.longest(), input.sequences.tokens()), (3, 4));
        assert_eq!(input.sequences.positions(), [0, 1, 2, 0]);
        assert!(!input.sequences.are_even());
        let tail = input.slice(1..3);
        assert_eq!((tail.ids.as_slice(), tail.sequences.of(1)), (&[4][..], 0..1));
        assert!(Sequences::default().is_empty() && Sequences::default().are_even());
    }

    #[test]
    fn padding_attends_and_is_not_attended_to() {
        let input = EncoderInput::padded(&[vec![1, 2, 3], vec![4]], 0);
        assert_eq!(input.ids, [1, 2, 3, 4, 0, 0]);
        assert_eq!((input.sequences.of(1), input.sequences.keys(1)), (3..6, 3..4));
        assert_eq!(input.slice(1..2).sequences.keys(0), 0..1);
        assert!(!input.sequences.are_even());
    }
}
