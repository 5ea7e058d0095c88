//! The sample corpus is what its README says: made by `generate`, of many languages and types, and not trivial.
//!
//! Two baselines that know no context stay below a bound: a lookup of the training names, and a classifier that sees a token's
//! word and shape but none of its neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nerpipe_engine::testing::{Bench, Made};
use nerpipe_stages::corpus::{Record, Span, parse_record};
use nerpipe_stages::encoder::Encoder;
use nerpipe_stages::generate::{Generate, Grammar, Settings, corpus};
use nerpipe_stages::rng::Rng;
use serde_json::json;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/sample")
}

/// The records of every file of a split, by file name.
fn split(name: &str) -> BTreeMap<String, Vec<Record>> {
    let files = std::fs::read_dir(folder().join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let records = text
                .lines()
                .zip(1..)
                .map(|(line, number)| parse_record(line.as_bytes(), number).unwrap().0);
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                records.collect(),
            )
        })
        .collect()
}

fn all(name: &str) -> Vec<Record> {
    split(name).into_values().flatten().collect()
}

/// An entity's tokens.
fn name<'a>(record: &'a Record, span: &Span) -> &'a [String] {
    &record.tokens[span.start as usize..span.end as usize]
}

/// Language and template of a record, out of an id such as `en-train-t03-0017`.
fn template(record: &Record) -> (&str, &str) {
    let parts: Vec<&str> = record.id.split('-').collect();
    (parts[0], parts[2])
}

/// The corpus as pipelines/sample.yaml makes it.
fn generated(bench: &Bench) -> Made {
    bench.write("grammar.yaml", std::fs::read(folder().join("grammar.yaml")).unwrap());
    bench.run(&Generate, json!({"grammar": "grammar.yaml"})).unwrap()
}

#[test]
fn the_sample_is_what_generate_writes() {
    let bench = Bench::new();
    let made = generated(&bench);
    for part in ["train", "validation", "test"] {
        let files = &made.input.part(part).unwrap().files;
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            names,
            split(part).keys().map(String::as_str).collect::<Vec<_>>(),
            "{part}"
        );
        for file in files {
            let (ours, theirs) = (
                std::fs::read(&file.path),
                std::fs::read(folder().join(part).join(&file.name)),
            );
            assert!(
                ours.unwrap() == theirs.unwrap(),
                "{part}/{} differs; run `cargo xtask sample`",
                file.name
            );
        }
    }
    let bench = bench.input("corpus", &made);
    let settings = json!({"source": "random", "vocabulary_size": 2500, "lowercase": false});
    let encoder = bench.run(&Encoder, settings).unwrap();
    let vocabulary = std::fs::read_to_string(folder().join("vocab.txt")).unwrap();
    assert!(
        encoder.text("vocab.txt") == vocabulary,
        "vocab.txt differs; run `cargo xtask sample`"
    );
}

#[test]
fn the_sample_has_many_languages_scripts_and_types() {
    let (train, test) = (all("train"), all("test"));
    assert!((2_000..5_000).contains(&train.len()) && (300..1_000).contains(&test.len()));

    let languages: BTreeSet<&str> = test.iter().map(|record| template(record).0).collect();
    assert!(languages.len() >= 5, "{languages:?}");
    let script = |c: char| match c {
        'a'..='z' | 'A'..='Z' => Some("latin"),
        '\u{400}'..='\u{4ff}' => Some("cyrillic"),
        '\u{900}'..='\u{963}' => Some("devanagari"),
        '\u{4e00}'..='\u{9fff}' => Some("han"),
        _ => None,
    };
    let scripts: BTreeSet<&str> = test
        .iter()
        .flat_map(|record| record.text.chars().filter_map(script))
        .collect();
    assert!(scripts.len() >= 3, "{scripts:?}");
    let unspaced: BTreeSet<&str> = test
        .iter()
        .filter(|record| record.tokens.concat() == record.text)
        .map(|record| template(record).0)
        .collect();
    assert_eq!(unspaced, BTreeSet::from(["zh"]));

    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for span in test.iter().flat_map(|record| &record.token_spans) {
        *types.entry(&span.label).or_default() += 1;
    }
    assert!(types.len() >= 10, "{types:?}");
    // No type is so frequent that guessing it would be worth something.
    let golds: usize = types.values().sum();
    assert!(
        types.values().all(|&count| count as f64 <= 0.095 * golds as f64),
        "{types:?}"
    );
    let trained: BTreeSet<&str> = train
        .iter()
        .flat_map(|record| &record.token_spans)
        .map(|span| span.label.as_str())
        .collect();
    assert!(types.keys().copied().eq(trained));
}

