//! Published copies: what is replaced, what is refused, what is repaired.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use nerpipe_engine::Cache;

use crate::project::{MANIFEST, Project, counts};

#[test]
fn a_missing_target_is_put_back_without_running() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    fs::remove_dir_all(project.path().join("reports")).unwrap();
    let plan = project.plan();
    assert_eq!(
        plan.instances[4].repairs,
        [std::path::PathBuf::from("reports/table.txt")]
    );
    let summary = project.run_well();
    assert_eq!(counts(&summary), (0, 5, 0, 0, 0));
    assert_eq!(
        summary.instances[4].published,
        [std::path::PathBuf::from("reports/table.txt")]
    );
    assert_eq!(project.read("reports/table.txt"), "factor=1 3\nfactor=2 6\n");
    assert!(project.run_well().instances[4].published.is_empty());
}

#[test]
fn a_copy_is_writable_and_no_link() {
    let project = Project::new(MANIFEST);
    project.run_well();
    let target = project.path().join("reports/table.txt");
    let metadata = fs::metadata(&target).unwrap();
    assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (1, 0o644));
    fs::write(&target, "scribble").unwrap();
    assert_eq!(
        fs::read_to_string(project.object("table", "table.txt")).unwrap(),
        "factor=1 3\nfactor=2 6\n"
    );
}

#[test]
fn what_somebody_changed_is_left_alone_unless_told() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.write("reports/table.txt", "my notes");
    let summary = project.run();
    assert_eq!(summary.failed, 1);
    let error = summary.instances[4].error.clone().unwrap();
    assert_eq!(
        error.message,
        "`reports/table.txt` was changed since nerpipe published it; it is left as it is"
    );
    assert!(error.help.unwrap().contains("--overwrite"));
    assert_eq!(project.read("reports/table.txt"), "my notes");

    project.options.overwrite = true;
    project.run_well();
    assert_eq!(project.read("reports/table.txt"), "factor=1 3\nfactor=2 6\n");
}

#[test]
fn what_was_there_before_is_left_alone_and_does_not_stop_the_rest() {
    let project = Project::new(MANIFEST);
    project.write("reports/table.txt", "from last year");
    let summary = project.run();
    assert_eq!((summary.executed, summary.failed), (4, 1));
    assert!(
        summary.instances[4]
            .error
            .as_ref()
            .unwrap()
            .message
            .contains("was not put there by nerpipe")
    );
    assert_eq!(project.read("reports/table.txt"), "from last year");
}

#[test]
fn our_own_older_copy_is_replaced() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.replace("factor: [1, 2]", "factor: [2]");
    project.run_well();
    assert_eq!(project.read("reports/table.txt"), "factor=2 6\n");
}

const WHOLE: &str = "
stages:
  corpus: {kind: words, with: {left: data/*.txt}}
  count: {kind: lines, inputs: {words: corpus}}
  table: {kind: gather, inputs: {counts: {collect: count}}, publish: out/whole}
  words: {kind: words, with: {left: data/*.txt, salt: 1}, publish: {left: out/left}}
";

#[test]
fn whole_artifacts_and_parts_that_are_folders() {
    let mut project = Project::new(WHOLE);
    project.run_well();
    assert_eq!(project.read("out/whole/table.txt"), " 3\n");
    assert_eq!(project.read("out/whole/more/b/c.txt"), "c\n");
    assert_eq!(project.read("out/left/a.txt"), "one\ntwo\n");

    fs::remove_file(project.path().join("data/b.txt")).unwrap();
    project.run_well();
    assert_eq!(project.read("out/whole/table.txt"), " 2\n");
    assert!(
        !project.path().join("out/left/b.txt").exists(),
        "a folder is replaced as a whole"
    );
    let names: Vec<_> = fs::read_dir(project.path().join("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "nothing temporary is left: {names:?}");

    // A file that somebody put into the folder would be lost.
    project.write("out/left/mine.txt", "mine");
    project.write("data/a.txt", "Zero\n");
    let summary = project.run();
    assert_eq!(summary.failed, 1);
    assert_eq!(project.read("out/left/a.txt"), "one\ntwo\n");
    project.options.overwrite = true;
    project.run_well();
    assert_eq!(project.read("out/left/a.txt"), "zero\n");
}

#[test]
fn links_that_lead_out_of_the_project_are_refused() {
    let project = Project::new(MANIFEST);
    let elsewhere = tempfile::tempdir().unwrap();
    // One that was there when the manifest was read is a mistake in the manifest; another is met in the run.
    let graph = project.graph();
    symlink(elsewhere.path(), project.path().join("reports")).unwrap();
    let refused = project.try_graph().unwrap_err().to_string();
    assert!(refused.contains("leads out of the project"), "{refused}");
    let refused = project.try_run(&graph, &project.cache()).unwrap_err().message;
    assert!(refused.contains("leads out of the project"), "{refused}");
    assert!(project.toys.ran().is_empty(), "nothing ran for it");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    // The target itself being a link is somebody's doing too.
    fs::remove_file(project.path().join("reports")).unwrap();
    fs::create_dir(project.path().join("reports")).unwrap();
    let outside = elsewhere.path().join("table.txt");
    fs::write(&outside, "outside").unwrap();
    symlink(&outside, project.path().join("reports/table.txt")).unwrap();
    assert_eq!(project.run().failed, 1);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "outside");
}

#[test]
fn nothing_is_published_into_the_cache() {
    let project = Project::new(MANIFEST);
    let cache = Cache::open(&project.path().join("reports")).unwrap();
    let refused = project.try_run(&project.graph(), &cache).unwrap_err().message;
    assert_eq!(refused, "cannot publish to `reports/table.txt`: it is inside the cache");
    assert!(project.toys.ran().is_empty());
}
