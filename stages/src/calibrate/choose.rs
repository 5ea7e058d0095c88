//! Which thresholds give the best micro F1 on spans that were scored already.
//!
//! Spans compete for positions by their logits, and a common threshold only ends the list early: what is kept at it are those spans
//! kept at the floor whose logit is above it. So one list of kept spans, sorted once, gives F1 at every threshold that
//! makes a difference.
//!
//! Thresholds by type are found together, so that F1 over all types is largest and not each type's own. F1 is 2 tp / (spans +
//! golds); for a given value F, the types that raise it are those prefixes that maximize 2 tp − F · spans, each type by itself, and
//! F is raised until nothing changes (Dinkelbach 1967, "On nonlinear fractional programming").

use crate::decode::logit;

/// A span that is kept at the floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) logit: f32,
    pub(super) right: bool,
}

/// Where a sorted list of spans is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Prefix {
    spans: usize,
    right: usize,
}

/// The places where a list, sorted by falling logit, can be cut: before it, behind it, and wherever the logit falls.
fn prefixes(sorted: &[Kept]) -> impl Iterator<Item = Prefix> + '_ {
    let mut right = 0;
    let ends = sorted.iter().enumerate().filter_map(move |(index, kept)| {
        right += usize::from(kept.right);
        let ends = sorted.get(index + 1).is_none_or(|next| next.logit < kept.logit);
        ends.then_some(Prefix {
            spans: index + 1,
            right,
        })
    });
    std::iter::once(Prefix::default()).chain(ends)
}

fn f1(right: usize, spans: usize, golds: usize) -> f64 {
    match spans + golds {
        0 => 0.0,
        both => 2.0 * right as f64 / both as f64,
    }
}

fn sort(spans: &mut [Kept]) {
    spans.sort_by(|one, other| other.logit.total_cmp(&one.logit));
}

/// The threshold above `floor` with the best F1 of these spans, whose golds are `golds`; none if no span is right. Of several that
/// are equally good the highest.
pub(super) fn best(spans: &[Kept], golds: usize, floor: f64) -> Option<f64> {
    let mut sorted = spans.to_vec();
    sort(&mut sorted);
    let mut best = (Prefix::default(), 0.0);
    for prefix in prefixes(&sorted) {
        let f1 = f1(prefix.right, prefix.spans, golds);
        if f1 > best.1 {
            best = (prefix, f1);
        }
    }
    (best.1 > 0.0).then(|| between(&sorted, best.0.spans, floor))
}

/// The thresholds of several lists, one each, with the best F1 of all together; `fixed` are the spans, the right ones, and the
/// golds that no threshold here decides about. A list that no threshold makes better gets one above all its spans.
pub(super) fn best_together(lists: &[(Vec<Kept>, usize)], fixed: (usize, usize, usize), floor: f64) -> Vec<f64> {
    let sorted: Vec<Vec<Kept>> = lists
        .iter()
        .map(|(spans, _)| {
            let mut sorted = spans.clone();
            sort(&mut sorted);
            sorted
        })
        .collect();
    let golds = fixed.2 + lists.iter().map(|(_, golds)| golds).sum::<usize>();
    let mut chosen = vec![Prefix::default(); lists.len()];
    let mut reached = f1(fixed.1, fixed.0, golds);
    loop {
        let better: Vec<Prefix> = sorted
            .iter()
            .map(|list| {
                let worth = |prefix: &Prefix| 2.0 * prefix.right as f64 - reached * prefix.spans as f64;
                prefixes(list)
                    .reduce(|best, next| if worth(&next) > worth(&best) { next } else { best })
                    .unwrap_or_default()
            })
            .collect();
        let sum = |of: fn(&Prefix) -> usize| better.iter().map(of).sum::<usize>();
        let now = f1(
            fixed.1 + sum(|prefix| prefix.right),
            fixed.0 + sum(|prefix| prefix.spans),
            golds,
        );
        if now <= reached {
            break;
        }
        (chosen, reached) = (better, now);
    }
    let cut = |(list, prefix): (&Vec<Kept>, &Prefix)| between(list, prefix.spans, floor);
    sorted.iter().zip(&chosen).map(cut).collect()
}

