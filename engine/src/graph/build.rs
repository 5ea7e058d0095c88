//! The expansion of stages into instances.
//!
//! Stages are taken upstream first. For one stage, every cell is projected on the axes that the stage's own text names;
//! for each projection, together with the instances that its inputs are in that cell, the kind resolves the settings
//! and says which inputs it reads. Only those give edges and axes. Cells that agree on all axes an instance then has
//! are one instance, and each cell remembers which instance it fell to: that is where the next stage finds its partner.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use serde_json::{Map, Value};

use super::{Graph, Instance, Wire, publish};
use crate::artifact::EVERY_PART;
use crate::axes::{Assignment, Cell, CellScope};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::inputs::{Names, expand_one};
use crate::interpolate::{BadReference, interpolate, visit_templates};
use crate::kind::{InputParts, Kind, Locator, Registry, Resolved, SettingError, StageError};
use crate::manifest::{Connection, Manifest, Stage, check, with_path};
use crate::source::{ValuePath, split_setting_path};
use crate::suggest::did_you_mean;

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

/// What an input is, seen from all cells.
struct Input<'a> {
    port: &'a str,
    path: ValuePath,
    /// What it can be in some cell: one instance, or the instances that are gathered together.
    choices: Vec<Choice>,
    /// For each cell the index of its choice.
    of_cell: Vec<usize>,
    collects: bool,
}

struct Choice {
    /// Instance numbers, in the order of the cells.
    from: Vec<usize>,
    /// The axes that the reader gets from it.
    point: Point,
    /// The parts that all of them have.
    parts: Vec<String>,
    /// What all of them tell alike.
    told: BTreeMap<String, Value>,
}

/// The settings of a stage on one projection of its own axes, before the kind has seen them.
struct Written {
    settings: Map<String, Value>,
    /// The overrides that took effect, for the places of errors.
    assigned: Vec<usize>,
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

