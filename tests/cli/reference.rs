//! What users of the reference trainer bring along: its JSON configs and its command lines.

use serde_json::{Value, json};

use crate::project::Project;

/// A project with a corpus, a vocabulary, and `configs/bi_encoder.json`, a config that trains for four steps.
pub(crate) fn project() -> Project {
    let project = Project::with_corpus();
    let letters = ('a'..='z').chain('A'..='Z').chain('0'..='9');
    let mut vocabulary = String::from("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
    for letter in letters {
        vocabulary.push_str(&format!("{letter}\n##{letter}\n"));
    }
    project.write("vocab.txt", &vocabulary);
    project.write("configs/bi_encoder.json", &config(&[]).to_string());
    project
}

/// The config, with some keys changed or added.
pub(crate) fn config(changes: &[(&str, Value)]) -> Value {
    let encoder = json!({"source": "random", "vocabulary": "vocab.txt", "hidden_size": 16, "layers": 1, "heads": 2});
    let text = r#"{
        "run_name": "bi_encoder",
        "dataset_name": "toy",
        "annotation_format": "tokens",
        "loss_masking": "subwords",
        "train_file": "data/train/*.jsonl",
        "validation_file": "data/test.jsonl",
        "test_file": "data/test.jsonl",
        "output_dir": "models/bi_encoder",
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "type_encoder_pooling": "cls",
        "learning_rate": 1e-3,
        "type_encoder_learning_rate": null,
        "linear_layers_learning_rate": null,
        "max_steps": 4,
        "eval_steps": 2,
        "logging_steps": 2,
        "warmup_steps": 0,
        "loss_fn": "bce",
        "prediction_threshold": 0.5,
        "start_loss_weight": 0,
        "end_loss_weight": 0,
        "span_loss_weight": 1,
        "focal_alpha": null,
        "focal_gamma": null,
        "linear_hidden_size": 16,
        "span_width_embedding_size": 8,
        "init_temperature": 0.03,
        "max_seq_length": 32,
        "lr_scheduler_type": "linear",
        "early_stopping_patience": 3,
        "seed": 42,
        "max_span_length": 8,
        "dropout": 0,
        "save_total_limit": 2,
        "fp16": false,
        "bf16": false,
        "do_train": true,
        "do_eval": true,
        "do_predict": true
    }"#;
    let mut config: Value = serde_json::from_str(text).expect("JSON");
    config["token_encoder"] = encoder.clone();
    config["type_encoder"] = encoder;
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    config
}

/// Name and fingerprint of every instance in a plan.
fn fingerprints(project: &Project, manifest: &str) -> Vec<(Value, Value)> {
    let plan: Value =
        serde_json::from_str(&project.nerpipe(&["plan", manifest, "--json"]).expect(0).stdout).expect("JSON");
    let instances = plan["instances"].as_array().expect("instances");
    let named = |instance: &Value| (instance["instance"].clone(), instance["fingerprint"].clone());
    instances.iter().map(named).collect()
}

#[test]
fn a_config_runs_and_leaves_the_output_directory_of_the_reference() {
    let project = project();
    let outcome = project.nerpipe(&["run", "configs/bi_encoder.json"]).expect(0);
    for word in [
        "precision",
        "person",
        "micro",
        "macro",
        "split test, threshold 0.5, 2 sentences",
    ] {
        assert!(outcome.stdout.contains(word), "{word} in\n{}", outcome.stdout);
    }
    let output = "models/bi_encoder";
    let link = std::fs::read_link(project.path(&format!("{output}/best_checkpoint"))).expect("a link");
    let folder = link.to_str().expect("UTF-8");
    assert!(["checkpoint-2", "checkpoint-4"].contains(&folder), "{folder}");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(
            project.path(&format!("{output}/best_checkpoint/{file}")).is_file(),
            "{file}"
        );
    }
    let written: Value = serde_json::from_str(&project.read(&format!("{output}/config.json"))).expect("JSON");
    assert_eq!(written, config(&[]));
    let results: Value = serde_json::from_str(&project.read(&format!("{output}/test_results.json"))).expect("JSON");
    for key in ["precision", "recall", "f1", "tp", "fp", "fn"] {
        assert!(results["test_metrics"]["micro"][key].is_number(), "{results}");
        assert!(
            results["test_metrics"]["per_class"]["person"][key].is_number(),
            "{results}"
        );
    }
    let log = project.read(&format!("{output}/run.log"));
    for line in [
        "step 2: loss ",
        "step 4: validation: micro F1 ",
        "kept the model of step ",
        "test: micro F1 ",
    ] {
        assert!(log.contains(line), "{line} in\n{log}");
    }

    let again = project.nerpipe(&["run", "configs/bi_encoder.json"]).expect(0);
    assert!(again.stderr.contains("bi_encoder: 0 executed"), "{}", again.stderr);

    // Another seed is another training, and what nerpipe put there gives way to it (defect 29 of the reference).
    project.write("configs/bi_encoder.json", &config(&[("seed", json!(7))]).to_string());
    project.nerpipe(&["run", "configs/bi_encoder.json"]).expect(0);
    let written: Value = serde_json::from_str(&project.read(&format!("{output}/config.json"))).expect("JSON");
    assert_eq!(written["seed"], 7);
}

