//! An evaluation: logits, golds, decoded spans and metrics.

use std::collections::BTreeSet;

use burn::tensor::Device;
use nerpipe_stages::batch::{Batch, TypeInput};
use nerpipe_stages::decode::{Bar, Candidate, Rank, decode, logit};
use nerpipe_stages::metrics::{Counter, Counting, Figures, SentenceCounts};
use nerpipe_stages::tokens::Split;
use serde_json::Value;

use super::case::{ALL, Evaluation, Outcome, Setting, by_type, values};
use super::{Findings, Tolerance};

/// In float64 the peer's logits with these sharper weights are up to 8e-5 from the reference's.
const EVALUATION_LOGITS: Tolerance = Tolerance::absolute(1e-4);

impl Setting<'_> {
    pub(super) fn evaluate(&self, name: &str, evaluation: &Evaluation, split: &Split, findings: &mut Findings) {
        let expected = self.golden.tensors(&format!("cases/{name}/eval.safetensors"));
        let weights = self
            .case
            .eval_weights
            .as_deref()
            .unwrap_or("eval_weights_f16.safetensors");
        let recognizer = self
            .recognizer(self.golden.tensors(&format!("cases/{name}/{weights}")), &Device::flex())
            .with_parity(self.parity);
        let collator = self.collator(self.parity);
        let own = self.collator(self.sparse());
        let classes = evaluation.labels.len();

        let mut sentences: Vec<Decodable> = Vec::new();
        let (mut kept, mut total) = (vec![0; split.len()], vec![0; split.len()]);
        for (number, rows) in evaluation.batches.iter().enumerate() {
            let (prefix, meta) = (format!("batch{number}."), &evaluation.meta[number]);
            let collated = self.collate(&collator, split, rows, &evaluation.labels);
            let batch = &collated.batches[0];
            self.check_batch(batch, meta, &expected, &prefix, findings);
            let golds: Vec<BTreeSet<(u32, u32, u32)>> = gold_sets(batch);
            for (sentence, listed) in meta.ner.iter().enumerate() {
                let class = |label: &str| {
                    evaluation
                        .labels
                        .iter()
                        .position(|other| other == label)
                        .expect("listed") as u32
                };
                let listed = listed
                    .iter()
                    .map(|gold| (gold.start, gold.end, class(&gold.label)))
                    .collect();
                findings.equal(
                    &format!("{prefix}golds of sentence {sentence}"),
                    &golds[sentence],
                    &listed,
                );
            }
            for gold in &batch.golds {
                kept[rows[gold.sentence as usize]] += 1;
            }
            for (sentence, &row) in rows.iter().enumerate() {
                let lost = collated
                    .lost
                    .iter()
                    .filter(|lost| lost.sentence == sentence as u32)
                    .count();
                total[row] = kept[row] + lost;
            }

            let scores = recognizer.scores(batch, None, ALL, None);
            for (kind, logits) in [("start", scores.start), ("end", scores.end), ("span", scores.span)] {
                let what = format!("{prefix}out.{kind}_logits");
                let got = by_type(&values(logits.expect("scored")), batch);
                findings.close(
                    "evaluation logits",
                    &what,
                    &got,
                    &expected.float(&what).data,
                    EVALUATION_LOGITS,
                );
            }

            // The way evaluation goes: types encoded once, only spans that can be right.
            let logits = recognizer.span_logits(batch, None);
            if !self.parity.cross_masks || self.config.is_bi_encoder() {
                let listed = &self.collate(&own, split, rows, &evaluation.labels).batches[0];
                let types = match &listed.type_input {
                    TypeInput::Apart(input) => recognizer.type_vectors(input),
                    TypeInput::Markers(_) => None,
                };
                let slot = self.config.has_threshold_slot();
                let sparse =
                    listed.candidates(&recognizer.span_logits(listed, types.as_ref()), slot, f32::NEG_INFINITY);
                let dense = batch.candidates(&logits, slot, f32::NEG_INFINITY);
                for (sparse, dense) in sparse.iter().zip(&dense) {
                    let place = |candidate: &Candidate| (candidate.start, candidate.end, candidate.label);
                    let places = |all: &[Candidate]| all.iter().map(place).collect::<Vec<_>>();
                    findings.equal(
                        "listed candidates",
                        &places(&sparse.candidates),
                        &places(&dense.candidates),
                    );
                    let logits = |all: &[Candidate]| all.iter().map(|candidate| candidate.logit).collect::<Vec<_>>();
                    let (sparse, dense) = (logits(&sparse.candidates), logits(&dense.candidates));
                    findings.close("listed logits", "listed logits", &sparse, &dense, EVALUATION_LOGITS);
                }
            }
            let candidates = batch.candidates(&logits, self.config.has_threshold_slot(), f32::NEG_INFINITY);
            for (sentence, (scores, golds)) in candidates.into_iter().zip(golds).enumerate() {
                let first = batch.spans.rows.of(sentence).start * classes;
                // Candidates carry the split's label numbers; the fixtures' are places in their list.
                let class =
                    |label: u32| batch.types.iter().position(|&other| other == label).expect("asked for") as u32;
                let candidates = scores.candidates.into_iter();
                sentences.push(Decodable {
                    row: rows[sentence],
                    candidates: candidates
                        .map(|c| Candidate {
                            label: class(c.label),
                            ..c
                        })
                        .collect(),
                    first_span: logits[first..first + classes].to_vec(),
                    golds,
                });
            }
        }
        findings.equal("kept golds", &kept, &evaluation.gold_kept);
        findings.equal("all golds", &total, &evaluation.gold_total);
        for outcome in &evaluation.results {
            check_outcome(outcome, &sentences, &evaluation.labels, findings);
        }
    }
}

