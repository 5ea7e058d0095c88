//! Precision, recall and F1: exact by type, micro and macro, and by the four schemes of SemEval-2013.
//!
//! Exactly, a prediction is right if start, end and type equal a gold's; [`schemes`] has the ways that also value what is
//! nearly right. Two ways of treating golds that were cut off or are too long stand side by side ([`Counting`]): the
//! reference's, where they leave the gold set, which flatters recall; and *full gold*, where they count as missed.
//!
//! In the order data meets them: what one sentence adds ([`SentenceCounts`]), the sum over sentences ([`Counter`]) and its
//! [`Metrics`]; the counts of every sentence side by side ([`table::CountTable`]), from which [`resample`] says how sure a
//! [`figure::Figure`] is.

pub mod figure;
pub mod resample;
pub mod schemes;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use schemes::{SchemeCounts, SchemeFigures, Schemes, match_up};

/// A span with a type, for matching: (start, end inclusive, label).
pub type Key = (u32, u32, u32);

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

    fn is_nothing(&self) -> bool {
        *self == Self::default()
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
    /// By scheme.
    pub schemes: Schemes<SchemeMetrics>,
}

/// The figures of one scheme.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchemeMetrics {
    /// Over all spans.
    #[serde(flatten)]
    pub all: SchemeFigures,
    /// By type; absent where it was not counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_class: BTreeMap<String, SchemeFigures>,
}

/// What becomes of golds that cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// They leave the gold set, as in the reference.
    Reference,
    /// They are missed.
    FullGold,
}

/// What one type adds in one sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeCounts {
    /// Spans that the model could find.
    pub counts: Counts,
    /// Golds that it could not.
    pub lost: u64,
}

impl TypeCounts {
    fn by(&self, counting: Counting) -> Counts {
        let lost = match counting {
            Counting::Reference => 0,
            Counting::FullGold => self.lost,
        };
        Counts {
            missed: self.counts.missed + lost,
            ..self.counts
        }
    }
}

/// What one sentence adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentenceCounts {
    /// The types that occur in it.
    pub types: BTreeMap<u32, TypeCounts>,
    /// By scheme, over all types.
    pub schemes: Schemes<SchemeCounts>,
    /// By scheme, each type by itself.
    pub type_schemes: BTreeMap<u32, Schemes<SchemeCounts>>,
}

impl SentenceCounts {
    /// Counts the predictions of a sentence against its golds that the model could find; `lost` are the types of those it
    /// could not (cut off, too long, without subwords).
    pub fn new(predicted: &BTreeSet<Key>, golds: &BTreeSet<Key>, lost: impl IntoIterator<Item = u32>) -> Self {
        let mut types: BTreeMap<u32, TypeCounts> = BTreeMap::new();
        for key in predicted {
            let counts = &mut types.entry(key.2).or_default().counts;
            if golds.contains(key) {
                counts.tp += 1
            } else {
                counts.fp += 1
            }
        }
        for key in golds.difference(predicted) {
            types.entry(key.2).or_default().counts.missed += 1;
        }
        let of_type = |keys: &BTreeSet<Key>, label: u32| -> Vec<Key> {
            keys.iter().filter(|key| key.2 == label).copied().collect()
        };
        let type_schemes = types
            .keys()
            .map(|&label| (label, match_up(&of_type(predicted, label), &of_type(golds, label))))
            .collect();
        for label in lost {
            types.entry(label).or_default().lost += 1;
        }
        let all = |keys: &BTreeSet<Key>| -> Vec<Key> { keys.iter().copied().collect() };
        Self {
            types,
            schemes: match_up(&all(predicted), &all(golds)),
            type_schemes,
        }
    }
}

/// The sum over sentences.
#[derive(Clone, Debug)]
pub struct Counter {
    types: Vec<TypeCounts>,
    schemes: Schemes<SchemeCounts>,
    type_schemes: BTreeMap<u32, Schemes<SchemeCounts>>,
}

impl Counter {
    /// Nothing yet, of so many types.
    pub fn new(types: usize) -> Self {
        Self {
            types: vec![TypeCounts::default(); types],
            schemes: Schemes::default(),
            type_schemes: BTreeMap::new(),
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.types.fill(TypeCounts::default());
        self.schemes = Schemes::default();
        self.type_schemes.clear();
    }

    /// Adds one sentence.
    ///
    /// # Panics
    /// If it holds a type that the counter was not made for.
    pub fn add(&mut self, sentence: &SentenceCounts) {
        for (&label, more) in &sentence.types {
            let sum = &mut self.types[label as usize];
            sum.counts.add(more.counts);
            sum.lost += more.lost;
        }
        add_schemes(&mut self.schemes, &sentence.schemes);
        for (&label, more) in &sentence.type_schemes {
            add_schemes(self.type_schemes.entry(label).or_default(), more);
        }
    }

    /// Golds that cannot be found.
    pub fn lost(&self) -> u64 {
        self.types.iter().map(|sum| sum.lost).sum()
    }

    /// All golds.
    pub fn golds(&self) -> u64 {
        let of_type = |sum: &TypeCounts| sum.counts.tp + sum.counts.missed + sum.lost;
        self.types.iter().map(of_type).sum()
    }

    /// The counts of all types together.
    pub fn micro(&self, counting: Counting) -> Counts {
        let mut total = Counts::default();
        self.types.iter().for_each(|sum| total.add(sum.by(counting)));
        total
    }

    /// The counts of the types that occur, by rising label.
    pub fn by_type(&self, counting: Counting) -> impl Iterator<Item = (u32, Counts)> + '_ {
        let counts = self.types.iter().map(move |sum| sum.by(counting));
        (0..).zip(counts).filter(|(_, counts)| !counts.is_nothing())
    }

