//! Prediction on texts that are no corpus: a model and a list of types → the entities of any text, however long.
//!
//! A text is read in windows that overlap where it is longer than the model's window. Each window is scored like a sentence of an
//! evaluation. A span counts where its middle lies in the part of the text that the window is in charge of (from the middle of
//! the overlap before it to the middle of the one behind it), so no entity is found twice; then the spans of all windows compete for
//! their places as those of one sentence do.
//!
//! A model that was trained on words gets the words of the record, or else those that its own tokenizer sees in the text, with
//! punctuation cut off at both ends.

use burn::tensor::Device;
use nerpipe_engine::{Input, StageError};
use serde::Serialize;

use crate::batch::{Collator, Passes};
use crate::checkpoint::{Checkpoint, open_tokenizer};
use crate::corpus;
use crate::decode::Bar;
use crate::evaluate::{SentenceScores, collator};
use crate::model::{Recognizer, TypeVectors};
use crate::recognizer::RecognizerConfig;
use crate::thresholds::{Asked, Cut, Thresholds};
use crate::tokenizer::{Encoded, TextTokenizer};
use crate::tokens::{Format, Sentence, Split, SplitBuilder, TokensError};

/// Windows in a forward pass.
const BATCH: usize = 12;

/// What is asked of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The types, in any order.
    pub labels: Vec<String>,
    /// What spans must exceed. None: what the model was calibrated to, or else what it was trained with.
    pub threshold: Option<Asked>,
    /// Whether an entity may lie inside another.
    pub nested: bool,
}

/// A text to find entities in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// Where its words lie, in code points, ends exclusive; none if nobody has cut it into words.
    pub words: Option<Vec<(u32, u32)>>,
}

impl Document {
    /// The text, cut into `tokens` if they are given.
    ///
    /// # Errors
    /// If the tokens are not those of the text.
    pub fn new(text: String, tokens: Option<&[String]>) -> Result<Self, StageError> {
        let words = match tokens {
            None | Some([]) => None,
            Some(tokens) => {
                let wrong = |error: corpus::RecordError| StageError::new(format!("{}: {}", error.field, error.reason));
                Some(corpus::places(&text, tokens).map_err(wrong)?)
            }
        };
        Ok(Self { text, words })
    }
}

/// An entity of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entity {
    /// The first code point.
    pub start: u32,
    /// The code point behind the last.
    pub end: u32,
    /// Its type.
    pub label: String,
    /// The text that it covers.
    pub text: String,
    /// How sure the model is, between 0 and 1.
    pub score: f64,
}

/// A model that is ready to find entities of certain types.
pub struct Predictor {
    recognizer: Recognizer,
    collator: Collator,
    tokenizer: TextTokenizer,
    labels: Vec<String>,
    passes: Passes,
    types: Option<TypeVectors>,
    cut: Cut,
    nested: bool,
}

impl Predictor {
    /// Opens the model artifact `model`.
    ///
    /// # Errors
    /// If the model cannot be read, there is no type, a type has no subwords, or the threshold is none of the model's.
    pub fn open(model: &Input, query: Query, device: &Device) -> Result<Self, StageError> {
        let checkpoint = Checkpoint::read(model)?;
        let (collator, tokenizer) = collator(model, &checkpoint)?;
        let config = checkpoint.config.clone();
        let mut labels = query.labels;
        labels.sort();
        labels.dedup();
        if labels.is_empty() {
            return Err(StageError::new("no type of entity is asked for").help("name some, such as `person,location`"));
        }
        let type_tokenizer = match &checkpoint.type_encoder {
            Some(_) => Some(open_tokenizer(model, "type_tokenizer.json")?),
            None => None,
        };
        let mut ids = Vec::with_capacity(labels.len());
        for label in &labels {
            let found = type_tokenizer.as_ref().unwrap_or(&tokenizer).label(label);
            let found = found.map_err(|error| StageError::new(error.to_string()))?;
            if found.is_empty() {
                return Err(StageError::new(format!("the type {label:?} has no subwords"))
                    .help("name it by something that can be read"));
            }
            ids.push(found);
        }
        let cut = cut(&config, query.threshold, Thresholds::of(model)?.as_ref(), &labels)?;
        let recognizer = Recognizer::new(
            config.clone(),
            checkpoint.token_encoder,
            checkpoint.type_encoder,
            checkpoint.tensors,
            device,
        )
        .map_err(|error| StageError::new(error.to_string()))?;
        let numbers: Vec<u32> = (0..labels.len() as u32).collect();
        // Room for as long a text as there can be: half the window at least.
        let passes = collator.passes(&numbers, &ids, config.max_seq_length);
        let types = recognizer.type_vectors(&collator.type_input(&numbers, &ids).0);
        Ok(Self {
            recognizer,
            collator,
            tokenizer,
            labels,
            passes,
            types,
            cut,
            nested: query.nested,
        })
    }

