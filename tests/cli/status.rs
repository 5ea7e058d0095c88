//! `nerpipe status` and `nerpipe logs`, asked while a run goes on and afterwards.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::project::Project;

const MANIFEST: &str = "name: slow
stages:
  first: {kind: command, with: {run: 'echo one; while ! test -e GO; do sleep 0.05; done; echo two; touch $OUT/x'}}
  second: {kind: command, inputs: {first: first}, with: {run: 'echo three; exit 7'}}
  third: {kind: command, inputs: {second: second}, with: {run: 'touch $OUT/x'}}
";

fn project() -> Project {
    let project = Project::new();
    let go = project.path("go").display().to_string();
    project.write("slow.yaml", &MANIFEST.replace("GO", &go));
    project
}

#[test]
fn a_run_is_watched_from_another_terminal() {
    let project = project();
    let outcome = project.nerpipe(&["status"]).expect(4);
    assert!(outcome.stderr.contains("there is no cache in"), "{}", outcome.stderr);
    let mut run = project
        .command(&["run", "slow.yaml", "--quiet"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    let shown = loop {
        // The cache may not be there yet.
        let outcome = project.nerpipe(&["status", "slow.yaml"]);
        if outcome.stdout.contains("\n  first for ") {
            break outcome.stdout;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{outcome:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(shown.starts_with("slow has been running for "), "{shown}");
    assert!(shown.contains(": 3 to go\n"), "{shown}");
    project.nerpipe(&["status", "--quiet"]).expect(0);

    let follower = project
        .command(&["logs", "--follow", "slow.yaml", "first"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    project.write("go", "");
    assert_eq!(run.wait().expect("the run ends").code(), Some(1));
    let followed = follower.wait_with_output().expect("the program ends");
    assert_eq!(String::from_utf8_lossy(&followed.stdout), "one\ntwo\n");

    let shown = project.nerpipe(&["status"]).expect(0).stdout;
    assert!(shown.starts_with("slow failed "), "{shown}");
    assert!(
        shown.contains("1 executed, 1 failed, 1 skipped because of that\n"),
        "{shown}"
    );
    assert!(
        shown.contains("  failed second: the command exited with code 7"),
        "{shown}"
    );
    let log = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("log: "))
        .expect("a log");
    assert_eq!(project.read(log), "three\n");
    assert_eq!(
        project.nerpipe(&["logs", "slow.yaml", "second"]).expect(0).stdout,
        "three\n"
    );
    project.nerpipe(&["status", "--quiet"]).expect(1);

    let runs = &project.nerpipe(&["status", "--json"]).expect(0).events()[0]["runs"];
    let keys: Vec<&String> = runs[0].as_object().expect("an account").keys().collect();
    assert_eq!(
        keys,
        [
            "id",
            "manifest",
            "state",
            "began",
            "updated",
            "process",
            "instances",
            "executed",
            "restored",
            "shared",
            "blocked",
            "running",
            "failed",
            "finished",
            "error"
        ]
    );
    assert_eq!(
        (&runs[0]["state"], &runs[0]["failed"][0]["instance"]),
        (&"failed".into(), &"second".into())
    );
}

#[test]
fn the_command_that_runs_only_what_failed_is_told() {
    let project = project();
    project.write("go", "");
    let outcome = project
        .nerpipe(&["run", "slow.yaml", "--set", "second.env=[A]", "--retries", "0"])
        .expect(1);
    let told = "failed\n  second: the command exited with code 7";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    let again = "to run only these again:\n  nerpipe run slow.yaml --set 'second.env=[A]' second\n";
    assert!(outcome.stderr.contains(again), "{}", outcome.stderr);
    let events = project
        .nerpipe(&["run", "slow.yaml", "--set", "second.env=[A]", "second", "--json"])
        .expect(1)
        .events();
    let begun: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "instance_started")
        .map(|event| &event["instance"])
        .collect();
    assert_eq!(begun, ["second"]);
}

#[test]
fn an_instance_without_a_log_is_said_to_have_none() {
    let project = project();
    let outcome = project.nerpipe(&["logs", "slow.yaml", "third"]).expect(0);
    assert_eq!(outcome.stderr, "`third` has written no log\n");
    let outcome = project.nerpipe(&["logs", "-f", "slow.yaml", "third"]).expect(0);
    assert!(outcome.stderr.contains("no run will come to it"), "{}", outcome.stderr);
    project.nerpipe(&["logs", "slow.yaml", "fourth"]).expect(2);
}