#[test]
fn golds_are_flat_and_positions_agree() {
    for record in ["train", "validation", "test"].into_iter().flat_map(all) {
        assert!(!record.token_spans.is_empty(), "{record:?}");
        let mut spans = record.token_spans.clone();
        spans.sort();
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "{record:?}");
        let chars: Vec<char> = record.text.chars().collect();
        for (tokens, characters) in record.token_spans.iter().zip(&record.char_spans) {
            let text: String = chars[characters.start as usize..characters.end as usize]
                .iter()
                .collect();
            assert_eq!(tokens.label, characters.label);
            assert_eq!(text.replace(' ', ""), name(&record, tokens).concat());
        }
    }
}

#[test]
fn no_name_of_the_test_split_occurs_in_training() {
    let train = all("train");
    let test = all("test");
    let names: BTreeSet<&[String]> = test
        .iter()
        .flat_map(|record| record.token_spans.iter().map(|span| name(record, span)))
        .collect();
    let lengths: BTreeSet<usize> = names.iter().map(|name| name.len()).collect();
    for record in &train {
        for &length in &lengths {
            let found = record.tokens.windows(length).find(|window| names.contains(window));
            assert!(found.is_none(), "{found:?} of the test split occurs in {}", record.id);
        }
    }
}

#[test]
fn half_of_the_test_templates_never_occur_in_training() {
    let train = all("train");
    let test = split("test");
    let (seen, unseen) = (&test["seen.jsonl"], &test["unseen.jsonl"]);
    assert_eq!(seen.len(), unseen.len());
    let templates = |records: &[Record]| -> BTreeSet<(String, String)> {
        records
            .iter()
            .map(template)
            .map(|(language, number)| (language.to_owned(), number.to_owned()))
            .collect()
    };
    assert_eq!(templates(seen), templates(&train));
    assert!(templates(unseen).is_disjoint(&templates(&train)));
    assert_eq!(templates(unseen).len(), templates(seen).len());

    // The ids are not taken at their word: with names replaced by types, no unseen sentence occurs in training.
    let bare = |record: &Record| {
        let mut tokens = record.tokens.clone();
        for span in record.token_spans.iter().rev() {
            tokens.splice(span.start as usize..span.end as usize, [format!("{{{}}}", span.label)]);
        }
        tokens.join(" ")
    };
    let trained: BTreeSet<String> = train.iter().map(bare).collect();
    assert!(unseen.iter().all(|record| !trained.contains(&bare(record))));
    let known = seen.iter().filter(|record| trained.contains(&bare(record))).count();
    assert!(
        known * 2 > seen.len(),
        "only {known} of {} seen sentences differ by names alone",
        seen.len()
    );
}

