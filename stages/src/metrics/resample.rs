//! How sure a figure is, by drawing sentences again: confidence intervals, and tests between two systems.
//!
//! - A confidence interval is the percentile bootstrap's (Efron 1979): as many sentences are drawn with replacement as there
//!   are, again and again, and the interval holds the middle share of the figures of these draws.
//! - The difference of two systems has an interval from draws that take the same sentences for both, and a p-value from
//!   approximate randomization (Noreen 1989; Yeh 2000, "More accurate tests for the statistical significance of result
//!   differences"): for each sentence a coin decides whether the systems swap what they predicted, and p is the share of
//!   draws whose difference is at least as large as the real one.
//!
//! What is drawn is a function of seed and draw, whatever the threads, and every draw is a sum of counts.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Counter;
use super::figure::{Figure, Over};
use super::table::CountTable;
use crate::rng::Rng;

/// How sentences are drawn; names and defaults are `scipy.stats.bootstrap`'s, but for fewer draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    /// How many draws; 0 for no intervals.
    pub n_resamples: usize,
    /// The share of draws that an interval holds.
    pub confidence_level: f64,
    /// Steers the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            n_resamples: 1000,
            confidence_level: 0.95,
            seed: 0,
        }
    }
}

/// The least number of draws that an interval means anything with.
const FEWEST: usize = 100;

impl Bootstrap {
    /// Which of its fields is out of its range, and what would be right.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.n_resamples > 0 && self.n_resamples < FEWEST {
            let told = format!(
                "{} draws are too few for an interval; give {FEWEST} or more",
                self.n_resamples
            );
            return Some(("n_resamples", told));
        }
        if !(self.confidence_level > 0.0 && self.confidence_level < 1.0) {
            let told = format!("{} is no share between 0 and 1, such as 0.95", self.confidence_level);
            return Some(("confidence_level", told));
        }
        None
    }

    /// The interval that holds the middle share of `values`.
    fn interval(&self, mut values: Vec<f64>) -> Interval {
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence_level) / 2.0;
        Interval {
            low: quantile(&values, tail),
            high: quantile(&values, 1.0 - tail),
        }
    }
}

/// A confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The quantile of sorted values, between two of them by linear interpolation.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// How often each of `count` sentences is in draw number `draw`, written into `times`.
fn draw(seed: u64, draw: usize, times: &mut [u32]) {
    let rng = Rng::new(seed, "bootstrap").step(draw as u64);
    let count = times.len() as u64;
    times.fill(0);
    for position in 0..count {
        times[rng.below(count, position) as usize] += 1;
    }
}

fn need_schemes(figures: &[Figure]) -> bool {
    figures.iter().any(|figure| matches!(figure.over, Over::Scheme(_)))
}

fn add(table: &CountTable, counter: &mut Counter, sentence: usize, times: u64, schemes: bool) {
    table.add_types(counter, sentence, times);
    if schemes {
        table.add_schemes(counter, sentence, times);
    }
}

/// The intervals of `figures` over the given sentences of `table`, whose types have the sorted names `labels`. Without a
/// sentence both ends are what the figures are of nothing.
pub fn intervals(
    table: &CountTable,
    sentences: &[usize],
    labels: &[String],
    figures: &[Figure],
    settings: &Bootstrap,
) -> Vec<Interval> {
    let schemes = need_schemes(figures);
    let draws: Vec<Vec<f64>> = (0..settings.n_resamples)
        .into_par_iter()
        .map_init(
            || (vec![0; sentences.len()], Counter::new(labels.len())),
            |(times, counter), number| {
                draw(settings.seed, number, times);
                counter.clear();
                for (&sentence, &times) in sentences.iter().zip(times.iter()) {
                    if times > 0 {
                        add(table, counter, sentence, u64::from(times), schemes);
                    }
                }
                figures.iter().map(|figure| figure.of(counter, labels)).collect()
            },
        )
        .collect();
    (0..figures.len())
        .map(|figure| settings.interval(draws.iter().map(|draw| draw[figure]).collect()))
        .collect()
}