        let mut written: HashMap<Vec<Option<usize>>, Option<Rc<Written>>> = HashMap::new();
        let mut resolved: HashMap<ResolvedFrom, Option<Rc<Resolved>>> = HashMap::new();
        let mut numbers: HashMap<Point, (usize, Vec<usize>)> = HashMap::new();
        let mut of_cell = Vec::with_capacity(manifest.sweep.cells.len());
        for (index, cell) in manifest.sweep.cells.iter().enumerate() {
            let own: Vec<Option<usize>> = own_axes.iter().map(|axis| cell[*axis]).collect();
            let choices: Vec<usize> = inputs.iter().map(|input| input.of_cell[index]).collect();
            let written = written.entry(own.clone()).or_insert_with(|| {
                let written = self.write_out(name, stage, cell)?;
                self.locate(name, kind, written).map(Rc::new)
            });
            let Some(written) = written.clone() else { continue };
            let own_point: Point = own_axes.iter().filter_map(|axis| Some((*axis, cell[*axis]?))).collect();
            let resolved = resolved.entry((own, choices.clone())).or_insert_with(|| {
                self.resolve(name, kind, &written, &inputs, &choices, &own_point)
                    .map(Rc::new)
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

    /// The stage's inputs in all cells; none if one of them comes from a stage with errors.
    fn inputs(&mut self, name: &str, stage: &'a Stage) -> Option<Vec<Input<'a>>> {
        let mut inputs = Vec::new();
        for (port, connection) in &stage.inputs {
            let upstream = self.of_cell.get(connection.stage())?;
            let path = ValuePath::from(["stages", name, "inputs"]).child(port);
            let collects = matches!(connection, Connection::Collect { .. });
            // What is gathered together is what agrees on the axes that are not gathered.
            let kept = |number: usize| -> Option<Point> {
                match connection {
                    Connection::One { .. } => Some(self.points[number].clone()),
                    Connection::Collect { over: None, .. } => Some(Point::new()),
                    Connection::Collect { over: Some(over), .. } => {
                        let mut point = self.points[number].clone();
                        point.retain(|axis, _| !over.contains(&self.manifest.sweep.axes[*axis].name));
                        Some(point)
                    }
                }
            };
            if let Connection::Collect { over: Some(over), .. } = connection {
                let upstream_name = connection.stage();
                for (index, axis) in over.iter().enumerate() {
                    let has = |point: &Point| point.keys().any(|has| self.manifest.sweep.axes[*has].name == *axis);
                    if !upstream.iter().any(|number| has(&self.points[*number])) {
                        let message = format!("`{upstream_name}` does not have the axis `{axis}`");
                        let place = self.manifest.source.value(&path.child("over").child(index));
                        self.found.push(
                            Diagnostic::error(message)
                                .at(place)
                                .help("gather axes that its instances have"),
                        );
                    }
                }
            }
            let mut choices: IndexMap<(Option<usize>, Point), Choice> = IndexMap::new();
            let mut of_cell = Vec::with_capacity(upstream.len());
            for number in upstream {
                let point = kept(*number)?;
                let key = (if collects { None } else { Some(*number) }, point.clone());
                let entry = choices.entry(key);
                of_cell.push(entry.index());
                let choice = entry.or_insert_with(|| Choice {
                    from: Vec::new(),
                    point,
                    parts: Vec::new(),
                    told: BTreeMap::new(),
                });
                // A stage's numbers rise with the cells, but a cell may fall to an earlier instance again.
                if let Err(at) = choice.from.binary_search(number) {
                    choice.from.insert(at, *number);
                }
            }
            let mut choices: Vec<Choice> = choices.into_values().collect();
            for choice in &mut choices {
                let parts = |number: &usize| &self.instances[*number].resolved.parts;
                let common = |part: &&String| choice.from.iter().all(|number| parts(number).contains(part));
                choice.parts = choice
                    .from
                    .first()
                    .map(parts)
                    .into_iter()
                    .flatten()
                    .filter(common)
                    .cloned()
                    .collect();
                choice.told = choice
                    .from
                    .first()
                    .map(|first| self.instances[*first].resolved.told.clone())
                    .unwrap_or_default();
                choice.told.retain(|key, value| {
                    let told = |number: &usize| self.instances[*number].resolved.told.get(key);
                    choice.from.iter().all(|number| told(number) == Some(value))
                });
            }
            if let Some(part) = connection.part()
                && !self.only(part, connection, &path, &mut choices)
            {
                return None;
            }
            inputs.push(Input {
                port,
                path,
                choices,
                of_cell,
                collects,
            });
        }
        Some(inputs)
    }

    /// Leaves of what an input offers the one part that the manifest names; false if it is not always there.
    fn only(&mut self, part: &str, connection: &Connection, path: &ValuePath, choices: &mut [Choice]) -> bool {
        for choice in choices {
            if choice.parts.iter().any(|part| part == EVERY_PART) {
                let place = self.manifest.source.within(&connection.place(path), part);
                self.found.push(silent(connection.stage(), part).at(place));
                return false;
            }
            if !choice.parts.iter().any(|offered| offered == part) {
                let message = match (connection.stage(), part) {
                    (stage, "") => format!("no part is named behind `{stage}.`"),
                    (stage, part) => format!("`{stage}` has no part `{part}`"),
                };
                let place = self.manifest.source.within(&connection.place(path), part);
                let help = did_you_mean(part, choice.parts.iter().map(String::as_str));
                self.found.push(Diagnostic::error(message).at(place).maybe_help(help));
                return false;
            }
            choice.parts = vec![part.to_owned()];
        }
        true
    }

    /// The settings in `cell`, with overrides applied and `${…}` written out.
    fn write_out(&mut self, name: &str, stage: &Stage, cell: &Cell) -> Option<Written> {
        let manifest = self.manifest;
        let mut settings = stage.with.clone();
        let mut assigned = Vec::new();
        for (index, (holds, assignment)) in assignments(manifest, name, Some(cell)).enumerate() {
            if holds {
                assign(&mut settings, &assignment.setting, assignment.value.clone());
                assigned.push(index);
            }
        }
        let scope = CellScope {
            sweep: &manifest.sweep,
            vars: &manifest.vars,
            cell,
        };
        match interpolate(&Value::Object(settings), &scope) {
            Ok(Some(Value::Object(settings))) => Some(Written { settings, assigned }),
            // A map stays one.
            Ok(_) => None,
            Err(errors) => {
                for error in errors {
                    let path = self.setting_place(name, &assigned, &error.path);
                    let place = manifest.source.within(&path, &error.text);
                    self.found
                        .push(Diagnostic::error(error.message).at(place).maybe_help(error.help));
                }
                None
            }
        }
    }

    /// Puts paths in the place of names.
    fn locate(&mut self, name: &str, kind: &dyn Kind, mut written: Written) -> Option<Written> {
        let Some(locator) = self.locator else {
            return Some(written);
        };
        let mut wrong = Vec::new();
        for (setting, value) in &mut written.settings {
            let Value::String(text) = value else { continue };
            if !kind.takes_names(setting, text) || self.manifest.project.join(&*text).exists() {
                continue;
            }
            match locator(text) {
                Ok(Some(path)) => *text = path.to_string_lossy().into_owned(),
                Ok(None) => {}
                Err(error) => {
                    let refused = SettingError::new(setting.as_str(), error.message);
                    wrong.push(match error.help {
                        Some(help) => refused.help(help),
                        None => refused,
                    });
                }
            }
        }
        if wrong.is_empty() {
            return Some(written);
        }
        for error in wrong {
            self.bad_setting(name, &written, &Point::new(), error);
        }
        None
    }

    /// Where the setting at `steps` below `with` is written: in the stage, or in the last override that set it.
    fn setting_place(&self, name: &str, assigned: &[usize], steps: &[String]) -> ValuePath {
        let all: Vec<&Assignment> = assignments(self.manifest, name, None)
            .map(|(_, assignment)| assignment)
            .collect();
        let by_override = assigned
            .iter()
            .rev()
            .map(|index| all[*index])
            .find(|item| steps.starts_with(&item.setting));
        match by_override {
            Some(assignment) => assignment.path.join(&steps[assignment.setting.len()..]),
            None => with_path(name).join(steps),
        }
    }

    fn resolve(
        &mut self,
        name: &str,
        kind: &dyn Kind,
        written: &Written,
        inputs: &[Input<'_>],
        choices: &[usize],
        own: &Point,
    ) -> Option<Resolved> {
        let chosen = || {
            inputs
                .iter()
                .zip(choices)
                .map(|(input, choice)| (input, &input.choices[*choice]))
        };
        for (input, choice) in chosen() {
            // A kind that takes one type of artifact looks for its parts by name.
            let is_typed = check::port_of(kind, input.port).is_some_and(|port| port.takes != "*");
            if is_typed && choice.parts.iter().any(|part| part == EVERY_PART) {
                let from = self.manifest.stages[name].inputs[input.port].stage();
                let message = format!("`{from}` does not say which parts it makes");
                let place = self.manifest.source.value(&input.path);
                let help = "add them to its `with`, such as `parts: [train, test]`";
                self.found.push(Diagnostic::error(message).at(place).help(help));
                return None;
            }
        }
        let offered = InputParts {
            ports: chosen()
                .map(|(input, choice)| (input.port.to_owned(), choice.parts.clone()))
                .collect(),
            told: chosen()
                .map(|(input, choice)| (input.port.to_owned(), choice.told.clone()))
                .collect(),
        };
        let resolved = match kind.resolve(&Value::Object(written.settings.clone()), &offered) {
            Ok(resolved) => resolved,
            Err(error) => {
                self.bad_settings(name, kind, written, own, &offered, error);
                return None;
            }
        };
        let mut complete = true;
        // Whoever reads from it was checked against the type as it is written.
        if kind.type_of(&resolved.settings) != kind.type_of(&self.manifest.stages[name].with) {
            let message = format!("the type of what `{name}` makes cannot differ between instances");
            let place = self.manifest.place_of_setting(name, "type");
            let help = "write it as it is, without `${…}` and not in an override";
            self.found.push(Diagnostic::error(message).at(place).help(help));
            complete = false;
        }
        for (port, parts) in &resolved.reads {
            let Some((input, choice)) = chosen().find(|(input, _)| input.port == port) else {
                let message = format!("`{}` needs the input `{port}` with these settings", kind.name());
                let place = self.manifest.source.key(&ValuePath::from(["stages", name, "inputs"]));
                self.found.push(
                    Diagnostic::error(message)
                        .at(place)
                        .help(format!("add `{port}: stage` to `inputs`")),
                );
                complete = false;
                continue;
            };
            let offers = |part: &&String| choice.parts.contains(part) || *part == EVERY_PART;
            for part in parts.iter().filter(|part| !offers(part)) {
                if choice.parts.iter().any(|part| part == EVERY_PART) {
                    let from = self.manifest.stages[name].inputs[port].stage();
                    let place = self.manifest.source.value(&input.path);
                    self.found.push(silent(from, part).at(place));
                    complete = false;
                    continue;
                }
                let upstream = choice
                    .from
                    .first()
                    .map_or(String::new(), |number| self.instances[*number].name());
                let named = self.manifest.stages[name].inputs[port].part();
                let upstream = named.map_or(upstream.clone(), |part| format!("{upstream}.{part}"));
                let message = format!(
                    "`{}` reads the part `{part}`, which `{upstream}` does not have",
                    kind.name()
                );
                let help = did_you_mean(part, choice.parts.iter().map(String::as_str));
                let place = self.manifest.source.value(&input.path);
                self.found.push(Diagnostic::error(message).at(place).maybe_help(help));
                complete = false;
            }
        }
        complete.then_some(resolved)
    }

    /// Reports a setting that the kind refused, and those it refuses when that one is left out: a kind stops at the first.
    fn bad_settings(
        &mut self,
        name: &str,
        kind: &dyn Kind,
        written: &Written,
        own: &Point,
        offered: &InputParts,
        error: SettingError,
    ) {
        let mut rest = written.settings.clone();
        let mut error = Some(error);
        while let Some(wrong) = error.take() {
            let setting = split_setting_path(&wrong.path).into_iter().next();
            self.bad_setting(name, written, own, wrong);
            if setting.is_none_or(|setting| rest.shift_remove(&setting).is_none()) {
                return;
            }
            // What is only wrong because a setting was left out is not the author's mistake.
            let is_written = |error: &SettingError| {
                let first = split_setting_path(&error.path).into_iter().next();
                first.is_some_and(|first| rest.contains_key(&first))
            };
            error = match kind.resolve(&Value::Object(rest.clone()), offered) {
                Ok(resolved) => {
                    self.files(name, kind, &resolved.settings);
                    None
                }
                Err(error) => Some(error).filter(is_written),
            };
        }
    }

    fn bad_setting(&mut self, name: &str, written: &Written, own: &Point, error: SettingError) {
        let steps = split_setting_path(&error.path);
        let path = match steps.split_first() {
            Some((first, rest)) if first == "inputs" => ValuePath::from(["stages", name, "inputs"]).join(rest),
            _ => self.setting_place(name, &written.assigned, &steps),
        };
        let source = &self.manifest.source;
        // The whole of `with` is not wrong where one setting is missing from it, so that is marked at its key.
        let mut diagnostic = Diagnostic::error(error.message)
            .at(source.value(&path))
            .maybe_help(error.help);
        let first = steps.first().and_then(|step| written.settings.get(step));
        let value = first.and_then(|first| {
            steps[1..].iter().try_fold(first, |value, step| match value {
                Value::Array(list) => step.parse::<usize>().ok().and_then(|index| list.get(index)),
                value => value.get(step),
            })
        });
        let mut labels = Vec::new();
        if let (Some(value), Some(place)) = (value, &diagnostic.place)
            && place.marked().contains("${")
        {
            labels.push(format!("here `{value}`"));
        }
        if !own.is_empty() {
            labels.push(format!("in `{}`", self.point_name(name, own)));
        }
        if !labels.is_empty() {
            diagnostic = diagnostic.label(labels.join(" "));
        }
        self.found.push(diagnostic);
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
        resolved: &Resolved,
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
            resolved: resolved.clone(),
            wires,
            files,
            publish: targets,
            resources: self.manifest.stages[name].resources.or(kind.resources()),
            cells: 1,
        }
    }

    /// The paths of the input settings; each must lead to something, so that no run ends at a misspelt file.
    fn files(&mut self, name: &str, kind: &dyn Kind, settings: &Map<String, Value>) -> BTreeMap<String, Vec<String>> {
        let mut files = BTreeMap::new();
        for field in kind.fields().iter().filter(|field| field.class.names_files()) {
            let value = settings.get(field.name).unwrap_or(&Value::Null);
            let mut paths = BTreeMap::new();
            if let Err(path) = input_files(field.name, value, &mut paths) {
                let message = format!("`{path}` must be a path or a pattern, a list of them, or a map of them");
                let place = self.manifest.place_of_setting(name, &path);
                self.found.push(Diagnostic::error(message).at(place));
            }
            for (setting, paths) in &paths {
                for (index, path) in paths.iter().enumerate() {
                    // The path of a list's item, unless the setting is a single path.
                    let place = self.manifest.place_of_setting(name, &format!("{setting}[{index}]"));
                    self.look_for(setting, path, Names::of(Some(field.class)), place);
                }
            }
            files.extend(paths);
        }
        files
    }

    /// Reports a path that leads to nothing.
    fn look_for(&mut self, setting: &str, path: &str, names: Names, place: Place) {
        let project = &self.manifest.project;
        let reason = self
            .missing
            .entry((setting.to_owned(), path.to_owned(), names))
            .or_insert_with(|| expand_one(project, setting, path, names).err());
        if let Some(reason) = reason {
            let diagnostic = Diagnostic::error(&reason.message).at(place);
            self.found.push(diagnostic.maybe_help(reason.help.clone()));
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

/// `stage` was asked for `part` and tells none of its parts before it ran.
pub(super) fn silent(stage: &str, part: &str) -> Diagnostic {
    Diagnostic::error(format!("`{stage}` does not say that it makes the part `{part}`"))
        .help(format!("add `parts: [{part}]`, with all others, to its `with`"))
}

/// Whether two resolutions are the same.
fn same(a: &Resolved, b: &Resolved) -> bool {
    a.settings == b.settings && a.reads == b.reads && a.parts == b.parts && a.told == b.told
}

/// The axes that the stage's own text names: settings, publish targets, and overrides of it with their conditions.
fn own_axes(manifest: &Manifest, name: &str, stage: &Stage) -> Vec<usize> {
    let mut axes = BTreeSet::new();
    let mut note = |value: &Value| {
        visit_templates(value, &mut Vec::new(), &mut |_, template| {
            let Ok(template) = template else { return };
            axes.extend(
                template
                    .references()
                    .filter_map(|reference| manifest.sweep.axis(reference.axis()?)),
            );
        });
    };
    for value in stage.with.values() {
        note(value);
    }
    for entry in &stage.publish {
        note(&Value::String(entry.target.clone()));
    }
    for (_, assignment) in assignments(manifest, name, None) {
        note(&assignment.value);
    }
    for item in &manifest.sweep.overrides {
        if item.set.iter().any(|assignment| assignment.stage == name) {
            axes.extend(item.when.axes());
        }
    }
    axes.into_iter().collect()
}

/// All assignments of overrides to `stage`, in order, each with whether it holds in `cell`.
fn assignments<'a>(
    manifest: &'a Manifest,
    stage: &'a str,
    cell: Option<&'a Cell>,
) -> impl Iterator<Item = (bool, &'a Assignment)> {
    manifest.sweep.overrides.iter().flat_map(move |item| {
        let holds = cell.is_some_and(|cell| item.when.holds(cell));
        item.set
            .iter()
            .filter(move |assignment| assignment.stage == stage)
            .map(move |assignment| (holds, assignment))
    })
}

/// Puts `value` at `steps`, making maps on the way.
fn assign(settings: &mut Map<String, Value>, steps: &[String], value: Value) {
    match steps {
        [] => {}
        [last] => {
            settings.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = settings.entry(first.clone()).or_insert(Value::Null);
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                assign(inner, rest, value);
            }
        }
    }
}

/// Collects the paths of an input setting under `name`, or `name.key` for a map.
pub(crate) fn input_files(name: &str, value: &Value, files: &mut BTreeMap<String, Vec<String>>) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::String(path) => {
            files.insert(name.to_owned(), vec![path.clone()]);
        }
        Value::Array(items) => {
            let mut paths = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                paths.push(item.as_str().ok_or(format!("{name}[{index}]"))?.to_owned());
            }
            files.insert(name.to_owned(), paths);
        }
        Value::Object(map) if !name.contains('.') => {
            for (key, value) in map {
                input_files(&format!("{name}.{key}"), value, files)?;
            }
        }
        _ => return Err(name.to_owned()),
    }
    Ok(())
}
