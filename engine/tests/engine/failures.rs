//! A failure stops its descendants only, and is told.

use std::sync::atomic::Ordering;

use nerpipe_engine::{Event, Outcome};

use crate::project::{MANIFEST, Project, counts, outcomes};

const BEAST: &str = "
sweep:
  axes:
    factor: [1, 6666]
stages:
  corpus: {kind: words, with: {left: data/*.txt}}
  count: {kind: lines, inputs: {words: corpus}, with: {factor: \"${factor}\"}}
  twin: {kind: lines, inputs: {words: corpus}, with: {factor: 6666}}
  again: {kind: lines, inputs: {words: count}, with: {side: count.txt}}
  table: {kind: gather, inputs: {counts: {collect: again}}}
";

#[test]
fn descendants_are_blocked_and_the_rest_goes_on() {
    let project = Project::new(BEAST);
    let summary = project.run();
    let ended = outcomes(&summary);
    let of = |name: &str| ended.iter().find(|(instance, _)| instance == name).unwrap().1;
    assert_eq!(of("count@factor=6666"), Outcome::Failed);
    assert_eq!(of("twin"), Outcome::Blocked, "the one that stands for it failed");
    assert_eq!(of("again@factor=6666"), Outcome::Blocked);
    assert_eq!(of("again@factor=1"), Outcome::Executed);
    assert_eq!(of("table"), Outcome::Blocked);
    assert_eq!(counts(&summary), (3, 0, 0, 1, 3));
    let failed = summary
        .instances
        .iter()
        .find(|one| one.outcome == Outcome::Failed)
        .unwrap();
    assert!(
        failed
            .error
            .as_ref()
            .unwrap()
            .message
            .contains("the number of the beast"),
        "{:?}",
        failed.error
    );
    let table = summary.instances.iter().find(|one| one.instance == "table").unwrap();
    assert_eq!(
        table.because_of.as_deref(),
        Some("count@factor=6666"),
        "the first cause, not the last in line"
    );
}

#[test]
fn what_failed_is_tried_again_and_the_rest_is_not() {
    let project = Project::new(MANIFEST);
    project.toys.broken.store(true, Ordering::SeqCst);
    let mut events = Vec::new();
    let summary = project.watch(&mut |event| events.push(event));
    assert_eq!(counts(&summary), (1, 0, 0, 3, 1));
    let told = events.iter().any(|event| {
        matches!(event, Event::InstanceFailed { message, help, .. }
            if message == "`lines` is broken" && help.as_deref() == Some("mend it"))
    });
    assert!(told);
    assert!(matches!(
        events.last(),
        Some(Event::Finished {
            executed: 1,
            failed: 3,
            ..
        })
    ));

    project.toys.ran();
    project.toys.broken.store(false, Ordering::SeqCst);
    project.run_well();
    assert_eq!(
        project.toys.ran(),
        ["gather", "lines left 1", "lines left 2", "lines right 1"]
    );
}

#[test]
fn fail_fast_starts_nothing_new() {
    let mut project = Project::new(MANIFEST);
    project.toys.broken.store(true, Ordering::SeqCst);
    project.options.fail_fast = true;
    let summary = project.run();
    assert_eq!((summary.executed, summary.failed), (1, 1));
    assert_eq!(summary.blocked + summary.stopped, 3);
}

#[test]
fn an_input_that_is_gone_when_the_run_comes_to_it_fails_its_instance_and_names_the_pattern() {
    let project = Project::new(MANIFEST);
    let graph = project.graph();
    std::fs::remove_dir_all(project.path().join("data")).unwrap();
    assert_eq!(
        project.planned_of(&graph)[0],
        "corpus impossible: `left`: nothing matches `data/*.txt`"
    );
    let summary = project.watch_graph(&graph, &mut |_| {});
    assert_eq!(counts(&summary), (0, 0, 0, 1, 4));
    assert!(
        summary.instances[0]
            .error
            .as_ref()
            .unwrap()
            .message
            .contains("data/*.txt")
    );
}

#[test]
fn a_run_that_is_told_to_stop_starts_nothing_new_and_can_go_on() {
    let mut project = Project::new(MANIFEST);
    project.replace("{factor: \"${factor}\"}", "{factor: \"${factor}\", nap_ms: 20}");
    let cancel = std::sync::Arc::clone(&project.options.cancel);
    let summary = project.watch(&mut |event| {
        if matches!(&event, Event::InstanceStarted { kind, .. } if kind == "lines") {
            cancel.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!((summary.executed, summary.failed, summary.stopped), (1, 0, 4));
    assert!(!summary.is_success());

    project.options.cancel.store(false, Ordering::SeqCst);
    let summary = project.run_well();
    assert_eq!(counts(&summary), (4, 1, 0, 0, 0));
}

#[test]
fn an_input_that_changes_while_it_is_read_is_no_record() {
    let project = Project::new(
        "
stages:
  corpus: {kind: words, with: {left: data/*.txt}}
",
    );
    let path = project.path().join("data/b.txt");
    let summary = project.watch(&mut |event| {
        if matches!(event, Event::InstanceStarted { .. }) {
            std::fs::write(&path, "changed behind its back").unwrap();
        }
    });
    assert_eq!(summary.failed, 1);
    let message = &summary.instances[0].error.as_ref().unwrap().message;
    assert!(message.ends_with("changed while it was being read"), "{message}");
    assert!(project.cached("records").is_empty());
    project.run_well();
}
