//! Checks that need the registry and no instance: do all the names in a manifest mean something?

use std::collections::BTreeMap;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use super::reader::Reader;
use super::{Connection, Manifest, Stage, with_path};
use crate::axes::CellScope;
use crate::interpolate::{BadReference, Reference, Template, visit_templates};
use crate::kind::{Kind, Port, Registry};
use crate::source::ValuePath;
use crate::suggest::{did_you_mean, nearest};

pub(super) fn check(manifest: &Manifest, registry: &Registry, reader: &mut Reader<'_>) {
    // Stages that are broken in themselves are not in `manifest.stages`; nobody should hear that they do not exist.
    let declared: Vec<String> = manifest
        .source
        .root()
        .get("stages")
        .and_then(Value::as_object)
        .map(|stages| stages.keys().cloned().collect())
        .unwrap_or_default();
    for (name, stage) in &manifest.stages {
        let path = ValuePath::from(["stages", name]);
        let kind = registry.get(&stage.kind);
        match kind {
            Some(kind) => {
                check_settings(kind, stage.with.keys(), &with_path(name), reader);
                check_ports(manifest, registry, kind, stage, &path, reader);
            }
            None => {
                let help = did_you_mean(&stage.kind, registry.names());
                reader.bad_value(&path.child("kind"), format!("unknown kind `{}`", stage.kind), help);
            }
        }
        for (port, connection) in &stage.inputs {
            let upstream = connection.stage();
            if !declared.iter().any(|declared| declared == upstream) {
                let place = connection.place(&path.child("inputs").child(port));
                let help = did_you_mean(
                    upstream,
                    declared.iter().map(String::as_str).filter(|other| other != name),
                );
                reader.bad_value(&place, format!("there is no stage `{upstream}`"), help);
            }
            if let Connection::Collect { over: Some(over), .. } = connection {
                for (index, axis) in over
                    .iter()
                    .enumerate()
                    .filter(|(_, axis)| !manifest.sweep.declares(axis))
                {
                    let help = did_you_mean(axis, manifest.sweep.axes.iter().map(|axis| axis.name.as_str()));
                    let place = path.child("inputs").child(port).child("over").child(index);
                    reader.bad_value(&place, format!("there is no axis `{axis}`"), help);
                }
            }
        }
        check_references(
            manifest,
            &Value::Object(stage.with.clone()),
            &path.child("with"),
            reader,
        );
        for entry in &stage.publish {
            check_references(manifest, &Value::String(entry.target.clone()), &entry.path, reader);
        }
    }
    check_overrides(manifest, registry, &declared, reader);
    check_limits(manifest, reader);
    check_cycles(manifest, reader);
}

/// Refuses a limit that says one number here and another there: which of them would hold?
fn check_limits(manifest: &Manifest, reader: &mut Reader<'_>) {
    let mut known: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (stage, limits) in manifest
        .stages
        .iter()
        .map(|(name, stage)| (name, &stage.resources.limits))
    {
        for (name, most) in limits {
            let (before, other) = *known.entry(name).or_insert((*most, stage));
            if before != *most {
                let path = ValuePath::from(["stages", stage, "resources", "limits"]).child(name);
                let message = format!("the limit `{name}` is {most} here and {before} in `{other}`");
                let help = "give the same number, such as a variable, or another name".to_owned();
                reader.bad_value(&path, message, Some(help));
            }
        }
    }
}

/// Refuses settings that the kind does not have.
fn check_settings<'a>(
    kind: &dyn Kind,
    names: impl Iterator<Item = &'a String>,
    path: &ValuePath,
    reader: &mut Reader<'_>,
) {
    for name in names.filter(|name| !kind.fields().iter().any(|field| field.name == name.as_str())) {
        let help = did_you_mean(name, kind.fields().iter().map(|field| field.name));
        reader.bad_key(
            &path.child(name),
            format!("`{}` has no setting `{name}`", kind.name()),
            help,
        );
    }
}

