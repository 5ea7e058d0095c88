//! Wrong manifests and wrong places: one test per path to an exit code, and a [`table`] of wrong manifests.

mod table;

use crate::project::Project;

#[test]
fn mistakes_are_shown_with_their_lines_and_nothing_is_started() {
    let project = Project::with_corpus();
    project.write(
        "wrong.yaml",
        "name: toy
stages:
  corpus:
    kind: load
    with: {trian: x.jsonl}
  tokens: {kind: tokenise}
",
    );
    for command in ["run", "plan"] {
        let outcome = project.nerpipe(&[command, "wrong.yaml"]).expect(3);
        assert_eq!(outcome.stdout, "");
        let expected = "\
error: `load` has no setting `trian`
 --> wrong.yaml:5:12
  |
5 |     with: {trian: x.jsonl}
  |            ^^^^^
  |
  = help: did you mean `train`?

error: unknown kind `tokenise`
 --> wrong.yaml:6:18
  |
6 |   tokens: {kind: tokenise}
  |                  ^^^^^^^^
  |
  = help: did you mean `tokenize`?

error: 2 errors in the manifest; nothing was started
";
        let shown: Vec<&str> = outcome.stderr.lines().map(str::trim_end).collect();
        assert_eq!(shown, expected.lines().collect::<Vec<_>>(), "{}", outcome.stderr);
        assert!(!project.path("cache").exists());
    }
}

#[test]
fn a_manifest_that_is_not_there() {
    let outcome = Project::new().nerpipe(&["run", "nothing.yaml"]).expect(3);
    assert!(
        outcome
            .stderr
            .starts_with("error: cannot read the manifest `nothing.yaml`"),
        "{}",
        outcome.stderr
    );
    let outcome = Project::with_corpus()
        .nerpipe(&["run", "m.yaml", "--project", "nowhere"])
        .expect(2);
    assert_eq!(outcome.stderr, "error: `--project nowhere` is no folder\n");
}

#[test]
fn a_wrong_set_shows_the_argument() {
    let outcome = Project::with_corpus()
        .nerpipe(&["plan", "m.yaml", "--set", "vars.limt=3"])
        .expect(3);
    assert!(outcome.stderr.contains("--set:1:6"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("did you mean `limit`?"), "{}", outcome.stderr);
}

#[test]
fn machine_readers_get_the_diagnostics_as_json() {
    let project = Project::with_corpus();
    let outcome = project
        .nerpipe(&["run", "m.yaml", "--json", "--set", "corpus.limt=3"])
        .expect(3);
    let [event] = outcome.events().try_into().expect("one event");
    assert_eq!(event["event"], "refused");
    assert_eq!(event["diagnostics"][0]["message"], "`load` has no setting `limt`");
    assert_eq!(event["diagnostics"][0]["place"]["file"], "--set");
}
