//! `nerpipe run` on a project whose only stage loads a corpus.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::project::Project;

/// The last event without what differs from run to run.
fn finished(events: &[Value]) -> Value {
    let mut last = events.last().expect("an event").clone();
    assert!(last["seconds"].is_number());
    last.as_object_mut().expect("an object").remove("seconds");
    last
}

#[test]
fn the_second_run_executes_nothing() {
    let project = Project::with_corpus();
    let first = project.nerpipe(&["run", "m.yaml", "--json"]).expect(0).events();
    assert_eq!(
        finished(&first),
        json!({"event": "finished", "executed": 1, "restored": 0, "shared": 0, "failed": 0,
               "steps": {"load": {"executed": 3, "restored": 0}}})
    );
    assert_eq!(first[0], json!({"event": "started", "manifest": "toy", "instances": 1}));
    let keys: Vec<&String> = first
        .last()
        .and_then(Value::as_object)
        .expect("an object")
        .keys()
        .collect();
    assert_eq!(
        keys,
        ["event", "executed", "restored", "shared", "failed", "steps", "seconds"]
    );

    let second = project.nerpipe(&["run", "m.yaml", "--json"]).expect(0).events();
    assert_eq!(finished(&second)["executed"], 0);
    assert_eq!(finished(&second)["restored"], 1);
}

#[test]
fn one_changed_file_is_one_step() {
    let project = Project::with_corpus();
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    project.write(
        "data/train/de.jsonl",
        &project.read("data/train/de.jsonl").replace("Eva", "Ida"),
    );
    let events = project.nerpipe(&["run", "m.yaml", "--json"]).expect(0).events();
    assert_eq!(
        finished(&events)["steps"],
        json!({"load": {"executed": 1, "restored": 2}})
    );
    assert!(project.read("out/corpus/train/de.jsonl").contains("Ida"));
}

#[test]
fn people_get_lines_on_standard_error_without_colours_or_bars() {
    let outcome = Project::with_corpus().nerpipe(&["run", "m.yaml"]).expect(0);
    assert_eq!(outcome.stdout, "");
    assert!(!outcome.stderr.contains('\x1b'), "{}", outcome.stderr);
    let text = outcome.stderr;
    for part in [
        "toy 1 instance\n",
        "     runs corpus (never ran)\n",
        "     done corpus (",
        "published out/corpus from corpus\n",
        "\nnoted\n",
        "  corpus  train: sentences 5",
        "toy: 1 executed, 0 restored in ",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn quiet_says_nothing_when_nothing_is_wrong() {
    let outcome = Project::with_corpus().nerpipe(&["run", "m.yaml", "--quiet"]).expect(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn a_failed_instance_is_exit_code_one_and_names_file_and_line() {
    let project = Project::with_corpus();
    let broken = project.read("data/test.jsonl").replacen("\"end\":1", "\"end\":99", 2);
    project.write("data/test.jsonl", &broken);
    let outcome = project.nerpipe(&["run", "m.yaml"]).expect(1);
    let text = &outcome.stderr;
    assert!(text.contains("   failed corpus: "), "{text}");
    assert!(text.contains("data/test.jsonl:1: `token_spans[0].end`"), "{text}");
    assert!(text.contains("toy: 0 executed, 0 restored, 1 failed in "), "{text}");
    let events = project.nerpipe(&["run", "m.yaml", "--json"]).expect(1).events();
    assert_eq!(finished(&events)["failed"], 1);
    let quiet = project.nerpipe(&["run", "m.yaml", "--quiet"]).expect(1);
    assert!(quiet.stderr.contains("   failed corpus: "), "{}", quiet.stderr);
}

#[test]
fn equal_instances_run_once() {
    let project = Project::with_corpus();
    let stage = "kind: load, with: {train: 'data/train/*.jsonl'}";
    project.write(
        "twice.yaml",
        &format!("name: twice\nstages:\n  a: {{{stage}}}\n  b: {{{stage}}}\n"),
    );
    let events = project.nerpipe(&["run", "twice.yaml", "--json"]).expect(0).events();
    let last = finished(&events);
    assert_eq!((&last["executed"], &last["shared"]), (&json!(1), &json!(1)));
    assert!(events.contains(&json!({"event": "instance_shared", "instance": "b", "with": "a"})));
}

#[test]
fn published_files_that_were_changed_by_hand_are_kept_unless_told() {
    let project = Project::with_corpus();
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    project.write("out/corpus/test/test.jsonl", "mine");
    project.write(
        "data/test.jsonl",
        &project.read("data/test.jsonl").replace("Kim", "Tim"),
    );
    let outcome = project.nerpipe(&["run", "m.yaml"]).expect(1);
    assert!(outcome.stderr.contains("--overwrite"), "{}", outcome.stderr);
    assert_eq!(project.read("out/corpus/test/test.jsonl"), "mine");
    project.nerpipe(&["run", "m.yaml", "--overwrite"]).expect(0);
    assert!(project.read("out/corpus/test/test.jsonl").contains("Tim"));
}

#[test]
fn a_missing_target_is_repaired_without_running_anything() {
    let project = Project::with_corpus();
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    std::fs::remove_dir_all(project.path("out")).expect("the target goes away");
    let events = project.nerpipe(&["run", "m.yaml", "--json"]).expect(0).events();
    assert_eq!(finished(&events)["executed"], 0);
    assert!(project.path("out/corpus/test/test.jsonl").exists());
}

#[test]
fn project_and_cache_may_lie_elsewhere() {
    let project = Project::with_corpus();
    let elsewhere = Project::new();
    let root = project.path("").display().to_string();
    let manifest = project.path("m.yaml").display().to_string();
    elsewhere
        .nerpipe(&["run", &manifest, "--project", &root, "--cache-dir", "c"])
        .expect(0);
    assert!(elsewhere.path("c/v1").exists() && project.path("out/corpus").exists());
    assert!(!project.path("cache").exists());
    let mut command = elsewhere.command(&["run", &manifest, "--project", &root, "--json"]);
    let output = command
        .env("NERPIPE_CACHE_DIR", "c")
        .output()
        .expect("the program starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"restored\":1"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let project = Project::with_corpus();
    for arguments in [["run", "m.yaml", "--json"], ["plan", "m.yaml", "--json"]] {
        let mut child = project
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // Nobody reads.
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("the program ends");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
    assert!(project.path("out/corpus").exists(), "the run went on");
}

#[test]
fn a_cache_that_cannot_be_made_is_exit_code_four() {
    let project = Project::with_corpus();
    project.write("file", "");
    let outcome = project
        .nerpipe(&["run", "m.yaml", "--cache-dir", "file/cache"])
        .expect(4);
    assert!(
        outcome
            .stderr
            .starts_with("error: failed to create the folder `file/cache`"),
        "{}",
        outcome.stderr
    );
}
