//! A stage that reruns and makes the same bytes stops the change there; equal instances run once.

use nerpipe_engine::Outcome;

use crate::project::{MANIFEST, Project, counts, outcomes};

#[test]
fn equal_bytes_stop_a_change() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    // `words` makes everything lower case, so this edit is absorbed there.
    project.write("data/a.txt", "ONE\nTWO\n");
    assert_eq!(
        project.planned()[1..3],
        ["count@factor=1 waits on corpus", "count@factor=2 waits on corpus"]
    );
    let summary = project.run_well();
    assert_eq!(project.toys.ran(), ["words"]);
    assert_eq!(counts(&summary), (1, 4, 0, 0, 0));
}

#[test]
fn a_change_of_bytes_that_is_absorbed_further_down() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    // Other words, as many lines: the counts stay, the table is not touched.
    project.write("data/a.txt", "Uno\nDos\n");
    project.run_well();
    assert_eq!(project.toys.ran(), ["lines left 1", "lines left 2", "words"]);
}

const TWINS: &str = "
stages:
  corpus: {kind: words, with: {left: data/*.txt}}
  one: {kind: lines, inputs: {words: corpus}}
  two: {kind: lines, inputs: {words: corpus}, with: {factor: 1}, publish: {count.txt: two.txt}}
  three: {kind: lines, inputs: {words: corpus}, with: {factor: 3}}
";

#[test]
fn equal_fingerprints_run_once() {
    let mut project = Project::new(TWINS);
    project.options.jobs = 4;
    project.replace("{words: corpus}}", "{words: corpus}, with: {nap_ms: 30}}");
    let summary = project.run_well();
    assert_eq!(project.toys.ran(), ["lines left 1", "lines left 3", "words"]);
    assert_eq!(counts(&summary), (3, 0, 1, 0, 0));
    assert_eq!(outcomes(&summary)[2], ("two".to_owned(), Outcome::Shared));
    assert_eq!(summary.instances[2].because_of.as_deref(), Some("one"));
    assert_eq!(project.read("two.txt"), "3\n", "each publishes for itself");
    assert_eq!(project.planned()[2], "two shared with one");
    assert_eq!(counts(&project.run_well()), (0, 3, 1, 0, 0));
}