#[test]
fn shuffled_labels_change_the_training_labels_only() {
    let grammar = Grammar::parse(&std::fs::read_to_string(folder().join("grammar.yaml")).unwrap()).unwrap();
    let plain = Settings {
        train: 40,
        ..Settings::new("grammar.yaml")
    };
    let shuffled = corpus(
        &grammar,
        &Settings {
            shuffle_labels: true,
            ..plain.clone()
        },
    );
    let (mut equal, mut golds) = (0, 0);
    for ((file, before), (other, after)) in corpus(&grammar, &plain).into_iter().zip(shuffled) {
        assert_eq!(file, other);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(
                (&before.id, &before.text, &before.tokens),
                (&after.id, &after.text, &after.tokens)
            );
            for (old, new) in before.token_spans.iter().zip(&after.token_spans) {
                assert_eq!((old.start, old.end), (new.start, new.end));
                golds += usize::from(file.starts_with("train/"));
                equal += usize::from(file.starts_with("train/") && old.label == new.label);
                assert!(file.starts_with("train/") || old.label == new.label);
            }
        }
    }
    assert!(equal * 6 < golds, "{equal} of {golds} labels stayed as they were");
}

/// Micro F1 of predicted spans against the golds.
fn micro_f1(test: &[Record], mut predict: impl FnMut(&Record) -> Vec<Span>) -> f64 {
    let (mut right, mut predicted, mut golds) = (0, 0, 0);
    for record in test {
        let found = predict(record);
        right += found.iter().filter(|span| record.token_spans.contains(span)).count();
        predicted += found.len();
        golds += record.token_spans.len();
    }
    2.0 * right as f64 / (predicted + golds) as f64
}

#[test]
fn a_lookup_of_training_names_is_not_enough() {
    let (train, test) = (all("train"), all("test"));
    let mut counts: BTreeMap<&[String], BTreeMap<&str, usize>> = BTreeMap::new();
    for record in &train {
        for span in &record.token_spans {
            *counts
                .entry(name(record, span))
                .or_default()
                .entry(&span.label)
                .or_default() += 1;
        }
    }
    let labels: BTreeMap<&[String], &str> = counts
        .into_iter()
        .map(|(name, labels)| (name, labels.into_iter().max_by_key(|&(_, count)| count).unwrap().0))
        .collect();
    let longest = labels.keys().map(|name| name.len()).max().unwrap();
    let lookup = |record: &Record| {
        let (mut spans, mut start) = (Vec::new(), 0);
        while start < record.tokens.len() {
            let ends = (start + 1..=record.tokens.len().min(start + longest)).rev();
            let found = ends
                .into_iter()
                .find_map(|end| Some((end, labels.get(&record.tokens[start..end])?)));
            let next = found.map_or(start + 1, |(end, _)| end);
            spans.extend(found.map(|(end, label)| Span {
                start: start as u32,
                end: end as u32,
                label: (*label).to_owned(),
            }));
            start = next;
        }
        spans
    };
    let trained = micro_f1(&train, lookup);
    assert!(
        trained > 0.5,
        "the lookup does not work: it reaches {trained:.3} on its own names"
    );
    let score = micro_f1(&test, lookup);
    println!("lookup of training names: micro F1 {score:.3}");
    assert!(score <= 0.30, "{score}");
}

/// What the classifier sees of a token: its word and its shape, not its neighbours.
fn features(token: &str) -> Vec<String> {
    let lower = token.to_lowercase();
    let class = |c: char| match c {
        c if c.is_uppercase() => 'X',
        c if c.is_lowercase() => 'x',
        c if c.is_numeric() => '9',
        c if c.is_alphabetic() => 'a',
        c => c,
    };
    let mut shape: Vec<char> = token.chars().map(class).collect();
    let long = format!("shape={}", shape.iter().collect::<String>());
    shape.dedup();
    let chars: Vec<char> = lower.chars().collect();
    let mut features = vec![
        "bias".to_owned(),
        format!("word={token}"),
        format!("lower={lower}"),
        long,
        format!("short={}", shape.iter().collect::<String>()),
    ];
    for length in 1..=4.min(chars.len()) {
        features.push(format!("prefix={}", chars[..length].iter().collect::<String>()));
        features.push(format!(
            "suffix={}",
            chars[chars.len() - length..].iter().collect::<String>()
        ));
    }
    features
}

