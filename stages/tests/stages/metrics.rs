//! Our figures against those of seqeval, nervaluate and scipy, on the random cases that `metrics_data/generate.py` wrote.

use std::collections::{BTreeMap, BTreeSet};

use nerpipe_stages::metrics::figure::Figure;
use nerpipe_stages::metrics::resample::{Bootstrap, Interval, compare, intervals};
use nerpipe_stages::metrics::schemes::{Scheme, SchemeFigures};
use nerpipe_stages::metrics::table::CountTable;
use nerpipe_stages::metrics::{Counter, Counting, Key, Metrics, SentenceCounts};
use serde::Deserialize;

/// The types of the cases, sorted.
const TYPES: [&str; 5] = ["city", "date", "drug", "person", "river"];

type Span = (u32, u32, String);

#[derive(Deserialize)]
struct Cases {
    flat: Vec<Case>,
    nested: Vec<Case>,
    sure: Vec<Sure>,
}

#[derive(Deserialize)]
struct Case {
    sentences: Vec<Sentence>,
    seqeval: Option<Seqeval>,
    nervaluate: Nervaluate,
}

#[derive(Deserialize)]
struct Sentence {
    golds: Vec<Span>,
    predicted: Vec<Span>,
}

#[derive(Deserialize)]
struct Seqeval {
    micro: Row,
    #[serde(rename = "macro")]
    macro_: Row,
    per_class: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
struct Row {
    precision: f64,
    recall: f64,
    f1: f64,
    golds: u64,
}

#[derive(Deserialize)]
struct Nervaluate {
    all: BTreeMap<String, Vec<f64>>,
    per_class: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

#[derive(Deserialize)]
struct Sure {
    pairs: Vec<Pair>,
    first: Drawn,
    second: Drawn,
    difference: Drawn,
}

#[derive(Deserialize)]
struct Pair {
    golds: Vec<Span>,
    first: Vec<Span>,
    second: Vec<Span>,
}

#[derive(Deserialize)]
struct Drawn {
    f1: f64,
    interval: (f64, f64),
    p: Option<f64>,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("../metrics_data/cases.json")).expect("the cases")
}

fn labels() -> Vec<String> {
    TYPES.map(String::from).to_vec()
}

fn keys(spans: &[Span]) -> BTreeSet<Key> {
    let label = |name: &String| TYPES.iter().position(|known| known == name).expect("a known type") as u32;
    spans
        .iter()
        .map(|(start, end, name)| (*start, *end, label(name)))
        .collect()
}

fn metrics(case: &Case) -> Metrics {
    let mut counter = Counter::new(TYPES.len());
    for sentence in &case.sentences {
        counter.add(&SentenceCounts::new(
            &keys(&sentence.predicted),
            &keys(&sentence.golds),
            [],
        ));
    }
    counter.metrics(Counting::Reference, &labels())
}

/// Sums of a few ratios, in another order than theirs.
fn assert_near(ours: [f64; 3], theirs: [f64; 3], what: &str) {
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        assert!((ours - theirs).abs() < 1e-12, "{what}: {ours} and not {theirs}");
    }
}

#[test]
fn exact_figures_are_those_of_seqeval() {
    let mut compared = 0;
    for (number, case) in cases().flat.iter().enumerate() {
        let (ours, theirs) = (metrics(case), case.seqeval.as_ref().expect("counted by seqeval"));
        let ratios = |row: &Row| [row.precision, row.recall, row.f1];
        let micro = &ours.micro;
        assert_near(
            [micro.precision, micro.recall, micro.f1],
            ratios(&theirs.micro),
            &format!("case {number}, micro"),
        );
        assert_eq!(micro.counts.tp + micro.counts.missed, theirs.micro.golds);
        let mean = &ours.macro_;
        assert_near(
            [mean.precision, mean.recall, mean.f1],
            ratios(&theirs.macro_),
            &format!("case {number}, macro"),
        );
        assert_eq!(
            ours.per_class.keys().collect::<Vec<_>>(),
            theirs.per_class.keys().collect::<Vec<_>>(),
            "case {number}"
        );
        for (name, row) in &theirs.per_class {
            let figures = &ours.per_class[name];
            let what = format!("case {number}, {name}");
            assert_near([figures.precision, figures.recall, figures.f1], ratios(row), &what);
            assert_eq!(figures.counts.tp + figures.counts.missed, row.golds, "{what}");
            compared += 1;
        }
    }
    println!("seqeval: 100 cases, {compared} types");
    assert!(compared > 250);
}