    /// The entities of each document, by their place.
    ///
    /// # Errors
    /// If a text cannot be tokenized.
    pub fn predict(&self, documents: &[Document]) -> Result<Vec<Vec<Entity>>, StageError> {
        let texts: Vec<Text> = documents
            .iter()
            .map(|document| Text::new(document, &self.tokenizer, self.config().annotation_format))
            .collect::<Result<_, _>>()?;
        let room = self.passes.text_room().max(1);
        let overlap = self.config().max_span_length;
        let windows: Vec<Window> = texts
            .iter()
            .enumerate()
            .flat_map(|(number, text)| windows(number, &text.encoded.words, room, overlap))
            .collect();
        if windows.is_empty() {
            return Ok(vec![Vec::new(); documents.len()]);
        }
        let split = split(&texts, &windows, self.config().annotation_format)
            .map_err(|error| StageError::new(error.to_string()))?;
        let mut found: Vec<Vec<Candidate>> = vec![Vec::new(); documents.len()];
        let mut order: Vec<usize> = (0..windows.len()).collect();
        order.sort_by_key(|&window| (windows[window].length(), window));
        for group in order.chunks(BATCH) {
            let sentences: Vec<Sentence<'_>> = group.iter().map(|&window| split.sentence(window)).collect();
            for (&window, scores) in group.iter().zip(self.score(&sentences)) {
                let window = &windows[window];
                let passing = candidates(window, &scores, self.config().text_position(), &self.cut);
                found[window.text].extend(passing);
            }
        }
        let decoded = found.into_iter().map(|candidates| decode(candidates, self.nested));
        Ok(decoded
            .zip(texts.iter().zip(documents))
            .map(|(kept, (text, document))| self.entities(&kept, text, document))
            .collect())
    }

    fn config(&self) -> &RecognizerConfig {
        self.recognizer.config()
    }