#[test]
fn the_converted_config_is_the_same_run() {
    let project = project();
    project.nerpipe(&["run", "configs/bi_encoder.json"]).expect(0);
    let manifest = project
        .nerpipe(&["convert", "configs/bi_encoder.json"])
        .expect(0)
        .stdout;
    project.write("bi_encoder.yaml", &manifest);
    let of_config = fingerprints(&project, "configs/bi_encoder.json");
    assert_eq!(of_config, fingerprints(&project, "bi_encoder.yaml"));
    assert!(
        of_config.iter().all(|(_, fingerprint)| fingerprint.is_string()),
        "{of_config:?}"
    );
    let again = project.nerpipe(&["run", "bi_encoder.yaml"]).expect(0);
    assert!(again.stderr.contains("bi_encoder: 0 executed"), "{}", again.stderr);
}

#[test]
fn wrong_keys_and_values_are_told_with_their_lines() {
    let project = project();
    project.write("c.json", "{\n  \"token_encoder\": \"x\",\n  \"warmup_step\": 5\n}\n");
    let outcome = project.nerpipe(&["run", "c.json"]).expect(3);
    assert!(outcome.stderr.contains("c.json:3:3"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("did you mean `warmup_steps`?"),
        "{}",
        outcome.stderr
    );

    let wrong = config(&[("loss_fn", json!("contrastive"))]);
    project.write("c.json", &serde_json::to_string_pretty(&wrong).expect("JSON"));
    let outcome = project.nerpipe(&["plan", "c.json"]).expect(3);
    assert!(
        outcome.stderr.contains("\"prediction_threshold\": 0.5"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("it must be `cls`, not a number"),
        "{}",
        outcome.stderr
    );
    project.nerpipe(&["convert", "vocab.txt"]).expect(2);
}

#[test]
fn keys_without_meaning_are_named_in_one_warning() {
    let project = project();
    let keys = [
        ("report_to", json!("none")),
        ("save_steps", json!(5)),
        ("bf16", json!(true)),
    ];
    project.write("c.json", &config(&keys).to_string());
    let outcome = project.nerpipe(&["plan", "c.json"]).expect(0);
    assert!(
        outcome
            .stderr
            .contains("`report_to`, `save_steps` have no meaning here"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("`bf16` asks for half precision"),
        "{}",
        outcome.stderr
    );
}

/// Defect 31 of the reference. A config has no place to name predictions in, its manifest has.
#[test]
fn predictions_are_written() {
    let project = project();
    let manifest = project
        .nerpipe(&["convert", "configs/bi_encoder.json"])
        .expect(0)
        .stdout;
    let publish = "    kind: evaluate\n    publish: {predictions.jsonl: predictions.jsonl}\n";
    project.write("m.yaml", &manifest.replace("    kind: evaluate\n", publish));
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    let predictions = project.read("predictions.jsonl");
    let ids: Vec<Value> = predictions
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].clone())
        .collect();
    assert_eq!(ids, ["0", "1"]);
}

/// The four configs that come with the repository, in the repository.
#[test]
fn our_configs_plan() {
    let project = Project::new();
    let repository = env!("CARGO_MANIFEST_DIR");
    let cache = project.path("cache");
    for name in [
        "bi_encoder",
        "bi_encoder_contrastive",
        "cross_encoder",
        "cross_encoder_contrastive",
    ] {
        let config = format!("{repository}/pipelines/reference/{name}.json");
        let cache = cache.to_str().expect("UTF-8");
        let arguments = ["plan", &config, "--project", repository, "--cache-dir", cache];
        let outcome = project.nerpipe(&arguments).expect(0);
        assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
    }
}

/// docs/reference.md names a test for each of the reference's defects; each must exist.
#[test]
fn every_defect_has_the_test_that_the_docs_name() {
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(repository.join("docs/reference.md")).expect("the docs");
    let mut sources = String::new();
    let mut folders: Vec<_> = ["src", "tests", "engine", "hub", "stages"]
        .map(|name| repository.join(name))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).expect("a source"));
            }
        }
    }
    let rows = docs.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number: u32 = cells.get(1)?.parse().ok()?;
        Some((number, cells[cells.len() - 2].trim_matches('`').to_owned()))
    });
    let rows: Vec<(u32, String)> = rows.collect();
    assert_eq!(
        rows.iter().map(|row| row.0).collect::<Vec<_>>(),
        (1..=31).collect::<Vec<_>>()
    );
    for (number, test) in rows {
        let declared = format!("#[test]\nfn {test}()");
        let inside = format!("#[test]\n    fn {test}()");
        assert!(
            sources.contains(&declared) || sources.contains(&inside),
            "defect {number}: there is no test `{test}`"
        );
    }
}
