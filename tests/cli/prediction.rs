//! Evaluation and prediction by the command line alone.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::project::Project;
use crate::reference::{config, project};

const MODEL: &str = "models/bi_encoder/best_checkpoint";

/// A project with a trained model.
fn trained(changes: &[(&str, Value)]) -> Project {
    let project = project();
    project.write("configs/bi_encoder.json", &config(changes).to_string());
    project
        .nerpipe(&["run", "configs/bi_encoder.json", "--quiet"])
        .expect(0);
    project
}

/// The files in `evals`.
fn results(project: &Project) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(project.path("evals"))
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Defects 3 and 4 of the reference: a number as the threshold, on the CPU.
#[test]
fn a_checkpoint_is_evaluated_by_the_references_options() {
    let project = trained(&[]);
    let evaluate = |more: &[&str]| {
        let given = [
            "evaluate",
            "--pretrained_model_name_or_path",
            MODEL,
            "--evaluation_file",
            "data/test.jsonl",
        ];
        project.nerpipe(&[&given, more].concat())
    };
    let outcome = evaluate(&["--threshold", "0.5", "--evaluation_format", "tokens"]).expect(0);
    assert!(
        outcome.stdout.contains("split test, threshold 0.5, 2 sentences"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("person"), "{}", outcome.stdout);
    let written = results(&project);
    assert_eq!(written.len(), 1, "{written:?}");
    let stamp = written[0]
        .strip_prefix("eval_")
        .and_then(|rest| rest.strip_suffix(".json"))
        .expect(&written[0]);
    assert!(
        stamp.len() == 15 && stamp.chars().all(|c| c.is_ascii_digit() || c == '_'),
        "{stamp}"
    );
    let of_run: Value = serde_json::from_str(&project.read("models/bi_encoder/test_results.json")).expect("JSON");
    let of_evaluation: Value = serde_json::from_str(&project.read(&format!("evals/{}", written[0]))).expect("JSON");
    assert_eq!(of_run, of_evaluation, "the training and the evaluation agree");

    // Once more: all of it is there already.
    let outcome = evaluate(&["--threshold", "0.5", "--evaluation_format", "tokens"]).expect(0);
    assert!(outcome.stderr.contains("evaluate: 0 executed"), "{}", outcome.stderr);
    assert_eq!(results(&project).len(), 2);

    // Another threshold, with dashes.
    let dashed = [
        "evaluate",
        "--pretrained-model-name-or-path",
        MODEL,
        "--evaluation-file",
        "data/test.jsonl",
        "--threshold",
        "0.9",
        "--output",
        "evals/mine.json",
    ];
    let outcome = project.nerpipe(&dashed).expect(0);
    assert!(outcome.stdout.contains("threshold 0.9"), "{}", outcome.stdout);
    assert!(results(&project).contains(&"mine.json".to_owned()));

    // Defect 21: a threshold of another kind.
    let outcome = evaluate(&["--threshold", "cls"]).expect(1);
    assert!(outcome.stderr.contains("it takes a probability"), "{}", outcome.stderr);
    let outcome = evaluate(&["--threshold", "2"]).expect(2);
    assert!(
        outcome.stderr.contains("a probability between 0 and 1"),
        "{}",
        outcome.stderr
    );
    let outcome = evaluate(&["--split", "dev"]).expect(2);
    assert!(outcome.stderr.contains("no splits"), "{}", outcome.stderr);
}

/// A directory that `datasets` saved, with these splits. Each is put together from the fixtures of the stages: `one` holds two records,
/// the others three.
fn saved(project: &Project, folder: &str, splits: &[(&str, &str)]) {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/tests/corpora");
    for (split, fixture) in splits {
        let to = project.path(&format!("{folder}/{split}"));
        std::fs::create_dir_all(&to).expect("a folder");
        for entry in std::fs::read_dir(fixtures.join(fixture)).expect("a fixture").flatten() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
    let names: Vec<&str> = splits.iter().map(|(split, _)| *split).collect();
    let dict = serde_json::json!({ "splits": names }).to_string();
    project.write(&format!("{folder}/dataset_dict.json"), &dict);
}

/// The split `test`, else `dev`, else `validation`, or the one that is named; as `datasets` 2 and 5 write them.
#[test]
fn of_a_saved_dataset_one_split_is_evaluated() {
    const TWO: &str = "dict/dev";
    const THREE: &str = "legacy";
    let project = trained(&[]);
    let evaluate = |data: &str, more: &[&str]| {
        let given = [
            "evaluate",
            "--model",
            MODEL,
            "--evaluation_file",
            data,
            "--threshold",
            "0.5",
        ];
        project.nerpipe(&[&given, more].concat())
    };
    saved(
        &project,
        "d/all",
        &[("train", THREE), ("validation", THREE), ("dev", THREE), ("test", TWO)],
    );
    saved(
        &project,
        "d/dev",
        &[("train", THREE), ("validation", THREE), ("dev", TWO)],
    );
    saved(&project, "d/validation", &[("train", THREE), ("validation", TWO)]);
    saved(&project, "d/train", &[("train", TWO)]);
    for (folder, split) in [("d/all", "test"), ("d/dev/", "dev"), ("d/validation", "validation")] {
        let outcome = evaluate(folder, &[]).expect(0);
        assert!(
            outcome.stdout.contains("threshold 0.5, 2 sentences"),
            "{}",
            outcome.stdout
        );
        assert!(outcome.stdout.contains("city"), "{}", outcome.stdout);
        let said = format!("evaluates the split `{split}` of");
        assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    }
    for (format, split) in [("tokens", "train"), ("text", "train"), ("text", "validation")] {
        let outcome = evaluate("d/all", &["--split", split, "--evaluation_format", format]).expect(0);
        assert!(
            outcome.stdout.contains("threshold 0.5, 3 sentences"),
            "{}",
            outcome.stdout
        );
    }
    // The folder of a split is a dataset by itself, and has no splits.
    let outcome = evaluate("d/all/train", &[]).expect(0);
    assert!(outcome.stdout.contains("3 sentences"), "{}", outcome.stdout);
    let outcome = evaluate("d/all/train", &["--split", "test"]).expect(2);
    assert!(outcome.stderr.contains("has no splits"), "{}", outcome.stderr);

    let outcome = evaluate("d/train", &[]).expect(2);
    assert!(
        outcome
            .stderr
            .contains("`d/train` has no split `test`, `dev`, `validation`")
            && outcome.stderr.contains("name one of these with `--split`: `train`"),
        "{}",
        outcome.stderr
    );
    evaluate("d/train", &["--split", "train"]).expect(0);
    // What the list names must be there, and hold something.
    std::fs::remove_dir_all(project.path("d/all/test")).expect("removed");
    let outcome = evaluate("d/all", &[]);
    assert!(
        outcome.code != Some(0) && outcome.stderr.contains("d/all/test"),
        "{outcome:?}"
    );
    saved(&project, "d/empty", &[("test", "dict/test")]);
    let outcome = evaluate("d/empty", &[]);
    assert!(
        outcome.code != Some(0) && outcome.stderr.contains("there are no records in the split"),
        "{outcome:?}"
    );
}

/// Both layouts of the reference's own, pickles and all: a bi-encoder without tokenizers, a cross-encoder without its encoder's
/// configuration. What they lack comes from the encoders that the command line names.
#[test]
fn the_references_own_checkpoints_are_evaluated_and_predict() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/tests/golden_data");
    let named = |name: &str| golden.join(name).to_str().expect("UTF-8").to_owned();
    let project = Project::new();
    let samples = std::fs::read(golden.join("samples.json")).expect("the samples");
    let samples: Value = serde_json::from_slice(&samples).expect("JSON");
    let samples = samples["eval"].as_array().expect("a list");
    let lines: Vec<String> = samples
        .iter()
        .map(|sample| {
            let keys = ["text", "tokens", "token_spans", "char_spans"];
            let kept = keys.map(|key| (key.to_owned(), sample[key].clone()));
            Value::from(serde_json::Map::from_iter(kept)).to_string()
        })
        .collect();
    project.write("eval.jsonl", &lines.join("\n"));
    for (checkpoint, threshold) in [("bi", "0.5"), ("cross_contrastive", "label_token")] {
        let checkpoint = named(&format!("checkpoints/{checkpoint}"));
        let (encoder, types) = (named("encoder"), named("type_encoder"));
        for format in ["tokens", "text"] {
            let outcome = project
                .nerpipe(&[
                    "evaluate",
                    "--pretrained_model_name_or_path",
                    &checkpoint,
                    "--evaluation_file",
                    "eval.jsonl",
                    "--threshold",
                    threshold,
                    "--evaluation_format",
                    format,
                    "--token_encoder",
                    &encoder,
                    "--type_encoder",
                    &types,
                    "--output",
                    "result.json",
                ])
                .expect(0);
            let said = format!("threshold {threshold}, {} sentences", lines.len());
            assert!(outcome.stdout.contains(&said), "{}", outcome.stdout);
            let results: Value = serde_json::from_str(&project.read("result.json")).expect("JSON");
            let micro = &results["test_metrics"]["micro"];
            let golds = micro["tp"]
                .as_u64()
                .zip(micro["fn"].as_u64())
                .map(|(tp, missed)| tp + missed);
            assert!(golds.is_some_and(|golds| golds > 0), "{results}");
        }
        let predict = |more: &[&str]| {
            let given = ["predict", "--model", &checkpoint, "--labels", "person,location"];
            project.nerpipe(&[&given, more, &["Ada met Bob."]].concat())
        };
        let encoders = ["--token_encoder", &encoder, "--type_encoder", &types];
        let lines = predict(&encoders).expect(0).events();
        assert!(lines.len() == 1 && lines[0]["entities"].is_array(), "{lines:?}");
        // What the checkpoint names is not in this project.
        let outcome = predict(&[]);
        assert!(outcome.code != Some(0) && outcome.stdout.is_empty(), "{outcome:?}");
    }
}

#[test]
fn entities_inside_others_are_found_if_they_are_asked_for() {
    let project = trained(&[]);
    let predict = |more: &[&str]| {
        let given = [
            "predict",
            "--model",
            MODEL,
            "--labels",
            "person,place",
            "--threshold",
            "1e-15",
        ];
        let outcome = project
            .nerpipe(&[&given, more, &["Ada met Bob in Rome."]].concat())
            .expect(0);
        let places: Vec<(u64, u64)> = outcome.events()[0]["entities"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|entity| {
                (
                    entity["start"].as_u64().expect("a place"),
                    entity["end"].as_u64().expect("a place"),
                )
            })
            .collect();
        places
    };
    let (flat, nested) = (predict(&[]), predict(&["--nested"]));
    let inside = |a: &(u64, u64), b: &(u64, u64)| b.0 <= a.0 && a.1 <= b.1;
    let pairs = |places: &[(u64, u64)]| {
        let pairs = places.iter().enumerate();
        let pairs = pairs.flat_map(|(index, a)| places[index + 1..].iter().map(|b| (*a, *b)));
        pairs.collect::<Vec<_>>()
    };
    for (a, b) in pairs(&flat) {
        assert!(a.1 <= b.0 || b.1 <= a.0, "{a:?} and {b:?} share characters");
    }
    assert!(nested.len() > flat.len(), "{flat:?}, {nested:?}");
    for (a, b) in pairs(&nested) {
        let apart = a.1 <= b.0 || b.1 <= a.0;
        assert!(
            apart || (a != b && (inside(&a, &b) || inside(&b, &a))),
            "{a:?} and {b:?} cross"
        );
    }
    assert!(
        pairs(&nested).iter().any(|(a, b)| inside(a, b) || inside(b, a)),
        "{nested:?}"
    );
}

#[test]
fn texts_are_answered_in_the_order_they_come() {
    let project = trained(&[]);
    let predict = |more: &[&str]| {
        let given = ["predict", "--model", MODEL, "--labels", "person,place"];
        project.nerpipe(&[&given, more].concat())
    };
    // A threshold that everything passes (logits begin at ±33): what is told must be right whatever the model has learned.
    let outcome = predict(&["--threshold", "1e-15", "Ada met Bob.", "", "  ", "Köln"]).expect(0);
    let lines = outcome.events();
    let texts: Vec<&str> = lines.iter().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(texts, ["Ada met Bob.", "", "  ", "Köln"]);
    assert!(!lines[0]["entities"].as_array().expect("a list").is_empty());
    for line in &lines {
        let text: Vec<char> = line["text"].as_str().expect("text").chars().collect();
        let mut last = 0;
        for entity in line["entities"].as_array().expect("a list") {
            let (start, end) = (
                entity["start"].as_u64().expect("a place"),
                entity["end"].as_u64().expect("a place"),
            );
            let covered: String = text[start as usize..end as usize].iter().collect();
            assert_eq!(entity["text"], covered);
            assert!(start >= last, "entities overlap: {line}");
            last = end;
            assert!(entity["score"].as_f64().is_some_and(|score| score > 0.0 && score < 1.0));
        }
    }

    // Files, records with words, and what people see.
    project.write("texts.txt", "Ada met Bob\nKim\n");
    project.write("texts.jsonl", "{\"id\": 9, \"tokens\": [\"Ada\", \"met\"]}\n");
    let outcome = predict(&["--file", "texts.txt", "--file", "texts.jsonl"]).expect(0);
    let lines = outcome.events();
    assert_eq!(
        (lines.len(), &lines[2]["id"], &lines[2]["text"]),
        (3, &Value::from(9), &Value::from("Ada met"))
    );
    let outcome = predict(&["--output", "text", "--threshold", "1e-15", "Ada"]).expect(0);
    assert!(
        outcome.stdout.contains("](person)") || outcome.stdout.contains("](place)"),
        "{}",
        outcome.stdout
    );

    // What is wrong is told with its line, after what came before it was answered.
    project.write("bad.jsonl", "{\"text\": \"Ada\"}\n{\n");
    let outcome = predict(&["--file", "bad.jsonl"]).expect(2);
    assert_eq!(outcome.events().len(), 1);
    assert!(outcome.stderr.contains("bad.jsonl, line 2"), "{}", outcome.stderr);
    let outcome = predict(&["--threshold", "cls", "Ada"]).expect(2);
    assert!(outcome.stderr.contains("it takes a probability"), "{}", outcome.stderr);
}

/// A long text is found in as a short one is, wherever an entity lies.
#[test]
fn long_texts_are_read_in_windows() {
    let project = trained(&[]);
    let text = vec!["Ada met Bob in Rome."; 60].join(" ");
    let arguments = [
        "predict",
        "--model",
        MODEL,
        "--labels",
        "person",
        "--threshold",
        "1e-15",
        &text,
    ];
    let lines = project.nerpipe(&arguments).expect(0).events();
    let entities = lines[0]["entities"].as_array().expect("a list");
    let last = entities.last().expect("an entity");
    assert!(
        last["end"].as_u64().is_some_and(|end| end as usize > text.len() - 25),
        "{last}"
    );
    let mut end = 0;
    for entity in entities {
        assert!(entity["start"].as_u64().is_some_and(|start| start >= end), "{entity}");
        end = entity["end"].as_u64().expect("a place");
    }
}

/// Each line is answered before the next one comes.
#[test]
fn standard_input_is_a_stream() {
    let project = trained(&[]);
    let mut child = project
        .command(&["predict", "--model", MODEL, "--labels", "person"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for text in ["Ada met Bob", "Kim saw Lee"] {
        writeln!(input, "{text}").expect("written");
        let line = lines.next().expect("an answer").expect("a line");
        assert!(line.contains(text), "{line}");
    }
    drop(input);
    assert!(child.wait().expect("it ends").success());
}
