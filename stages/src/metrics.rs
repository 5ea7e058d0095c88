//! Exact-match precision, recall and F1: per type, micro and macro.
//!
//! A prediction is right if start, end and type equal a gold's. Two ways of counting stand side by side: the reference's,
//! where golds that were cut off or are too long leave the gold set, which flatters recall; and *full gold*, where they count as
//! missed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Right, wrong and missed spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Predicted and gold.
    pub tp: u64,
    /// Predicted, not gold.
    pub fp: u64,
    /// Gold, not predicted.
    #[serde(rename = "fn")]
    pub missed: u64,
}

/// `a / b`, and 0 for 0 / 0.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

impl Counts {
    /// The share of predictions that are right, 0 if there are none.
    pub fn precision(&self) -> f64 {
        ratio(self.tp as f64, (self.tp + self.fp) as f64)
    }

    /// The share of golds that were found, 0 if there are none.
    pub fn recall(&self) -> f64 {
        ratio(self.tp as f64, (self.tp + self.missed) as f64)
    }

    /// The harmonic mean of precision and recall, 0 if nothing was right.
    pub fn f1(&self) -> f64 {
        ratio(2.0 * self.tp as f64, (2 * self.tp + self.fp + self.missed) as f64)
    }

    fn add(&mut self, other: Self) {
        self.tp += other.tp;
        self.fp += other.fp;
        self.missed += other.missed;
    }
}

/// [`Counts`] with their ratios, as they are written to `metrics.json`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// See [`Counts::precision`].
    pub precision: f64,
    /// See [`Counts::recall`].
    pub recall: f64,
    /// See [`Counts::f1`].
    pub f1: f64,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
}

impl From<Counts> for Figures {
    fn from(counts: Counts) -> Self {
        Self {
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            counts,
        }
    }
}

/// The unweighted mean over the types that occur among golds or predictions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Macro {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
    /// How many types the mean is over.
    pub num_classes: usize,
}

/// Metrics by one way of counting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Over all spans.
    pub micro: Figures,
    /// Over types.
    #[serde(rename = "macro")]
    pub macro_: Macro,
    /// By type.
    pub per_class: BTreeMap<String, Figures>,
}

/// Counts predictions against golds, sentence by sentence.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    kept: BTreeMap<u32, Counts>,
    lost: BTreeMap<u32, u64>,
}

/// A span with a type, for matching: (start, end, label).
pub type Key = (u32, u32, u32);

impl Counter {
    /// Adds one sentence: its predictions, its golds that the model could find, and the labels of those it could not
    /// (cut off, too long, without subwords).
    pub fn add(&mut self, predicted: &BTreeSet<Key>, golds: &BTreeSet<Key>, lost: &[u32]) {
        for key in predicted {
            let counts = self.kept.entry(key.2).or_default();
            if golds.contains(key) {
                counts.tp += 1
            } else {
                counts.fp += 1
            }
        }
        for key in golds.difference(predicted) {
            self.kept.entry(key.2).or_default().missed += 1;
        }
        for &label in lost {
            *self.lost.entry(label).or_default() += 1;
        }
    }

    /// Golds that left the gold set by the reference's way of counting.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// The reference's metrics: lost golds are not counted.
    pub fn reference(&self, labels: &[String]) -> Metrics {
        metrics(&self.kept, labels)
    }

    /// Full gold: lost golds count as missed.
    pub fn full_gold(&self, labels: &[String]) -> Metrics {
        let mut all = self.kept.clone();
        for (&label, &lost) in &self.lost {
            all.entry(label).or_default().missed += lost;
        }
        metrics(&all, labels)
    }
}

fn metrics(counts: &BTreeMap<u32, Counts>, labels: &[String]) -> Metrics {
    let mut total = Counts::default();
    let per_class: BTreeMap<String, Figures> = counts
        .iter()
        .map(|(&label, &counts)| {
            total.add(counts);
            (labels[label as usize].clone(), counts.into())
        })
        .collect();
    let mean = |figure: fn(&Figures) -> f64| ratio(per_class.values().map(figure).sum(), per_class.len() as f64);
    Metrics {
        micro: total.into(),
        macro_: Macro {
            precision: mean(|figures| figures.precision),
            recall: mean(|figures| figures.recall),
            f1: mean(|figures| figures.f1),
            num_classes: per_class.len(),
        },
        per_class,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["city", "person", "river"].map(String::from).to_vec()
    }

    #[test]
    fn by_hand() {
        let mut counter = Counter::default();
        counter.add(&[(0, 1, 1), (3, 3, 0)].into(), &[(0, 1, 1), (3, 4, 0)].into(), &[]);
        counter.add(&[].into(), &[(2, 2, 1)].into(), &[0, 2]);
        let metrics = counter.reference(&labels());
        assert_eq!(
            metrics.micro.counts,
            Counts {
                tp: 1,
                fp: 1,
                missed: 2
            }
        );
        assert_eq!((metrics.micro.precision, metrics.micro.f1), (0.5, 0.4));
        assert_eq!(metrics.macro_.num_classes, 2);
        assert!((metrics.macro_.f1 - (2.0 / 3.0) / 2.0).abs() < 1e-12);
    }

    /// Defect 15 of the reference: golds that were cut off leave its gold set.
    #[test]
    fn lost_golds_are_missed_in_full_gold_only() {
        let mut counter = Counter::default();
        counter.add(&[(0, 1, 1)].into(), &[(0, 1, 1)].into(), &[1, 2]);
        assert_eq!(counter.lost(), 2);
        assert_eq!(counter.reference(&labels()).micro.recall, 1.0);
        let full = counter.full_gold(&labels());
        assert!((full.micro.recall - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((full.per_class["river"].counts.missed, full.macro_.num_classes), (1, 2));
    }

    #[test]
    fn nothing_at_all_is_zero_and_not_nan() {
        let metrics = Counter::default().reference(&labels());
        assert_eq!(
            (metrics.micro.f1, metrics.macro_.f1, metrics.macro_.num_classes),
            (0.0, 0.0, 0)
        );
    }
}
