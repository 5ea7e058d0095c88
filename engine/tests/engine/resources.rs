//! What an instance needs and may take: threads, memory, devices, time, further attempts.

use std::fs;
use std::time::{Duration, Instant};

use nerpipe_engine::{ErrorClass, Event, Outcome};

use crate::jobs::{heavy, program};
use crate::project::{Project, counts};

/// The most instances that ran at once.
fn most_at_once(events: &[Event]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for event in events {
        match event {
            Event::InstanceStarted { .. } => now += 1,
            Event::InstanceFinished { .. } | Event::InstanceFailed { .. } => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[test]
fn a_process_that_dies_is_tried_again_as_often_as_it_may_be() {
    let mut project = heavy(&["die_once"]);
    let message = project.run().instances[0].error.clone().unwrap();
    assert_eq!(message.class, ErrorClass::Died);

    fs::write(project.path().join("switch"), "on").unwrap();
    project.replace("{kind: heavy,", "{kind: heavy, resources: {retries: 2},");
    let mut events = Vec::new();
    let summary = project.watch(&mut |event| events.push(event));
    assert!(summary.is_success());
    let retried: Vec<&Event> = events
        .iter()
        .filter(|event| matches!(event, Event::InstanceRetried { .. }))
        .collect();
    let [
        Event::InstanceRetried {
            attempt: 2,
            attempts: 3,
            message,
            ..
        },
    ] = retried.as_slice()
    else {
        panic!("{retried:?}");
    };
    assert!(message.starts_with("its process was killed by signal 6"), "{message}");
    let log = fs::read_to_string(summary.instances[0].log.as_ref().unwrap()).unwrap();
    assert!(log.contains("; attempt 2 of 3 begins\n"), "{log}");
}

#[test]
fn a_stage_that_is_wrong_is_not_tried_again_and_retries_end() {
    for (task, attempts) in [("panic", 0), ("die", 2)] {
        let mut project = heavy(&[task]);
        project.options.retries = 2;
        let mut again = 0;
        let summary = project.watch(&mut |event| again += usize::from(matches!(event, Event::InstanceRetried { .. })));
        assert_eq!((summary.failed, again), (1, attempts), "{task}");
    }
}

#[test]
fn a_command_that_fails_is_tried_again() {
    let mut project = Project::new(
        "
stages:
  flaky:
    kind: command
    with: {run: 'mkdir COUNT/one || mkdir COUNT/two || touch \"$OUT/x\"; test -e \"$OUT/x\"'}
",
    );
    let count = project.folder().join("count");
    fs::create_dir(&count).unwrap();
    project.manifest = project.manifest.replace("COUNT", count.to_str().unwrap());
    project.options.program = Some(program(project.folder()));
    project.options.retries = 1;
    assert_eq!(project.run().failed, 1);
    project.run_well();
}

#[test]
fn what_takes_too_long_is_ended_with_all_it_started() {
    let mut project = heavy(&["wait"]);
    project
        .manifest
        .push_str("  sleeps: {kind: command, with: {run: 'sleep 60.25 & sleep 60.25'}, resources: {timeout: 300ms}}\n");
    project.options.jobs = 2;
    project.options.timeout = Some(Duration::from_millis(200));
    let started = Instant::now();
    let summary = project.run();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let error = |name: &str| {
        let instance = summary.instances.iter().find(|one| one.instance == name).unwrap();
        assert_eq!(instance.outcome, Outcome::Failed);
        instance.error.clone().unwrap()
    };
    assert_eq!(error("wait").message, "timed out after 200 ms");
    assert_eq!(
        error("sleeps").message,
        "timed out after 300 ms",
        "what the stage says goes before"
    );
    assert_eq!(error("sleeps").class, ErrorClass::TimedOut);
    let sleeping = fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments == b"sleep\x0060.25\x00"
    });
    assert!(!sleeping, "what the command started goes on");
}

#[test]
fn a_light_stage_that_takes_too_long_stops_where_it_looks() {
    let mut project = Project::new(
        "
stages:
  corpus: {kind: words, with: {left: data/*.txt}}
  count: {kind: lines, inputs: {words: corpus}, with: {nap_ms: 50}, resources: {timeout: 10ms}}
",
    );
    let summary = project.run();
    let error = summary.instances[1].error.as_ref().unwrap();
    assert_eq!(error.message, "timed out after 10 ms");
    project.replace("10ms", "10s");
    assert_eq!(counts(&project.run_well()), (1, 1, 0, 0, 0));
}

#[test]
fn devices_are_handed_out_one_instance_each() {
    let mut project = Project::new(
        "
sweep: {axes: {n: {$replicate: 6}}}
stages:
  use:
    kind: command
    with:
      run: >
        mkdir LOCKS/$CUDA_VISIBLE_DEVICES; sleep 0.05; rmdir LOCKS/$CUDA_VISIBLE_DEVICES;
        echo $CUDA_VISIBLE_DEVICES $NERPIPE_DEVICE ${n} > $OUT/x
    resources: {devices: 1}
  idle:
    kind: command
    with: {run: 'echo \"<$CUDA_VISIBLE_DEVICES> $NERPIPE_DEVICE\" > $OUT/x'}
",
    );
    let locks = project.folder().join("locks");
    fs::create_dir(&locks).unwrap();
    project.manifest = project.manifest.replace("LOCKS", locks.to_str().unwrap());
    project.options.program = Some(program(project.folder()));
    (project.options.jobs, project.options.devices) = (4, vec![2, 5]);
    let mut events = Vec::new();
    let summary = project.watch(&mut |event| events.push(event));
    for one in &summary.instances {
        assert!(one.error.is_none(), "two had one device: {:?}", one.error);
    }
    let texts: Vec<String> = (0..6)
        .map(|n| fs::read_to_string(project.object(&format!("use@n={n}"), "x")).unwrap())
        .collect();
    for device in ["2 cuda:0", "5 cuda:0"] {
        assert!(texts.iter().any(|text| text.starts_with(device)), "{texts:?}");
    }
    assert_eq!(fs::read_to_string(project.object("idle", "x")).unwrap(), "<> cpu\n");
    assert!(most_at_once(&events) >= 2);

    project.options.devices = vec![2, 2];
    project.replace("devices: 1", "devices: 2");
    let error = project.try_run(&project.graph(), &project.cache()).unwrap_err();
    assert_eq!(error.message, "`use@n=0` needs 2 devices, and the run has 1");
}

#[test]
fn a_limit_bounds_what_runs_side_by_side_across_stages() {
    let mut project = Project::new(
        "
vars: {most: 1}
sweep: {axes: {n: {$replicate: 3}}}
stages:
  fetch:
    kind: command
    with: {run: 'mkdir LOCK/x; sleep 0.1; rmdir LOCK/x; echo ${n} > \"$OUT/x\"'}
    resources: {limits: {site: \"${vars.most}\"}}
  push:
    kind: command
    with: {run: 'mkdir LOCK/x; sleep 0.1; rmdir LOCK/x; echo ${n}; touch \"$OUT/y\"'}
    resources: {limits: {site: \"${vars.most}\"}}
  other: {kind: command, with: {run: 'sleep 0.1; touch \"$OUT/z\"'}}
",
    );
    let lock = project.folder().join("lock");
    fs::create_dir(&lock).unwrap();
    project.manifest = project.manifest.replace("LOCK", lock.to_str().unwrap());
    project.options.program = Some(program(project.folder()));
    project.options.jobs = 4;
    let mut events = Vec::new();
    let summary = project.watch(&mut |event| events.push(event));
    for one in &summary.instances {
        assert!(one.error.is_none(), "two were at it at once: {:?}", one.error);
    }
    assert_eq!(
        (summary.executed, most_at_once(&events)),
        (7, 2),
        "and `other` beside one of them"
    );

    // Another limit changes no result, so nothing runs again; forced, as many run as it says.
    project.replace("most: 1", "most: 3");
    assert_eq!(counts(&project.run_well()), (0, 7, 0, 0, 0));
    project.manifest = project.manifest.replace("mkdir", "true").replace("rmdir", "true");
    let mut events = Vec::new();
    let summary = project.watch(&mut |event| events.push(event));
    assert!(
        summary.is_success() && most_at_once(&events) == 3,
        "{}",
        most_at_once(&events)
    );
    assert_eq!(
        serde_json::to_value(&project.show("fetch@n=0").record.unwrap().resources).unwrap(),
        serde_json::json!({"limits": {"site": 3}})
    );
}

#[test]
fn memory_that_earlier_runs_held_bounds_what_runs_side_by_side() {
    let mut project = Project::new(
        "
sweep: {axes: {n: {$replicate: 3}}}
stages:
  grow: {kind: heavy, with: {task: \"grow-${n}\"}}
",
    );
    project.options.program = Some(program(project.folder()));
    project.options.jobs = 3;
    project.run_well();
    project.options.force = true;
    // Each held 64 MiB and somewhat more.
    for (memory, most) in [(100 << 20, 1), (32 << 20, 1), (1 << 40, 3)] {
        project.options.memory = Some(memory);
        let mut events = Vec::new();
        let summary = project.watch(&mut |event| events.push(event));
        assert_eq!((summary.executed, most_at_once(&events)), (3, most), "{memory}");
        let alone = summary
            .instances
            .iter()
            .all(|one| one.warnings.iter().any(|warning| warning.ends_with("it runs alone")));
        assert_eq!(alone, memory == 32 << 20);
    }
}

#[test]
fn resources_are_kept_and_do_not_count() {
    let mut project = Project::new(
        "
vars: {long: 2h}
stages:
  corpus: {kind: words, with: {left: data/*.txt}}
",
    );
    project.run_well();
    project.replace(
        "data/*.txt}",
        "data/*.txt}, resources: {threads: 2, memory: 4G, timeout: \"${vars.long}\", retries: 1}",
    );
    assert_eq!(counts(&project.run_well()), (0, 1, 0, 0, 0));
    project.options.force = true;
    project.options.threads = 8;
    project.run_well();
    let record = project.show("corpus").record.unwrap();
    assert_eq!(
        serde_json::to_string(&record.resources).unwrap(),
        r#"{"threads":2,"memory":4294967296,"timeout":7200.0,"retries":1}"#
    );
}

#[test]
fn a_stage_that_would_fill_the_disk_is_not_begun() {
    let project = heavy(&["hoard"]);
    let error = project.run().instances[0].error.clone().unwrap();
    assert_eq!(error.class, ErrorClass::Machine);
    let message = error.message;
    assert!(
        message.starts_with("it may write 8388608.0 TiB, and ") && message.contains(" are free on the disk of `"),
        "{message}"
    );
}
