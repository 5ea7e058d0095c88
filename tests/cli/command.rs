//! Commands in the real program: what only shows there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::project::Project;

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited too long until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process is there and no zombie.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn nothing_a_command_started_outlives_a_run_that_is_killed() {
    let project = Project::new();
    let pids = project.path("pids");
    let text = "name: m\nstages:\n  it:\n    kind: command\n    with:\n      run: |\n        sleep 1000 &\n        echo $! > PIDS\n        wait\n";
    project.write("m.yaml", &text.replace("PIDS", pids.to_str().expect("a path")));
    let mut run = project.command(&["run", "m.yaml", "--quiet"]).spawn().expect("a run");
    wait_until("it runs", || {
        std::fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'))
    });
    // The command may be further than the run, which tells its guard of a command just after it was started.
    std::thread::sleep(Duration::from_millis(500));
    run.kill().expect("the run is there");
    run.wait().expect("the run ends");
    let sleeping = project.read("pids");
    assert!(!sleeping.trim().is_empty());
    wait_until("what it started is gone", || !is_running(sleeping.trim()));
}

/// A command that does not want to stop has some seconds to change its mind, unless somebody is in a hurry.
#[test]
fn ctrl_c_twice_ends_at_once() {
    let project = Project::new();
    let pids = project.path("pids");
    let text = "name: m\nstages:\n  it:\n    kind: command\n    with:\n      run: |\n        trap '' INT TERM\n        echo $$ > PIDS\n        while :; do sleep 0.05; done\n";
    project.write("m.yaml", &text.replace("PIDS", pids.to_str().expect("a path")));
    let mut run = project
        .command(&["run", "m.yaml"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("a run");
    let mut lines = BufReader::new(run.stderr.take().expect("a pipe")).lines();
    wait_until("it runs", || {
        std::fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'))
    });
    let interrupt = || {
        let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
    };
    interrupt();
    let told = lines.any(|line| line.expect("a line") == "stopping; once more ends at once");
    assert!(told, "the first one is answered");
    // Sooner it would count as the same one.
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_running(project.read("pids").trim()), "it does not want to stop");
    let begun = Instant::now();
    interrupt();
    assert_eq!(run.wait().expect("the run ends").code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    wait_until("the command is gone", || !is_running(project.read("pids").trim()));
}

#[test]
fn what_a_command_printed_last_is_shown_with_its_failure() {
    let project = Project::new();
    project.write(
        "m.yaml",
        "name: m\nstages:\n  it: {kind: command, with: {run: 'echo so far; ls /nowhere'}}\n",
    );
    let outcome = project.nerpipe(&["run", "m.yaml"]).expect(1);
    assert!(
        outcome
            .stderr
            .contains("failed it: the command exited with code 2; it printed last:\n  so far\n  ls: "),
        "{}",
        outcome.stderr
    );
}