    /// Scores of sentences, candidates at or below every bar left out.
    fn score(&self, sentences: &[Sentence<'_>]) -> Vec<SentenceScores> {
        let slot = self.config().has_threshold_slot();
        let floor = if slot { f32::NEG_INFINITY } else { lowest(&self.cut) };
        let collated = self.collator.collate(&self.passes, sentences);
        let mut rows = vec![SentenceScores::default(); sentences.len()];
        for row in &mut rows {
            row.bars = if slot { vec![0.0; self.labels.len()] } else { Vec::new() };
        }
        for batch in &collated.batches {
            let logits = self.recognizer.span_logits(batch, self.types.as_ref());
            for (row, scores) in rows.iter_mut().zip(batch.candidates(&logits, slot, floor)) {
                for (&label, &bar) in batch.types.iter().zip(&scores.thresholds) {
                    row.bars[label as usize] = bar;
                }
                row.candidates
                    .extend(scores.candidates.iter().map(|c| (c.start, c.end, c.label, c.logit)));
            }
        }
        rows
    }

    fn entities(&self, kept: &[Candidate], text: &Text, document: &Document) -> Vec<Entity> {
        let bytes: Vec<usize> = document.text.char_indices().map(|(byte, _)| byte).collect();
        let byte = |place: u32| bytes.get(place as usize).copied().unwrap_or(document.text.len());
        let mut entities: Vec<Entity> = kept
            .iter()
            .map(|candidate| {
                let (start, end) = (text.start(candidate.first), text.end(candidate.last));
                Entity {
                    start,
                    end,
                    label: self.labels[candidate.label as usize].clone(),
                    text: document.text[byte(start)..byte(end)].to_owned(),
                    score: candidate.score,
                }
            })
            .collect();
        entities.sort_by(|a, b| (a.start, a.end, &a.label).cmp(&(b.start, b.end, &b.label)));
        entities
    }
}

/// What spans are compared with.
fn cut(
    config: &RecognizerConfig,
    asked: Option<Asked>,
    calibrated: Option<&Thresholds>,
    labels: &[String],
) -> Result<Cut, StageError> {
    match (asked, calibrated) {
        (None | Some(Asked::Calibrated), Some(thresholds)) => Ok(thresholds.cut(labels)),
        (Some(Asked::Calibrated), None) => Err(StageError::new("the model is not calibrated")
            .help("give a threshold, or calibrate it with a stage of kind `calibrate`")),
        (None, None) => Ok(Cut::from(config.prediction_threshold)),
        (Some(Asked::At(threshold)), _) => {
            config
                .accepts(threshold)
                .map_err(|error| StageError::new(error.problem))?;
            Ok(Cut::from(threshold))
        }
    }
}

/// A text in subwords.
struct Text {
    encoded: Encoded,
    /// Where each word lies, in the view that has words; subwords then count from the start of their word.
    words: Option<Vec<(u32, u32)>>,
}

impl Text {
    fn new(document: &Document, tokenizer: &TextTokenizer, format: Format) -> Result<Self, StageError> {
        let failed = |error: crate::tokenizer::TokenizerError| StageError::new(error.to_string());
        if format == Format::Text {
            return Ok(Self {
                encoded: tokenizer.text(&document.text).map_err(failed)?,
                words: None,
            });
        }
        let words = match &document.words {
            Some(words) => words.clone(),
            None => words_of(&document.text, &tokenizer.text(&document.text).map_err(failed)?),
        };
        let characters: Vec<char> = document.text.chars().collect();
        let spelled: Vec<String> = words
            .iter()
            .map(|&(start, end)| characters[start as usize..end as usize].iter().collect())
            .collect();
        Ok(Self {
            encoded: tokenizer.words(&spelled).map_err(failed)?,
            words: Some(words),
        })
    }

    /// The first code point of an entity that begins with this subword.
    fn start(&self, subword: usize) -> u32 {
        match &self.words {
            Some(words) => words[self.encoded.words[subword] as usize].0,
            None => self.encoded.starts[subword],
        }
    }

    /// The code point behind an entity that ends with this subword.
    fn end(&self, subword: usize) -> u32 {
        match &self.words {
            Some(words) => words[self.encoded.words[subword] as usize].1,
            None => self.encoded.ends[subword],
        }
    }
}

/// The words that a tokenizer sees in a text, in code points; punctuation at either end of one is a word by itself.
fn words_of(text: &str, encoded: &Encoded) -> Vec<(u32, u32)> {
    let characters: Vec<char> = text.chars().collect();
    let mut words: Vec<(u32, u32)> = Vec::new();
    let mut last = None;
    for ((&word, &start), &end) in encoded.words.iter().zip(&encoded.starts).zip(&encoded.ends) {
        match words.last_mut() {
            Some(open) if last == Some(word) => open.1 = open.1.max(end),
            // A subword that starts inside the word before it has no place of its own.
            Some(open) if start < open.1 => open.1 = open.1.max(end),
            _ => words.push((start, end)),
        }
        last = Some(word);
    }
    let is_plain = |place: u32| characters.get(place as usize).is_some_and(|c| c.is_alphanumeric());
    let is_space = |place: u32| characters.get(place as usize).is_none_or(|c| c.is_whitespace());
    let mut cut = Vec::with_capacity(words.len());
    for (start, end) in words {
        let Some(first) = (start..end).find(|&place| is_plain(place)) else {
            cut.extend(
                (start..end)
                    .filter(|&place| !is_space(place))
                    .map(|place| (place, place + 1)),
            );
            continue;
        };
        let behind = (first..end)
            .rev()
            .find(|&place| is_plain(place))
            .map_or(end, |last| last + 1);
        // Marks that belong to the letter before them (vowel signs, accents) are no punctuation.
        let behind = (behind..end)
            .find(|&place| characters[place as usize].is_ascii_punctuation() || is_cut(characters[place as usize]))
            .unwrap_or(end);
        cut.extend(
            (start..first)
                .filter(|&place| !is_space(place))
                .map(|place| (place, place + 1)),
        );
        cut.push((first, behind));
        cut.extend(
            (behind..end)
                .filter(|&place| !is_space(place))
                .map(|place| (place, place + 1)),
        );
    }
    cut
}

/// Whether a character that is no letter, digit or ASCII ends a word: general and CJK punctuation, and white space.
fn is_cut(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{a1}'..='\u{bf}' | '\u{2010}'..='\u{205e}' | '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}'
            | '\u{ff1a}'..='\u{ff20}' | '\u{964}' | '\u{965}' | '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{6d4}')
}

