//! [`Collator`]: tokenized sentences and a list of types → [`Batch`]es.

use serde::{Deserialize, Serialize};

use crate::model::EncoderInput;
use crate::parity::Parity;
use crate::recognizer::{Masking, RecognizerConfig};
use crate::tokenizer::SpecialIds;
use crate::tokens::Sentence;

use super::prompt::{Pass, Passes};
use super::{Batch, GoldRow, Positions, Rows, Share, Spans, gold};

/// The ids of the marker tokens in a cross-encoder's prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Stands before each type.
    pub label: u32,
    /// Stands before all types and learns the threshold, if the threshold has a marker of its own.
    pub threshold: Option<u32>,
}

/// How types are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeReader {
    /// By a type encoder.
    Apart {
        /// The special tokens of its tokenizer.
        special: SpecialIds,
        /// Its longest input.
        window: usize,
    },
    /// In the prompt.
    Prompt(Markers),
}

/// Makes batches for one recognizer.
#[derive(Clone, Debug)]
pub struct Collator {
    pub(super) config: RecognizerConfig,
    pub(super) special: SpecialIds,
    pub(super) types: TypeReader,
    parity: Parity,
}

/// Why a marked entity cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// It lies behind the window's end, at least in part.
    CutOff,
    /// It covers more subwords than a span may.
    TooLong,
    /// The tokenizer makes no subword of it.
    NoSubwords,
    /// It begins or ends inside a word, where no span can under the chosen masking.
    InsideWord,
}

impl LostReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::CutOff, Self::TooLong, Self::NoSubwords, Self::InsideWord];

    /// The word in keys of metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CutOff => "cut_off",
            Self::TooLong => "too_long",
            Self::NoSubwords => "no_subwords",
            Self::InsideWord => "inside_word",
        }
    }
}

/// A marked entity that is no candidate. It counts as missed in full gold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The sentence's number in the batch.
    pub sentence: u32,
    /// Its type, an index into the caller's label table.
    pub label: u32,
    /// Why.
    pub reason: LostReason,
}

/// The passes over one group of sentences, and what was left out.
#[derive(Clone, Debug)]
pub struct Collated {
    /// One batch a pass: the same sentences and candidates, other types.
    pub batches: Vec<Batch>,
    /// Marked entities that cannot be found.
    pub lost: Vec<Lost>,
    /// How many sentences were cut off.
    pub cut_sentences: usize,
    /// How many subwords were cut off in all.
    pub cut_subwords: usize,
}

/// One sentence's share of a batch: which of its subwords can begin and end a span.
struct Layout {
    /// How many subwords are read.
    kept: usize,
    starts: Vec<bool>,
    ends: Vec<bool>,
}

impl Collator {
    /// A collator for the recognizer of this configuration; `special` are the token encoder's.
    pub fn new(config: RecognizerConfig, special: SpecialIds, types: TypeReader) -> Self {
        Self {
            config,
            special,
            types,
            parity: Parity::default(),
        }
    }

    /// Repeats mistakes of the reference, for tests against its fixtures.
    #[doc(hidden)]
    #[must_use]
    pub fn with_parity(mut self, parity: Parity) -> Self {
        self.parity = parity;
        self
    }

