//! What one forward pass over a split leaves behind: for every sentence its candidates, its bars and its golds. Any number of
//! thresholds is then a matter of reading these lines.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use nerpipe_engine::StageError;
use serde::{Deserialize, Serialize};

use crate::batch::LostReason;
use crate::decode::{Bar, Candidate, Rank, decode};
use crate::metrics::table::CountTable;
use crate::metrics::{Counter, Counting, Key, Metrics, SentenceCounts};
use crate::thresholds::Cut;

/// The scores of one sentence. Positions are those of the encoder's input, ends inclusive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SentenceScores {
    /// Candidates above the floor: start, end, type, logit.
    pub candidates: Vec<(u32, u32, u32, f32)>,
    /// The logit of the threshold span for each type; empty unless the model is contrastive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<f32>,
    /// Golds that can be found: start, end, type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub golds: Vec<Key>,
    /// The types of golds that cannot, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<(u32, LostReason)>,
}

impl SentenceScores {
    /// The spans predicted above `bar`, best first.
    pub fn decode(&self, bar: Bar<'_>) -> Vec<Candidate> {
        let candidates: Vec<Candidate> = self
            .candidates
            .iter()
            .map(|&(start, end, label, logit)| Candidate {
                start,
                end,
                label,
                logit,
            })
            .collect();
        decode(&candidates, bar, Rank::Margin)
    }

    /// How sure the model is of a predicted span, as a number between 0 and 1: its probability, or for a threshold
    /// span the logistic function of the difference of the two logits.
    pub fn confidence(&self, span: &Candidate) -> f64 {
        let bar = self.bars.get(span.label as usize).copied().unwrap_or(0.0);
        let x = f64::from(span.logit) - f64::from(bar);
        1.0 / (1.0 + (-x).exp())
    }
}

/// Counts at one threshold: of all sentences together, and of each.
#[derive(Clone, Debug)]
pub struct Tally {
    cut: Cut,
    all: Counter,
    table: CountTable,
    lost: Vec<(usize, LostReason)>,
}

/// Both ways of counting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BothMetrics {
    /// The reference's counting: golds that cannot be found are left out.
    #[serde(flatten)]
    pub reference: Metrics,
    /// Golds that cannot be found count as missed.
    pub full_gold: Metrics,
}

impl Tally {
    /// Counts nothing yet, of so many types.
    pub fn new(cut: Cut, types: usize) -> Self {
        Self {
            cut,
            all: Counter::new(types),
            table: CountTable::default(),
            lost: Vec::new(),
        }
    }

    /// Adds the next sentence, in `language` if that is known; returns what was predicted for it.
    pub fn add(&mut self, scores: &SentenceScores, language: Option<&str>) -> Vec<Candidate> {
        let spans = scores.decode(self.cut.bar(&scores.bars, language));
        let predicted: BTreeSet<Key> = spans.iter().map(|span| (span.start, span.end, span.label)).collect();
        let golds: BTreeSet<Key> = scores.golds.iter().copied().collect();
        let counts = SentenceCounts::new(&predicted, &golds, scores.lost.iter().map(|lost| lost.0));
        let index = self.table.len();
        self.lost.extend(scores.lost.iter().map(|lost| (index, lost.1)));
        self.all.add(&counts);
        self.table.push(&counts);
        spans
    }

    /// The metrics over all sentences.
    pub fn metrics(&self, labels: &[String]) -> BothMetrics {
        BothMetrics {
            reference: self.all.metrics(Counting::Reference, labels),
            full_gold: self.all.metrics(Counting::FullGold, labels),
        }
    }

    /// The counts of all sentences together.
    pub fn all(&self) -> &Counter {
        &self.all
    }

    /// The counts of each sentence.
    pub fn table(&self) -> &CountTable {
        &self.table
    }

    /// The golds that cannot be found, each by its sentence's number, and why.
    pub fn lost(&self) -> &[(usize, LostReason)] {
        &self.lost
    }
}

