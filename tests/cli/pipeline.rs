//! A whole pipeline, as small as it gets: from a corpus over two trained models to a table.

use serde_json::json;

use crate::project::{Project, small_pipeline};

/// Two models, one for each loss, and a table of what they reach.
fn pipeline() -> String {
    let sweep = "sweep:
  axes:
    loss:
      bce: {fn: bce, threshold: 0.5}
      contrastive: {fn: contrastive, threshold: cls}
";
    let settings = [
        "loss_fn: '${loss.fn}'",
        "prediction_threshold: '${loss.threshold}'",
        "annotation_format: tokens",
        "loss_masking: subwords",
        "warmup_steps: 0",
        "max_steps: 2",
    ];
    let rest = "    publish: 'models/${loss}'
  scores:
    kind: evaluate
    inputs: {model: model, tokens: tokens}
    with: {splits: [test], thresholds: ['${loss.threshold}']}
  table:
    kind: report
    inputs: {scores: {collect: scores}}
    with: {rows: [loss], value: micro.f1}
    publish: {table.md: reports/small.md}
";
    small_pipeline("small", sweep, "test", &settings, rest)
}

#[test]
fn models_are_trained_compared_and_never_trained_twice() {
    let project = Project::with_corpus();
    project.write("small.yaml", &pipeline());
    let outcome = project.nerpipe(&["run", "small.yaml"]).expect(0);
    // The table is the answer, so it goes to standard output.
    for word in ["loss", "micro.f1", "bce", "contrastive"] {
        assert!(outcome.stdout.contains(word), "{word} in\n{}", outcome.stdout);
    }
    assert!(
        outcome.stderr.contains("small: 8 executed, 0 restored in "),
        "{}",
        outcome.stderr
    );
    assert!(project.path("models/bce/model.safetensors").exists());
    assert!(project.read("reports/small.md").contains("contrastive"));

    // A new test file: no training.
    project.write(
        "data/test.jsonl",
        &project.read("data/test.jsonl").replace("Oslo", "Rome"),
    );
    let events = project.nerpipe(&["run", "small.yaml", "--json"]).expect(0).events();
    let started = |kind: &str| {
        events
            .iter()
            .filter(|event| event["event"] == "instance_started" && event["kind"] == kind)
            .count()
    };
    assert_eq!(
        [
            started("load"),
            started("tokenize"),
            started("train"),
            started("evaluate")
        ],
        [1, 1, 0, 2]
    );
    let steps = &events.last().expect("an event")["steps"];
    assert_eq!(steps["load"], json!({"executed": 1, "restored": 2}));

    // A change of one loss's settings: that training and what follows.
    let changed = pipeline().replace("fn: contrastive, threshold: cls", "fn: bce, threshold: 0.4");
    project.write("small.yaml", &changed);
    let events = project.nerpipe(&["run", "small.yaml", "--json"]).expect(0).events();
    let trained: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "instance_started" && event["kind"] == "train")
        .filter_map(|event| event["instance"].as_str())
        .collect();
    assert_eq!(trained, ["model@loss=contrastive"]);
}

/// What a model compares its scores with follows from its settings, so nothing is trained only to be refused.
#[test]
fn a_threshold_of_the_wrong_kind_is_refused_before_anything_runs() {
    let project = Project::with_corpus();
    let refused = |from: &str, to: &str, message: &str| {
        assert!(pipeline().contains(from));
        project.write("small.yaml", &pipeline().replace(from, to));
        let outcome = project.nerpipe(&["run", "small.yaml"]).expect(3);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
        outcome.stderr
    };
    let asked = "thresholds: ['${loss.threshold}']";
    let shown = refused(
        asked,
        "thresholds: [0.5]",
        "the model cannot be evaluated at the threshold `0.5`; it takes `cls`, which it was trained with",
    );
    assert!(shown.contains("small.yaml:35:41"), "{shown}");
    refused(asked, "thresholds: [cls]", "it takes a probability between 0 and 1");
    refused(asked, "thresholds: [calibrated]", "the model is not calibrated");
    refused(
        "  scores:\n",
        "  calibrated:\n    kind: calibrate\n    inputs: {model: model, tokens: tokens}\n    with: {split: test}\n  scores:\n",
        "the model compares its scores with a threshold that it learned, `cls`",
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_run_and_its_children_and_the_next_run_goes_on() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let project = Project::with_corpus();
    let arguments = ["run", "small.yaml", "--json", "--jobs", "1"];
    project.write("small.yaml", &pipeline().replace("max_steps: 2", "max_steps: 1000000"));
    let mut child = project
        .command(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.contains("instance_started") && line.contains("\"train\"")));
    // `timeout` sends its signal twice at once, which must not count as asking twice.
    for _ in 0..2 {
        let killed = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(killed.expect("kill starts").success());
    }
    let last = lines.last().expect("a last event");
    assert!(last.starts_with("{\"event\":\"finished\",\"executed\":3,"), "{last}");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopping; once more ends at once"));

    project.write("small.yaml", &pipeline());
    let events = project.nerpipe(&["run", "small.yaml", "--json"]).expect(0).events();
    assert_eq!(events.last().expect("an event")["restored"], 3);
}
