//! What runs after which edit: the log of what ran is the assertion.

use crate::project::{MANIFEST, Project, counts};

#[test]
fn a_second_run_does_nothing() {
    let project = Project::new(MANIFEST);
    let summary = project.run_well();
    assert_eq!(counts(&summary), (5, 0, 0, 0, 0));
    assert_eq!(
        project.toys.ran(),
        ["gather", "lines left 1", "lines left 2", "lines right 1", "words"]
    );
    assert_eq!(project.read("reports/table.txt"), "factor=1 3\nfactor=2 6\n");

    let before = project.cached("records");
    let summary = project.run_well();
    assert_eq!(counts(&summary), (0, 5, 0, 0, 0));
    assert!(project.toys.ran().is_empty());
    assert_eq!(project.cached("records"), before);
    assert!(summary.steps.is_empty());
}

#[test]
fn one_edited_file_is_one_step_and_what_depends_on_its_part() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    project.toys.steps();

    project.write("data/b.txt", "Three\nFour\n");
    let summary = project.run_well();
    assert_eq!(project.toys.steps(), ["b.txt"]);
    assert_eq!(project.toys.ran(), ["gather", "lines left 1", "lines left 2", "words"]);
    assert_eq!(counts(&summary), (4, 1, 0, 0, 0));
    let steps = summary.steps["words"];
    assert_eq!((steps.executed, steps.restored), (1, 2));
    assert_eq!(project.read("reports/table.txt"), "factor=1 4\nfactor=2 8\n");
}

#[test]
fn the_other_part_does_not_reach_those_who_do_not_read_it() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    project.write("test/t.txt", "Another\nTest\n");
    project.run_well();
    assert_eq!(project.toys.ran(), ["lines right 1", "words"]);
}

#[test]
fn a_changed_setting_reruns_its_stage_and_what_follows() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    project.replace("factor: [1, 2]", "factor: [1, 3]");
    let summary = project.run_well();
    assert_eq!(project.toys.ran(), ["gather", "lines left 3"]);
    assert_eq!(counts(&summary), (2, 3, 0, 0, 0));
}

#[test]
fn what_does_not_count_reruns_nothing() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    // A recorded setting, a default spelled out, the order of keys, another stage name, the same files elsewhere.
    project.replace(
        "{left: data/*.txt, right: test/*.txt}",
        "{note: x, salt: 0, right: test, left: moved/*.txt}",
    );
    project.replace("corpus", "texts");
    project.write("moved/a.txt", "One\nTwo\n");
    project.write("moved/b.txt", "Three\n");
    let summary = project.run_well();
    assert!(project.toys.ran().is_empty());
    assert_eq!(counts(&summary), (0, 5, 0, 0, 0));
}

#[test]
fn a_renamed_input_counts() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    project.toys.steps();
    std::fs::rename(project.path().join("data/b.txt"), project.path().join("data/c.txt")).unwrap();
    project.run_well();
    // Its stage reruns without its steps; the counts come out alike, so the table is not touched.
    assert_eq!(project.toys.ran(), ["lines left 1", "lines left 2", "words"]);
    assert!(project.toys.steps().is_empty());
}

#[test]
fn going_back_is_free() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.replace("factor: [1, 2]", "factor: [1, 3]");
    project.run_well();
    project.toys.ran();
    project.replace("factor: [1, 3]", "factor: [1, 2]");
    project.run_well();
    assert!(project.toys.ran().is_empty());
    assert_eq!(
        project.read("reports/table.txt"),
        "factor=1 3\nfactor=2 6\n",
        "published all the same"
    );
}

#[test]
fn only_what_is_selected_and_what_it_needs_runs() {
    let mut project = Project::new(MANIFEST);
    let graph = project.graph();
    let test = graph.instances.iter().position(|one| one.stage == "test").unwrap();
    project.options.selected = Some(vec![test]);
    let summary = project.run_well();
    assert_eq!(project.toys.ran(), ["lines right 1", "words"]);
    assert_eq!(summary.instances.len(), 2);

    project.options.force = true;
    let summary = project.run_well();
    assert_eq!(project.toys.ran(), ["lines right 1"], "what it needs is not forced");
    assert_eq!(counts(&summary), (1, 1, 0, 0, 0));
}

#[test]
fn the_same_bytes_whatever_the_jobs_and_threads() {
    let mut one = Project::new(MANIFEST);
    one.run_well();
    assert_eq!(one.toys.threads.load(std::sync::atomic::Ordering::SeqCst), 1);
    one.options.threads = 8;
    let mut other = Project::new(MANIFEST);
    other.options.jobs = 4;
    other.options.threads = 8;
    other.run_well();
    // Three counts share eight threads.
    let threads = other.toys.threads.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=3).contains(&threads), "{threads}");
    assert_eq!(one.digests(), other.digests());
    assert_eq!(other.cached("staging"), Vec::<std::path::PathBuf>::new());
    assert_eq!(other.cached("locks"), Vec::<std::path::PathBuf>::new());
}
