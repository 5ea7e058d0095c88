//! A record outlives its bytes; bytes are made again when someone needs them.

use std::fs;
use std::sync::atomic::Ordering;

use nerpipe_engine::Event;

use crate::project::{MANIFEST, Project, counts, damage, outcomes};

#[test]
fn nobody_needs_them_so_nothing_runs() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    for object in project.cached("objects") {
        fs::remove_file(object).unwrap();
    }
    assert!(project.planned().iter().all(|line| line.ends_with(" fresh")));
    assert_eq!(counts(&project.run_well()), (0, 5, 0, 0, 0));
    assert!(project.toys.ran().is_empty());
}

#[test]
fn a_stage_that_must_run_has_its_inputs_made_again() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    for object in project.cached("objects") {
        fs::remove_file(object).unwrap();
    }
    project.replace("factor: [1, 2]", "factor: [1, 4]");
    let planned = project.planned();
    assert_eq!(
        planned[0],
        "corpus stale: its bytes are gone from the cache and `count@factor=4` needs them"
    );
    assert_eq!(planned[1], "count@factor=1 fresh");
    let summary = project.run_well();
    // The table needs the count at factor 1 as well: found out when it is about to run.
    assert_eq!(project.toys.ran(), ["gather", "lines left 1", "lines left 4", "words"]);
    assert_eq!(counts(&summary), (4, 1, 0, 0, 0));
    assert_eq!(project.read("reports/table.txt"), "factor=1 3\nfactor=4 12\n");
}

#[test]
fn damaged_bytes_are_never_handed_on() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    project.toys.steps();
    damage(&project.object("corpus", "left/a.txt"), "ten\nlies");
    project.replace("factor: [1, 2]", "factor: [1, 4]");
    assert_eq!(project.planned()[0], "corpus fresh", "a plan looks at lengths only");
    let mut warnings = Vec::new();
    let summary = project.watch(&mut |event| {
        if let Event::Warning { message, .. } = event {
            warnings.push(message);
        }
    });
    assert_eq!(counts(&summary), (3, 2, 0, 0, 0));
    assert_eq!(project.toys.ran(), ["gather", "lines left 4", "words"]);
    assert_eq!(project.toys.steps(), ["a.txt"], "only the step that lost its bytes");
    assert_eq!(
        warnings,
        ["the bytes of `left/a.txt` are damaged in the cache; `corpus` is made again"]
    );
    assert_eq!(project.read("reports/table.txt"), "factor=1 3\nfactor=4 12\n");
}

#[test]
fn a_missing_target_whose_bytes_are_gone_is_made_again() {
    let project = Project::new(MANIFEST);
    project.run_well();
    project.toys.ran();
    fs::remove_file(project.object("table", "table.txt")).unwrap();
    fs::remove_file(project.path().join("reports/table.txt")).unwrap();
    assert_eq!(
        project.planned()[4],
        "table stale: its bytes are gone from the cache and `reports/table.txt` needs them"
    );
    project.run_well();
    assert_eq!(project.toys.ran(), ["gather"]);
    assert_eq!(project.read("reports/table.txt"), "factor=1 3\nfactor=2 6\n");
}

#[test]
fn if_remade_bytes_differ_the_run_warns_and_descendants_rerun() {
    let mut project = Project::new(
        "
sweep:
  axes:
    factor: [1, 2]
stages:
  moon: {kind: unsteady}
  early: {kind: lines, inputs: {words: moon}, with: {factor: 10}}
  twin: {kind: unsteady}
  late: {kind: lines, inputs: {words: twin}, with: {factor: 20}}
  count: {kind: lines, inputs: {words: moon}, with: {factor: \"${factor}\"}}
  table: {kind: gather, inputs: {counts: {collect: count}}, publish: {table.txt: t.txt}}
",
    );
    project.toys.moon.store(1, Ordering::SeqCst);
    project.run_well();
    assert_eq!(project.read("t.txt"), "factor=1 1\nfactor=2 2\n");
    project.toys.ran();

    project.toys.moon.store(3, Ordering::SeqCst);
    fs::remove_file(project.object("moon", "left/x")).unwrap();
    project.replace("factor: [1, 2]", "factor: [1, 5]");
    let mut warned = false;
    let summary = project.watch(&mut |event| {
        warned |= matches!(event, Event::Warning { message, .. } if message.starts_with("made other bytes"));
    });
    assert!(warned);
    assert!(summary.is_success(), "{:?}", outcomes(&summary));
    // Also those that were judged fresh by the old bytes before it came out, and those behind its twin.
    let lines = ["lines left 1", "lines left 10", "lines left 20", "lines left 5"];
    assert_eq!(project.toys.ran(), [&["gather"][..], &lines, &["unsteady"]].concat());
    assert_eq!(project.read("t.txt"), "factor=1 3\nfactor=5 15\n");
    assert_eq!(counts(&project.run_well()), (0, 6, 1, 0, 0));
}