/// One evaluated sentence.
struct Decodable {
    row: usize,
    candidates: Vec<Candidate>,
    /// Logits of the span (0, 0), by type.
    first_span: Vec<f32>,
    golds: BTreeSet<(u32, u32, u32)>,
}

fn check_outcome(outcome: &Outcome, sentences: &[Decodable], labels: &[String], findings: &mut Findings) {
    let threshold = &outcome.threshold;
    let mut counter = Counter::new(labels.len());
    for sentence in sentences {
        let bar = match threshold.as_f64() {
            Some(probability) => Bar::Fixed(logit(probability)),
            None => Bar::PerType(&sentence.first_span),
        };
        let found = if outcome.equal_confidence_pairs > 0 {
            by_confidence(&sentence.candidates, threshold.as_f64(), &sentence.first_span)
        } else {
            decode(&sentence.candidates, bar, Rank::Logit)
        };
        let expected = &outcome.predictions[sentence.row];
        let shown: Vec<_> = found
            .iter()
            .map(|c| (c.start, c.end, labels[c.label as usize].as_str()))
            .collect();
        let listed: Vec<_> = expected.iter().map(|p| (p.start, p.end, p.label.as_str())).collect();
        findings.equal(
            &format!("predictions at {threshold} of sample {}", sentence.row),
            &shown,
            &listed,
        );
        let confidences: Vec<f32> = found.iter().map(|c| 1.0 / (1.0 + (-c.logit).exp())).collect();
        let listed: Vec<f32> = expected.iter().map(|p| p.confidence as f32).collect();
        findings.close(
            "confidences",
            "confidences",
            &confidences,
            &listed,
            Tolerance::absolute(2e-5),
        );
        let keys = found.iter().map(|c| (c.start, c.end, c.label)).collect();
        counter.add(&SentenceCounts::new(&keys, &sentence.golds, []));
    }
    let metrics = counter.metrics(Counting::Reference, labels);
    let figures = |figures: &Figures| {
        let counts = figures.counts;
        (
            counts.tp,
            counts.fp,
            counts.missed,
            [figures.precision, figures.recall, figures.f1].map(rounded),
        )
    };
    let listed = |value: &Value| {
        let count = |key: &str| value[key].as_u64().expect(key);
        let ratio = |key: &str| rounded(value[key].as_f64().expect(key));
        (
            count("tp"),
            count("fp"),
            count("fn"),
            ["precision", "recall", "f1"].map(ratio),
        )
    };
    let what = format!("metrics at {threshold}");
    findings.equal(&what, &figures(&metrics.micro), &listed(&outcome.metrics["micro"]));
    let types = outcome.metrics["per_class"].as_object().expect("metrics by type");
    findings.equal(&what, &metrics.per_class.len(), &types.len());
    for (label, value) in types {
        findings.equal(&what, &metrics.per_class.get(label).map(figures), &Some(listed(value)));
    }
    let (got, expected) = (&metrics.macro_, &outcome.metrics["macro"]);
    let ratio = |key: &str| rounded(expected[key].as_f64().expect(key));
    findings.equal(
        &what,
        &[got.precision, got.recall, got.f1].map(rounded),
        &["precision", "recall", "f1"].map(ratio),
    );
    findings.equal(&what, &Some(got.num_classes as u64), &expected["num_classes"].as_u64());
}

fn rounded(ratio: f64) -> i64 {
    (ratio * 1e9).round() as i64
}

/// Golds of each sentence by position and class.
fn gold_sets(batch: &Batch) -> Vec<BTreeSet<(u32, u32, u32)>> {
    let mut sets = vec![BTreeSet::new(); batch.sentences()];
    for gold in &batch.golds {
        let (start, end) = batch.span(gold.span as usize);
        sets[gold.sentence as usize].insert((start, end, gold.class));
    }
    sets
}

/// The reference's decoding where confidences tie: they are 32-bit sigmoids, which are equal from a logit of 17 on, and the
/// first of equals wins, type by type.
fn by_confidence(candidates: &[Candidate], threshold: Option<f64>, first_span: &[f32]) -> Vec<Candidate> {
    let confidence = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    let passes = |c: &&Candidate| match threshold {
        Some(probability) => f64::from(confidence(c.logit)) > probability,
        None => confidence(c.logit) > confidence(first_span[c.label as usize]),
    };
    let mut passing: Vec<Candidate> = candidates.iter().filter(passes).copied().collect();
    passing.sort_by_key(|c| (c.label, c.start, c.end));
    passing.sort_by(|a, b| confidence(b.logit).total_cmp(&confidence(a.logit)));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in passing {
        if kept
            .iter()
            .all(|other| candidate.end < other.start || other.end < candidate.start)
        {
            kept.push(candidate);
        }
    }
    kept
}
