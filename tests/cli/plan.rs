//! `nerpipe plan`: it says what `run` would do, and does nothing.

use crate::project::Project;

#[test]
fn a_plan_tells_what_is_stale_and_why() {
    let project = Project::with_corpus();
    let plan = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["plan", "m.yaml"].iter().chain(arguments).copied().collect();
        let outcome = project.nerpipe(&arguments).expect(0);
        assert_eq!(outcome.stderr, "");
        outcome.stdout
    };
    let never = "toy: 1 of 1 instance to run\n  corpus  stale\n    corpus  never ran\n";
    assert_eq!(plan(&[]), never);
    assert_eq!(plan(&[]), never, "a plan changes nothing");
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    assert_eq!(plan(&[]), "toy: 1 instance, nothing to run\n  corpus  fresh\n");
    // A default spelled out is no change.
    assert_eq!(
        plan(&["--set", "corpus.format=jsonl"]),
        "toy: 1 instance, nothing to run\n  corpus  fresh\n"
    );
    let changed = plan(&["--set", "vars.limit=1"]);
    assert!(changed.starts_with("toy: 1 of 1 instance to run, "), "{changed}");
    assert!(changed.contains("\n    corpus  settings.limit"), "{changed}");
    std::fs::remove_dir_all(project.path("out")).expect("the target goes away");
    assert!(plan(&[]).contains("\n    corpus  publishes out/corpus\n"));
}

#[test]
fn the_machine_form_is_one_object() {
    let project = Project::with_corpus();
    let plans = project.nerpipe(&["plan", "m.yaml", "--json"]).expect(0).events();
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0]["counts"]["stale"], 1);
    assert_eq!(plans[0]["instances"][0]["instance"], "corpus");
    assert_eq!(plans[0]["instances"][0]["status"]["reasons"][0]["why"], "never_ran");
}
