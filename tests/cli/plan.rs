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
    let never = "toy: 1 instance, 1 to run
  stage   cells  instances  shared  time  status
  corpus      1          1       0        stale
    corpus  never ran
";
    assert_eq!(plan(&[]), never);
    assert_eq!(plan(&[]), never, "a plan changes nothing");
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    let nothing = "toy: 1 instance, nothing to run
  stage   cells  instances  shared  time  status
  corpus      1          1       0        fresh
";
    assert_eq!(plan(&[]), nothing);
    // A default spelled out is no change.
    assert_eq!(plan(&["--set", "corpus.shuffle_seed=null"]), nothing);
    let changed = plan(&["--set", "vars.limit=1"]);
    assert!(changed.starts_with("toy: 1 instance, 1 to run, "), "{changed}");
    assert!(changed.contains(" of work by earlier runs\n"), "{changed}");
    assert!(changed.contains("\n    corpus  settings.limit"), "{changed}");
    std::fs::remove_dir_all(project.path("out")).expect("the target goes away");
    let repaired = plan(&[]);
    assert!(repaired.starts_with("toy: 1 instance, 1 to publish\n"), "{repaired}");
    assert!(repaired.ends_with("\n    corpus  publishes out/corpus\n"), "{repaired}");
}

/// A corpus and three parts of it by a seed.
const SWEPT: &str = "name: toy
vars: {test: 0.2}
sweep: {axes: {seed: [1, 2, 3]}}
stages:
  corpus: {kind: load, with: {train: 'data/train/*.jsonl'}}
  parts: {kind: split, inputs: {corpus: corpus}, with: {test: '${vars.test}', seed: '${seed}'}}
  again: {kind: split, inputs: {corpus: corpus.train}, with: {test: '${vars.test}', seed: 1}}
";

#[test]
fn instances_of_which_the_same_is_said_have_one_line_with_the_first_cause() {
    let project = Project::with_corpus();
    project.write("swept.yaml", SWEPT);
    let plan = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["plan", "swept.yaml"].iter().chain(arguments).copied().collect();
        project.nerpipe(&arguments).expect(0).stdout
    };
    assert_eq!(
        plan(&[]),
        "toy: 5 instances of 3 cells, 1 to run, 4 may follow
  stage   cells  instances  shared  time  status
  corpus      3          1       0        stale
    corpus  never ran
  parts       3          3       0        3 waiting
    parts@seed=1 and 2 more  waits on corpus (never ran)
  again       3          1       0        waiting
    again  waits on corpus (never ran)
"
    );
    project.nerpipe(&["run", "swept.yaml"]).expect(0);
    let changed = plan(&["--set", "vars.test=0.4"]);
    for line in [
        "\n    parts@seed=1 and 2 more  settings.test: 0.2 → 0.4\n",
        "\n    again  shared with parts@seed=1\n",
        "  3 stale\n",
    ] {
        assert!(changed.contains(line), "{line:?} in\n{changed}");
    }
    let part = plan(&["parts@seed=2", "--set", "vars.test=0.4"]);
    assert!(part.starts_with("toy: 2 instances of 3 cells, 1 to run, "), "{part}");
    let nearest = project.nerpipe(&["plan", "swept.yaml", "prats"]).expect(2);
    assert_eq!(
        nearest.stderr,
        "error: there is no stage `prats`\nhelp: did you mean `parts`?\n"
    );
}

#[test]
fn the_exit_code_tells_whether_something_would_run() {
    let project = Project::with_corpus();
    project.nerpipe(&["plan", "m.yaml"]).expect(0);
    let outcome = project.nerpipe(&["plan", "m.yaml", "--exit-code", "--quiet"]).expect(5);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    project.nerpipe(&["plan", "m.yaml", "--exit-code"]).expect(0);
    std::fs::remove_dir_all(project.path("out")).expect("the target goes away");
    project.nerpipe(&["plan", "m.yaml", "--exit-code"]).expect(5);
    std::fs::remove_file(project.path("data/test.jsonl")).expect("an input goes away");
    project.nerpipe(&["plan", "m.yaml", "--exit-code"]).expect(3);
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

/// `script` lends the program a terminal.
#[test]
fn colours_are_for_terminals_and_no_color_turns_them_off() {
    let project = Project::with_corpus();
    let plan = |variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new("script");
        let program = env!("CARGO_BIN_EXE_nerpipe");
        command.args(["-q", "-e", "-c", &format!("'{program}' plan m.yaml"), "/dev/null"]);
        command
            .current_dir(project.path(""))
            .env_remove("NERPIPE_CACHE_DIR")
            .env_remove("NO_COLOR");
        command
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(std::process::Stdio::null());
        let output = command.output().expect("`script` of util-linux starts");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(plan(&[]).contains("\x1b[1mtoy\x1b[0m: 1 instance"), "{:?}", plan(&[]));
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = plan(&[plain]);
        assert!(text.contains("toy: 1 instance") && !text.contains('\x1b'), "{text:?}");
    }
    let piped = project.nerpipe(&["plan", "m.yaml"]).expect(0).stdout;
    assert!(!piped.contains('\x1b'), "{piped:?}");
}
