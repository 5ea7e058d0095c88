//! Scores → spans: which candidates pass the threshold, and which of them stay when spans may not overlap.

use serde::{Deserialize, Serialize};

/// A span with a type and the logit the model gave it. Positions are the encoder input's, `end` inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// First position.
    pub start: u32,
    /// Last position.
    pub end: u32,
    /// The type, as an index into the label list.
    pub label: u32,
    /// The span's logit for that type.
    pub logit: f32,
}

/// What a candidate's logit must exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar<'a> {
    /// One logit for all types; of a probability `p` it is `ln(p / (1 − p))`.
    Fixed(f32),
    /// The logit of the threshold span (the `[CLS]` or marker slot) of the same sentence, per type.
    PerType(&'a [f32]),
}

impl Bar<'_> {
    /// How far the candidate is above the bar; it passes if this is positive.
    fn margin(&self, candidate: &Candidate) -> f32 {
        match self {
            Bar::Fixed(logit) => candidate.logit - logit,
            Bar::PerType(logits) => candidate.logit - logits[candidate.label as usize],
        }
    }
}

/// By what candidates compete for positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rank {
    /// How far the logit is above the bar: a type with a high threshold span does not win by that alone.
    #[default]
    Margin,
    /// The bare logit, as the reference ranks.
    Logit,
}

/// The logit of a probability in (0, 1). Comparing logits rather than probabilities matters: an f32 sigmoid is exactly 1 from
/// a logit of 17 on, and candidates would tie.
pub fn logit(probability: f64) -> f32 {
    (probability / (1.0 - probability)).ln() as f32
}

/// The non-overlapping spans of one sentence, best first: candidates above the bar by falling rank, each kept unless it
/// shares a position with one already kept. Ties go to the earlier start, then the earlier end, then the lower type.
pub fn decode(candidates: &[Candidate], bar: Bar<'_>, rank: Rank) -> Vec<Candidate> {
    let score = |candidate: &Candidate| match rank {
        Rank::Margin => bar.margin(candidate),
        Rank::Logit => candidate.logit,
    };
    let mut passing: Vec<Candidate> = candidates
        .iter()
        .copied()
        .filter(|candidate| bar.margin(candidate) > 0.0)
        .collect();
    passing.sort_by(|a, b| {
        score(b)
            .total_cmp(&score(a))
            .then_with(|| (a.start, a.end, a.label).cmp(&(b.start, b.end, b.label)))
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(start: u32, end: u32, label: u32, logit: f32) -> Candidate {
        Candidate {
            start,
            end,
            label,
            logit,
        }
    }

    #[test]
    fn overlapping_spans_lose_to_better_ones() {
        let all = [
            candidate(0, 2, 0, 1.0),
            candidate(2, 3, 1, 2.0),
            candidate(4, 4, 0, 0.5),
            candidate(5, 5, 0, -0.1),
        ];
        assert_eq!(decode(&all, Bar::Fixed(0.0), Rank::Margin), [all[1], all[2]]);
    }

    /// Defect 20 of the reference: its f32 sigmoids of 20 and 30 are both exactly 1, so the worse span may win.
    #[test]
    fn saturated_probabilities_still_have_an_order() {
        let all = [candidate(0, 1, 0, 20.0), candidate(1, 2, 0, 30.0)];
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        assert_eq!(sigmoid(20.0), sigmoid(30.0));
        assert_eq!(decode(&all, Bar::Fixed(logit(0.5)), Rank::Margin), [all[1]]);
    }

    #[test]
    fn a_threshold_span_is_a_bar_for_its_own_type_only() {
        let all = [candidate(1, 1, 0, 3.0), candidate(2, 2, 1, 3.0)];
        assert_eq!(decode(&all, Bar::PerType(&[4.0, 2.0]), Rank::Margin), [all[1]]);
    }

    #[test]
    fn margin_and_logit_rank_differently() {
        let all = [candidate(0, 1, 0, 9.0), candidate(1, 2, 1, 5.0)];
        let bar = Bar::PerType(&[8.5, 1.0]);
        assert_eq!(decode(&all, bar, Rank::Margin), [all[1]]);
        assert_eq!(decode(&all, bar, Rank::Logit), [all[0]]);
    }

    #[test]
    fn a_candidate_exactly_at_the_bar_does_not_pass() {
        assert!(decode(&[candidate(0, 0, 0, 0.0)], Bar::Fixed(logit(0.5)), Rank::Margin).is_empty());
    }
}
