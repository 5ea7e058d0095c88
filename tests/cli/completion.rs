//! Completions and the manual.

use std::path::Path;
use std::process::{Command, Output, Stdio};

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
    let output = shell(project, "bash").args(["--norc", "-c", &script]).output();
    lines(&output.expect("bash starts"))
}

/// A shell in the project that finds the program and no settings of whoever runs the tests.
fn shell(project: &Project, name: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_nerpipe"));
    let folder = program.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new(name);
    shell
        .current_dir(project.path(""))
        .env("PATH", format!("{folder}:{path}"))
        .env("HOME", project.path("home"))
        .env_remove("ZDOTDIR")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null());
    shell
}

#[track_caller]
fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// Whether a shell is installed; says that nothing was tested if it is not.
#[expect(clippy::print_stdout, reason = "who runs the tests is told what was left out")]
fn is_there(shell: &str) -> bool {
    let found = Command::new(shell).arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        println!("NOT TESTED: {shell} is not installed");
    }
    found
}

/// What fish would offer where `line` ends.
fn in_fish(project: &Project, line: &str) -> Vec<String> {
    let script = format!("nerpipe completions fish | source; complete --do-complete='{line}'");
    let output = shell(project, "fish").args(["--no-config", "-c", &script]).output();
    let offered = lines(&output.expect("fish starts"));
    // Descriptions stand behind a tab.
    let word = |line: &String| line.split('\t').next().unwrap_or_default().to_owned();
    offered.iter().map(word).collect()
}

/// What becomes of `line` in zsh when the tab key is pressed at its end.
#[cfg(target_os = "linux")]
fn in_zsh(project: &Project, line: &str) -> String {
    use std::io::Write;

    use crate::terminal::{Terminal, read};

    // The line is written to a file by a key of its own, for what zsh shows is full of its own cursor moves.
    project.write(
        "home/.zshrc",
        "autoload -Uz compinit && compinit -u -D
source <(nerpipe completions zsh)
show() { print -rn -- \"$BUFFER\" > ~/line; exit }
zle -N show
bindkey '^X^X' show
unsetopt beep
",
    );
    let mut zsh = shell(project, "zsh");
    zsh.args(["-o", "noglobalrcs", "-i"]);
    let (mut child, mut ours) = Terminal::open().start(&mut zsh);
    write!(ours, "{line}\t\x18\x18").expect("zsh reads");
    let shown = read(&mut ours);
    child.wait().expect("zsh ends");
    assert!(project.path("home/line").exists(), "{shown:?}");
    let completed = project.read("home/line");
    std::fs::remove_file(project.path("home/line")).expect("it goes away");
    completed
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
fn fish_completes_the_same() {
    if !is_there("fish") {
        return;
    }
    let project = Project::with_corpus();
    project.write("swept.yaml", SWEPT);
    let completed = |line: &str| in_fish(&project, line);
    assert_eq!(completed("nerpipe expl"), ["explain"]);
    assert_eq!(completed("nerpipe plan swept.yaml --exit"), ["--exit-code"]);
    assert_eq!(completed("nerpipe plan sw"), ["swept.yaml"]);
    assert_eq!(completed("nerpipe run swept.yaml c"), ["corpus", "corpus@"]);
    assert_eq!(completed("nerpipe run swept.yaml parts@l"), ["parts@limit="]);
    assert_eq!(
        completed("nerpipe explain swept.yaml +parts@limit=2"),
        ["+parts@limit=20"]
    );
    assert_eq!(
        completed("nerpipe graph --expand swept.yaml limit="),
        ["limit=1", "limit=20"]
    );
    assert_eq!(
        completed("nerpipe plan swept.yaml --set vars.x=1 corpus parts@limit=1,"),
        Vec::<String>::new()
    );
    project.write("swept.yaml", "name: [");
    assert_eq!(completed("nerpipe plan swept.yaml c"), Vec::<String>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn zsh_completes_the_same_and_lets_a_word_go_on() {
    if !is_there("zsh") {
        return;
    }
    let project = Project::with_corpus();
    project.write("swept.yaml", SWEPT);
    for (line, completed) in [
        ("nerpipe expl", "nerpipe explain "),
        ("nerpipe plan swept.yaml --exit", "nerpipe plan swept.yaml --exit-code "),
        ("nerpipe plan sw", "nerpipe plan swept.yaml "),
        // As far as all that is offered agrees: `corpus` and `corpus@`.
        ("nerpipe run swept.yaml co", "nerpipe run swept.yaml corpus"),
        ("nerpipe run swept.yaml parts@l", "nerpipe run swept.yaml parts@limit="),
        (
            "nerpipe explain swept.yaml +parts@limit=2",
            "nerpipe explain swept.yaml +parts@limit=20 ",
        ),
        (
            "nerpipe graph --expand swept.yaml lim",
            "nerpipe graph --expand swept.yaml limit=",
        ),
        ("nerpipe plan data/te", "nerpipe plan data/test.jsonl "),
        ("nerpipe plan da", "nerpipe plan data/"),
    ] {
        assert_eq!(in_zsh(&project, line), completed);
    }
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
