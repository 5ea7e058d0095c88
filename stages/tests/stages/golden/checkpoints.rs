//! The reference's own checkpoints, read by the kind `checkpoint`, evaluated, and trained on.

use nerpipe_engine::StageError;
use nerpipe_engine::testing::{Bench, Made};
use nerpipe_stages::checkpoint::TakeCheckpoint;
use nerpipe_stages::encoder::Encoder;
use nerpipe_stages::evaluate::Evaluate;
use nerpipe_stages::load::Load;
use nerpipe_stages::tensors::write_safetensors;
use nerpipe_stages::tokenize::Tokenize;
use nerpipe_stages::train::Train;

use super::*;

/// A checkpoint, and the fixture whose weights and figures it has.
struct Fixture {
    folder: &'static str,
    architecture: &'static str,
    /// The pickle.
    weights: &'static str,
    /// What it holds, as the fixtures have it.
    init: &'static str,
    /// The case whose evaluation is repeated, and where its weights lie.
    case: &'static str,
    eval_weights: &'static str,
    threshold: Value,
}

fn fixtures() -> [Fixture; 2] {
    [
        Fixture {
            folder: "bi",
            architecture: "bi_encoder",
            weights: "model.pt",
            init: "init_bi.safetensors",
            case: "bi_bce_tokens",
            eval_weights: "bi_bce_tokens",
            threshold: json!(0.5),
        },
        Fixture {
            folder: "cross_contrastive",
            architecture: "cross_encoder",
            weights: "model.bin",
            init: "init_cross_contrastive.safetensors",
            case: "cross_contrastive_contrastive_label_token_tokens__fixed",
            eval_weights: "cross_contrastive_contrastive_label_token_tokens",
            threshold: json!("label_token"),
        },
    ]
}

impl Fixture {
    /// A project with the checkpoint in `bi` or `cross_contrastive` and the encoders it was made from.
    fn project(&self, golden: &Golden) -> Bench {
        let bench = Bench::new();
        for (name, files) in [
            ("encoder", &["config.json", "model.safetensors", "tokenizer.json"][..]),
            ("type_encoder", &["config.json", "model.safetensors", "tokenizer.json"]),
            (
                "checkpoints/bi",
                &[
                    "config.json",
                    "model.pt",
                    "token_encoder/config.json",
                    "type_encoder/config.json",
                ],
            ),
            (
                "checkpoints/cross_contrastive",
                &["config.json", "model.bin", "tokenizer/tokenizer.json"],
            ),
        ] {
            for file in files {
                bench.write(&format!("{name}/{file}"), golden.bytes(&format!("{name}/{file}")));
            }
        }
        bench
    }

    fn settings(&self) -> Value {
        json!({
            "source": format!("checkpoints/{}", self.folder),
            "architecture": self.architecture,
            "max_seq_length": 72,
            "annotation_format": "tokens",
        })
    }
}

/// The bench with the encoders at the ports that name them.
fn with_encoders(bench: Bench) -> Bench {
    let text = bench.run(&Encoder, json!({"source": "encoder"})).expect("taken");
    let types = bench.run(&Encoder, json!({"source": "type_encoder"})).expect("taken");
    bench.input("token_encoder", &text).input("type_encoder", &types)
}

/// Samples of the fixtures as tokens, cut with the model's own tokenizers.
fn tokens(golden: &Golden, bench: Bench, split: &str, model: &Made) -> (Bench, Made) {
    let samples: Value = golden.json("samples.json");
    let samples = samples[split].as_array().expect("samples");
    let lines: Vec<String> = samples
        .iter()
        .map(|sample| {
            let mut sample = sample.clone();
            sample.as_object_mut().expect("a record").remove("schema");
            sample.to_string()
        })
        .collect();
    bench.write("samples.jsonl", lines.join("\n"));
    let corpus = bench
        .run(&Load, json!({"train": "samples.jsonl", "test": "samples.jsonl"}))
        .expect("loaded");
    let bench = bench
        .input("corpus", &corpus)
        .input("tokenizer", model)
        .input("type_tokenizer", model);
    let tokens = bench.run(&Tokenize, json!({"formats": ["tokens"]})).expect("tokenized");
    (bench, tokens)
}