/// The port that takes the input called `name`. A kind whose port is called `*` takes inputs of any name.
pub(crate) fn port_of(kind: &dyn Kind, name: &str) -> Option<&'static Port> {
    let ports = kind.ports();
    ports
        .iter()
        .find(|port| port.name == name)
        .or_else(|| ports.iter().find(|port| port.name == "*"))
}

fn check_ports(
    manifest: &Manifest,
    registry: &Registry,
    kind: &dyn Kind,
    stage: &Stage,
    path: &ValuePath,
    reader: &mut Reader<'_>,
) {
    let inputs_path = path.child("inputs");
    for (name, connection) in &stage.inputs {
        let place = inputs_path.child(name);
        let Some(port) = port_of(kind, name) else {
            let help = match kind.ports() {
                [] => Some("it takes no inputs".to_owned()),
                ports => did_you_mean(name, ports.iter().map(|port| port.name)),
            };
            reader.bad_key(&place, format!("`{}` has no input `{name}`", kind.name()), help);
            continue;
        };
        let upstream = connection.stage();
        match connection {
            Connection::One(_) if port.collects && port.name != "*" => {
                let help = format!("write `{name}: {{collect: {}}}`", connection.written());
                reader.bad_value(&place, format!("input `{name}` takes many artifacts"), Some(help));
            }
            Connection::Collect { .. } if !port.collects => {
                let help = format!("write `{name}: {}`", connection.written());
                reader.bad_value(&place, format!("input `{name}` takes one artifact"), Some(help));
            }
            _ => {}
        }
        let makes = manifest
            .stages
            .get(upstream)
            .and_then(|stage| Some(registry.get(&stage.kind)?.type_of(&stage.with)));
        if let Some(makes) = makes.filter(|makes| !port.accepts(makes)) {
            let fitting = manifest.stages.iter().filter(|(_, stage)| {
                registry
                    .get(&stage.kind)
                    .is_some_and(|kind| port.accepts(kind.type_of(&stage.with)))
            });
            let fitting: Vec<String> = fitting.map(|(name, _)| format!("`{name}`")).collect();
            let help = if fitting.is_empty() {
                format!("no stage here makes `{}`", port.shown())
            } else {
                format!("stages that make `{}`: {}", port.shown(), fitting.join(", "))
            };
            let message = format!(
                "input `{name}` takes `{}`, but `{upstream}` makes `{makes}`",
                port.shown()
            );
            reader.bad_value(&place, message, Some(help));
        }
    }
    // An input that is there and could not be read, or is a misspelt one, is told of already.
    let written = manifest.source.root()["stages"][path.last()].get("inputs");
    let is_there = |port: &Port| {
        let written = written
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|map| map.keys());
        written.into_iter().any(|name| {
            let near = || nearest(name, kind.ports().iter().map(|port| port.name)) == Some(port.name);
            name == port.name || (port_of(kind, name).is_none() && near())
        })
    };
    for port in kind.ports().iter().filter(|port| port.required && !is_there(port)) {
        let form = if port.collects { "{collect: stage}" } else { "stage" };
        let help = format!("add `inputs: {{{}: {form}}}`; it takes `{}`", port.name, port.shown());
        let holder = if written.is_some() { &inputs_path } else { path };
        reader.bad_key(
            holder,
            format!("`{}` needs the input `{}`", kind.name(), port.name),
            Some(help),
        );
    }
}

/// Reports `${…}` that name nothing. A reference must mean something for every value that its axis has.
fn check_references(manifest: &Manifest, value: &Value, path: &ValuePath, reader: &mut Reader<'_>) {
    let mut bad = Vec::new();
    visit_templates(value, &mut Vec::new(), &mut |at, template| {
        let mut report = |error: BadReference| {
            bad.push(BadReference {
                path: at.to_vec(),
                ..error
            })
        };
        match template {
            Ok(template) => {
                for reference in template.references() {
                    if let Err(error) = check_reference(manifest, reference) {
                        report(error);
                    }
                }
            }
            Err(error) => report(error),
        }
    });
    reader.bad_references(path, bad);
}

