//! Heavy instances as processes of their own.
//!
//! The program they start is this very test binary: a small script turns `PROGRAM exec FILE` into a call of the one test
//! below that executes a job.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nerpipe_engine::{Event, Outcome};

use crate::project::{Project, counts, outcomes};
use crate::toy::Toys;

const JOB: &str = "NERPIPE_TEST_JOB";
const PROJECT: &str = "NERPIPE_TEST_PROJECT";

/// Not a test: what a child process does.
#[test]
fn as_a_child() {
    if let Some(file) = std::env::var_os(JOB) {
        let toys = std::sync::Arc::new(Toys::default());
        std::process::exit(nerpipe_engine::job::exec(Path::new(&file), &toys.registry()));
    }
}

/// Not a test: a whole run in a process that can be killed.
#[test]
fn as_a_run() {
    if let Some(folder) = std::env::var_os(PROJECT) {
        let manifest = fs::read_to_string(Path::new(&folder).join("manifest")).unwrap();
        let mut project = Project::at(Path::new(&folder), &manifest);
        project.options.program = Some(program(Path::new(&folder)));
        project.run();
        std::process::exit(0);
    }
}

/// A program that understands `exec FILE`.
pub(crate) fn program(folder: &Path) -> PathBuf {
    let path = folder.join("program.sh");
    if !path.exists() {
        let me = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = exec ] || exit 9\n{JOB}=\"$2\" exec '{}' --exact jobs::as_a_child --nocapture\n",
            me.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    path
}

/// Starts a run of `project` in a process of its own.
fn start_run(project: &Project) -> std::process::Child {
    run_command(project).spawn().unwrap()
}

/// What starts a run of `project` in a process of its own.
pub(crate) fn run_command(project: &Project) -> Command {
    fs::write(project.folder().join("manifest"), &project.manifest).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "jobs::as_a_run", "--nocapture"])
        .env(PROJECT, project.folder())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

pub(crate) fn heavy(tasks: &[&str]) -> Project {
    let mut manifest = "stages:\n".to_owned();
    for task in tasks {
        manifest.push_str(&format!(
            "  {task}: {{kind: heavy, with: {{task: {task}, switch: SWITCH}}}}\n"
        ));
        manifest.push_str(&format!("  after_{task}: {{kind: lines, inputs: {{words: {task}}}}}\n"));
    }
    let mut project = Project::new(&manifest);
    let switch = project.path().join("switch");
    fs::write(&switch, "on").unwrap();
    project.replace("SWITCH", switch.to_str().unwrap());
    project.options.program = Some(program(project.folder()));
    project
}

fn switch_off(project: &Project) {
    fs::remove_file(project.path().join("switch")).unwrap();
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited too long until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_child_has_its_own_process_log_and_measured_memory() {
    let project = heavy(&["grow"]);
    let mut events = Vec::new();
    let summary = project.watch(&mut |event| events.push(event));
    assert!(summary.is_success(), "{:?}", summary.instances[0].error);
    let grown = &summary.instances[0];
    assert!(grown.peak_memory.unwrap() > 64 * 1024 * 1024, "{:?}", grown.peak_memory);
    assert_eq!(grown.notes["grown"], 64 * 1024 * 1024);
    assert_eq!(grown.warnings, ["heavy is heavy"]);
    let log = fs::read_to_string(grown.log.as_ref().unwrap()).unwrap();
    assert!(log.contains("warning: heavy is heavy"), "{log}");
    assert!(
        !log.contains(&format!("process {}\n", std::process::id())),
        "it ran in this process: {log}"
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Log { line, .. } if line.starts_with("process ")))
    );
    assert_eq!(counts(&project.run_well()), (0, 2, 0, 0, 0));
}

#[test]
fn the_same_bytes_in_a_child_and_in_this_process() {
    let child = heavy(&["quiet"]);
    child.run_well();
    let mut inside = heavy(&["quiet"]);
    inside.options.program = None;
    inside.run_well();
    assert_eq!(child.digests(), inside.digests());
    assert!(inside.show("quiet").record.unwrap().peak_memory.is_none());
}

#[test]
fn a_child_that_dies_fails_alone() {
    let project = heavy(&["die", "panic", "quiet"]);
    let summary = project.run();
    assert_eq!(
        outcomes(&summary)
            .into_iter()
            .map(|(_, outcome)| outcome)
            .collect::<Vec<_>>(),
        [
            Outcome::Failed,
            Outcome::Blocked,
            Outcome::Failed,
            Outcome::Blocked,
            Outcome::Executed,
            Outcome::Executed
        ]
    );
    let message = |at: usize| summary.instances[at].error.as_ref().unwrap().message.clone();
    assert!(
        message(0).starts_with("its process was killed by signal 6"),
        "{}",
        message(0)
    );
    assert!(message(2).contains("the stage panicked: heavy heart"), "{}", message(2));
    let log = fs::read_to_string(summary.instances[2].log.as_ref().unwrap()).unwrap();
    assert!(
        log.contains("heavy heart"),
        "what the child wrote to its standard error: {log}"
    );

    switch_off(&project);
    // They make what `quiet` made, so what follows them has been done.
    assert_eq!(counts(&project.run_well()), (2, 2, 2, 0, 0));
}

#[test]
fn a_program_that_does_not_start_fails_its_instances() {
    let mut project = heavy(&["quiet"]);
    project.options.program = Some("/nowhere/nerpipe".into());
    let summary = project.run();
    assert_eq!(counts(&summary), (0, 0, 0, 1, 1));
    assert!(
        summary.instances[0]
            .error
            .as_ref()
            .unwrap()
            .message
            .contains("/nowhere/nerpipe")
    );
}

#[test]
fn a_child_is_told_to_stop_and_finds_its_half_finished_work_again() {
    let project = heavy(&["wait"]);
    let cancel = std::sync::Arc::clone(&project.options.cancel);
    let summary = project.watch(&mut |event| {
        if matches!(event, Event::Progress { .. }) {
            cancel.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!((summary.stopped, summary.failed), (2, 0));
    assert_eq!(project.cached("unfinished").len(), 1);

    project.options.cancel.store(false, Ordering::SeqCst);
    switch_off(&project);
    project.run_well();
    assert!(project.cached("unfinished").is_empty(), "gone with the record");
}

#[test]
fn children_die_with_a_run_that_is_killed() {
    let project = heavy(&["wait"]);
    let mut run = start_run(&project);
    wait_until("the child works", || !project.cached("unfinished").is_empty());
    let staging = project.cached("staging");
    let job = staging.iter().find(|path| path.ends_with("job.json")).unwrap().clone();
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("the child is gone", || !is_running(&job));

    switch_off(&project);
    project.run_well();
    assert!(project.cached("staging").is_empty(), "what the dead run left is swept");
}

/// Whether a process executes this job.
fn is_running(job: &Path) -> bool {
    let wanted = format!("{JOB}={}", job.display());
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    })
}

/// For the tests of crashes.
pub(crate) fn run_and_kill_after(project: &Project, pause: Duration) {
    let mut run = start_run(project);
    std::thread::sleep(pause);
    let _ = run.kill();
    run.wait().unwrap();
}
