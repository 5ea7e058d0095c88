//! `nerpipe show`: one instance with its settings, inputs, digests and files.

use crate::project::Project;

const SWEPT: &str = "name: toy
sweep: {axes: {limit: [1, 2]}}
stages:
  corpus: {kind: load, with: {train: 'data/train/*.jsonl', limit: '${limit}'}}
";

#[test]
fn an_instance_is_shown_with_its_files() {
    let project = Project::with_corpus();
    project.write("swept.yaml", SWEPT);
    let before = project.nerpipe(&["show", "swept.yaml", "limit=2"]).expect(0).stdout;
    assert!(
        before.starts_with("corpus@limit=2  load\n  stale: it would run, because\n    never ran\n"),
        "{before}"
    );
    project.nerpipe(&["run", "swept.yaml"]).expect(0);
    let after = project
        .nerpipe(&["show", "swept.yaml", "corpus@limit=2"])
        .expect(0)
        .stdout;
    for part in [
        "fresh: it is in the cache",
        "train: data/train/*.jsonl",
        " en.jsonl\n",
        "\nrecord\n",
        "\nfiles\n",
    ] {
        assert!(after.contains(part), "{part:?} in\n{after}");
    }
    let shown = &project
        .nerpipe(&["show", "swept.yaml", "limit=2", "--json"])
        .expect(0)
        .events()[0];
    let file = shown["files"][0]["path"].as_str().expect("a path");
    assert!(std::path::Path::new(file).exists());
    assert_eq!(shown["planned"]["status"]["status"], "fresh");
    assert_eq!(shown["record"]["instance"], "corpus@limit=2");
    assert!(shown["settings"]["limit"].is_object() || shown["settings"]["limit"] == 2);
}

#[test]
fn several_instances_are_shown_one_below_the_other() {
    let project = Project::with_corpus();
    project.write("swept.yaml", SWEPT);
    let outcome = project.nerpipe(&["show", "swept.yaml", "corpus"]).expect(0);
    assert!(
        outcome.stdout.starts_with("corpus@limit=1  load\n"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stdout.contains("\n\ncorpus@limit=2  load\n"),
        "{}",
        outcome.stdout
    );
    assert_eq!(
        project
            .nerpipe(&["show", "swept.yaml", "limit=1", "limit=2", "--json"])
            .expect(0)
            .events()
            .len(),
        2
    );
    let outcome = project.nerpipe(&["show", "swept.yaml", "corpsu"]).expect(2);
    assert_eq!(
        outcome.stderr,
        "error: there is no stage `corpsu`\nhelp: did you mean `corpus`?\n"
    );
    let outcome = project.nerpipe(&["show", "swept.yaml", "corpus@limit=3"]).expect(2);
    assert_eq!(outcome.stderr, "error: no `limit` is `3`\nhelp: known here: 1, 2\n");
    project.nerpipe(&["show", "swept.yaml"]).expect(2);
}
