//! `command`: what it sees, what counts, what is made of it, how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nerpipe_engine::Outcome;

use crate::jobs::{program, run_command, wait_until};
use crate::project::{Project, counts};

/// A project with one command called `it` besides `words`, which makes the parts `left` and `right` of files.
fn project(with: &str) -> Project {
    let mut project = Project::new(&format!(
        "stages:\n  words: {{kind: words, with: {{left: data/*.txt, right: test/*.txt}}}}\n  it:\n    kind: command\n    \
         inputs: {{words: words}}\n    with:\n      {}\n",
        with.replace('\n', "\n      ")
    ));
    project.write("scripts/count.sh", "wc -l < \"$1\"\n");
    project.write("scripts/other.sh", "echo other\n");
    project.options.program = Some(program(project.folder()));
    project
}

/// What the command made, by name.
fn made(project: &Project, file: &str) -> String {
    fs::read_to_string(project.object("it", file)).unwrap()
}

/// The error that the command ended with.
fn error(project: &Project) -> (String, String) {
    let summary = project.run();
    let it = summary.instances.iter().find(|one| one.instance == "it").unwrap();
    assert_eq!(it.outcome, Outcome::Failed);
    let error = it.error.clone().unwrap();
    (error.message, error.help.unwrap_or_default())
}

#[test]
fn it_sees_files_at_their_places_inputs_as_folders_and_little_else() {
    let project = project(
        "run: |\n  find . -type f | sort > \"$OUT/found\"\n  (cd \"$WORDS\" && find . | sort) > \"$OUT/words\"\n  sh scripts/count.sh \"$WORDS/left/a.txt\" > \
         \"$OUT/lines\"\n  env | cut -d= -f1 | grep -v '^_$\\|^SHLVL$\\|^PWD$\\|^OLDPWD$' | sort | tr '\\n' ' ' > \"$OUT/names\"\n  echo \"$LANG\" >> \"$OUT/names\"\nfiles: [scripts/*.sh]",
    );
    project.run_well();
    assert_eq!(made(&project, "found"), "./scripts/count.sh\n./scripts/other.sh\n");
    assert_eq!(
        made(&project, "words"),
        ".\n./left\n./left/a.txt\n./left/b.txt\n./right\n./right/t.txt\n"
    );
    assert_eq!(made(&project, "lines").trim(), "2");
    let names = made(&project, "names");
    let own = "LANG NERPIPE_DEVICE NERPIPE_THREADS OUT PATH WORDS C.UTF-8\n";
    let passed = names.replace("HOME ", "").replace("TMPDIR ", "");
    assert_eq!(passed, own, "{names}");
}

#[test]
fn what_counts_and_what_does_not() {
    let mut project = project(
        "run: cat \"$WORDS/left/\"* > \"$OUT/all\"; sh scripts/other.sh >> \"$OUT/all\"\nfiles: [scripts/other.sh]",
    );
    project.replace("{words: words}", "{words: words.left}");
    project.run_well();
    assert_eq!(counts(&project.run_well()), (0, 2, 0, 0, 0));
    // A file that is not declared, and a part that is not read.
    project.write("scripts/count.sh", "changed\n");
    project.write("test/t.txt", "changed\n");
    assert_eq!(counts(&project.run_well()), (1, 1, 0, 0, 0));
    project.write("scripts/other.sh", "echo changed\n");
    let planned = project.planned();
    assert!(
        planned[1].starts_with("it stale: files.files.scripts/other.sh: "),
        "{planned:?}"
    );
    assert_eq!(counts(&project.run_well()), (1, 1, 0, 0, 0));
    // The same file at another place is another file to a command.
    project.write("more/other.sh", "echo changed\n");
    project.replace("files: [scripts/other.sh]", "files: [more/other.sh]");
    assert!(
        project.planned()[1].starts_with("it stale: files.files.more/other.sh: new"),
        "{:?}",
        project.planned()
    );
    // The type is a matter of wiring.
    project.replace("files: [more/other.sh]", "files: [scripts/other.sh]\n      type: words");
    assert_eq!(project.planned()[1], "it fresh");
    project.replace("cat ", "tac ");
    assert!(
        project.planned()[1].starts_with("it stale: settings.run: "),
        "{:?}",
        project.planned()
    );
}

#[test]
fn declared_variables_count_and_are_kept_as_keyed_hashes_only() {
    let project = project("run: value=\"$SECRET\"; echo $${#value} > \"$OUT/length\"\nenv: [SECRET, UNSET]");
    let records = |secret: &str| {
        assert!(run_command(&project).env("SECRET", secret).status().unwrap().success());
        project.cached("records")
    };
    let first = records("hunter2hunter2");
    assert_eq!(first.len(), 2);
    assert_eq!(records("hunter2hunter2"), first, "nothing new");
    assert_eq!(records("correct horse").len(), 3);
    // Without it the shell stops at the name.
    let (message, _) = error(&project);
    assert!(message.contains("SECRET"), "{message}");
    for store in ["records", "history", "logs", "staging", "objects"] {
        for path in project.cached(store) {
            let bytes = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                !text.contains("hunter2") && !text.contains("correct horse"),
                "{}",
                path.display()
            );
        }
    }
    let records = project
        .cached("records")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect::<String>();
    assert!(
        records.contains("\"environment\":{\"SECRET\":\"") && records.contains("\"UNSET\":null"),
        "{records}"
    );
}