#[test]
fn golden_checkpoints_hold_the_reference_weights() {
    let golden = Golden::open();
    for fixture in fixtures() {
        let bench = with_encoders(fixture.project(&golden));
        let model = bench.run(&TakeCheckpoint, fixture.settings()).expect("taken");
        assert!(model.warnings.is_empty(), "{:?}", model.warnings);
        let found = Tensors::read(&std::fs::read(model.path("model.safetensors")).expect("weights")).floats;
        let expected = golden.tensors(fixture.init).floats;
        assert_eq!(found.len(), expected.len());
        for (name, tensor) in expected {
            assert_eq!(found[&name], tensor, "{name}");
        }
        let config = model.json("config.json");
        assert_eq!(config["architecture"], fixture.architecture);
        assert_eq!(
            (&config["linear_hidden_size"], &config["init_temperature"]),
            (&json!(24), &json!(0.07))
        );
        assert_eq!(config["loss_masking"], "subwords", "what goes with tokens");
        // The markers' rows are counted, so that whoever builds the encoder gets a table that fits.
        let rows = found["token_encoder.embeddings.word_embeddings.weight"].shape[0];
        assert_eq!(model.json("token_encoder_config.json")["vocab_size"], rows);
    }
}

/// With the weights of the fixtures' evaluations in place of the pickle, through every stage that a user goes through.
#[test]
fn golden_checkpoints_evaluate_to_the_reference_figures() {
    let golden = Golden::open();
    for fixture in fixtures() {
        let case: case::Case = golden.json(&format!("cases/{}/case.json", fixture.case));
        let evaluation = case.eval.expect("an evaluation");
        let bench = with_encoders(fixture.project(&golden));
        let folder = format!("checkpoints/{}", fixture.folder);
        let weights = golden.tensors(&format!("cases/{}/eval_weights_f16.safetensors", fixture.eval_weights));
        let path = bench.write(&format!("{folder}/model.safetensors"), "");
        let tensors: Vec<HostTensor> = weights.floats.into_values().collect();
        write_safetensors(&path, &tensors).expect("written");
        std::fs::remove_file(bench.project().join(&folder).join(fixture.weights)).expect("removed");

        let model = bench.run(&TakeCheckpoint, fixture.settings()).expect("taken");
        let (bench, tokens) = tokens(&golden, bench, "eval", &model);
        let bench = bench.input("model", &model).input("tokens", &tokens);
        let settings = json!({"thresholds": [fixture.threshold], "bootstrap": {"n_resamples": 0}});
        let scores = bench.run(&Evaluate, settings).expect("evaluated");
        let found = &scores.json("metrics.json")["results"][0];
        let expected = evaluation
            .results
            .iter()
            .find(|result| result.threshold == fixture.threshold);
        let expected = &expected.expect("the threshold").metrics;
        println!("{}: micro {}", fixture.folder, found["micro"]);
        for key in ["tp", "fp", "fn"] {
            assert_eq!(found["micro"][key], expected["micro"][key], "{} {key}", fixture.folder);
        }
        let f1 = |value: &Value| value["f1"].as_f64().expect("a number");
        assert!((f1(&found["micro"]) - f1(&expected["micro"])).abs() < 1e-9);
        assert!((f1(&found["macro"]) - f1(&expected["macro"])).abs() < 1e-9);
        for (label, figures) in expected["per_class"].as_object().expect("by type") {
            assert_eq!(found["per_class"][label]["tp"], figures["tp"], "{label}");
        }
    }
}

