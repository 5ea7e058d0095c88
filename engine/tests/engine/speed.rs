//! Nothing in planning is quadratic, and trivial instances cost little.

use std::time::Instant;

use crate::project::Project;

/// Four hundred cells: as many counts, and one table that gathers them.
const WIDE: &str = "
sweep:
  axes:
    factor: {$range: {from: 1, to: 400}}
stages:
  corpus: {kind: words, with: {left: data/*.txt}}
  count: {kind: lines, inputs: {words: corpus}, with: {factor: \"${factor}\"}}
  table: {kind: gather, inputs: {counts: {collect: count}}}
";

#[test]
fn four_hundred_instances() {
    let mut project = Project::new(WIDE);
    project.options.jobs = 2;
    let started = Instant::now();
    let summary = project.run_well();
    let ran = started.elapsed();
    assert!(summary.executed >= 400, "{}", summary.executed);
    let started = Instant::now();
    let plan = project.plan();
    let planned = started.elapsed();
    println!(
        "{} instances: run in {ran:?}, planned in {planned:?}",
        plan.instances.len()
    );
    assert_eq!(plan.counts.fresh, plan.instances.len());
    // Far above what it takes alone on a machine, far below what something quadratic would take.
    assert!(planned.as_secs_f64() < 5.0, "{planned:?}");
}
