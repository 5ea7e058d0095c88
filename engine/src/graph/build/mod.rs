//! The expansion of stages into instances.
//!
//! Stages are taken upstream first. For one stage, every cell is projected on the axes that the stage's own text names;
//! for each projection, together with the instances that its inputs are in that cell, the kind resolves the settings
//! and says which inputs it reads. Only those give edges and axes. Cells that agree on all axes an instance then has
//! are one instance, and each cell remembers which instance it fell to: that is where the next stage finds its partner.
//!
//! In the order in which one stage is expanded: `inputs` says what it reads in each cell, `settings` what its text says there,
//! `resolve` what its kind makes of both, and `files` whether the paths lead to something.

mod files;
mod inputs;
mod resolve;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use serde_json::Value;

use super::{Graph, Instance, Wire, publish};
use crate::axes::{Cell, CellScope};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::inputs::Names;
use crate::interpolate::{BadReference, interpolate};
use crate::kind::{Kind, Locator, Registry, Resolved, StageError};
use crate::manifest::{Manifest, Stage, check};
use crate::source::ValuePath;

pub(crate) use files::input_files;
use inputs::Input;
pub(super) use resolve::silent;
use settings::{Written, own_axes};

/// Axis → value, both by index: the point that an instance stands on.
type Point = BTreeMap<usize, usize>;

impl Graph {
    /// Expands the stages of `manifest` into instances.
    ///
    /// ```
    /// use nerpipe_engine::{Graph, Manifest, Registry, command::Command};
    ///
    /// let registry = Registry::default().with(Command);
    /// let build = |text: &str| {
    ///     let manifest = Manifest::parse("m.yaml", text, ".".as_ref(), &[], &registry)?;
    ///     Graph::build(&manifest, &registry)
    /// };
    /// let graph = build("name: m\nsweep: {axes: {n: [1, 2]}}\nstages: {s: {kind: command, with: {run: 'seq ${n}'}}}").unwrap();
    /// assert_eq!(graph.instances[1].name(), "s@n=2");
    /// assert_eq!(graph.instances[1].resolved.settings["run"], "seq 2");
    ///
    /// let mistakes = build("name: m\nstages:\n  s: {kind: comand}\n  t: {kind: command, with: {rnu: x}}").unwrap_err();
    /// let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    /// assert_eq!(
    ///     told,
    ///     [
    ///         "m.yaml:3:13: unknown kind `comand`; did you mean `command`?",
    ///         "m.yaml:4:29: `command` has no setting `rnu`; did you mean `run`?",
    ///     ]
    /// );
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong with the manifest: what was found when it was read, and what only this finds: settings
    /// that a kind refuses, parts that an input does not offer, wrong or colliding publish targets, axes that no stage
    /// uses.
    pub fn build(manifest: &Manifest, registry: &Registry) -> Result<Self, Diagnostics> {
        let mut builder = Builder {
            manifest,
            instances: Vec::new(),
            points: Vec::new(),
            of_cell: HashMap::new(),
            found: manifest.found.clone(),
            missing: HashMap::new(),
            locator: registry.locator(),
            folders: publish::Folders::default(),
        };
        for stage in upstream_first(manifest) {
            // A stage with mistakes is not looked into further, nor are those that read from it; all others are.
            if let (false, Some(kind)) = (
                manifest.broken.contains(stage),
                registry.get(&manifest.stages[stage].kind),
            ) {
                builder.expand(stage, kind);
            }
        }
        builder.unused_axes();
        for collision in publish::collisions(manifest, &builder.instances) {
            builder.found.push(collision);
        }
        let Builder { instances, found, .. } = builder;
        found.or(Self {
            name: manifest.name.clone(),
            instances,
            cells: manifest.sweep.cells.len(),
            globs: manifest
                .sweep
                .axes
                .iter()
                .filter_map(|axis| axis.glob.clone())
                .collect(),
        })
    }
}