/// A part of a text that is read at once: subwords `first..end`, of which it is in charge of `charge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    text: usize,
    first: usize,
    end: usize,
    charge: (usize, usize),
}

impl Window {
    fn length(&self) -> usize {
        self.end - self.first
    }
}

/// The windows that a text is read in: each of `room` subwords at most, with `overlap` of them in the one before it too, as far as the
/// words, to which the subwords belong, allow it.
fn windows(text: usize, words: &[u32], room: usize, overlap: usize) -> Vec<Window> {
    // An entity that is cut by the end of one window lies whole in the next, as long as windows allow it.
    let overlap = overlap.min(room / 2);
    let all = words.len();
    let begins_word = |subword: &usize| *subword == 0 || words[subword - 1] != words[*subword];
    let mut windows: Vec<Window> = Vec::new();
    let mut first = 0;
    while first < all {
        let mut end = (first + room).min(all);
        if end < all {
            // Words stay whole, unless one fills the window.
            end = (first + 1..=end).rev().find(begins_word).unwrap_or(end);
        }
        windows.push(Window {
            text,
            first,
            end,
            charge: (first, end),
        });
        if end == all {
            break;
        }
        // The overlap begins with a word: it is longer than asked for, or where a long word stands there, as long as can be.
        let latest = end.saturating_sub(overlap).max(first + 1);
        let next = (first + 1..=latest).rev().find(begins_word);
        first = next.or_else(|| (latest..end).find(begins_word)).unwrap_or(end);
    }
    for index in 1..windows.len() {
        let border = (windows[index].first + windows[index - 1].end) / 2;
        windows[index - 1].charge.1 = border;
        windows[index].charge.0 = border;
    }
    windows
}

/// What a window predicts of the part of the text that it is in charge of. The text begins at place `shift` of what the model read.
fn candidates(window: &Window, scores: &SentenceScores, shift: u32, cut: &Cut) -> Vec<Candidate> {
    let bar = cut.bar(&scores.bars, None);
    let passing = scores.candidates.iter().filter_map(|&(start, end, label, logit)| {
        let above = match bar {
            Bar::Fixed(bar) => bar,
            Bar::PerType(bars) => bars[label as usize],
        };
        // What the model is sure of is its probability, or how far it is above the learned threshold.
        let slot = scores.bars.get(label as usize).copied().unwrap_or(0.0);
        let first = window.first + (start - shift) as usize;
        let last = window.first + (end - shift) as usize;
        let is_ours = (window.charge.0..window.charge.1).contains(&((first + last) / 2));
        (logit > above && is_ours).then(|| Candidate {
            first,
            last,
            label,
            margin: logit - above,
            score: 1.0 / (1.0 + (-(f64::from(logit) - f64::from(slot))).exp()),
        })
    });
    passing.collect()
}

