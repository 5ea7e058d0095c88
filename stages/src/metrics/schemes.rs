//! The four schemes of SemEval-2013 task 9.1 (Segura-Bedmar, Martínez and Herrero-Zazo), as nervaluate 1.2.1 counts them.
//!
//! | scheme | a prediction is correct if | else, if it overlaps a gold |
//! |---|---|---|
//! | `strict` | a gold has its boundaries and type | incorrect |
//! | `exact` | a gold has its boundaries, whatever the type | incorrect |
//! | `partial` | a gold has its boundaries, whatever the type | partial |
//! | `type` | it overlaps a gold of its type | incorrect |
//!
//! What overlaps nothing is spurious; a gold that nothing was matched with is missed. Every prediction in turn, by rising
//! position, takes one gold and nobody else gets it: the correct one, of which `type` takes that with the nearest
//! boundaries; else the first that it overlaps. A gold is overlapped if one percent of it is covered. The figures of a
//! type are counted among its own golds and predictions alone, so they do not add up to those of all types.
//!
//! Against nervaluate: it takes predictions and golds in the order they are given in, here they are sorted by start, end
//! and type; a span given twice counts once here; and positions are subwords, where nervaluate is usually given words.

use serde::{Deserialize, Serialize};

use super::Key;

/// One value for each scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schemes<T> {
    /// Boundaries and type.
    pub strict: T,
    /// Boundaries alone.
    pub exact: T,
    /// Boundaries alone, and half a point for an overlap.
    pub partial: T,
    /// Type alone, and an overlap.
    #[serde(rename = "type")]
    pub type_: T,
}

/// One of the schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// See [`Schemes::strict`].
    Strict,
    /// See [`Schemes::exact`].
    Exact,
    /// See [`Schemes::partial`].
    Partial,
    /// See [`Schemes::type_`].
    Type,
}

impl Scheme {
    /// All of them, in the order of their names' columns.
    pub const ALL: [Self; 4] = [Self::Strict, Self::Exact, Self::Partial, Self::Type];

    /// The word in keys of metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Exact => "exact",
            Self::Partial => "partial",
            Self::Type => "type",
        }
    }
}

impl<T> Schemes<T> {
    /// The values that `f` gives for the schemes.
    pub fn from_fn(mut f: impl FnMut(Scheme) -> T) -> Self {
        Self {
            strict: f(Scheme::Strict),
            exact: f(Scheme::Exact),
            partial: f(Scheme::Partial),
            type_: f(Scheme::Type),
        }
    }

    /// The value of one scheme.
    pub const fn get(&self, scheme: Scheme) -> &T {
        match scheme {
            Scheme::Strict => &self.strict,
            Scheme::Exact => &self.exact,
            Scheme::Partial => &self.partial,
            Scheme::Type => &self.type_,
        }
    }

    /// The value of one scheme, to be changed.
    pub const fn get_mut(&mut self, scheme: Scheme) -> &mut T {
        match scheme {
            Scheme::Strict => &mut self.strict,
            Scheme::Exact => &mut self.exact,
            Scheme::Partial => &mut self.partial,
            Scheme::Type => &mut self.type_,
        }
    }
}

/// What became of predictions and golds under one scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemeCounts {
    /// Predictions that agree with their gold.
    pub correct: u64,
    /// Predictions that overlap a gold and do not agree with it.
    pub incorrect: u64,
    /// Predictions that overlap a gold, where that is worth half a point.
    pub partial: u64,
    /// Golds that no prediction was matched with.
    pub missed: u64,
    /// Predictions that overlap no gold.
    pub spurious: u64,
}

impl SchemeCounts {
    /// What the predictions are worth in golds.
    fn credit(&self) -> f64 {
        self.correct as f64 + 0.5 * self.partial as f64
    }

    /// The share of predictions that are right, 0 if there are none.
    pub fn precision(&self) -> f64 {
        let actual = self.correct + self.incorrect + self.partial + self.spurious;
        super::ratio(self.credit(), actual as f64)
    }

    /// The share of golds that were found, 0 if there are none.
    pub fn recall(&self) -> f64 {
        let possible = self.correct + self.incorrect + self.partial + self.missed;
        super::ratio(self.credit(), possible as f64)
    }

    /// The harmonic mean of precision and recall, 0 if nothing was right.
    pub fn f1(&self) -> f64 {
        let both = 2 * (self.correct + self.incorrect + self.partial) + self.spurious + self.missed;
        super::ratio(2.0 * self.credit(), both as f64)
    }

    /// Adds `times` times another sentence's counts.
    pub fn add(&mut self, other: &Self, times: u64) {
        self.correct += times * other.correct;
        self.incorrect += times * other.incorrect;
        self.partial += times * other.partial;
        self.missed += times * other.missed;
        self.spurious += times * other.spurious;
    }
}

/// [`SchemeCounts`] with their ratios, as they are written to `metrics.json`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchemeFigures {
    /// See [`SchemeCounts::precision`].
    pub precision: f64,
    /// See [`SchemeCounts::recall`].
    pub recall: f64,
    /// See [`SchemeCounts::f1`].
    pub f1: f64,
    /// The counts.
    #[serde(flatten)]
    pub counts: SchemeCounts,
}

