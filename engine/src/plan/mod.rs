//! What a run would do and why; nothing is run.
//!
//! A `survey` has all instances judged. [`plan()`] tells what would happen to each, [`show()`] all that is known of one, and
//! [`explain()`] what differs from an earlier record.

mod explain;
mod show;
mod survey;

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Serialize;

use crate::cache::Cache;
use crate::fingerprint::Fingerprint;
use crate::graph::Graph;
use crate::judge::Reason;
use crate::kind::{Registry, StageError};
use crate::publish::Publisher;
use survey::Survey;

pub use explain::{Explained, Past, Unknown, explain};
pub use show::{Shown, ShownFile, show};

/// What a run would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The manifest's name.
    pub manifest: String,
    /// How many cells the sweep has; one if there is no sweep.
    pub cells: usize,
    /// How many instances there are of each status.
    pub counts: Counts,
    /// How long what would run took in earlier runs, one after the other.
    pub expected: Expected,
    /// The stages, upstream first.
    pub stages: Vec<PlannedStage>,
    /// The instances, upstream first, in the graph's order.
    pub instances: Vec<Planned>,
}

impl Plan {
    /// Whether a run would do nothing: run no instance and publish nothing.
    pub fn is_nothing(&self) -> bool {
        let counts = self.counts;
        counts.stale + counts.waits + counts.impossible == 0 && self.instances.iter().all(|one| one.repairs.is_empty())
    }
}

/// What would happen to the instances of one stage.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStage {
    /// The stage.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// The axes that its instances have, in the manifest's order.
    pub axes: Vec<String>,
    /// How many cells fall to its instances.
    pub cells: usize,
    /// How many instances it has.
    pub instances: usize,
    /// How many there are of each status.
    pub counts: Counts,
    /// How long what would run took in earlier runs.
    pub expected: Expected,
}

/// The time that instances which would run took in earlier runs: each the last time, or else the one of its stage whose axis
/// values agree most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Expected {
    /// The sum, in seconds.
    pub seconds: f64,
    /// How many instances it is made of.
    pub known: usize,
    /// How many more would run of which no time is known.
    pub unknown: usize,
}

impl Expected {
    fn add(&mut self, planned: &Planned) {
        if !matches!(planned.status, Status::Stale { .. } | Status::Waits { .. }) {
            return;
        }
        match planned.seconds {
            Some(seconds) => {
                self.seconds += seconds;
                self.known += 1;
            }
            None => self.unknown += 1,
        }
    }
}

/// How many instances of a plan have which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Found in the cache.
    pub fresh: usize,
    /// Must run.
    pub stale: usize,
    /// May have to run, depending on what those upstream make.
    pub waits: usize,
    /// Another instance stands for them.
    pub shared: usize,
    /// Cannot run.
    pub impossible: usize,
}

impl Counts {
    fn add(&mut self, status: &Status) {
        *match status {
            Status::Fresh => &mut self.fresh,
            Status::Stale { .. } => &mut self.stale,
            Status::Waits { .. } => &mut self.waits,
            Status::Shared { .. } => &mut self.shared,
            Status::Impossible { .. } => &mut self.impossible,
        } += 1;
    }
}

/// What would happen to one instance.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Its number in the graph.
    pub number: usize,
    /// Its name, such as `model@loss=bce`.
    pub instance: String,
    /// Its stage.
    pub stage: String,
    /// The stage's kind.
    pub kind: String,
    /// Axis → value.
    pub axes: IndexMap<String, String>,
    /// What would happen.
    pub status: Status,
    /// The fingerprint, as soon as it is known.
    pub fingerprint: Option<Fingerprint>,
    /// The first cause of a run: the stale instance at the root, which may be this one, and its first reason.
    pub cause: Option<Cause>,
    /// How long it took the last time, in seconds.
    pub seconds: Option<f64>,
    /// Targets that would be published to without running anything.
    pub repairs: Vec<PathBuf>,
}

/// What would happen to an instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Nothing: it is in the cache.
    Fresh,
    /// It runs.
    Stale {
        /// Every difference that makes it run.
        reasons: Vec<Reason>,
    },
    /// It runs if one of these makes something new.
    Waits {
        /// Their names.
        on: Vec<String>,
    },
    /// Another instance with the same fingerprint stands for it.
    Shared {
        /// Its name.
        with: String,
    },
    /// It cannot run.
    Impossible {
        /// What is wrong.
        message: String,
        /// What the user can do.
        help: Option<String>,
    },
}

/// Where a change begins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// The instance.
    pub instance: String,
    /// Its first reason.
    pub reason: Reason,
}

/// What a run of `graph` would do. `project` is the folder that paths in the manifest are relative to; `selected`
/// restricts the plan to these instances and what they need.
///
/// ```
/// use nerpipe_engine::{Cache, Graph, Manifest, Registry, RunOptions, command::Command, plan, run};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let project = folder.path();
/// let registry = Registry::default().with(Command);
/// let text = "name: m\nstages: {s: {kind: command, with: {run: 'seq 3 > \"$OUT/n\"'}}}";
/// let graph = Graph::build(&Manifest::parse("m.yaml", text, project, &[], &registry)?, &registry)?;
/// let cache = Cache::open(&project.join("cache"))?;
/// let before = plan(&graph, &registry, &cache, project, None)?;
/// assert_eq!((before.counts.stale, before.is_nothing()), (1, false));
/// assert_eq!(before.instances[0].cause.as_ref().unwrap().reason.to_string(), "never ran");
/// run(&graph, &registry, &cache, project, &RunOptions::default(), &mut |_| {})?;
/// assert!(plan(&graph, &registry, &cache, project, None)?.is_nothing());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If a file of the cache cannot be read. What is wrong with one instance is its status, not an error.
pub fn plan(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    selected: Option<&[usize]>,
) -> Result<Plan, StageError> {
    let mut survey = Survey::new(graph, registry, cache, project, selected, &[]);
    let publisher = Publisher::open(cache, project, false)?;
    publisher.check(graph)?;
    survey.remake_missing_bytes(&publisher)?;
    let mut plan = Plan {
        manifest: graph.name.clone(),
        cells: graph.cells,
        counts: Counts::default(),
        expected: Expected::default(),
        stages: Vec::new(),
        instances: Vec::new(),
    };
    for (number, cause) in survey.causes().into_iter().enumerate() {
        if survey.judged[number].is_none() {
            continue;
        }
        let planned = survey.planned(number, cause, &publisher)?;
        let instance = &graph.instances[number];
        // A stage's instances stand side by side.
        if plan.stages.last().is_none_or(|last| last.stage != instance.stage) {
            plan.stages.push(PlannedStage {
                stage: instance.stage.clone(),
                kind: instance.kind.clone(),
                axes: Vec::new(),
                cells: 0,
                instances: 0,
                counts: Counts::default(),
                expected: Expected::default(),
            });
        }
        if let Some(stage) = plan.stages.last_mut() {
            for axis in instance
                .axes
                .keys()
                .filter(|axis| !stage.axes.contains(axis))
                .cloned()
                .collect::<Vec<_>>()
            {
                stage.axes.push(axis);
            }
            stage.cells += instance.cells;
            stage.instances += 1;
            stage.counts.add(&planned.status);
            stage.expected.add(&planned);
        }
        plan.counts.add(&planned.status);
        plan.expected.add(&planned);
        plan.instances.push(planned);
    }
    cache.save_stat()?;
    Ok(plan)
}
