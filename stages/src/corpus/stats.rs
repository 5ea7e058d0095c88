//! What a corpus is like: how long, how many of what, what overlaps, what comes twice, what a window would cut off.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::Record;
use crate::tokenizer::{Encoded, TextTokenizer, TokenizerError};
use crate::tokens::Format as View;

/// The figures of one source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Records.
    pub sentences: u64,
    /// Records without an entity.
    pub without_entities: u64,
    /// Words.
    pub words: u64,
    /// Code points of the texts.
    pub characters: u64,
    /// Entities.
    pub entities: u64,
    /// Entities by type.
    pub labels: BTreeMap<String, u64>,
    /// Records by language, of those that name one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub languages: BTreeMap<String, u64>,
    /// Records by dataset, of those that name one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub datasets: BTreeMap<String, u64>,
    /// Words of a record.
    pub words_per_sentence: Histogram,
    /// Words of an entity.
    pub words_per_entity: Histogram,
    /// Pairs of entities that overlap.
    pub overlaps: Overlapping,
    /// Records whose text, but for white space, came before in the same source.
    pub repeated_texts: u64,
    /// What a window would cut off, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Cut>,
    /// The texts, for [`shared_texts`].
    #[serde(skip)]
    texts: HashSet<u128>,
}

/// Pairs of entities of one record that overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overlapping {
    /// One lies within the other.
    pub nested: u64,
    /// Each has words that the other has not.
    pub crossing: u64,
    /// They cover the same words.
    pub same: u64,
}

/// What an encoder's window cuts off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The longest input in subwords, special tokens included.
    pub max_seq_length: usize,
    /// Subwords.
    pub subwords: u64,
    /// Subwords of the longest record.
    pub longest: u64,
    /// Records that are cut.
    pub sentences: u64,
    /// Subwords that are cut off.
    pub cut_subwords: u64,
    /// Entities that do not lie within the window.
    pub entities: u64,
}

/// A tokenizer and the window behind it.
pub struct Window<'a> {
    /// Cuts texts into subwords.
    pub tokenizer: &'a TextTokenizer,
    /// Whether words or texts are cut.
    pub view: View,
    /// The longest input in subwords, with the special tokens at both ends.
    pub max_seq_length: usize,
}

/// How often each value came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        *self.0.entry(value).or_default() += 1;
    }

    /// The smallest value that at least this share of all values does not exceed; 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let total: u64 = self.0.values().sum();
        let wanted = (share * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (value, count) in &self.0 {
            seen += count;
            if seen >= wanted {
                return *value;
            }
        }
        0
    }

    /// The mean; 0 if there are no values.
    pub fn mean(&self) -> f64 {
        let (sum, total) = self.0.iter().fold((0, 0), |(sum, total), (value, count)| {
            (sum + value * count, total + count)
        });
        if total == 0 { 0.0 } else { sum as f64 / total as f64 }
    }
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Summary {
            mean: f64,
            min: u64,
            median: u64,
            p95: u64,
            p99: u64,
            max: u64,
        }
        Summary {
            // Rounded, for the digits beyond say nothing.
            mean: (self.mean() * 1e4).round() / 1e4,
            min: self.quantile(0.0),
            median: self.quantile(0.5),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: self.quantile(1.0),
        }
        .serialize(serializer)
    }
}

/// What [`Stats::add`] needs of a record; made side by side with others.
pub struct Sample {
    record: Record,
    text: u128,
    overlaps: Overlapping,
    /// Subwords, and entities that do not lie within the window.
    window: Option<(u64, u64)>,
}

impl Sample {
    /// Looks at a record.
    ///
    /// # Errors
    /// If the tokenizer refuses it.
    pub fn new(record: Record, window: Option<&Window<'_>>) -> Result<Self, TokenizerError> {
        Ok(Self {
            text: text_key(&record.text),
            overlaps: overlaps(&record),
            window: window.map(|window| window.look_at(&record)).transpose()?,
            record,
        })
    }
}

impl Stats {
    /// The figures of nothing, for the window of `max_seq_length` subwords if one is given.
    pub fn new(max_seq_length: Option<usize>) -> Self {
        Self {
            window: max_seq_length.map(|max_seq_length| Cut {
                max_seq_length,
                ..Cut::default()
            }),
            ..Self::default()
        }
    }

    /// Adds a record.
    pub fn add(&mut self, sample: Sample) {
        let Sample {
            record,
            text,
            overlaps,
            window,
        } = sample;
        self.sentences += 1;
        self.without_entities += u64::from(record.token_spans.is_empty());
        self.words += record.tokens.len() as u64;
        self.characters += record.text.chars().count() as u64;
        self.entities += record.token_spans.len() as u64;
        self.words_per_sentence.add(record.tokens.len() as u64);
        self.repeated_texts += u64::from(!self.texts.insert(text));
        for span in record.token_spans {
            self.words_per_entity.add(u64::from(span.end - span.start));
            *self.labels.entry(span.label).or_default() += 1;
        }
        if let Some(language) = record.origin.language {
            *self.languages.entry(language).or_default() += 1;
        }
        if let Some(dataset) = record.origin.dataset {
            *self.datasets.entry(dataset).or_default() += 1;
        }
        self.overlaps.nested += overlaps.nested;
        self.overlaps.crossing += overlaps.crossing;
        self.overlaps.same += overlaps.same;
        if let (Some(cut), Some((subwords, entities))) = (&mut self.window, window) {
            let room = cut.max_seq_length.saturating_sub(2) as u64;
            cut.subwords += subwords;
            cut.longest = cut.longest.max(subwords);
            cut.sentences += u64::from(subwords > room);
            cut.cut_subwords += subwords.saturating_sub(room);
            cut.entities += entities;
        }
    }
}