/// Writes one line a sentence.
pub struct ScoreWriter {
    out: BufWriter<File>,
}

impl ScoreWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self, StageError> {
        let file = File::create(path)
            .map_err(|error| StageError::new(format!("failed to create `{}`: {error}", path.display())))?;
        Ok(Self {
            out: BufWriter::new(file),
        })
    }

    /// Writes the next sentence.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write(&mut self, scores: &SentenceScores) -> Result<(), StageError> {
        let failed = |error: &dyn std::fmt::Display| StageError::new(format!("failed to write span scores: {error}"));
        serde_json::to_writer(&mut self.out, scores).map_err(|error| failed(&error))?;
        self.out.write_all(b"\n").map_err(|error| failed(&error))
    }

    /// Flushes what is buffered.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> Result<(), StageError> {
        self.out
            .flush()
            .map_err(|error| StageError::new(format!("failed to write span scores: {error}")))
    }
}

/// Reads what [`ScoreWriter`] wrote, line by line.
///
/// # Errors
/// The iterator's items fail if the file cannot be read or a line is damaged.
pub fn read_scores(path: &Path) -> Result<impl Iterator<Item = Result<SentenceScores, StageError>>, StageError> {
    let file = File::open(path)
        .map_err(|error| StageError::new(format!("failed to open span scores `{}`: {error}", path.display())))?;
    Ok(BufReader::new(file).lines().enumerate().map(|(number, line)| {
        let damaged = |error: &dyn std::fmt::Display| {
            StageError::new(format!("span scores are damaged: line {}: {error}", number + 1))
        };
        let line = line.map_err(|error| damaged(&error))?;
        serde_json::from_str(&line).map_err(|error| damaged(&error))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognizer::Threshold;

    fn scores() -> SentenceScores {
        SentenceScores {
            candidates: vec![(1, 2, 0, 2.0), (2, 3, 1, 1.0), (5, 5, 1, -0.5)],
            bars: vec![2.5, -1.0],
            golds: vec![(1, 2, 0), (5, 5, 1)],
            lost: vec![(1, LostReason::CutOff)],
        }
    }

    #[test]
    fn one_pass_serves_every_threshold() {
        let spans = |threshold: Threshold| {
            scores()
                .decode(Cut::from(threshold).bar(&scores().bars, None))
                .iter()
                .map(|span| (span.start, span.end, span.label))
                .collect::<Vec<_>>()
        };
        assert_eq!(spans(Threshold::Probability(0.5)), [(1, 2, 0)]);
        assert_eq!(spans(Threshold::Probability(0.3)), [(1, 2, 0), (5, 5, 1)]);
        assert_eq!(spans(Threshold::Cls), [(2, 3, 1), (5, 5, 1)]);
    }

    #[test]
    fn sentences_are_counted_together_and_apart() {
        let mut tally = Tally::new(Threshold::Probability(0.5).into(), 2);
        tally.add(&scores(), None);
        let second = SentenceScores {
            candidates: Vec::new(),
            lost: vec![(0, LostReason::TooLong)],
            ..scores()
        };
        tally.add(&second, None);
        let apart = |sentence: usize| tally.table().sum(2, [sentence]).micro(Counting::Reference);
        assert_eq!((apart(0).tp, apart(0).missed, apart(1).missed), (1, 1, 2));
        let metrics = tally.metrics(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(metrics.full_gold.micro.counts.missed, 5);
        assert_eq!(tally.lost(), [(0, LostReason::CutOff), (1, LostReason::TooLong)]);
    }

    #[test]
    fn lines_come_back_as_they_were() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("scores.jsonl");
        let mut writer = ScoreWriter::create(&path).expect("created");
        let rows = [scores(), SentenceScores::default()];
        for row in &rows {
            writer.write(row).expect("written");
        }
        writer.finish().expect("flushed");
        let back: Vec<_> = read_scores(&path)
            .expect("opened")
            .map(|row| row.expect("a line"))
            .collect();
        assert_eq!(back, rows);
    }
}