/// A probability that lets exactly the first `count` spans of a sorted list pass, with as few digits as there is room for.
fn between(sorted: &[Kept], count: usize, floor: f64) -> f64 {
    let probability = |logit: f32| 1.0 / (1.0 + (-f64::from(logit)).exp());
    let below = sorted.get(count).map_or(logit(floor), |kept| kept.logit);
    let above = match count.checked_sub(1) {
        Some(last) => sorted[last].logit,
        // Nothing is to pass: as far above the first span as that is above even chances, or a little.
        None => sorted.first().map_or(logit(0.5), |first| first.logit) + 1.0,
    };
    let passes = |threshold: f64| (below..above).contains(&logit(threshold));
    let middle = probability(below / 2.0 + above / 2.0);
    (2..=15)
        .map(|digits| {
            let scale = 10f64.powi(digits);
            (middle * scale).round() / scale
        })
        .find(|&rounded| rounded > 0.0 && rounded < 1.0 && passes(rounded))
        .unwrap_or(middle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn spans(seed: u64, count: usize, chance: f64) -> Vec<Kept> {
        let rng = Rng::new(seed, "spans");
        let span = |index: u64| Kept {
            // A few distinct logits, so that there are ties.
            logit: (rng.below(40, 2 * index) as f32 - 20.0) / 5.0,
            right: rng.f64(2 * index + 1) < chance,
        };
        (0..count as u64).map(span).collect()
    }

    fn f1_at(lists: &[(Vec<Kept>, usize)], fixed: (usize, usize, usize), thresholds: &[f64]) -> f64 {
        let (mut total, mut right, mut golds) = fixed;
        for ((list, own_golds), threshold) in lists.iter().zip(thresholds) {
            let passing = list.iter().filter(|kept| kept.logit > logit(*threshold));
            total += passing.clone().count();
            right += passing.filter(|kept| kept.right).count();
            golds += own_golds;
        }
        f1(right, total, golds)
    }

    /// Every threshold that makes a difference, and some that do not.
    fn all_thresholds() -> Vec<f64> {
        (0..=80)
            .map(|step| 1.0 / (1.0 + (-(f64::from(step) / 10.0 - 4.0)).exp()))
            .filter(|p| *p > 0.015)
            .collect()
    }

    #[test]
    fn no_threshold_is_better_than_the_best() {
        for seed in 0..20 {
            let list = (spans(seed, 30, 0.4), 20);
            let chosen = best(&list.0, list.1, 0.015).unwrap();
            let reached = f1_at(std::slice::from_ref(&list), (0, 0, 0), &[chosen]);
            for other in all_thresholds() {
                assert!(
                    f1_at(std::slice::from_ref(&list), (0, 0, 0), &[other]) <= reached + 1e-12,
                    "{seed}: {other}"
                );
            }
        }
    }

    /// All pairs of thresholds of two lists are tried.
    #[test]
    fn no_pair_is_better_than_those_found_together() {
        for seed in 0..20 {
            let lists = [(spans(seed, 20, 0.7), 18), (spans(seed + 100, 25, 0.2), 6)];
            let fixed = (7, 3, 5);
            let chosen = best_together(&lists, fixed, 0.015);
            let reached = f1_at(&lists, fixed, &chosen);
            for one in all_thresholds() {
                for other in all_thresholds() {
                    assert!(
                        f1_at(&lists, fixed, &[one, other]) <= reached + 1e-12,
                        "{seed}: {one} {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_threshold_is_as_short_as_there_is_room_for() {
        let kept = |logit: f32| Kept { logit, right: true };
        let sorted = [kept(1.0), kept(0.9), kept(0.8999), kept(-1.0)];
        assert_eq!(between(&sorted, 3, 0.05), 0.49);
        assert_eq!(between(&sorted, 4, 0.05), 0.12);
        let narrow = between(&sorted, 2, 0.05);
        assert!(
            narrow.to_string().len() <= 8 && logit(narrow) >= 0.8999 && logit(narrow) < 0.9,
            "{narrow}"
        );
        let none = between(&sorted, 0, 0.05);
        assert!(logit(none) >= 1.0, "{none}");
        // Where an f32 sigmoid is 1 already.
        let high = [kept(30.0), kept(25.0)];
        assert!((25.0..30.0).contains(&logit(between(&high, 1, 0.05))));
    }

    #[test]
    fn without_a_right_span_there_is_nothing_to_choose() {
        assert_eq!(best(&[], 3, 0.05), None);
        assert_eq!(best(&spans(1, 10, 0.0), 3, 0.05), None);
        assert_eq!(best_together(&[], (1, 1, 1), 0.05), [0.0; 0]);
    }
}
