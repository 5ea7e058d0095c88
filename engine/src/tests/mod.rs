//! Manifests of toy kinds: what they expand to, and what is said about their mistakes.

mod expansion;
mod mistakes;
mod properties;
mod toy;

use std::path::Path;

use crate::diagnostic::Diagnostics;
use crate::graph::{Graph, Wire};
use crate::manifest::Manifest;

/// Reads and expands `text`, with the arguments of `--set`.
fn build_with(text: &str, overrides: &[&str]) -> Result<Graph, Diagnostics> {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    let registry = toy::registry();
    let manifest = Manifest::parse("m.yaml", text, Path::new("."), &overrides, &registry)?;
    Graph::build(&manifest, &registry)
}

fn build(text: &str) -> Graph {
    build_with(text, &[]).unwrap_or_else(|found| panic!("{found}\nin\n{text}"))
}

/// The names of a stage's instances.
fn names(graph: &Graph, stage: &str) -> Vec<String> {
    graph
        .instances
        .iter()
        .filter(|instance| instance.stage == stage)
        .map(|instance| instance.name())
        .collect()
}

/// The names of the instances at a port of the instance called `name`.
fn partners(graph: &Graph, name: &str, port: &str) -> Vec<String> {
    let instance = graph.instances.iter().find(|instance| instance.name() == name).unwrap();
    match instance.wires.get(port) {
        None => Vec::new(),
        Some(Wire::One { from, .. }) => vec![graph.instances[*from].name()],
        Some(Wire::Collect { from, .. }) => from.iter().map(|from| graph.instances[*from].name()).collect(),
    }
}