/// An averaged perceptron over tags.
#[derive(Default)]
struct Perceptron {
    /// Feature → for each tag the weight and the sum of its values over all steps.
    weights: BTreeMap<String, Vec<(f64, f64)>>,
    step: f64,
}

impl Perceptron {
    fn best(&self, features: &[String], tags: usize, averaged: bool) -> usize {
        let mut scores = vec![0.0; tags];
        for weights in features.iter().filter_map(|feature| self.weights.get(feature)) {
            for (score, &(now, sum)) in scores.iter_mut().zip(weights) {
                *score += if averaged { now - sum / self.step } else { now };
            }
        }
        (0..tags)
            .max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)))
            .unwrap()
    }

    fn learn(&mut self, features: &[String], gold: usize, tags: usize) {
        self.step += 1.0;
        let guess = self.best(features, tags, false);
        if guess == gold {
            return;
        }
        for feature in features {
            let weights = self
                .weights
                .entry(feature.clone())
                .or_insert_with(|| vec![(0.0, 0.0); tags]);
            for (tag, change) in [(gold, 1.0), (guess, -1.0)] {
                weights[tag].0 += change;
                weights[tag].1 += change * self.step;
            }
        }
    }
}

/// Tag 0 is no entity; type `t` begins with tag `2t + 1` and goes on with `2t + 2`.
fn tags(record: &Record, types: &[&str]) -> Vec<usize> {
    let mut tags = vec![0; record.tokens.len()];
    for span in &record.token_spans {
        let label = types.iter().position(|label| *label == span.label).unwrap();
        for token in span.start..span.end {
            tags[token as usize] = 2 * label + 1 + usize::from(token > span.start);
        }
    }
    tags
}

#[test]
fn a_classifier_of_single_tokens_is_not_enough() {
    let (train, test) = (all("train"), all("test"));
    let types: BTreeSet<&str> = train
        .iter()
        .flat_map(|record| &record.token_spans)
        .map(|span| span.label.as_str())
        .collect();
    let types: Vec<&str> = types.into_iter().collect();
    let count = 2 * types.len() + 1;
    let mut samples: Vec<(Vec<String>, usize)> = train
        .iter()
        .flat_map(|record| {
            record
                .tokens
                .iter()
                .map(|token| features(token))
                .zip(tags(record, &types))
        })
        .collect();
    let mut perceptron = Perceptron::default();
    for epoch in 0..4 {
        Rng::new(0, "baseline").step(epoch).shuffle(&mut samples);
        for (features, gold) in &samples {
            perceptron.learn(features, *gold, count);
        }
    }
    let classify = |record: &Record| {
        let mut spans: Vec<Span> = Vec::new();
        let mut open = None;
        for (token, text) in (0..).zip(&record.tokens) {
            let tag = perceptron.best(&features(text), count, true);
            let label = tag.checked_sub(1).map(|tag| types[tag / 2]);
            match (label, spans.last_mut()) {
                (Some(label), Some(span)) if tag % 2 == 0 && open == Some(label) => span.end = token + 1,
                (Some(label), _) => spans.push(Span {
                    start: token,
                    end: token + 1,
                    label: label.to_owned(),
                }),
                (None, _) => {}
            }
            open = label;
        }
        spans
    };
    // The classifier works: it tells well what belongs to a name, only not to what kind of name.
    let tokens = || {
        test.iter()
            .flat_map(|record| record.tokens.iter().zip(tags(record, &types)))
    };
    let named = |text: &str| perceptron.best(&features(text), count, true) > 0;
    let right = tokens().filter(|(text, tag)| named(text) == (*tag > 0)).count();
    let accuracy = right as f64 / tokens().count() as f64;
    assert!(accuracy > 0.8, "name or not: {accuracy:.3} of the tokens are right");
    let score = micro_f1(&test, classify);
    println!("classifier of single tokens: micro F1 {score:.3}; name or not: {accuracy:.3} of the tokens");
    assert!(score <= 0.60, "{score}");
}