/// The windows as the sentences of a split.
fn split(texts: &[Text], windows: &[Window], format: Format) -> Result<Split, TokensError> {
    let mut builder = SplitBuilder::new(format);
    builder.file("texts")?;
    for window in windows {
        let encoded = &texts[window.text].encoded;
        let range = window.first..window.end;
        let part = Encoded {
            ids: encoded.ids[range.clone()].to_vec(),
            words: encoded.words[range.clone()].to_vec(),
            starts: encoded.starts[range.clone()].to_vec(),
            ends: encoded.ends[range].to_vec(),
        };
        let length = part.words.last().map_or(0, |word| word + 1);
        builder.sentence("", &part, length, &[], |_| Ok::<_, TokensError>(Vec::new()))?;
    }
    builder.build()
}

/// A span of a text's subwords (both inclusive) that passes the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    first: usize,
    last: usize,
    label: u32,
    margin: f32,
    score: f64,
}

/// The candidates that stay, best first: those that share no subword with a better one; with `nested` also those that lie inside
/// a better one, or around it.
fn decode(mut candidates: Vec<Candidate>, nested: bool) -> Vec<Candidate> {
    candidates.sort_by(|a, b| {
        b.margin
            .total_cmp(&a.margin)
            .then_with(|| (a.first, a.last, a.label).cmp(&(b.first, b.last, b.label)))
    });
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let agrees = |other: &Candidate| {
            let apart = candidate.last < other.first || other.last < candidate.first;
            let inside = |a: &Candidate, b: &Candidate| b.first <= a.first && a.last <= b.last;
            let same = (candidate.first, candidate.last) == (other.first, other.last);
            apart || (nested && !same && (inside(&candidate, other) || inside(other, &candidate)))
        };
        if kept.iter().all(agrees) {
            kept.push(candidate);
        }
    }
    kept
}

