//! `nerpipe explain`: the fields that differ, old and new.

use serde_json::json;

use crate::project::Project;

const PARTS: &str = "name: toy
vars: {limit: 5, test: 0.2}
stages:
  corpus: {kind: load, with: {train: 'data/train/*.jsonl', limit: '${vars.limit}'}}
  parts: {kind: split, inputs: {corpus: corpus}, with: {test: '${vars.test}'}}
";

#[test]
fn fields_that_differ_are_told_with_both_values_and_what_is_not_known_yet() {
    let project = Project::with_corpus();
    project.write("parts.yaml", PARTS);
    let explain = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["explain", "parts.yaml"].iter().chain(arguments).copied().collect();
        project.nerpipe(&arguments).expect(0).stdout
    };
    assert_eq!(explain(&["corpus"]), "corpus  load\n  stale: never ran\n");
    project.nerpipe(&["run", "parts.yaml"]).expect(0);
    let fresh = explain(&["parts"]);
    assert!(
        fresh.starts_with("parts  split\n  fresh: it is in the cache\n  its record parts of toy ("),
        "{fresh}"
    );
    assert!(fresh.ends_with(", made just now)\n"), "{fresh}");

    let changed = explain(&["+parts", "--set", "vars.test=0.4", "--set", "vars.limit=3"]);
    let lines: Vec<&str> = changed.lines().filter(|line| !line.contains("compared with")).collect();
    assert_eq!(
        lines,
        [
            "corpus  load",
            "  stale: 3 fields changed",
            "    settings.limit.test: 5 → 3",
            "    settings.limit.train: 5 → 3",
            "    settings.limit.validation: 5 → 3",
            "",
            "parts  split",
            "  waits on corpus",
            "    corpus: settings.limit.test: 5 → 3",
            "    settings.test: 0.2 → 0.4",
            "    inputs.corpus: not known before corpus ran",
        ]
    );
    let arguments = ["explain", "parts.yaml", "parts", "--json", "--set", "vars.test=0.4"];
    let explained = &project.nerpipe(&arguments).expect(0).events()[0];
    assert_eq!(
        explained["differences"],
        json!([{"path": ["settings", "test"], "old": 0.2, "new": 0.4}])
    );
    assert_eq!(explained["against"]["instance"], "parts");
}
