//! What is in the cache, and what gc takes away.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use nerpipe_engine::Reason;
use nerpipe_engine::cache::{GcOptions, Swept};

use crate::project::{MANIFEST, Project, counts};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn gc(project: &Project, options: GcOptions) -> Swept {
    project.cache().gc(&options, &AtomicBool::new(false), || {}).unwrap()
}

fn age(path: &Path, by: Duration) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

fn instances(swept: &Swept) -> Vec<&str> {
    swept.records.iter().map(|record| record.instance.as_str()).collect()
}

/// All files of the cache that gc may touch.
fn everything(project: &Project) -> Vec<std::path::PathBuf> {
    ["objects", "records", "steps", "logs", "unfinished"]
        .iter()
        .flat_map(|name| project.cached(name))
        .collect()
}

#[test]
fn a_cache_that_is_in_use_loses_nothing() {
    let project = Project::new(MANIFEST);
    project.run_well();
    let before = everything(&project);
    for options in [
        GcOptions::default(),
        GcOptions {
            keep: Some(30 * DAY),
            unreferenced: true,
            max_size: Some(u64::MAX),
            dry_run: false,
        },
    ] {
        let swept = gc(&project, options);
        assert_eq!((swept.freed, swept.records.len(), swept.objects.count), (0, 0, 0));
    }
    assert_eq!(everything(&project), before);
    assert_eq!(counts(&project.run_well()).0, 0);
}

#[test]
fn what_was_not_used_for_long_goes_and_a_run_that_finds_it_counts_as_use() {
    let project = Project::new(MANIFEST);
    project.run_well();
    for path in project.cached("records").iter().chain(&project.cached("steps")) {
        age(path, 40 * DAY);
    }
    let keep = GcOptions {
        keep: Some(30 * DAY),
        ..GcOptions::default()
    };
    let dry = gc(
        &project,
        GcOptions {
            dry_run: true,
            ..keep.clone()
        },
    );
    assert_eq!(dry.records.len(), 5);
    assert!(dry.freed > 0 && dry.dry_run);
    assert_eq!(project.cached("records").len(), 5, "a dry run removes nothing");

    assert_eq!(counts(&project.run_well()), (0, 5, 0, 0, 0));
    assert!(gc(&project, keep.clone()).records.is_empty(), "the run found them");

    for path in project.cached("records").iter().chain(&project.cached("steps")) {
        age(path, 40 * DAY);
    }
    let swept = gc(&project, keep);
    assert_eq!((swept.left, dry.left), (0, 0));
    assert_eq!(everything(&project), Vec::<std::path::PathBuf>::new());
    assert_eq!(counts(&project.run_well()).0, 5, "all of it is made again");
}

#[test]
fn records_of_settings_that_were_changed_since_are_unreferenced() {
    let mut project = Project::new(MANIFEST);
    project.run_well();
    project.replace("{side: right}", "{side: right, factor: 7}");
    project.run_well();
    let inventory = project.cache().inventory().unwrap();
    let old: Vec<&str> = inventory
        .records
        .iter()
        .filter(|record| !record.latest)
        .map(|record| record.instance.as_str())
        .collect();
    assert_eq!(old, ["test"]);
    assert!(gc(&project, GcOptions::default()).records.is_empty());
    let swept = gc(
        &project,
        GcOptions {
            unreferenced: true,
            ..GcOptions::default()
        },
    );
    assert_eq!(instances(&swept), ["test"]);
    assert_eq!(project.cache().inventory().unwrap().records.len(), 5);
    assert_eq!(counts(&project.run_well()).0, 0);
}