/// The same without a process around the command: what the test runner prints there would be in its log.
fn inside(with: &str) -> Project {
    let mut project = project(with);
    project.options.program = None;
    project
}

#[test]
fn how_it_fails_is_told_with_what_it_printed_last() {
    let failing = inside("run: |\n  echo working\n  echo 'no such word' >&2\n  exit 3\n  touch \"$OUT/x\"");
    let (message, _) = error(&failing);
    assert_eq!(
        message,
        "the command exited with code 3; it printed last:\n  working\n  no such word"
    );
    let log = failing.run().instances[1].log.clone().unwrap();
    assert!(fs::read_to_string(log).unwrap().eq("working\nno such word\n"));
    // The first line that fails ends it.
    let (message, _) = error(&inside("run: |\n  false\n  touch \"$OUT/x\""));
    assert_eq!(message, "the command exited with code 1 and printed nothing");
    let (message, _) = error(&inside("run: kill -9 $$"));
    assert_eq!(message, "the command was killed by signal 9 and printed nothing");
    let (message, _) = error(&inside("run: echo \"$NOT_DECLARED\" > \"$OUT/x\""));
    assert!(message.contains("NOT_DECLARED"), "{message}");
    let (message, help) = error(&inside("run: [no-such-program, 3]"));
    assert!(message.starts_with("cannot start `no-such-program`"), "{message}");
    assert!(help.contains("PATH"), "{help}");
}

#[test]
fn a_program_and_its_arguments_need_no_shell() {
    let project = project("run: [sh, scripts/args.sh, \"a b\", '*', 3]\nfiles: [scripts/args.sh]");
    project.write("scripts/args.sh", "printf '%s\\n' \"$@\" > \"$OUT/args\"\n");
    project.run_well();
    assert_eq!(made(&project, "args"), "a b\n*\n3\n");
}

#[test]
fn what_it_makes_is_checked_against_its_parts() {
    let (message, help) = error(&project("run: echo 1 > result.txt"));
    assert_eq!(message, "the command wrote nothing into `$OUT`");
    assert_eq!(
        help,
        "it left `result.txt` in its working folder, which is lost: write it to `$OUT`"
    );
    let (message, help) = error(&project("run: 'true'"));
    assert_eq!(message, "the command wrote nothing into `$OUT`");
    assert!(help.contains("touch"), "{help}");
    let (message, help) = error(&project(
        "run: mkdir \"$OUT/b\"; touch \"$OUT/a\" \"$OUT/b/c\"\nparts: [a]",
    ));
    assert_eq!(message, "the command wrote `b/c`, which is in none of its `parts`");
    assert_eq!(help, "add `b` to `parts`");
    let (message, _) = error(&project("run: touch \"$OUT/a\"\nparts: [a, b]"));
    assert_eq!(message, "the command did not write the part `b`");
    let (message, _) = error(&project("run: ln -s /etc/hostname \"$OUT/a\""));
    assert!(message.contains("symbolic link"), "{message}");
}

#[test]
fn what_it_takes_over_from_an_input_is_not_copied() {
    let mut project =
        project("run: cp -r \"$WORDS/.\" \"$OUT\"; echo more > \"$OUT/left/c.txt\"\ntype: words\nparts: [left, right]");
    project
        .manifest
        .push_str("  count: {kind: lines, inputs: {words: it}}\n");
    project.run_well();
    assert_eq!(
        project.object("it", "left/a.txt"),
        project.object("words", "left/a.txt")
    );
    assert_eq!(made(&project, "left/c.txt"), "more\n");
    assert_eq!(project.toys.ran(), ["lines left 1", "words"]);
    // Read-only means nothing to the system's administrator: the file is made again.
    project.replace("echo more >", "echo more >> \"$OUT/right/t.txt\"; echo more >");
    let (message, _) = error(&project);
    let refused = message.contains("the command changed `t.txt` of an input") || message.contains("ermission denied");
    assert!(refused, "{message}");
    project.replace("echo more >> \"$OUT/right/t.txt\"; ", "cat \"$WORDS/right/t.txt\"; ");
    project.run_well();
    assert_eq!(made(&project, "right/t.txt"), "test\n");
}

#[test]
fn inputs_are_folders_that_cannot_be_written_to() {
    let project = project(
        "run: stat -c %a \"$WORDS\" \"$WORDS/left\" > \"$OUT/modes\"; stat -L -c %a \"$WORDS/left/a.txt\" >> \"$OUT/modes\"",
    );
    project.run_well();
    assert_eq!(made(&project, "modes"), "555\n555\n444\n");
}