    /// Makes one batch a pass from `sentences`. Golds of types that `passes` does not ask for are left out and not counted as lost.
    pub fn collate(&self, passes: &Passes, sentences: &[Sentence<'_>]) -> Collated {
        let (mut lost, mut golds) = (Vec::new(), Vec::new());
        let layouts: Vec<Layout> = sentences
            .iter()
            .map(|sentence| self.layout(sentence, passes.text_room))
            .collect();
        for (number, (sentence, layout)) in sentences.iter().zip(&layouts).enumerate() {
            for gold in sentence.golds() {
                if !passes.passes.iter().any(|pass| pass.types.contains(&gold.label)) {
                    continue;
                }
                match self.place(sentence, gold, layout) {
                    Ok((start, end)) => golds.push((number, gold.label, start, end)),
                    Err(reason) => lost.push(Lost {
                        sentence: number as u32,
                        label: gold.label,
                        reason,
                    }),
                }
            }
        }
        let batches = passes
            .passes
            .iter()
            .map(|pass| self.batch(pass, passes, sentences, &layouts, &golds))
            .collect();
        let cut = |(sentence, layout): (&Sentence<'_>, &Layout)| sentence.ids.len() - layout.kept;
        Collated {
            batches,
            lost,
            cut_sentences: sentences.iter().zip(&layouts).filter(|&pair| cut(pair) > 0).count(),
            cut_subwords: sentences.iter().zip(&layouts).map(cut).sum(),
        }
    }

    /// Which subwords of a sentence can begin and end a span.
    fn layout(&self, sentence: &Sentence<'_>, room: usize) -> Layout {
        let kept = sentence.ids.len().min(room);
        let words = &sentence.words[..kept];
        let (starts, ends) = match self.config.loss_masking {
            Masking::None => (vec![true; kept], vec![true; kept]),
            // A word whose end was cut off ends at its last subword that is left.
            Masking::Subwords => (
                (0..kept).map(|i| i == 0 || words[i - 1] != words[i]).collect(),
                (0..kept).map(|i| i + 1 == kept || words[i + 1] != words[i]).collect(),
            ),
        };
        Layout { kept, starts, ends }
    }

    /// The subwords of a gold, first and last.
    fn place(
        &self,
        sentence: &Sentence<'_>,
        gold: crate::tokens::Gold,
        layout: &Layout,
    ) -> Result<(usize, usize), LostReason> {
        let snap = !self.parity.unsnapped_golds;
        let (start, end) = gold::locate(sentence, gold, layout.kept, self.config.annotation_format, snap)?;
        let longest = self.config.max_span_length - usize::from(self.parity.shorter_golds);
        if end - start + 1 > longest {
            return Err(LostReason::TooLong);
        }
        if !(self.parity.every_span || layout.starts[start] && layout.ends[end]) {
            return Err(LostReason::InsideWord);
        }
        Ok((start, end))
    }

    fn batch(
        &self,
        pass: &Pass,
        passes: &Passes,
        sentences: &[Sentence<'_>],
        layouts: &[Layout],
        golds: &[(usize, u32, usize, usize)],
    ) -> Batch {
        let inputs: Vec<Vec<u32>> = sentences
            .iter()
            .zip(layouts)
            .map(|(sentence, layout)| [&pass.head[..], &sentence.ids[..layout.kept], &[self.special.sep]].concat())
            .collect();
        let text = if self.parity.every_span {
            EncoderInput::padded(&inputs, self.special.pad)
        } else {
            EncoderInput::packed(&inputs)
        };
        let grid = Grid::new(self, pass.head.len(), text.sequences.longest());

        let longest = self.config.max_span_length;
        let (mut starts, mut ends) = (PositionRows::new(&grid), PositionRows::new(&grid));
        let mut spans = SpanRows::new(&grid, longest);
        for (number, (sentence, layout)) in sentences.iter().zip(layouts).enumerate() {
            let mut valid_starts = grid.positions(&layout.starts);
            let mut valid_ends = grid.positions(&layout.ends);
            if self.parity.cross_masks && !self.config.is_bi_encoder() {
                grid.misread_ends(sentence, layout.kept, pass, self.config.loss_masking, &mut valid_ends);
            }
            if grid.slot.is_some() {
                (valid_starts[0], valid_ends[0]) = (true, true);
            }
            let first = text.sequences.of(number).start;
            starts.add(first, &valid_starts);
            ends.add(first, &valid_ends);
            spans.add(&starts, &ends, &valid_starts, &valid_ends, layout.kept);
        }

        let class_of = |label: u32| pass.types.iter().position(|&other| other == label);
        let golds_here: Vec<GoldRow> = golds
            .iter()
            .filter_map(|&(sentence, label, start, end)| {
                let class = class_of(label)? as u32;
                let position = |subword: usize| grid.text_position + subword as u32;
                let (start, end) = (
                    starts.find(sentence, position(start))?,
                    ends.find(sentence, position(end))?,
                );
                Some(GoldRow {
                    sentence: sentence as u32,
                    class,
                    start,
                    end,
                    span: spans.find(sentence, start, end)?,
                })
            })
            .collect();
        Batch {
            text,
            types: pass.types.clone(),
            type_input: pass.type_input.clone(),
            text_position: grid.text_position,
            type_share: Share {
                part: pass.types.len(),
                whole: passes.types,
            },
            gold_share: Share {
                part: golds_here.len(),
                whole: golds.len(),
            },
            starts: starts.finish(),
            ends: ends.finish(),
            spans: spans.finish(),
            golds: golds_here,
        }
    }
}

/// How positions lie in an encoder input.
struct Grid {
    parity: Parity,
    /// S.
    positions: usize,
    /// The input position of a text's first subword.
    text_input: usize,
    /// Its position.
    text_position: u32,
    /// The input position of the threshold slot.
    slot: Option<usize>,
    cross: bool,
}

impl Grid {
    fn new(collator: &Collator, head: usize, longest: usize) -> Self {
        let Collator { config, parity, .. } = collator;
        // The marker stands behind the first token; without such a token (T5) the slot is whatever comes first, as in the reference.
        let behind_first = config.has_threshold_marker() && collator.special.cls.is_some();
        let slot = config.has_threshold_slot().then_some(usize::from(behind_first));
        let text_position = config.text_position() as usize;
        Self {
            parity: *parity,
            positions: longest - head + text_position,
            text_input: head,
            text_position: text_position as u32,
            slot,
            cross: !config.is_bi_encoder(),
        }
    }

    /// Subwords → positions.
    fn positions(&self, subwords: &[bool]) -> Vec<bool> {
        let mut valid = vec![false; self.positions];
        valid[self.text_position as usize..][..subwords.len()].copy_from_slice(subwords);
        valid
    }

    /// Where a position's state is in the input.
    fn input(&self, position: usize) -> usize {
        match self.slot {
            Some(slot) if position == 0 => slot,
            _ => position + self.text_input - self.text_position as usize,
        }
    }

    /// Whether the reference leaves out the last position, and takes spans one too long (defect 12).
    fn misses_last(&self) -> bool {
        self.parity.cross_masks && self.cross && self.slot.is_some()
    }

    /// How many positions the reference pairs up, and the longest pair.
    fn pairs(&self, longest: usize) -> (usize, usize) {
        if self.misses_last() {
            (self.positions - 1, longest + 1)
        } else {
            (self.positions, longest)
        }
    }

    /// Defect 11: a subword counts as a word's end unless the input position with the number of the *next text subword* is of
    /// the same word.
    fn misread_ends(&self, sentence: &Sentence<'_>, kept: usize, pass: &Pass, masking: Masking, ends: &mut [bool]) {
        if masking == Masking::None {
            return;
        }
        // The prompt's words: the threshold marker, then a marker and a name for each type, then the separator.
        let marker = u32::from(self.slot.is_some_and(|slot| slot > 0));
        let prompt_words = marker + 2 * pass.types.len() as u32 + 1;
        let super::TypeInput::Markers(markers) = &pass.type_input else {
            return;
        };
        let word = |input: usize| -> Option<u32> {
            if input == 0 || input >= self.text_input + kept {
                None
            } else if input >= self.text_input {
                Some(prompt_words + sentence.words[input - self.text_input])
            } else if input + 1 == self.text_input {
                Some(prompt_words - 1)
            } else {
                // The last marker at or before it, and whether it is the marker itself.
                let before = markers.partition_point(|&marker| marker as usize <= input);
                match before.checked_sub(1) {
                    None => Some(0),
                    Some(class) => Some(marker + 2 * class as u32 + u32::from(markers[class] as usize != input)),
                }
            }
        };
        for subword in 0..kept {
            ends[self.text_position as usize + subword] = word(self.text_input + subword) != word(subword + 1);
        }
    }
}

/// Gathers [`Positions`].
struct PositionRows<'a> {
    grid: &'a Grid,
    rows: Positions,
}

impl<'a> PositionRows<'a> {
    fn new(grid: &'a Grid) -> Self {
        let rows = Rows {
            offsets: vec![0],
            enumerated: grid.positions,
            valid: grid.parity.every_span.then(Vec::new),
        };
        Self {
            grid,
            rows: Positions {
                rows,
                ..Positions::default()
            },
        }
    }

    /// Adds a sentence whose encoder input begins at token `first`.
    fn add(&mut self, first: usize, valid: &[bool]) {
        let all = self.grid.parity.every_span;
        for position in (0..self.grid.positions).filter(|&position| all || valid[position]) {
            self.rows.position.push(position as u32);
            let row = first + self.grid.input(position);
            self.rows.encoder_row.push(row as u32);
        }
        if let Some(flags) = &mut self.rows.rows.valid {
            flags.extend_from_slice(valid);
        }
        self.rows.rows.offsets.push(self.rows.position.len());
    }

    /// The row of a position.
    fn find(&self, sentence: usize, position: u32) -> Option<u32> {
        let range = self.rows.rows.of(sentence);
        let found = self.rows.position[range.clone()].binary_search(&position).ok()?;
        Some((range.start + found) as u32)
    }

    fn finish(self) -> Positions {
        self.rows
    }
}

/// Gathers [`Spans`].
struct SpanRows<'a> {
    grid: &'a Grid,
    longest: usize,
    spans: Spans,
}

impl<'a> SpanRows<'a> {
    fn new(grid: &'a Grid, longest: usize) -> Self {
        let (positions, widest) = grid.pairs(longest);
        let rows = Rows {
            offsets: vec![0],
            enumerated: (0..positions).map(|start| widest.min(positions - start)).sum(),
            valid: grid.parity.every_span.then(Vec::new),
        };
        Self {
            grid,
            longest,
            spans: Spans {
                rows,
                ..Spans::default()
            },
        }
    }