/// The lowest logit that can pass.
fn lowest(cut: &Cut) -> f32 {
    match cut.bar(&[], None) {
        Bar::Fixed(bar) => bar,
        Bar::PerType(bars) => bars.iter().copied().fold(f32::INFINITY, f32::min),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recognizer::Threshold;

    /// Words of so many subwords each.
    fn words(lengths: &[usize]) -> Vec<u32> {
        let numbered = (0u32..).zip(lengths);
        numbered
            .flat_map(|(word, &length)| std::iter::repeat_n(word, length))
            .collect()
    }

    fn places(windows: &[Window]) -> Vec<(usize, usize)> {
        windows.iter().map(|window| (window.first, window.end)).collect()
    }

    #[test]
    fn windows_overlap_and_keep_words_whole() {
        assert_eq!(windows(0, &[], 8, 2), []);
        assert_eq!(places(&windows(0, &words(&[1; 8]), 8, 2)), [(0, 8)]);
        let many = windows(3, &words(&[1; 20]), 8, 2);
        assert_eq!(places(&many), [(0, 8), (6, 14), (12, 20)]);
        let charges: Vec<_> = many.iter().map(|window| window.charge).collect();
        assert_eq!(charges, [(0, 7), (7, 13), (13, 20)]);
        assert!(many.iter().all(|window| window.text == 3));
        // Words of three: an end inside one moves before it, and so does the beginning of an overlap.
        assert_eq!(
            places(&windows(0, &words(&[3; 6]), 8, 2)),
            [(0, 6), (3, 9), (6, 12), (9, 15), (12, 18)]
        );
        // An overlap is at most half a window, or reading would hardly go on.
        assert_eq!(places(&windows(0, &words(&[1; 12]), 8, 30)), [(0, 8), (4, 12)]);
        // A word that fills windows is cut; where one stands in the way of an overlap, what is behind it overlaps.
        assert_eq!(places(&windows(0, &words(&[20]), 8, 2)), [(0, 8), (8, 16), (16, 20)]);
        assert_eq!(
            places(&windows(0, &words(&[6, 1, 1, 1, 1, 1, 1]), 8, 4)),
            [(0, 8), (6, 12)]
        );
    }

    proptest! {
        /// Every subword is read, each place is the charge of one window, and an entity that is no longer than the overlap lies whole
        /// in the window that is in charge of its middle.
        #[test]
        fn no_short_entity_is_cut(lengths in prop::collection::vec(1usize..4, 1..60), room in 16usize..40, overlap in 1usize..6) {
            let words = words(&lengths);
            let windows = windows(0, &words, room, overlap);
            let mut charged = 0;
            for window in &windows {
                prop_assert!(window.end - window.first <= room);
                prop_assert!(window.first <= window.charge.0 && window.charge.1 <= window.end);
                prop_assert_eq!(window.charge.0, charged);
                charged = window.charge.1;
            }
            prop_assert_eq!(charged, words.len());
            for first in 0..words.len() {
                for last in first..words.len().min(first + overlap) {
                    let middle = (first + last) / 2;
                    let ours: Vec<_> = windows.iter().filter(|window| (window.charge.0..window.charge.1).contains(&middle)).collect();
                    prop_assert_eq!(ours.len(), 1);
                    prop_assert!(ours[0].first <= first && last < ours[0].end, "{}..={} in {:?}", first, last, windows);
                }
            }
        }
    }

    fn scores(candidates: &[(u32, u32, u32, f32)]) -> SentenceScores {
        SentenceScores {
            candidates: candidates.to_vec(),
            ..SentenceScores::default()
        }
    }

    /// Both windows see what lies in their overlap; one of them tells it.
    #[test]
    fn what_two_windows_see_is_told_once() {
        let both = windows(0, &words(&[1; 14]), 8, 2);
        assert_eq!(places(&both), [(0, 8), (6, 14)]);
        let cut = Cut::from(Threshold::Probability(0.5));
        // What the model reads begins with a special token.
        let (first, second) = (
            scores(&[(7, 8, 0, 2.0), (8, 8, 0, 1.0), (1, 2, 0, -1.0)]),
            scores(&[(1, 2, 0, 2.5), (2, 2, 0, 1.5)]),
        );
        let told: Vec<_> = both
            .iter()
            .zip([&first, &second])
            .map(|(window, scores)| {
                let found = candidates(window, scores, 1, &cut);
                found.iter().map(|one| (one.first, one.last)).collect::<Vec<_>>()
            })
            .collect();
        // The border is at 7: the span 6..=7 has its middle before it, the span 7..=7 behind it. What is below the threshold is not told.
        assert_eq!(told, [vec![(6, 7)], vec![(7, 7)]]);
    }

    fn candidate(first: usize, last: usize, label: u32, margin: f32) -> Candidate {
        Candidate {
            first,
            last,
            label,
            margin,
            score: 0.5,
        }
    }

    fn kept(candidates: &[Candidate], nested: bool) -> Vec<(usize, usize, u32)> {
        let kept = decode(candidates.to_vec(), nested);
        kept.iter().map(|one| (one.first, one.last, one.label)).collect()
    }

    #[test]
    fn entities_inside_others_stay_only_if_they_are_asked_for() {
        let candidates = [
            candidate(2, 3, 0, 1.0),
            candidate(0, 5, 1, 3.0),
            // The same words as another type: the better one stays.
            candidate(2, 3, 1, 0.5),
            // Crosses the best.
            candidate(4, 7, 0, 2.0),
            candidate(8, 9, 0, 0.1),
            // Around one that is better.
            candidate(8, 12, 1, 0.05),
            // Inside one that lies inside the best.
            candidate(3, 3, 0, 0.2),
        ];
        assert_eq!(kept(&candidates, false), [(0, 5, 1), (8, 9, 0)]);
        assert_eq!(
            kept(&candidates, true),
            [(0, 5, 1), (2, 3, 0), (3, 3, 0), (8, 9, 0), (8, 12, 1)]
        );
        // Of equals the first by place, whatever the order in which windows told them.
        let equal = [candidate(1, 2, 0, 1.0), candidate(0, 1, 0, 1.0)];
        assert_eq!(kept(&equal, false), [(0, 1, 0)]);
        assert_eq!(kept(&[equal[1], equal[0]], false), [(0, 1, 0)]);
    }
}