#[test]
fn gathered_inputs_are_folders_named_by_instance() {
    let mut project = Project::new(
        "sweep: {axes: {factor: [1, 2], side: {l/1: left}}}\nstages:\n  words: {kind: words, with: {left: data/*.txt}}\n  \
         count: {kind: lines, inputs: {words: words}, with: {factor: '${factor}', side: '${side.value}'}}\n  \
         it: {kind: command, inputs: {old-counts: {collect: count}}, with: {run: 'cd \"$OLD_COUNTS\"; head */count.txt > \"$OUT/all\"'}}\n",
    );
    project.options.program = Some(program(project.folder()));
    project.run_well();
    assert_eq!(
        made(&project, "all"),
        "==> count@factor=1,side=l%2F1/count.txt <==\n3\n\n==> count@factor=2,side=l%2F1/count.txt <==\n6\n"
    );
}

#[test]
fn parts_that_nobody_declared_cannot_be_read_by_name() {
    let mut project = project("run: echo x > \"$OUT/left\"\ntype: words");
    project
        .manifest
        .push_str("  count: {kind: lines, inputs: {words: it}}\n");
    let refused = project.try_graph().unwrap_err().to_string();
    assert!(
        refused.contains("`it` does not say that it makes the part `left`"),
        "{refused}"
    );
    assert!(refused.contains("add `parts: [left]`"), "{refused}");
    project.replace("type: words", "type: words\n      parts: [left]");
    project.run_well();
}

#[test]
fn a_type_is_checked_where_it_is_connected() {
    let mut project = project("run: echo x > \"$OUT/count.txt\"\nparts: [count.txt]");
    project
        .manifest
        .push_str("  table: {kind: gather, inputs: {counts: {collect: it}}}\n");
    let refused = project.try_graph().unwrap_err().to_string();
    assert!(
        refused.contains("input `counts` takes `count`, but `it` makes `files`"),
        "{refused}"
    );
    project.replace("parts:", "type: count\n      parts:");
    project.run_well();
}

#[test]
fn a_cancelled_command_is_killed_with_all_it_started() {
    for own_process in [true, false] {
        let mut project = project("run: |\n  sleep 1000 &\n  echo $! > PIDS\n  sleep 1000");
        let pids = project.folder().join("pids");
        project.replace("PIDS", pids.to_str().unwrap());
        if !own_process {
            project.options.program = None;
        }
        let cancel = std::sync::Arc::clone(&project.options.cancel);
        let started = Instant::now();
        let summary = std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("it runs", || {
                    fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'))
                });
                cancel.store(true, Ordering::SeqCst);
            });
            project.run()
        });
        assert_eq!((summary.stopped, summary.failed), (1, 0));
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it does not wait for a thousand seconds"
        );
        let sleeping = fs::read_to_string(&pids).unwrap();
        wait_until("what it started is gone", || !is_running(sleeping.trim()));
    }
}

#[test]
fn what_it_leaves_running_ends_with_it() {
    let mut project = project("run: |\n  sleep 1000 > /dev/null 2>&1 &\n  echo $! > PIDS\n  echo x > \"$OUT/x\"");
    let pids = project.folder().join("pids");
    project.replace("PIDS", pids.to_str().unwrap());
    project.run_well();
    let sleeping = fs::read_to_string(&pids).unwrap();
    wait_until("what it started is gone", || !is_running(sleeping.trim()));
}

#[test]
fn a_command_ends_with_all_it_started_when_its_run_is_killed() {
    // Half a second in which the guard surely hears of it.
    let mut project = project("run: |\n  sleep 1000 &\n  sleep 0.5\n  echo $! > PIDS\n  sleep 1000");
    let pids = project.folder().join("pids");
    project.replace("PIDS", pids.to_str().unwrap());
    let mut run = run_command(&project).spawn().unwrap();
    let read = || fs::read_to_string(&pids).unwrap_or_default();
    wait_until("it runs", || read().ends_with('\n'));
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("what it started is gone", || !is_running(read().trim()));
}

#[test]
fn the_memory_that_a_command_and_what_it_starts_hold_is_measured() {
    let project = project("run: head -c 60000000 /dev/zero | tail -c 50000000 | wc -c > \"$OUT/bytes\"");
    let summary = project.run_well();
    let held = summary.instances[1].peak_memory.unwrap();
    assert!(held > 50_000_000, "{held}");
    assert_eq!(summary.instances[0].peak_memory, None);
}

/// Whether the process is there and no zombie.
fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn an_executable_file_stays_one() {
    let project = project("run: [scripts/run.sh]\nfiles: [scripts/run.sh]");
    project.write("scripts/run.sh", "#!/bin/sh\necho done > \"$OUT/x\"\n");
    fs::set_permissions(project.path().join("scripts/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    project.run_well();
}