#[test]
fn to_a_size_the_bytes_used_least_recently_go_and_their_records_stay() {
    let project = Project::new(MANIFEST);
    project.run_well();
    let records = project.cached("records");
    for path in records.iter().chain(&project.cached("steps")) {
        let holds = |name: &str| std::fs::read_to_string(path).unwrap().contains(name);
        // The corpus and its steps are the oldest.
        age(path, if holds("\"kind\":\"words\"") { 9 * DAY } else { DAY });
    }
    let all = project.cache().usage().unwrap().bytes;
    let swept = gc(
        &project,
        GcOptions {
            max_size: Some(all - 1),
            ..GcOptions::default()
        },
    );
    assert!(swept.left < all && swept.left + swept.freed == all, "{swept:?}");
    assert!(swept.records.is_empty());
    assert_eq!(project.cache().usage().unwrap().bytes, swept.left);
    assert_eq!(project.cached("records"), records);
    assert_eq!(counts(&project.run_well()), (0, 5, 0, 0, 0), "nothing needs the bytes");

    let nothing = gc(
        &project,
        GcOptions {
            max_size: Some(0),
            ..GcOptions::default()
        },
    );
    let emptied = swept.emptied.iter().chain(&nothing.emptied);
    let emptied: std::collections::BTreeSet<&str> = emptied.map(|record| record.instance.as_str()).collect();
    assert_eq!(emptied.len(), 5, "{nothing:?}");
    assert!(project.cached("objects").is_empty());
    let mut project = project;
    project.replace("{side: right}", "{side: right, factor: 7}");
    let plan = project.plan();
    let why = |name: &str| match &plan.instances.iter().find(|one| one.instance == name).unwrap().status {
        nerpipe_engine::Status::Stale { reasons } => reasons.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        why("corpus"),
        [Reason::BytesGone {
            needed_by: "`test`".to_owned()
        }]
    );
    assert_eq!(counts(&project.run_well()).0, 2, "the corpus for `test`, and `test`");
}

#[test]
fn what_nothing_refers_to_always_goes() {
    let project = Project::new(MANIFEST);
    project.run_well();
    let record = &project.cached("records")[0];
    std::fs::write(record, "{").unwrap();
    let orphan = project.cache_path().join("v1/objects/00").join("1".repeat(62));
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, "half").unwrap();
    let usage = project.cache().usage().unwrap();
    assert!(usage.unreferenced.count >= 1 && usage.unreferenced.bytes >= 4);
    let swept = gc(&project, GcOptions::default());
    assert!(!orphan.exists() && !record.exists());
    assert!(swept.objects.count >= 1 && swept.records.is_empty());
    assert_eq!(counts(&project.run_well()).4, 0);
}

#[test]
fn while_a_run_lives_gc_does_not_begin() {
    let project = Project::new(MANIFEST);
    project.run_well();
    let mut said = Vec::new();
    let all = GcOptions {
        max_size: Some(0),
        ..GcOptions::default()
    };
    project.watch(&mut |event| {
        if matches!(event, nerpipe_engine::Event::Started { .. }) {
            // Another opening of the cache is to the operating system as another process.
            let cache = project.cache();
            said.push(cache.gc(&all, &AtomicBool::new(false), || {}).unwrap_err().message);
            assert!(
                cache
                    .gc(
                        &GcOptions {
                            dry_run: true,
                            ..all.clone()
                        },
                        &AtomicBool::new(false),
                        || {}
                    )
                    .is_ok()
            );
        }
    });
    assert_eq!(said, ["a run uses the cache; nothing was removed"]);
    assert!(gc(&project, all).freed > 0);
}

#[test]
fn usage_is_told_by_kind_and_manifest() {
    let project = Project::new(MANIFEST);
    project.run_well();
    let usage = project.cache().usage().unwrap();
    let kinds: Vec<(&str, usize)> = usage
        .kinds
        .iter()
        .map(|kind| (kind.kind.as_str(), kind.records))
        .collect();
    let mut sorted = kinds.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [("gather", 1), ("lines", 3), ("words", 1)]);
    let manifest = &usage.manifests[0];
    assert_eq!((manifest.manifest.as_str(), manifest.records), ("toys", 5));
    assert_eq!(manifest.bytes, manifest.alone);
    assert_eq!(usage.unreferenced.count, 0);
}