/// How many different texts two sources share, but for white space.
pub fn shared_texts(one: &Stats, other: &Stats) -> u64 {
    one.texts.intersection(&other.texts).count() as u64
}

/// A hash of a text with each run of white space as one blank; texts with the same one are taken to be the same.
fn text_key(text: &str) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for word in text.split_whitespace() {
        hasher.update(word.as_bytes());
        hasher.update(b" ");
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

fn overlaps(record: &Record) -> Overlapping {
    let mut places: Vec<(u32, u32)> = record.token_spans.iter().map(|span| (span.start, span.end)).collect();
    places.sort_unstable();
    let mut found = Overlapping::default();
    for (index, &(start, end)) in places.iter().enumerate() {
        for &(other_start, other_end) in places[index + 1..].iter().take_while(|other| other.0 < end) {
            // Sorted: the other one begins at the same word or later.
            if (start, end) == (other_start, other_end) {
                found.same += 1;
            } else if other_end <= end || other_start == start {
                found.nested += 1;
            } else {
                found.crossing += 1;
            }
        }
    }
    found
}

impl Window<'_> {
    fn look_at(&self, record: &Record) -> Result<(u64, u64), TokenizerError> {
        let (encoded, spans) = match self.view {
            View::Tokens => (self.tokenizer.words(&record.tokens)?, &record.token_spans),
            View::Text => (self.tokenizer.text(&record.text)?, &record.char_spans),
        };
        let room = self.max_seq_length.saturating_sub(2);
        let subwords = encoded.ids.len() as u64;
        if encoded.ids.len() <= room {
            return Ok((subwords, 0));
        }
        let cut = spans
            .iter()
            .filter(|span| last_subword(&encoded, self.view, span.end).is_some_and(|last| last >= room));
        Ok((subwords, cut.count() as u64))
    }
}

/// The last subword of a span that ends at `end`.
fn last_subword(encoded: &Encoded, view: View, end: u32) -> Option<usize> {
    match view {
        View::Tokens => encoded.words.iter().rposition(|&word| word < end),
        View::Text => encoded.starts.iter().rposition(|&start| start < end),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_record;
    use super::*;
    use crate::wordpiece;

    fn record(tokens: &[&str], spans: &[(u32, u32, &str)]) -> Record {
        let spans: Vec<_> = spans
            .iter()
            .map(|(start, end, label)| serde_json::json!({"start": start, "end": end, "label": label}))
            .collect();
        let json = serde_json::json!({"text": tokens.join(" "), "tokens": tokens, "token_spans": spans});
        parse_record(json.to_string().as_bytes(), 1).unwrap().0
    }

    #[test]
    fn figures_are_those_of_the_records() {
        let mut stats = Stats::new(None);
        let records = [
            record(
                &["a", "b", "c", "d"],
                &[(0, 4, "x"), (1, 3, "y"), (1, 3, "z"), (2, 4, "x")],
            ),
            record(&["a", "b"], &[]),
            record(&["b", "c", "d"], &[(0, 2, "x"), (1, 3, "x"), (0, 1, "x")]),
            record(&["a", "b"], &[(0, 1, "y")]),
        ];
        for record in records {
            stats.add(Sample::new(record, None).unwrap());
        }
        // 0..4 holds three others; 1..3 twice; 1..3 crosses 2..4 twice. 0..2 holds 0..1 and crosses 1..3.
        assert_eq!(
            stats.overlaps,
            Overlapping {
                nested: 4,
                crossing: 3,
                same: 1
            }
        );
        assert_eq!(
            (stats.sentences, stats.words, stats.entities, stats.without_entities),
            (4, 11, 8, 1)
        );
        assert_eq!(stats.labels["x"], 5);
        assert_eq!(stats.repeated_texts, 1);
        let words = &stats.words_per_sentence;
        assert_eq!(
            [
                words.quantile(0.0),
                words.quantile(0.5),
                words.quantile(0.95),
                words.quantile(1.0)
            ],
            [2, 2, 4, 4]
        );
        assert_eq!(words.mean(), 2.75);
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }

    #[test]
    fn texts_are_shared_whatever_their_white_space() {
        let stats = |texts: &[&[&str]]| {
            let mut stats = Stats::new(None);
            for tokens in texts {
                let mut record = record(tokens, &[]);
                record.text = record.text.replace(' ', "  ");
                stats.add(Sample::new(record, None).unwrap());
            }
            stats
        };
        let (one, other) = (stats(&[&["a", "b"], &["c"], &["c"]]), stats(&[&["c"], &["ab"]]));
        assert_eq!(shared_texts(&one, &other), 1);
    }

    #[test]
    fn a_window_cuts_what_lies_behind_it() {
        let vocabulary: Vec<String> = wordpiece::SPECIAL_TOKENS
            .iter()
            .chain(&["a", "b", "##b"])
            .map(|&token| token.to_owned())
            .collect();
        let json = wordpiece::tokenizer_json(&vocabulary, wordpiece::Options::default());
        let tokenizer = TextTokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        for view in [View::Tokens, View::Text] {
            // a, b ##b, a: four subwords, of which a window of 5 takes three.
            let window = Window {
                tokenizer: &tokenizer,
                view,
                max_seq_length: 5,
            };
            let mut stats = Stats::new(Some(5));
            let record = record(&["a", "bb", "a"], &[(0, 1, "x"), (1, 2, "x"), (1, 3, "x"), (2, 3, "x")]);
            stats.add(Sample::new(record, Some(&window)).unwrap());
            let expected = Cut {
                max_seq_length: 5,
                subwords: 4,
                longest: 4,
                sentences: 1,
                cut_subwords: 1,
                entities: 2,
            };
            assert_eq!(stats.window, Some(expected), "{view:?}");
        }
    }
}
