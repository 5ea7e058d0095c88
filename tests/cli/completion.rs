//! Completions and the manual.

use std::process::{Command, Stdio};

use crate::project::Project;

const SWEPT: &str = "name: toy
sweep: {axes: {limit: [1, 20]}}
stages:
  corpus: {kind: load, with: {train: 'data/train/*.jsonl', limit: '${limit}'}}
  parts: {kind: split, inputs: {corpus: corpus}, with: {test: 0.2}}
";

/// What bash would offer where `line` ends, with the script that the program prints.
fn in_bash(project: &Project, line: &str) -> Vec<String> {
    let last = line.rsplit([' ', '@', '=']).next().unwrap_or_default();
    let script = format!(
        "source <(nerpipe completions bash) && compopt() {{ :; }}
COMP_LINE='{line}' COMP_POINT={}
_nerpipe nerpipe '{last}' ''
printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_nerpipe"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &script])
        .current_dir(project.path(""))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_options_stages_and_axes_of_the_manifest_on_the_line() {
    let project = Project::with_corpus();
    project.write("swept.yaml", SWEPT);
    let completed = |line: &str| in_bash(&project, line);
    assert_eq!(completed("nerpipe expl"), ["explain"]);
    assert_eq!(completed("nerpipe plan swept.yaml --exit"), ["--exit-code"]);
    assert_eq!(completed("nerpipe plan sw"), ["swept.yaml"]);
    assert_eq!(completed("nerpipe plan swept.yaml c"), ["corpus", "corpus@"]);
    // Bash replaces what follows the last of its ends of words only.
    assert_eq!(completed("nerpipe run swept.yaml parts@l"), ["limit="]);
    assert_eq!(completed("nerpipe explain swept.yaml +parts@limit=2"), ["20"]);
    assert_eq!(completed("nerpipe graph --expand swept.yaml limit="), ["1", "20"]);
    project.write("swept.yaml", "name: [");
    assert_eq!(
        completed("nerpipe plan swept.yaml c"),
        [""],
        "a wrong manifest is no reason to complain"
    );
}

#[test]
fn the_other_shells_get_a_script_too() {
    let project = Project::new();
    for (shell, words) in [("zsh", "compdef"), ("fish", "complete"), ("bash", "_nerpipe")] {
        let script = project.nerpipe(&["completions", shell]).expect(0).stdout;
        assert!(
            script.contains(words) && script.contains("NERPIPE_COMPLETE"),
            "{script}"
        );
    }
    project.nerpipe(&["completions", "cmd"]).expect(2);
}

#[test]
fn the_manual_has_a_page_for_each_verb() {
    let project = Project::new();
    project.nerpipe(&["man", "man/man1"]).expect(0);
    for page in [
        "nerpipe.1",
        "nerpipe-run.1",
        "nerpipe-plan.1",
        "nerpipe-explain.1",
        "nerpipe-cache.1",
    ] {
        assert!(project.read(&format!("man/man1/{page}")).starts_with(".ie"), "{page}");
    }
    assert!(!project.path("man/man1/nerpipe-exec.1").exists(), "it is hidden");
    assert!(project.read("man/man1/nerpipe-plan.1").contains("exit\\-code"));
}
