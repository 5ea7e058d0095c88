//! [`Batch`]: what one forward pass reads, in plain host memory, and what its scores mean.
//!
//! Shapes: B sentences, T subwords of their encoder inputs, S positions, C types, N candidate spans.
//!
//! *Positions* count what a span can cover. In a bi-encoder they are the encoder input's own (0 is `[CLS]`); in a
//! cross-encoder 0 is the text's first subword. With contrastive loss position 0 is the *threshold slot* (`[CLS]` or the
//! marker token), and a cross-encoder's text starts at 1.
//!
//! The reference scores every pair of positions, padding included, and masks most of them afterwards. Here only what can be
//! right is listed: *rows*, one for each position that can begin a span, one for each that can end one, and one for each pair of
//! these. The rows of all sentences follow each other. What the reference would have enumerated is only counted, because the
//! loss divides by it.

mod collate;
mod gold;
mod prompt;
#[cfg(test)]
mod tests;

pub use collate::{Collated, Collator, Lost, LostReason, Markers, TypeReader};
pub use prompt::Passes;

use crate::decode::Candidate;
use crate::model::EncoderInput;

/// The token that stands before each type in a cross-encoder's prompt.
pub const LABEL_MARKER: &str = "[LABEL]";
/// The token that learns the threshold of a `label_token` model.
pub const THRESHOLD_MARKER: &str = "[SPAN_THRESHOLD]";

/// Candidates of one kind (starts, ends or spans) of all sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Where each sentence's rows begin, and the number of all rows: B + 1 numbers.
    pub offsets: Vec<usize>,
    /// How many candidates the reference enumerates for each sentence: S, or all pairs up to the longest span.
    pub enumerated: usize,
    /// Which rows can be right. Absent but in parity mode: all of them.
    pub valid: Option<Vec<bool>>,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sentences there are.
    pub fn sentences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The rows of one sentence.
    pub fn of(&self, sentence: usize) -> std::ops::Range<usize> {
        self.offsets[sentence]..self.offsets[sentence + 1]
    }

    /// Whether a row can be right.
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid[row])
    }
}

/// Positions that can begin (or end) a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// How the rows are divided among sentences.
    pub rows: Rows,
    /// The position of each row.
    pub position: Vec<u32>,
    /// Where each row's state is in the encoder's output, below T.
    pub encoder_row: Vec<u32>,
}

/// Pairs of a start and an end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// How the rows are divided among sentences. With a threshold slot each sentence's first row is the slot's.
    pub rows: Rows,
    /// The start of each span, an index into the start rows.
    pub start: Vec<u32>,
    /// The end (inclusive) of each span, an index into the end rows.
    pub end: Vec<u32>,
    /// How many subwords each span covers.
    pub width: Vec<u32>,
}

/// A marked entity that can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoldRow {
    /// The sentence.
    pub sentence: u32,
    /// The type, as an index into [`Batch::types`].
    pub class: u32,
    /// The start's row.
    pub start: u32,
    /// The end's row.
    pub end: u32,
    /// The span's row.
    pub span: u32,
}

/// Where the types are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeInput {
    /// An input of their own, one sequence a type (bi-encoder).
    Apart(EncoderInput),
    /// In each sentence's prompt, at these places of its encoder input, C of them (cross-encoder).
    Markers(Vec<u32>),
}

/// What one forward pass reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The sentences (and a cross-encoder's prompt).
    pub text: EncoderInput,
    /// Which types are asked for: indices into the caller's label table, C of them.
    pub types: Vec<u32>,
    /// Where they are to be read.
    pub type_input: TypeInput,
    /// The position of a text's first subword; subword number is position − this.
    pub text_position: u32,
    /// The share of all types that this pass asks for: 1 unless a prompt had to be split.
    pub type_share: Share,
    /// The share of all golds whose types this pass asks for.
    pub gold_share: Share,
    /// Where spans can begin.
    pub starts: Positions,
    /// Where spans can end.
    pub ends: Positions,
    /// The spans.
    pub spans: Spans,
    /// The marked entities among them, sentence by sentence in the order of the records.
    pub golds: Vec<GoldRow>,
}

/// A fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// So many …
    pub part: usize,
    /// … of these.
    pub whole: usize,
}

impl Share {
    /// All of it.
    pub const ALL: Self = Self { part: 1, whole: 1 };

    /// As a factor; 1 where there is nothing to divide.
    pub fn factor(self) -> f64 {
        if self.whole == 0 {
            1.0
        } else {
            self.part as f64 / self.whole as f64
        }
    }
}

impl Batch {
    /// B.
    pub fn sentences(&self) -> usize {
        self.text.sequences.len()
    }

    /// Positions (start, end inclusive) of a span's row.
    pub fn span(&self, row: usize) -> (u32, u32) {
        (
            self.starts.position[self.spans.start[row] as usize],
            self.ends.position[self.spans.end[row] as usize],
        )
    }

    /// Turns span scores, [N, C] row by row, into each sentence's candidates above `floor`, and its thresholds by type where
    /// there is a threshold slot. Labels are the caller's.
    pub fn candidates(&self, logits: &[f32], threshold_slot: bool, floor: f32) -> Vec<SentenceScores> {
        let classes = self.types.len();
        (0..self.sentences())
            .map(|sentence| {
                let mut rows = self.spans.rows.of(sentence);
                let mut scores = SentenceScores::default();
                if threshold_slot && let Some(slot) = rows.next() {
                    scores.thresholds = logits[slot * classes..(slot + 1) * classes].to_vec();
                }
                for row in rows.filter(|&row| self.spans.rows.is_valid(row)) {
                    let (start, end) = self.span(row);
                    for (&label, &logit) in self.types.iter().zip(&logits[row * classes..(row + 1) * classes]) {
                        if logit > floor {
                            scores.candidates.push(Candidate {
                                start,
                                end,
                                label,
                                logit,
                            });
                        }
                    }
                }
                scores
            })
            .collect()
    }
}

/// What a forward pass says about one sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentenceScores {
    /// Spans above the floor.
    pub candidates: Vec<Candidate>,
    /// The threshold slot's logits in the order of [`Batch::types`]; empty without a slot.
    pub thresholds: Vec<f32>,
}