/// The stages with every stage behind its inputs, otherwise in the manifest's order.
fn upstream_first(manifest: &Manifest) -> Vec<&str> {
    let graph = check::stage_graph(manifest);
    let mut missing: Vec<usize> = graph
        .node_indices()
        .map(|node| graph.neighbors_directed(node, Direction::Incoming).count())
        .collect();
    let mut ready: BTreeSet<NodeIndex> = graph.node_indices().filter(|node| missing[node.index()] == 0).collect();
    let mut order = Vec::new();
    while let Some(node) = ready.pop_first() {
        order.push(graph[node]);
        for next in graph.neighbors(node) {
            missing[next.index()] -= 1;
            if missing[next.index()] == 0 {
                ready.insert(next);
            }
        }
    }
    order
}

struct Builder<'a> {
    manifest: &'a Manifest,
    instances: Vec<Instance>,
    /// The point of each instance.
    points: Vec<Point>,
    /// Stage → for each cell the number of its instance. A stage with errors is missing here.
    of_cell: HashMap<&'a str, Vec<usize>>,
    found: Diagnostics,
    /// (input setting, path or pattern, what its files are called) → why it leads to nothing; asked once each, however many instances read it.
    missing: HashMap<(String, String, Names), Option<StageError>>,
    locator: Option<&'a Locator>,
    folders: publish::Folders,
}

/// What the settings of an instance are resolved from: its axes' values, and the instances at its ports.
type ResolvedFrom = (Vec<Option<usize>>, Vec<usize>);

impl<'a> Builder<'a> {
    fn expand(&mut self, name: &'a str, kind: &dyn Kind) {
        let manifest = self.manifest;
        let stage = &manifest.stages[name];
        let Some(inputs) = self.inputs(name, stage) else { return };
        let before = self.found.len();
        let own_axes = own_axes(manifest, name, stage);

        let mut written: HashMap<Vec<Option<usize>>, Option<Arc<Written>>> = HashMap::new();
        let mut resolved: HashMap<ResolvedFrom, Option<Arc<Resolved>>> = HashMap::new();
        let mut numbers: HashMap<Point, (usize, Vec<usize>)> = HashMap::new();
        let mut of_cell = Vec::with_capacity(manifest.sweep.cells.len());
        for (index, cell) in manifest.sweep.cells.iter().enumerate() {
            let own: Vec<Option<usize>> = own_axes.iter().map(|axis| cell[*axis]).collect();
            let choices: Vec<usize> = inputs.iter().map(|input| input.of_cell[index]).collect();
            let written = written.entry(own.clone()).or_insert_with(|| {
                let written = self.write_out(name, stage, cell)?;
                self.locate(name, kind, written).map(Arc::new)
            });
            let Some(written) = written.clone() else { continue };
            let own_point: Point = own_axes.iter().filter_map(|axis| Some((*axis, cell[*axis]?))).collect();
            let resolved = resolved.entry((own, choices.clone())).or_insert_with(|| {
                self.resolve(name, kind, &written, &inputs, &choices, &own_point)
                    .map(Arc::new)
            });
            let Some(resolved) = resolved.clone() else { continue };

            let mut point = own_point;
            let mut read = Vec::new();
            for (input, choice) in inputs.iter().zip(&choices) {
                if resolved.reads.contains_key(input.port) {
                    point.extend(&input.choices[*choice].point);
                    read.push(*choice);
                }
            }
            if let Some((number, other)) = numbers.get(&point) {
                // Equal points have equal partners, or the kind let an input it does not read decide what it reads.
                if *other != read || !same(&self.instances[*number].resolved, &resolved) {
                    let instance = self.instances[*number].name();
                    let message = format!(
                        "`{instance}` would have two meanings: what `{}` reads depends on an input that it does not read",
                        kind.name()
                    );
                    let place = manifest.source.key(&ValuePath::from(["stages", name]));
                    self.found.push(Diagnostic::error(message).at(place));
                }
                self.instances[*number].cells += 1;
                of_cell.push(*number);
                continue;
            }
            let number = self.instances.len();
            let instance = self.instance(name, stage, kind, cell, &point, &resolved, &inputs, &choices);
            self.instances.push(instance);
            self.points.push(point.clone());
            numbers.insert(point, (number, read));
            of_cell.push(number);
        }
        if self.found.len() == before {
            self.of_cell.insert(name, of_cell);
        }
    }

