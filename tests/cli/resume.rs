//! A run that is killed or stopped in the middle of a training goes on where it was, and ends with the same bytes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::project::{Project, small_pipeline};

fn project(steps: u32) -> Project {
    let project = Project::with_corpus();
    let steps = format!("max_steps: {steps}");
    let settings = [
        "loss_fn: bce",
        "dropout: 0.1",
        "eval_steps: 10",
        &steps,
        "logging_steps: 1",
        "save_steps: 7",
    ];
    let publish = "    publish: model\n";
    project.write(
        "long.yaml",
        &small_pipeline("long", "", "validation", &settings, publish),
    );
    project
}

fn bytes(project: &Project) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(project.path("model"))
        .expect("a model")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("bytes"))
        })
        .collect();
    files.sort();
    files
}

/// Runs until the training has done this many steps, then sends the signal; the exit code, if there is one.
fn stopped_by(project: &Project, signal: &str, after: u64) -> Option<i32> {
    let mut child = project
        .command(&["run", "long.yaml", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let has_come_so_far = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("an event");
        event["event"] == "progress" && event["unit"] == "steps" && event["done"].as_u64() >= Some(after)
    };
    assert!(
        lines.any(|line| has_come_so_far(&line.expect("a line"))),
        "the training ended before step {after}"
    );
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill starts").success());
    lines.for_each(drop);
    child.wait().expect("the program ends").code()
}

/// What the model's log says.
fn log(project: &Project) -> String {
    let logs = std::fs::read_dir(project.path("cache/v1/logs")).expect("logs");
    let texts = logs.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a log"));
    texts.collect()
}

#[test]
fn a_training_has_the_threads_it_is_given_and_ends_with_the_same_bytes() {
    let trained = ["1", "3"].map(|threads| {
        let project = project(12);
        project.nerpipe(&["run", "long.yaml", "--threads", threads]).expect(0);
        let told = format!("with {threads} threads");
        assert!(log(&project).contains(&told), "{}", log(&project));
        bytes(&project)
    });
    assert!(trained[0] == trained[1], "the bytes differ");
}

#[test]
fn a_run_that_is_killed_ends_with_the_same_bytes() {
    let (whole, killed) = (project(60), project(60));
    whole.nerpipe(&["run", "long.yaml"]).expect(0);
    // Killed twice, as `kill -9` does: nobody gets to save anything.
    assert_eq!(stopped_by(&killed, "-KILL", 12), None);
    assert_eq!(stopped_by(&killed, "-KILL", 30), None);
    killed.nerpipe(&["run", "long.yaml"]).expect(0);
    assert!(log(&killed).contains("goes on after step "), "{}", log(&killed));
    assert!(bytes(&killed) == bytes(&whole), "the bytes differ");
    assert_eq!(
        std::fs::read_dir(killed.path("cache/v1/unfinished"))
            .expect("a folder")
            .count(),
        0
    );
}

#[test]
fn a_run_that_is_stopped_saves_and_goes_on() {
    // Never saved but when it is told to stop.
    let (whole, stopped) = (project(60), project(60));
    whole.nerpipe(&["run", "long.yaml"]).expect(0);
    let seldom = stopped.read("long.yaml").replace("save_steps: 7", "save_steps: 1000");
    stopped.write("long.yaml", &seldom);
    for (signal, after) in [("-INT", 5), ("-TERM", 20)] {
        assert_eq!(stopped_by(&stopped, signal, after), Some(130), "{signal}");
        assert!(
            log(&stopped).contains("the next run goes on from there"),
            "{}",
            log(&stopped)
        );
    }
    stopped.nerpipe(&["run", "long.yaml"]).expect(0);
    assert!(bytes(&stopped) == bytes(&whole), "the bytes differ");
}

#[test]
fn a_training_that_takes_too_long_has_saved_what_it_did() {
    let project = project(100_000);
    // A busy machine may not get as far as the first step the first time.
    for seconds in ["1.5", "3", "6", "12", "24"] {
        let time = format!("{seconds}s");
        let outcome = project.nerpipe(&["run", "long.yaml", "--timeout", &time]).expect(1);
        let message = format!("timed out after {seconds} s");
        assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);
        if log(&project).contains("the next run goes on from there") {
            return;
        }
    }
    panic!("nothing was saved: {}", log(&project));
}

#[test]
fn a_forced_run_begins_anew() {
    let project = project(60);
    assert_eq!(stopped_by(&project, "-INT", 20), Some(130));
    project.nerpipe(&["run", "long.yaml", "--force"]).expect(0);
    assert!(!log(&project).contains("goes on after step "), "{}", log(&project));
}

/// Where an ordinary user may not mount a file system of their own, there is nothing to test with.
#[test]
fn a_disk_that_is_too_small_for_a_training_is_exit_code_four() {
    let project = project(60);
    std::fs::create_dir(project.path("cache")).expect("a folder");
    let in_small = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        let program = command.get_program().to_owned();
        let mut small = Command::new("unshare");
        small.args([
            "-r",
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs -o size=2m tmpfs cache && exec \"$0\" \"$@\"",
        ]);
        small.arg(program).args(arguments).current_dir(project.path(""));
        command = small;
        command.stdin(Stdio::null()).output()
    };
    if !in_small(&["--version"]).is_ok_and(|output| output.status.success()) {
        return;
    }
    let output = in_small(&["run", "long.yaml"]).expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("failed model: it may write "), "{text}");
    assert!(text.contains("MiB are free on the disk of "), "{text}");
}
