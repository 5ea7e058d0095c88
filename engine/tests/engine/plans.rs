//! What a plan says, and that it keeps its word.

use nerpipe_engine::Status;

use crate::project::{MANIFEST, Project};

#[test]
fn before_the_first_run_everything_is_stale_or_waits() {
    let project = Project::new(MANIFEST);
    assert_eq!(
        project.planned(),
        [
            "corpus stale: never ran",
            "count@factor=1 waits on corpus",
            "count@factor=2 waits on corpus",
            "test waits on corpus",
            "table waits on count@factor=1, count@factor=2",
        ]
    );
    assert!(project.toys.ran().is_empty());
    let plan = project.plan();
    assert_eq!((plan.counts.stale, plan.counts.waits), (1, 4));
    assert_eq!(plan.instances[4].cause.as_ref().unwrap().instance, "corpus");
}

#[test]
fn reasons_are_the_fields_that_differ_from_the_closest_past() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    assert!(project.planned().iter().all(|line| line.ends_with(" fresh")));
    assert!(project.plan().instances.iter().all(|one| one.seconds.is_some()));

    project.replace("factor: [1, 2]", "factor: [1, 2, 5]");
    project.replace("{side: right}", "{side: right, factor: 7}");
    let planned = project.planned();
    assert_eq!(planned[1], "count@factor=1 fresh");
    assert_eq!(
        planned[3], "count@factor=5 stale: settings.factor: 2 → 5",
        "compared with the latest of the others"
    );
    assert_eq!(planned[4], "test stale: settings.factor: 1 → 7");
    assert_eq!(planned[5], "table waits on count@factor=5");

    project.write("data/a.txt", "More\n");
    project.write("data/c.txt", "New\n");
    std::fs::remove_file(project.path().join("data/b.txt")).unwrap();
    let planned = project.planned();
    let (head, rest) = planned[0].split_once(':').unwrap();
    assert_eq!(head, "corpus stale");
    let fields: Vec<&str> = rest
        .split(';')
        .map(|reason| reason.trim().split_once(':').unwrap().0)
        .collect();
    assert_eq!(fields, ["files.left.a.txt", "files.left.b.txt", "files.left.c.txt"]);
}

#[test]
fn a_lost_record_is_said_to_be_lost() {
    let project = Project::new(MANIFEST);
    project.run_well();
    for record in project.cached("records") {
        std::fs::remove_file(record).unwrap();
    }
    assert_eq!(project.planned()[0], "corpus stale: its record is gone from the cache");
}

#[test]
fn show_knows_settings_files_and_bytes() {
    let project = Project::new(MANIFEST);
    let shown = project.show("test");
    assert!(shown.record.is_none() && shown.files.is_empty());
    project.run_well();
    let shown = project.show("test");
    assert_eq!(shown.planned.status, Status::Fresh);
    assert_eq!(shown.document.unwrap().settings["side"], "right");
    assert_eq!(shown.files.len(), 1);
    assert!(shown.files[0].present);
    assert_eq!(std::fs::read_to_string(&shown.files[0].path).unwrap(), "1\n");
    let record = shown.record.unwrap();
    assert_eq!((record.instance.as_str(), record.manifest.as_str()), ("test", "toys"));
    assert_eq!(project.show("corpus").record.unwrap().notes["left/a.txt"], 2);
}