    fn axes(&self, point: &Point) -> IndexMap<String, String> {
        let axes = &self.manifest.sweep.axes;
        point
            .iter()
            .map(|(axis, value)| (axes[*axis].name.clone(), axes[*axis].values[*value].name.clone()))
            .collect()
    }

    fn point_name(&self, stage: &str, point: &Point) -> String {
        super::instance_name(stage, &self.axes(point))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "it puts together what `expand` has found out about one instance"
    )]
    fn instance(
        &mut self,
        name: &str,
        stage: &Stage,
        kind: &dyn Kind,
        cell: &Cell,
        point: &Point,
        resolved: &Arc<Resolved>,
        inputs: &[Input<'_>],
        choices: &[usize],
    ) -> Instance {
        let mut wires = BTreeMap::new();
        for (input, choice) in inputs.iter().zip(choices) {
            let Some(parts) = resolved.reads.get(input.port) else {
                continue;
            };
            let from = &input.choices[*choice].from;
            let wire = match from.as_slice() {
                [from] if !input.collects => Wire::One {
                    from: *from,
                    parts: parts.clone(),
                },
                _ => Wire::Collect {
                    from: from.clone(),
                    parts: parts.clone(),
                },
            };
            wires.insert(input.port.to_owned(), wire);
        }
        let scope = CellScope {
            sweep: &self.manifest.sweep,
            vars: &self.manifest.vars,
            cell,
        };
        let mut targets = Vec::new();
        for entry in &stage.publish {
            match interpolate(&Value::String(entry.target.clone()), &scope) {
                Ok(Some(target)) => {
                    let target = crate::interpolate::scalar_text(&target).unwrap_or_default();
                    match publish::entry(self.manifest, entry, &target, &resolved.parts, &mut self.folders) {
                        Ok(target) => targets.push(target),
                        Err(diagnostic) => self.found.push(diagnostic),
                    }
                }
                // A target that is exactly one absent axis: this instance publishes nothing there.
                Ok(None) => {}
                Err(errors) => {
                    for BadReference {
                        text, message, help, ..
                    } in errors
                    {
                        let place = self.manifest.source.within(&entry.path, &text);
                        self.found.push(Diagnostic::error(message).at(place).maybe_help(help));
                    }
                }
            }
        }
        let files = self.files(name, kind, &resolved.settings);
        Instance {
            stage: name.to_owned(),
            kind: kind.name().to_owned(),
            axes: self.axes(point),
            resolved: Arc::clone(resolved),
            wires,
            files,
            publish: targets,
            resources: self.manifest.stages[name].resources.clone().or(kind.resources()),
            cells: 1,
        }
    }

    fn unused_axes(&mut self) {
        // Stages with errors may use the axes that look unused.
        if !self.found.is_empty() {
            return;
        }
        let used: BTreeSet<usize> = self.points.iter().flat_map(|point| point.keys().copied()).collect();
        let axes = self.manifest.sweep.axes.iter().enumerate();
        for (_, axis) in axes.filter(|(index, _)| !used.contains(index)) {
            let place = self
                .manifest
                .source
                .key(&ValuePath::from(["sweep", "axes", &axis.name]));
            let help = format!("name it in a setting, `${{{}}}`, or take it away", axis.name);
            self.found.push(
                Diagnostic::error(format!("no stage uses the axis `{}`", axis.name))
                    .at(place)
                    .help(help),
            );
        }
    }
}

/// Whether two resolutions are the same.
fn same(a: &Resolved, b: &Resolved) -> bool {
    a.settings == b.settings && a.reads == b.reads && a.parts == b.parts && a.told == b.told
}
