//! Manifest + registry → [`Graph`]: every instance with its resolved settings, wires and axes, in topological order.
//!
//! Axes flow along the data: a stage has the axes that its settings and publish targets name plus those of the inputs it
//! reads, and its instances are the distinct projections of the cells on them. See [`Graph::build`].

mod build;
mod publish;
mod select;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;

pub(crate) use build::input_files;

use crate::axes::Glob;
use crate::kind::Resolved;
use crate::resources::Resources;

pub use select::SelectError;

/// The instances of a manifest, upstream first.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The manifest's `name`.
    pub name: String,
    /// The instances; an index into this list is an instance's number.
    pub instances: Vec<Instance>,
    /// How many cells the sweep has; one if there is no sweep.
    pub cells: usize,
    /// The patterns that values of axes come from, and what they found.
    pub(crate) globs: Vec<Glob>,
}

/// A stage at one projection of the cells.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The stage's name in the manifest.
    pub stage: String,
    /// The kind's name.
    pub kind: String,
    /// Axis → the value's name as text, only the axes this instance has, in the manifest's order.
    pub axes: IndexMap<String, String>,
    /// Settings with defaults filled in, the parts it reads and makes.
    pub resolved: Arc<Resolved>,
    /// Port → where its artifacts come from.
    pub wires: BTreeMap<String, Wire>,
    /// Input setting (`train`, or `field.key` for a map of paths) → paths or globs, relative to the project.
    pub files: BTreeMap<String, Vec<String>>,
    /// What to copy out of the artifact, and where to.
    pub publish: Vec<Publish>,
    /// What it needs while it runs.
    pub resources: Resources,
    /// How many cells of the sweep fall to it.
    pub cells: usize,
}

impl Instance {
    /// `model@architecture=bi_encoder,loss=bce,seed=42`, or just the stage's name if it has no axes.
    pub fn name(&self) -> String {
        instance_name(&self.stage, &self.axes)
    }

    /// The numbers of the instances that it reads from; one that is read at two ports comes twice.
    pub fn upstream(&self) -> impl Iterator<Item = usize> + '_ {
        self.wires.values().flat_map(Wire::sources).copied()
    }
}

pub(crate) fn instance_name(stage: &str, axes: &IndexMap<String, String>) -> String {
    if axes.is_empty() {
        return stage.to_owned();
    }
    let axes: Vec<String> = axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    format!("{stage}@{}", axes.join(","))
}

/// What is connected to a port.
#[derive(Clone, Debug)]
pub enum Wire {
    /// One artifact.
    One {
        /// The number of the instance that makes it.
        from: usize,
        /// The parts that are read.
        parts: Vec<String>,
    },
    /// The artifacts of `{collect: stage}`, in the order of the cells.
    Collect {
        /// The numbers of the instances that make them.
        from: Vec<usize>,
        /// The parts that are read of each.
        parts: Vec<String>,
    },
}

impl Wire {
    /// The numbers of the instances at the port.
    pub fn sources(&self) -> &[usize] {
        match self {
            Self::One { from, .. } => std::slice::from_ref(from),
            Self::Collect { from, .. } => from,
        }
    }

    /// The parts that are read of each.
    pub fn parts(&self) -> &[String] {
        match self {
            Self::One { parts, .. } | Self::Collect { parts, .. } => parts,
        }
    }
}

/// One `publish` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The part to copy; none for the whole artifact.
    pub part: Option<String>,
    /// Where to, relative to the project.
    pub target: PathBuf,
}