fn check_reference(manifest: &Manifest, reference: &Reference) -> Result<(), BadReference> {
    let sweep = &manifest.sweep;
    let template = Template::from(reference.clone());
    let mut cell = vec![None; sweep.axes.len()];
    let Some(axis) = reference.axis().and_then(|name| sweep.axis(name)) else {
        return template
            .evaluate(&CellScope {
                sweep,
                vars: &manifest.vars,
                cell: &cell,
            })
            .map(|_| ());
    };
    for value in 0..sweep.axes[axis].values.len() {
        cell[axis] = Some(value);
        template.evaluate(&CellScope {
            sweep,
            vars: &manifest.vars,
            cell: &cell,
        })?;
    }
    Ok(())
}

fn check_overrides(manifest: &Manifest, registry: &Registry, declared: &[String], reader: &mut Reader<'_>) {
    for assignment in manifest.sweep.overrides.iter().flat_map(|item| &item.set) {
        let stage = &assignment.stage;
        let before = reader.found.len();
        if !declared.contains(stage) {
            let help = did_you_mean(stage, declared.iter().map(String::as_str));
            reader.bad_key(&assignment.path, format!("there is no stage `{stage}`"), help);
        }
        let kind = manifest.stages.get(stage).and_then(|stage| registry.get(&stage.kind));
        let setting = &assignment.setting[0];
        if let Some(kind) = kind.filter(|kind| !kind.fields().iter().any(|field| field.name == setting.as_str())) {
            let help = did_you_mean(setting, kind.fields().iter().map(|field| field.name));
            reader.bad_key(
                &assignment.path,
                format!("`{}` has no setting `{setting}`", kind.name()),
                help,
            );
        }
        check_references(manifest, &assignment.value, &assignment.path, reader);
        if reader.found.len() > before {
            reader.broken.insert(stage.clone());
        }
    }
}

/// The stages as a graph: an edge from each stage to those that name it as an input.
pub(crate) fn stage_graph(manifest: &Manifest) -> DiGraph<&str, ()> {
    let mut graph = DiGraph::new();
    let nodes: BTreeMap<&str, NodeIndex> = manifest
        .stages
        .keys()
        .map(|name| (name.as_str(), graph.add_node(name.as_str())))
        .collect();
    for (name, stage) in &manifest.stages {
        for connection in stage.inputs.values() {
            if let Some(from) = nodes.get(connection.stage()) {
                graph.update_edge(*from, nodes[name.as_str()], ());
            }
        }
    }
    graph
}

fn check_cycles(manifest: &Manifest, reader: &mut Reader<'_>) {
    let graph = stage_graph(manifest);
    for component in tarjan_scc(&graph) {
        let mut members = component.clone();
        members.sort();
        let first = members[0];
        if members.len() == 1 && !graph.contains_edge(first, first) {
            continue;
        }
        // Walk upstream inside the component until a stage comes up again; what lies between is one cycle.
        let mut walk = vec![first];
        let cycle = loop {
            let last = walk[walk.len() - 1];
            let mut upstream: Vec<NodeIndex> = graph
                .neighbors_directed(last, petgraph::Direction::Incoming)
                .filter(|node| members.contains(node))
                .collect();
            upstream.sort();
            // A strongly connected component gives each of its members a predecessor in it.
            let Some(next) = upstream.first().copied() else {
                break walk;
            };
            if let Some(at) = walk.iter().position(|node| *node == next) {
                break walk.split_off(at);
            }
            walk.push(next);
        };
        let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(|node| graph[*node]).collect();
        let start = names[0];
        let port = manifest.stages[start]
            .inputs
            .iter()
            .find(|(_, input)| input.stage() == names[1]);
        let path = ValuePath::from(["stages", start, "inputs"]).child(port.map_or("", |(port, _)| port));
        let message = if names.len() == 2 {
            format!("stage `{start}` takes its own artifact")
        } else {
            format!("stages wait for each other: {}", names.join(" needs "))
        };
        reader.bad_value(&path, message, None);
    }
}