    /// Adds the pairs of the sentence whose positions were added last; the threshold slot comes first by itself, since
    /// position 0 pairs with nothing else.
    fn add(
        &mut self,
        starts: &PositionRows<'_>,
        ends: &PositionRows<'_>,
        valid_starts: &[bool],
        valid_ends: &[bool],
        kept: usize,
    ) {
        let sentence = self.spans.rows.offsets.len() - 1;
        let (positions, widest) = self.grid.pairs(self.longest);
        let end_rows = ends.rows.rows.of(sentence);
        let slot = self.grid.slot.is_some();
        let mut first_end = end_rows.start;
        for start_row in starts.rows.rows.of(sentence) {
            let start = starts.rows.position[start_row] as usize;
            while first_end < end_rows.end && (ends.rows.position[first_end] as usize) < start {
                first_end += 1;
            }
            for end_row in first_end..end_rows.end {
                let end = ends.rows.position[end_row] as usize;
                if end >= positions || start >= positions || end - start >= widest {
                    break;
                }
                let pairs_with_slot = slot && start == 0 && end > 0;
                let valid = valid_starts[start]
                    && valid_ends[end]
                    && !pairs_with_slot
                    && !(self.grid.misses_last() && end == self.grid.text_position as usize + kept - 1);
                if let Some(flags) = &mut self.spans.rows.valid {
                    flags.push(valid);
                } else if !valid {
                    continue;
                }
                self.spans.start.push(start_row as u32);
                self.spans.end.push(end_row as u32);
                self.spans.width.push((end - start + 1) as u32);
            }
        }
        self.spans.rows.offsets.push(self.spans.width.len());
    }

    /// The row of a pair; starts rise, and ends within a start.
    fn find(&self, sentence: usize, start: u32, end: u32) -> Option<u32> {
        let range = self.spans.rows.of(sentence);
        let from = range.start + self.spans.start[range.clone()].partition_point(|&row| row < start);
        let to = range.start + self.spans.start[range].partition_point(|&row| row <= start);
        let found = self.spans.end[from..to].binary_search(&end).ok()?;
        Some((from + found) as u32)
    }

    fn finish(self) -> Spans {
        self.spans
    }
}