impl From<SchemeCounts> for SchemeFigures {
    fn from(counts: SchemeCounts) -> Self {
        Self {
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            counts,
        }
    }
}

/// Matches the predictions of one sentence with its golds, under every scheme. Both are sorted and hold no span twice.
pub(super) fn match_up(predicted: &[Key], golds: &[Key]) -> Schemes<SchemeCounts> {
    let mut taken = vec![false; golds.len()];
    Schemes::from_fn(|scheme| {
        taken.fill(false);
        let mut counts = SchemeCounts::default();
        for prediction in predicted {
            match partner(prediction, golds, &taken, scheme) {
                Some((gold, agrees)) => {
                    taken[gold] = true;
                    match scheme {
                        _ if agrees => counts.correct += 1,
                        Scheme::Partial => counts.partial += 1,
                        _ => counts.incorrect += 1,
                    }
                }
                None => counts.spurious += 1,
            }
        }
        counts.missed = taken.iter().filter(|taken| !**taken).count() as u64;
        counts
    })
}

/// The gold that a prediction is matched with, and whether it agrees with it.
fn partner(prediction: &Key, golds: &[Key], taken: &[bool], scheme: Scheme) -> Option<(usize, bool)> {
    let free = || golds.iter().enumerate().filter(|(index, _)| !taken[*index]);
    let bounds = |gold: &Key| (gold.0, gold.1) == (prediction.0, prediction.1);
    let agrees = match scheme {
        Scheme::Strict => free().find(|(_, gold)| *gold == prediction),
        Scheme::Exact | Scheme::Partial => free().find(|(_, gold)| bounds(gold)),
        Scheme::Type => free()
            .filter(|(_, gold)| gold.2 == prediction.2 && overlap(prediction, gold))
            .min_by_key(|(_, gold)| gold.0.abs_diff(prediction.0) + gold.1.abs_diff(prediction.1)),
    };
    match agrees {
        Some((index, _)) => Some((index, true)),
        None => free()
            .find(|(_, gold)| overlap(prediction, gold))
            .map(|(index, _)| (index, false)),
    }
}

/// Whether a prediction covers at least one percent of a gold.
fn overlap(prediction: &Key, gold: &Key) -> bool {
    let (first, last) = (prediction.0.max(gold.0), prediction.1.min(gold.1));
    first <= last && 100 * u64::from(last - first + 1) >= u64::from(gold.1 - gold.0 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(correct: u64, incorrect: u64, partial: u64, missed: u64, spurious: u64) -> SchemeCounts {
        SchemeCounts {
            correct,
            incorrect,
            partial,
            missed,
            spurious,
        }
    }

    /// The six scenarios of nervaluate's README. Types: brand 0, drug 1, group 2.
    #[test]
    fn the_scenarios_of_the_task() {
        let golds = [(0, 0, 0), (6, 6, 1), (10, 10, 1), (15, 15, 1), (21, 21, 2)];
        let predicted = [(3, 3, 0), (5, 6, 1), (10, 10, 0), (15, 15, 1), (20, 21, 1)];
        let found = match_up(&predicted, &golds);
        assert_eq!(found.type_, counts(2, 2, 0, 1, 1));
        assert_eq!(found.partial, counts(2, 0, 2, 1, 1));
        assert_eq!(found.exact, counts(2, 2, 0, 1, 1));
        assert_eq!(found.strict, counts(1, 3, 0, 1, 1));
        assert_eq!((found.partial.precision(), found.partial.recall()), (0.6, 0.6));
        assert_eq!(found.strict.f1(), 0.2);
    }

    #[test]
    fn type_takes_the_nearest_gold_and_the_others_the_first() {
        let golds = [(0, 3, 0), (2, 5, 0)];
        let found = match_up(&[(2, 4, 0), (6, 6, 0)], &golds);
        assert_eq!(found.type_, counts(1, 0, 0, 1, 1));
        // (2, 4) has taken (2, 5), so (0, 3) is left for the next.
        assert_eq!(match_up(&[(2, 4, 0), (3, 3, 0)], &golds).type_, counts(2, 0, 0, 0, 0));
        assert_eq!(match_up(&[(2, 4, 0)], &golds).partial, counts(0, 0, 1, 1, 0));
    }

    #[test]
    fn less_than_a_percent_is_no_overlap() {
        assert!(overlap(&(0, 0, 0), &(0, 99, 0)));
        assert!(!overlap(&(0, 0, 0), &(0, 100, 0)));
        assert!(!overlap(&(4, 5, 0), &(6, 7, 0)));
    }

    #[test]
    fn nothing_at_all_is_zero_and_not_nan() {
        let nothing = match_up(&[], &[]);
        assert_eq!(nothing, Schemes::default());
        assert_eq!((nothing.strict.precision(), nothing.type_.f1()), (0.0, 0.0));
    }
}