#[test]
fn golden_checkpoints_can_be_trained_on() {
    let golden = Golden::open();
    for fixture in fixtures() {
        let bench = with_encoders(fixture.project(&golden));
        let start = bench.run(&TakeCheckpoint, fixture.settings()).expect("taken");
        let (bench, tokens) = tokens(&golden, bench, "train", &start);
        let bench = bench.input("tokens", &tokens).input("start", &start);
        let own = start.json("config.json");
        let settings = |steps: u64, rate: f64| {
            json!({
                "architecture": fixture.architecture, "loss_fn": own["loss_fn"], "prediction_threshold": fixture.threshold,
                "linear_hidden_size": 24, "span_width_embedding_size": 8, "max_span_length": 8, "max_seq_length": 72,
                "max_steps": steps, "learning_rate": rate, "warmup_steps": 0,
            })
        };
        let weights = |made: &Made| std::fs::read(made.path("model.safetensors")).expect("weights");
        let idle = bench.run(&Train, settings(1, 0.0)).expect("trained");
        assert!(
            weights(&idle) == weights(&start),
            "a step of length 0 leaves the checkpoint as it was"
        );
        assert_eq!(idle.text("tokenizer.json"), start.text("tokenizer.json"));
        let trained = bench.run(&Train, settings(2, 1e-3)).expect("trained");
        assert!(weights(&trained) != weights(&start));

        let refused = |change: Value| -> StageError {
            let mut settings = settings(1, 0.0);
            settings
                .as_object_mut()
                .expect("a map")
                .extend(change.as_object().expect("a map").clone());
            bench.run(&Train, settings).map(|_| ()).expect_err("refused")
        };
        let error = refused(json!({"linear_hidden_size": 32}));
        assert!(
            error.message.contains("was made with 24") && error.help.is_some(),
            "{error}"
        );
        let other = if fixture.folder == "bi" {
            "cross_encoder"
        } else {
            "bi_encoder"
        };
        let threshold = if fixture.folder == "bi" {
            json!(0.5)
        } else {
            json!("cls")
        };
        let error = refused(json!({"architecture": other, "prediction_threshold": threshold}));
        assert!(error.message.contains("inputs.start"), "{error}");
    }
}

#[test]
fn golden_checkpoints_say_what_they_lack() {
    let golden = Golden::open();
    let [bi, cross] = fixtures();
    let bench = bi.project(&golden);
    let take = |bench: &Bench, settings: Value| bench.run(&TakeCheckpoint, settings).map(|_| ()).expect_err("refused");
    let error = take(&bench, bi.settings());
    assert!(error.message.contains("no tokenizer"), "{error}");
    assert!(
        error
            .help
            .expect("help")
            .contains("(`encoder`) to the port `token_encoder`")
    );
    let error = take(&bench, cross.settings());
    assert!(
        error.message.contains("neither `token_encoder_config.json` nor"),
        "{error}"
    );
    let error = take(&bench, json!({"source": "checkpoints"}));
    assert!(error.help.expect("help").contains("such as `checkpoints/bi`"));

    let bench = with_encoders(bench);
    let error = take(&bench, json!({"source": "checkpoints/cross_contrastive"}));
    assert_eq!(error.help.expect("help"), "set `architecture: cross_encoder`");
    let error = take(
        &bench,
        json!({"source": "checkpoints/bi", "calibrated": true, "max_seq_length": 72}),
    );
    assert!(error.message.contains("not calibrated"), "{error}");
    let error = take(&bench, json!({"source": "encoder"}));
    assert!(error.message.contains("no type encoder"), "{error}");
    bench.write(
        "checkpoints/bi/config.json",
        r#"{"linear_hidden_size": 25, "loss_fn": "bce"}"#,
    );
    let error = take(&bench, json!({"source": "checkpoints/bi", "max_seq_length": 72}));
    assert!(error.message.contains("`model.pt` does not fit"), "{error}");
}
