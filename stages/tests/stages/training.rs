//! Every system learns a few sentences by heart, through all of load, encoder, tokenize, train and evaluate.

use std::path::Path;

use nerpipe_engine::testing::{Bench, Made};
use nerpipe_stages::calibrate::Calibrate;
use nerpipe_stages::encoder::Encoder;
use nerpipe_stages::evaluate::Evaluate;
use nerpipe_stages::generate::Generate;
use nerpipe_stages::load::Load;
use nerpipe_stages::tokenize::Tokenize;
use nerpipe_stages::train::Train;
use serde_json::{Value, json};

/// (words, golds as (start, end, label))
type Line = (&'static str, &'static [(usize, usize, &'static str)]);

const LINES: [Line; 8] = [
    ("Ada Lovelace lives in London .", &[(0, 2, "person"), (4, 5, "city")]),
    ("Oslo greets Nils Holgersson .", &[(0, 1, "city"), (2, 4, "person")]),
    ("We met Grace Hopper in Lima .", &[(2, 4, "person"), (5, 6, "city")]),
    ("Nobody was there .", &[]),
    ("Alan Turing left Oslo .", &[(0, 2, "person"), (3, 4, "city")]),
    ("London is larger than Lima .", &[(0, 1, "city"), (4, 5, "city")]),
    ("The award went to Ada Lovelace .", &[(4, 6, "person")]),
    (
        "Grace Hopper wrote to Alan Turing .",
        &[(0, 2, "person"), (4, 6, "person")],
    ),
];

fn record(number: usize, (text, golds): &Line) -> Value {
    let tokens: Vec<&str> = text.split(' ').collect();
    let offset = |token: usize| tokens[..token].iter().map(|word| word.len() + 1).sum::<usize>();
    let span = |start: usize, end: usize, label: &str| json!({"start": start, "end": end, "label": label});
    json!({
        "id": format!("line-{number}"),
        "language": number.is_multiple_of(2).then_some("en"),
        "dataset": if number < 6 { "one" } else { "other" },
        "text": text,
        "tokens": tokens,
        "token_spans": golds.iter().map(|&(start, end, label)| span(start, end, label)).collect::<Vec<_>>(),
        "char_spans": golds
            .iter()
            .map(|&(start, end, label)| span(offset(start), offset(end - 1) + tokens[end - 1].len(), label))
            .collect::<Vec<_>>(),
    })
}

/// A bench with a vocabulary, and the sentences as every split of a corpus.
pub(super) fn corpus() -> (Bench, Made) {
    let bench = Bench::new();
    let lines: Vec<String> = LINES
        .iter()
        .enumerate()
        .map(|(number, line)| record(number, line).to_string())
        .collect();
    bench.write("train.jsonl", lines.join("\n"));
    let words = "[PAD] [UNK] [CLS] [SEP] [MASK] . ada lovelace lives in london oslo greets nils holger ##sson we met grace \
                 hopper lima nobody was there alan turing left is larger than the award went to wrote person city";
    bench.write("vocab.txt", words.split_whitespace().collect::<Vec<_>>().join("\n"));
    let corpus = bench
        .run(
            &Load,
            json!({"train": "train.jsonl", "validation": "train.jsonl", "test": "train.jsonl"}),
        )
        .expect("loaded");
    (bench, corpus)
}

/// A bench with tokens and an encoder.
pub(super) fn prepared() -> (Bench, Made, Made) {
    let (bench, corpus) = corpus();
    let encoder = json!({"source": "random", "vocabulary": "vocab.txt", "hidden_size": 32, "layers": 2, "heads": 2,
        "max_position_embeddings": 64, "dropout": 0.0});
    let encoder = bench.run(&Encoder, encoder).expect("made");
    let bench = bench.input("corpus", &corpus).input("tokenizer", &encoder);
    let tokens = bench.run(&Tokenize, json!({})).expect("tokenized");
    (bench, tokens, encoder)
}

pub(super) fn settings(architecture: &str, loss: &str, more: Value) -> Value {
    let mut settings = json!({
        "architecture": architecture,
        "loss_fn": loss,
        "linear_hidden_size": 32,
        "span_width_embedding_size": 8,
        "max_span_length": 6,
        "max_seq_length": 64,
        "learning_rate": 3e-3,
        "warmup_steps": 5,
        "per_device_train_batch_size": 4,
        "max_steps": 150,
    });
    if let (Value::Object(settings), Value::Object(more)) = (&mut settings, more) {
        settings.extend(more);
    }
    settings
}

/// Trains and evaluates; the model and its micro F1 on the sentences it was trained on.
fn learn(architecture: &str, loss: &str, more: Value) -> (Bench, Made, f64) {
    let (bench, tokens, encoder) = prepared();
    let bench = bench
        .input("tokens", &tokens)
        .input("token_encoder", &encoder)
        .input("type_encoder", &encoder);
    let model = bench.run(&Train, settings(architecture, loss, more)).expect("trained");
    let bench = bench.input("model", &model);
    let scores = bench.run(&Evaluate, json!({})).expect("evaluated");
    let f1 = scores.json("metrics.json")["results"][0]["micro"]["f1"]
        .as_f64()
        .expect("a number");
    (bench, model, f1)
}

#[test]
fn an_evaluation_is_broken_down_by_scheme_language_and_dataset() {
    let more = json!({"max_steps": 20, "max_span_length": 2});
    let (bench, ..) = learn("bi_encoder", "bce", more);
    let settings = json!({"thresholds": [0.2, 0.4], "bootstrap": {"n_resamples": 200}});
    let scores = bench.run(&Evaluate, settings).expect("evaluated");
    let all = &scores.json("metrics.json")["results"][0];
    let count = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {all:#}"));

    let golds = &all["golds"];
    assert_eq!((count(&all["sentences"]), count(&golds["all"])), (8, 13));
    assert_eq!(
        (count(&golds["lost"]), count(&golds["too_long"])),
        (1, 1),
        "Nils Holgersson has three subwords"
    );
    for (metrics, lost) in [(all, 0), (&all["full_gold"], count(&golds["lost"]))] {
        let strict = &metrics["schemes"]["strict"];
        assert_eq!(strict["correct"], metrics["micro"]["tp"]);
        assert_eq!(strict["f1"], metrics["micro"]["f1"]);
        assert_eq!(
            count(&strict["missed"]),
            count(&all["schemes"]["strict"]["missed"]) + lost
        );
        assert!(metrics["schemes"]["partial"]["per_class"]["person"]["f1"].is_number());
    }

    let (one, other) = (&all["datasets"]["one"], &all["datasets"]["other"]);
    assert_eq!((count(&one["sentences"]), count(&other["sentences"])), (6, 2));
    for key in ["tp", "fp", "fn"] {
        assert_eq!(
            count(&one["micro"][key]) + count(&other["micro"][key]),
            count(&all["micro"][key])
        );
    }
    assert_eq!(count(&one["golds"]["all"]) + count(&other["golds"]["all"]), 13);
    let languages = all["languages"].as_object().expect("languages");
    assert_eq!(
        languages.keys().collect::<Vec<_>>(),
        ["en"],
        "a record without a language is in no group"
    );
    assert_eq!(
        (
            count(&languages["en"]["sentences"]),
            count(&one["languages"]["en"]["sentences"])
        ),
        (4, 3)
    );

    for figure in [
        &all["intervals"]["micro"]["f1"],
        &all["intervals"]["full_gold"]["schemes"]["partial"]["recall"],
    ] {
        assert!(
            figure["low"].as_f64() <= figure["high"].as_f64() && figure["high"].as_f64() <= Some(1.0),
            "{figure}"
        );
    }
    assert!(one["intervals"]["macro"]["f1"]["low"].is_number());

    let lines = scores.text("sentence_counts.jsonl");
    let tables = nerpipe_stages::metrics::table::read(lines.as_bytes()).expect("tables");
    assert_eq!(
        tables
            .iter()
            .map(|table| table.head.threshold.clone())
            .collect::<Vec<_>>(),
        [json!(0.2), json!(0.4)]
    );
    assert_eq!(tables[0].table.sum(2, 0..8).golds(), 13);

    let none = bench
        .run(&Evaluate, json!({"bootstrap": {"n_resamples": 0}}))
        .expect("evaluated");
    assert!(none.json("metrics.json")["results"][0].get("intervals").is_none());
    let error = bench
        .run(&Evaluate, json!({"bootstrap": {"n_resamples": 7}}))
        .expect_err("too few");
    assert!(
        error.message.starts_with("bootstrap.n_resamples: 7 draws are too few"),
        "{error}"
    );
}

#[test]
fn a_bi_encoder_learns_with_bce() {
    // At 150 steps some seeds are still on their way.
    let (_bench, model, f1) = learn("bi_encoder", "bce", json!({"max_steps": 300}));
    assert!(f1 > 0.9, "{f1}");
    let config = model.json("config.json");
    assert_eq!(
        (&config["loss_fn"], &config["training"]["seed"]),
        (&json!("bce"), &json!(42))
    );
}

#[test]
fn a_bi_encoder_learns_with_focal_loss_from_raw_text() {
    let more = json!({"annotation_format": "text", "loss_masking": "none", "type_encoder_pooling": "mean"});
    let (.., f1) = learn("bi_encoder", "focal", more);
    assert!(f1 > 0.9, "{f1}");
}

#[test]
fn a_bi_encoder_learns_with_contrastive_loss() {
    let (.., f1) = learn("bi_encoder", "contrastive", json!({}));
    assert!(f1 > 0.9, "{f1}");
}

#[test]
fn a_cross_encoder_learns_with_bce() {
    let (.., f1) = learn(
        "cross_encoder",
        "bce",
        json!({"max_steps": 300, "learning_rate": 1e-3, "batch_types": "all", "type_order": "sorted"}),
    );
    assert!(f1 > 0.9, "{f1}");
}

/// Defect 5 of the reference: the cross-encoder's tokens without masking do not work there.
#[test]
fn a_cross_encoder_learns_with_contrastive_loss_and_a_threshold_marker() {
    let more = json!({"prediction_threshold": "label_token", "loss_masking": "none", "max_steps": 300, "learning_rate": 1e-3, "batch_types": "all", "type_order": "sorted"});
    let (.., f1) = learn("cross_encoder", "contrastive", more);
    assert!(f1 > 0.9, "{f1}");
}

/// The other half of defect 5: text with masking by subwords; and accumulation, which the reference ignores.
#[test]
fn a_cross_encoder_learns_from_raw_text_with_masking() {
    let more = json!({
        "annotation_format": "text", "max_steps": 300, "learning_rate": 1e-3, "batch_types": "all", "type_order": "sorted", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
    });
    let (.., f1) = learn("cross_encoder", "contrastive", more);
    assert!(f1 > 0.9, "{f1}");
}

#[test]
fn a_training_gives_the_same_bytes_with_any_number_of_threads() {
    let train = |threads: usize, loss: &str| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a small pool");
        pool.install(|| {
            let (bench, tokens, encoder) = prepared();
            let bench = bench
                .input("tokens", &tokens)
                .input("token_encoder", &encoder)
                .input("type_encoder", &encoder);
            let short = json!({"max_steps": 12, "eval_steps": 4, "dropout": 0.1});
            let model = bench.run(&Train, settings("bi_encoder", loss, short)).expect("trained");
            model
                .names()
                .iter()
                .map(|name| (name.to_string(), std::fs::read(model.path(name)).expect("bytes")))
                .collect::<Vec<_>>()
        })
    };
    for loss in ["bce", "contrastive"] {
        assert!(
            train(1, loss) == train(2, loss),
            "the bytes of a {loss} training depend on threads"
        );
    }
}

/// Defect 28 of the reference: nothing is saved if `max_steps` is below `eval_steps`, or if F1 is 0.
#[test]
fn a_training_without_an_evaluation_or_a_hit_is_saved_too() {
    let (_bench, model, f1) = learn(
        "bi_encoder",
        "bce",
        json!({"max_steps": 1, "eval_steps": 100, "learning_rate": 0.0}),
    );
    assert!(f1 < 0.2, "{f1}");
    assert!(model.text("training_log.jsonl").contains("\"validation\""));
}

#[test]
fn early_stopping_keeps_the_best_model() {
    let more = json!({"max_steps": 200, "eval_steps": 2, "early_stopping_patience": 2, "learning_rate": 0.0});
    let (_bench, model, _) = learn("bi_encoder", "bce", more);
    let log = model.text("training_log.jsonl");
    assert_eq!(
        log.lines().filter(|line| line.contains("\"loss\"")).count(),
        6,
        "one evaluation and two without gain"
    );
    assert!(
        model
            .notes
            .iter()
            .any(|(key, value)| key == "stopped_early_at_step" && value == &json!(6))
    );
}

/// Defect 24 of the reference's kind: a corpus without entities must not loop for ever.
#[test]
fn a_corpus_without_entities_is_an_error() {
    let bench = Bench::new();
    bench.write("train.jsonl", record(0, &("Nobody was there .", &[])).to_string());
    bench.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nnobody\nwas\nthere\n.");
    let corpus = bench.run(&Load, json!({"train": "train.jsonl"})).expect("loaded");
    let encoder = json!({"source": "random", "vocabulary": "vocab.txt", "hidden_size": 16, "layers": 1, "heads": 2});
    let encoder = bench.run(&Encoder, encoder).expect("made");
    let bench = bench.input("corpus", &corpus).input("tokenizer", &encoder);
    let tokens = bench.run(&Tokenize, json!({})).expect("tokenized");
    let bench = bench
        .input("tokens", &tokens)
        .input("token_encoder", &encoder)
        .input("type_encoder", &encoder);
    let error = bench
        .run(&Train, settings("bi_encoder", "bce", json!({})))
        .expect_err("nothing to learn");
    assert!(error.message.contains("no entity"), "{error}");
}

#[test]
fn another_threshold_costs_no_forward_pass() {
    let (bench, tokens, encoder) = prepared();
    let bench = bench
        .input("tokens", &tokens)
        .input("token_encoder", &encoder)
        .input("type_encoder", &encoder);
    let model = bench
        .run(&Train, settings("bi_encoder", "bce", json!({"max_steps": 30})))
        .expect("trained");
    let bench = bench.input("model", &model);
    let evaluate = |thresholds: Value| {
        bench
            .run(&Evaluate, json!({"thresholds": thresholds}))
            .expect("evaluated")
    };
    let first = evaluate(json!([0.5]));
    assert_eq!((first.steps.executed, first.steps.restored), (1, 0));
    let second = evaluate(json!([0.3, 0.5, 0.9]));
    assert_eq!((second.steps.executed, second.steps.restored), (0, 1));
    let results = second.json("metrics.json");
    assert_eq!(
        results["results"][1]["micro"],
        first.json("metrics.json")["results"][0]["micro"]
    );
    let predicted = |index: usize| {
        results["results"][index]["micro"]["tp"].as_u64().expect("a count")
            + results["results"][index]["micro"]["fp"].as_u64().expect("a count")
    };
    assert!(predicted(0) >= predicted(1) && predicted(1) >= predicted(2));
    let error = bench
        .run(&Evaluate, json!({"thresholds": ["cls"]}))
        .expect_err("another kind of threshold");
    assert!(error.message.contains("cls"), "{error}");
}

#[test]
fn a_calibrated_model_predicts_once_and_finds_no_less() {
    let (bench, model, _) = learn("bi_encoder", "bce", json!({"max_steps": 30}));
    let ours = bench
        .run(&Evaluate, json!({"splits": ["validation"], "thresholds": [0.5]}))
        .expect("evaluated");
    let calibrated = bench.run(&Calibrate, json!({"min_golds": 2})).expect("calibrated");
    assert_eq!(
        (calibrated.steps.executed, calibrated.steps.restored),
        (0, 1),
        "the same step as evaluate's"
    );
    for name in model.names() {
        assert_eq!(
            calibrated.input.file(name),
            model.input.file(name),
            "{name} is handed on as it is"
        );
    }
    let note = |name: &str| calibrated.notes[name].as_f64().expect(name);
    let f1 = |scores: &Made| {
        scores.json("metrics.json")["results"][0]["micro"]["f1"]
            .as_f64()
            .expect("a number")
    };
    assert_eq!(note("micro_f1_at_own_threshold"), f1(&ours));
    assert!(note("micro_f1_at_one_threshold") >= f1(&ours));

    let by_type = bench
        .run(&Calibrate, json!({"per": "type", "min_golds": 2}))
        .expect("calibrated");
    let types = by_type.json("thresholds.json")["types"]
        .as_object()
        .expect("types")
        .len();
    assert!(
        types > 0 || !by_type.warnings.is_empty(),
        "{types} {:?}",
        by_type.warnings
    );
    let by_language = bench
        .run(&Calibrate, json!({"per": "language", "min_golds": 2}))
        .expect("calibrated");
    let languages = by_language.json("thresholds.json");
    assert_eq!(
        languages["languages"]
            .as_object()
            .expect("languages")
            .keys()
            .collect::<Vec<_>>(),
        ["en"]
    );

    let error = bench
        .run(&Evaluate, json!({"thresholds": ["calibrated"]}))
        .expect_err("not calibrated");
    assert!(error.message.contains("the model is not calibrated"), "{error}");

    let mut bench = bench;
    for (made, name) in [
        (&calibrated, "micro_f1_at_one_threshold"),
        (&by_language, "micro_f1_at_own_thresholds"),
    ] {
        bench = bench.input("model", made);
        let scores = bench
            .run(&Evaluate, json!({"splits": ["validation"]}))
            .expect("evaluated");
        assert_eq!((scores.steps.executed, scores.steps.restored), (0, 1));
        let result = &scores.json("metrics.json")["results"][0];
        assert_eq!(
            (&result["threshold"], &result["calibrated"]),
            (&json!("calibrated"), &made.json("thresholds.json"))
        );
        assert_eq!(f1(&scores), made.notes[name].as_f64().expect(name));
        let floor = json!({"splits": ["validation"], "floor": 0.9});
        let error = bench.run(&Evaluate, floor).expect_err("below the floor");
        assert!(error.message.contains("below the floor 0.9"), "{error}");
    }
}

#[test]
fn a_model_that_learned_its_threshold_has_none_to_calibrate() {
    let (bench, ..) = learn("bi_encoder", "contrastive", json!({"max_steps": 2}));
    let error = bench.run(&Calibrate, json!({})).expect_err("nothing to choose");
    assert!(error.message.contains("a threshold that it learned, `cls`"), "{error}");
}

/// A control: what is learned from shuffled labels has nothing to do with labels, so a system that still scored would have found
/// a leak. The settings are those of `pipelines/all_encoders.yaml`, which `cargo xtask end-to-end` holds to .80 with the right
/// labels and more steps.
#[test]
fn shuffled_labels_teach_nothing() {
    let bench = Bench::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/sample");
    for file in ["grammar.yaml", "vocab.txt"] {
        bench.write(file, std::fs::read(data.join(file)).expect(file));
    }
    let encoder = json!({"source": "random", "vocabulary": "vocab.txt", "lowercase": false, "hidden_size": 128, "layers": 2,
        "heads": 4, "max_position_embeddings": 256, "initializer_range": 0.08, "dropout": 0.0});
    let encoder = bench.run(&Encoder, encoder).expect("made");
    let corpus = json!({"grammar": "grammar.yaml", "train": 504, "validation": 1, "test": 24, "shuffle_labels": true});
    let corpus = bench.run(&Generate, corpus).expect("generated");
    let bench = Bench::new().input("corpus", &corpus).input("tokenizer", &encoder);
    let tokens = bench.run(&Tokenize, json!({"formats": ["tokens"]})).expect("tokenized");
    let bench = bench
        .input("tokens", &tokens)
        .input("token_encoder", &encoder)
        .input("type_encoder", &encoder);
    let more = json!({"max_steps": 200, "warmup_steps": 60, "max_seq_length": 256, "max_span_length": 12,
        "learning_rate": 1e-3, "adam_beta2": 0.98, "per_device_train_batch_size": 16, "batch_types": "all",
        "type_order": "sorted", "type_encoder_pooling": "mean", "linear_hidden_size": 128});
    let model = bench
        .run(&Train, settings("bi_encoder", "contrastive", more))
        .expect("trained");
    let bench = bench.input("model", &model);
    let scores = bench.run(&Evaluate, json!({})).expect("evaluated");
    let f1 = &scores.json("metrics.json")["results"][0]["micro"]["f1"];
    println!("micro F1 after training on shuffled labels: {f1}");
    assert!(f1.as_f64().expect("a number") <= 0.10, "{f1}");
}