#[test]
fn schemes_are_those_of_nervaluate() {
    let cases = cases();
    assert_eq!((cases.flat.len(), cases.nested.len()), (100, 40));
    let mut compared = 0;
    for (number, case) in cases.flat.iter().chain(&cases.nested).enumerate() {
        let ours = metrics(case);
        for scheme in Scheme::ALL {
            let found = ours.schemes.get(scheme);
            let counts = |figures: &SchemeFigures| {
                let counts = figures.counts;
                [
                    counts.correct,
                    counts.incorrect,
                    counts.partial,
                    counts.missed,
                    counts.spurious,
                ]
                .map(|count| count as f64)
            };
            let what = format!("case {number}, {}", scheme.name());
            let theirs = &case.nervaluate.all[scheme.name()];
            assert_eq!(counts(&found.all), theirs[..5], "{what}");
            let ratios = [found.all.precision, found.all.recall, found.all.f1];
            assert_near(ratios, [theirs[5], theirs[6], theirs[7]], &what);
            assert_eq!(found.per_class.len(), case.nervaluate.per_class.len(), "{what}");
            for (name, theirs) in &case.nervaluate.per_class {
                assert_eq!(
                    counts(&found.per_class[name]),
                    theirs[scheme.name()][..],
                    "{what}, {name}"
                );
                compared += 1;
            }
        }
    }
    println!("nervaluate: 140 cases, {compared} types by scheme");
    assert!(compared > 1000);
}

/// From 5,000 draws of ours and 20,000 of theirs two estimates of a quantile differ by a few thousandths here, two of a p-value
/// by one hundredth.
#[test]
fn intervals_and_tests_are_near_those_of_scipy() {
    let (labels, f1) = (labels(), [Figure::parse("micro.f1").expect("a figure")]);
    let settings = Bootstrap {
        n_resamples: 5000,
        ..Bootstrap::default()
    };
    let near = |ours: Interval, theirs: (f64, f64), what: &str| {
        let apart = (ours.low - theirs.0).abs().max((ours.high - theirs.1).abs());
        assert!(apart < 0.01, "{what}: {ours:?} and not {theirs:?}");
    };
    for (number, case) in cases().sure.iter().enumerate() {
        let table = |predicted: fn(&Pair) -> &Vec<Span>| {
            let mut table = CountTable::default();
            for pair in &case.pairs {
                table.push(&SentenceCounts::new(&keys(predicted(pair)), &keys(&pair.golds), []));
            }
            table
        };
        let (first, second) = (table(|pair| &pair.first), table(|pair| &pair.second));
        let all: Vec<usize> = (0..case.pairs.len()).collect();
        for (name, table, drawn) in [("first", &first, &case.first), ("second", &second, &case.second)] {
            let ours = intervals(table, &all, &labels, &f1, &settings)[0];
            near(ours, drawn.interval, &format!("case {number}, {name}"));
        }
        let ours = compare(&[(&first, &second)], &labels, &f1, &settings)[0];
        let theirs = &case.difference;
        assert_near(
            [ours.first, ours.second, ours.difference],
            [case.first.f1, case.second.f1, theirs.f1],
            &format!("case {number}"),
        );
        near(ours.interval, theirs.interval, &format!("case {number}, difference"));
        let p = theirs.p.expect("a p-value");
        assert!((ours.p - p).abs() < 0.02, "case {number}: p is {} and not {p}", ours.p);
        println!("case {number}: p {:.4}, scipy {p:.4}", ours.p);
    }
}