/// Two systems, by one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The figure of the first system.
    pub first: f64,
    /// The figure of the second.
    pub second: f64,
    /// Second minus first.
    pub difference: f64,
    /// The difference's confidence interval.
    pub interval: Interval,
    /// How likely a difference at least as large is if the systems are the same (two-sided).
    pub p: f64,
}

/// Compares two systems by each of `figures`. A system may have several runs, such as its seeds: `runs` holds those that
/// belong together, and what is compared is the mean over runs. A draw takes, or swaps, a sentence in all runs at once.
///
/// # Panics
/// If the tables are not of the same number of sentences, or there is no run.
pub fn compare(
    runs: &[(&CountTable, &CountTable)],
    labels: &[String],
    figures: &[Figure],
    settings: &Bootstrap,
) -> Vec<Comparison> {
    let sentences = runs[0].0.len();
    assert!(runs.iter().all(|(a, b)| a.len() == sentences && b.len() == sentences));
    let schemes = need_schemes(figures);
    let new_counters = || (Counter::new(labels.len()), Counter::new(labels.len()));
    // Means over runs; `of_sentence` says how often a sentence counts and whether it is swapped.
    let means = |counters: &mut (Counter, Counter), of_sentence: &dyn Fn(usize) -> (u64, bool)| -> Vec<[f64; 2]> {
        let mut sums = vec![[0.0; 2]; figures.len()];
        for (first, second) in runs {
            counters.0.clear();
            counters.1.clear();
            for sentence in 0..sentences {
                let (times, swap) = of_sentence(sentence);
                if times > 0 {
                    let (to_first, to_second) = if swap { (second, first) } else { (first, second) };
                    add(to_first, &mut counters.0, sentence, times, schemes);
                    add(to_second, &mut counters.1, sentence, times, schemes);
                }
            }
            for (sum, figure) in sums.iter_mut().zip(figures) {
                sum[0] += figure.of(&counters.0, labels) / runs.len() as f64;
                sum[1] += figure.of(&counters.1, labels) / runs.len() as f64;
            }
        }
        sums
    };
    let differences = |means: Vec<[f64; 2]>| -> Vec<f64> { means.iter().map(|[a, b]| b - a).collect() };

    let real = means(&mut new_counters(), &|_| (1, false));
    let drawn: Vec<Vec<f64>> = (0..settings.n_resamples)
        .into_par_iter()
        .map_init(
            || (vec![0; sentences], new_counters()),
            |(times, counters), number| {
                draw(settings.seed, number, times);
                differences(means(counters, &|sentence| (u64::from(times[sentence]), false)))
            },
        )
        .collect();
    let swapped: Vec<Vec<f64>> = (0..settings.n_resamples)
        .into_par_iter()
        .map_init(new_counters, |counters, number| {
            let coins = Rng::new(settings.seed, "swap").step(number as u64);
            let coin = |sentence: usize| coins.u64(sentence as u64 / 64) >> (sentence % 64) & 1 == 1;
            differences(means(counters, &|sentence| (1, coin(sentence))))
        })
        .collect();
    real.iter()
        .enumerate()
        .map(|(figure, &[first, second])| {
            let difference = second - first;
            // Sums of the same floats in another order may differ in the last bits.
            let as_large = |draw: &&Vec<f64>| draw[figure].abs() >= difference.abs() - 1e-12;
            let extreme = swapped.iter().filter(as_large).count();
            Comparison {
                first,
                second,
                difference,
                interval: settings.interval(drawn.iter().map(|draw| draw[figure]).collect()),
                p: (1 + extreme) as f64 / (1 + settings.n_resamples) as f64,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::SentenceCounts;

    /// `count` sentences with one gold each, which is found with the given chance.
    fn system(count: usize, chance: f64, rng: Rng) -> CountTable {
        let mut table = CountTable::default();
        for sentence in 0..count {
            let found = if rng.f64(sentence as u64) < chance {
                (0, 0, 0)
            } else {
                (1, 1, 0)
            };
            table.push(&SentenceCounts::new(&[found].into(), &[(0, 0, 0)].into(), []));
        }
        table
    }

    fn settings(n_resamples: usize) -> Bootstrap {
        Bootstrap {
            n_resamples,
            ..Bootstrap::default()
        }
    }

    fn labels() -> Vec<String> {
        vec!["city".to_owned()]
    }

    fn f1() -> Vec<Figure> {
        vec![Figure::parse("micro.f1").unwrap()]
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), 3.0);
        assert_eq!(quantile(&[7.0], 0.025), 7.0);
    }

    /// One gold and one prediction a sentence: F1 is a mean of coin flips, whose interval is known.
    #[test]
    fn the_interval_of_a_mean_is_the_normal_one() {
        let table = system(400, 0.7, Rng::new(3, "chance"));
        let all: Vec<usize> = (0..400).collect();
        let mean = f1()[0].of(&table.sum(1, 0..400), &labels());
        let interval = intervals(&table, &all, &labels(), &f1(), &settings(4000))[0];
        let half = 1.96 * (mean * (1.0 - mean) / 400.0).sqrt();
        assert!(
            (interval.low - (mean - half)).abs() < 0.004,
            "{interval:?} {mean} {half}"
        );
        assert!(
            (interval.high - (mean + half)).abs() < 0.004,
            "{interval:?} {mean} {half}"
        );
    }

    #[test]
    fn threads_change_nothing() {
        let tables = [0.6, 0.7].map(|chance| system(150, chance, Rng::new(9, "chance")));
        let all: Vec<usize> = (0..150).collect();
        let draw = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            pool.install(|| {
                (
                    intervals(&tables[0], &all, &labels(), &f1(), &settings(200)),
                    compare(&[(&tables[0], &tables[1])], &labels(), &f1(), &settings(200)),
                )
            })
        };
        assert_eq!(draw(1), draw(5));
        let other = Bootstrap {
            seed: 1,
            ..settings(200)
        };
        assert_ne!(draw(1).0, intervals(&tables[0], &all, &labels(), &f1(), &other));
    }

    #[test]
    fn a_system_does_not_differ_from_itself() {
        let table = system(100, 0.5, Rng::new(1, "chance"));
        let same = compare(&[(&table, &table)], &labels(), &f1(), &settings(100))[0];
        assert_eq!(
            (same.difference, same.interval.low, same.interval.high, same.p),
            (0.0, 0.0, 0.0, 1.0)
        );
    }

    #[test]
    fn a_clear_difference_is_significant_and_has_its_sign() {
        let (worse, better) = (
            system(200, 0.5, Rng::new(1, "chance")),
            system(200, 0.8, Rng::new(2, "chance")),
        );
        let found = compare(&[(&worse, &better)], &labels(), &f1(), &settings(1000))[0];
        assert!(found.difference > 0.2 && found.interval.low > 0.1, "{found:?}");
        assert_eq!(found.p, 1.0 / 1001.0);
    }

    /// Of systems that are equally good, one pair in twenty is significant at 0.05. With 300 pairs that is 15 ± 3.8.
    #[test]
    fn equal_systems_are_rarely_significant() {
        let significant = (0..300)
            .filter(|&pair| {
                let draw = |side| system(60, 0.6, Rng::new(pair, "chance").step(side));
                let (a, b) = (draw(0), draw(1));
                compare(&[(&a, &b)], &labels(), &f1(), &settings(200))[0].p <= 0.05
            })
            .count();
        assert!((4..=26).contains(&significant), "{significant} of 300");
    }

    #[test]
    fn runs_are_averaged() {
        let tables: Vec<CountTable> = (0..4).map(|run| system(50, 0.5, Rng::new(run, "chance"))).collect();
        let single = |a: usize, b: usize| compare(&[(&tables[a], &tables[b])], &labels(), &f1(), &settings(100))[0];
        let both = compare(
            &[(&tables[0], &tables[1]), (&tables[2], &tables[3])],
            &labels(),
            &f1(),
            &settings(100),
        )[0];
        let mean = (single(0, 1).difference + single(2, 3).difference) / 2.0;
        assert!((both.difference - mean).abs() < 1e-12);
    }
}
