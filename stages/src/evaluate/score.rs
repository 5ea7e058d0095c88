//! Forward passes over a split: sentences of like length together, results in the order of the split, in constant memory.

use std::collections::BTreeMap;

use nerpipe_engine::{Context, Progress, StageError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::scores::SentenceScores;
use crate::batch::{Collated, Collator, LostReason};
use crate::decode::logit;
use crate::model::Recognizer;
use crate::recognizer::Threshold;
use crate::tokens::{Sentence, Split};

/// Sentences that are sorted by length and held in memory at a time. Larger windows pad less.
const WINDOW: usize = 1024;

/// How a split is scored.
#[derive(Clone, Copy, Debug)]
pub struct ScoreSettings {
    /// Sentences in a forward pass.
    pub batch_size: usize,
    /// The lowest threshold that will be asked for: candidates at or below it are not kept.
    pub floor: Threshold,
}

/// What the window and the longest span left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCounts {
    cut_sentences: u64,
    cut_subwords: u64,
    cut_names: u64,
    lost: BTreeMap<LostReason, u64>,
}

impl LossCounts {
    /// Adds what one batch left out.
    pub fn add(&mut self, collated: &Collated) {
        self.cut_sentences += collated.cut_sentences as u64;
        self.cut_subwords += collated.cut_subwords as u64;
        for lost in &collated.lost {
            *self.lost.entry(lost.reason).or_default() += 1;
        }
    }

    /// Adds names of types that did not fit.
    pub fn add_cut_names(&mut self, names: usize) {
        self.cut_names += names as u64;
    }

    /// Name and count of everything that was left out.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let lost = self.lost.iter().map(|(reason, &count)| {
            let name = match reason {
                LostReason::CutOff => "entities_cut_off",
                LostReason::TooLong => "entities_too_long",
                LostReason::NoSubwords => "entities_without_subwords",
                LostReason::InsideWord => "entities_inside_words",
            };
            (name, count)
        });
        [
            ("sentences_cut_off", self.cut_sentences),
            ("subwords_cut_off", self.cut_subwords),
            ("type_names_cut_off", self.cut_names),
        ]
        .into_iter()
        .chain(lost)
        .filter(|&(_, count)| count > 0)
    }

    /// Keeps the counts in the record, and so shows them in the run's summary.
    pub fn note(&self, ctx: &Context, prefix: &str) {
        for (name, count) in self.named() {
            ctx.note(&format!("{prefix}{name}"), json!(count));
        }
    }
}

/// Scores every sentence of `split` against every type of its label table, and hands the scores on in order.
///
/// # Errors
/// If the run was told to stop, or `sink` fails.
pub fn score_split(
    ctx: &Context,
    recognizer: &Recognizer,
    collator: &Collator,
    split: &Split,
    settings: &ScoreSettings,
    sink: &mut dyn FnMut(usize, SentenceScores) -> Result<(), StageError>,
) -> Result<LossCounts, StageError> {
    let labels: Vec<u32> = (0..split.labels().len() as u32).collect();
    let longest = split.sentences().map(|sentence| sentence.ids.len()).max().unwrap_or(0);
    let passes = collator.passes(&labels, &split.labels().ids, longest);
    let types = recognizer.type_vectors(&collator.type_input(&labels, &split.labels().ids).0);
    let slot = recognizer.config().has_threshold_slot();
    let floor = match settings.floor {
        Threshold::Probability(probability) => logit(probability),
        Threshold::Cls | Threshold::LabelToken => f32::NEG_INFINITY,
    };
    let mut counts = LossCounts::default();
    counts.add_cut_names(passes.cut_names);
    for first in (0..split.len()).step_by(WINDOW) {
        let mut order: Vec<usize> = (first..(first + WINDOW).min(split.len())).collect();
        order.sort_by_key(|&index| (split.sentence(index).ids.len(), index));
        let mut window: BTreeMap<usize, SentenceScores> = BTreeMap::new();
        for group in order.chunks(settings.batch_size) {
            ctx.check_cancelled()?;
            let sentences: Vec<Sentence<'_>> = group.iter().map(|&index| split.sentence(index)).collect();
            let collated = collator.collate(&passes, &sentences);
            counts.add(&collated);
            let mut rows = vec![SentenceScores::default(); group.len()];
            for row in &mut rows {
                row.bars = if slot { vec![0.0; labels.len()] } else { Vec::new() };
            }
            for batch in &collated.batches {
                let logits = recognizer.span_logits(batch, types.as_ref());
                for (row, scores) in rows.iter_mut().zip(batch.candidates(&logits, slot, floor)) {
                    for (&label, &bar) in batch.types.iter().zip(&scores.thresholds) {
                        row.bars[label as usize] = bar;
                    }
                    let above = scores
                        .candidates
                        .iter()
                        .filter(|candidate| !slot || candidate.logit > row.bars[candidate.label as usize]);
                    row.candidates.extend(above.map(|c| (c.start, c.end, c.label, c.logit)));
                }
                for gold in &batch.golds {
                    let (start, end) = batch.span(gold.span as usize);
                    rows[gold.sentence as usize]
                        .golds
                        .push((start, end, batch.types[gold.class as usize]));
                }
            }
            for lost in &collated.lost {
                rows[lost.sentence as usize].lost.push((lost.label, lost.reason));
            }
            window.extend(group.iter().copied().zip(rows));
        }
        for (index, scores) in window {
            sink(index, scores)?;
        }
        ctx.progress(Progress {
            done: (first + WINDOW).min(split.len()) as u64,
            total: Some(split.len() as u64),
            unit: "sentences",
            figures: Vec::new(),
        });
    }
    Ok(counts)
}
