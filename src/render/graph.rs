//! A graph as a drawing: Mermaid or DOT.
//!
//! Collapsed, a box is a stage and an arrow an input; what is read from many instances at once is dashed. Expanded, a box is
//! an instance. Of a selection only what is chosen is drawn, and the arrows between.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use indexmap::IndexMap;
use nerpipe_engine::{Graph, Wire};
use serde::Serialize;

/// The boxes and arrows of a drawing.
#[derive(Debug, Serialize)]
pub(crate) struct Drawing {
    /// The manifest.
    manifest: String,
    /// The boxes, upstream first.
    nodes: Vec<Node>,
    /// The arrows.
    edges: BTreeSet<Edge>,
}

#[derive(Debug, Serialize)]
struct Node {
    /// The stage's or the instance's name.
    name: String,
    kind: String,
    /// How many instances it stands for.
    instances: usize,
    /// The axes that they have.
    axes: Vec<String>,
}

/// From a node to one that reads it, both by their place among the nodes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Edge {
    from: usize,
    to: usize,
    port: String,
    /// Whether the port gathers many artifacts.
    collects: bool,
}

impl Drawing {
    /// The drawing of `graph`, or of the instances `selected`: stage by stage, or each by itself if `expand`.
    pub(crate) fn new(graph: &Graph, selected: Option<&[usize]>, expand: bool) -> Self {
        let all: Vec<usize> = (0..graph.instances.len()).collect();
        let selected = selected.unwrap_or(&all);
        let mut nodes: IndexMap<String, Node> = IndexMap::new();
        // Instance → its node.
        let mut places = vec![None; graph.instances.len()];
        for &number in selected {
            let instance = &graph.instances[number];
            let name = if expand {
                instance.name()
            } else {
                instance.stage.clone()
            };
            let entry = nodes.entry(name.clone());
            places[number] = Some(entry.index());
            let node = entry.or_insert_with(|| Node {
                name,
                kind: instance.kind.clone(),
                instances: 0,
                axes: Vec::new(),
            });
            node.instances += 1;
            for axis in instance.axes.keys() {
                if !node.axes.contains(axis) {
                    node.axes.push(axis.clone());
                }
            }
        }
        let mut edges = BTreeSet::new();
        for &number in selected {
            for (port, wire) in &graph.instances[number].wires {
                for from in wire.sources() {
                    if let (Some(from), Some(to)) = (places[*from], places[number]) {
                        edges.insert(Edge {
                            from,
                            to,
                            port: port.clone(),
                            collects: matches!(wire, Wire::Collect { .. }),
                        });
                    }
                }
            }
        }
        Self {
            manifest: graph.name.clone(),
            nodes: nodes.into_values().collect(),
            edges,
        }
    }

    /// <https://mermaid.js.org/syntax/flowchart.html>
    pub(crate) fn mermaid(&self) -> String {
        let escape = |text: &str| {
            text.replace('&', "&amp;")
                .replace('"', "&quot;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
        };
        let mut text = "flowchart TD".to_owned();
        for (number, node) in self.nodes.iter().enumerate() {
            let lines: Vec<String> = node.lines().iter().map(|line| escape(line)).collect();
            let _ = write!(text, "\n  n{number}[\"{}\"]", lines.join("<br>"));
        }
        for edge in &self.edges {
            let arrow = if edge.collects { "-.->" } else { "-->" };
            let _ = write!(
                text,
                "\n  n{} {arrow}|\"{}\"| n{}",
                edge.from,
                escape(&edge.port),
                edge.to
            );
        }
        text
    }

    /// <https://graphviz.org/doc/info/lang.html>
    pub(crate) fn dot(&self) -> String {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = format!("digraph \"{}\" {{\n  node [shape=box]", escape(&self.manifest));
        for (number, node) in self.nodes.iter().enumerate() {
            let lines: Vec<String> = node.lines().iter().map(|line| escape(line)).collect();
            let _ = write!(text, "\n  n{number} [label=\"{}\"]", lines.join("\\n"));
        }
        for edge in &self.edges {
            let style = if edge.collects { ", style=dashed" } else { "" };
            let _ = write!(
                text,
                "\n  n{} -> n{} [label=\"{}\"{style}]",
                edge.from,
                edge.to,
                escape(&edge.port)
            );
        }
        text.push_str("\n}");
        text
    }
}

impl Node {
    /// What stands in the box.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.name.clone()];
        if self.kind != self.name {
            lines.push(self.kind.clone());
        }
        if self.instances > 1 {
            lines.push(format!("{} × {}", self.instances, self.axes.join(", ")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::command::Command;
    use nerpipe_engine::{Manifest, Registry};

    use super::*;

    fn graph() -> Graph {
        let text = "
name: m
sweep: {axes: {n: ['1', 'a \"b\" \\ <c>']}}
stages:
  count: {kind: command, with: {run: 'echo ${n}'}}
  both: {kind: command, inputs: {numbers: {collect: count}}, with: {run: 'true'}}
  last: {kind: command, inputs: {text: both}, with: {run: 'true'}}
";
        let registry = Registry::default().with(Command);
        let manifest = Manifest::parse("m.yaml", text, ".".as_ref(), &[], &registry).expect("a manifest");
        Graph::build(&manifest, &registry).expect("a graph")
    }

    #[test]
    fn stages_are_boxes_and_inputs_arrows() {
        let drawing = Drawing::new(&graph(), None, false);
        assert_eq!(
            drawing.mermaid(),
            "flowchart TD
  n0[\"count<br>command<br>2 × n\"]
  n1[\"both<br>command\"]
  n2[\"last<br>command\"]
  n0 -.->|\"numbers\"| n1
  n1 -->|\"text\"| n2"
        );
        assert_eq!(
            drawing.dot(),
            "digraph \"m\" {
  node [shape=box]
  n0 [label=\"count\\ncommand\\n2 × n\"]
  n1 [label=\"both\\ncommand\"]
  n2 [label=\"last\\ncommand\"]
  n0 -> n1 [label=\"numbers\", style=dashed]
  n1 -> n2 [label=\"text\"]
}"
        );
    }

    #[test]
    fn expanded_and_selected_and_names_of_any_letters() {
        let graph = graph();
        let drawing = Drawing::new(&graph, Some(&[1, 2]), true);
        assert_eq!(
            drawing.mermaid(),
            "flowchart TD
  n0[\"count@n=a &quot;b&quot; \\ &lt;c&gt;<br>command\"]
  n1[\"both<br>command\"]
  n0 -.->|\"numbers\"| n1"
        );
        assert!(
            drawing
                .dot()
                .contains(r#"n0 [label="count@n=a \"b\" \\ <c>\ncommand"]"#),
            "{}",
            drawing.dot()
        );
    }
}
