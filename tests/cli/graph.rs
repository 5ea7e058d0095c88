//! `nerpipe graph`: the stages and what they read, drawn.

use serde_json::json;

use crate::project::Project;

const SWEPT: &str = "name: toy
sweep: {axes: {limit: [1, 2]}}
stages:
  corpus: {kind: load, with: {train: 'data/train/*.jsonl', limit: '${limit}'}}
  parts: {kind: split, inputs: {corpus: corpus}, with: {test: 0.2}}
";

#[test]
fn a_box_a_stage_unless_expanded_and_no_cache_is_made() {
    let project = Project::with_corpus();
    project.write("swept.yaml", SWEPT);
    let draw = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["graph", "swept.yaml"].iter().chain(arguments).copied().collect();
        project.nerpipe(&arguments).expect(0).stdout
    };
    let collapsed = "flowchart TD
  n0[\"corpus<br>load<br>2 × limit\"]
  n1[\"parts<br>split<br>2 × limit\"]
  n0 -->|\"corpus\"| n1
";
    assert_eq!(draw(&[]), collapsed);
    assert!(draw(&["--format", "dot"]).starts_with("digraph \"toy\" {\n  node [shape=box]\n"));
    assert_eq!(
        draw(&["--expand", "corpus@limit=2+"]),
        "flowchart TD
  n0[\"corpus@limit=2<br>load\"]
  n1[\"parts@limit=2<br>split\"]
  n0 -->|\"corpus\"| n1
"
    );
    let drawn: serde_json::Value = serde_json::from_str(&draw(&["--json"])).expect("an object");
    assert_eq!(
        drawn,
        json!({
            "manifest": "toy",
            "nodes": [
                {"name": "corpus", "kind": "load", "instances": 2, "axes": ["limit"]},
                {"name": "parts", "kind": "split", "instances": 2, "axes": ["limit"]},
            ],
            "edges": [{"from": 0, "to": 1, "port": "corpus", "collects": false}],
        })
    );
    assert!(!project.path("cache").exists());
}