    /// The mean over the types that occur.
    pub fn macro_(&self, counting: Counting) -> Macro {
        let (mut sums, mut types) = ([0.0; 3], 0);
        for (_, counts) in self.by_type(counting) {
            let figures = [counts.precision(), counts.recall(), counts.f1()];
            sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
            types += 1;
        }
        let [precision, recall, f1] = sums.map(|sum| ratio(sum, types as f64));
        Macro {
            precision,
            recall,
            f1,
            num_classes: types,
        }
    }

    /// The counts by scheme.
    pub fn schemes(&self, counting: Counting) -> Schemes<SchemeCounts> {
        with_lost(
            &self.schemes,
            match counting {
                Counting::Reference => 0,
                Counting::FullGold => self.lost(),
            },
        )
    }

    /// Every figure, types by their names.
    pub fn metrics(&self, counting: Counting, labels: &[String]) -> Metrics {
        let name = |label: u32| labels[label as usize].clone();
        let schemes = self.schemes(counting);
        let type_schemes: Vec<(u32, Schemes<SchemeCounts>)> = if self.type_schemes.is_empty() {
            Vec::new()
        } else {
            self.by_type(counting)
                .map(|(label, _)| {
                    let lost = match counting {
                        Counting::Reference => 0,
                        Counting::FullGold => self.types[label as usize].lost,
                    };
                    let found = self.type_schemes.get(&label).copied().unwrap_or_default();
                    (label, with_lost(&found, lost))
                })
                .collect()
        };
        Metrics {
            micro: self.micro(counting).into(),
            macro_: self.macro_(counting),
            per_class: self
                .by_type(counting)
                .map(|(label, counts)| (name(label), counts.into()))
                .collect(),
            schemes: Schemes::from_fn(|scheme| SchemeMetrics {
                all: (*schemes.get(scheme)).into(),
                per_class: type_schemes
                    .iter()
                    .map(|(label, counts)| (name(*label), (*counts.get(scheme)).into()))
                    .collect(),
            }),
        }
    }
}

fn add_schemes(sum: &mut Schemes<SchemeCounts>, more: &Schemes<SchemeCounts>) {
    for scheme in schemes::Scheme::ALL {
        sum.get_mut(scheme).add(more.get(scheme), 1);
    }
}

/// Counts with further golds that nothing was matched with.
fn with_lost(counts: &Schemes<SchemeCounts>, lost: u64) -> Schemes<SchemeCounts> {
    Schemes::from_fn(|scheme| {
        let counts = *counts.get(scheme);
        SchemeCounts {
            missed: counts.missed + lost,
            ..counts
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["city", "person", "river"].map(String::from).to_vec()
    }

    fn counter(sentences: &[(&[Key], &[Key], &[u32])]) -> Counter {
        let mut counter = Counter::new(3);
        for (predicted, golds, lost) in sentences {
            let set = |keys: &[Key]| keys.iter().copied().collect();
            counter.add(&SentenceCounts::new(&set(predicted), &set(golds), lost.iter().copied()));
        }
        counter
    }

    #[test]
    fn by_hand() {
        let counter = counter(&[
            (&[(0, 1, 1), (3, 3, 0)], &[(0, 1, 1), (3, 4, 0)], &[]),
            (&[], &[(2, 2, 1)], &[0, 2]),
        ]);
        let metrics = counter.metrics(Counting::Reference, &labels());
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
        let partial = &metrics.schemes.partial;
        assert_eq!((partial.all.counts.correct, partial.all.counts.partial), (1, 1));
        assert_eq!(partial.per_class["city"].counts.partial, 1);
        assert_eq!(partial.per_class["person"].counts.missed, 1);
    }

    /// Defect 15 of the reference: golds that were cut off leave its gold set.
    #[test]
    fn lost_golds_are_missed_in_full_gold_only() {
        let counter = counter(&[(&[(0, 1, 1)], &[(0, 1, 1)], &[1, 2])]);
        assert_eq!((counter.lost(), counter.golds()), (2, 3));
        assert_eq!(counter.metrics(Counting::Reference, &labels()).micro.recall, 1.0);
        let full = counter.metrics(Counting::FullGold, &labels());
        assert!((full.micro.recall - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((full.per_class["river"].counts.missed, full.macro_.num_classes), (1, 2));
        for scheme in schemes::Scheme::ALL {
            let figures = full.schemes.get(scheme);
            assert_eq!((figures.all.counts.correct, figures.all.counts.missed), (1, 2));
            assert_eq!(figures.per_class["river"].counts.missed, 1);
        }
    }

    #[test]
    fn nothing_at_all_is_zero_and_not_nan() {
        let metrics = counter(&[]).metrics(Counting::Reference, &labels());
        assert_eq!(
            (metrics.micro.f1, metrics.macro_.f1, metrics.macro_.num_classes),
            (0.0, 0.0, 0)
        );
    }
}
