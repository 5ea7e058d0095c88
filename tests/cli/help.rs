//! What the program says about itself.

use crate::project::Project;

#[test]
fn without_a_command_it_helps() {
    let outcome = Project::new().nerpipe(&[]).expect(2);
    assert_eq!(outcome.stdout, "");
    for word in ["Usage: nerpipe", "run ", "plan ", "show ", "Exit codes"] {
        assert!(outcome.stderr.contains(word), "{word} in\n{}", outcome.stderr);
    }
    assert!(
        !outcome.stderr.contains("exec"),
        "the hidden command is shown:\n{}",
        outcome.stderr
    );
}

#[test]
fn a_misspelt_command_or_option_gets_the_nearest() {
    let project = Project::new();
    let outcome = project.nerpipe(&["plann", "m.yaml"]).expect(2);
    assert!(outcome.stderr.contains("'plan'"), "{}", outcome.stderr);
    let outcome = project.nerpipe(&["train", "m.yaml"]).expect(2);
    let lines: Vec<&str> = outcome.stderr.lines().map(str::trim).collect();
    let listed = |line: &&str| {
        line.strip_prefix("run ")
            .is_some_and(|about| about.trim().starts_with("Run what is missing"))
    };
    assert!(lines.iter().any(listed), "{}", outcome.stderr);
    let outcome = project.nerpipe(&["run", "m.yaml", "--qiet"]).expect(2);
    assert!(outcome.stderr.contains("--quiet"), "{}", outcome.stderr);
    let outcome = project.nerpipe(&["run", "m.yaml", "--device", "gpu"]).expect(2);
    assert!(outcome.stderr.contains("unknown device `gpu`"), "{}", outcome.stderr);
    project.nerpipe(&["run", "m.yaml", "--jobs", "0"]).expect(2);
}

#[test]
fn help_of_each_command_says_what_it_does() {
    let project = Project::new();
    for (command, words) in [
        ("run", "Run what is missing"),
        ("plan", "runs nothing"),
        ("show", "Show instances"),
        ("explain", "the fields that differ"),
        ("graph", "as Mermaid or DOT"),
    ] {
        let outcome = project.nerpipe(&[command, "--help"]).expect(0);
        assert!(
            outcome.stdout.contains(words) && outcome.stdout.contains("--set <KEY=VALUE>"),
            "{}",
            outcome.stdout
        );
    }
}
